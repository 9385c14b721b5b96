"""A strict board, a wire with slave boards, and parts of the firmware put together for tests.

Runs under CPython and MicroPython. Frames are built bit by bit from the protocol's layout and
share no code with the firmware. What a real board refuses is refused here by an exception.
"""

import json

from bms.clock import Clock
from bms.config import pack_file
from bms.contactors.strings import Strings
from bms.links.can import BITS, EXTENDED
from bms.links.slcan import Slcan
from bms.master import Master
from bms.pack import FRESH, NEW, SEEN, Pack
from bms.protection import fault_ids as F
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from bms.slaves import build as slaves_

ALARM, SCAN, BALANCE, HELLO, ASSIGN = range(5)
CELLS, TEMPS, STATUS = 0x08, 0x10, 0x14
MASK29 = (1 << 29) - 1


def raises(cls, fn, *args):
    """Call; the exception of class `cls` that it must raise."""
    try:
        fn(*args)
    except cls as error:
        return error
    raise AssertionError(f"{cls.__name__} was not raised")


class Random:
    """The same numbers on every runtime."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % n

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def bytes(self, n):
        return bytes([self.below(256) for _ in range(n)])


# --- frames ---


def check_ages(limits, now):
    """Evaluate all ages, as the master does in a tick."""
    if limits._pack.may_expire(now):
        while limits.expire_next(now):
            pass
    limits.check_ages(now)


def crc8(data):
    """CRC-8 SAE J1850, bit by bit."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x11D) if crc & 0x80 else crc << 1
    return crc ^ 0xFF


def crc16(data):
    """CRC-16/CCITT-FALSE, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x11021) if crc & 0x8000 else crc << 1
    return crc


def ident_of(function, node):
    return function << 6 | node


def with_crc(function, node, payload):
    """(id, payload and its CRC-8)."""
    ident = ident_of(function, node)
    payload = bytes(payload)
    return ident, payload + bytes([crc8(bytes([ident >> 8, ident & 255]) + payload)])


def four(function, node, raw, seq):
    """Four 13-bit values and four bits of seq, the first in the lowest bits."""
    bits = 0
    for k in range(4):
        bits |= (raw[k] if k < len(raw) else 8191) << (13 * k)
    bits |= (seq & 15) << 52
    return with_crc(function, node, [(bits >> (8 * i)) & 255 for i in range(7)])


def cells_frame(node, k, mv, seq):
    """CELLS k of a node; mV, None = no reading."""
    return four(CELLS + k, node, [8191 if v is None else v for v in mv], seq)


def temps_frame(node, k, dc, seq):
    """TEMPS k of a node; 0.1 degC, None = no reading."""
    return four(TEMPS + k, node, [8191 if v is None else v + 1000 for v in dc], seq)


def status_frame(node, seq, stack_mv, flags=0, die_c=25):
    raw = stack_mv // 10
    return with_crc(
        STATUS,
        node,
        [raw & 255, raw >> 8, flags & 255, flags >> 8, die_c + 40, 0, seq & 255],
    )


def alarm_frame(node, flags, cell, mv, seq=0):
    return with_crc(ALARM, node, [flags & 255, flags >> 8, cell, mv & 255, mv >> 8, seq])


def hello_frame(node, cells, temps, serial=0, version=1):
    tail = [(serial >> (8 * i)) & 255 for i in range(4)]
    return ident_of(HELLO, node), bytes([version, cells, temps, 1] + tail)


def slcan_bytes(ident, data):
    if ident & EXTENDED:
        text = f"T{ident & BITS:08X}{len(data)}"
    else:
        text = f"t{ident:03X}{len(data)}"
    for byte in data:
        text += f"{byte:02X}"
    return text.encode() + b"\r"


def cobs_bytes(ident, data):
    plain = bytes([ident & 255, ident >> 8]) + bytes(data)
    crc = crc16(plain)
    plain += bytes([crc & 255, crc >> 8])
    out = b""
    for block in plain.split(b"\0"):
        out += bytes([len(block) + 1]) + block
    return out + b"\0"


def _from_slcan(piece):
    if piece[:1] not in (b"t", b"T"):
        return None
    at = 4 if piece[:1] == b"t" else 9
    n = int(piece[at : at + 1])
    at += 1
    assert len(piece) == at + 2 * n, piece
    ident = int(piece[1 : at - 1], 16) | (EXTENDED if at == 10 else 0)
    return ident, bytes([int(piece[at + 2 * i : at + 2 * i + 2], 16) for i in range(n)])


def _from_cobs(piece):
    plain = b""
    while piece:
        assert piece[0] <= len(piece), "broken COBS"
        plain += piece[1 : piece[0]]
        piece = piece[piece[0] :]
        if piece:
            plain += b"\0"
    assert crc16(plain[:-2]) == plain[-2] | plain[-1] << 8, "wrong CRC"
    return plain[0] | plain[1] << 8, plain[2:-2]


# --- the board ---


class FakeClock:
    """29-bit ticks under the test's control."""

    def __init__(self, ms=1000):
        self.total_ms = ms

    def ms(self):
        return self.total_ms & MASK29

    def us(self):
        return (self.total_ms * 1000) & MASK29

    def pass_ms(self, ms):
        if ms < 0:
            raise ValueError("time does not go back")
        self.total_ms += ms


