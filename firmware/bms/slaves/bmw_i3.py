"""Driver of the cell supervision circuits (CSC) of a BMW i3 or Mini-E battery on a CAN bus.

Source: open implementations and captures; the maker documents nothing of it. 500 kbit/s, 11-bit,
little-endian. The modules are polled one after the other, one per 50 ms (`gap` in [[link]]), with
0x080 | n: b0-1 target mV, 4200 without balancing; b3 what to measure: 00 in the first three loops,
then 50 (voltages and temperatures); b4 08 = balance cells above the target; b6 counter << 4 (in the
third loop | 4); b7 CRC-8, poly 1D, init FF, over identifier and payload, XOR a byte of each
module's own. It answers with 0x100 | n errors U32 and bits of the cells that are balanced; 0x120,
130, 140, 150 | n three cells each in mV, valid where the high byte is below 40; 0x170 | n
temperatures in degC + 40, 0 and FF no sensor. node = n + 1: 1 to 8, Mini-E to 12.

Uncertain: some modules need another poll, `poll = "bus"`: C7 10 in b0-1, 20 in b4, in the fourth
loop 10 in b3; they have one temperature, in b4 of 0x170, and no command for balancing is known.
Which poll a module needs has to be tried on a bench. The meaning of the errors is not known: they
are reported as "other" and trip nothing. Whether a module stops balancing when the polls stop is
not known either. A module that sends its status and no cells, or nothing for three loops, has
restarted: it gets the polls of the first loops again. A loop in which it did not answer is not
counted, unless it has never answered these polls.

No checksum of its answers is known: see `CommercialDriver.WEAK`. It measures neither its stack nor
its own temperature: the sum of its cells and its warmest sensor stand for them.
"""

from array import array

from micropython import const

from bms import ticks
from bms.config.errors import ConfigError
from bms.kernels.checksums import crc8_frame
from bms.slaves.base import A_OTHER, BALANCE_TARGET
from bms.slaves.broadcast import BroadcastDriver
from bms.slaves.commercial import NO_SENSOR_DC, word_le
from bms.ticks import MASK

POLL = 0x080  # | n
STATUS = 0x100
CELLS = 0x120  # + 0x10 for each three
TEMPS = 0x170

POLLS = ("i3", "bus")

# XORed with the CRC-8 of each module's poll; SAE J1850's own XOR is included
_MODULES = bytes(
    x ^ 0xFF for x in (0xCF, 0xF5, 0xBB, 0x81, 0x27, 0x1D, 0x53, 0x69, 0x02, 0x38, 0x76, 0x4C)
)
_IDLE_MV = const(4200)
_BUS_IDLE_MV = const(0x10C7)
_BALANCE = const(0x08)
_BUS = const(0x20)
_ALL = const(0x50)  # measure voltages and temperatures
_VOLTAGES = const(0x10)
_GREETINGS = const(3)  # loops with polls that measure nothing
_LOOPS = const(5)  # until its first cells must be there, else it is greeted again
_QUIET = const(2)
_STATUS_PART = const(1)
_SECOND_CELLS_PART = const(4)
_TEMPS_PART = const(32)
_THIRD_LOOP = const(4)  # bit of b6
_NO_SENSOR = const(0xFF)  # as 0
_SAME_MV = const(20)  # between two answers to one poll


def poll_crc(ident, data):
    """The last byte of a poll: CRC-8 of `ident` and data[0:7], XOR the module's own byte."""
    return crc8_frame(ident, data, 7) ^ _MODULES[ident & 15]


