"""The MCP2518FD link against a strict model of the chip."""

import gc

import micropython

from bms.links.can import BITS, EXTENDED
from bms.links.mcp2518fd import CRYSTALS_HZ, FROM_BOARDS, Mcp2518fd, bit_timing
from fakes import Random, raises
from mcp2518fd_chip import (
    BDIAG1,
    CLASSIC,
    CON,
    CONFIGURATION,
    LISTENING,
    NBTCFG,
    RESTRICTED,
    ChipError,
    Mcp2518fdChip,
)

DATA = bytearray(b"abcdefgh")
DALY = EXTENDED | 0x18900140
RATES = (125000, 250000, 500000, 1000000)
LOCKS = hasattr(micropython, "heap_lock")


class Bus:
    """A chip on SPI. `change(out, answer)` may damage an answer, `spoil(out)` what is sent."""

    def __init__(self, crystal_hz=40000000):
        self.chip = Mcp2518fdChip(crystal_hz)
        self.change = None
        self.spoil = None
        self.longest = 0

    def transfer(self, out, inp, n):
        sent = bytearray(out[:n])
        if self.spoil:
            self.spoil(sent)
        answer = self.chip.transfer(sent, n)
        if self.change:
            self.change(sent, answer)
        if n > self.longest:
            self.longest = n
        for i in range(n):
            inp[i] = answer[i]

    def pending(self):
        self.chip.wait()
        return self.chip.interrupt


class Sink:
    def __init__(self):
        self.frames = []
        self.then = None

    def on_frame(self, ident, n, data, now):
        self.frames.append((ident, bytes(data[:n])))
        if self.then:
            self.then()


def _link(rate=0, crystal_hz=40000000, filters=FROM_BOARDS):
    """A link that has had its first poll, at 0 ms."""
    bus = Bus(crystal_hz)
    link = Mcp2518fd(bus, rate, crystal_hz, filters)
    link.poll(Sink(), 0)
    assert not bus.pending()
    return bus, link, Sink()


def _frames(random, count):
    """Frames that pass the filters."""
    functions = (0x00, 0x03, 0x08, 0x0F, 0x10, 0x13, 0x14, 0x17)
    return [
        (functions[random.below(8)] << 6 | random.below(64), random.bytes(random.below(9)))
        for _ in range(count)
    ]


def _register(sent):
    return (sent[0] & 15) << 8 | sent[1]


# --- start ---


def test_every_rate_is_exact_and_sampled_between_80_and_87_5_percent():
    for crystal in CRYSTALS_HZ:
        for rate in RATES:
            bus, link, _ = _link(rate, crystal)
            assert link.rate == rate
            assert bus.chip.bit_rate() == rate
            assert bytes(bus.chip.r[NBTCFG : NBTCFG + 4]) == bit_timing(crystal, rate)
        found = 0
        for quanta in range(20, 8001):
            rate = crystal // quanta
            if rate * quanta != crystal or rate > 1000000:
                continue
            timing = bit_timing(crystal, rate)
            sjw, second, first, prescaler = timing
            before = 1 + first + 1
            bit = before + second + 1
            assert crystal == rate * (prescaler + 1) * bit
            assert 0.8 <= before / bit <= 0.875
            assert sjw == second
            assert second < 128 and sjw < 128  # of 7 bits each
            # a chip that forgot its settings must be seen
            assert timing != b"\x0f\x0f\x3e\x00"
            found += 1
        assert found > 20


def test_rates_that_are_impossible():
    for crystal, rate in (
        (40000000, 33333),
        (40000000, 2000000),
        (40000000, -1),
        (20000000, 300000),
        (8000000, 500000),
        (0, 500000),
    ):
        raises(ValueError, Mcp2518fd, Bus(), rate, crystal)
    assert _link()[1].rate == 500000
    # of the largest number of quanta: 67 before, 12 behind the sample point, and the first one
    assert bit_timing(40000000, 500000) == bytes((11, 11, 66, 0))


def test_a_bus_without_a_chip():
    for answer in (0x00, 0xFF):
        bus = Bus()
        bus.chip.dead = True

        def change(sent, got, answer=answer):
            for i in range(len(got)):
                got[i] = answer

        bus.change = change
        error = raises(OSError, Mcp2518fd, bus)
        assert "no MCP2518FD answers" in str(error)


