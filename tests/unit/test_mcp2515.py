"""The MCP2515 link against a strict model of the chip, with and without an interrupt."""

import gc

import micropython

from bms.links.can import BITS, EXTENDED
from bms.links.mcp2515 import TIMINGS, Mcp2515, acceptance
from fakes import Random, raises
from mcp2515_chip import CANSTAT, ChipError, Mcp2515Chip

DATA = bytearray(b"abcdefgh")
LOCKS = hasattr(micropython, "heap_lock")


class Bus:
    """A chip on SPI; `hard`: the interrupt is served at once. `busy`: not during a transfer."""

    def __init__(self, hard=True):
        self.sent = []
        self.hard = hard
        self.inside = False
        self.chip = Mcp2515Chip(self._send, self._changed)
        self.how = None
        self.during = None  # called once inside the next transfer

    def _send(self, ident, data):
        self.sent.append((ident, data))

    def _changed(self, low):
        if low and self.how and not self.at[3]:
            self.take(self.how, self.ring, self.at)

    def transfer(self, out, inp, n):
        chip = self.chip
        chip.select()
        for i in range(n):
            inp[i] = chip.exchange(out[i])
        if self.during:
            during, self.during = self.during, None
            during()
        chip.deselect()

    def pending(self):
        return self.chip.interrupt

    def take(self, how, ring, at):
        if self.inside:
            raise ChipError("the bus is in use")
        self.inside = True
        got = bytearray(16)
        while True:
            self.transfer(bytes([how[0], 0]), got, 2)
            full = got[1]
            if not full & (how[1] | how[3]):
                break
            for i in (1, 3):
                if full & how[i]:
                    self.transfer(bytes([how[i + 1]]) + bytes(13), got, how[5])
                    after = (at[0] + 1) & how[6]
                    if after == at[1]:
                        at[2] += 1
                    else:
                        ring[16 * at[0] : 16 * at[0] + 14] = got[:14]
                        at[0] = after
        self.inside = False

    def on_interrupt(self, how, ring, at):
        if self.hard:
            self.how, self.ring, self.at = how, ring, at
        return self.hard


class Sink:
    def __init__(self):
        self.frames = []

    def on_frame(self, ident, n, data, now):
        self.frames.append((ident, bytes(data[:n])))


def _link(hard=True, rate=0, filters=()):
    bus = Bus(hard)
    return bus, Mcp2515(bus, rate, filters=filters), Sink()


def _ident(random):
    """An identifier of either kind."""
    return random.below(0x800) if random.below(2) else EXTENDED | random.below(BITS + 1)


BOTH = ((0, 0), (EXTENDED, EXTENDED))  # pairs that let everything in


def test_every_rate_is_exact_and_sampled_at_three_quarters():
    for crystal, rate in TIMINGS:
        bus = Bus()
        Mcp2515(bus, rate, crystal)
        assert bus.chip.bit_rate(crystal) == rate
        first = bus.chip.r[0x29]
        before = 1 + (first & 7) + 1 + (first >> 3 & 7) + 1
        after = (bus.chip.r[0x28] & 7) + 1
        assert before == 3 * after


def test_the_default_rate():
    assert _link()[1].rate == 500000
    raises(ValueError, Mcp2515, Bus(), 1000000, 8000000)


def test_a_bus_without_a_chip():
    for answer in (0x00, 0xFF):
        bus = Bus()
        bus.chip.exchange = lambda out, answer=answer: answer
        bus.chip.deselect = bus.chip.select = lambda: None
        raises(OSError, Mcp2515, bus)


def test_what_is_sent():
    bus, link, _ = _link()
    random = Random(3)
    for _ in range(100):
        ident = _ident(random)
        n = random.below(9)
        data = bytearray(random.bytes(8))
        assert link.send(ident, data, n)
        assert bus.sent.pop() == (ident, bytes(data[:n]))
        bus.chip.sent()
    assert (link.tx, link.dropped) == (100, 0)


def test_three_frames_wait_in_the_chip_and_no_more():
    bus, link, _ = _link()
    for k in range(3):
        assert link.send(k, DATA, 8)
    assert not link.send(3, DATA, 8)
    assert link.dropped == 1
    bus.chip.sent()
    assert link.send(4, DATA, 8)
    assert [x[0] for x in bus.sent] == [0, 1, 2, 4]


def test_what_comes():
    for hard in (True, False):
        bus, link, sink = _link(hard, filters=BOTH)
        assert link.polled is not hard
        random = Random(4)
        sent = []
        for k in range(200):
            frame = (_ident(random), random.bytes(random.below(9)))
            sent.append(frame)
            bus.chip.receive(frame[0], frame[1])
            if k % 2:
                link.poll(sink, k)
        assert sink.frames == sent
        assert link.rx == 200
        assert link.damaged == bus.chip.overflowed == 0


