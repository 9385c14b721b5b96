"""Framing, packing and ticks hold their laws whatever the bytes."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from bms import kernels_plain as k
from bms import ticks
from bms.links.cobs import CobsLink
from bms.links.slcan import Slcan
from bmssim import protocol as p

TICK = st.integers(0, ticks.MASK)
MV = st.one_of(st.none(), st.integers(0, 8190))


class Capture:
    """A stream that gives its bytes in pieces of any length."""

    def __init__(self, data: bytes, pieces: list[int]) -> None:
        self.data = data
        self.pieces = pieces

    def read(self, buf: bytearray) -> int:
        n = self.pieces.pop() if self.pieces else len(buf)
        part, self.data = self.data[: min(n, len(buf))], self.data[min(n, len(buf)) :]
        buf[: len(part)] = part
        return len(part)

    def write(self, buf: bytearray, start: int, n: int) -> int:
        return n


class Sink:
    def __init__(self) -> None:
        self.got: list[p.Frame] = []

    def on_frame(self, ident: int, n: int, data: bytearray, now: int) -> None:
        self.got.append(p.Frame(ident, bytes(data[:n])))


def through(link: CobsLink | Slcan, stream: Capture) -> list[p.Frame]:
    sink = Sink()
    while stream.data:
        link.poll(sink, 1)
    return sink.got


FRAMES = st.builds(p.Frame, st.integers(0, 0x7FF), st.binary(max_size=8))
PIECES = st.lists(st.integers(1, 40), max_size=60)


@given(st.binary(max_size=253))
def test_cobs_there_and_back(data: bytes) -> None:
    wire, back = bytearray(600), bytearray(300)
    end = k.cobs_encode(data, len(data), wire, 7)
    assert 0 not in wire[7 : end - 1] and wire[end - 1] == 0
    assert k.cobs_decode(wire, 7, end - 1, back, 300) == len(data)
    assert back[: len(data)] == data


@given(st.binary(max_size=80))
def test_cobs_decodes_any_bytes_without_an_error(data: bytes) -> None:
    assert -1 <= k.cobs_decode(data, 0, len(data), bytearray(12), 12) <= 12


@given(FRAMES)
def test_slcan_there_and_back(frame: p.Frame) -> None:
    text, data = bytearray(64), bytearray(8)
    end = k.slcan_encode(frame.ident, frame.data, len(frame.data), text, 3)
    assert k.slcan_decode(text, 3, end - 1, data) == frame.ident << 4 | len(frame.data)
    assert data[: len(frame.data)] == frame.data


@given(st.lists(st.tuples(st.binary(max_size=20), FRAMES), max_size=8), PIECES)
def test_every_frame_hidden_in_garbage_on_a_uart_is_found(
    parts: list[tuple[bytes, p.Frame]], pieces: list[int]
) -> None:
    wire = b"".join(garbage + b"\0" + p.uart_encode(frame) for garbage, frame in parts)
    stream = Capture(wire, pieces)
    link = CobsLink(stream)
    got = through(link, stream)
    hidden = [frame for _garbage, frame in parts]
    # garbage may by chance be a frame; then its checksum says so too
    assert [f for f in got if f in hidden] == hidden


@given(st.lists(st.tuples(st.binary(max_size=20), FRAMES), max_size=8), PIECES)
def test_every_frame_hidden_in_garbage_on_slcan_is_found(
    parts: list[tuple[bytes, p.Frame]], pieces: list[int]
) -> None:
    wire = b""
    for garbage, frame in parts:
        text = b"t%03X%d%s\r" % (frame.ident, len(frame.data), frame.data.hex().encode())
        wire += garbage + b"\r" + text
    stream = Capture(wire, pieces)
    got = through(Slcan(stream), stream)
    hidden = [frame for _garbage, frame in parts]
    assert [f for f in got if f in hidden] == hidden


@given(st.lists(MV, min_size=4, max_size=4), st.integers(0, 15), st.integers(1, 62))
def test_13_bits_as_the_board_packs_them(mv: list[int | None], seq: int, node: int) -> None:
    frame = p.cells_frame(node, 0, mv, seq)
    assert k.crc8_frame(frame.ident, frame.data, 7) == frame.data[7]
    assert frame.data[6] >> 4 == seq
    values, flags, stamps = array("h", [7] * 4), bytearray(4), array("i", [0] * 4)
    params = array("i", [0, 4, 99, 2500, 3650, 5, 0])
    found = k.store13(frame.data, values, flags, stamps, params)
    assert [v if f else None for v, f in zip(values, flags, strict=True)] == mv
    outside = [i for i, v in enumerate(mv) if v is not None and not 2500 <= v <= 3650]
    assert ((found + 1) & 0xFF) - 1 == (outside[0] if outside else -1)
    assert (found + 1) >> 8 == sum(v is not None for v in mv)


@given(TICK, st.integers(-(2**28), 2**28 - 1))
def test_ticks_undo_each_other(tick: int, delta: int) -> None:
    later = ticks.add(tick, delta)
    assert 0 <= later <= ticks.MASK
    assert ticks.diff(later, tick) == delta


@given(TICK, TICK)
def test_a_difference_is_small_and_turns_its_sign(a: int, b: int) -> None:
    assert -(2**28) <= ticks.diff(a, b) < 2**28
    if abs(ticks.diff(a, b)) != 2**28:
        assert ticks.diff(a, b) == -ticks.diff(b, a)


@given(st.integers(-(2**30) + 1, 2**30 - 1))
def test_numbers_are_written_as_python_writes_them(value: int) -> None:
    buf = bytearray(16)
    assert bytes(buf[2 : k.put_int(buf, 2, value)]) == str(value).encode()
