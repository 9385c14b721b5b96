"""Driver of the cell supervision circuits (CSC) of a BMW i3 or Mini-E battery on a CAN bus.

Source: open implementations and captures; nothing of it is documented by the maker. 500 kbit/s,
11-bit, little-endian. Each module is polled in turn, one per 50 ms (`gap` in [[link]]), with
0x080 | n: b0-1 target mV, 4200 when nothing bleeds; b3 what to measure: 00 in the first three
loops, then 50 (voltages and temperatures); b4 08 = bleed what is above the target; b6 counter << 4
(in the third loop | 4); b7 CRC-8, poly 1D, init FF, over identifier and payload, XOR a byte that
each module has of its own. It answers with 0x100 | n errors U32 and bits of the cells that bleed;
0x120, 130, 140, 150 | n three cells each in mV, valid where the high byte is below 40;
0x170 | n temperatures in degC + 40, 0 and FF no sensor. node = n + 1: 1 to 8, Mini-E to 12.

Uncertain: there are modules that want another poll, `poll = "bus"`: C7 10 in b0-1, 20 in b4, in
the fourth loop 10 in b3; their temperature, one only, stands in b4 of 0x170, and no word is known
that makes them bleed. Which poll a module wants is found on a bench. What the errors mean is not
known: they are said as "other" and trip nothing. Whether a module stops to bleed when it is not
polled any more is not known either. One that says its status and no cells, or has said nothing for
three loops, has started anew: it is greeted with the first loops again. A loop in which it did not
answer is not counted, unless it has never answered a greeting.

Its answers carry no checksum that is known: see `Boards.WEAK`. It measures neither its stack nor
itself: the sum of its cells and its warmest sensor stand for them.
"""

from array import array

from micropython import const

from bms import ticks
from bms.errors import ConfigError
from bms.kernels import crc8_frame
from bms.slaves.base import A_OTHER, BALANCE_TARGET
from bms.slaves.heard import LEAST_MV, MOST_MV, NO_SENSOR_DC, Heard

POLL = 0x080  # | n
STATUS = 0x100
CELLS = 0x120  # + 0x10 for each three
TEMPS = 0x170

POLLS = ("i3", "bus")

# what the CRC-8 of each module's poll is XORed with; SAE J1850's own XOR is in it
_MODULES = bytes(
    x ^ 0xFF for x in (0xCF, 0xF5, 0xBB, 0x81, 0x27, 0x1D, 0x53, 0x69, 0x02, 0x38, 0x76, 0x4C)
)
_IDLE_MV = const(4200)
_BUS_IDLE_MV = const(0x10C7)
_BLEED = const(0x08)
_BUS = const(0x20)
_ALL = const(0x50)  # measure voltages and temperatures
_VOLTAGES = const(0x10)
_GREETED = const(3)  # loops before it is asked to measure
_LOOPS = const(5)  # until its first cells are to be there, else it is greeted again
_QUIET = const(2)
_SAME_MV = const(20)  # between two answers to one poll


def seal(ident, data):
    """The last byte of a poll."""
    return crc8_frame(ident, data, 7) ^ _MODULES[ident & 15]


