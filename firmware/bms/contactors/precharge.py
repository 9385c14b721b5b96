"""Precharge of one string: proof, failure, and heat of the resistor.

The first string charges the link through the resistor. A string that joins others finds the link
charged; its voltage only has to be close to that of the link. Nothing here allocates.
"""

from micropython import const

from bms import ticks

_RISE_PM = const(200)  # of the string's voltage: largest rise of the link voltage with minus alone
_LONGEST_STEP_MS = const(1000)


class Precharge:
    """heat_mj: energy in the resistor now, in mJ; 0 where its resistance is not given."""

    def __init__(self, config, pack, string, now):
        self._pack = pack
        self._string = string
        self._min_ms = config.precharge_min_ms
        self._max_ms = config.precharge_max_ms
        self._ratio_pm = config.precharge_ratio_pm
        self._tries = config.precharge_tries
        self._ohm = config.precharge_resistor_ohm
        self._energy_mj = config.precharge_energy_j * 1000
        self._cool_ms = config.precharge_cool_ms
        self._has_link = bool(config.link_sensor)
        self._join_mv = config.join_voltage_mv
        self._failed = 0  # tries of this closing
        self._joins = False  # other strings are connected to the link already
        self._others_mv = 0  # voltage of these strings
        self._link_before_mv = 0
        self.heat_mj = 0
        self._heat_at = now

    def begin(self, others_mv):
        """A closing begins; others_mv: voltage of the strings that are closed, -1 = none is."""
        self._failed = 0
        self._joins = others_mv >= 0
        self._others_mv = others_mv

    def before_minus(self):
        """The minus contactor is about to close: note the link's voltage."""
        self._link_before_mv = self._pack.link_mv or 0

    def link_rise_mv(self):
        """Rise of the link voltage with minus alone in mV; 0 up to 20 % of the string's voltage.

        A larger rise shows that plus or precharge is welded.
        """
        link = self._pack.link_mv
        if not self._has_link or self._joins or link is None:
            return 0
        rise = link - self._link_before_mv
        return rise if rise > self._pack.string_cell[self._string].total // 1000 * _RISE_PM else 0

    def proven(self, waited):
        """True where plus may close, `waited` ms after precharge went on."""
        if waited < self._min_ms:
            return False
        if not self._has_link and not self._joins:
            return waited >= self._max_ms  # no voltage to compare: wait for precharge_max
        link = self._pack.link_mv if self._has_link else self._others_mv
        cell = self._pack.string_cell[self._string]
        if link is None or not cell.complete:
            return False
        mv = cell.total
        if self._joins:
            return -self._join_mv <= mv - link <= self._join_mv
        # split, so that the product stays below 2**30 for any pack
        return link >= mv // 1000 * self._ratio_pm + mv % 1000 * self._ratio_pm // 1000

    def expired(self, waited):
        """True where precharge has failed after `waited` ms: too long, or too hot a resistor."""
        return waited >= self._max_ms or bool(self._ohm and self.heat_mj >= self._energy_mj)

    def fail(self):
        """Count a failed precharge; True where it may be tried again."""
        self._failed += 1
        return self._failed < self._tries

    def hot(self):
        """True where the resistor has to cool down before a closing."""
        return bool(self._ohm and self.heat_mj > self._energy_mj >> 1)

    def step(self, now, on):
        """Add up the heat of the resistor: U^2 / R while the coil is on, else it cools down.

        on: the precharge coil is on.
        """
        if not self._ohm:
            return
        ms = ticks.diff(now, self._heat_at)
        self._heat_at = now
        if ms > _LONGEST_STEP_MS:
            ms = _LONGEST_STEP_MS
        heat = self.heat_mj
        link = self._pack.link_mv
        if on and link is not None:
            volts = (self._pack.string_cell[self._string].total - link) // 1000
            # W = V2 / ohm; mJ = W * ms; 1000 V and 1 s stay below 2**30
            heat += volts * volts * ms // self._ohm
        elif heat:
            heat -= self._energy_mj // (self._cool_ms // ms) if 0 < ms <= self._cool_ms else 0
        most = 2 * self._energy_mj
        self.heat_mj = 0 if heat < 0 else heat if heat < most else most
