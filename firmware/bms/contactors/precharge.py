"""Precharge of one string: proof, failure, and heat of the resistor.

The first string charges the link through the resistor. It is proven by the link voltage, which must
reach a window around the string's; without a link sensor by the current, which must have flowed and
decayed; where neither is measured it takes precharge_max and proves nothing (precharge_unproven). A
string that joins others finds the link charged; its voltage only has to be close to that of the
link. Nothing here allocates.
"""

from micropython import const

from bms import ticks
from bms.protection import fault_ids as faults

WAITS, PROVEN = 0, 1  # results of `evaluate`; all others are faults
NONE, UNKNOWN = -1, -2  # instead of the voltage of other strings: none holds the link, not known

_RISE_PM = const(200)  # of the string's voltage: largest rise of the link voltage with minus alone
_TAU_PM = const(632)  # share of its way that an RC circuit goes in its time constant
_SHORT_PM = const(900)  # of the first precharge current: it does not decay
_LONGEST_STEP_MS = const(1000)
_HIGH_PM = const(100)  # of the string's voltage: the window goes no further above it
_MOST_MA = const(100000)  # these two keep products below 2**30
_MOST_V = const(1000)


def _share(value, pm):
    """value * pm / 1000, split so that the product stays below 2**30 for any pack."""
    return value // 1000 * pm + value % 1000 * pm // 1000