def test_a_burst_waits_in_the_ring():
    bus, link, sink = _link()
    frames = [(0x200 + k, bytes([k])) for k in range(63)]
    for frame in frames:
        bus.chip.receive(frame[0], frame[1])
    assert link.ready()
    link.poll(sink, 0)
    assert sink.frames == frames
    assert bus.chip.overflowed == link.damaged == 0
    assert not link.ready()


def test_frames_that_find_no_room_are_counted():
    bus, link, sink = _link()
    link.poll(sink, 0)
    for _ in range(70):
        bus.chip.receive(0x201, b"x")
    link.poll(sink, 60)
    assert len(sink.frames) == 63
    assert link.lost == link.damaged == 7
    bus, link, sink = _link(hard=False)
    link.poll(sink, 0)
    for _ in range(5):
        bus.chip.receive(0x201, b"x")
    link.poll(sink, 60)
    assert len(sink.frames) == 2
    assert bus.chip.overflowed == 3
    assert link.lost == 1  # the chip says that, not how many
    link.poll(sink, 120)
    assert link.lost == 1


def test_a_frame_that_comes_while_the_program_uses_the_bus():
    bus, link, sink = _link()
    for k in range(50):
        bus.during = lambda k=k: bus.chip.receive(0x200 + k, b"")
        link.send(0x41, DATA, 2)
        bus.chip.sent()
        assert link.ready()  # at once, not at the next look
        link.poll(sink, k)
    assert [x[0] for x in sink.frames] == [0x200 + k for k in range(50)]
    assert bus.chip.overflowed == 0


def test_a_lost_edge_is_found():
    bus, link, sink = _link()
    link.poll(sink, 0)
    bus.at[3] = 1
    bus.chip.receive(0x201, b"x")  # the interrupt found the bus in use, and nobody looked
    bus.at[3] = 0
    link.poll(sink, 49)
    assert sink.frames == []
    link.poll(sink, 50)  # found
    link.poll(sink, 50)
    assert sink.frames == [(0x201, b"x")]


def test_a_chip_that_forgot_everything_is_set_up_again():
    bus, link, sink = _link()
    link.poll(sink, 0)
    bus.chip.brown_out()
    bus.chip.receive(0x201, b"x")
    assert not link.ready()
    link.poll(sink, 50)
    assert link.restarts == 1
    bus.chip.receive(0x202, b"y")
    link.poll(sink, 60)
    assert sink.frames == [(0x202, b"y")]
    assert bus.chip.bit_rate(8000000) == 500000
    link.poll(sink, 120)
    assert link.restarts == 1


def test_frames_sent_before_a_dip_is_seen_are_lost_and_block_nothing():
    bus, link, sink = _link()
    link.poll(sink, 0)
    bus.chip.brown_out()
    assert [link.send(0x101, b"x", 1) for _ in range(4)] == [True, True, True, False]
    assert bus.sent == []
    link.poll(sink, 50)
    assert link.restarts == 1
    assert link.send(0x102, b"y", 1)
    assert bus.sent == [(0x102, b"y")]


def test_bus_off_is_counted_once():
    bus, link, sink = _link()
    for k, flags in enumerate((0, 0x20, 0x20, 0, 0x20)):
        bus.chip.r[0x2D] = flags
        link.poll(sink, 50 * k)
    assert link.bus_off == 2


def test_no_other_frames_than_data():
    bus, link, sink = _link()
    for low, n in ((0x08, 0x48), (0x08, 9), (0x10, 8), (0x00, 0x48), (0x00, 9)):
        at = 16 * bus.at[0]
        bus.ring[at + 2] = low
        bus.ring[at + 5] = n
        bus.at[0] += 1
    link.poll(sink, 0)
    assert sink.frames == []
    assert link.damaged == 5


def _taken(filters, idents):
    bus, link, sink = _link(filters=filters)
    for ident in idents:
        bus.chip.receive(ident, b"\x12\x34")
    link.poll(sink, 1)
    assert link.damaged == 0 and not bus.chip.data_compared
    return [frame[0] for frame in sink.frames]


