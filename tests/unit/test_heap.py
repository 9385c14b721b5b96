"""The cycle never allocates: it runs with the heap locked, telemetry and console included.

Storage has its own window. Under CPython, where no heap can be locked, the same cycles run and must
do the same.
"""

import gc

from bms import heap_lock
from bms.config import pack_file, schema
from bms.contactors.sequence import CLOSED, OPEN
from bms.master import Master
from bms.protection import fault_ids as F
from fake_storage import Slots
from fakes import FakeBoard, FakeSlave, FakeStream, pack_lines, raises

SCANS = 54
LINKS = ("can0", "uart0")


class Bus(FakeStream):
    """A port whose answers were made beforehand: scan k, board n. Nothing in it allocates."""

    def __init__(self, medium):
        FakeStream.__init__(self, 1 << 20)
        self.medium = medium
        self.master = None
        self.first = 0
        self.scans = []
        self.scan = 0
        self.part = 1
        self.last = 0
        self.done = 0
        self.written = 0
        self.unpolled = 0

    def read(self, buf):
        if self.master is None:
            return FakeStream.read(self, buf)
        n = 0
        while self.part <= self.last and n < len(buf):
            data = self.scans[self.scan][self.part]
            if self.done < len(data):
                buf[n] = data[self.done]
                n += 1
                self.done += 1
            else:
                self.part += 1
                self.done = 0
        return n

    def write(self, buf, start, n):
        if self.master is None:
            return FakeStream.write(self, buf, start, n)
        self.written += n
        if self.medium == "can":
            # t0402...: everybody; t0N1...: one after the other, those that were missed
            if buf[start] == 0x74 and buf[start + 2] == 0x34:
                node = buf[start + 3] - 0x30
                self._answer(node - 1 if node else 0, node - 1 if node else 3)
        elif buf[start] == 2 and 0x41 <= buf[start + 1] <= 0x44:
            self._answer(buf[start + 1] - 0x41, buf[start + 1] - 0x41)
        return n

    def _answer(self, part, last):
        k = (self.master._seq - self.first) & 255
        if k >= len(self.scans):
            self.unpolled += 1
            return
        self.scan = k
        self.part = part
        self.last = last
        self.done = 0


class Commands(FakeStream):
    """Counts what it takes; gives one prepared line at a time."""

    def __init__(self):
        FakeStream.__init__(self, 1 << 20)
        self.lines = []
        self.line = 0
        self.at = 0
        self.written = 0

    def read(self, buf):
        n = 0
        if self.line < len(self.lines):
            line = self.lines[self.line]
            while self.at < len(line) and n < len(buf):
                buf[n] = line[self.at]
                self.at += 1
                n += 1
        return n

    def write(self, buf, start, n):
        self.written += n
        return n

    def next(self):
        self.line += 1
        self.at = 0


class Board(FakeBoard):
    """As FakeBoard, but it keeps no history."""

    def __init__(self):
        FakeBoard.__init__(self)
        self.console = Commands()
        self.fed = 0

    def coil(self, which, pm):
        if which not in (0, 1, 2) or pm not in (0, 1000):
            raise ValueError("no such coil or level")
        self.coils[which] = pm

    def feed(self):
        self.fed += 1


def _run(m, ms):
    end = m.board.clock.total_ms + ms
    cycles = 0
    while m.board.clock.total_ms < end:
        m.step()
        m.board.wait(m._rest())
        cycles += 1
    return cycles


def _locked(m, ms):
    """Cycles with the heap locked, a line of the console's every 330 ms; MemoryError, or how many.

    Nothing in here may allocate either: no `*args`, no slices.
    """
    gc.collect()
    cycles = 0
    heap_lock.lock()
    try:
        while ms > 0:
            cycles += _run(m, 330 if ms > 330 else ms)
            ms -= 330
            m.board.console.next()
    finally:
        heap_lock.unlock()
    return cycles


