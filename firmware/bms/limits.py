"""Which reading is out of which bound, for how long.

Hard bounds of cells and temperatures are judged by the drivers as a frame arrives (`hard_cell`,
`hard_temp`); this module judges what needs a duration, from one table. A row runs on fresh
samples only. The time out of bound adds up, is held inside the hysteresis and runs down at half
speed beyond it, so that one good sample forgives nothing. Nothing here allocates after start-up.
"""

from array import array

from bms import faults, ticks

ABOVE, BELOW = 1, -1
# quantities of a row
CELL_MAX, CELL_MIN, SPREAD, TEMP_MAX, TEMP_MIN, TEMP_MAX_CHARGE, TEMP_MIN_CHARGE = range(7)
CHARGE, DISCHARGE = range(7, 9)

# (code, quantity, side, bound, hysteresis, delay): the last three name settings; a fault of level
# TRIP latches, all others withdraw by themselves
TABLE = (
    (faults.CELL_HIGH, CELL_MAX, ABOVE, "cell_max_mv", "cell_hysteresis_mv", "cell_delay_ms"),
    (faults.CELL_LOW, CELL_MIN, BELOW, "cell_min_mv", "cell_hysteresis_mv", "cell_delay_ms"),
    (
        faults.CELL_HIGH_WARNING,
        CELL_MAX,
        ABOVE,
        "cell_warn_max_mv",
        "cell_hysteresis_mv",
        "cell_delay_ms",
    ),
    (
        faults.CELL_LOW_WARNING,
        CELL_MIN,
        BELOW,
        "cell_warn_min_mv",
        "cell_hysteresis_mv",
        "cell_delay_ms",
    ),
    (faults.CELL_SPREAD, SPREAD, ABOVE, "spread_warn_mv", "cell_hysteresis_mv", "cell_delay_ms"),
    (faults.TEMP_HIGH, TEMP_MAX, ABOVE, "temp_max_dc", "temp_hysteresis_dc", "temp_delay_ms"),
    (faults.TEMP_LOW, TEMP_MIN, BELOW, "temp_min_dc", "temp_hysteresis_dc", "temp_delay_ms"),
    (
        faults.TEMP_HIGH_WARNING,
        TEMP_MAX,
        ABOVE,
        "temp_warn_max_dc",
        "temp_hysteresis_dc",
        "temp_delay_ms",
    ),
    (
        faults.TEMP_CHARGE_HIGH,
        TEMP_MAX_CHARGE,
        ABOVE,
        "temp_charge_max_dc",
        "temp_hysteresis_dc",
        "temp_delay_ms",
    ),
    (
        faults.TEMP_CHARGE_LOW,
        TEMP_MIN_CHARGE,
        BELOW,
        "temp_charge_min_dc",
        "temp_hysteresis_dc",
        "temp_delay_ms",
    ),
    (faults.CHARGE_CURRENT, CHARGE, ABOVE, "charge_max_ma", "current_idle_ma", "current_delay_ms"),
    (
        faults.DISCHARGE_CURRENT,
        DISCHARGE,
        ABOVE,
        "discharge_max_ma",
        "current_idle_ma",
        "current_delay_ms",
    ),
)
_FIRST_CURRENT_ROW = 10
_ROWS = 4  # judged in one piece of work


