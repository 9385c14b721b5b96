"""State of the pack: flat arrays, made once; value, age and validity of every reading.

Cells and temperatures of all slaves follow each other in the order of the pack file. Drivers write
readings with the tick of the step in which they received them, never an earlier one; `limits`
expires them; all others only read. After start-up nothing here allocates.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.readings import (  # noqa: F401  (the flags are imported from here)
    BALANCING,
    E_COUNT,
    E_MAX,
    E_MAX_AT,
    E_MIN,
    E_MIN_AT,
    E_SUM,
    FRESH,
    LEFT_OUT,
    LOST,
    NEW,
    SEEN,
    expire,
    extremes,
    oldest,
    unmark,
)

# how a board's own state (its alarms) comes: never; with its stack voltage; in answers of their own
NO_STATUS, WITH_STACK, ALONE = range(3)
_LONG_MS = const(60000)


class Extremes:
    """Lowest, highest and sum of one kind of reading; `complete`: each one is marked."""

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

    def merge(self, parts):
        """Combine the extremes of several strings; `total` has no meaning then."""
        self.count = 0
        self.complete = True
        self.low = 0x7FFF
        self.high = -0x8000
        self.low_at = self.high_at = -1
        for part in parts:
            self.count += part.count
            self.complete = self.complete and part.complete
            if part.low < self.low:
                self.low = part.low
                self.low_at = part.low_at
            if part.high > self.high:
                self.high = part.high
                self.high_at = part.high_at


class Pack:
    """Readings of the whole pack.

    Arrays: cell_mv [cells] mV, temp_dc [temps] 0.1 degC: array('h'); cell_flags, temp_flags: bits
    FRESH, BALANCING, SEEN, LOST and NEW; cell_at, temp_at: ms tick of the sample. Per slave:
    first_cell, slave_cells, first_temp, slave_temps, known (1 = answered as the pack file says),
    stack_mv, stack_ok, stack_at, status (NO_STATUS, WITH_STACK, ALONE: how the board's own state
    comes), status_at (its last one, where it comes alone), slave_flags, die_dc (0.1 degC),
    balance_mask (two U16 masks: cells 1-16, 17-32), can_balance, string_of_slave, cell_age and
    temp_age (ms; older readings are lost),
    poll_period_ms. Per string: energised (1 = one of its coils is on: current may flow;
    `contactors` writes it with each coil), string_cells (in series); slave_from, cell_from,
    temp_from: first index, with a last entry for the end of the last string; string_cell,
    string_temp: Extremes of fresh readings; lost_cell, lost_temp, lost_status: the first lost one,
    -1 = none.
    cell, temp: Extremes of the whole pack. link_mv: voltage behind the contactors, None = not
    measured; the master writes it each tick.
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
        self.status = bytearray(n)
        self.status_at = array("i", [0] * n)
        self.slave_flags = array("H", [0] * n)
        self.die_dc = array("h", [0] * n)
        self.can_balance = bytearray([1] * n)
        self.balance_mask = array("H", [0] * (2 * n))
        self.string_of_slave = bytearray([s.string - 1 for s in slaves])
        strings = self.strings = self.string_of_slave[-1] + 1
        self._stop_mv = config.balance_stop_mv
        self._floor_mv = config.balance_floor_mv
        self.energised = bytearray(strings)
        self.link_mv = None
        self.string_cells = array("h", [0] * strings)
        self.string_cell = [Extremes() for _ in range(strings)]
        self.string_temp = [Extremes() for _ in range(strings)]
        one = strings == 1
        self.cell = self.string_cell[0] if one else Extremes()
        self.temp = self.string_temp[0] if one else Extremes()
        self._new = array("i", [0] * 6)
        self._slave = Extremes()
        self.cell_age = array("i", [0] * n)
        self.temp_age = array("i", [0] * n)
        self.poll_period_ms = array("i", [config.scan_period_ms] * n)
        self._runs = array(
            "h", [0] * (n + 1)
        )  # first slave of each run with the same string and ages
        self._last_run = 0
        self._any_lost = True  # a reading is lost, or `expire` has not run for all
        self._run = 0  # the next part of `expire`
        self._least = 0  # ms until the next reading is too old
        self._expire_at = 0
        self.lost_cell = array("h", [-1] * strings)
        self.lost_temp = array("h", [-1] * strings)
        self.lost_status = array("h", [-1] * strings)
        self.slave_from = array("h", [n] * (strings + 1))
        self.cell_from = array("h", [self.cells] * (strings + 1))
        self.temp_from = array("h", [self.temps] * (strings + 1))
        self._place_slaves(config)

    def _place_slaves(self, config):
        """Find where the readings of each slave and string begin, and how old they may get."""
        slaves = config.slaves
        n = self.slaves
        cell = temp = 0
        for i in range(n):
            if not i or self.string_of_slave[i] != self.string_of_slave[i - 1]:
                self.slave_from[self.string_of_slave[i]] = i
                self.cell_from[self.string_of_slave[i]] = cell
                self.temp_from[self.string_of_slave[i]] = temp
            self.first_cell[i] = cell
            self.slave_cells[i] = slaves[i].cells
            self.first_temp[i] = temp
            self.slave_temps[i] = slaves[i].temps
            cell += slaves[i].cells
            temp += slaves[i].temps
            self.string_cells[self.string_of_slave[i]] += slaves[i].cells
            link = config.link_of(slaves[i].link)
            self.cell_age[i] = (link and link.cell_age_ms) or config.cell_age_ms
            self.temp_age[i] = (link and link.temp_age_ms) or config.temp_age_ms
            if not i or not self._same_ages(i - 1, i):
                self._runs[self._last_run] = i
                self._last_run += 1
        self._runs[self._last_run] = n
        left_out = []  # a sensor, and the one beside it whose value stands for it
        for i in range(n):
            bits = slaves[i].temps_left_out
            used = [k for k in range(slaves[i].temps) if not bits >> k & 1]
            for k in range(slaves[i].temps):
                if bits >> k & 1:
                    near = min(used, key=lambda one: abs(one - k))
                    left_out += [self.first_temp[i] + k, self.first_temp[i] + near]
        self.left_out = array("h", left_out)

    def _same_ages(self, i, k):
        # two slaves of one string, with the same age limits
        return (
            self.string_of_slave[i] == self.string_of_slave[k]
            and self.cell_age[i] == self.cell_age[k]
            and self.temp_age[i] == self.temp_age[k]
        )

    def string_at(self, starts, index):
        """String of a slave, cell or temperature; starts: slave_from, cell_from or temp_from."""
        string = 0
        while string + 1 < self.strings and index >= starts[string + 1]:
            string += 1
        return string

    def may_expire(self, now):
        """True where a reading may be too old since the last `expire`, or one is lost."""
        return self._any_lost or ticks.diff(now, self._expire_at) > 0

    def expire(self, now):
        """A part of: invalidate every reading that is too old. True once all were looked at.

        Sets lost_cell, lost_temp and lost_status then.
        """
        r = self._run
        if r < self._last_run:
            if r == 0:
                self._least = _LONG_MS
                self._any_lost = False
                self._expire_at = ticks.add(now, -1)  # so that the next part follows
                for s in range(self.strings):
                    self.lost_cell[s] = self.lost_temp[s] = self.lost_status[s] = -1
            self._run = r + 1
            self._expire_run(r, now)
            return False
        self._run = 0
        self._expire_states(now)
        self._expire_at = ticks.add(now, self._least if self._least > 0 else 0)
        return True

    def _expire_run(self, r, now):
        """Expire readings of one run of slaves."""
        i = self._runs[r]
        last = self._runs[r + 1] - 1
        s = self.string_of_slave[i]
        start = self.first_cell[i]
        end = self.first_cell[last] + self.slave_cells[last]
        lost = expire(self.cell_flags, self.cell_at, start, end, now, self.cell_age[i])
        if self.lost_cell[s] < 0:
            self.lost_cell[s] = lost
        self._due_in(self.cell_age[i] - oldest(self.cell_flags, self.cell_at, start, end, now))
        start = self.first_temp[i]
        end = self.first_temp[last] + self.slave_temps[last]
        lost = expire(self.temp_flags, self.temp_at, start, end, now, self.temp_age[i])
        if self.lost_temp[s] < 0:
            self.lost_temp[s] = lost
        if self.lost_cell[s] >= 0 or self.lost_temp[s] >= 0:
            self._any_lost = True
        self._due_in(self.temp_age[i] - oldest(self.temp_flags, self.temp_at, start, end, now))

    def _due_in(self, ms):
        """Something will be too old in `ms`."""
        if ms < self._least:
            self._least = ms

    def _expire_states(self, now):
        """Expire stack voltages and states of boards."""
        for i in range(self.slaves):
            if self.stack_ok[i]:
                rest = self.cell_age[i] - ticks.diff(now, self.stack_at[i])
                if rest < 0:
                    self.stack_ok[i] = 0
                else:
                    self._due_in(rest)
            status = self.status[i]
            if not status:
                continue
            if not self.known[i]:
                self.status_at[i] = now  # its first one may come so long after
            elif status == WITH_STACK and self.stack_ok[i]:
                self.status_at[i] = self.stack_at[i]
            rest = self.temp_age[i] - ticks.diff(now, self.status_at[i])
            if rest < 0:
                self.lost_status[self.string_of_slave[i]] = i
                self._any_lost = True
                self.status_at[i] = ticks.add(now, -self.temp_age[i] - 1)  # before ticks wrap
            else:
                self._due_in(rest)

    def is_left_out(self, temp):
        """True where the pack file leaves a sensor out."""
        for k in range(0, len(self.left_out), 2):
            if self.left_out[k] == temp:
                return True
        return False

    def fill_left_out(self):
        """Let the value of the sensor beside it stand for one that is left out."""
        for k in range(0, len(self.left_out), 2):
            i = self.left_out[k]
            near = self.left_out[k + 1]
            self.temp_dc[i] = self.temp_dc[near]
            self.temp_flags[i] = self.temp_flags[near] | LEFT_OUT
            self.temp_at[i] = self.temp_at[near]

    def update(self):
        """Find the extremes of all fresh readings."""
        if self.left_out:
            self.fill_left_out()
        for s in range(self.strings):
            start = self.cell_from[s]
            end = self.cell_from[s + 1]
            self.string_cell[s].update(self.cell_mv, self.cell_flags, start, end, FRESH)
            start = self.temp_from[s]
            end = self.temp_from[s + 1]
            self.string_temp[s].update(self.temp_dc, self.temp_flags, start, end, FRESH)
        if self.strings > 1:
            self.cell.merge(self.string_cell)
            self.temp.merge(self.string_temp)

    def new_cells(self, slave):
        """Extremes of the new cells of a slave, see readings.E_*; the next call reuses it."""
        first = self.first_cell[slave]
        end = first + self.slave_cells[slave]
        extremes(self.cell_mv, self.cell_flags, first, end, NEW, self._new)
        return self._new

    def new_temps(self, slave):
        """Extremes of the new temperatures of a slave, as `new_cells`."""
        first = self.first_temp[slave]
        end = first + self.slave_temps[slave]
        extremes(self.temp_dc, self.temp_flags, first, end, NEW, self._new)
        return self._new

    def cells_evaluated(self, slave):
        """Clear the mark NEW of all cells of a slave."""
        first = self.first_cell[slave]
        unmark(self.cell_flags, first, first + self.slave_cells[slave], NEW)

    def temps_evaluated(self, slave):
        """Clear the mark NEW of all temperatures of a slave."""
        first = self.first_temp[slave]
        unmark(self.temp_flags, first, first + self.slave_temps[slave], NEW)

    def balance_target_mv(self, string):
        """Voltage in mV down to which cells are balanced: lowest of the string + `balance_stop`."""
        target = self.string_cell[string].low + self._stop_mv
        return target if target > self._floor_mv else self._floor_mv

    def slave_extremes(self, slave):
        """Extremes of the fresh cells of one slave; the next call reuses the object."""
        first = self.first_cell[slave]
        end = first + self.slave_cells[slave]
        self._slave.update(self.cell_mv, self.cell_flags, first, end, FRESH)
        return self._slave

    def slave_temp_extremes(self, slave):
        """Extremes of the fresh temperatures of one slave; the next call reuses the object."""
        first = self.first_temp[slave]
        end = first + self.slave_temps[slave]
        self._slave.update(self.temp_dc, self.temp_flags, first, end, FRESH)
        return self._slave

    def invalidate(self, slave):
        """Invalidate every reading of a slave whose answers contradict each other.

        They count as lost only once they are too old: the next good scan makes them valid again.
        """
        first = self.first_cell[slave]
        for i in range(first, first + self.slave_cells[slave]):
            self.cell_flags[i] &= SEEN | LOST
        first = self.first_temp[slave]
        for i in range(first, first + self.slave_temps[slave]):
            self.temp_flags[i] &= SEEN | LOST
        self.stack_ok[slave] = 0
        # nothing closes before the next good scan
        self.string_cell[self.string_of_slave[slave]].complete = False
        self.cell.complete = False

    def all_known(self):
        """True where every configured slave has answered as the pack file says."""
        for i in range(self.slaves):
            if not self.known[i]:
                return False
        return True