def _master(link, change=None):
    """A closed master of 4 x 16 cells; `change(k, slaves)` makes the readings of scan k."""
    gc.collect()
    board = Board()
    board.storage = Slots(12)
    wire = board.wires[link]
    wire.stream = bus = Bus(wire.medium)
    m = Master(pack_file.parse(pack_lines(slaves=4, cells=16, temps=4, link=link)), board)
    slaves = [FakeSlave(i + 1, [3400] * 16, [250] * 4) for i in range(4)]
    board.pack_mv = 3400 * 64
    for i in range(3000):
        m.step()
        answered = False
        for frame in wire.sent():
            for slave in slaves:
                answered |= wire.give_all(slave.receive(frame, wire.medium))
        board.wait(1 if answered else m._rest())
        if i == 500:
            assert m.strings.close(m.clock.now) is None
        if m.strings.state == CLOSED and m.drivers[0].done:
            break
    assert m.strings.state == CLOSED
    m.telemetry._changes[0] = -1
    # what comes from here on
    bus.first = (m._seq + 1) & 255
    for k in range(SCANS):
        for i in range(4):
            slaves[i].mv = [3400 + (7 * c + k + 5 * i) % 40 for c in range(16)]
            slaves[i].dc = [250 + (k + c) % 30 for c in range(4)]
        if change:
            change(k, slaves)
        seq = (bus.first + k) & 255
        bus.scans.append(
            [b"".join([wire.encode(*f) for f in slave.frames(seq)]) for slave in slaves]
        )
    bus.master = m
    board.console.written = 0
    m.store._period = 1000  # it writes while closed, too
    return m


def _telemetry(link):
    m = _master(link)
    scans, lines, balancing_cells = m.scans, m.tx_buffer.lines, m.balancing.cells
    written = m.board.wires[link].stream.written
    cycles = _locked(m, 5000)
    assert cycles >= 200
    assert 49 <= m.scans - scans <= 54  # each line of the console's may end a piece late
    assert m.strings.state == CLOSED
    assert m.faults.trips == 0
    assert m.pack.cell.complete
    assert m.balancing.cells > 0 == balancing_cells  # it plans and sends masks, too
    assert m.tx_buffer.lines - lines >= 25  # status and four times cells, every second
    assert m.board.console.written > 5000
    assert m.board.wires[link].stream.written - written > 100
    assert m.board.wires[link].stream.unpolled == 0
    assert m.board.fed > 50


def test_the_cycle_with_telemetry():
    for link in LINKS:
        _telemetry(link)


def _trip(link):
    def change(k, slaves):
        if k >= 20:
            slaves[2].mv[5] = 3900

    m = _master(link, change)
    _locked(m, 4500)
    assert m.board.coils[:3] == [0, 0, 0]
    assert m.freeze_frame.ready and m.store.frames == 1
    assert m.faults.place[m.faults.first] == 37
    assert m.faults.events >= 1
    assert m.faults.read == m.faults.events


def test_a_trip():
    for link in LINKS:
        _trip(link)


def _missing(link):
    def change(k, slaves):
        slaves[1].skip = (9,) if k % 3 == 1 else ()
        slaves[3].delay_seq = 1 if k > 30 else 0

    m = _master(link, change)
    _locked(m, 5000)
    assert m.board.coils[:3] == [0, 0, 0]
    assert m.drivers[0].missed > 10
    assert m.drivers[0].stale > 10


def test_missing_frames_conflicts_and_lost_readings():
    for link in LINKS:
        _missing(link)


def test_every_command():
    m = _master("can0")
    console = m.board.console
    console.lines = [
        line + b"\n"
        for line in (
            b"help",
            b"status",
            b"cells",
            b"strings",
            b"faults",
            b"events",
            b"balance off",
            b"balance on",
            b"balance",
            b"balance what",
            b"cells now",
            b"clear welded",
            b"clear deep",
            b"limits",
            b"config",
            b"version",
            b"history",
            b"frames",
            b"pack",
            b"close",
            b"clear",
            b"open",
            b"reset",
            b"service yes",
            b"nonsense",
            b"much too long a line to be any command of this console",
        )
    ]

    before = m.tx_buffer.lines
    console.line = 0
    _locked(m, 330 * len(console.lines))
    assert m.tx_buffer.lines - before > 100
    assert m.console.refused == 4
    assert m.board.coils[:3] == [0, 0, 0]


