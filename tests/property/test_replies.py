"""Boards that are asked: their answers among any bytes are found, and nothing else is a reading.

The answers are made by the simulated boards, which share no code with the drivers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms.pack import FRESH
from bms.slaves.build import KINDS as DRIVERS
from bms.slaves.polled import PolledDriver
from bms.slaves.tesla_s import RUN
from bmsctl.decoders.base import Shape, Stream, driver_class, driver_of
from bmssim.boards.jk_pb import FORMS, JkPbBoard
from bmssim.boards.kinds import KINDS
from bmssim.boards.serial import SerialBoard
from bmssim.boards.tesla_s import TeslaModule
from bmssim.bus import Noise, UartBus
from bmssim.events import Events
from extent import extent

# kinds whose answers are only known beside the questions
AWAITED = ["tesla_s"]
# kinds whose answers a capture alone can tell, without what went before
SERIAL = [
    kind
    for kind in KINDS
    if kind not in AWAITED
    and issubclass(driver_class(kind), PolledDriver)
    and "uart" in DRIVERS[kind][2]
]
CELLS, TEMPS = 4, 2


@dataclass
class Said:
    """What a board said: every voltage and temperature, and its answers as bytes.

    by_mv, by_dc: what rounding may make of them.
    """

    by_mv: int = 0
    by_dc: int = 0
    mv: set[int] = field(default_factory=set)
    dc: set[int] = field(default_factory=set)
    answers: list[bytes] = field(default_factory=list)


def board_of(kind: str, mv: list[int], dc: list[int]) -> SerialBoard:
    """A simulated board that measures exactly this."""
    known = KINDS[kind]
    rng = np.random.default_rng(1)
    events = Events()
    bus = UartBus(events, known.bps["uart"], Noise(rng))
    measure = lambda: (np.array(mv) / 1000, np.array(dc) / 10)  # noqa: E731
    board = known.make(events, bus, known.first, len(mv), len(dc), measure, rng, 0.0)
    if isinstance(board, TeslaModule):
        board.given = board.node  # a chain that has its addresses
    return board


def conversation(kind: str, mv: list[int], dc: list[int], form: str = "") -> Said:
    """All answers of a board to the questions of a scan; form: of a JK-PB board's answers."""
    board = board_of(kind, mv, dc)
    if isinstance(board, JkPbBoard):
        board.form = form
    said = Said(board.TOLERANCE_MV, board.TOLERANCE_DC)

    def sampled(_board: object, mv: list, dc: list, _seq: int) -> None:
        said.mv.update(v for v in mv if v is not None)
        said.dc.update(v for v in dc if v is not None)

    board.on_sample = sampled
    stream = Stream()
    cls = driver_class(kind)
    driver, _pack = driver_of(kind, cls.frame(stream), [Shape(KINDS[kind].first, len(mv), len(dc))])
    for step in range(driver.steps(0)):
        stream.sent = b""
        driver.send_poll(0, step)
        request, _used = board.request(stream.sent)
        assert request is not None, f"{kind} does not understand {stream.sent.hex()}"
        answer = board.answer(request)
        if answer is not None:
            said.answers.append(answer)
    return said


def sizes(kind: str) -> tuple[int, int]:
    known = KINDS[kind]
    return min(CELLS, known.cells), min(TEMPS, known.temps)


def fed(kind: str, pieces: list[bytes]) -> tuple[Any, Any]:
    """A driver that takes every answer, fed with pieces as they come."""
    cells, temps = sizes(kind)
    stream = Stream()
    cls = driver_class(kind)
    driver, pack = driver_of(kind, cls.frame(stream), [Shape(KINDS[kind].first, cells, temps)])
    driver.listen()
    for piece in pieces:
        stream.data += piece
        while stream.data:
            driver.link.poll(driver, 0)
    driver.link.end(driver, 0)
    return driver, pack


def readings(pack: Any) -> tuple[set[int], set[int]]:
    return (
        {pack.cell_mv[i] for i in range(pack.cells) if pack.cell_flags[i] & FRESH},
        {pack.temp_dc[i] for i in range(pack.temps) if pack.temp_flags[i] & FRESH},
    )


def near(found: set[int], said: set[int], by: int) -> bool:
    """Every value found is one that was said, but for rounding."""
    return all(any(abs(a - b) <= by for b in said) for a in found)


mv = st.integers(2600, 4200)  # within hard bounds: what is beyond must be said twice by some
dc = st.integers(-100, 600)
forms = st.sampled_from(sorted(FORMS))


