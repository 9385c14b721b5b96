"""Driver of JK boards that broadcast on CAN, 250 kbit/s: up to 12 on a bus, node 1 = address 0.

Source: the vendor's "JK-BMS CAN protocol" V2 as read in public documents and implementations. The
device address is added to each identifier. 2F4 (20 ms) stack voltage 0.1 V, current 0.1 A + 400 A,
charge in %; 4F4 (100 ms) highest and lowest cell; 5F4 (500 ms) highest and lowest temperature, degC
+ 50; 7F4 alarms; 29-bit 18E028F4, 18E128F4, .. (1 s) four cells each, little-endian mV, 0 where
there is none. Sensor 1 is the warmest, sensor 2 the coldest: both or none is read; the warmest
stands for the board. The stack voltage is stored with the cells that follow it.
Cells come once a second, and nothing trips sooner except the highest and the lowest cell, which are
evaluated on arrival; one far from its cell's last reading must arrive twice. Uncertain: the order
of the 2-bit alarms, so any of them (bytes 0 to 3) only warns; sources differ on the frame with
single sensors (18F228F4), and it is not read. A board balances by itself, and has FETs; the driver
commands neither.
"""

from array import array

from micropython import const

from bms import ticks
from bms.config.errors import ConfigError
from bms.links.can import BITS, EXTENDED
from bms.slaves import base
from bms.slaves.broadcast import BroadcastDriver
from bms.slaves.commercial import NO_SENSOR_DC, word_le
from bms.ticks import MASK

STATUS = const(0x2F4)
EXTREMES = const(0x4F4)
TEMPS_ID = const(0x5F4)
ALARM = const(0x7F4)
CELLS_ID = const(0x18E028F4)  # + k << 16

_FRAMES = const(7)
_TEMPS_PART = const(0x80)
_STATUS_PART = const(0x100)
_FIRST = const(4)  # low nibble of address 0
_LEAST_DC = const(-490)  # what an open sensor reads
_MOST_DC = const(1500)
_ZERO_CURRENT = const(4000)
_NEAR_MV = const(300)  # from a cell's last reading: evaluated at once
_STACK_MS = const(150)  # that the stack voltage may be older than the cells


