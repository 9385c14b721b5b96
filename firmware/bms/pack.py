"""The pack's state: flat arrays, made once; value, age and validity of every reading.

Cells and temperatures of all slaves stand one behind the other in the order of the pack file.
Drivers write readings, `limits` expires them, everybody else reads. After start-up nothing here
allocates.
"""

from array import array

from bms import ticks
from bms.kernels import expire, extremes, unmark
from bms.tables import E_COUNT, E_MAX, E_MAX_AT, E_MIN, E_MIN_AT, E_SUM

FRESH = 1  # the value is valid and younger than its bound
BLEEDING = 2  # it was sampled while its slave was bleeding cells
SEEN = 4  # it was valid at least once since the start
NEW = 16  # it came since the last scan was judged
LOST = 8  # it was valid once, and the last valid one is too old; set by the kernel `expire`


class Extremes:
    """Lowest, highest and sum of one kind of reading; `complete` where every one is marked."""

    def __init__(self):
        self.out = array("i", [0] * 6)
        self.complete = False
        self.low = self.high = self.total = self.count = 0
        self.low_at = self.high_at = -1

    def update(self, values, flags, start, end, mark):
        """Scan readings start..end-1 marked FRESH or NEW; 0-based indices, -1 where none is."""
        out = self.out
        extremes(values, flags, start, end, mark, out)
        self.low = out[E_MIN]
        self.low_at = out[E_MIN_AT]
        self.high = out[E_MAX]
        self.high_at = out[E_MAX_AT]
        self.total = out[E_SUM]
        self.count = out[E_COUNT]
        self.complete = self.count == end - start


class Pack:
    """Readings of the whole pack.

    cell_mv [cells] mV, temp_dc [temps] 0.1 degC: array('h'); cell_flags, temp_flags: FRESH,
    BLEEDING, SEEN, LOST and NEW bits; cell_at, temp_at: ms tick of the sample. Per slave:
    first_cell, slave_cells, first_temp, slave_temps, known (answered as the pack file says),
    stack_mv, stack_ok, stack_at, slave_flags, die_dc, bleed (two U16 masks: cells 1-16, 17-32).
    """

    def __init__(self, config):
        slaves = config.slaves
        n = len(slaves)
        self.slaves = n
        self.cells = sum(s.cells for s in slaves)
        self.temps = sum(s.temps for s in slaves)
        self.cell_mv = array("h", [0] * self.cells)
        self.cell_flags = bytearray(self.cells)
        self.cell_at = array("i", [0] * self.cells)
        self.temp_dc = array("h", [0] * self.temps)
        self.temp_flags = bytearray(self.temps)
        self.temp_at = array("i", [0] * self.temps)
        self.first_cell = array("h", [0] * n)
        self.slave_cells = bytearray(n)
        self.first_temp = array("h", [0] * n)
        self.slave_temps = bytearray(n)
        self.known = bytearray(n)
        self.stack_mv = array("i", [0] * n)
        self.stack_ok = bytearray(n)
        self.stack_at = array("i", [0] * n)
        self.slave_flags = array("H", [0] * n)
        self.die_dc = array("h", [0] * n)
        self.bleed = array("H", [0] * (2 * n))
        self.cell = Extremes()
        self.temp = Extremes()
        self.new_cell = Extremes()
        self.new_temp = Extremes()
        self._slave = Extremes()
        self._max_cell_age = config.cell_age_ms
        self._max_temp_age = config.temp_age_ms
        self.lost_cell = -1  # first cell, temperature that lost its reading, -1 = none
        self.lost_temp = -1
        cell = temp = 0
        for i in range(n):
            self.first_cell[i] = cell
            self.slave_cells[i] = slaves[i].cells
            self.first_temp[i] = temp
            self.slave_temps[i] = slaves[i].temps
            cell += slaves[i].cells
            temp += slaves[i].temps

    def expire(self, now):
        """Take validity from every reading that is too old; sets lost_cell and lost_temp."""
        self.lost_cell = expire(
            self.cell_flags, self.cell_at, 0, self.cells, now, self._max_cell_age
        )
        self.lost_temp = expire(
            self.temp_flags, self.temp_at, 0, self.temps, now, self._max_temp_age
        )
        for i in range(self.slaves):
            if self.stack_ok[i] and ticks.diff(now, self.stack_at[i]) > self._max_cell_age:
                self.stack_ok[i] = 0

    def update(self):
        """Find the extremes of all fresh readings, and of those that are new; none is new then."""
        for which in range(2):
            values = self.temp_dc if which else self.cell_mv
            flags = self.temp_flags if which else self.cell_flags
            count = self.temps if which else self.cells
            fresh = self.temp if which else self.cell
            new = self.new_temp if which else self.new_cell
            fresh.update(values, flags, 0, count, FRESH)
            new.update(values, flags, 0, count, NEW)
            unmark(flags, 0, count, NEW)

    def slave_extremes(self, slave):
        """Extremes of one slave's cells; the object is the pack's own and used again."""
        first = self.first_cell[slave]
        end = first + self.slave_cells[slave]
        self._slave.update(self.cell_mv, self.cell_flags, first, end, FRESH)
        return self._slave

    def invalidate(self, slave):
        """Take validity from every reading of a slave whose answers contradict each other.

        They are lost only when they grow too old: the next good scan brings them back.
        """
        first = self.first_cell[slave]
        for i in range(first, first + self.slave_cells[slave]):
            self.cell_flags[i] &= SEEN | LOST
        first = self.first_temp[slave]
        for i in range(first, first + self.slave_temps[slave]):
            self.temp_flags[i] &= SEEN | LOST
        self.stack_ok[slave] = 0
        self.cell.complete = False  # nothing closes before the next good scan

    def all_known(self):
        """True where every configured slave has answered as the pack file says."""
        for i in range(self.slaves):
            if not self.known[i]:
                return False
        return True
