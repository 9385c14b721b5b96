"""Driver of JK boards that broadcast on CAN, 250 kbit/s: up to 12 on a bus, node 1 = address 0.

Source: the vendor's "JK-BMS CAN protocol" V2 as read in public documents and implementations. The
device address is added to each identifier. 2F4 (20 ms) stack voltage 0.1 V, current 0.1 A + 400 A,
charge in %; 4F4 (100 ms) highest and lowest cell; 5F4 (500 ms) highest and lowest temperature, degC
+ 50; 7F4 alarms; 29-bit 18E028F4, 18E128F4, .. (1 s) four cells each, little-endian mV, 0 where
there is none. Sensor 1 is the warmest, sensor 2 the coldest; the warmest stands for the board.
Cells come once a second: no trip within less, but for the highest and the lowest, which are judged
as they arrive. Uncertain: the order of the 2-bit alarms, so any of them only warns; where sensors
stand one by one (18F228F4), sources differ, and they are not read. It balances by itself, and has
FETs; no word for either is used.
"""

from array import array

from micropython import const

from bms.links.can import BITS, EXTENDED
from bms.slaves import base
from bms.slaves.heard import LEAST_MV, MOST_MV, Heard

STATUS = const(0x2F4)
EXTREMES = const(0x4F4)
TEMPS_ID = const(0x5F4)
ALARM = const(0x7F4)
CELLS_ID = const(0x18E028F4)  # + k << 16

_FRAMES = const(7)
_TEMPS_PART = const(0x80)
_STATUS_PART = const(0x100)
_FIRST = const(4)  # low nibble of address 0
_NO_SENSOR_DC = const(-490)
_MOST_DC = const(1500)


class JkCan(Heard):
    """All JK boards of one bus; see `Heard`.

    Of the board that was heard last: current_ma, soc_pm; alarm_bits: the first two bytes.
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

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.current_ma = self.soc_pm = self.alarm_bits = -1
        self._hottest = array("h", [_NO_SENSOR_DC] * len(members))
        for m in range(len(members)):
            cells = pack.slave_cells[members[m]]
            self._want[m] = (1 << (cells + 3) // 4) - 1 | _TEMPS_PART | _STATUS_PART

    def expects(self, ident):
        """True where one of the configured boards may send this identifier."""
        node = (ident & 15) - _FIRST + 1
        if not 1 <= node <= 12 or not self._member[node]:
            return False
        return super().expects(ident)

    def on_frame(self, ident, n, data, now):
        """Take one frame from the link; a reading out of its hard bounds trips before this ends."""
        node = (ident & 15) - _FIRST + 1
        extended = ident & EXTENDED
        ident = (ident & BITS) - node + 1
        k = (ident - CELLS_ID) >> 16
        cells = extended and ident >= CELLS_ID and not (ident - CELLS_ID) & 0xFFFF and k < _FRAMES
        known = ident == STATUS or ident == EXTREMES or ident == TEMPS_ID or ident == ALARM
        if not cells and (extended or not known):
            self.strange = (self.strange + 1) & 0x1FFFFFFF
            return
        m = self.member(node if 1 <= node <= 12 else -1)
        if m < 0:
            return
        if n < (8 if cells else 5) and ident != ALARM or ident == ALARM and n < 2:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
        elif cells:
            self._cells(m, k, data, now)
        elif ident == STATUS:
            self._status(m, data, now)
        elif ident == EXTREMES:
            self._extremes(m, data)
        elif ident == TEMPS_ID:
            self._temps(m, data, now)
        else:
            self.alarm_bits = data[0] | data[1] << 8
            self.alarms(m, 0, base.A_OTHER if self.alarm_bits else 0, now)

    def _cells(self, m, k, data, now):
        """Four cells from 4 * k on."""
        part = 1 << k
        self.heard(m, part)
        want = self.pack.slave_cells[self.members[m]] - 4 * k
        good = more = none = 0
        for i in range(4):
            mv = data[2 * i] | data[2 * i + 1] << 8
            cell = LEAST_MV <= mv <= MOST_MV
            if i < want:
                good += cell
                none += mv == 0
            else:
                more += cell
        if want > 4:
            want = 4
        if not self.brings(m, part, 4 * k, want, good, more, none):
            return
        self.swings(m, k, data[0] | data[1] << 8)
        for i in range(want):
            mv = data[2 * i] | data[2 * i + 1] << 8
            if mv <= MOST_MV:
                self.cell(m, 4 * k + i, mv, now)

    def _extremes(self, m, data):
        """Highest and lowest cell, each with its number: only judged."""
        if not self.pack.known[self.members[m]]:
            return
        first = self.pack.first_cell[self.members[m]] - 1
        for at in (0, 3):
            mv = data[at] | data[at + 1] << 8
            cell = data[at + 2]
            if 1 <= cell <= self.pack.slave_cells[self.members[m]]:
                last = self.pack.cell_mv[first + cell]
                # far from what the cell itself says: a damaged frame, the next one tells
                if -300 < mv - last < 300:
                    self.limits.hard_cell(first + cell, mv)

    def _temps(self, m, data, now):
        """Highest, its sensor, lowest, its sensor, mean."""
        self.heard(m, _TEMPS_PART)
        if not self.fit(m, _TEMPS_PART, True, 0):
            return
        temps = self.pack.slave_temps[self.members[m]]
        self._hottest[m] = (data[0] - 50) * 10
        for i in range(2):
            dc = (data[2 * i] - 50) * 10
            if i < temps and _NO_SENSOR_DC < dc < _MOST_DC:
                self.temp(m, i, dc, now)

    def _status(self, m, data, now):
        self.heard(m, _STATUS_PART)
        self.current_ma = ((data[2] | data[3] << 8) - 4000) * 100
        self.soc_pm = data[4] * 10
        if self.fit(m, _STATUS_PART, True, 0) and self._hottest[m] > _NO_SENSOR_DC:
            self.board(m, (data[0] | data[1] << 8) * 100, self._hottest[m], now)