class FakeStream:
    """A serial port with bounded room; refuses what `readinto` and `write` of a real one refuse."""

    def __init__(self, room=4096):
        self.room = room  # bytes that it takes until `took` empties it
        self._in = []  # pieces that came; many small ones suit a small heap
        self._at = 0  # read of the first one
        self._out = b""

    def left(self):
        """Bytes that came and were not read."""
        return sum([len(piece) for piece in self._in]) - self._at

    def read(self, buf):
        if not isinstance(buf, bytearray) or not buf:
            raise TypeError("read needs a bytearray")
        n = 0
        while self._in and n < len(buf):
            piece = self._in[0]
            take = min(len(piece) - self._at, len(buf) - n)
            buf[n : n + take] = piece[self._at : self._at + take]
            n += take
            self._at += take
            if self._at == len(piece):
                self._in.pop(0)
                self._at = 0
        return n

    def write(self, buf, start, n):
        if not isinstance(buf, (bytes, bytearray)):
            raise TypeError("write needs bytes")
        if start < 0 or n < 1 or start + n > len(buf):
            raise ValueError("not inside the buffer")
        n = max(0, min(n, self.room - len(self._out)))
        self._out += bytes(buf[start : start + n])
        return n

    def give(self, data):
        """Bytes that come in."""
        if data:
            self._in.append(bytes(data))

    def took(self):
        """Bytes that went out since the last call."""
        out, self._out = self._out, b""
        return out