def test_where_it_finds_the_chip():
    for mode in (CLASSIC, CONFIGURATION, RESTRICTED, LISTENING):
        bus = Bus()
        bus.chip._mode = bus.chip._requested_mode = mode
        Mcp2518fd(bus)
        assert bus.chip.mode == CLASSIC
    bus = Bus()
    bus.chip.lag = 60  # answers until the clock runs
    bus.chip.brown_out()  # just powered
    Mcp2518fd(bus)
    assert bus.chip.mode == CLASSIC
    bus = Bus()
    bus.chip.asleep = True
    link = Mcp2518fd(bus)
    assert bus.chip.mode == CLASSIC
    assert link.send(0x41, DATA, 1)  # before the first poll
    assert bus.chip.transmit() == (0x41, b"a")


def test_a_bus_that_is_disturbed_at_start():
    bus = Bus()
    bus.chip._mode = bus.chip._requested_mode = CONFIGURATION
    bus.chip.busy = True
    link = Mcp2518fd(bus)
    sink = Sink()
    link.poll(sink, 0)
    assert not link.send(0x41, DATA, 2) and link.dropped == 1
    bus.chip.busy = False
    for now in range(1, 10):  # long before the next look
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC
    assert link.send(0x41, DATA, 2)
    assert (link.upsets, link.restarts, link.bus_off) == (0, 0, 0)


# --- filters ---


def test_what_the_hardware_lets_through():
    bus, link, sink = _link()
    now = 0
    wanted = []
    for function in range(0x20):
        for node in (0, 1, 63):
            ident = function << 6 | node
            bus.chip.receive(ident, b"x")
            if function in (0, 3) or 0x08 <= function <= 0x17:
                wanted.append(ident)
        now += 1
        link.poll(sink, now)
    assert [frame[0] for frame in sink.frames] == wanted
    assert link.damaged == 0


def test_other_filters_and_none():
    bus, link, sink = _link(filters=((0x123, 0x7FF), (0x700, 0x700)))
    for ident in (0x123, 0x122, 0x000, 0x7AB):
        bus.chip.receive(ident, b"x")
    link.poll(sink, 1)
    assert [frame[0] for frame in sink.frames] == [0x123, 0x7AB]
    bus, link, sink = _link(filters=())
    for ident in (0x000, 0x041, 0x7FF):
        bus.chip.receive(ident, b"x")
        bus.chip.receive(EXTENDED | ident, b"x")
        bus.chip.receive(EXTENDED | ident << 18, b"x")
    link.poll(sink, 1)
    assert [frame[0] for frame in sink.frames] == [0x000, 0x041, 0x7FF]
    Mcp2518fd(Bus(), 0, 40000000, ((0, 0),) * 32)
    raises(ValueError, Mcp2518fd, Bus(), 0, 40000000, ((0, 0),) * 33)


def test_filters_of_29_bits():
    whole = EXTENDED | BITS
    some = [0x000, 0x201, 0x7FF, EXTENDED, DALY, DALY ^ 1, DALY ^ 0x10000, DALY ^ 0x10000000]
    for pairs, wanted in (
        (((DALY, whole),), [DALY]),
        (((DALY, whole), (0x201, 0x7FF)), [0x201, DALY]),
        (((DALY, whole ^ 0x10001),), [DALY, DALY ^ 1, DALY ^ 0x10000]),
        (((EXTENDED, EXTENDED),), some[3:]),
        (((EXTENDED, EXTENDED), (0, 0)), some),
        (((EXTENDED, EXTENDED | 0x1FF00000),), [EXTENDED]),
    ):
        bus, link, sink = _link(filters=pairs)
        for ident in some:
            bus.chip.receive(ident, b"x")
        link.poll(sink, 1)
        assert [frame[0] for frame in sink.frames] == wanted
        assert link.damaged == 0
    # every bit of a filter and of its mask
    for bit in range(29):
        bus, link, sink = _link(filters=((DALY, EXTENDED | 1 << bit),))
        bus.chip.receive(DALY ^ 1 << bit, b"x")
        bus.chip.receive(DALY ^ BITS ^ 1 << bit, b"y")
        link.poll(sink, 1)
        assert sink.frames == [(DALY ^ BITS ^ 1 << bit, b"y")]


def test_a_frame_that_the_filter_did_not_let_in():
    bus, link, sink = _link(filters=((DALY, EXTENDED | BITS),))
    for at, bits in ((0, 1), (1, 0x80), (2, 1), (3, 0x10), (4, 0x10), (4, 0x20), (5, 0x08)):
        bus.chip.receive(DALY, b"x")
        bus.chip.ram[0x80 + 16 * link._tail + at] ^= bits  # on SPI
        link.poll(sink, 1)
    assert sink.frames == []
    assert link.damaged == 7


