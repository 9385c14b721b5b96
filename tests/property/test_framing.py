"""Frames on a wire: there and back, and found among any bytes."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from bms.kernels.cobs import cobs_decode, cobs_encode
from bms.kernels.slcan import slcan_decode, slcan_encode
from bms.links.can import BITS, EXTENDED
from bms.links.cobs import CobsLink
from bms.links.serial import SerialLink
from bms.links.slcan import Slcan
from bmssim import protocol as p
from bmssim.slcan import from_line, to_line

standard = st.integers(0, 0x7FF)
ident = standard | st.integers(EXTENDED, EXTENDED | BITS)
payload = st.binary(max_size=8)
frames = st.builds(p.Frame, ident, payload, st.just(False))
uart_frames = st.builds(p.Frame, standard, payload, st.just(False))


class Port:
    """Bytes that come in pieces of any size."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = list(pieces)

    def read(self, buf: bytearray) -> int:
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        n = min(len(piece), len(buf))
        buf[:n] = piece[:n]
        if piece[n:]:
            self.pieces.insert(0, piece[n:])
        return n

    def write(self, buf: bytes, start: int, n: int) -> int:
        return n


class Sink:
    def __init__(self) -> None:
        self.frames: list[p.Frame] = []

    def on_frame(self, ident: int, n: int, data: bytearray, now: int) -> None:
        self.frames.append(p.Frame(ident, bytes(data[:n])))


def slcan(frame: p.Frame) -> bytes:
    head = f"T{frame.ident & BITS:08X}" if frame.ident & EXTENDED else f"t{frame.ident:03X}"
    return f"{head}{len(frame.data)}{frame.data.hex().upper()}\r".encode()


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """A stream in pieces of these sizes, used again and again."""
    out = []
    i = 0
    while stream:
        n = sizes[i % len(sizes)]
        out.append(stream[:n])
        stream = stream[n:]
        i += 1
    return out


def found(link: SerialLink, port: Port) -> list[p.Frame]:
    sink = Sink()
    while port.pieces:
        link.poll(sink, 1)
    link.poll(sink, 1)
    return sink.frames


sizes = st.lists(st.integers(1, 300), min_size=1, max_size=5)


@given(st.binary(max_size=253), st.integers(0, 5))
def test_cobs_there_and_back(data: bytes, at: int) -> None:
    wire = bytearray(300)
    end = cobs_encode(data, len(data), wire, at)
    assert end - at == len(data) + 2
    assert 0 not in wire[at : end - 1]
    assert wire[end - 1] == 0
    back = bytearray(254)
    assert cobs_decode(wire, at, end - 1, back, 253) == len(data)
    assert back[: len(data)] == data


@given(st.binary(max_size=300), st.integers(0, 300))
def test_cobs_takes_any_bytes(data: bytes, room: int) -> None:
    back = bytearray(b"\x5a" * (room + 4))
    n = cobs_decode(data, 0, len(data), back, room)
    assert -1 <= n <= room
    assert back[room:] == b"\x5a" * 4


@given(frames)
def test_slcan_there_and_back(frame: p.Frame) -> None:
    wire = bytearray(40)
    end = slcan_encode(frame.ident, frame.data, len(frame.data), wire, 0)
    assert bytes(wire[:end]) == slcan(frame) == to_line(frame) + b"\r"
    assert from_line(slcan(frame)[:-1]) == frame
    back = bytearray(8)
    got = array("i", [0])
    n = slcan_decode(wire, 0, end - 1, back, got)
    assert p.Frame(got[0], bytes(back[:n])) == frame


digits = st.text("0123456789abcdefABCDEF", max_size=26).map(str.encode)


@given(st.binary(max_size=40) | st.builds(bytes.__add__, st.sampled_from([b"t", b"T"]), digits))
def test_slcan_takes_any_bytes(data: bytes) -> None:
    back = bytearray(8)
    got = array("i", [0])
    n = slcan_decode(data, 0, len(data), back, got)
    if n >= 0:
        # what is taken, is a frame to the letter
        assert slcan(p.Frame(got[0], bytes(back[:n])))[:-1] == data[:1] + data[1:].upper()


@given(st.lists(st.one_of(frames, st.binary(max_size=300)), max_size=12), sizes)
def test_every_slcan_frame_among_any_bytes_is_found(parts: list, how: list[int]) -> None:
    stream = b""
    for part in parts:
        # garbage without a t of either kind is no frame; it may hold ends of lines
        if isinstance(part, p.Frame):
            stream += slcan(part)
        else:
            stream += part.lower().replace(b"t", b"r") + b"\r"
    port = Port([])
    link = Slcan(port, 0)
    port.pieces = cut(stream, how)
    assert found(link, port) == [part for part in parts if isinstance(part, p.Frame)]


@given(st.lists(st.one_of(uart_frames, st.binary(max_size=300)), max_size=12), sizes)
def test_every_cobs_frame_among_any_bytes_is_found(parts: list, how: list[int]) -> None:
    stream = b""
    for part in parts:
        stream += p.uart_encode(part) if isinstance(part, p.Frame) else part + b"\0"
    port = Port([])
    link = CobsLink(port)
    port.pieces = cut(stream, how)
    got = found(link, port)
    # bytes made up by chance that hold a frame with its CRC are a frame
    chance = [
        p.uart_decode(piece)
        for part in parts
        if isinstance(part, bytes)
        for piece in part.split(b"\0")
        if piece
    ]
    if not any(chance):
        assert got == [part for part in parts if isinstance(part, p.Frame)]


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=8))
def test_links_take_any_bytes(pieces: list[bytes]) -> None:
    for make in (Slcan, CobsLink):
        port = Port([])
        link = make(port, 0)
        port.pieces = list(pieces)
        for frame in found(link, port):
            assert 0 <= frame.ident <= 0x7FF or EXTENDED <= frame.ident <= EXTENDED | BITS
            assert len(frame.data) <= 8


@given(st.lists(frames, max_size=40), st.lists(st.integers(0, 40), min_size=1, max_size=9))
def test_what_is_sent_leaves_whole_and_in_order(sent: list, rooms: list[int]) -> None:
    class Slow(Port):
        out = b""
        calls = 0

        def write(self, buf: bytes, start: int, n: int) -> int:
            self.calls += 1
            n = min(n, rooms[self.calls % len(rooms)])
            self.out += bytes(buf[start : start + n])
            return n

    for make, encode in ((Slcan, slcan), (CobsLink, p.uart_encode)):
        port = Slow([])
        link = make(port, 0)
        tried = [f for f in sent if make is Slcan or f.ident <= 0x7FF]
        taken = [f for f in tried if link.send(f.ident, bytearray(f.data), len(f.data))]
        assert link.dropped == len(tried) - len(taken)
        rooms.append(1)
        for _ in range(3000):
            link.flush()
        assert port.out.replace(b"\r\rC\rS6\rO\r", b"") == b"".join(map(encode, taken))
