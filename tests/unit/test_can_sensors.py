"""IVT-S and CAB 500: frames made from the data sheets' layouts, alone on a port and shared."""

import gc

import micropython

from bms.clock import Clock
from bms.config import pack_file
from bms.config.errors import ConfigError
from bms.contactors.strings import Strings
from bms.links.can import EXTENDED
from bms.pack import Pack
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors import build as sensors
from bms.sensors.base import STUCK
from bms.sensors.cab500 import Cab500
from bms.sensors.current import StringCurrent
from bms.sensors.frame_router import FrameRouter
from bms.sensors.ivt_s import IvtS
from bms.slaves import build as slaves
from fakes import FakeBoard, FakeSlave, Random, pack_lines, raises

LOCKS = hasattr(micropython, "heap_lock")


class Entry:
    """A [[sensor]] of the pack file."""

    string = 1
    gain_ppm = 1000000
    reversed = 0
    id = 0
    range_ma = 0

    def __init__(self, kind, **more):
        self.kind = kind
        for key in more:
            setattr(self, key, more[key])


def ivt(kind, counter, state, value):
    """Payload of an IVT-S result."""
    raw = value & 0xFFFFFFFF
    return bytearray(
        [kind, state | counter & 15, raw >> 24, raw >> 16 & 255, raw >> 8 & 255, raw & 255, 0, 0]
    )


def cab(value, error=0, name=b"CAB"):
    """Payload of a CAB 500."""
    raw = (value + 0x80000000) & 0xFFFFFFFF
    return bytearray(
        [raw >> 24, raw >> 16 & 255, raw >> 8 & 255, raw & 255, error, name[0], name[1], name[2]]
    )


class Ivt:
    """The sensor, and frames for it every 20 ms."""

    def __init__(self, **more):
        self.sensor = IvtS(Entry("ivt_s", **more))
        self.counter = 0
        self.now = 1000

    def say(self, ma, state=0, times=1, n=6):
        for _ in range(times):
            self.now = (self.now + 20) & 0x1FFFFFFF
            self.counter += 1
            self.sensor.on_frame(self.sensor.ident, n, ivt(0, self.counter, state, ma), self.now)
        return self.sensor


class Cab:
    def __init__(self, **more):
        self.sensor = Cab500(Entry("cab500", **more))
        self.now = 1000

    def say(self, ma, error=0, times=1, n=8, name=b"CAB"):
        for _ in range(times):
            self.now = (self.now + 10) & 0x1FFFFFFF
            self.sensor.on_frame(self.sensor.ident, n, cab(ma, error, name), self.now)
        return self.sensor


def test_currents():
    for cls, most in ((Ivt, 3000000), (Cab, 550000)):
        for ma in (0, 1, -1, 255, 256, -256, 65535, -65536, 123456, -499999, most, -most):
            b = cls()
            s = b.say(ma, times=4)
            assert s.fresh(b.now)
            assert s.ma == ma
            assert s.error == 0
            assert s.saturated == (abs(ma) == most)


def test_examples_of_the_sheets():
    # mux 0, counter 5, no error, 0x0000C350 = 50 000 mA
    s = IvtS(Entry("ivt_s"))
    for counter in (0x05, 0x06, 0x07):
        s.on_frame(0x521, 6, bytearray([0, counter, 0, 0, 0xC3, 0x50, 0, 0]), 1000)
    assert s.ma == 50000
    # 80000000H = 0 mA, 7FFFFFFFH = -1 mA, 80000001H = 1 mA
    for data, ma in ((b"\x80\0\0\0", 0), (b"\x7f\xff\xff\xff", -1), (b"\x80\0\0\1", 1)):
        s = Cab500(Entry("cab500"))
        for _ in range(4):
            s.on_frame(0x3C2, 8, bytearray(data + b"\0CAB"), 1000)
        assert s.ma == ma


def test_a_step_counts_with_its_second_frame_and_a_spike_never():
    for cls in (Ivt, Cab):
        b = cls()
        assert b.say(1000, times=5).ma == 1000
        assert b.say(400000).ma == 1000
        assert b.say(400000).ma == 400000
        assert b.say(-300000).ma == 400000  # a single damaged one
        assert b.say(400000).ma == 400000
        assert b.say(400000).ma == 400000