def test_29_bits_there_and_back():
    bus, link, sink = _link(filters=((0, 0), (EXTENDED, EXTENDED)))
    random = Random(9)
    for now in range(200):
        ident = random.below(0x800) if now & 3 == 0 else EXTENDED | random.below(BITS + 1)
        n = random.below(9)
        data = bytearray(random.bytes(8))
        assert link.send(ident, data, n)
        assert bus.chip.transmit() == (ident, bytes(data[:n]))
        bus.chip.receive(ident, bytes(data[:n]))
        link.poll(sink, now)
        assert sink.frames.pop() == (ident, bytes(data[:n]))
    assert link.damaged == link.dropped == 0


def test_no_other_frames_than_data():
    bus, link, sink = _link()
    bus.chip.receive(EXTENDED | 0x201, b"x")
    bus.chip.receive(EXTENDED | 0x201 << 18, b"x")
    assert not bus.pending()
    bus.chip.receive(0x201, b"", remote=True)
    bus.chip.receive(0x201, bytes(9)[:8])
    bus.chip.receive(0x202, b"ok")
    bus.chip.ram[0x80 + 16 + 4] = 9  # a length of 9
    link.poll(sink, 1)
    assert sink.frames == [(0x202, b"ok")]
    assert link.damaged == 2
    assert link.rx == 1


# --- receiving ---


def test_what_comes():
    bus, link, sink = _link()
    assert not link.polled
    random = Random(4)
    for now in range(60):
        sent = _frames(random, random.below(20))
        for frame in sent:
            bus.chip.receive(frame[0], frame[1])
        link.poll(sink, now)
        assert not bus.pending()
        assert sink.frames == sent
        sink.frames.clear()
    assert link.rx > 400
    assert link.damaged == link.lost == bus.chip.overflowed == 0
    assert bus.longest <= 80  # the most that hal.spi_bus carries


def test_a_burst_fills_the_fifo():
    bus, link, sink = _link()
    now = 0
    for shift in (0, 1, 5):  # wherever it wraps
        for k in range(shift):
            bus.chip.receive(0x201, bytes([k]))
        now += 1
        link.poll(sink, now)
        sink.frames.clear()
        frames = [(0x200 + k, bytes([k])) for k in range(32)]
        for frame in frames:
            bus.chip.receive(frame[0], frame[1])
        assert link.ready()
        now += 1
        link.poll(sink, now)
        assert sink.frames == frames
        assert not link.ready()
    assert bus.chip.overflowed == link.damaged == 0


def test_transfers_of_a_poll():
    bus, link, sink = _link()
    chip = bus.chip

    def poll(n):
        for k in range(n):
            chip.receive(0x200, bytes([k]))
        before = chip.selections
        link.poll(sink, 1)
        return chip.selections - before

    assert poll(0) == 0
    assert poll(1) == 3  # status, frame, step
    assert poll(3) == 2 + 1 + 3
    assert poll(8) == 2 + 2 + 8
    assert poll(18) == 2 + 5 + 18
    assert poll(4) == 2 + 2 + 4  # 30 are past: it wraps behind the second
    assert len(sink.frames) == 34


def test_frames_that_find_no_room_are_counted():
    bus, link, sink = _link()
    for k in range(40):
        bus.chip.receive(0x201, bytes([k]))
    link.poll(sink, 1)
    assert [frame[1][0] for frame in sink.frames] == list(range(32))
    assert bus.chip.overflowed == 8
    assert link.lost == link.damaged == 1  # the chip says that, not how many
    bus.chip.receive(0x201, b"x")
    link.poll(sink, 2)
    link.poll(sink, 60)
    assert link.lost == 1
    assert sink.frames[-1] == (0x201, b"x")


def test_an_overflow_whose_frames_went_is_seen_at_the_next_look():
    bus, link, sink = _link()
    bus.chip._overflow[2] = True
    link.poll(sink, 49)
    assert link.lost == 0
    link.poll(sink, 50)
    assert link.lost == 1
    link.poll(sink, 100)
    assert link.lost == 1


def test_a_line_that_is_not_connected():
    bus, link, sink = _link()
    bus.pending = lambda: False
    bus.chip.receive(0x201, b"x")
    link.poll(sink, 49)
    assert sink.frames == []
    link.poll(sink, 50)
    assert sink.frames == [(0x201, b"x")]
    bus.chip.receive(0x201, b"y")
    link.poll(sink, 99)
    assert len(sink.frames) == 1
    link.poll(sink, 100)
    assert sink.frames[1:] == [(0x201, b"y")]