class BmwI3(Heard):
    """All modules of one port; see `Heard`.

    bits: mask of the cells that bleed, errors_low, errors_high: of the last status, by member.
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
        # 0 to 2: loop in which it is greeted; until _LOOPS: asked, and has said no cells yet
        self._loops = bytearray([_LOOPS] * n)
        self._quiet = bytearray([0xFF] * n)  # loops without a cell
        self._polite = bytearray(n)  # it has answered a greeting
        self._since = array("H", [0] * n)  # parts said since it was polled
        self._cell = array("H", [0] * (n * self.CELLS))
        self._turn = n  # member to be polled next
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
                pack.can_bleed[members[m]] = 0
                if slave.temps > 1:
                    raise ConfigError(
                        slave.at["temps"], "temps", 'bmw_i3 with poll = "bus" has one at most'
                    )
            parts = (slave.cells + 2) // 3
            self._want[m] = 1 | ((1 << parts) - 1) << 1 | (32 if slave.temps else 0)

    def expects(self, ident):
        """True where one of the configured modules may send this identifier."""
        return super().expects(ident) and self._member[(ident & 15) + 1] > 0

    def scan_ms(self, config):
        """ms that a loop over all modules takes at the least."""
        return self._gap * len(self.members)

    def begin(self, seq, now):
        """Start a loop, at the end of the one that still runs: everybody gets his poll."""
        self._again = True
        if self._turn == len(self._n):
            self._start(now)

    def _start(self, now):
        super().begin(0, now)
        self._again = False
        self.done = False
        self._turn = 0

    def rest(self, now):
        """ms until the next module is polled, or the last one's time is over."""
        if self.done:
            return 1000
        left = self._gap + 1 - ticks.diff(now, self._polled_at) if self._polled else 0
        return left if left > 0 else 0

    # --- polls ---

    def speak(self, now):
        """Poll the next module where the one before has had its time."""
        if self.done and self._again:
            self._start(now)
        # a tick may be nearly over as it is read: one more is sure to be enough
        if self.done or self._polled and ticks.diff(now, self._polled_at) <= self._gap:
            return
        m = self._turn
        if m == len(self._n):
            self.done = True
            return
        self._turn = m + 1
        self._polled = True
        self._polled_at = now
        self.link.send(self.word(m), self.out, 8)

    def _loop(self, m):
        """The loop that comes next for member m, by how it answered the last poll."""
        loop = self._loops[m]
        quiet = self._quiet[m]
        answered = self._since[m] & 1
        if loop < _GREETED:
            if not answered:
                return loop if self._polite[m] else loop + 1
            if self._polite[m]:
                return loop + 1
            self._polite[m] = 1
            return 1
        if loop < _LOOPS:
            return loop + 1
        if quiet > _QUIET:
            return 0
        # a single frame that would have brought its cells may just be lost
        more = self._want[m] & 4
        return 0 if answered and quiet and (more or quiet > 1) else loop

    def word(self, m):
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
        if loop >= _GREETED and not bus and self.wants(slave):
            target = self.target_mv(slave)
            out[4] = _BLEED
        out[0] = target & 0xFF
        out[1] = target >> 8
        out[3] = 0
        if loop >= _GREETED:
            out[3] = _VOLTAGES if bus and loop == _GREETED else _ALL
        out[6] = self._counter << 4 | (4 if loop == _GREETED - 1 else 0)
        ident = POLL | self._n[m]
        out[7] = seal(ident, out)
        return ident

    # --- answers ---

    def on_frame(self, ident, n, data, now):
        """Take one frame from the link; a reading out of its hard bounds trips before this ends."""
        k = ident >> 4
        if not STATUS >> 4 <= k <= TEMPS >> 4:
            self.strange = (self.strange + 1) & 0x1FFFFFFF
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
        if self._turn < len(self._n):
            self.done = False  # not before everybody was polled

    def _status(self, m, n, data, now):
        if n < 6:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        self.heard(m, 1)
        self._since[m] |= 1
        self.errors_low[m] = data[0] | data[1] << 8
        self.errors_high[m] = data[2] | data[3] << 8
        self.bits[m] = data[4] | (data[5] & 0x0F) << 8
        if self.fit(m, 1, True, 0):
            self.alarms(m, 0, A_OTHER if self.errors_low[m] or self.errors_high[m] else 0, now)

    def _cells(self, m, k, n, data, now):
        """Three cells from 3 * k on."""
        if n < 6:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        part = 2 << k
        self.heard(m, part)
        want = self.pack.slave_cells[self.members[m]] - 3 * k
        good = more = 0
        for i in range(3):
            cell = LEAST_MV <= data[2 * i] | data[2 * i + 1] << 8 <= MOST_MV
            if i < want:
                good += cell
            else:
                more += cell
        if good or more:
            self._quiet[m] = 0
            if self._loops[m] >= _GREETED:
                self._loops[m] = _LOOPS
        if want > 3:
            want = 3
        if not self.brings(m, part, 3 * k, want, good, more, 0):
            return
        self._look_twice(m, k, data)
        bits = self.bits[m] >> 3 * k
        for i in range(want):
            mv = data[2 * i] | data[2 * i + 1] << 8
            if mv <= MOST_MV:  # else no reading: let the old one age
                self.cell(m, 3 * k + i, mv, now, bits >> i & 1)

    def _look_twice(self, m, k, data):
        """Two answers to one poll that differ are those of two modules."""
        part = 2 << k
        again = self._since[m] & part
        self._since[m] |= part
        for i in range(3):
            mv = data[2 * i] | data[2 * i + 1] << 8
            at = m * self.CELLS + 3 * k + i
            before = self._cell[at]
            if not again:
                self._cell[at] = mv
            elif mv <= MOST_MV and before <= MOST_MV:
                if not -_SAME_MV <= mv - before <= _SAME_MV:
                    self.contradicts(m)

    def _temps(self, m, n, data, now):
        first = 4 if self._bus[m] else 0
        count = 1 if self._bus[m] else self.TEMPS
        if n < first + count:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        self.heard(m, 32)
        if not self.fit(m, 32, True, 0):
            return
        warmest = NO_SENSOR_DC
        for i in range(count):
            raw = data[first + i]
            if 0 < raw < 0xFF:  # else no sensor: let the last reading age
                warmest = self.sensor(m, i, (raw - 40) * 10, warmest, now)
        if self.warms(m, warmest, now):
            self.sums(m, now)