def test_a_port_that_nobody_reads():
    m = _master("can0")
    m.board.console.write = lambda buf, start, n: 0
    _locked(m, 5500)
    assert m.tx_buffer.dropped > 0
    assert m.strings.state == CLOSED


def test_this_test_can_fail():
    if not heap_lock.LOCKS:
        return
    m = _master("can0")
    for part, name in (
        (m.limits, "check_ages"),
        (m.limits, "scan_finished"),
        (m.limits, "evaluate_next"),
        (m.strings, "step"),
        (m.balancing, "step"),
        (m.telemetry, "_status"),
        (m.tx_buffer, "flush"),
    ):
        real = getattr(part, name)

        def wrapped(now=None, real=real):
            done = real() if now is None else real(now)
            return [1, 2, 3] if greedy else done

        setattr(part, name, wrapped)
        greedy = False
        _locked(m, 1100)
        greedy = True
        raises(MemoryError, _locked, m, 1100)
        setattr(part, name, real)


def test_every_fault_and_its_text():
    m = _master("can0")
    faults = m.faults
    ends = (m.pack.cells, m.pack.temps, m.pack.slaves, 3 * m.pack.strings, m.pack.strings)
    gc.collect()
    lines = m.tx_buffer.lines
    heap_lock.lock()
    try:
        for fault in range(1, faults.rows):
            kind = faults.kind[fault]
            faults.set(fault, -1 if kind == F.NOWHERE else ends[kind - 1] - 1, -12345)
            _run(m, 60)
            faults.clear(fault, -1 if kind == F.NOWHERE else 0)
            _run(m, 60)
            if fault % 8 == 0:
                m.telemetry.request(7)  # `faults`
                faults.acknowledge()
    finally:
        heap_lock.unlock()
    assert m.tx_buffer.lines - lines > 2 * faults.rows
    assert m.board.coils[:3] == [0, 0, 0]


def _refusal(m):
    heap_lock.lock()
    try:
        return m.strings.close(m.clock.now)
    finally:
        heap_lock.unlock()


def test_every_refusal():
    m = _master("can0")
    c = m.strings.each[0]
    pack = m.pack
    m.strings.open(m.clock.now)
    _run(m, 1000)
    c._opened = False  # `reclose` is over
    assert c.state == OPEN
    for name, value in (("locked", True), ("state", CLOSED), ("_opened", True)):
        kept = getattr(c, name)
        c._opened_at = m.clock.now
        setattr(c, name, value)
        assert _refusal(m) is not None, name
        setattr(c, name, kept)
    kept = pack.link_mv
    pack.link_mv = None
    assert _refusal(m) is not None
    pack.link_mv = kept
    for flags in (pack.known, pack.cell_flags, pack.temp_flags):
        kept = flags[0]
        flags[0] = 0
        pack.update()
        assert _refusal(m) is not None
        flags[0] = kept
    pack.update()
    m.board.wired[0] = False
    assert _refusal(m) == b"the contactor feedback is not wired"
    m.board.wired[0] = True
    m.currents[0].valid = False
    assert _refusal(m) == b"the current is not measured"
    m.currents[0].valid = True
    assert _refusal(m) is None


class Greedy:
    """Takes the place of a method, and allocates from `first` on `times` times."""

    def __init__(self, part, name, first, times):
        self._real = getattr(part, name)
        self._part = part
        self._name = name
        self._wait = first
        self.left = times
        self.kept = None
        setattr(part, name, self.call)

    def call(self, now):
        if self._wait:
            self._wait -= 1
        elif self.left:
            self.kept = [now, self.left]
            self.left -= 1
        return self._real(now)


def _on_the_road(m, ms):
    """`Master.run`, as on a board, for some time."""
    board = m.board
    end = board.clock.total_ms + ms
    wait = board.wait

    def waits(rest):
        wait(rest)
        if board.clock.total_ms >= end:
            m.leaving = True
            m._leave_at = (m.clock.now - 1000) & 0x1FFFFFFF

    board.wait = waits
    try:
        m.run()
    finally:
        board.wait = wait
        m.leaving = False


def _warnings(m):
    f = m.faults
    return [f.event_change[i] for i in range(f.events) if f.event_slot[i] == F.MEMORY_ERROR]


