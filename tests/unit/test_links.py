"""slcan and COBS over a stream: frames in, frames out, and everything that is none."""

import gc

import micropython

from bms.links.can import BITS, EXTENDED
from bms.links.cobs import CobsLink
from bms.links.slcan import SPEEDS, Slcan
from fakes import FakeStream, Random, cobs_bytes, raises, slcan_bytes

LOCKS = hasattr(micropython, "heap_lock")


class Sink:
    def __init__(self):
        self.frames = []

    def on_frame(self, ident, n, data, now):
        self.frames.append((ident, bytes(data[:n]), now))


def _can(stream):
    return Slcan(stream, 0)


def _uart(stream):
    return CobsLink(stream, 0)


MEDIA = ((_can, slcan_bytes, b"\r"), (_uart, cobs_bytes, b"\0"))


def _poll(link, sink, times=200, now=1):
    # as the master does: once a step
    for _ in range(times):
        link.poll(sink, now)


def test_round_trip():
    random = Random(20)
    for make, encode, _ in MEDIA:
        stream = FakeStream()
        link = make(stream)
        stream.took()
        frames = [(random.below(0x800), random.bytes(random.below(9))) for _ in range(100)]
        for ident, data in frames:
            assert link.send(ident, bytearray(data + b"\xaa" * 8), len(data))
            assert stream.took() == encode(ident, data)
        assert link.tx == 100
        sink = Sink()
        for frame in frames:
            stream.give(encode(*frame))
        _poll(link, sink, now=77)
        assert [f[:2] for f in sink.frames] == frames
        assert sink.frames[0][2] == 77
        assert link.rx == 100
        assert link.damaged == 0


def test_a_frame_cut_anywhere_arrives_once():
    for make, encode, _ in MEDIA:
        wire = encode(0x201, b"\x00\x01\x02\x00\x04\x05\x06\x00")
        for cut in range(1, len(wire)):
            stream = FakeStream()
            link = make(stream)
            sink = Sink()
            stream.give(wire[:cut])
            link.poll(sink, 1)
            assert sink.frames == []
            stream.give(wire[cut:])
            link.poll(sink, 2)
            assert [f[:2] for f in sink.frames] == [(0x201, b"\x00\x01\x02\x00\x04\x05\x06\x00")]
            assert link.damaged == 0


def test_damage_is_counted_and_the_next_frame_comes():
    good = (0x123, b"\x01\x02\x03")
    for make, encode, end in MEDIA:
        wire = encode(*good)
        bad = (wire[:3] + b"\x7f" + wire[4:], wire[:-3] + end, b"\x41\x42" + end, b"\xff" + end)
        for piece in bad:
            stream = FakeStream()
            link = make(stream)
            sink = Sink()
            stream.give(piece + wire)
            _poll(link, sink)
            assert [f[:2] for f in sink.frames] == [good], piece
            assert link.damaged == 1
            assert link.rx == 1


def test_endless_garbage_is_forgotten():
    good = (0x123, b"\x01\x02\x03")
    for make, encode, end in MEDIA:
        for n in (32, 127, 128, 129, 500, 5000):
            stream = FakeStream()
            link = make(stream)
            sink = Sink()
            stream.give(b"\x41" * n)
            _poll(link, sink)
            stream.give(end + encode(*good))
            _poll(link, sink)
            assert [f[:2] for f in sink.frames] == [good], n
            assert link.damaged >= 1


def test_a_flood_does_not_hold_up_a_step():
    for make, _, _ in MEDIA:
        stream = FakeStream()
        link = make(stream)
        stream.give(b"\x41" * 30000)
        link.poll(Sink(), 1)
        assert stream.left() > 20000


def test_a_blocked_port_drops_whole_frames_and_counts():
    for make, encode, end in MEDIA:
        stream = FakeStream()
        link = make(stream)
        stream.took()
        stream.room = 0
        sent = 0
        for i in range(100):
            sent += link.send(i, b"\x01\x02\x03\x04\x05\x06\x07\x08", 8)
        assert 10 < sent < 100
        assert link.dropped == 100 - sent
        assert link.tx == sent
        # in crumbs: every frame whole, in order
        out = b""
        for _ in range(2000):
            stream.room = 3
            link.flush()
            out += stream.took()
        wires = [encode(i, b"\x01\x02\x03\x04\x05\x06\x07\x08") for i in range(sent)]
        assert out == b"".join(wires)
        stream.room = 100
        assert link.send(5, b"", 0)
        assert stream.took() == encode(5, b"")


def test_cobs_refuses_wrong_crc_and_wide_ids():
    def wire(plain):
        out = b""
        for block in plain.split(b"\0"):
            out += bytes([len(block) + 1]) + block
        return out + b"\0"

    stream = FakeStream()
    link = CobsLink(stream)
    sink = Sink()
    stream.give(wire(b"\x01\x02\x03\x04\x05"))
    stream.give(cobs_bytes(0x800, b""))
    stream.give(cobs_bytes(0x001, b"123456789"))  # nine bytes
    stream.give(wire(b"\x01\x02\x03"))
    link.poll(sink, 1)
    assert sink.frames == []
    assert link.damaged == 4


def test_cobs_every_damaged_byte_is_refused():
    wire = cobs_bytes(0x205, b"\x00\x10\x20\x30\x40\x50\x60\x70")
    for at in range(len(wire) - 1):
        for flip in (1, 0x80, 0xFF):
            stream = FakeStream()
            sink = Sink()
            stream.give(wire[:at] + bytes([wire[at] ^ flip]) + wire[at + 1 :])
            CobsLink(stream).poll(sink, 1)
            assert sink.frames == []