def test_errors_that_the_ivt_says():
    for state, bad in ((0x10, False), (0x40, False), (0x20, True), (0x80, True), (0xF0, True)):
        b = Ivt()
        b.say(5000, times=4)
        before = b.sensor.samples
        b.say(777, state)
        assert (b.sensor.error != 0) == bad
        assert (b.sensor.samples == before) == bad
        assert b.sensor.fresh(b.now) != bad
        b.say(5000)
        assert b.sensor.error == 0


def test_errors_that_the_cab_says():
    b = Cab()
    b.say(5000, times=4)
    before = b.sensor.samples
    for code in (0x41, 0x42, 0x43, 0x44, 0x46, 0x47):
        b.say(5000, code << 1 | 1)
        assert b.sensor.error == code
    b.say(5000, 1)
    assert b.sensor.error == 1
    assert b.sensor.samples == before
    assert not b.sensor.fresh(b.now)
    b.say(5000)
    assert b.sensor.error == 0
    assert b.sensor.fresh(b.now)
    b.say(0x7FFFFFFF)  # what some models say besides
    assert b.sensor.ma == 5000
    assert b.sensor.damaged == 2  # and the first frame, whose name was new


def test_a_counter_that_stands_is_no_new_reading():
    b = Ivt()
    b.say(5000, times=4)
    samples = b.sensor.samples
    b.counter -= 1
    for _ in range(20):
        b.say(5000)
        b.counter -= 1
    assert b.sensor.samples == samples
    assert b.sensor.repeated == 20
    assert b.sensor.error == STUCK
    assert not b.sensor.fresh(b.now)
    b.counter += 1
    b.say(5000)
    assert b.sensor.error == 0
    assert b.sensor.fresh(b.now)


def test_lost_messages_are_counted():
    b = Ivt()
    b.say(0, times=4)
    b.counter += 3
    b.say(0)
    assert b.sensor.missed == 3
    assert b.say(0, times=40).missed == 3


def test_frames_that_cannot_be_right():
    b = Ivt()
    b.say(1000, times=4)
    for n in range(9):
        if n != 6:
            b.say(50000, times=3, n=n)
    for kind in range(1, 256):
        b.sensor.on_frame(0x521, 6, ivt(kind, kind, 0, 50000), b.now)
    for ma in (3000001, -3000001, 1 << 30, -(1 << 31), (1 << 31) - 1):
        b.say(ma, times=3)
    b.counter += 1
    assert b.sensor.ma == 1000
    assert b.sensor.damaged == 24 + 255 + 15
    b = Cab()
    b.say(1000, times=4)
    for n in range(8):
        b.say(50000, times=3, n=n)
    for k in range(30):
        b.say(50000, name=bytes([k, 1, 2]))
    for ma in (550001, -550001, 1 << 30, -(1 << 31)):
        b.say(ma, times=3)
    assert b.sensor.ma == 1000


def test_voltages_of_the_ivt():
    s = IvtS(Entry("ivt_s"))
    assert s.voltage(0, 1000) is None
    for which, mv in ((0, 401234), (1, -5), (2, 0)):
        s.on_frame(0x522 + which, 6, ivt(1 + which, 3, 0, mv), 1000)
        assert s.voltage(which, 1100) == mv
        assert s.voltage(which, 1300) is None
    s.on_frame(0x522, 6, ivt(1, 4, 0x20, 401234), 1050)
    assert s.voltage(0, 1050) is None
    assert s.samples == 0


def test_own_identifier_gain_and_sign():
    b = Ivt(id=0x100, gain_ppm=1010000, reversed=1)
    assert b.say(100000, times=3).ma == -101000
    b.sensor.offset_ma = 100
    assert b.say(100000, times=3).ma == -100899
    b = Cab(gain_ppm=990000)
    assert b.say(-500000, times=4).ma == -495000