def test_an_allocation_on_the_road_warns_and_opens_nothing():
    if not heap_lock.LOCKS:
        return
    for name in ("step", "check_ages", "evaluate_next", "look"):
        m = _master("can0")
        part = {
            "step": m.strings,
            "check_ages": m.limits,
            "evaluate_next": m.limits,
            "look": m.telemetry,
        }[name]
        greedy = Greedy(part, name, 30, 1)
        _on_the_road(m, 5000)
        assert greedy.left == 0 and greedy.kept
        assert m.memory_errors == 1
        assert m.strings.state == CLOSED and m.faults.trips == 0
        assert _warnings(m) == [F.SET]
        assert m.faults.active[m.faults.slot(F.MEMORY_ERROR, 0)]
        assert m.drivers[0].missed == 0
        m.store.installed = False
        m._lock_at = m.clock.now
        m._unlocked = True
        _on_the_road(m, 100)
        assert _warnings(m) == [F.SET, F.CLEAR]
        assert m.memory_errors == 1


def test_what_allocates_for_ever_still_trips():
    if not heap_lock.LOCKS:
        return

    def change(k, slaves):
        if k >= 20:
            slaves[2].mv[5] = 3900

    m = _master("can0", change)
    Greedy(m.strings, "trip", 0, 1 << 20)
    Greedy(m.strings, "step", 0, 1 << 20)
    fed = m.board.fed
    _on_the_road(m, 3000)
    assert m.board.coils[:3] == [0, 0, 0]
    assert m.faults.first == F.CELL_HARD_HIGH
    assert m.faults.place[m.faults.first_slot] == 37
    assert m.board.fed - fed > 30


def test_an_allocation_in_the_trip_itself():
    if not heap_lock.LOCKS:
        return

    def change(k, slaves):
        if k == 20:
            slaves[2].mv[5] = 3900  # one reading only

    m = _master("can0", change)
    Greedy(m.strings, "trip", 0, 1)
    _on_the_road(m, 2150)
    assert m.memory_errors == 1
    assert m.board.coils[:3] == [0, 0, 0]
    assert m.faults.first == F.CELL_HARD_HIGH
    assert m.faults.place[m.faults.first_slot] == 37


def test_no_memory_at_all_ends_the_program():
    m = _master("can0")

    def none(now):
        raise MemoryError

    m.strings.step = none
    raises(MemoryError, _on_the_road, m, 1000)
    assert not heap_lock.unlock()  # as a crash finds it: its text needs memory


def _long(value):
    """As a frozen image holds an int of 8192 or more."""
    return pow(value, 1, 1 << 80) if value > 0 else value


def _rows(rows):
    return tuple([tuple([_long(x) if isinstance(x, int) else x for x in row]) for row in rows])


def _adds(value):
    """Whether it can be computed with while the heap is locked."""
    heap_lock.lock()
    try:
        return value + 1 > value
    except MemoryError:
        return False
    finally:
        heap_lock.unlock()


def test_all_settings_are_small_ints():
    assert _adds(10000)
    assert _adds(_long(10000)) is not heap_lock.LOCKS
    tables = ("SETTINGS", "SLAVE_KEYS", "LINK_KEYS", "SENSOR_KEYS")
    kept = [getattr(schema, name) for name in tables]
    read = 0
    try:
        for name in tables:
            setattr(schema, name, _rows(getattr(schema, name)))
        for chemistry in ("LFP", "NMC"):
            c = pack_file.parse(
                pack_lines(
                    slaves=2,
                    chemistry=chemistry,
                    behind='[[link]]; port = "can0"; rate = "250 kbit/s"',
                )
            )
            for value in c.values:
                assert _adds(value)
                read += 1
            for part in c.slaves + c.links + c.sensors:
                for name in part.__dict__:
                    value = getattr(part, name)
                    if isinstance(value, int):
                        assert _adds(value), name
                        read += 1
            assert len(c.sensors) == 1 and len(c.links) == 1
    finally:
        for i in range(len(tables)):
            setattr(schema, tables[i], kept[i])
    assert read > 2 * 150