def test_slcan_opens_the_channel():
    for rate in SPEEDS:
        stream = FakeStream()
        link = Slcan(stream, rate)
        assert stream.took() == b"\r\rC\r" + SPEEDS[rate] + b"O\r"
        assert link.rate == rate
    stream = FakeStream()
    assert Slcan(stream, 0).rate == 500000
    assert b"S6\r" in stream.took()
    assert "300000" in str(raises(ValueError, Slcan, FakeStream(), 300000))


def test_slcan_opens_a_silent_adapter_again():
    for start in (0, 5000, (1 << 29) - 500, 0x10000005):
        stream = FakeStream()
        link = Slcan(stream, 0)
        sink = Sink()
        link.poll(sink, start)
        stream.took()
        for i in range(25):
            link.poll(sink, (start + 100 * i) % (1 << 29))
        assert stream.took().count(b"O\r") in (2, 3), start


def test_slcan_answers_are_no_damage_and_hide_no_frame():
    stream = FakeStream()
    link = Slcan(stream, 0)
    sink = Sink()
    frame = slcan_bytes(0x201, b"\x01\x02")
    # a BEL has no end of its own
    stream.give(b"\r\rz\rZ\rV1013\rF00\r\x07" + frame + b"\x07\x07" + frame)
    link.poll(sink, 1)
    assert [f[0] for f in sink.frames] == [0x201, 0x201]
    assert link.damaged == 0


def test_slcan_adapters_that_end_lines_with_cr_lf_lose_no_frame():
    for time in (b"", b"1A2B"):
        stream = FakeStream()
        link = Slcan(stream, 0)
        sink = Sink()
        frame = slcan_bytes(0x201, b"\x01\x02")[:-1] + time + b"\r\n"
        stream.give(b"\r\n\r\nz\r\nZ\r\n\x07" + 9 * frame)
        _poll(link, sink)
        lost = 3 if time else 0  # until it is certain that these are times
        assert [f[:2] for f in sink.frames] == [(0x201, b"\x01\x02")] * (9 - lost)
        assert link.damaged == lost


def test_slcan_times_of_an_adapter_are_no_data_and_no_data_is_a_time():
    stream = FakeStream()
    link = Slcan(stream, 0)
    sink = Sink()
    short = slcan_bytes(0x201, b"\x01\x02")
    # a length that was damaged: its last two bytes are not taken for a time
    wrong = b"t20160102030405060708\r"
    stream.give(2 * (wrong + wrong + short))
    _poll(link, sink)
    assert [f[:2] for f in sink.frames] == [(0x201, b"\x01\x02")] * 2
    assert link.damaged == 4
    # an adapter that was replaced by one with times, and by one without them again
    for time in (b"0000", b""):
        stream.give(9 * (b"t20180102030405060708" + time + b"\r"))
        del sink.frames[:]
        _poll(link, sink)
        assert [f[:2] for f in sink.frames] == [(0x201, bytes(range(1, 9)))] * 6
    assert link.damaged == 10


def test_slcan_carries_29_bits():
    random = Random(21)
    stream = FakeStream()
    link = Slcan(stream)
    stream.took()
    sink = Sink()
    frames = []
    for k in range(200):
        ident = random.below(0x800) if k & 1 else EXTENDED | random.below(BITS + 1)
        frames.append((ident, random.bytes(random.below(9))))
    for ident, data in frames:
        assert link.send(ident, bytearray(data + b"\xaa" * 8), len(data))
        assert stream.took() == slcan_bytes(ident, data)
        stream.give(slcan_bytes(ident, data))
        _poll(link, sink, 2)
    assert [f[:2] for f in sink.frames] == frames
    assert link.damaged == 0
    # the same number of 11 bits is another identifier
    stream.give(b"T000002010\rt2010\r")
    link.poll(sink, 1)
    assert [f[0] for f in sink.frames[-2:]] == [EXTENDED | 0x201, 0x201]


def test_slcan_with_room_for_a_short_frame_only():
    # behind 20 frames of 22 characters and these, of 6 or 11 and 2 a byte, how many there is room
    for frames, room in (
        (((0x201, 8), (EXTENDED, 6)), 27),
        (((0x201, 5), (0x201, 6), (0x201, 3)), 26),
    ):
        stream = FakeStream()
        link = Slcan(stream)
        stream.took()
        stream.room = 0
        for ident, n in ((0x201, 8),) * 20 + frames:
            assert link.send(ident, bytearray(8), n)
        assert link.room() == room
        assert link.send(EXTENDED, bytearray(8), 8) == (room == 27)
        assert link.send(0x201, bytearray(8), 8) == (room == 26)
        assert link.dropped == 1


class Loop:
    """Gives back what was written; nothing in it allocates."""

    def __init__(self):
        self.bytes = bytearray(64)
        self.n = 0

    def read(self, buf):
        n = self.n
        self.n = 0
        for i in range(n):
            buf[i] = self.bytes[i]
        return n

    def write(self, buf, start, n):
        for i in range(n):
            self.bytes[i] = buf[start + i]
        self.n = n
        return n


class Counter:
    def __init__(self):
        self.count = self.wrong = 0
        self.ident = 0

    def on_frame(self, ident, n, data, now):
        self.count += 1
        if ident != self.ident or n != 8:
            self.wrong += 1


def test_slcan_allocates_nothing():
    loop = Loop()
    link = Slcan(loop)
    sink = Counter()
    data = bytearray(8)
    link.poll(sink, 0)
    damaged = link.damaged  # its own commands
    gc.collect()
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        k = 0
        while k < 500:
            sink.ident = EXTENDED | BITS - 0x10003 * k if k & 3 else k
            link.send(sink.ident, data, 8)
            link.poll(sink, 0)
            k += 1
    finally:
        if LOCKS:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    assert (sink.count, sink.wrong, link.damaged) == (500, 0, damaged)