@pytest.mark.parametrize("kind", SERIAL)
@settings(max_examples=extent(40, 160))
@given(data=st.data())
def test_every_answer_among_any_bytes_is_found(kind: str, data: st.DataObject) -> None:
    cells, temps = sizes(kind)
    parts: list[bytes] = []
    said = Said()
    for _ in range(data.draw(st.integers(1, 3))):
        mvs = data.draw(st.lists(mv, min_size=cells, max_size=cells))
        dcs = data.draw(st.lists(dc, min_size=temps, max_size=temps))
        one = conversation(kind, mvs, dcs, data.draw(forms))
        said.by_mv, said.by_dc = one.by_mv, one.by_dc
        said.mv |= one.mv
        said.dc |= one.dc
        for answer in one.answers:
            # noise that begins no longer frame: what looks like one may swallow what follows it
            noise = data.draw(st.binary(max_size=20))
            parts += [noise, answer]
            said.answers.append(answer)
    whole = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(1, 64), min_size=1, max_size=4))
    pieces, at, i = [], 0, 0
    while at < len(whole):
        n = cuts[i % len(cuts)]
        pieces.append(whole[at : at + n])
        at += n
        i += 1
    driver, pack = fed(kind, pieces)
    found_mv, found_dc = readings(pack)
    assert near(found_mv, said.mv, said.by_mv)
    assert near(found_dc, said.dc, said.by_dc)
    assert driver.link.rx >= len(said.answers)
    assert len(found_mv) > 0


@pytest.mark.parametrize("kind", SERIAL)
@settings(max_examples=extent(60, 240))
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_any_bytes_are_no_reading(kind: str, pieces: list[bytes]) -> None:
    _driver, pack = fed(kind, pieces)
    assert readings(pack) == (set(), set())


@pytest.mark.parametrize("kind", SERIAL)
@settings(max_examples=extent(60, 240))
@given(data=st.data())
def test_one_damaged_byte_is_never_a_wrong_reading(kind: str, data: st.DataObject) -> None:
    cells, temps = sizes(kind)
    said = conversation(
        kind,
        [3300 + 7 * i for i in range(cells)],
        [250 + 30 * i for i in range(temps)],
        data.draw(forms),
    )
    answers = list(said.answers)
    which = data.draw(st.integers(0, len(answers) - 1))
    broken = bytearray(answers[which])
    how = data.draw(st.sampled_from(["flip", "lose", "double", "cut"]))
    at = data.draw(st.integers(0, len(broken) - 1))
    if how == "flip":
        broken[at] ^= data.draw(st.integers(1, 255))
    elif how == "lose":
        del broken[at]
    elif how == "double":
        broken.insert(at, broken[at])
    else:
        del broken[at:]
    answers[which] = bytes(broken)
    _driver, pack = fed(kind, answers)
    found_mv, found_dc = readings(pack)
    assert near(found_mv, said.mv, said.by_mv)
    assert near(found_dc, said.dc, said.by_dc)


def answered(
    kind: str, mv: list[int], dc: list[int], change: Callable[[int, bytes], bytes]
) -> tuple[Any, Any, Said]:
    """A driver that asks a board for a scan; change(step, answer) is what arrives."""
    board = board_of(kind, mv, dc)
    said = Said(board.TOLERANCE_MV, board.TOLERANCE_DC, set(mv), set(dc))
    stream = Stream()
    cls = driver_class(kind)
    shape = Shape(KINDS[kind].first, len(mv), len(dc))
    driver, pack = driver_of(kind, cls.frame(stream), [shape])
    driver.listen()
    driver._stage, driver._m, driver.found = RUN, 0, 1  # as after the chain's start
    for step in range(driver.steps(0)):
        stream.sent = b""
        driver.link.forget()
        driver.send_poll(0, step)
        request, _used = board.request(stream.sent)
        assert request is not None
        answer = board.answer(request)
        assert answer is not None
        said.answers.append(answer)
        stream.data += change(step, answer)
        while stream.data:
            driver.link.poll(driver, 0)
        driver.link.end(driver, 0)
    return driver, pack, said


@pytest.mark.parametrize("kind", AWAITED)
@settings(max_examples=extent(40, 160))
@given(data=st.data())
def test_an_awaited_answer_behind_any_bytes_is_found(kind: str, data: st.DataObject) -> None:
    cells, temps = sizes(kind)
    mvs = data.draw(st.lists(mv, min_size=cells, max_size=cells))
    dcs = data.draw(st.lists(dc, min_size=temps, max_size=temps))
    noise = [data.draw(st.binary(max_size=20)) for _ in range(8)]
    driver, pack, said = answered(kind, mvs, dcs, lambda step, answer: noise[step] + answer)
    found_mv, found_dc = readings(pack)
    assert found_mv and found_dc
    assert near(found_mv, said.mv, said.by_mv)
    assert near(found_dc, said.dc, said.by_dc)
    assert driver.link.rx >= len(said.answers)


@pytest.mark.parametrize("kind", AWAITED)
@settings(max_examples=extent(60, 240))
@given(data=st.data())
def test_a_damaged_awaited_answer_is_never_a_wrong_reading(kind: str, data: st.DataObject) -> None:
    cells, temps = sizes(kind)
    mvs = [3300 + 7 * i for i in range(cells)]
    dcs = [250 + 30 * i for i in range(temps)]
    mask = data.draw(st.integers(1, 255))
    part = data.draw(st.floats(0, 0.999))

    def flip(_step: int, answer: bytes) -> bytes:
        out = bytearray(answer)
        out[int(part * len(out))] ^= mask
        return bytes(out)

    _driver, pack, _said = answered(kind, mvs, dcs, flip)
    assert readings(pack) == (set(), set())
