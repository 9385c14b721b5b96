"""Where a string's current comes from: its sensors, their zero, and whether they can be right.

`StringSensors` steps the sensors of one string, hands the samples of the first one that has a valid
reading to the string's `StringCurrent`, and detects what no sensor can know about itself: a current
while the string is open, sensors that disagree, one whose value does not change while the
cells' voltage steps. Nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.protection import fault_ids as F
from bms.sensors.base import STUCK

_SLOW_MS = const(100)  # between two looks at the zero, and at frozen or different values
_ZERO_AFTER_MS = const(5000)  # contactors open for this time before the zero is measured
_LOOKS = const(64)  # of which the zero is the mean, then it follows slowly
_KNOWN = const(20)  # looks after which the zero is one
_LOST_MS = const(1000)  # one of several sensors is silent for this time: reported
_CLEAR_MS = const(1000)  # a cause must have ended for this time
_SAMPLES = const(3)  # at least, of a current while open
_STEPS = const(3)  # of the cells' voltage that the current should have moved with
_STEP_MS = const(500)  # between two that count
_PART = const(20)  # sensors may disagree by a 20th of the current, besides
_AGAINST = const(5)  # steps of the cells' voltage against the current, none with it between them
_LEVEL_MS = const(5000)  # a step over a longer time says nothing: the charge has changed
_LONG_MS = const(60000)


class StringSensors:
    """sensors: of one string, the one that counts first; current: the `StringCurrent` that it
    feeds.

    used: place in `sensors` of the one that counts now, -1 = none does.
    """

    # parameters: parts of the master that it reads
    def __init__(self, config, sensors, current, strings, pack, faults, now):
        self.sensors = sensors
        self.current = current
        self.string = current.string
        self.used = -1
        self._contactors = strings.each[self.string]
        self._pack = pack
        self._faults = faults
        self._many = len(sensors) > 1
        self._reach_ma = max([sensor.range_ma for sensor in sensors])
        self._slow_at = now
        # current while open
        self._open_bound = config.current_open_ma
        self._open_delay = config.current_open_delay_ms
        self._settle = max(config.feedback_delay_ms, 200)
        self._energised_at = now
        self._flowing = 0  # samples beyond the bound, one behind the other
        self._flows_at = now
        self._flowed = False
        # zero: in 1/64 mA, and how often it was looked for
        self._most = config.current_offset_ma
        self._zero = array("i", [0] * len(sensors))
        self._looks = bytearray(len(sensors))
        # sensors that disagree
        self._apart = config.current_disagree_ma
        self._apart_delay = config.current_disagree_delay_ms
        self._apart_at = array("i", [0] * len(sensors))
        self._is_apart = bytearray(len(sensors))
        # a frozen value
        self._frozen_ms = config.current_frozen_ms
        self._step_mv = config.current_frozen_step_mv * pack.string_cells[self.string]
        self._total = -1
        self._steps = 0
        self._step_at = now
        self._is_frozen = False
        # a sign: level of the current and of the cells' voltage while both were steady
        self._level_mv = -1
        self._level_ma = self._steady_ma = 0
        self._level_at = self._steady_at = now
        self._against = 0  # steps of the voltage against the current, less those with it
        self._step_ma = config.capacity_mah // 10
        first = pack.slave_from[self.string]
        end = pack.slave_from[self.string + 1]
        self._steady_ms = 2 * max(pack.poll_period_ms[first:end]) + 200
        # errors of their own
        self._error_delay = config.current_error_delay_ms
        self._sick = False
        self._good_at = self._bad_at = now

    # --- each cycle ---

    def step(self, now):
        """Step the sensors; True where the string's current has a new sample."""
        if self._many:
            used = -1
            for i in range(len(self.sensors)):
                sensor = self.sensors[i]
                sensor.step(now)
                # a saturated one counts only where nobody measures further
                if sensor.fresh(now) and (used < 0 or self.sensors[used].saturated):
                    used = i
            # at the end of a small range the current may be anything beyond
            if used >= 0 and self.sensors[used].saturated:
                if self.sensors[used].range_ma < self._reach_ma:
                    used = -1
            self.used = used
            if used < 0:
                return False
            sensor = self.sensors[used]
        else:
            sensor = self.sensors[0]
            sensor.step(now)
            self.used = 0
        if not sensor.new:
            return False
        sensor.new = False
        self.current.sample(sensor.ma, now)
        if not self._contactors.energised():
            self._while_open(sensor.ma, now)
        return True

    def _while_open(self, ma, now):
        """A sample while all coils of the string are off."""
        bound = self._open_bound
        if self._looks[self.used] < _KNOWN and not self.sensors[self.used].offset_ma:
            bound += self._most  # its zero is not known yet
        if -bound <= ma <= bound:
            if self._flowing:
                self._flowing = 0
                self._flows_at = now
            elif self._flowed and ticks.diff(now, self._flows_at) >= _CLEAR_MS:
                self._flowed = False
                self._faults.clear(F.CURRENT_WHILE_OPEN, self.string)
        elif ticks.diff(now, self._energised_at) >= self._settle:
            if not self._flowing:
                self._flows_at = now
            if self._flowing < _SAMPLES:
                self._flowing += 1
            if self._flowing >= _SAMPLES and ticks.diff(now, self._flows_at) >= self._open_delay:
                self._flows_at = ticks.add(now, -self._open_delay)
                self._flowed = True
                self._faults.set(F.CURRENT_WHILE_OPEN, self.string, ma)

    # --- each tick ---

    def tick(self, now):
        """Check errors, lost sensors, frozen values and the zero; call it every 25 ms or so."""
        if self._contactors.energised():
            self._energised_at = now
            self._flowing = 0
        self._errors(now)
        if ticks.diff(now, self._slow_at) < 0:
            return
        self._slow_at = ticks.add(now, _SLOW_MS)
        for sensor in self.sensors:
            sensor.check_ages(now)
        if ticks.diff(now, self._energised_at) > _LONG_MS:
            self._energised_at = ticks.add(now, -_LONG_MS)  # before ticks wrap
        if self._many and self.used >= 0:
            self._compare(now)
        if self._contactors.closed():
            if self._frozen_ms:
                self._check_frozen(now)
            self._check_sign(now)
        else:
            self._total = self._level_mv = -1
            self._steps = self._against = 0
            if ticks.diff(now, self._energised_at) >= _ZERO_AFTER_MS:
                if self._contactors.seen_closed() < 0:
                    self._find_zero(now)

    def _errors(self, now):
        """Errors that sensors report: a trip where no sensor is valid."""
        error = stands = silent = 0
        left = False
        for i in range(len(self.sensors)):
            sensor = self.sensors[i]
            if sensor.fresh(now):
                left = True
            elif not silent:
                silent = i + 1
            if sensor.error == STUCK:
                stands = 1
            elif sensor.error:
                error = sensor.error
        f = self._faults
        s = self.string
        if not silent:
            self._bad_at = now
            if self._sick and ticks.diff(now, self._good_at) >= _CLEAR_MS:
                self._sick = False
                f.clear(F.CURRENT_SENSOR_ERROR, s)
                f.clear(F.CURRENT_SENSOR_LOST, s)
                if not self._is_frozen:
                    f.clear(F.CURRENT_FROZEN, s)
            return
        self._good_at = now
        waited = ticks.diff(now, self._bad_at)
        if waited > _LONG_MS:
            self._bad_at = ticks.add(now, -_LONG_MS)
        if left:
            if waited >= _LOST_MS:
                self._sick = True
                f.set(F.CURRENT_SENSOR_LOST, s, silent)
        elif waited >= self._error_delay:
            if stands:
                self._sick = True
                f.set(F.CURRENT_FROZEN, s, self.current.ma)
            elif error:
                self._sick = True
                f.set(F.CURRENT_SENSOR_ERROR, s, error)

    def _find_zero(self, now):
        """The contactors are open: follow the zero of each sensor."""
        out = 0
        most = self._most
        for i in range(len(self.sensors)):
            sensor = self.sensors[i]
            if not sensor.fresh(now):
                continue
            raw = sensor.raw  # bounded: a single wild one must not pull far
            if raw > 2 * most:
                raw = 2 * most
            elif raw < -2 * most:
                raw = -2 * most
            n = self._looks[i]
            if not n and sensor.offset_ma:
                self._zero[i] = sensor.offset_ma << 6  # from the store
                n = _LOOKS - 1
            zero = self._zero[i] + 32 >> 6
            if n >= _KNOWN and -most <= zero <= most:
                by = raw - zero
                if by > self._open_bound or by < -self._open_bound:
                    continue  # a current after all
            if n < _LOOKS:
                n += 1
                self._looks[i] = n
            self._zero[i] += ((raw << 6) - self._zero[i]) // n
            zero = self._zero[i] + 32 >> 6
            if -most <= zero <= most:
                if n >= _KNOWN:
                    sensor.offset_ma = zero
            elif n >= _KNOWN:
                out = zero
        if out:
            self._faults.set(F.CURRENT_OFFSET, self.string, out)
        else:
            self._faults.clear(F.CURRENT_OFFSET, self.string)

    def _compare(self, now):
        """Sensors with a valid reading must agree, except for their delays."""
        ma = self.sensors[self.used].ma
        bound = self._apart + (ma if ma >= 0 else -ma) // _PART
        apart = 0
        for i in range(len(self.sensors)):
            sensor = self.sensors[i]
            by = 0
            if i != self.used and sensor.fresh(now) and not sensor.saturated:
                by = sensor.ma - ma
                if by < 0:
                    by = -by
            if by <= bound:
                self._is_apart[i] = 0
                continue
            if not self._is_apart[i]:
                self._is_apart[i] = 1
                self._apart_at[i] = now
            if ticks.diff(now, self._apart_at[i]) >= self._apart_delay:
                self._apart_at[i] = ticks.add(now, -self._apart_delay)
                apart = by
        if apart:
            self._faults.set(F.CURRENT_DISAGREE, self.string, apart)
        else:
            self._faults.clear(F.CURRENT_DISAGREE, self.string)

    def _check_frozen(self, now):
        """Not one bit of the current changed while the cells' voltage stepped time and again."""
        cell = self._pack.string_cell[self.string]
        sensor = self.sensors[self.used] if self.used >= 0 else self.sensors[0]
        if not cell.complete or not sensor.fresh(now) or self._is_balancing():
            self._total = -1
            return
        unchanged = ticks.diff(now, sensor.changed_at)
        if self._steps and ticks.diff(sensor.changed_at, self._step_at) > 0:
            self._steps = 0  # it has moved since the last step
        if self._is_frozen and unchanged < self._frozen_ms:
            self._is_frozen = False
            self._faults.clear(F.CURRENT_FROZEN, self.string)
        was = self._total
        self._total = cell.total
        if was < 0:
            return
        by = cell.total - was
        if by > -self._step_mv and by < self._step_mv:
            return
        if self._steps and ticks.diff(now, self._step_at) < _STEP_MS:
            return
        self._step_at = now
        if self._steps < _STEPS:
            self._steps += 1
        elif unchanged >= self._frozen_ms:
            self._is_frozen = True
            self._faults.set(F.CURRENT_FROZEN, self.string, sensor.raw)

    def _check_sign(self, now):
        """The cells' voltage must step with the current: up with a charge current, else down.

        Compares levels at which the current was steady for a while, so that a reading of the cells
        from before a step is none from behind it.
        """
        ma = self.current.ma
        by_ma = ma - self._steady_ma
        if by_ma > self._step_ma >> 2 or by_ma < -self._step_ma >> 2:
            self._steady_ma = ma
            self._steady_at = now
            return
        cell = self._pack.string_cell[self.string]
        if ticks.diff(now, self._steady_at) < self._steady_ms or not cell.complete:
            return
        mv = cell.total
        by_ma = ma - self._level_ma
        by_mv = mv - self._level_mv
        if self._level_mv < 0 or ticks.diff(now, self._level_at) > self._steady_ms + _LEVEL_MS:
            by_ma = 0
        if by_ma < 0:
            by_ma = -by_ma
            by_mv = -by_mv
        if by_ma >= self._step_ma and not -self._step_mv < by_mv < self._step_mv:
            if by_mv > 0:
                self._against = 0
            elif self._against < _AGAINST:
                self._against += 1
                if self._against == _AGAINST:
                    self._faults.set(F.CURRENT_REVERSED, self.string, ma)
        self._level_mv = mv
        self._level_ma = ma
        self._level_at = now

    def _is_balancing(self):
        """True where balancing may change the voltages of this string."""
        pack = self._pack
        for i in range(pack.slave_from[self.string], pack.slave_from[self.string + 1]):
            if pack.balance_mask[2 * i] or pack.balance_mask[2 * i + 1]:
                return True
        return False