def test_a_line_that_is_stuck_low():
    bus, link, sink = _link()
    bus.pending = lambda: True

    def change(sent, got):
        if _register(sent) == CON:
            got[7] ^= 1

    for now in range(1, 300):
        # between the looks, however often, no answer restarts it
        bus.change = change if now % 50 else None
        link.poll(sink, now)
    bus.change = None
    assert sink.frames == []
    bus.chip.receive(0x201, b"x")
    link.poll(sink, 300)
    assert sink.frames == [(0x201, b"x")]
    assert link.damaged == link.upsets == link.restarts == link.bus_off == 0


def test_times_wrap():
    bus, link, sink = _link()
    end = (1 << 29) - 20
    for now in range(0, end, (1 << 28) - 1):
        link.poll(sink, now)
    link.poll(sink, end)
    bus.pending = lambda: False
    before = bus.chip.selections
    link.poll(sink, end + 5)
    assert bus.chip.selections == before
    bus.chip.receive(0x201, b"x")
    link.poll(sink, 29)
    assert sink.frames == []
    link.poll(sink, 30)
    assert sink.frames == [(0x201, b"x")]


def test_a_sink_that_answers():
    bus, link, sink = _link()
    sink.then = lambda: link.send(0x41, DATA, 8)
    frames = [(0x200 + k, bytes([k] * 8)) for k in range(7)]
    for frame in frames:
        bus.chip.receive(frame[0], frame[1])
    link.poll(sink, 1)
    assert sink.frames == frames
    for _ in range(7):
        assert bus.chip.transmit() == (0x41, b"abcdefgh")


# --- errata and damage on SPI ---


def test_an_index_that_counts_too_many():
    # 789 item 6: old frames, or one that is not complete, must not be taken for new ones
    for more in (1, 2, 7, 31):
        for n in (1, 2, 5):
            bus, link, sink = _link()
            for k in range(40):  # so that all of the RAM holds old frames
                bus.chip.receive(0x200, bytes([k]))
                link.poll(sink, 1)
            sink.frames.clear()
            bus.chip.index_errors = [more]
            link.poll(sink, 50)  # a look at an empty FIFO
            assert sink.frames == [] and not bus.chip.index_errors
            for errors in ([more], [0, more]):
                bus.chip.index_errors = errors
                for k in range(n):
                    bus.chip.receive(0x201, bytes([k]))
                while bus.pending():
                    link.poll(sink, 51)
                assert sink.frames == [(0x201, bytes([k])) for k in range(n)]
                sink.frames.clear()
            assert link.damaged == 0


def test_an_answer_that_cannot_be_right():
    bus, link, sink = _link()

    for at, value in ((3, 0x20), (4, 0x01), (5, 0x80), (6, 0x04), (7, 0x08), (7, 0xFF)):

        def change(sent, got, at=at, value=value):
            if _register(sent) == 0x06C and sent[0] >> 4 == 3:
                got[at] ^= value
                bus.change = None

        bus.change = change
        bus.chip.receive(0x201, b"x")
        damaged = link.damaged
        link.poll(sink, 1)
        assert sink.frames == [] and link.damaged == damaged + 1
        link.poll(sink, 2)
        assert sink.frames == [(0x201, b"x")]
        sink.frames.clear()


def test_an_address_that_is_said_once_is_not_believed():
    bus, link, sink = _link()

    def change(sent, got):
        if _register(sent) == 0x06C and sent[0] >> 4 == 3:
            got[6] ^= 0x20
            bus.change = None

    for k in range(40):
        bus.change = change
        bus.chip.receive(0x201, bytes([k]))
        while bus.pending():
            link.poll(sink, 1)
    assert [frame[1][0] for frame in sink.frames] == list(range(40))
    assert link.damaged == 0


def test_bits_that_change_on_spi_while_frames_are_read():
    # what the chip says of a frame is checked: another identifier than its filter's is none
    bus, link, sink = _link(filters=((0x201, 0x7FF), (0x0C0, 0x7FF)))
    passed = 0
    for byte, bits in ((0, 8), (1, 3), (4, 8), (5, 8)):
        for bit in range(bits):

            def change(sent, got, byte=byte, bit=bit):
                if 0x400 <= _register(sent) < 0xC00 and sent[0] >> 4 == 3:
                    got[2 + byte] ^= 1 << bit
                    bus.change = None

            bus.change = change
            bus.chip.receive(0x201, b"12345678")
            link.poll(sink, 1)
            passed += len(sink.frames)
            for ident, _ in sink.frames:
                assert ident == 0x201
            sink.frames.clear()
    # a shorter length, and bits that mean nothing
    assert passed == 4 - 3 + 3
    assert link.damaged + passed == 27


