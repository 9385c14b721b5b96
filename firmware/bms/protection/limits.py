"""Which reading is out of which bound, for how long.

Hard bounds of cells and temperatures are judged by the drivers as a frame arrives (`hard_cell`,
`hard_temp`), that of the current as its sample comes; what needs a duration is judged at three
levels from fault_catalog.QUANTITIES by the kernel `judge`, on fresh samples only: a slave's cells
and temperatures by its own readings, since slaves are read differently often; what is made of a
whole string's readings, once all of them are others; the rest with each measurement. Here also is
what is measured twice: stacks against cells, a measured string against its cells, readings
that don't move with the current, an open sense wire. Nothing allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels import any_set, changed, evaluate, oldest, open_pair, plain_slaves
from bms.kernels import readings as T
from bms.pack import FRESH, LOST
from bms.protection import faults
from bms.protection.faults import DERATE, QUANTITIES, TRIP, WARN, level_fault, quantity_of

# quantities, numbered as their faults are
CELL_MAX = quantity_of(faults.CELL_HIGH)
CELL_MIN = quantity_of(faults.CELL_LOW)
SPREAD = quantity_of(faults.CELL_SPREAD)
TEMP_MAX = quantity_of(faults.TEMP_HIGH)
TEMP_MIN = quantity_of(faults.TEMP_LOW)
CHARGE_TEMP_MAX = quantity_of(faults.TEMP_CHARGE_HIGH)
CHARGE_TEMP_MIN = quantity_of(faults.TEMP_CHARGE_LOW)
TEMP_SPREAD = quantity_of(faults.TEMP_SPREAD)
BOARD = quantity_of(faults.BOARD_TEMP)
VOLTAGE_MAX = quantity_of(faults.VOLTAGE_HIGH)
VOLTAGE_MIN = quantity_of(faults.VOLTAGE_LOW)
VOLTAGE_DIFFERS = quantity_of(faults.VOLTAGE_DIFFERS)
CHARGE = quantity_of(faults.CHARGE_CURRENT)
DISCHARGE = quantity_of(faults.DISCHARGE_CURRENT)
CHARGE_PEAK = quantity_of(faults.CHARGE_PEAK)
DISCHARGE_PEAK = quantity_of(faults.DISCHARGE_PEAK)
PACK_CHARGE = quantity_of(faults.PACK_CHARGE)
PACK_DISCHARGE = quantity_of(faults.PACK_DISCHARGE)
ISOLATION = quantity_of(faults.ISOLATION_LOW)
AGE = quantity_of(faults.SLAVE_AGE)

# pieces of a string's judgement, and the rest; before the first string what all need
_BEGIN, _SLAVES, _WHOLE, _LAST, _PREPARE = range(5)
_AT_ONCE = const(8)  # slaves in one piece, of which nothing is out
_OWN = const(9)  # quantities up to BOARD: a slave's own, but for the two spreads
_NEVER_BACK = const(1 << 28)
_FULL = const(1 << 20)  # an I2t budget
_SCALE = const(256)  # currents in parts of their bound, so that squares stay small
_STUCK_READINGS = const(20)
_COLD = const(-10000)  # 0.1 degC: nobody says how warm
_LONGEST_SCAN = const(10000)  # and what its current may stand for
_TICK = const(100)  # ms that one tick's measurement may stand for, at most


def _stands(at, i, now, turn):
    """ms that the value of `now` stands for; notes in at[i] when it was judged.

    The time since the one before, but twice the `turn` or gap before it at[i + 1] at most: a
    longer one is silence, not time out of bound.
    """
    ms = ticks.since(now, at[i])
    gap = at[i + 1]
    most = 2 * (gap if gap > turn else turn)
    at[i] = now
    at[i + 1] = ms
    return ms if ms < most else most


def share(value, pm):
    """`pm` thousandths of a value of 0..2**30-1; the product stays below 2**30."""
    return value * pm // 1000 if value < 1000000 else value // 1000 * pm


def _value(config, what):
    """The value of a bound in fault_catalog: of a setting by name, or the number itself."""
    if isinstance(what, int):
        return what
    return config.number(what) if what else 0


class Limits:
    """Judges the pack against the table; raises and withdraws faults.

    judging: a scan has ended, and `go_on` has not judged all of it yet; peak_pm: I2t used of its
    budget in permille, [2 * string] charge, + 1 discharge; pack_ma: current of all strings.
    hard_low_mv, hard_high_mv, hard_high_dc: what a driver takes for a hard bound; beyond it calls
    `hard_cell` or `hard_temp`.
    """

    def __init__(self, config, pack, currents, faults_, strings, now):
        self._pack = pack
        self._currents = currents
        self._faults = faults_
        self._strings = strings
        self._table(config)
        self.hard_high_mv = config.cell_hard_max_mv
        self.hard_low_mv = config.cell_hard_min_mv
        self.hard_high_dc = config.temp_hard_max_dc
        self._hard_ma = config.current_hard_max_ma
        self._cell_back = config.cell_hysteresis_mv
        self._temp_back = config.temp_hysteresis_dc
        self._idle_ma = config.current_idle_ma
        self._current_age = config.current_age_ms
        self._tolerance = config.stack_tolerance_mv
        self._open_wire = config.open_wire_mv
        self._installed = bool(config.voltage_sensor)
        self._wire = array("h", [-1] * pack.strings)  # a pair that was apart, as it was read
        self._wire_at = array("i", [0] * pack.strings)
        # what is noted of a slave from one evaluation to the next: kernels' L_*
        self._rows = array("i", [0] * (T.L_ROW * pack.slaves))
        for i in range(pack.slaves):
            row = T.L_ROW * i
            self._rows[row + T.L_CELL] = pack.first_cell[i]
            self._rows[row + T.L_CELLS] = pack.slave_cells[i]
            self._rows[row + T.L_TEMP] = pack.first_temp[i]
            self._rows[row + T.L_TEMPS] = pack.slave_temps[i]
            self._rows[row + T.L_CELLS_AT] = self._rows[row + T.L_TEMPS_AT] = now
            self._rows[row + T.L_BOARD_AT] = self._rows[row + T.L_STACK_AT] = -1
        self._cells_age = array("i", [0] * pack.strings)  # of the oldest reading, of this scan
        self._temps_age = array("i", [0] * pack.strings)
        self._charged_ms = array("i", [0] * pack.strings)  # time that it charged, as ticks
        self._at = now  # of this scan
        self._period = config.scan_period_ms
        self._slave_age = 0
        self._again = False
        self._looking = self._ending = self._telling = False
        self._pair = self._stuck = self._warned = -1
        self._string = self._step = self._slave = 0
        self._hottest = self._missing = 0
        self._age = self._age_at = self._age_ms = 0
        self._cell_age = config.cell_age_ms
        self._board_dc = array("h", [_COLD] * pack.strings)
        self._stack_bad = False
        self.evaluating = False
        self._poll_period_ms = array("i", [config.scan_period_ms] * pack.strings)
        self._stuck_ms = array("i", [config.stuck_time_ms] * pack.strings)  # 0: not looked for
        self._stuck_ma = config.stuck_current_ma or config.capacity_mah // 5
        self._before = array("h", [0] * (pack.cells if config.stuck_time_ms else 0))
        self._moved = bytearray(pack.cells if config.stuck_time_ms else 0)
        self._window_at = array("i", [now] * pack.strings)
        self._low_ma = array("i", [0] * pack.strings)
        self._high_ma = array("i", [0] * pack.strings)
        n = 2 * pack.strings
        self.peak_pm = array("h", [0] * n)
        self._peak = array("i", [0] * n)
        self._peak_at = array("i", [-1] * n)
        self.pack_ma = 0
        p = self._p = array("i", [0] * 15)  # of the kernel `plain_slaves`
        p[T.P_TOLERANCE] = self._tolerance
        p[T.P_OWN] = 3 * _OWN
        p[T.P_CELL_LOW] = self._inside_mv[0] + T.J_BIAS
        p[T.P_CELL_HIGH] = self._inside_mv[1] + T.J_BIAS
        p[T.P_TEMP_LOW] = self._inside_dc[0] + T.J_BIAS
        p[T.P_TEMP_HIGH] = self._inside_dc[1] + T.J_BIAS
        p[T.P_BOARD] = self._inside_board_dc + T.J_BIAS

    def _table(self, config):
        """The kernel's tables: bounds, and what adds up beyond them. Allocates, at start."""
        from bms.protection.fault_catalog import BELOW, by_quantity

        pack = self._pack
        strings = pack.strings
        t = self._bounds = array("i", bytearray(4 * QUANTITIES * T.BOUNDS))
        self._own = array("i", bytearray(4 * 3 * _OWN * pack.slaves))
        self._set_by_slaves = bytearray(3 * _OWN * strings)  # by slaves of a string
        self._any_set_by_slaves = bytearray(strings)  # any of it
        self._out_ms = array("i", bytearray(4 * 3 * QUANTITIES * strings))
        # when each was judged last, and the ms from the time before to that
        self._judged = array("i", [-1, 0] * (QUANTITIES * strings))
        rows = by_quantity()
        self._side = bytearray([1 if row[5] == BELOW else 0 for row in rows])
        for q in range(QUANTITIES):
            bounds = self._levels(config, rows, q)
            back, delay, samples = [_value(config, x) for x in rows[q][7]]
            sign = -1 if self._side[q] else 1
            for level in range(3):
                at = q * T.BOUNDS + level * T.LEVEL
                t[at + T.J_BOUND] = sign * bounds[level] + T.J_BIAS
                t[at + T.J_BACK] = back
                t[at + T.J_DELAY] = delay
                t[at + T.J_SAMPLES] = samples
                if q == AGE and level == 2:
                    t[at + T.J_DELAY] = 1  # a scan later: the cell is named first
        # where a slave's readings are out of no bound of any level
        self._inside_mv = array("h", [self._least(CELL_MIN), self._least(CELL_MAX)])
        self._inside_dc = array(
            "h",
            [
                max(self._least(TEMP_MIN), self._least(CHARGE_TEMP_MIN)),
                min(self._least(TEMP_MAX), self._least(CHARGE_TEMP_MAX)),
            ],
        )
        self._inside_board_dc = self._least(BOARD)
        self._peak_table(config)

    def _levels(self, config, rows, q):
        """Bounds of a quantity that warn, derate and trip; those not given follow from others."""
        pack = self._pack
        bounds = [_value(config, x) for x in rows[q][6]]
        if VOLTAGE_MAX <= q <= VOLTAGE_MIN:
            by_cell = rows[CELL_MAX + q - VOLTAGE_MAX][6]
            for i in range(3):
                bounds[i] = bounds[i] or _value(config, by_cell[i]) * pack.string_cells[0]
        elif PACK_CHARGE <= q <= PACK_DISCHARGE:
            each = rows[CHARGE + q - PACK_CHARGE][6]
            bounds[2] = bounds[2] or pack.strings * _value(config, each[2])
        elif q == AGE:
            bounds[0] = bounds[0] or bounds[2] * 6 // 10
            bounds[1] = bounds[1] or bounds[2] * 8 // 10
        if q in (CHARGE, DISCHARGE, PACK_CHARGE, PACK_DISCHARGE):
            bounds[0] = share(bounds[2], config.current_warn_pm)
            bounds[1] = share(bounds[2], config.current_derate_pm)
        return bounds

    def _peak_table(self, config):
        """I2t: parts of the budget for each ms and part of the current squared, see _peaks."""
        self._continuous = array("i", [_SCALE, _SCALE])
        self._divisor = array("i", [1, 1])
        self._most = array("i", [config.charge_max_ma, config.discharge_max_ma])
        given = (config.charge_continuous_ma, config.discharge_continuous_ma)
        for i in range(2):
            if 0 < given[i] < self._most[i]:
                part = given[i] * _SCALE // self._most[i]
                self._continuous[i] = part
                budget = (_SCALE * _SCALE - part * part) * config.peak_time_ms
                self._divisor[i] = max(budget // _FULL, 1)

    def bound(self, quantity, level):
        """Where a quantity begins to warn, derate or trip (level as in `faults`), in its unit."""
        value = self._bounds[quantity * T.BOUNDS + T.LEVEL * (level - WARN) + T.J_BOUND] - T.J_BIAS
        return -value if self._side[quantity] else value

    def _least(self, quantity):
        """The bound of a quantity that is met first."""
        bounds = [self.bound(quantity, level) for level in (WARN, DERATE, TRIP)]
        return max(bounds) if self._side[quantity] else min(bounds)

    def hottest_dc(self, string):
        """The warmest slave board of a string in the last scan; very cold where none says."""
        return self._board_dc[string]

    def within_bounds(self, string):
        """True where no bound of a string, nor of the pack, is exceeded, however short the time."""
        pack = self._pack
        each = 3 * QUANTITIES
        own = 3 * _OWN
        first = pack.slave_from[string] * own
        if any_set(self._out_ms, string * each, (string + 1) * each):
            return False
        if any_set(self._own, first, pack.slave_from[string + 1] * own):
            return False
        # what is the pack's stands with the first string
        return not any_set(self._out_ms, 3 * PACK_CHARGE, 3 * (ISOLATION + 1))

    def _evaluate(self, string, quantity, value, standing, place, longest, levels, now, turn=0):
        """Judge a fresh value of a string; raise and withdraw what follows from it.

        It stands for `longest` ms at most, or as `_stands` says where its `turn` is given.
        """
        i = string * QUANTITIES + quantity
        if turn:
            ms = _stands(self._judged, 2 * i, now, turn)
        else:
            ms = ticks.since(now, self._judged[2 * i])
            if ms > longest:
                ms = longest
            self._judged[2 * i] = now
        if self._side[quantity]:
            value_ = -value
            standing = -standing
        else:
            value_ = value
        found = evaluate(
            self._bounds, quantity * T.BOUNDS, self._out_ms, 3 * i, levels, value_, standing, ms
        )
        if found:
            fault = level_fault(quantity, WARN)
            f = self._faults
            for level in range(3):
                if found & 1:
                    f.set(fault + level, place, self._age_ms if quantity == AGE else value)
                elif found & 8:
                    f.clear(fault + level, place)
                found >>= 1

    def _evaluate_slave(self, slave, quantity, value, standing, place, ms, levels):
        """Judge a slave's own value, which stands for `ms`; as `_judge`."""
        i = 3 * (slave * _OWN + quantity)
        if self._side[quantity]:
            value_ = -value
            standing = -standing
        else:
            value_ = value
        found = evaluate(
            self._bounds, quantity * T.BOUNDS, self._own, i, levels, value_, standing, ms
        )
        if found:
            fault = level_fault(quantity, WARN)
            f = self._faults
            for level in range(3):
                if found & 1:
                    f.set(fault + level, place, value)
                    self._set_by_slaves[3 * (self._string * _OWN + quantity) + level] = 1
                    self._any_set_by_slaves[self._string] = 1
                found >>= 1

    def _clear_slave_faults(self, s):
        """What slaves of a string raised goes when none is out, and all readings are back."""
        pack = self._pack
        raised = self._set_by_slaves
        first = 3 * _OWN * s
        still = 0
        for which in range(3 * _OWN):
            if not raised[first + which]:
                continue
            if self._all_back(s, which // 3, which):
                raised[first + which] = 0
                starts = pack.slave_from
                if which < 3 * BOARD:
                    starts = pack.temp_from if which >= 3 * SPREAD else pack.cell_from
                self._faults.clear(level_fault(0, WARN) + which, starts[s])
            else:
                still = 1
        self._any_set_by_slaves[s] = still

    def _all_back(self, s, quantity, which):
        pack = self._pack
        for i in range(pack.slave_from[s], pack.slave_from[s + 1]):
            if self._own[3 * _OWN * i + which]:
                return False
        if quantity == BOARD:
            value = self._hottest
        else:
            all_ = pack.string_cell[s] if quantity < SPREAD else pack.string_temp[s]
            current = self._currents[s]
            if CHARGE_TEMP_MAX <= quantity and current.installed and not current.charging:
                return True
            if not all_.complete:
                return False
            value = -all_.low if self._side[quantity] else all_.high
        at = quantity * T.BOUNDS + (which - 3 * quantity) * T.LEVEL
        bounds = self._bounds
        return value - bounds[at + T.J_BOUND] + T.J_BIAS < -bounds[at + T.J_BACK]

    def set_poll_periods(self):
        """How often each slave is read stands in the pack: `Pack.turn_ms`."""
        pack = self._pack
        for s in range(pack.strings):
            self._poll_period_ms[s] = max(
                pack.poll_period_ms[pack.slave_from[s] : pack.slave_from[s + 1]]
            )
            for i in range(pack.slave_from[s], pack.slave_from[s + 1]):
                # read in each scan, and its age is not to be scaled
                often = (
                    pack.poll_period_ms[i] <= self._period and pack.cell_age[i] == self._cell_age
                )
                self._rows[T.L_ROW * i + T.L_PLAIN] = 1 if often else 0
            # what is read rarely must be the same in many readings, not only for a time
            least = _STUCK_READINGS * self._poll_period_ms[s]
            if self._stuck_ms[s] and self._stuck_ms[s] < least:
                self._stuck_ms[s] = least

    # --- on arrival ---

    def hard_cell(self, cell, mv):
        """A cell reading outside its hard bounds has just arrived."""
        if mv > self.hard_high_mv:
            self._faults.set(faults.CELL_HARD_HIGH, cell, mv)
        elif mv < self.hard_low_mv:
            self._faults.set(faults.CELL_HARD_LOW, cell, mv)

    def hard_temp(self, temp, dc):
        """A temperature outside its hard bound has just arrived."""
        if dc > self.hard_high_dc:
            self._faults.set(faults.TEMP_HARD_HIGH, temp, dc)

    def hard_again(self):
        """Evaluate all fresh readings against their hard bounds: an error may have come between."""
        pack = self._pack
        pack.update()
        for s in range(pack.strings):
            cell = pack.string_cell[s]
            if cell.count:
                self.hard_cell(cell.high_at, cell.high)
                self.hard_cell(cell.low_at, cell.low)
            temp = pack.string_temp[s]
            if temp.count:
                self.hard_temp(temp.high_at, temp.high)

    def current_sampled(self, string, now):
        """Judge a current sample of a string that has just arrived."""
        ma = self._currents[string].ma
        f = self._faults
        if ma > self._hard_ma or ma < -self._hard_ma:
            f.set(faults.CURRENT_HARD, string, ma)
        elif -self._hard_ma + self._idle_ma < ma < self._hard_ma - self._idle_ma:
            f.clear(faults.CURRENT_HARD, string)
        if ma < self._low_ma[string]:
            self._low_ma[string] = ma
        elif ma > self._high_ma[string]:
            self._high_ma[string] = ma
        age = self._current_age
        self._evaluate(string, CHARGE, ma, ma, string, age, 3, now)
        self._evaluate(string, DISCHARGE, -ma, -ma, string, age, 3, now)
        self._peaks(string, 0, ma, now)
        self._peaks(string, 1, -ma, now)
        total = 0
        for current in self._currents:
            total += current.ma
        self.pack_ma = total
        if len(self._currents) > 1:
            self._evaluate(0, PACK_CHARGE, total, total, -1, age, 3, now)
            self._evaluate(0, PACK_DISCHARGE, -total, -total, -1, age, 3, now)

    def _peaks(self, string, side, ma, now):
        """I2t of what is above the continuous current: a budget of (bound2 - continuous2) * time.

        Source: the adiabatic heating of conductors and fuses, as IEC 60269 states it for fuses.
        """
        continuous = self._continuous[side]
        if continuous >= _SCALE:
            return
        i = 2 * string + side
        ms = ticks.diff(now, self._peak_at[i]) if self._peak_at[i] >= 0 else 0
        if not 0 <= ms < self._current_age:
            ms = self._current_age
        self._peak_at[i] = now
        # in parts of the bound, at most four times of it
        part = 0 if ma < 0 else ma // ((self._most[side] + _SCALE - 1) // _SCALE)
        if part > 4 * _SCALE:
            part = 4 * _SCALE
        used = self._peak[i] + (part * part - continuous * continuous) * ms // self._divisor[side]
        if used < 0:
            used = 0
        elif used > _FULL:
            used = _FULL
        self._peak[i] = used
        pm = (used >> 10) * 1000 >> 10
        self.peak_pm[i] = pm
        # above 999: the budget is used up
        self._evaluate(string, CHARGE_PEAK + side, pm + 1, pm + 1, string, 100, 3, now)

    # --- after a scan ---

    def scan_finished(self, now):
        """A scan has ended: every fresh reading is to be judged once, by `go_on` until it has."""
        self._aged(now)  # what is lost is told as what it is, before a missing slave
        if self.evaluating:
            self._again = True  # the one before has not judged all yet
            return
        self._string = 0
        self._step = _PREPARE
        self.evaluating = True

    def _prepare(self, now):
        pack = self._pack
        pack.update()
        ms = ticks.since(now, self._at)
        if ms > _LONGEST_SCAN:
            ms = _LONGEST_SCAN
        self._at = now
        for s in range(pack.strings):
            start = pack.cell_from[s]
            end = pack.cell_from[s + 1]
            self._cells_age[s] = oldest(pack.cell_flags, pack.cell_at, start, end, now)
            start = pack.temp_from[s]
            end = pack.temp_from[s + 1]
            self._temps_age[s] = oldest(pack.temp_flags, pack.temp_at, start, end, now)
            if self._currents[s].charging:
                self._charged_ms[s] = ticks.add(self._charged_ms[s], ms)
        self._stack_bad = False

    def evaluate_next(self, now):
        """Judge what is a string's, or one of its slaves."""
        s = self._string
        step = self._step
        self._step = step + 1
        if step == _BEGIN:
            self._begin(s, now)
        elif step == _SLAVES:
            self._slave = self._some_slaves(self._slave, s, now)
            if self._slave < self._pack.slave_from[s + 1]:
                self._step = _SLAVES
        elif step == _WHOLE:
            self._whole(s)
        elif step == _PREPARE:
            self._prepare(now)
            self._step = _BEGIN
        else:
            self._last(s, now)
            self._string = s + 1
            self._step = 0
            if self._string == self._pack.strings:
                self._hard_gone()
                if not self._stack_bad:
                    for s in range(self._pack.strings):
                        self._faults.clear(faults.STACK_VOLTAGE, self._pack.slave_from[s])
                self.evaluating = False
                if self._again:
                    self._again = False
                    self.scan_finished(now)

    def _some_slaves(self, i, s, now):
        """Judge slave `i`, or several from it on of which nothing is out; the next one."""
        if not self._looking and not (self._moved and self._ending):
            pack = self._pack
            p = self._p
            end = pack.slave_from[s + 1]
            p[T.P_SLAVE] = i
            p[T.P_END] = i + _AT_ONCE if i + _AT_ONCE < end else end
            p[T.P_SCAN_AT] = self._at
            p[T.P_NOW] = now
            p[T.P_CHARGED] = self._charged_ms[s]
            p[T.P_HOTTEST] = self._hottest + T.J_BIAS
            p[T.P_AGE] = self._age
            p[T.P_AGE_AT] = self._age_at
            end = plain_slaves(
                p,
                self._rows,
                self._own,
                pack.cell_mv,
                pack.cell_flags,
                pack.cell_at,
                pack.temp_dc,
                pack.temp_flags,
                pack.stack_mv,
                pack.stack_at,
                pack.stack_ok,
                pack.die_dc,
                pack.slave_flags,
            )
            if end > i:
                self._hottest = p[T.P_HOTTEST] - T.J_BIAS
                if p[T.P_AGE] > self._age:
                    self._age = self._age_ms = p[T.P_AGE]
                    self._age_at = p[T.P_AGE_AT]
                if self._moved:
                    last = end - 1
                    last = pack.first_cell[last] + pack.slave_cells[last]
                    changed(pack.cell_mv, self._before, self._moved, pack.first_cell[i], last)
                return end
        self._readings(i, s, now)
        self._one_slave(i, now)
        return i + 1

    def _whole(self, s):
        """What is made of all readings of a string: judged once each of them is another.

        So that a reading counts once in it, however often those of other slaves come meanwhile.
        """
        cell = self._pack.string_cell[s]
        if cell.count and self._anew(s, SPREAD, self._cells_age[s]):
            self._apart(s, SPREAD, cell)
            if not self._installed and cell.complete:
                self._voltage(s, cell.total, self._at, 0, self._poll_period_ms[s])
        temp = self._pack.string_temp[s]
        if temp.count and self._anew(s, TEMP_SPREAD, self._temps_age[s]):
            self._apart(s, TEMP_SPREAD, temp)

    def _anew(self, s, quantity, age):
        at = self._judged[2 * (s * QUANTITIES + quantity)]
        return at < 0 or age < ticks.since(self._at, at)

    def _apart(self, s, quantity, all_):
        """Lowest against highest."""
        by = all_.high - all_.low
        turn = self._poll_period_ms[s]
        self._evaluate(s, quantity, by, by, all_.high_at, 0, 3, self._at, turn)

    def _readings(self, i, s, now):
        """New cells and temperatures of a slave, judged where one may be out or has been."""
        pack = self._pack
        own = 3 * _OWN * i
        out = any_set(self._own, own, own + 3 * TEMP_SPREAD)
        turn = pack.poll_period_ms[i]
        n = pack.slave_cells[i]
        first = pack.first_cell[i]
        age = self._slave_age = oldest(pack.cell_flags, pack.cell_at, first, first + n, now)
        new = pack.new_cells(i)
        rows = self._rows
        row = T.L_ROW * i
        if self._ready(new[T.E_COUNT], n, age, rows[row + T.L_CELLS_AT], turn):
            pack.cells_evaluated(i)
            ms = _stands(rows, row + T.L_CELLS_AT, self._at, turn)
            if out or new[T.E_MAX] > self._inside_mv[1] or new[T.E_MIN] < self._inside_mv[0]:
                self._slave_cells(i, new, ms)
        n = pack.slave_temps[i]
        first = pack.first_temp[i]
        age = 0
        if turn > self._period:
            age = oldest(pack.temp_flags, pack.temp_at, first, first + n, now)
        new = pack.new_temps(i)
        if self._ready(new[T.E_COUNT], n, age, rows[row + T.L_TEMPS_AT], turn):
            pack.temps_evaluated(i)
            ms = _stands(rows, row + T.L_TEMPS_AT, self._at, turn)
            if out or new[T.E_MAX] > self._inside_dc[1] or new[T.E_MIN] < self._inside_dc[0]:
                self._slave_temps(i, s, new, ms)
            else:
                rows[row + T.L_CHARGED_AT] = self._charged_ms[s]

    def _ready(self, new, all_, age, at, turn):
        """Whether a slave's readings are judged: all are new and of one answer, or some don't come.

        So that an answer in parts, with a scan's end between them, is judged once.
        """
        if not new:
            return False
        if new == all_ and (age <= turn - (turn >> 3) or turn <= self._period):
            return True
        return 2 * ticks.since(self._at, at) >= 3 * turn

    def _slave_cells(self, i, new, ms):
        """What is out goes when all cells of the slave are back."""
        all_ = self._pack.slave_extremes(i)
        high = all_.high if all_.complete else _NEVER_BACK
        low = all_.low if all_.complete else -_NEVER_BACK
        self._evaluate_slave(i, CELL_MAX, new[T.E_MAX], high, new[T.E_MAX_AT], ms, 3)
        self._evaluate_slave(i, CELL_MIN, new[T.E_MIN], low, new[T.E_MIN_AT], ms, 3)

    def _slave_temps(self, i, s, new, ms):
        all_ = self._pack.slave_temp_extremes(i)
        high = all_.high if all_.complete else _NEVER_BACK
        low = all_.low if all_.complete else -_NEVER_BACK
        new_high = new[T.E_MAX]
        new_low = new[T.E_MIN]
        self._evaluate_slave(i, TEMP_MAX, new_high, high, new[T.E_MAX_AT], ms, 3)
        self._evaluate_slave(i, TEMP_MIN, new_low, low, new[T.E_MIN_AT], ms, 3)
        # bounds for charging; where nobody knows whether it charges, they don't trip
        levels = 3
        if not self._currents[s].installed:
            levels = 2
        else:
            # of the time since its readings before, what it charged counts, and half of the rest
            # against it
            before = T.L_ROW * i + T.L_CHARGED_AT
            charged = ticks.since(self._charged_ms[s], self._rows[before])
            self._rows[before] = self._charged_ms[s]
            if charged > ms:
                charged = ms
            rest = ms - charged
            if 2 * charged > rest:
                ms = charged - (rest >> 1)
            else:
                ms = rest - 2 * charged
                new_high = high = -_NEVER_BACK  # inside, as far as charging goes
                new_low = low = _NEVER_BACK
        at = new[T.E_MAX_AT]
        self._evaluate_slave(i, CHARGE_TEMP_MAX, new_high, high, at, ms, levels)
        at = new[T.E_MIN_AT]
        self._evaluate_slave(i, CHARGE_TEMP_MIN, new_low, low, at, ms, levels)

    def _one_slave(self, i, now):
        """A slave's stack voltage against its cells, its own temperature, its age."""
        pack = self._pack
        rows = self._rows
        row = T.L_ROW * i
        out = rows[row + T.L_STACK_OUT]
        if pack.stack_ok[i]:
            dc = pack.die_dc[i]
            if dc > self._hottest:
                self._hottest = dc
            if pack.stack_at[i] != rows[row + T.L_BOARD_AT]:
                at = pack.stack_at[i]
                ms = _stands(rows, row + T.L_BOARD_AT, at, pack.poll_period_ms[i])
                own = 3 * (_OWN * i + BOARD)
                if dc > self._inside_board_dc or any_set(self._own, own, own + 3):
                    self._evaluate_slave(i, BOARD, dc, dc, i, ms, 3)
            if pack.stack_at[i] != rows[row + T.L_STACK_AT]:
                cells = pack.slave_extremes(i)
                if cells.complete:
                    rows[row + T.L_STACK_AT] = pack.stack_at[i]
                    by = pack.stack_mv[i] - cells.total
                    # a good scan undoes half of a bad one
                    if (by if by >= 0 else -by) > self._tolerance:
                        out = out + 2 if out < 4 else 6
                        if out == 6:
                            self._faults.set(faults.STACK_VOLTAGE, i, by)
                    elif out:
                        out = out - 1 if out < 6 else 0
                    rows[row + T.L_STACK_OUT] = out
        if out:
            self._stack_bad = True
        first = pack.first_cell[i]
        end = first + pack.slave_cells[i]
        age = part = self._slave_age
        own = pack.cell_age[i]
        if own != self._cell_age:  # its part of [limits] cell_age is judged, itself is said
            part = min(age, 4 * own) * 1000 // own * self._cell_age // 1000
        if part > self._age:
            self._age = part
            self._age_ms = age
            self._age_at = i
        if pack.cell_flags[first] & LOST:
            self._missing += 1
        if pack.slave_flags[i] & 0xFF00:
            self._warned = i
        if self._looking:
            # the mean without the two that are apart is near enough to that of all
            all_ = pack.string_cell[pack.string_of_slave[i]]
            mean = all_.total // all_.count
            pair = open_pair(pack.cell_mv, pack.cell_flags, first, end, mean, self._open_wire)
            if pair >= 0:
                self._pair = pair
        if self._moved:
            self._one_stuck(first, end)

    def _begin(self, s, now):
        """Before the slaves of a string: what is looked for in them."""
        pack = self._pack
        self._slave = pack.slave_from[s]
        self._hottest = _COLD
        self._age = self._age_ms = self._missing = 0
        self._age_at = self._slave
        all_ = pack.string_cell[s]
        self._looking = all_.complete and all_.high - all_.low >= 2 * self._open_wire
        self._pair = self._stuck = self._warned = -1
        moved = self._high_ma[s] - self._low_ma[s] >= self._stuck_ma
        self._ending = ticks.diff(now, self._window_at[s]) >= self._stuck_ms[s]
        self._telling = self._ending and moved and self._currents[s].installed

    def _one_stuck(self, first, end):
        """Cells that show the same millivolt for a whole window while the current moves."""
        pack = self._pack
        moved = self._moved
        changed(pack.cell_mv, self._before, moved, first, end)
        if not self._ending:
            return
        for i in range(first, end):
            if self._telling and not moved[i] and pack.cell_flags[i] & FRESH:
                self._stuck = i
            moved[i] = 0
            self._before[i] = pack.cell_mv[i]

    def _last(self, s, now):
        """What the slaves of a string say together."""
        pack = self._pack
        f = self._faults
        self._board_dc[s] = self._hottest
        if self._any_set_by_slaves[s]:
            self._clear_slave_faults(s)
        age = self._age
        self._evaluate(s, AGE, age, age, self._age_at, 2 * self._poll_period_ms[s], 3, now)
        if self._missing:
            f.set(faults.SLAVES_MISSING, s, self._missing)
        else:
            f.clear(faults.SLAVES_MISSING, s)
        if self._warned < 0:
            f.clear(faults.SLAVE_WARNING, pack.slave_from[s])
        else:
            flags = pack.slave_flags[self._warned]
            f.set(faults.SLAVE_WARNING, self._warned, flags)
        pair = self._pair
        if pair < 0:
            if pack.string_cell[s].complete:
                self._wire[s] = -1
                f.clear(faults.OPEN_WIRE, pack.cell_from[s])
        elif pair != self._wire[s]:
            self._wire[s] = pair
            self._wire_at[s] = pack.cell_at[pair]
        elif pack.cell_at[pair] != self._wire_at[s]:  # read twice, one behind the other
            f.set(faults.OPEN_WIRE, pair, pack.cell_mv[pair])
        if self._ending:
            if self._stuck >= 0:
                f.set(faults.CELL_STUCK, self._stuck, pack.cell_mv[self._stuck])
            elif self._telling:
                f.clear(faults.CELL_STUCK, pack.cell_from[s])
            self._window_at[s] = now
            self._low_ma[s] = self._high_ma[s] = self._currents[s].ma

    def _hard_gone(self):
        pack = self._pack
        f = self._faults
        for s in range(pack.strings):
            cell = pack.string_cell[s]
            if cell.complete:
                if cell.high <= self.hard_high_mv - self._cell_back:
                    f.clear(faults.CELL_HARD_HIGH, pack.cell_from[s])
                if cell.low >= self.hard_low_mv + self._cell_back:
                    f.clear(faults.CELL_HARD_LOW, pack.cell_from[s])
            temp = pack.string_temp[s]
            if temp.count and temp.complete and temp.high <= self.hard_high_dc - self._temp_back:
                f.clear(faults.TEMP_HARD_HIGH, pack.temp_from[s])

    # --- each tick ---

    def check_ages(self, now):
        """Judge what silence alone decides: readings too old, a current sensor gone quiet."""
        if self._pack.may_expire(now):
            self._aged(now)
        f = self._faults
        for s in range(self._pack.strings):
            current = self._currents[s]
            if current.installed:
                age = current.age(now)
                if age <= self._current_age:
                    f.clear(faults.CURRENT_LOST, s)
                elif self._strings.each[s].energised():
                    f.set(faults.CURRENT_LOST, s, age)

    def _aged(self, now):
        """Take validity from readings that are too old; say which are lost."""
        pack = self._pack
        f = self._faults
        pack.expire(now)
        for s in range(pack.strings):
            lost = pack.lost_cell[s]
            if lost < 0:
                f.clear(faults.CELL_LOST, pack.cell_from[s])
            else:
                f.set(faults.CELL_LOST, lost, pack.cell_mv[lost])
            lost = pack.lost_temp[s]
            if lost >= 0:
                f.set(faults.TEMP_LOST, lost, pack.temp_dc[lost])
            elif pack.temp_from[s + 1] > pack.temp_from[s]:
                f.clear(faults.TEMP_LOST, pack.temp_from[s])

    def string_measured(self, string, mv, now):
        """Judge a string's own measured voltage, None = none came."""
        if mv is None:
            return
        self._voltage(string, mv, now, _TICK)
        cell = self._pack.string_cell[string]
        if cell.complete:
            by = mv - cell.total
            apart = by if by >= 0 else -by
            self._evaluate(string, VOLTAGE_DIFFERS, apart, apart, string, _TICK, 3, now)

    def _voltage(self, s, mv, now, longest, turn=0):
        self._evaluate(s, VOLTAGE_MAX, mv, mv, s, longest, 3, now, turn)
        self._evaluate(s, VOLTAGE_MIN, mv, mv, s, longest, 3, now, turn)

    def isolation_measured(self, kohm, now):
        """Judge the isolation resistance, None = not measured."""
        if kohm is None:
            self._faults.set(faults.ISOLATION_LOST, -1, 0)
            return
        self._faults.clear(faults.ISOLATION_LOST)
        self._evaluate(0, ISOLATION, kohm, kohm, -1, _TICK, 3, now)