class Precharge:
    """heat_mj: energy in the resistor now, in mJ; 0 where its resistance is not given.

    value: of the fault that `evaluate` returned, in the unit that the fault catalog gives.
    """

    def __init__(self, config, pack, current, now):
        self._pack = pack
        self._current = current
        self._string = current.string
        self._min_ms = config.precharge_min_ms
        self._max_ms = config.precharge_max_ms
        self._ratio_pm = config.precharge_ratio_pm
        above = 1000 - self._ratio_pm
        self._high_pm = 1000 + (above if above < _HIGH_PM else _HIGH_PM)
        self._tries = config.precharge_tries
        self._ohm = config.precharge_resistor_ohm
        self._energy_mj = config.precharge_energy_j * 1000
        self._cool_ms = config.precharge_cool_ms
        self._has_link = bool(config.link_sensor)
        self._unproven = bool(config.precharge_unproven)
        self._age_ms = config.current_age_ms
        self._join_mv = config.join_voltage_mv
        # a link that has gone 63 % of its way within half its time constant: a shorted resistor
        self._fast_ms = self._ohm * config.link_capacitance_uf // 2000
        self._failed = 0  # tries of this closing
        self._others_mv = NONE  # voltage of the strings that hold the link
        self._joins = False  # one of them is closed: the link is charged already
        self._link_before_mv = 0
        self._peak_ma = 0  # largest current of this try
        self.value = 0
        self.heat_mj = 0
        self._now = now

    def begin(self):
        """A closing begins."""
        self._failed = 0

    def set_others(self, mv, joins):
        """Voltage of the strings that hold the link, NONE or UNKNOWN; joins: one of them is closed.

        Called at each step of a closing, since they may leave meanwhile.
        """
        self._others_mv = mv
        self._joins = joins

    def before_minus(self):
        """The minus contactor is about to close: note the link's voltage."""
        self._link_before_mv = self._pack.link_mv or 0
        self._peak_ma = 0

    def link_rise_mv(self):
        """Rise of the link voltage with minus alone in mV; 0 up to 20 % of the string's voltage.

        A larger rise shows that plus or precharge is welded.
        """
        link = self._pack.link_mv
        if not self._has_link or self._others_mv != NONE or link is None:
            return 0
        rise = link - self._link_before_mv
        return rise if rise > self._pack.string_cell[self._string].total // 1000 * _RISE_PM else 0

    def evaluate(self, waited):
        """PROVEN where plus may close, `waited` ms after precharge went on; WAITS, or a fault."""
        cell = self._pack.string_cell[self._string]
        result = WAITS
        if cell.complete and self._others_mv != UNKNOWN:
            mv = cell.total
            near = self._others_mv < 0 or self._near(mv, self._others_mv)
            if self._has_link:
                result = self._by_voltage(mv, near, waited)
            elif self._joins:
                result = PROVEN if near else WAITS
            elif not self._unproven:
                result = self._by_current(mv, near, waited)
            elif near and waited >= self._max_ms:
                result = PROVEN  # nothing is measured: the pack file accepts that
        if result > PROVEN or result == PROVEN and waited >= self._min_ms:
            return result
        if waited < self._max_ms and not (self._ohm and self.heat_mj >= self._energy_mj):
            return WAITS
        return self._late()

    def _near(self, mv, other_mv):
        return -self._join_mv <= mv - other_mv <= self._join_mv

    def _by_voltage(self, mv, near, waited):
        """The link must lie inside the window, or near the string where others are closed."""
        link = self._pack.link_mv
        if link is None:
            return WAITS
        if waited < self._fast_ms:
            way = mv - self._link_before_mv
            if way > _share(mv, _RISE_PM) and link - self._link_before_mv > _share(way, _TAU_PM):
                self.value = waited
                return faults.PRECHARGE_FAST
        if self._joins:
            good = near and self._near(mv, link)
        else:
            # where a string that may be welded holds the link: near to it, too
            good = near and _share(mv, self._ratio_pm) <= link <= _share(mv, self._high_pm)
        return PROVEN if good else WAITS

    def _by_current(self, mv, near, waited):
        """The current must have flowed, and be down to what the window leaves of the first."""
        ma = self._ma()
        if ma < 0:
            return WAITS
        if ma > self._peak_ma:
            self._peak_ma = ma
        first = mv // self._ohm
        if ma > 2 * first + self._current.error_ma:
            self.value = waited
            return faults.PRECHARGE_FAST
        if waited < self._min_ms:
            return WAITS
        if ma > _share(first, _SHORT_PM) + self._current.error_ma:
            self.value = ma  # it would still flow at precharge_max: spare the resistor
            return faults.PRECHARGE_LOAD
        if self._peak_ma <= first // 4 + self._current.error_ma:
            return WAITS  # no current was seen
        return PROVEN if near and ma <= self._left_ma(first) else WAITS

    def _left_ma(self, first):
        """Largest current that may be left, of a first one in mA."""
        return _share(first, 1000 - self._ratio_pm) + self._current.error_ma

    def _ma(self):
        """Size of the current in mA, -1 = not measured."""
        current = self._current
        if not current.installed or current.age(self._now) > self._age_ms:
            return -1
        ma = current.ma if current.ma >= 0 else -current.ma
        return ma if ma < _MOST_MA else _MOST_MA

    def _late(self):
        """The fault of a precharge that took too long, or got too hot."""
        cell = self._pack.string_cell[self._string]
        mv = cell.total
        link = self._pack.link_mv
        if self._has_link:
            self.value = -1 if link is None else link
            if cell.complete and self.value > _share(mv, self._high_pm):
                return faults.PRECHARGE_LINK_HIGH
            return faults.PRECHARGE_FAILED
        ma = self._ma()
        if not self._unproven and self._others_mv == NONE and ma >= 0 and cell.complete:
            self.value = ma
            if ma > self._left_ma(mv // self._ohm):
                return faults.PRECHARGE_LOAD
            return faults.PRECHARGE_NO_CURRENT
        self.value = -1
        return faults.PRECHARGE_FAILED

    def fail(self, fault):
        """Count a failed precharge; True where it may be tried again."""
        self._failed += 1
        return self._failed < self._tries and fault != faults.PRECHARGE_FAST

    def hot(self):
        """True where the resistor has to cool down before a closing."""
        return bool(self._ohm and self.heat_mj > self._energy_mj >> 1)

    def step(self, now, on):
        """Add up the heat of the resistor: U^2 / R while the coil is on, else it cools down.

        on: the precharge coil is on.
        """
        ms = ticks.diff(now, self._now)
        self._now = now
        if not self._ohm:
            return
        if ms > _LONGEST_STEP_MS:
            ms = _LONGEST_STEP_MS
        heat = self.heat_mj
        volts = self._resistor_v() if on else 0
        if volts:
            # W = V2 / ohm; mJ = W * ms
            heat += volts * volts * ms // self._ohm
        elif heat:
            heat -= self._energy_mj // (self._cool_ms // ms) if 0 < ms <= self._cool_ms else 0
        most = 2 * self._energy_mj
        self.heat_mj = 0 if heat < 0 else heat if heat < most else most

    def _resistor_v(self):
        """Voltage over the resistor in V, from the link voltage or the current; 0 = not known."""
        link = self._pack.link_mv
        if self._has_link and link is not None:
            volts = (self._pack.string_cell[self._string].total - link) // 1000
            if volts < 0:
                volts = -volts
        else:
            ma = self._ma()
            volts = ma * self._ohm // 1000 if ma > 0 else 0
        return volts if volts < _MOST_V else _MOST_V