def test_a_step_that_is_lost_on_spi():
    bus, link, sink = _link()

    def spoil(sent):
        if _register(sent) == 0x069 and sent[0] >> 4 == 2:
            sent[2] = 0
            bus.spoil = None

    for k in range(3):
        bus.chip.receive(0x200 + k, b"x")
    bus.spoil = spoil
    for now in range(1, 9):
        link.poll(sink, now)
    # the one that wasn't freed comes twice
    assert [frame[0] for frame in sink.frames] == [0x200, 0x201, 0x202, 0x202]
    assert link.damaged == 1
    bus.chip.receive(0x210, b"y")
    link.poll(sink, 9)
    assert sink.frames[4:] == [(0x210, b"y")]


def test_a_chip_that_is_ahead():
    bus, link, sink = _link()
    for k in range(3):
        bus.chip.receive(0x200 + k, b"x")
    bus.chip.transfer(b"\x20\x69\x01", 3)  # a step that nobody made
    for now in range(1, 5):
        link.poll(sink, now)
    assert [frame[0] for frame in sink.frames] == [0x201, 0x202]
    assert link.damaged == 1


def test_system_errors_are_put_right():
    # 792 item 1: it only listens, and goes on when it is told to
    for mode in (RESTRICTED, LISTENING):
        bus, link, sink = _link()
        assert link.send(0x41, DATA, 3)
        bus.chip.underflow(mode)
        assert bus.pending()
        for now in range(1, 6):
            link.poll(sink, now)
        assert bus.chip.mode == CLASSIC and not bus.pending()
        assert link.upsets == 1
        assert bus.chip.transmit() == (0x41, b"abc")
        assert link.damaged == link.bus_off == link.restarts == 0
        bus.chip.overrun()
        link.poll(sink, 7)
        assert link.lost == link.damaged == 1
        assert not bus.pending()
        link.poll(sink, 60)
        assert link.lost == 1


def test_a_system_error_while_frames_come():
    bus, link, sink = _link()
    bus.chip.underflow()
    for now in range(1, 60):
        bus.chip.receive(0x201, b"x")
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC
    assert len(sink.frames) == 59
    assert link.upsets == 1


# --- sending ---


def test_what_is_sent():
    bus, link, _ = _link()
    random = Random(3)
    for _ in range(100):
        ident = random.below(0x800)
        n = random.below(9)
        data = bytearray(random.bytes(8))
        assert link.send(ident, data, n)
        assert bus.chip.transmit() == (ident, bytes(data[:n]))
    assert (link.tx, link.dropped) == (100, 0)


def test_eight_frames_wait_in_the_chip_and_no_more():
    bus, link, _ = _link()
    for k in range(8):
        assert link.send(k, DATA, 8)
    assert not link.send(8, DATA, 8)
    assert (link.tx, link.dropped) == (8, 1)
    bus.chip.transmit()
    assert link.send(9, DATA, 8)
    assert not link.send(10, DATA, 8)
    for _ in range(4):
        bus.chip.transmit()
    before = bus.chip.selections
    for k in range(4):  # half of it is what the chip tells
        assert link.send(11 + k, DATA, 8)
    assert bus.chip.selections - before == 1 + 8
    assert not link.send(15, DATA, 8)
    while bus.chip.transmit():
        pass
    assert [frame[0] for frame in bus.chip.sent] == list(range(8)) + [9, 11, 12, 13, 14]


def test_transfers_of_a_frame_to_send():
    bus, link, _ = _link()
    before = bus.chip.selections
    for _ in range(8):
        link.send(0x41, DATA, 8)
        bus.chip.transmit()
    assert bus.chip.selections - before == 16
    bus.longest = 0
    link.send(0x41, DATA, 2)
    assert bus.chip.selections - before == 16 + 3
    assert bus.longest == 2 + 8 + 4


def test_a_step_of_a_frame_to_send_that_is_lost():
    bus, link, sink = _link()

    def spoil(sent):
        if _register(sent) == 0x05D and sent[0] >> 4 == 2:
            sent[0] = 0x30  # read instead
            bus.spoil = None

    bus.spoil = spoil
    link.send(0x40, DATA, 1)
    assert bus.chip.transmit() is None
    for k in range(7):
        assert link.send(0x40, DATA, 1)
        bus.chip.transmit()
    assert not link.send(0x40, DATA, 1)  # into the wrong object
    link.poll(sink, 50)
    assert link.damaged == 1
    for k in range(20):
        assert link.send(0x41 + k, DATA, 1)
        assert bus.chip.transmit() == (0x41 + k, b"a")


def test_a_step_of_a_frame_to_send_that_nobody_made():
    bus, link, sink = _link()
    bus.chip.transfer(b"\x20\x5d\x03", 3)
    link.poll(sink, 50)
    assert link.damaged == 1
    sent = 0
    while link.send(0x41, DATA, 1):
        sent += 1
    assert 4 <= sent <= 7