class FakeBoard:
    """Coils, feedback, sensors and ports; `history`: (ms, coil, on) of every change."""

    NAME = "FAKE"
    HEAP_IS_CHEAP = True
    ring = None
    STRINGS = 3
    MEASURES = ("current_sensor", "link_sensor", "voltage_sensor", "isolation_sensor")
    ADCS = ("A", "B", "C")
    I2CS = ("i2c0",)

    def __init__(self, ports=(("can0", "can"), ("uart0", "uart")), ms=1000):
        self.clock = FakeClock(ms)
        self.console = FakeStream()
        self.ports = dict(ports)
        self.wires = {name: Wire(self.ports[name]) for name in self.ports}
        self.opened = []
        self.pack_path = ""
        self.storage = None
        self.cause = b"power_on"
        self.coils = [0] * 9  # permille
        self.history = []
        self.wired = [True] * 9
        self.stuck = [None] * 9  # 0 or 1: what an auxiliary contact says for ever
        self.ma = 0  # of each string; None: the sensor is silent
        self.string_ma = {}  # mA of a string that has another one
        self.ma_every = 10
        self.link = None  # mV; None: follows the contactors towards pack_mv
        self.has_link_sensor = True
        self.pack_mv = 0
        self.string_measured = {}  # mV of strings that are measured
        self.kohm = None
        self.mv = [1650, 1650, 1650]  # at the ADC's channels
        self.adc_reads = 0
        self.chip = None  # an INA228, where one is asked for
        self.bits = 7  # of inputs()
        self.guarded = 0
        self._cuts = 0
        self.cut = False  # until rearm()
        self.feeds = []
        self.safe_calls = 0
        self.starts = 0
        self.ends = []
        self.kept = 0
        self._ma_at = [-1000] * 3

    def open_can(self, name, rate, filters):
        if self.ports[name] != "can":
            raise ValueError("no CAN there")
        self.opened.append((name, rate))
        return Slcan(self.wires[name].stream, rate)

    def open_uart(self, name, rate):
        if self.ports[name] != "uart":
            raise ValueError("no UART there")
        self.opened.append((name, rate))
        return self.wires[name].stream

    def forget(self):
        pass

    def reset_cause(self):
        return self.cause

    def started(self):
        self.starts += 1

    def self_test(self):
        return b"ok"

    def pending(self):
        return False

    def keep(self):
        self.kept += 1

    def ended(self, restart):
        self.ends.append(restart)

    def heap_used(self):
        return 1234

    def heap_free(self):
        return 4321

    def coil(self, which, pm):
        if not 0 <= which < 9 or not 0 <= pm <= 1000 or pm == 1:
            raise ValueError(f"no such coil or level: {which} {pm}")
        if self.cut:
            pm = 0
        if self.coils[which] != pm:
            self.coils[which] = pm
            self.history.append((self.clock.total_ms, which, pm))

    def feedback(self, which):
        if not 0 <= which < 9:
            raise ValueError("no such contactor")
        if not self.wired[which]:
            return None
        stuck = self.stuck[which]
        return (1 if self.coils[which] else 0) if stuck is None else stuck

    def current_ma(self, string):
        now = self.clock.total_ms
        ma = self.string_ma.get(string, self.ma)
        if ma is None or now - self._ma_at[string] < self.ma_every:
            return None
        self._ma_at[string] = now
        return ma

    def string_mv(self, string):
        return self.string_measured.get(string)

    def isolation_kohm(self):
        return self.kohm

    def adc_mv(self, channel):
        if not 0 <= channel < len(self.ADCS):
            raise ValueError("no such channel")
        self.adc_reads += 1
        return self.mv[channel]

    def open_i2c(self, name, hz):
        from ina228_chip import Chip

        self.chip = Chip()
        return self.chip

    def inputs(self):
        return self.bits

    def guard(self, mask):
        self.guarded = mask
        self.say(self.bits)

    def say(self, bits):
        """The inputs change: an edge for the board's interrupt."""
        self.bits = bits
        bad = self.guarded & ~bits
        if bad:
            self._cuts |= bad
            self.safe()
            self.cut = True

    def check_cuts(self):
        bits = self._cuts
        self._cuts = 0
        return bits

    def rearm(self):
        self.cut = False

    def link_mv(self):
        if not self.has_link_sensor:
            return None
        if self.link is not None:
            return self.link
        for i in range(0, 9, 3):
            if self.coils[i] and (self.coils[i + 1] or self.coils[i + 2]):
                return self.pack_mv
        return 0

    def feed(self):
        self.feeds.append(self.clock.total_ms)

    def safe(self):
        self.safe_calls += 1
        for which in range(9):
            self.coil(which, 0)

    def wait(self, ms):
        if not isinstance(ms, int) or ms < 0:
            raise ValueError("cannot wait a negative time")
        self.clock.pass_ms(ms)
        if self.chip is not None:
            self.chip.passes(1000 * ms)


class Wire:
    """The far end of a port: frames that the master sent, frames for it."""

    def __init__(self, medium):
        self.medium = medium
        self.stream = FakeStream(1 << 20)
        self._piece = b""

    def sent(self):
        """(id, data) of every frame since the last call; the adapter's commands are left out."""
        delimiter = b"\r" if self.medium == "can" else b"\0"
        pieces = (self._piece + self.stream.took()).split(delimiter)
        self._piece = pieces[-1]
        decode = _from_slcan if self.medium == "can" else _from_cobs
        frames = [decode(piece) for piece in pieces[:-1] if piece]
        return [frame for frame in frames if frame is not None]

    def encode(self, ident, data):
        return (slcan_bytes if self.medium == "can" else cobs_bytes)(ident, data)

    def give(self, frame):
        self.stream.give(self.encode(frame[0], frame[1]))

    def give_all(self, frames):
        """Frames in one piece: a small heap likes it; True where there is one."""
        self.stream.give(b"".join([self.encode(ident, data) for ident, data in frames]))
        return bool(frames)


