"""The code of docs/adding-a-slave.md makes a kind that works: polled, decoded, damage refused."""

import re
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bms.slaves import build as slaves
from bmsctl.commands import reference
from bmsctl.decoders import decoder
from bmsctl.decoders.base import Capture, Shape, Stream, driver_of
from bmssim.bus import Noise, UartBus
from bmssim.events import Events

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-slave.md").read_text()
BLOCKS = dict(re.findall(r"```python (\S+)\n(.*?)```", PAGE, re.DOTALL))
MV = [3300 + i for i in range(8)]


def module(name: str, path: str) -> ModuleType:
    """A module made of a block of the page."""
    made = ModuleType(name)
    made.__package__ = name.rpartition(".")[0]
    made.__spec__ = ModuleSpec(name, None)
    sys.modules[name] = made
    exec(compile(BLOCKS[path], path, "exec"), made.__dict__)
    return made


@pytest.fixture
def demo() -> Iterator[tuple[ModuleType, Any]]:
    """The driver's module and a simulated board with 8 cells and 2 sensors, node 1."""
    known = dict(slaves.KINDS)
    try:
        driver = module("bms.slaves.demo", "firmware/bms/slaves/demo.py")
        exec(BLOCKS["firmware/bms/slaves/build.py"], {"KINDS": slaves.KINDS})
        kind = module("bmssim.boards.demo", "host_tools/bmssim/boards/demo.py").KIND
        rng = np.random.default_rng(1)
        events = Events()
        bus = UartBus(events, kind.bps["uart"], Noise(rng))
        measure = lambda: (np.array(MV) / 1000, np.array([21.0, 22.5]))  # noqa: E731
        yield driver, kind.make(events, bus, 1, 8, 2, measure, rng, 0.0)
    finally:
        slaves.KINDS.clear()
        slaves.KINDS.update(known)
        for name in ("bms.slaves.demo", "bmssim.boards.demo"):
            sys.modules.pop(name, None)


def answer(driver: ModuleType, board: Any) -> bytes:
    """The board's answer to the driver's own poll."""
    stream = Stream()
    polled, _pack = driver_of("demo", driver.DemoLink(stream), [Shape(1, 8, 2)])
    assert polled.send_poll(0, 0)
    assert stream.sent == bytes.fromhex("a501010000a7")
    request, used = board.request(stream.sent)
    assert request is not None and used == 6
    data = board.answer(request)
    assert data is not None
    assert len(stream.sent) + len(data) == polled.size(0, 0)
    return data


def test_a_board_is_decoded(demo: tuple[ModuleType, Any]) -> None:
    driver, board = demo
    board.alarms = {"temp_high"}
    got = decoder("demo").decode(Capture(b"noise" + answer(driver, board))).as_json()
    assert got["ok"] and got["boards"] == [1]
    assert got["cells_mv"] == MV and got["temps_dc"] == [210, 225]
    assert got["pack_mv"] == sum(MV) // 10 * 10
    assert (got["current_ma"], got["soc_pm"], got["alarms"]) == (0, 800, ["charge_hot"])


def test_alarms_trip_or_warn(demo: tuple[ModuleType, Any]) -> None:
    driver, board = demo
    for name, flags in (("cell_high", 1), ("cell_low", 2), ("temp_high", 4 << 8), ("hardware", 64)):
        board.alarms = {name}
        stream = Stream(answer(driver, board))
        link = driver.DemoLink(stream)
        polled, pack = driver_of("demo", link, [Shape(1, 8, 2)])
        polled.listen()
        while stream.data:
            link.poll(polled, 0)
        assert pack.slave_flags[0] == flags, name


def test_damage_at_any_byte_is_refused(demo: tuple[ModuleType, Any]) -> None:
    whole = answer(*demo)
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1
        for data in (bytes(broken), whole[:at]):
            got = decoder("demo").decode(Capture(data))
            assert got.error is not None and not got.values["cells_mv"], at


@pytest.mark.usefixtures("demo")
def test_the_page_shows_its_tables() -> None:
    text = reference.page("slave-kinds")
    assert "## demo" in text and "`charge_hot` | temp_high | warns" in text


def test_the_page_names_files_that_are_there() -> None:
    root = Path(__file__).parents[2]
    named = {n for n in re.findall(r"`((?:firmware|host_tools|tests)/[\w/.]+)`", PAGE)}
    missing = {n for n in named if "demo" not in n and not (root / n).exists()}
    assert not missing