def test_a_wrong_address_is_not_believed_at_once():
    bus, link, sink = _link()

    def change(sent, got):
        if _register(sent) == 0x034:
            got[50] ^= 0x10
            bus.change = None

    bus.change = change
    link.poll(sink, 50)
    assert link.damaged == 1
    for k in range(20):
        assert link.send(0x41 + k, DATA, 1)
        assert bus.chip.transmit() == (0x41 + k, b"a")


def test_old_frames_do_not_go_out_late():
    # nobody acknowledges: what waited for 100 ms is forgotten
    bus, link, sink = _link()
    for k in range(3):
        link.send(0x41 + k, DATA, 2)
    for now in range(0, 150, 10):
        link.poll(sink, now)
    assert bus.chip.waits() == 3
    for now in range(150, 200, 10):
        link.poll(sink, now)
    assert bus.chip.mode == CONFIGURATION
    assert link.dropped == 3
    before = bus.chip.selections
    for _ in range(9):
        assert not link.send(0x50, DATA, 2)
    assert bus.chip.selections == before
    for now in range(200, 250, 10):
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC and bus.chip.waits() == 0
    assert link.send(0x51, DATA, 2)
    assert bus.chip.transmit() == (0x51, b"ab")
    assert (link.bus_off, link.restarts, link.damaged) == (0, 0, 0)


def test_a_bus_that_is_slow_is_not_stuck():
    bus, link, sink = _link()
    for now in range(0, 1000, 10):
        while bus.chip.waits() < 4:
            link.send(0x41, DATA, 2)
        if now % 70 == 0:
            bus.chip.transmit()
        link.poll(sink, now)
    assert link.dropped == 0
    assert bus.chip.mode == CLASSIC


# --- bus-off and forgotten settings ---


def test_bus_off():
    bus, link, sink = _link()
    for k in range(8):
        link.send(0x41 + k, DATA, 2)
    bus.chip.bus_off()
    link.poll(sink, 49)
    assert link.bus_off == 0
    link.poll(sink, 50)
    before = bus.chip.selections
    assert not link.send(0x50, DATA, 2)
    assert bus.chip.selections == before
    left = -1
    for now in range(51, 150):
        link.poll(sink, now)
        assert not link.send(0x50, DATA, 2) or bus.chip.mode == CLASSIC
        if bus.chip.mode == CLASSIC and left < 0 and now > 55:
            left = now
    # ISO 11898-1: 128 times 11 bits, 11.3 ms at 125 kbit/s
    assert 50 + 12 <= left <= 105
    assert link.bus_off == 1
    assert not bus.chip.off
    assert bus.chip.transmit()[0] == 0x50  # none of the old ones
    bus.chip.receive(0x201, b"x")
    link.poll(sink, 160)
    assert sink.frames == [(0x201, b"x")]
    assert (link.restarts, link.upsets, link.damaged) == (0, 0, 0)


def test_bus_off_again_and_again():
    bus, link, sink = _link()
    now = 0
    for k in range(5):
        bus.chip.bus_off()
        for _ in range(150):
            now += 1
            link.poll(sink, now)
        assert bus.chip.mode == CLASSIC
        assert link.bus_off == k + 1


def test_a_bus_off_that_was_over_before_the_look():
    bus, link, sink = _link()
    bus.chip.bus_off()
    bus.chip.recover()
    for now in (50, 100, 150):
        link.poll(sink, now)
        assert bus.chip.mode == CLASSIC
    assert link.bus_off == 1
    assert bus.chip.r[BDIAG1 + 2] == 0


def test_a_bus_that_cannot_be_left():
    bus, link, sink = _link()
    bus.chip.bus_off()
    bus.chip.busy = True
    for now in range(50, 400, 10):
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC and link.bus_off == 1
    bus.chip.busy = False
    for now in range(400, 520, 10):
        link.poll(sink, now)
    assert link.send(0x41, DATA, 2)
    assert bus.chip.transmit() == (0x41, b"ab")
    assert link.bus_off == 1


def test_a_chip_that_forgot_everything_is_set_up_again():
    bus, link, sink = _link()
    bus.chip.receive(0x201, b"x")
    link.send(0x41, DATA, 8)
    bus.chip.brown_out()
    for now in range(1, 250):
        link.poll(sink, now)
        if now < 60:
            link.send(0x41, DATA, 8)
    assert sink.frames == []
    assert link.restarts == 1
    assert bus.chip.mode == CLASSIC and bus.chip.bit_rate() == 500000
    bus.chip.receive(0x202, b"y")
    bus.chip.receive(0x042, b"y")
    link.poll(sink, 250)
    assert sink.frames == [(0x202, b"y")]
    assert link.send(0x42, DATA, 8)
    assert bus.chip.transmit() == (0x42, b"abcdefgh")
    for now in range(260, 800, 10):
        link.poll(sink, now)
    assert link.restarts == 1