class Limits:
    """Judges the pack against the table; raises and withdraws faults.

    judging: a scan has ended, and `go_on` has not judged all of it yet.
    """

    def __init__(self, config, pack, current, faults_, contactors):
        self._pack = pack
        self._current = current
        self._faults = faults_
        self._contactors = contactors
        n = len(TABLE)
        self._bound = array("i", [getattr(config, row[3]) for row in TABLE])
        self._hysteresis = array("i", [getattr(config, row[4]) for row in TABLE])
        self._delay = array("i", [getattr(config, row[5]) for row in TABLE])
        self._out_ms = array("i", [0] * n)
        self._last = array("i", [0] * n)
        self._seen = bytearray(n)
        self._code = bytearray([row[0] for row in TABLE])
        self._quantity = bytearray([row[1] for row in TABLE])
        self._above = bytearray([1 if row[2] == ABOVE else 0 for row in TABLE])
        self._hard_high_mv = config.cell_hard_max_mv
        self._hard_low_mv = config.cell_hard_min_mv
        self._hard_high_dc = config.temp_hard_max_dc
        self._hard_ma = config.current_hard_max_ma
        self._cell_back = config.cell_hysteresis_mv
        self._temp_back = config.temp_hysteresis_dc
        self._idle_ma = config.current_idle_ma
        self._current_age = config.current_age_ms
        self._tolerance = config.stack_tolerance_mv
        self._stack_out = bytearray(pack.slaves)  # 2 for each scan out of tolerance, less 1 for in
        self._stack_at = array("i", [-1] * pack.slaves)  # stamp of the value judged last
        self._row = 0
        self.judging = False
        self._longest_scan = 2 * config.scan_period_ms

    def hard_cell(self, cell, mv):
        """A cell reading outside its hard bounds has just arrived."""
        if mv > self._hard_high_mv:
            self._faults.raised(faults.CELL_HARD_HIGH, cell, mv)
        elif mv < self._hard_low_mv:
            self._faults.raised(faults.CELL_HARD_LOW, cell, mv)

    def hard_temp(self, temp, dc):
        """A temperature outside its hard bound has just arrived."""
        if dc > self._hard_high_dc:
            self._faults.raised(faults.TEMP_HARD_HIGH, temp, dc)

    def scanned(self, now):
        """A scan has ended: every fresh reading is to be judged once, by `go_on` until it has."""
        self._pack.expire(now)
        self._pack.update()
        self._row = 0
        self.judging = True

    def go_on(self, now):
        """Judge a few rows of the table; the last piece compares stacks with their cells."""
        row = self._row
        self._row = row + _ROWS
        if row >= _FIRST_CURRENT_ROW:
            self._hard_gone()
            self._stacks()
            self.judging = False
            return
        end = row + _ROWS
        while row < end and row < _FIRST_CURRENT_ROW:
            self._judge(row, now)
            row += 1

    def aged(self, now):
        """Judge what silence alone decides: readings too old, a current sensor gone quiet."""
        pack = self._pack
        f = self._faults
        pack.expire(now)
        if pack.lost_cell < 0:
            f.gone(faults.CELL_LOST)
        else:
            f.raised(faults.CELL_LOST, pack.lost_cell, pack.cell_mv[pack.lost_cell])
        if pack.lost_temp < 0:
            f.gone(faults.TEMP_LOST)
        else:
            f.raised(faults.TEMP_LOST, pack.lost_temp, pack.temp_dc[pack.lost_temp])
        current = self._current
        if current.fitted:
            age = current.age(now)
            if age <= self._current_age:
                f.gone(faults.CURRENT_LOST)
            elif self._contactors.energised():
                f.raised(faults.CURRENT_LOST, -1, age)

    def sampled(self, now):
        """Judge a current sample that has just arrived."""
        ma = self._current.ma
        if ma > self._hard_ma or ma < -self._hard_ma:
            self._faults.raised(faults.CURRENT_HARD, -1, ma)
        elif -self._hard_ma + self._idle_ma < ma < self._hard_ma - self._idle_ma:
            self._faults.gone(faults.CURRENT_HARD)
        for row in range(_FIRST_CURRENT_ROW, len(self._code)):
            self._judge(row, now)

    def _judge(self, row, now):
        # value and place of the quantity; a quantity without fresh samples isn't judged
        quantity = self._quantity[row]
        place = -1
        if quantity <= SPREAD:
            cell = self._pack.new_cell
            if not cell.count:
                return
            if quantity == CELL_MAX:
                value = cell.high
                place = cell.high_at
            elif quantity == CELL_MIN:
                value = cell.low
                place = cell.low_at
            else:
                value = self._pack.cell.high - self._pack.cell.low
                place = self._pack.cell.high_at
        elif quantity <= TEMP_MIN_CHARGE:
            temp = self._pack.new_temp
            if not temp.count:
                return
            if quantity == TEMP_MAX or quantity == TEMP_MAX_CHARGE:
                value = temp.high
                place = temp.high_at
            else:
                value = temp.low
                place = temp.low_at
            if quantity >= TEMP_MAX_CHARGE and not self._current.charging:
                self._inside(row, now)
                return
        elif quantity == CHARGE:
            value = self._current.ma
        else:
            value = -self._current.ma
        beyond = value - self._bound[row]
        if not self._above[row]:
            beyond = -beyond
        if beyond > 0:
            self._outside(row, now, place, value)
        elif beyond < -self._hysteresis[row] and not self._stands(quantity, row):
            self._inside(row, now)
        else:
            self._last[row] = now

    def _stands(self, quantity, row):
        """A reading that didn't come anew, but is still valid, isn't back within its bound."""
        pack = self._pack
        if quantity == CELL_MAX:
            value = pack.cell.high
        elif quantity == CELL_MIN:
            value = pack.cell.low
        elif quantity == TEMP_MAX or quantity == TEMP_MAX_CHARGE:
            value = pack.temp.high
        elif quantity == TEMP_MIN or quantity == TEMP_MIN_CHARGE:
            value = pack.temp.low
        else:
            return False
        beyond = value - self._bound[row]
        return (beyond if self._above[row] else -beyond) >= -self._hysteresis[row]

    def _elapsed(self, row, now):
        # bounded: a gap without samples is silence, not time out of bound
        ms = ticks.diff(now, self._last[row]) if self._seen[row] else 0
        self._seen[row] = 1
        self._last[row] = now
        longest = self._longest_scan if row < _FIRST_CURRENT_ROW else self._current_age
        return ms if 0 <= ms < longest else longest

    def _outside(self, row, now, place, value):
        out = self._out_ms[row]
        passed = self._elapsed(row, now)
        # the first sample only starts the time: how long it was so before, nobody knows
        out = out + passed if out else 1
        delay = self._delay[row]
        if out > delay:
            out = delay + 1
            self._faults.raised(self._code[row], place, value)
        self._out_ms[row] = out

    def _inside(self, row, now):
        out = self._out_ms[row]
        if not out:
            self._last[row] = now
            self._seen[row] = 1
            return
        out -= (self._elapsed(row, now) + 1) >> 1
        if out <= 0:
            out = 0
            self._faults.gone(self._code[row])
        self._out_ms[row] = out

    def _hard_gone(self):
        cell = self._pack.cell
        f = self._faults
        if cell.complete:
            if cell.high <= self._hard_high_mv - self._cell_back:
                f.gone(faults.CELL_HARD_HIGH)
            if cell.low >= self._hard_low_mv + self._cell_back:
                f.gone(faults.CELL_HARD_LOW)
        temp = self._pack.temp
        if temp.complete and temp.high <= self._hard_high_dc - self._temp_back:
            f.gone(faults.TEMP_HARD_HIGH)

    def _stacks(self):
        """A slave's stack voltage against its cells; a good scan undoes half of a bad one."""
        pack = self._pack
        on = False
        for i in range(pack.slaves):
            out = self._stack_out[i]
            if pack.stack_ok[i] and pack.stack_at[i] != self._stack_at[i]:
                cells = pack.slave_extremes(i)
                if cells.complete:
                    self._stack_at[i] = pack.stack_at[i]
                    by = pack.stack_mv[i] - cells.total
                    if (by if by >= 0 else -by) > self._tolerance:
                        out = out + 2 if out < 4 else 6
                        if out == 6:
                            self._faults.raised(faults.STACK_VOLTAGE, i, by)
                    elif out:
                        out = out - 1 if out < 6 else 0
                    self._stack_out[i] = out
            on = on or out > 0
        if not on:
            self._faults.gone(faults.STACK_VOLTAGE)