class FakeSlave:
    """A slave board. `mv`, `dc`: readings, None = none; `balance_commands`: (mask, s) received.

    Faults: alive, skip (functions that it does not send), delay_seq (answers to an older scan).
    """

    def __init__(self, node, mv, dc, serial=0):
        self.node = node
        self.mv = mv
        self.dc = dc
        self.serial = serial
        self.alive = True
        self.skip = ()
        self.delay_seq = 0
        self.flags = 0
        self.die_c = 25
        self.stack_error = 0
        self.balance_commands = []
        self.scans = 0

    def frames(self, seq):
        """All answers to a scan."""
        seq = (seq - self.delay_seq) & 255
        out = []
        for k in range((len(self.mv) + 3) // 4):
            out.append(cells_frame(self.node, k, self.mv[4 * k : 4 * k + 4], seq))
        for k in range((len(self.dc) + 3) // 4):
            out.append(temps_frame(self.node, k, self.dc[4 * k : 4 * k + 4], seq))
        stack = sum([3300 if v is None else v for v in self.mv]) + self.stack_error
        out.append(status_frame(self.node, seq, stack, self.flags, self.die_c))
        return [frame for frame in out if frame[0] >> 6 not in self.skip]

    def hello(self):
        return hello_frame(self.node, len(self.mv), len(self.dc), self.serial)

    def receive(self, frame, medium):
        """What it answers to a frame of the master."""
        ident, data = frame
        function, node = ident >> 6, ident & 63
        if not self.alive or node not in (0, self.node):
            return []
        if function == SCAN:
            if node == 0:
                self.scans += 1
                if medium == "uart":
                    return []
            return self.frames(data[0])
        if function == HELLO and not data:
            return [self.hello()]
        if function == BALANCE:
            assert crc8(bytes([ident >> 8, ident & 255]) + data[:7]) == data[7]
            mask = data[0] | data[1] << 8 | data[2] << 16 | data[3] << 24
            self.balance_commands.append((mask, data[4]))
        if function == ASSIGN and data[:4] == self.hello()[1][4:]:
            self.node = data[4]
            return [self.hello()]
        return []


# --- parts of the firmware ---


def pack_lines(slaves=1, cells=4, temps=2, link="can0", chemistry="LFP", parallel=1, **tables):
    """Lines of a valid pack file; limits="cell_delay = ...; .." adds to or replaces in a table.

    `slaves` in all, the same number in each of the `parallel` strings; behind="[[slave]]; ..":
    lines at the end.
    """
    content = {
        "pack": f'name = "test"; chemistry = "{chemistry}"; cells = {slaves * cells};'
        ' capacity = "100 Ah"',
        "limits": 'charge_max = "100 A"; discharge_max = "200 A"; current_hard_max = "400 A"',
    }
    lines = []
    for name in (
        "pack",
        "limits",
        "scan",
        "contactors",
        "strings",
        "inputs",
        "balancing",
        "power",
        "soc",
        "store",
        "telemetry",
    ):
        rows = [row.strip() for row in tables.get(name, "").split(";") if row.strip()]
        given = [row.split("=")[0].strip() for row in rows]
        for row in content.get(name, "").split(";"):
            if row.strip() and row.split("=")[0].strip() not in given:
                rows.append(row.strip())
        if rows:
            lines += ["[" + name + "]"] + rows
    per = slaves // parallel
    for string in range(parallel):
        first = string * per + 1
        node = f"{first}-{first + per - 1}" if per > 1 else str(first)
        lines += ["[[slave]]", 'kind = "cell_link"', f'link = "{link}"', f'node = "{node}"']
        lines += [f"cells = {cells}", f"temps = {temps}"]
        if parallel > 1:
            lines += [f"string = {string + 1}"]
        lines += [row.strip() for row in tables.get("slave", "").split(";") if row.strip()]
    return lines + [row.strip() for row in tables.get("behind", "").split(";") if row.strip()]


def warning(fault):
    """The warning of the quantity that trips as `fault`."""
    return F.level_fault(F.quantity_of(fault), F.WARN)


def fault_name(faults, fault):
    """Name of a fault as telemetry sends it."""
    start = faults.name_at[fault]
    end = faults.names.find(b" ", start)
    return (faults.names[start:end] + faults.suffix(fault)).decode()


def names_of(faults, lowest=1):
    """Names of the faults that are latched or active, in any string; from a level on."""
    found = []
    for i in range(len(faults.active)):
        if (faults.active[i] or faults.latched[i]) and faults.level[i % faults.rows] >= lowest:
            fault = i % faults.rows
            found.append(fault_name(faults, fault))
    return found


class Parts:
    """Everything below the master, without drivers: pack, faults, limits, contactors.

    `scan` writes readings as a driver would and has them evaluated.
    """

    def __init__(self, ms=1000, **settings):
        self.config = pack_file.parse(pack_lines(**settings))
        self.board = FakeBoard(ms=ms)
        self.clock = Clock(self.board.clock)
        self.pack = Pack(self.config)
        self.faults = Faults(self.clock, self.pack)
        self.currents = [StringCurrent(self.config, i) for i in range(self.pack.strings)]
        self.current = self.currents[0]
        self.strings = Strings(
            self.config, self.board, self.faults, self.pack, self.currents, self.clock
        )
        self.contactors = self.strings.each[0]
        self.faults.set_open_target(self.strings)
        self.limits = Limits(
            self.config, self.pack, self.currents, self.faults, self.strings, self.clock.now
        )
        self.mv = [3300] * self.pack.cells
        self.dc = [250] * self.pack.temps

    def ready(self):
        """All slaves known and read, a current, a link voltage: may close."""
        for i in range(self.pack.slaves):
            self.pack.known[i] = 1
        for current in self.currents:
            current.sample(0, self.now)
        self.pack.link_mv = 0
        self.scan(0)
        return self

    @property
    def now(self):
        return self.clock.now

    def active(self, code):
        return bool(self.faults.active[code])

    def tripped(self, code):
        return bool(self.faults.latched[code])

    def names(self):
        """Codes that are latched or active, by name."""
        return names_of(self.faults)

    def trips(self):
        """The same, of those that trip."""
        return names_of(self.faults, 3)

    def pass_ms(self, ms):
        """Time goes by, in parts that the clock can tell apart."""
        while ms > 0:
            part = min(ms, 1 << 27)
            self.board.clock.pass_ms(part)
            self.clock.tick()
            ms -= part

    def read(self):
        """Readings as a driver writes them; None leaves the older one."""
        p = self.pack
        for i in range(p.cells):
            if self.mv[i] is not None:
                p.cell_mv[i] = self.mv[i]
                p.cell_flags[i] = FRESH | SEEN | NEW
                p.cell_at[i] = self.now
        for i in range(p.temps):
            if self.dc[i] is not None:
                p.temp_dc[i] = self.dc[i]
                p.temp_flags[i] = FRESH | SEEN | NEW
                p.temp_at[i] = self.now

    def scan(self, ms=100):
        """After `ms` new readings, evaluated as after a scan."""
        self.pass_ms(ms)
        self.read()
        check_ages(self.limits, self.now)
        self.limits.scan_finished(self.now)
        while self.limits.evaluating:
            self.limits.evaluate_next(self.now)

    def sample(self, ma, ms=10, string=0):
        """After `ms` a new current sample of a string, evaluated."""
        self.pass_ms(ms)
        self.currents[string].sample(ma, self.now)
        self.limits.current_sampled(string, self.now)

    def step(self, ms=10):
        """After `ms` one step of the contactors, the sensors alive."""
        self.pass_ms(ms)
        for current in self.currents:
            ma = self.board.string_ma.get(current.string, self.board.ma)
            if ma is not None:
                current.sample(ma, self.now)
        self.read()
        self.pack.update()
        self.pack.link_mv = self.board.link_mv()
        self.strings.step(self.now)

    def steps(self, ms):
        for _ in range(ms // 10):
            self.step()


class Bench:
    """Drivers on wires with slave boards; scans are begun by the test, time passes in ms."""

    def __init__(self, slaves=1, cells=4, temps=2, link="can0", boards=None, ms=1000, **tables):
        self.parts = Parts(ms=ms, slaves=slaves, cells=cells, temps=temps, link=link, **tables)
        p = self.parts
        self.board = p.board
        self.pack = p.pack
        self.faults = p.faults
        self.wire = self.board.wires[link]
        if boards is None:
            boards = [FakeSlave(i + 1, [3300] * cells, [250] * temps) for i in range(slaves)]
        self.boards = boards
        self.drivers = slaves_.build(p.config, self.board, p.pack, p.limits, p.faults)
        self.driver = self.drivers[0]
        self.seq = 0
        self.requests = []

    def exchange(self):
        """Deliver what the master sent, and the answers; True where there was one."""
        answered = False
        for frame in self.wire.sent():
            self.requests = self.requests[-40:] + [frame]
            for board in self.boards:
                answered |= self.wire.give_all(board.receive(frame, self.wire.medium))
        return answered

    def answers(self):
        """Questions and answers to and fro, as many as a millisecond or two may hold."""
        for _ in range(2 * len(self.boards) + 4):
            if not self.exchange():
                break
            self.driver.step(self.parts.now)

    def step(self, ms=1):
        self.parts.pass_ms(ms)
        self.driver.step(self.parts.now)
        self.answers()

    def begin(self):
        self.seq = (self.seq + 1) & 255
        self.driver.begin(self.seq, self.parts.now)

    def scan(self, ms=100):
        """One scan and the time to the next, then the evaluation."""
        self.begin()
        self.answers()
        for _ in range(ms // 5):
            self.step(5)
        check_ages(self.parts.limits, self.parts.now)
        self.parts.limits.scan_finished(self.parts.now)
        while self.parts.limits.evaluating:
            self.parts.limits.evaluate_next(self.parts.now)

    def greet(self):
        """Until every board is known, then one scan."""
        for _ in range(10 + 2 * self.pack.slaves):
            self.scan(50)
            if self.pack.all_known():
                break
        assert self.pack.all_known()
        self.scan()
        return self


class Rig:
    """The whole master on a fake board with slave boards on its wires."""

    def __init__(
        self,
        slaves=2,
        cells=4,
        temps=2,
        link="can0",
        ms=1000,
        parallel=1,
        storage=None,
        path="",
        **tables,
    ):
        self.board = FakeBoard(ms=ms)
        self.board.storage = storage
        self.board.pack_mv = 3300 * slaves * cells // parallel
        self.wire = self.board.wires[link]
        self.boards = [FakeSlave(i + 1, [3300] * cells, [250] * temps) for i in range(slaves)]
        lines = pack_lines(
            slaves=slaves, cells=cells, temps=temps, link=link, parallel=parallel, **tables
        )
        config = pack_file.parse(lines)
        config.path = path
        self.master = Master(config, self.board)
        self._text = b""

    def exchange(self):
        answered = False
        for frame in self.wire.sent():
            for board in self.boards:
                answered |= self.wire.give_all(board.receive(frame, self.wire.medium))
        return answered

    def step(self):
        """One cycle; bytes that came end the wait."""
        self.master.step()
        self._text += self.board.console.took()
        answered = self.exchange()
        self.board.wait(1 if answered else self.master._rest())

    def run(self, ms):
        end = self.board.clock.total_ms + ms
        while self.board.clock.total_ms < end:
            self.step()

    def type(self, line):
        self.board.console.give(line.encode() + b"\n")

    def say(self, line, ms=60):
        """Type a command; its answer as a dict."""
        self.lines()
        self.type(line)
        self.run(ms)
        answers = self.lines("answer")
        assert len(answers) == 1, (line, answers)
        return answers[0]

    def lines(self, kind=None):
        """Telemetry since the last call, every line's CRC checked."""
        pieces = (self._text + self.board.console.took()).split(b"\n")
        self._text = pieces[-1]
        lines = [checked(piece) for piece in pieces[:-1]]
        return [line for line in lines if kind is None or line["k"] == kind]

    @property
    def state(self):
        return self.master.strings.state

    def names(self):
        return names_of(self.master.faults)

    def trips(self):
        """The same, of those that trip."""
        return names_of(self.master.faults, 3)


def checked(line):
    """A telemetry line as a dict, its CRC compared."""
    at = line.find(b'"crc":"')
    assert at > 0, line
    assert line[at + 7 :] == f'{crc16(line[:at]):04X}"}}'.encode(), line
    return json.loads(line)
