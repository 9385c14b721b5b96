"""Driver of the cell monitors (CMU) of a Mitsubishi Outlander PHEV on a CAN bus of their own.

Source: open implementations and captures of the modules' bus; the maker documents nothing of it.
500 kbit/s, 11-bit identifiers 0x600 + node * 16 + k, big-endian, 8 bytes each: k = 1 bits of the
cells that are balanced and temperatures, k = 2 cells 1-4, k = 3 cells 5-8 in mV, k = 4 all FF where
a module has no more cells. FFFF is no cell. The modules broadcast as soon as they have power; no
frame that wakes them is known to be needed. In the car they have the numbers 1-5 and 7-11.

Balancing: 0x3C3 `target mV, 01, 04 03 00 00 00` every 400 ms goes to all modules of the bus, each
balances its cells above the target; zeros and `00 04 03 ..` end it. So the lowest target of all
slaves in the plan is valid for the whole port, also for slaves that the plan does not balance:
strings on one port are balanced to one level. It is sent only while every module of the port reads
a temperature below balance_temp_max. Whether modules stop by themselves is not known.

Uncertain, to be verified on a bench: the period of the broadcasts (`answer` of [[link]]), and the
temperatures. One project reads three words of 0.0038 degC less 52. Captures in which a module was
warmed show five bytes at 2-6 in degC less 50 (LEV40) or less 70 (LEV46), of which the words contain
only every other: with `temp_offset` the driver reads the bytes. An open sensor reads 0 or all ones.

Its frames have no checksum but that of CAN: see `CommercialDriver.WEAK`. It measures neither its
stack nor its own temperature: the sum of its cells and its warmest sensor stand for them. It has no
alarms.
"""

from micropython import const

from bms import ticks
from bms.config.errors import ConfigError
from bms.slaves.base import BALANCE_TARGET
from bms.slaves.broadcast import BroadcastDriver
from bms.slaves.commercial import NO_SENSOR_DC, word
from bms.ticks import MASK

STATUS = 0x601  # + node * 16
CELLS = 0x602
COMMAND = 0x3C3

_WORDS = const(3)
_NONE = const(0xFFFF)
_AGAIN_MS = const(400)
_OFFS = const(3)  # times that the end of balancing is sent at once; then every _OFF_MS
_OFF_MS = const(5000)


class Outlander(BroadcastDriver):
    """All modules of one port; see `BroadcastDriver`. bits: mask of balanced cells, by member."""

    ABILITIES = BALANCE_TARGET
    NODES = (1, 15)
    MOST = 15
    CELLS = 8
    TEMPS = 5
    CAN_BPS = 500000
    FILTERS = ((0x600, 0x700),)
    WEAK = True
    SLOTS = 2
    NO_CELL = _NONE

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.bits = bytearray(n)
        self._offset = bytearray(n)
        self._hottest = config.balance_temp_max_dc
        self._out = bytearray(b"\0\0\0\4\3\0\0\0")
        self._commanded = False
        self._commanded_at = 0
        self._offs = 0
        for m in range(n):
            slave = config.slaves[members[m]]
            self._offset[m] = slave.temp_offset
            if slave.temps > _WORDS and not slave.temp_offset:
                raise ConfigError(
                    slave.at["temps"],
                    "temps",
                    "outlander: %d are read as bytes only: write temp_offset" % slave.temps,
                )
            self._want[m] = 7 if slave.cells > 4 else 3

    def expects(self, ident):
        """True where one of the configured modules may send this identifier."""
        return ident >> 8 == 6 and self._member[ident >> 4 & 15] > 0 and 1 <= ident & 15 <= 4

    def rest(self, now):
        """ms until the target must be sent again."""
        if not self._commanded:
            return 0
        each = _AGAIN_MS if self._offs < _OFFS else _OFF_MS
        left = each - ticks.since(now, self._commanded_at)
        return left if left > 1 else 1

    # --- what they send ---

    def on_frame(self, ident, n, data, now):
        """A frame from the link; a reading out of its hard bounds trips before this returns."""
        k = ident & 15
        if ident >> 8 != 6 or not 1 <= k <= 4:
            self.unexpected = (self.unexpected + 1) & MASK
            return
        m = self.member(ident >> 4 & 15)
        if m < 0:
            return
        if n != 8:
            self.damaged = (self.damaged + 1) & MASK
        elif k == 1:
            self._status(m, data, now)
        else:
            self._cells(m, k - 2, data, now)

    def _cells(self, m, k, data, now):
        """Four cells from 4 * k on."""
        part = 2 << k
        self.received(m, part)
        n = self.cells_of(m, part, 4 * k, data)
        if not n:
            return
        self.swings(m, k & 1, word(data, 0))
        self.take_cells(m, 4 * k, n, data, now, self.bits[m] >> 4 * k)
        # its last cells, of the same moment as the others
        if 2 * part > self._want[m] and self.temps_fresh(m, now):
            self.sum_cells(m, now)

    def _sensor(self, m, i, data):
        """Sensor i in 0.1 degC; what an open one reads is not above NO_SENSOR_DC."""
        offset = self._offset[m]
        if offset:
            raw = data[2 + i]
            return (raw - offset) * 10 if 0 < raw < 0xFF else NO_SENSOR_DC
        raw = word(data, 2 + 2 * i)
        return (raw * 38 + 500) // 1000 - 520 if raw < _NONE else NO_SENSOR_DC

    def _status(self, m, data, now):
        self.received(m, 1)
        self.bits[m] = data[0]
        if not self.fit(m, 1, True, 0):
            return
        warmest = NO_SENSOR_DC
        for i in range(self.TEMPS if self._offset[m] else _WORDS):
            dc = self._sensor(m, i, data)
            if dc > NO_SENSOR_DC:
                warmest = self.sensor(m, i, dc, warmest, now)
        self.take_warmest(m, warmest, now)

    # --- commands ---

    def send_due(self, now):
        """Send the common target, repeatedly; its end several times at once, then rarely."""
        if self._commanded and ticks.since(now, self._commanded_at) < _AGAIN_MS:
            return
        target = self._target()
        if target:
            self._offs = 0
        elif self._offs >= _OFFS and ticks.since(now, self._commanded_at) < _OFF_MS:
            return
        out = self._out
        out[0] = target >> 8
        out[1] = target & 0xFF
        out[2] = 1 if target else 0
        if self.link.send(COMMAND, out, 8):
            self._commanded = True
            self._commanded_at = now
            if not target and self._offs < _OFFS:
                self._offs += 1

    def _target(self):
        """The lowest target in mV of the slaves in the plan, 0: no balancing."""
        lowest = 0
        pack = self.pack
        for slave in self.members:
            die = pack.die_dc[slave]
            if not pack.stack_ok[slave] or not NO_SENSOR_DC < die < self._hottest:
                return 0
            if self.wants(slave):
                target = self.target_mv(slave)
                if not lowest or target < lowest:
                    lowest = target
        return lowest
