"""Compares readings with their bounds, and sets and clears the faults that follow.

Hard bounds need one reading: drivers call `hard_cell` and `hard_temp` as a frame arrives;
`current_sampled` does it for the current. Bounds with a duration have three levels, see
fault_catalog.QUANTITIES; the kernel `evaluate` compares fresh samples only. A slave's cells and
temperatures are evaluated by its own readings, since slaves have different poll periods; spreads
and the sum of a string once all its readings are new; the rest with each measurement. Plausibility
is checked here too: stack voltage against cells, measured string voltage against cells, readings
that don't change with the current, an open sense wire. Nothing allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels import readings as T
from bms.kernels.readings import any_set, changed, evaluate, oldest, open_pair, plain_slaves
from bms.pack import FRESH, LOST
from bms.protection import fault_ids as faults
from bms.protection.fault_ids import DERATE, QUANTITIES, TRIP, WARN, level_fault, quantity_of

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

# steps in which a string is evaluated; _AGES and _PREPARE come once, before the first string
_BEGIN, _SLAVES, _STRING, _FINISH, _PREPARE, _AGES = range(6)
_AT_ONCE = const(8)  # slaves in one step, while none is out of bounds
_OWN = const(9)  # quantities up to BOARD: of one slave, except for the two spreads
_NEVER_BACK = const(1 << 28)
_FULL = const(1 << 20)  # an I2t budget
_SCALE = const(256)  # currents in parts of their bound, so that squares stay small
_STUCK_READINGS = const(20)
_COLD = const(-10000)  # 0.1 degC: no slave reports a temperature of its board
_LONGEST_SCAN = const(10000)  # ms, also the longest time that one current sample counts for
_OFF_MS = const(20)  # without its coils, a string's current counts for so long
_TICK = const(100)  # ms: the longest time that a measurement of one tick counts for


def _duration(at, i, now, poll_period):
    """ms that the value of `now` counts for; stores in at[i] when it was evaluated.

    That is the time since the previous value, at most twice the longer of `poll_period` (ms) and
    the previous gap at[i + 1]: a longer time is silence, not time out of bounds.
    """
    ms = ticks.since(now, at[i])
    gap = at[i + 1]
    most = 2 * (gap if gap > poll_period else poll_period)
    at[i] = now
    at[i + 1] = ms
    return ms if ms < most else most


def share(value, pm):
    """`pm` thousandths of a value of 0..2**30-1; the product stays below 2**30."""
    return value * pm // 1000 if value < 1000000 else value // 1000 * pm


def _value(config, what):
    """Number of a bound in fault_catalog: an int itself, or the setting of that name; "": 0."""
    if isinstance(what, int):
        return what
    return config.number(what) if what else 0


class Limits:
    """Evaluates the pack's readings against the bounds; sets and clears faults.

    evaluating: a scan has ended, and `evaluate_next` has not evaluated all of it yet; peak_pm: I2t
    used of its budget in permille, [2 * string] charge, + 1 discharge; pack_ma: current of all
    strings in mA; string_mv [strings]: voltage that was evaluated last, measured or the sum of the
    cells, 0 = none yet. hard_low_mv, hard_high_mv, hard_high_dc: hard bounds; a driver that reads a
    value beyond them calls `hard_cell` or `hard_temp`.
    """

    # long: makes every array once, nothing else
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
        self._measured = bytearray(pack.strings)  # 1 = the voltage of a string is measured
        self._measured_at = array("i", [now] * pack.strings)
        self._lost_ms = config.voltage_delay_ms + _TICK
        self._wire = array("h", [-1] * pack.strings)  # a suspect pair: its first cell, -1 = none
        self._wire_at = array("i", [0] * pack.strings)
        # state of a slave between two evaluations: kernels' L_*
        self._rows = array("i", [0] * (T.L_ROW * pack.slaves))
        for i in range(pack.slaves):
            row = T.L_ROW * i
            self._rows[row + T.L_CELL] = pack.first_cell[i]
            self._rows[row + T.L_CELLS] = pack.slave_cells[i]
            self._rows[row + T.L_TEMP] = pack.first_temp[i]
            self._rows[row + T.L_TEMPS] = pack.slave_temps[i]
            self._rows[row + T.L_CELLS_AT] = self._rows[row + T.L_TEMPS_AT] = now
            self._rows[row + T.L_BOARD_AT] = self._rows[row + T.L_STACK_AT] = -1
        self._cells_age = array("i", [0] * pack.strings)  # ms, of the oldest reading in this scan
        self._temps_age = array("i", [0] * pack.strings)
        self._charged_ms = array("i", [0] * pack.strings)  # ticks of time that it charged
        self._at = now  # tick of this scan
        self._period = config.scan_period_ms
        self._slave_age = 0
        self._scan_waiting = False
        self._check_wires = self._ending = self._conclusive = False
        self._pair = self._stuck = self._warned = -1
        self._string = self._step = self._slave = 0
        self._hottest = self._missing = 0
        self._age = self._age_at = self._age_ms = 0
        self._cell_age = config.cell_age_ms
        self._board_dc = array("h", [_COLD] * pack.strings)
        self._stack_bad = False
        self.evaluating = self._expired = False
        self._poll_period_ms = array("i", [config.scan_period_ms] * pack.strings)
        self._stuck_ms = array("i", [config.stuck_time_ms] * pack.strings)  # 0: not checked
        self._stuck_ma = config.stuck_current_ma or config.capacity_mah // 5
        self._before = array("h", [0] * (pack.cells if config.stuck_time_ms else 0))
        self._changed = bytearray(pack.cells if config.stuck_time_ms else 0)
        self._window_at = array("i", [now] * pack.strings)
        self._low_ma = array("i", [0] * pack.strings)
        self._high_ma = array("i", [0] * pack.strings)
        n = 2 * pack.strings
        self.peak_pm = array("h", [0] * n)
        self._peak = array("i", [0] * n)
        self._peak_at = array("i", [-1] * n)
        self.pack_ma = 0
        self.string_mv = array("i", [0] * pack.strings)
        p = self._p = array("i", [0] * 15)  # of the kernel `plain_slaves`
        p[T.P_TOLERANCE] = self._tolerance
        p[T.P_OWN] = 3 * _OWN
        p[T.P_CELL_LOW] = self._inside_mv[0] + T.J_BIAS
        p[T.P_CELL_HIGH] = self._inside_mv[1] + T.J_BIAS
        p[T.P_TEMP_LOW] = self._inside_dc[0] + T.J_BIAS
        p[T.P_TEMP_HIGH] = self._inside_dc[1] + T.J_BIAS
        p[T.P_BOARD] = self._inside_board_dc + T.J_BIAS

    def _table(self, config):
        """Tables of the kernel: bounds, and the time out of each bound. Allocates, at start."""
        from bms.protection.fault_catalog import BELOW, by_quantity

        pack = self._pack
        strings = pack.strings
        t = self._bounds = array("i", bytearray(4 * QUANTITIES * T.BOUNDS))
        self._own = array("i", bytearray(4 * 3 * _OWN * pack.slaves))
        self._set_by_slaves = bytearray(3 * _OWN * strings)  # 1 = fault set by a slave, by string
        self._any_set_by_slaves = bytearray(strings)  # 1 = any of these is set
        self._out_ms = array("i", bytearray(4 * 3 * QUANTITIES * strings))
        # tick of the last evaluation of each, and the ms between that and the one before
        self._evaluated = array("i", [-1, 0] * (QUANTITIES * strings))
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
                    t[at + T.J_DELAY] = 1  # one scan later: `cell_lost` names the cell before
        # lowest and highest reading of a slave that exceeds no bound of any level
        self._inside_mv = array("h", [self._first_bound(CELL_MIN), self._first_bound(CELL_MAX)])
        self._inside_dc = array(
            "h",
            [
                max(self._first_bound(TEMP_MIN), self._first_bound(CHARGE_TEMP_MIN)),
                min(self._first_bound(TEMP_MAX), self._first_bound(CHARGE_TEMP_MAX)),
            ],
        )
        self._inside_board_dc = self._first_bound(BOARD)
        self._peak_table(config)

    def _levels(self, config, rows, q):
        """Bounds of a quantity: [warn, derate, trip]; one that is 0 follows from others."""
        pack = self._pack
        bounds = [_value(config, x) for x in rows[q][6]]
        if VOLTAGE_MAX <= q <= VOLTAGE_MIN:
            by_cell = rows[CELL_MAX + q - VOLTAGE_MAX][6]
            nearer = max if self._side[q] else min
            n = pack.string_cells[0]
            trip = _value(config, by_cell[2]) * n
            bounds[2] = bounds[2] or trip
            # a trip bound that is nearer moves the others along
            by = nearer(bounds[2] - trip, 0)
            for i in (1, 0):
                mv = bounds[i] or _value(config, by_cell[i]) * n + by
                bounds[i] = nearer(mv, bounds[i + 1])
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
        """I2t: continuous current and budget of charge [0] and discharge [1], see `_peaks`."""
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
        """Bound of a quantity at WARN, DERATE or TRIP, in its unit."""
        value = self._bounds[quantity * T.BOUNDS + T.LEVEL * (level - WARN) + T.J_BOUND] - T.J_BIAS
        return -value if self._side[quantity] else value

    def _first_bound(self, quantity):
        """The bound of a quantity that its value exceeds first, of the three levels."""
        bounds = [self.bound(quantity, level) for level in (WARN, DERATE, TRIP)]
        return max(bounds) if self._side[quantity] else min(bounds)

    def hottest_dc(self, string):
        """Warmest slave board of a string in the last scan, 0.1 degC; -10000 = none reports it."""
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
        # quantities of the pack are stored with those of the first string
        return not any_set(self._out_ms, 3 * PACK_CHARGE, 3 * (ISOLATION + 1))

    # parameters: differ with each call; a tuple of them would allocate
    def _evaluate(
        self, string, quantity, value, standing, place, longest, levels, now, poll_period=0
    ):
        """Evaluate a fresh value of a string; set and clear its faults.

        standing: the value that decides whether a fault clears; place: of the fault; levels: how
        many of warn, derate, trip count. The value counts for the time since the last one, at most
        `longest` ms; with `poll_period` (ms), for what `_duration` returns.
        """
        i = string * QUANTITIES + quantity
        if poll_period:
            ms = _duration(self._evaluated, 2 * i, now, poll_period)
        else:
            ms = ticks.since(now, self._evaluated[2 * i])
            if ms > longest:
                ms = longest
            self._evaluated[2 * i] = now
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

    # parameters: differ with each call; a tuple of them would allocate
    def _evaluate_slave(self, slave, quantity, value, standing, place, ms, levels):
        """Evaluate a value of one slave, which counts for `ms`; faults are set only.

        Other parameters as in `_evaluate`; `_clear_slave_faults` clears.
        """
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
        """Clear a fault set by slaves of a string once none is out and all readings are fresh."""
        pack = self._pack
        by_slaves = self._set_by_slaves
        first = 3 * _OWN * s
        any_left = 0
        for which in range(3 * _OWN):
            if not by_slaves[first + which]:
                continue
            if self._all_back(s, which // 3, which):
                by_slaves[first + which] = 0
                starts = pack.slave_from
                if which < 3 * BOARD:
                    starts = pack.temp_from if which >= 3 * SPREAD else pack.cell_from
                self._faults.clear(level_fault(0, WARN) + which, starts[s])
            else:
                any_left = 1
        self._any_set_by_slaves[s] = any_left

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
        """Take over the poll period of each slave, which its driver put into the pack; at start."""
        pack = self._pack
        for s in range(pack.strings):
            self._poll_period_ms[s] = max(
                pack.poll_period_ms[pack.slave_from[s] : pack.slave_from[s + 1]]
            )
            for i in range(pack.slave_from[s], pack.slave_from[s + 1]):
                # read in each scan, and with the age limit of [limits]: no scaling
                often = (
                    pack.poll_period_ms[i] <= self._period and pack.cell_age[i] == self._cell_age
                )
                self._rows[T.L_ROW * i + T.L_PLAIN] = 1 if often else 0
            # a slave with a long poll period: the value must be equal in enough readings
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
        if dc > self.hard_high_dc and not self._pack.is_left_out(temp):
            self._faults.set(faults.TEMP_HARD_HIGH, temp, dc)

    def recheck_hard_bounds(self):
        """Compare all fresh readings with their hard bounds, after an error in the cycle."""
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
        """Evaluate a current sample of a string that has just arrived."""
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
        self.pack_ma = ma
        if len(self._currents) > 1:
            total = 0
            for current in self._currents:
                # the last value of a string that left is none
                energised = self._pack.energised[current.string]
                if current.age(now) <= (age if energised else _OFF_MS):
                    total += current.ma
            self.pack_ma = total
            self._evaluate(0, PACK_CHARGE, total, total, -1, age, 3, now)
            self._evaluate(0, PACK_DISCHARGE, -total, -total, -1, age, 3, now)

    def _peaks(self, string, side, ma, now):
        """I2t above the continuous current; the budget is (bound^2 - continuous^2) * peak_time.

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
        """A scan has ended: `evaluate_next` evaluates every fresh reading once, step by step."""
        if self.evaluating:
            self._scan_waiting = True  # the evaluation of the scan before is not finished
            return
        self._string = 0
        # `cell_lost` before `slaves_missing`: it names the cell
        self._step = _AGES if self._pack.may_expire(now) else _PREPARE
        self.evaluating = True

    def _begin_scan(self, now):
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
        """One step: evaluate up to 8 slaves of a string, or the values of a whole string."""
        s = self._string
        step = self._step
        self._step = step + 1
        if step == _BEGIN:
            self._begin_string(s, now)
        elif step == _SLAVES:
            self._slave = self._next_slaves(self._slave, s, now)
            if self._slave < self._pack.slave_from[s + 1]:
                self._step = _SLAVES
        elif step == _STRING:
            self._string_values(s)
        elif step == _AGES:
            self._step = _AGES if self.expire_next(now) else _PREPARE
        elif step == _PREPARE:
            self._begin_scan(now)
            self._step = _BEGIN
        else:
            self._finish_string(s, now)
            self._string = s + 1
            self._step = 0
            if self._string == self._pack.strings:
                self._clear_hard_faults()
                if not self._stack_bad:
                    for s in range(self._pack.strings):
                        self._faults.clear(faults.STACK_VOLTAGE, self._pack.slave_from[s])
                self.evaluating = False
                if self._scan_waiting:
                    self._scan_waiting = False
                    self.scan_finished(now)

    def _next_slaves(self, i, s, now):
        """Evaluate slave `i`, or several from it on while none is out of bounds; the next slave."""
        if self._pack.left_out:
            self._pack.fill_left_out()  # a frame may have come since
        if not self._check_wires and not (self._changed and self._ending):
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
                if self._changed:
                    last = end - 1
                    last = pack.first_cell[last] + pack.slave_cells[last]
                    changed(pack.cell_mv, self._before, self._changed, pack.first_cell[i], last)
                return end
        self._slave_readings(i, s, now)
        self._slave_board(i, now)
        return i + 1

    def _string_values(self, s):
        """Evaluate spreads and sum of a string, once each of its readings is new.

        So a reading counts once, however often other slaves are read meanwhile.
        """
        cell = self._pack.string_cell[s]
        if cell.count and self._all_new(s, SPREAD, self._cells_age[s]):
            self._spread(s, SPREAD, cell)
            if not self._measured[s] and cell.complete:
                self._voltage(s, cell.total, self._at, 0, self._poll_period_ms[s])
        temp = self._pack.string_temp[s]
        if temp.count and self._all_new(s, TEMP_SPREAD, self._temps_age[s]):
            self._spread(s, TEMP_SPREAD, temp)

    def _all_new(self, s, quantity, age):
        at = self._evaluated[2 * (s * QUANTITIES + quantity)]
        return at < 0 or age < ticks.since(self._at, at)

    def _spread(self, s, quantity, all_):
        """Evaluate highest - lowest reading of a string."""
        by = all_.high - all_.low
        poll_period = self._poll_period_ms[s]
        self._evaluate(s, quantity, by, by, all_.high_at, 0, 3, self._at, poll_period)

    def _slave_readings(self, i, s, now):
        """Evaluate new cells and temperatures of a slave where one is or was out of bounds."""
        pack = self._pack
        own = 3 * _OWN * i
        out = any_set(self._own, own, own + 3 * TEMP_SPREAD)
        poll_period = pack.poll_period_ms[i]
        n = pack.slave_cells[i]
        first = pack.first_cell[i]
        age = self._slave_age = oldest(pack.cell_flags, pack.cell_at, first, first + n, now)
        new = pack.new_cells(i)
        rows = self._rows
        row = T.L_ROW * i
        if self._ready(new[T.E_COUNT], n, age, rows[row + T.L_CELLS_AT], poll_period):
            pack.cells_evaluated(i)
            ms = _duration(rows, row + T.L_CELLS_AT, self._at, poll_period)
            if out or new[T.E_MAX] > self._inside_mv[1] or new[T.E_MIN] < self._inside_mv[0]:
                self._slave_cells(i, new, ms)
        n = pack.slave_temps[i]
        first = pack.first_temp[i]
        age = 0
        if poll_period > self._period:
            age = oldest(pack.temp_flags, pack.temp_at, first, first + n, now)
        new = pack.new_temps(i)
        if self._ready(new[T.E_COUNT], n, age, rows[row + T.L_TEMPS_AT], poll_period):
            pack.temps_evaluated(i)
            ms = _duration(rows, row + T.L_TEMPS_AT, self._at, poll_period)
            if out or new[T.E_MAX] > self._inside_dc[1] or new[T.E_MIN] < self._inside_dc[0]:
                self._slave_temps(i, s, new, ms)
            else:
                rows[row + T.L_CHARGED_AT] = self._charged_ms[s]

    def _ready(self, new, all_, age, at, poll_period):
        """True where a slave's readings may be evaluated: all are new, or the rest is overdue.

        So an answer in parts, with the end of a scan between them, is evaluated once.
        new, all_: numbers of readings; age: of the oldest, poll_period: ms; at: tick of the last
        evaluation.
        """
        if not new:
            return False
        if new == all_ and (age <= poll_period - (poll_period >> 3) or poll_period <= self._period):
            return True
        return 2 * ticks.since(self._at, at) >= 3 * poll_period

    def _slave_cells(self, i, new, ms):
        """Evaluate new cells; a fault clears only once all cells of the slave are back."""
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
        # bounds for charging don't trip where no current is measured
        levels = 3
        if not self._currents[s].installed:
            levels = 2
        else:
            # time of charging since its last readings counts; half of the other time is
            # subtracted
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
                new_high = high = -_NEVER_BACK  # within the bounds for charging
                new_low = low = _NEVER_BACK
        at = new[T.E_MAX_AT]
        self._evaluate_slave(i, CHARGE_TEMP_MAX, new_high, high, at, ms, levels)
        at = new[T.E_MIN_AT]
        self._evaluate_slave(i, CHARGE_TEMP_MIN, new_low, low, at, ms, levels)

    def _slave_board(self, i, now):
        """Evaluate a slave's stack voltage against its cells, its board temperature, its age."""
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
                ms = _duration(rows, row + T.L_BOARD_AT, at, pack.poll_period_ms[i])
                own = 3 * (_OWN * i + BOARD)
                if dc > self._inside_board_dc or any_set(self._own, own, own + 3):
                    self._evaluate_slave(i, BOARD, dc, dc, i, ms, 3)
            if pack.stack_at[i] != rows[row + T.L_STACK_AT]:
                cells = pack.slave_extremes(i)
                if cells.complete:
                    rows[row + T.L_STACK_AT] = pack.stack_at[i]
                    by = pack.stack_mv[i] - cells.total
                    # +2 for a bad scan, -1 for a good one; 6 sets the fault
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
        if own != self._cell_age:  # scale it to [limits] cell_age; the fault shows the real age
            part = min(age, 4 * own) * 1000 // own * self._cell_age // 1000
        if part > self._age:
            self._age = part
            self._age_ms = age
            self._age_at = i
        if pack.cell_flags[first] & LOST:
            self._missing += 1
        if pack.slave_flags[i] & 0xFF00:
            self._warned = i
        if self._check_wires:
            # the mean of all cells is close to that without the two suspect ones
            all_ = pack.string_cell[pack.string_of_slave[i]]
            mean = all_.total // all_.count
            pair = open_pair(pack.cell_mv, pack.cell_flags, first, end, mean, self._open_wire)
            if pair >= 0:
                self._pair = pair
        if self._changed:
            self._stuck_cells(first, end)

    def _begin_string(self, s, now):
        """Reset what is collected over the slaves of a string."""
        pack = self._pack
        self._slave = pack.slave_from[s]
        self._hottest = _COLD
        self._age = self._age_ms = self._missing = 0
        self._age_at = self._slave
        all_ = pack.string_cell[s]
        self._check_wires = all_.complete and all_.high - all_.low >= 2 * self._open_wire
        self._pair = self._stuck = self._warned = -1
        moved = self._high_ma[s] - self._low_ma[s] >= self._stuck_ma
        self._ending = ticks.diff(now, self._window_at[s]) >= self._stuck_ms[s]
        self._conclusive = self._ending and moved and self._currents[s].installed

    def _stuck_cells(self, first, end):
        """Find cells that show the same mV for a whole window while the current changes."""
        pack = self._pack
        moved = self._changed
        changed(pack.cell_mv, self._before, moved, first, end)
        if not self._ending:
            return
        for i in range(first, end):
            if self._conclusive and not moved[i] and pack.cell_flags[i] & FRESH:
                self._stuck = i
            moved[i] = 0
            self._before[i] = pack.cell_mv[i]

    def _finish_string(self, s, now):
        """Set and clear the faults that follow from all slaves of a string."""
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
        elif pack.cell_at[pair] != self._wire_at[s]:  # seen in two readings in a row
            f.set(faults.OPEN_WIRE, pair, pack.cell_mv[pair])
        if self._ending:
            if self._stuck >= 0:
                f.set(faults.CELL_STUCK, self._stuck, pack.cell_mv[self._stuck])
            elif self._conclusive:
                f.clear(faults.CELL_STUCK, pack.cell_from[s])
            self._window_at[s] = now
            self._low_ma[s] = self._high_ma[s] = self._currents[s].ma

    def _clear_hard_faults(self):
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
        """A current sensor that sends nothing; `expire_next` evaluates the ages of readings."""
        f = self._faults
        for s in range(self._pack.strings):
            current = self._currents[s]
            if current.installed:
                age = current.age(now)
                if age <= self._current_age:
                    f.clear(faults.CURRENT_LOST, s)
                elif self._strings.each[s].energised():
                    f.set(faults.CURRENT_LOST, s, age)

    def expire_next(self, now):
        """A step of: invalidate readings that are too old, set or clear the faults for lost ones.

        True while another must follow. Call it where `Pack.may_expire`.
        """
        pack = self._pack
        f = self._faults
        if not self._expired:
            self._expired = pack.expire(now)
            return True
        self._expired = False
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
            lost = pack.lost_status[s]
            if lost >= 0:
                f.set(faults.STATUS_LOST, lost, pack.temp_age[lost])
            else:
                f.clear(faults.STATUS_LOST, pack.slave_from[s])
        return False

    def string_measured(self, string, mv, now):
        """Evaluate the measured voltage of a string in mV, None = not measured."""
        if mv is None:
            if self._installed and ticks.diff(now, self._measured_at[string]) > self._lost_ms:
                self._measured_at[string] = ticks.add(now, -self._lost_ms - 1)
                self._measured[string] = 0  # the sum of the cells is evaluated instead
                self._faults.set(faults.VOLTAGE_LOST, string, self._lost_ms)
            return
        self._measured_at[string] = now
        self._measured[string] = 1
        self._faults.clear(faults.VOLTAGE_LOST, string)
        self._voltage(string, mv, now, _TICK)
        cell = self._pack.string_cell[string]
        if cell.complete:
            by = mv - cell.total
            apart = by if by >= 0 else -by
            self._evaluate(string, VOLTAGE_DIFFERS, apart, apart, string, _TICK, 3, now)

    def _voltage(self, s, mv, now, longest, poll_period=0):
        self.string_mv[s] = mv
        self._evaluate(s, VOLTAGE_MAX, mv, mv, s, longest, 3, now, poll_period)
        self._evaluate(s, VOLTAGE_MIN, mv, mv, s, longest, 3, now, poll_period)

    def isolation_measured(self, kohm, now):
        """Evaluate the isolation resistance in kohm, None = not measured."""
        if kohm is None:
            self._faults.set(faults.ISOLATION_LOST, -1, 0)
            return
        self._faults.clear(faults.ISOLATION_LOST)
        self._evaluate(0, ISOLATION, kohm, kohm, -1, _TICK, 3, now)