def test_router():
    class Sink:
        def __init__(self):
            self.got = []

        def on_frame(self, ident, n, data, now):
            self.got.append(ident)

    owner, a, b = Sink(), Sink(), Sink()
    router = FrameRouter(owner)
    assert router.add(5, a) is None
    assert router.add(7, b) is None
    assert router.add(5, b) is a
    for ident in (5, 6, 7, 5, 2047, EXTENDED | 5):
        router.on_frame(ident, 0, None, 0)
    assert owner.got == [6, 2047, EXTENDED | 5]
    assert a.got == []
    assert b.got == [5, 7, 5]
    router = FrameRouter(None)
    router.on_frame(5, 0, None, 0)
    assert router.unexpected == 1


# --- on a port ---


def lines(*tables, **pack_file):
    """A pack file and [[sensor]] tables, each "key = value; .."."""
    out = pack_lines(**pack_file)
    for table in tables:
        out += ["[[sensor]]"] + [row.strip() for row in table.split(";")]
    return out


def _built(c, board):
    """Pack, limits and faults, as drivers need them."""
    clock = Clock(board.clock)
    pack = Pack(c)
    faults = Faults(clock, pack)
    currents = [StringCurrent(c, s) for s in range(pack.strings)]
    strings = Strings(c, board, faults, pack, currents, clock)
    return pack, Limits(c, pack, currents, faults, strings, clock.now), faults