class BmwI3(BroadcastDriver):
    """All modules of one port; see `BroadcastDriver`.

    By member: bits: mask of the cells that are balanced; errors_low, errors_high: of its status.
    """

    ABILITIES = BALANCE_TARGET
    NODES = (1, 12)
    MOST = 12
    CELLS = 12
    TEMPS = 4
    CAN_BPS = 500000
    FILTERS = ((0x100, 0x780),)
    WEAK = True
    GAP_MS = 50
    IGNORED = ("answer",)
    WORDS = 3
    LITTLE = True

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        port = config.link_of(config.slaves[members[0]].link)
        self._gap = port.gap_ms if port and port.gap_ms else self.GAP_MS
        self.bits = array("H", [0] * n)
        self.errors_low = array("H", [0] * n)
        self.errors_high = array("H", [0] * n)
        self.out = bytearray(8)  # the poll that was sent last
        self._n = bytearray(n)
        self._bus = bytearray(n)
        # 0 to 2: loop in which it is greeted; until _LOOPS: it is to measure, no cells yet
        self._loops = bytearray([_LOOPS] * n)
        self._quiet = bytearray([0xFF] * n)  # loops without a cell
        self._greeted = bytearray(n)  # it has answered a greeting
        self._since = array("H", [0] * n)  # parts received since it was polled
        self._cell = array("H", [0] * (n * self.CELLS))
        self._next = n  # member that is polled next
        self._again = False
        self._polled = False
        self._polled_at = 0
        self._counter = 0
        for m in range(n):
            slave = config.slaves[members[m]]
            self._n[m] = slave.node - 1
            if slave.poll not in POLLS:
                raise ConfigError(slave.at["poll"], "poll", "bmw_i3 knows: %s" % ", ".join(POLLS))
            if slave.poll == "bus":
                self._bus[m] = 1
                pack.can_balance[members[m]] = 0
                if slave.temps > 1:
                    raise ConfigError(
                        slave.at["temps"], "temps", 'bmw_i3 with poll = "bus" has one at most'
                    )
            parts = (slave.cells + 2) // 3
            self._want[m] = (
                _STATUS_PART | ((1 << parts) - 1) << 1 | (_TEMPS_PART if slave.temps else 0)
            )

    def expects(self, ident):
        """True where one of the configured modules may send this identifier."""
        return super().expects(ident) and self._member[(ident & 15) + 1] > 0

    def scan_ms(self, config):
        """ms that a loop over all modules takes at least."""
        return self._gap * len(self.members)

    def begin(self, seq, now):
        """Start a loop, when the running one ends: every module gets its poll."""
        self._again = True
        if self._next == len(self._n):
            self._start(now)

    def _start(self, now):
        super().begin(0, now)
        self._again = False
        self.done = False
        self._next = 0

    def rest(self, now):
        """ms until the next module is polled, or the time of the last one is over."""
        if self.done:
            return 1000
        left = self._gap + 1 - ticks.diff(now, self._polled_at) if self._polled else 0
        return left if left > 0 else 0

    # --- polls ---

    def send_due(self, now):
        """Poll the next module when the time of the one before is over."""
        if self.done and self._again:
            self._start(now)
        # the first tick may be nearly over: one more makes the gap long enough
        if self.done or self._polled and ticks.diff(now, self._polled_at) <= self._gap:
            return
        m = self._next
        if m == len(self._n):
            self.done = True
            return
        self._next = m + 1
        self._polled = True
        self._polled_at = now
        self.link.send(self.next_poll(m), self.out, 8)

    def _loop(self, m):
        """The next loop of member m, from its answer to the last poll."""
        loop = self._loops[m]
        quiet = self._quiet[m]
        answered = self._since[m] & _STATUS_PART
        if loop < _GREETINGS:
            if not answered:
                return loop if self._greeted[m] else loop + 1
            if self._greeted[m]:
                return loop + 1
            self._greeted[m] = 1
            return 1
        if loop < _LOOPS:
            return loop + 1
        if quiet > _QUIET:
            return 0
        # its only frame of cells may just have been lost
        more = self._want[m] & _SECOND_CELLS_PART
        return 0 if answered and quiet and (more or quiet > 1) else loop

    def next_poll(self, m):
        """Write the next poll of member m into `out`; its identifier."""
        loop = self._loops[m] = self._loop(m)
        self._since[m] = 0
        if self._quiet[m] < 0xFF:
            self._quiet[m] += 1
        self._counter = (self._counter + 1) & 15
        bus = self._bus[m]
        target = _BUS_IDLE_MV if bus else _IDLE_MV
        out = self.out
        out[4] = _BUS if bus else 0
        slave = self.members[m]
        if loop >= _GREETINGS and not bus and self.wants(slave):
            target = self.target_mv(slave)
            out[4] = _BALANCE
        out[0] = target & 0xFF
        out[1] = target >> 8
        out[3] = 0
        if loop >= _GREETINGS:
            out[3] = _VOLTAGES if bus and loop == _GREETINGS else _ALL
        out[6] = self._counter << 4 | (_THIRD_LOOP if loop == _GREETINGS - 1 else 0)
        ident = POLL | self._n[m]
        out[7] = poll_crc(ident, out)
        return ident

    # --- answers ---

    def on_frame(self, ident, n, data, now):
        """A frame from the link; a reading out of its hard bounds trips before this returns."""
        k = ident >> 4
        if not STATUS >> 4 <= k <= TEMPS >> 4:
            self.unexpected = (self.unexpected + 1) & MASK
            return
        m = self.member((ident & 15) + 1)
        if m < 0:
            return
        if k == STATUS >> 4:
            self._status(m, n, data, now)
        elif k == TEMPS >> 4:
            self._temps(m, n, data, now)
        elif CELLS >> 4 <= k < (CELLS >> 4) + 4:
            self._cells(m, k - (CELLS >> 4), n, data, now)
        if self._next < len(self._n):
            self.done = False  # not before all modules were polled

    def _status(self, m, n, data, now):
        if n < 6:
            self.damaged = (self.damaged + 1) & MASK
            return
        self.received(m, _STATUS_PART)
        self._since[m] |= _STATUS_PART
        self.errors_low[m] = word_le(data, 0)
        self.errors_high[m] = word_le(data, 2)
        self.bits[m] = data[4] | (data[5] & 0x0F) << 8
        if self.fit(m, _STATUS_PART, True, 0):
            self.alarms(m, 0, A_OTHER if self.errors_low[m] or self.errors_high[m] else 0, now)

    def _cells(self, m, k, n, data, now):
        """Three cells from 3 * k on."""
        if n < 6:
            self.damaged = (self.damaged + 1) & MASK
            return
        part = 2 << k
        self.received(m, part)
        cells = self.cells_of(m, part, 3 * k, data)
        if self._read:
            self._quiet[m] = 0
            if self._loops[m] >= _GREETINGS:
                self._loops[m] = _LOOPS
        if cells:
            self._look_twice(m, k, data)
            self.take_cells(m, 3 * k, cells, data, now, self.bits[m] >> 3 * k)

    def _look_twice(self, m, k, data):
        """Two different answers to one poll come from two modules."""
        part = 2 << k
        again = self._since[m] & part
        self._since[m] |= part
        for i in range(3):
            mv = word_le(data, 2 * i)
            at = m * self.CELLS + 3 * k + i
            before = self._cell[at]
            if not again:
                self._cell[at] = mv
            elif mv <= self.MOST_MV and before <= self.MOST_MV:
                if not -_SAME_MV <= mv - before <= _SAME_MV:
                    self.contradicts(m)

    def _temps(self, m, n, data, now):
        first = 4 if self._bus[m] else 0
        count = 1 if self._bus[m] else self.TEMPS
        if n < first + count:
            self.damaged = (self.damaged + 1) & MASK
            return
        self.received(m, _TEMPS_PART)
        if not self.fit(m, _TEMPS_PART, True, 0):
            return
        warmest = NO_SENSOR_DC
        for i in range(count):
            raw = data[first + i]
            if 0 < raw < _NO_SENSOR:  # else the last reading ages
                warmest = self.sensor(m, i, (raw - 40) * 10, warmest, now)
        if self.take_warmest(m, warmest, now):
            self.sum_cells(m, now)