def test_one_wrong_answer_restarts_nothing():
    bus, link, sink = _link()

    def change(sent, got):
        if _register(sent) == CON:
            got[7] ^= 1
            bus.change = None

    for now in range(50, 400, 10):
        bus.chip.receive(0x201, b"x")
        if now in (50, 150):
            bus.change = change
        link.poll(sink, now)
    assert len(sink.frames) == 35
    assert link.damaged == 2
    assert link.restarts == link.bus_off == link.upsets == 0


def test_one_wrong_mode_or_bus_off_changes_nothing():
    for register, byte, bits in ((CON, 4, 0x40), (CON, 4, 0x20), (0x034, 4, 0x20)):
        bus, link, sink = _link()

        def change(sent, got, register=register, byte=byte, bits=bits, bus=bus):
            if _register(sent) == register and sent[0] >> 4 == 3:
                got[byte] ^= bits
                bus.change = None

        for now in range(0, 500, 10):
            if now == 100:
                bus.change = change
            bus.chip.receive(0x201, b"x")
            link.poll(sink, now)
            assert link.send(now, DATA, 1)
            assert bus.chip.transmit() == (now, b"a")
        assert len(sink.frames) == 50
        assert bus.change is None
        assert link.restarts == link.bus_off == link.upsets == link.dropped == 0


def test_settings_that_are_not_ours():
    bus, link, sink = _link()
    bus.chip.r[NBTCFG] ^= 1
    for now in range(10, 300, 10):
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC and bus.chip.bit_rate() == 500000
    assert bytes(bus.chip.r[NBTCFG : NBTCFG + 4]) == bit_timing(40000000, 500000)
    assert link.restarts == 1
    assert link.send(0x41, DATA, 2)
    assert bus.chip.transmit() == (0x41, b"ab")


def test_a_mode_that_nobody_requested():
    bus, link, sink = _link()
    bus.chip._mode = bus.chip._requested_mode = (
        2  # internal loopback: left by Configuration mode only
    )
    bus.chip.r[CON + 3] = 2
    for now in range(50, 300, 10):
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC
    bus.chip._mode = bus.chip._requested_mode = CONFIGURATION
    bus.chip.r[CON + 3] = CONFIGURATION
    for now in range(300, 500, 10):
        link.poll(sink, now)
    assert bus.chip.mode == CLASSIC
    assert link.send(0x41, DATA, 2)
    assert bus.chip.transmit() == (0x41, b"ab")


def test_a_chip_that_dies_in_the_cycle():
    bus, link, sink = _link()
    for answer in (0x00, 0xFF):
        bus.chip.dead = True

        def change(sent, got, answer=answer):
            for i in range(len(got)):
                got[i] = answer

        bus.change = change
        for now in range(0, 500, 5):
            link.poll(sink, now)
            link.send(0x41, DATA, 8)
    assert sink.frames == []
    assert not link.send(0x41, DATA, 8)


# --- heap ---


class Recorder:
    """Keeps what passes between a link and its chip: length, then what is written or answered."""

    def __init__(self, bus):
        self.bus = bus
        self.bytes = bytearray(16000)
        self.at = 0
        self.lines = bytearray(200)
        self.line = 0

    def transfer(self, out, inp, n):
        at = self.at
        self.bytes[at] = n
        for i in range(n):
            self.bytes[at + 1 + i] = out[i]
        self.bus.transfer(out, inp, n)
        if self.bytes[at + 1] >> 4 == 3:
            for i in range(2, n):
                self.bytes[at + 1 + i] = inp[i]
        self.at = at + 1 + n

    def pending(self):
        line = self.bus.pending()
        self.lines[self.line] = line
        self.line += 1
        return line


class Player:
    """Gives the same again, and counts what differs; nothing in it allocates."""

    def __init__(self, record):
        self.bytes = record.bytes
        self.lines = record.lines
        self.at = self.line = self.differs = 0

    def transfer(self, out, inp, n):
        at = self.at
        if self.bytes[at] != n:
            self.differs += 1
        at += 1
        read = self.bytes[at] >> 4 == 3
        for i in range(n):
            if i >= 2 and read:
                inp[i] = self.bytes[at + i]
            else:
                inp[i] = 0
                if self.bytes[at + i] != out[i]:
                    self.differs += 1
        self.at = at + n

    def pending(self):
        line = self.lines[self.line]
        self.line += 1
        return line == 1