class JkCan(BroadcastDriver):
    """All JK boards of one bus; see `BroadcastDriver`.

    Of the board that sent last: current_ma, soc_pm, alarm_bits: the first two bytes of its alarms.
    """

    NODES = (1, 12)
    MOST = 12
    CELLS = 25
    TEMPS = 2
    CAN_BPS = 250000
    PERIOD_MS = 1000
    FILTERS = (
        (0x0F0, 0x0F0),
        (EXTENDED | 0x18E028F0, EXTENDED | 0x1FF0FFF0),
    )
    WEAK = True
    SLOTS = _FRAMES
    LITTLE = True
    NO_CELL = 0

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.current_ma = self.soc_pm = self.alarm_bits = -1
        n = len(members)
        self._stack_dv = array("H", [0] * n)  # as received last, 0.1 V
        self._stack_at = array("i", [0] * n)
        self._last = bytearray(n)  # its highest frame of cells
        self._far = array("i", [0] * (2 * n))  # last highest and lowest cell, mV << 8 | number
        self._came = array("i", [0] * (2 * n * _FRAMES))  # when each frame arrived, and before
        for m in range(n):
            slave = config.slaves[members[m]]
            if slave.temps == 1:
                raise ConfigError(
                    slave.at["temps"],
                    "temps",
                    "jk_can sends its warmest sensor and its coldest: 2, or 0 to read neither",
                )
            frames = (slave.cells + 3) // 4
            self._last[m] = frames - 1
            self._want[m] = (1 << frames) - 1 | _TEMPS_PART | _STATUS_PART

    def expects(self, ident):
        """True where one of the configured boards may send this identifier."""
        node = (ident & 15) - _FIRST + 1
        if not 1 <= node <= 12 or not self._member[node]:
            return False
        return super().expects(ident)

    def on_frame(self, ident, n, data, now):
        """A frame from the link; a reading out of its hard bounds trips before this returns."""
        node = (ident & 15) - _FIRST + 1
        extended = ident & EXTENDED
        ident = (ident & BITS) - node + 1
        k = (ident - CELLS_ID) >> 16
        cells = extended and ident >= CELLS_ID and not (ident - CELLS_ID) & 0xFFFF and k < _FRAMES
        known = ident == STATUS or ident == EXTREMES or ident == TEMPS_ID or ident == ALARM
        if not cells and (extended or not known):
            self.unexpected = (self.unexpected + 1) & MASK
            return
        m = self.member(node if 1 <= node <= 12 else -1)
        if m < 0:
            return
        least = 8 if cells else 2 if ident == ALARM else 6 if ident == EXTREMES else 5
        if n < least:
            self.damaged = (self.damaged + 1) & MASK
        elif cells:
            self._cells(m, k, data, now)
        elif ident == STATUS:
            self._status(m, data, now)
        elif ident == EXTREMES:
            self._extremes(m, 0, data)
            self._extremes(m, 1, data)
        elif ident == TEMPS_ID:
            self._temps(m, data, now)
        else:
            self.alarm_bits = word_le(data, 0)
            alarms = self.alarm_bits
            for i in range(2, n if n < 4 else 4):
                alarms |= data[i]
            self.alarms(m, 0, base.A_OTHER if alarms else 0, now)

    def _cells(self, m, k, data, now):
        """Four cells from 4 * k on."""
        part = 1 << k
        self.received(m, part)
        n = self.cells_of(m, part, 4 * k, data)
        if not n:
            return
        self._look_twice(m, k, n, data, now)
        self.take_cells(m, 4 * k, n, data, now)
        if k == self._last[m]:
            self._stack(m, now)

    def _look_twice(self, m, k, want, data, now):
        """Two boards of one number: frames arrive twice as often, and swing between two levels.

        A board whose load pulses swings as well, but not that often.
        """
        came = self._came
        at = 2 * (m * _FRAMES + k)
        since = ticks.since(now, came[at + 1])
        came[at + 1] = came[at]
        came[at] = now
        if 2 * since < 3 * self._period:
            mv = 0
            for i in range(want):
                mv += word_le(data, 2 * i)
            self.swings(m, k, mv // want)

    def _stack(self, m, now):
        """Store the stack voltage if it is as old as the cells: it depends on the load."""
        die_dc = self.pack.die_dc[self.members[m]]
        if die_dc > NO_SENSOR_DC and self.temps_fresh(m, now):
            if ticks.since(now, self._stack_at[m]) <= _STACK_MS:
                self.board(m, self._stack_dv[m] * 100, die_dc, now)

    def _extremes(self, m, which, data):
        """Highest (0) or lowest (1) cell, with its number: evaluated, and not stored."""
        slave = self.members[m]
        at = 3 * which
        mv = word_le(data, at)
        cell = data[at + 2]
        before = self._far[2 * m + which]
        self._far[2 * m + which] = mv << 8 | cell
        if self.pack.known[slave] and 1 <= cell <= self.pack.slave_cells[slave]:
            cell += self.pack.first_cell[slave] - 1
            near = -_NEAR_MV < mv - self.pack.cell_mv[cell] < _NEAR_MV
            # far from the cell's own reading: a damaged frame, unless the next one confirms it
            again = before & 0xFF == data[at + 2] and -_NEAR_MV < mv - (before >> 8) < _NEAR_MV
            if near or again:
                self.limits.hard_cell(cell, mv)

    def _temps(self, m, data, now):
        """Highest, its sensor, lowest, its sensor, mean."""
        self.received(m, _TEMPS_PART)
        if not self.fit(m, _TEMPS_PART, True, 0):
            return
        warmest = NO_SENSOR_DC
        for i in range(2):
            dc = (data[2 * i] - 50) * 10
            if _LEAST_DC < dc < _MOST_DC:
                warmest = self.sensor(m, i, dc, warmest, now)
        self.take_warmest(m, warmest, now)

    def _status(self, m, data, now):
        self.received(m, _STATUS_PART)
        self.current_ma = (word_le(data, 2) - _ZERO_CURRENT) * 100
        self.soc_pm = data[4] * 10
        if self.fit(m, _STATUS_PART, True, 0):
            self._stack_dv[m] = word_le(data, 0)
            self._stack_at[m] = now