class Shared:
    """Slave boards and a sensor on one CAN port, everything below the master."""

    def __init__(self, table, slaves_=2, ports=(("can0", "can"), ("can1", "can"))):
        c = pack_file.parse(lines(table, slaves=slaves_))
        self.board = FakeBoard(ports=ports)
        self.filters = {}
        open_can = self.board.open_can

        def opened(name, rate, filters):
            self.filters[name] = filters
            return open_can(name, rate, filters)

        self.board.open_can = opened
        self.clock = Clock(self.board.clock)
        pack = Pack(c)
        faults = Faults(self.clock, pack)
        currents = [StringCurrent(c, s) for s in range(pack.strings)]
        strings = Strings(c, self.board, faults, pack, currents, self.clock)
        limits = Limits(c, pack, currents, faults, strings, self.clock.now)
        found = sensors.build(c, self.board)
        self.drivers = slaves.build(c, self.board, pack, limits, faults, found)
        sensors.open_rest(c, self.board, found)
        self.source = sensors.string_sensors(
            c, found, currents, strings, pack, faults, self.clock.now
        )[0]
        self.sensor = found[0]
        self.pack = pack
        self.current = currents[0]
        self.boards = [FakeSlave(i + 1, [3300] * 4, [250] * 2) for i in range(slaves_)]
        self.seq = 0
        self.counter = 0

    def answer(self):
        wire = self.board.wires["can0"]
        for frame in wire.sent():
            for board in self.boards:
                wire.give_all(board.receive(frame, "can"))

    def run(self, ms, ma=None, port="can0", scan=True):
        for i in range(ms // 10):
            self.board.clock.pass_ms(10)
            now = self.clock.tick()
            if scan and i % 10 == 0:
                self.seq = (self.seq + 1) & 255
                self.drivers[0].begin(self.seq, now)
            self.answer()
            if ma is not None:
                self.counter += 1
                if self.sensor.kind == "ivt_s":
                    frame = (self.sensor.ident, ivt(0, self.counter, 0, ma)[:6])
                else:
                    frame = (self.sensor.ident, cab(ma))
                self.board.wires[port].give(frame)
            self.drivers[0].step(now)
            self.source.step(now)


def test_it_shares_a_port_with_slaves():
    for kind, idents in (("ivt_s", (0x521, 0x522, 0x523, 0x524)), ("cab500", (0x3C2,))):
        b = Shared('kind = "%s"; link = "can0"' % kind)
        b.run(1000, 12345)
        assert b.pack.cell.count == 0 or b.pack.all_known()
        b.run(500, 12345)
        assert b.pack.all_known()
        assert b.current.ma == 12345
        assert b.current.valid
        driver = b.drivers[0]
        assert driver.unexpected == 0
        assert driver.damaged == 0
        for i in range(8):
            assert b.pack.cell_flags[i] & 1
        for ident in idents:
            assert (ident, 0x7FF) in b.filters["can0"]
        assert len(b.filters["can0"]) == 5 + len(idents)  # those of the slaves as well


def test_alone_on_a_port():
    for kind in ("ivt_s", "cab500"):
        b = Shared('kind = "%s"; link = "can1"' % kind)
        b.run(200, -4000, "can1")
        assert b.current.ma == -4000
        assert b.sensor.link.rx > 10
        b.board.wires["can1"].give((0x123, b"abc"))
        b.run(20)
        assert b.sensor.sink.unexpected == 1


def test_identifiers_of_slaves_are_theirs():
    # STATUS of node 33 is 0x521; CELLS 7 of node 2 is 0x3C2, if it has so many cells
    for node, cells, kind, clash in (
        (33, 4, "ivt_s", True),
        (36, 4, "ivt_s", True),
        (37, 4, "ivt_s", False),
        (2, 32, "cab500", True),
        (2, 28, "cab500", False),
    ):
        text = lines('kind = "%s"; link = "can0"' % kind, slaves=1, cells=cells)
        text[text.index('node = "1"')] = 'node = "%d"' % node
        c = pack_file.parse(text)
        board = FakeBoard()
        args = (c, board) + _built(c, board) + (sensors.build(c, board),)
        if clash:
            error = raises(ConfigError, slaves.build, *args)
            assert error.key == "id"
        else:
            slaves.build(*args)


def test_build_refuses_by_line():
    ports = (("can0", "can"), ("uart0", "uart"))
    for table, key, says in (
        ('kind = "none"; link = "can0"', "kind", "ivt_s"),
        ('kind = "ivt_s"', "link", "missing"),
        ('kind = "ivt_s"; link = "can9"', "link", "can0"),
        ('kind = "cab500"; link = "uart0"', "link", "can0"),
        ('kind = "ivt_s"; link = "can0"; shunt = "100 uohm"', "shunt", "no such setting"),
        ('kind = "ivt_s"; link = "can0"; id = 2045', "id", "2047"),
        ('kind = "ivt_s"; link = "can0"; string = 2', "string", "no [[sensor]]"),
        ('kind = "ina228"; link = "i2c0"; shunt = "100 uohm"; range = "100 A"', "link", "none"),
    ):
        c = pack_file.parse(lines(table))
        board = FakeBoard(ports=ports)
        board.I2CS = ()
        error = raises(ConfigError, sensors.build, c, board)
        assert error.key == key, (table, error)
        assert says in error.reason, (table, error)
        assert error.line > 0 or key == "string"
    both = 'kind = "ivt_s"; link = "can0"'
    c = pack_file.parse(lines(both, both))
    board = FakeBoard(ports=ports)
    args = (c, board) + _built(c, board) + (sensors.build(c, board),)
    error = raises(ConfigError, slaves.build, *args)
    assert error.key == "id"


def test_arbitrary_frames_never_raise():
    r = Random(7)
    for cls, kind in ((IvtS, "ivt_s"), (Cab500, "cab500")):
        s = cls(Entry(kind))
        now = 0
        for _ in range(4000):
            now += 10
            n = r.below(9)
            data = bytearray(r.bytes(8))
            if r.below(2):
                data[0] = r.below(5) if kind == "ivt_s" else 0x80
            s.on_frame(s.ident + r.below(1 + s.LATER), n, data, now)
            assert -s.range_ma <= s.raw <= s.range_ma
            assert -s.range_ma <= s.ma <= s.range_ma


def test_the_steady_state_never_allocates():
    for kind in ("ivt_s", "cab500"):
        b = Shared('kind = "%s"; link = "can0"; gain = "1000123 ppm"' % kind)
        b.run(1500, 1000)
        sink = b.drivers[0].sink
        frames = []
        for k in range(16):
            if kind == "ivt_s":
                frames.append(ivt(0, k, 0, 300000 - 77777 * k))
            else:
                frames.append(cab(300000 - 37777 * k))
        ident = b.sensor.ident
        n = 6 if kind == "ivt_s" else 8
        before = b.sensor.samples
        now = b.clock.now
        gc.collect()
        if LOCKS:
            micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
        try:
            k = 0
            while k < 320:
                now = (now + 20) & 0x1FFFFFFF
                sink.on_frame(ident, n, frames[(k + b.counter + 1) & 15], now)
                b.source.step(now)
                b.source.tick(now)
                k += 1
        finally:
            if LOCKS:
                micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
        assert b.sensor.samples - before >= 318
