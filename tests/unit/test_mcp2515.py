"""The MCP2515 link against a strict model of the chip, with and without an interrupt."""

from bms.links.mcp2515 import TIMINGS, Mcp2515
from fakes import Random, raises
from mcp2515_chip import CANSTAT, ChipError, Mcp2515Chip

DATA = bytearray(b"abcdefgh")


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


def _link(hard=True, rate=0):
    bus = Bus(hard)
    return bus, Mcp2515(bus, rate), Sink()


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
        ident = random.below(0x800)
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
        bus, link, sink = _link(hard)
        assert link.polled is not hard
        random = Random(4)
        sent = []
        for k in range(200):
            frame = (random.below(0x800), random.bytes(random.below(9)))
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


def test_bus_off_is_counted_once():
    bus, link, sink = _link()
    for k, flags in enumerate((0, 0x20, 0x20, 0, 0x20)):
        bus.chip.r[0x2D] = flags
        link.poll(sink, 50 * k)
    assert link.bus_off == 2


def test_no_other_frames_than_standard_data():
    bus, link, sink = _link()
    for low, n in ((0x08, 8), (0x10, 8), (0x00, 0x48), (0x00, 9)):
        at = 16 * bus.at[0]
        bus.ring[at + 2] = low
        bus.ring[at + 5] = n
        bus.at[0] += 1
    link.poll(sink, 0)
    assert sink.frames == []
    assert link.damaged == 4


def test_the_model_refuses():
    bus, link, _ = _link()
    assert bus.chip.r[CANSTAT] == 0
    raises(ChipError, link._write, 0x28, b"\x00", 1)  # bit timing in normal mode
    bus = Bus()
    raises(ChipError, bus.transfer, b"\x11", bytearray(1), 1)