def test_filters():
    daly = EXTENDED | 0x18900140
    some = [0x000, 0x201, 0x2FF, 0x7FF, EXTENDED, daly, daly ^ 1, daly ^ 0x10000]
    standard = some[:4]
    extended = some[4:]
    whole = EXTENDED | BITS
    assert _taken((), some) == standard
    assert _taken(BOTH, some) == some
    assert _taken(((EXTENDED, EXTENDED),), some) == extended
    assert _taken(((daly, whole),), some) == [daly]
    assert _taken(((daly, whole), (daly ^ 1, whole)), some) == [daly, daly ^ 1]
    assert _taken(((daly, whole ^ 0x10000),), some) == [daly, daly ^ 0x10000]
    assert _taken(((0x201, 0x7FF), (0x7FF, 0x7FF)), some) == [0x201, 0x7FF]
    # one mask for both kinds: that of the standard one
    assert _taken(((0x201, 0x7FF), (daly, whole)), some) == [0x201, daly, daly ^ 1, daly ^ 0x10000]
    # more than two: all of the kinds asked for
    assert _taken(((0x201, 0x7FF), (0x2FF, 0x7FF), (0x7FF, 0x7FF)), some) == standard
    assert _taken(((0x201, 0x7FF), (0x2FF, 0x7FF), (daly, whole)), some) == some
    assert _taken([(daly ^ k, whole) for k in range(3)], some) == extended


def test_filters_let_in_what_is_wanted():
    random = Random(11)
    for _ in range(200):
        pairs = []
        for _ in range(random.between(1, 6)):
            ident = _ident(random)
            if ident & EXTENDED:
                mask = EXTENDED | BITS ^ (1 << random.below(29)) ^ (1 << random.below(29))
            else:
                mask = 0x7FF ^ (1 << random.below(11))
            pairs.append((ident & mask, mask))
        bus, link, sink = _link(filters=pairs)
        frames = []
        for ident, mask in pairs:
            free = (BITS if ident & EXTENDED else 0x7FF) & ~mask
            frames.append(ident | random.below(BITS + 1) & free)
        for ident in frames:
            bus.chip.receive(ident, random.bytes(random.below(9)))
        link.poll(sink, 1)
        assert [frame[0] for frame in sink.frames] == frames
        assert not bus.chip.data_compared
        # both buffers are open to them
        first, second, mask = acceptance(pairs)
        r = bus.chip.r
        assert bytes(r[0:4]) == bytes(r[8:12]) == first and bytes(r[4:8]) == bytes(r[0x10:0x14])
        assert bytes(r[0x14:0x18]) == first and bytes(r[0x18:0x1C]) == second
        assert bytes(r[0x20:0x24]) == bytes(r[0x24:0x28]) == mask


class Still:
    """A chip that has nothing to say: what is asked and sent costs no heap."""

    def __init__(self):
        self.mute = False
        self.bus = Bus()

    def on_interrupt(self, how, ring, at):
        return True

    def transfer(self, out, inp, n):
        if not self.mute:
            self.bus.transfer(out, inp, n)

    def pending(self):
        return False


class Counter:
    def __init__(self):
        self.count = self.sum = 0

    def on_frame(self, ident, n, data, now):
        self.count += 1
        self.sum = (self.sum ^ ident) & BITS


def test_nothing_allocates():
    still = Still()
    link = Mcp2515(still)
    still.mute = True
    sink = Counter()
    ring = link._ring
    ident = EXTENDED | 0x18900140
    for k in range(64):
        # as the chip has 0x18900140 (registers 4-4 to 4-7)
        for i, byte in enumerate((0, 0xC4, 0x88, 0x01, 0x40, 8)):
            ring[16 * k + i] = byte
    link.poll(sink, 0)
    link._in[1] = 0  # no frame waits to be sent
    gc.collect()
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        k = 0
        while k < 100:
            link.at[0] = (link.at[1] + 7) & 63
            link.poll(sink, 0)
            link.send(ident, DATA, 8)
            link.send(0x7FF, DATA, 8)
            k += 1
        link._start()  # in the cycle, too
    finally:
        if LOCKS:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    assert (sink.count, link.tx, link.damaged) == (700, 200, 0)
    link.at[0] = (link.at[1] + 1) & 63
    sink.sum = 0
    link.poll(sink, 0)
    assert sink.sum == ident & BITS


def test_the_model_refuses():
    bus, link, _ = _link()
    assert bus.chip.r[CANSTAT] == 0
    raises(ChipError, link._write, 0x28, b"\x00", 1)  # bit timing in normal mode
    raises(ChipError, link._write, 0x00, b"\x00", 1)  # a filter, too
    bus.chip.r[CANSTAT] = 0x80
    raises(ChipError, link._write, 0x21, b"\x08", 1)  # a mask has no EXIDE
    raises(ChipError, link._write, 0x01, b"\x10", 1)
    bus = Bus()
    raises(ChipError, bus.transfer, b"\x11", bytearray(1), 1)