class Counter:
    def __init__(self):
        self.count = self.sum = 0

    def on_frame(self, ident, n, data, now):
        self.count += 1
        self.sum = (self.sum + ident + n) & 0xFFFF
        for i in range(n):
            self.sum = (self.sum + data[i]) & 0xFFFF


def _events(bus, now):
    """What happens to the chip in the recorded run."""
    chip = bus.chip
    for k in range((now * 7) % 5):
        chip.receive(0x200 + k if k & 1 else DALY | k, DATA[: k + now % 4])
    if now % 3:
        chip.transmit()
    if now == 30:
        for _ in range(40):
            chip.receive(0x201, DATA)
    elif now == 60:
        chip.underflow()
    elif now == 80:
        chip.overrun()
    elif now == 120:
        chip.bus_off()
    elif now == 220:
        chip.brown_out()
    elif now == 352:
        chip.transfer(b"\x20\x69\x01", 3)


def _run(link, sink, bus):
    """0.4 s; with the heap locked where there is no chip to be moved."""
    for now in range(0, 400, 2):
        if bus:
            _events(bus, now)
        link.poll(sink, now)
        link.send(DALY if now & 4 else 0x41, DATA, now & 7)


def _greedy(link, sink, bus):
    """A sink that keeps what it is given."""
    sink.kept = None
    sink.kept = [link.rx, link.tx]


def _locked(run, link, sink):
    gc.collect()
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        run(link, sink, None)
    finally:
        if LOCKS:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]


def test_nothing_allocates():
    bus = Bus()
    record = Recorder(bus)
    sink = Counter()
    filters = FROM_BOARDS + ((DALY, EXTENDED | BITS ^ 7),)
    link = Mcp2518fd(record, filters=filters)
    _run(link, sink, bus)
    assert sink.count > 200 and link.tx > 50
    assert link.lost >= 2 and link.upsets == link.bus_off == link.restarts == 1
    assert link.damaged > link.lost and link.dropped > 0
    player = Player(record)
    again = Counter()
    link = Mcp2518fd(player, filters=filters)
    _locked(_run, link, again)
    assert player.differs == 0
    assert player.at == record.at and player.line == record.line
    assert (again.count, again.sum) == (sink.count, sink.sum)
    if LOCKS:
        raises(MemoryError, _locked, _greedy, link, again)


# --- the model ---


def test_the_model_refuses():
    bus, link, _ = _link()
    chip = bus.chip
    for out in (
        b"\x20\x04\x00",  # bit timing outside Configuration mode
        b"\x20\x5f\x00",  # depth of a FIFO
        b"\x20\x5c\x00",  # its direction
        b"\x20\x02\x18",  # event FIFO and transmit queue
        b"\x00\x00",  # reset
        b"\x20\x69\x01",  # step of an empty receive FIFO
        b"\x20\x69\x02",  # it sends nothing
        b"\x20\x5d\x04",  # FRESET
        b"\x21\xf0\x00",  # a filter that is on
        b"\x20\x6c\x08",  # an overflow of the program's own
        b"\x20\x60\x00\x00",  # the FIFO index
        b"\x20\x1c\x01",  # an interrupt flag of the program's own
        b"\x20\x03\x03",  # from Normal to Listen Only mode
        b"\x20\x34\x00",  # error counters
        b"\x24\x01\x00\x00\x00\x00",  # RAM, not at a word
        b"\x24\x00\x00\x00",  # RAM, half a word
        b"\x34\x02\x00\x00\x00\x00",
        b"\x3b\xfc" + bytes(8),  # beyond the RAM
        b"\x30\x4c\x00",  # no register
        b"\x33\x00\x00",
        b"\x20\x4c\x00",
        b"\x2e\x04\x00",  # IOCON
        b"\x2e\x00\x61",  # PLL
        b"\xb0\x00\x04",  # an instruction that it doesn't model
        b"\x30\x00",  # nothing to read
        b"\x30",
    ):
        raises(ChipError, chip.transfer, out, len(out))
    for k in range(8):
        assert link.send(k, DATA, 8)
    raises(ChipError, chip.transfer, b"\x20\x5d\x03", 3)  # a ninth frame
    raises(ChipError, chip.transfer, b"\x20\x5d\x00", 3)  # an abort
    chip._mode = CONFIGURATION
    raises(ChipError, chip.transfer, b"\x20\x5d\x03", 3)
    raises(ChipError, chip.transfer, b"\x24\x00\x00\x00\x00\x00", 6)
    chip.transfer(b"\x20\x04\x00", 3)
