"""Interlock, emergency stop, fault line, charger, ignition, isolation monitor.

The first three cut the coils within the board's interrupt; this module says why, and judges their
levels besides, so that an edge nobody saw is found. Nothing here allocates.
"""

from bms import faults

INTERLOCK, STOP, FAULT_LINE, CHARGER, IGNITION = 1, 2, 4, 8, 16


class Inputs:
    """bits: what the inputs say now, see the board's `inputs()`; guarding: some of them cut."""

    def __init__(self, config, board, faults_, strings, limits):
        self._board = board
        self._faults = faults_
        self._strings = strings
        self._limits = limits
        self._fitted = 0
        if config.interlock:
            self._fitted |= INTERLOCK
        if config.emergency_stop:
            self._fitted |= STOP
        if config.fault_line:
            self._fitted |= FAULT_LINE
        self._charger = bool(config.charger)
        self._ignition = bool(config.ignition)
        self._isolation = bool(config.isolation_sensor)
        self._was_on = True  # ignition that is on at the start closes nothing
        self.bits = 0
        self.guarding = bool(self._fitted)
        if self._fitted:
            board.guard(self._fitted)

    def cuts(self):
        """Follow what the board's interrupt has cut; each cycle."""
        if self._fitted:
            bits = self._board.cuts()
            if bits:
                self._strings.cut()
                self._say(bits)

    def step(self, now):
        """Judge the levels; each tick."""
        bits = self._board.inputs()
        self.bits = bits
        if self._fitted:
            self._say(self._fitted & ~bits)
            good = self._fitted & bits
            f = self._faults
            if good & INTERLOCK:
                f.gone(faults.INTERLOCK)
            if good & STOP:
                f.gone(faults.EMERGENCY_STOP)
            if good & FAULT_LINE:
                f.gone(faults.FAULT_LINE)
        if self._charger:
            self._strings.charger = bool(bits & CHARGER)
        if self._ignition:
            on = bool(bits & IGNITION)
            if on and not self._was_on:
                self._strings.close(now)
            elif self._was_on and not on:
                self._strings.open(now)
            self._was_on = on
        if self._isolation:
            self._limits.isolated(self._board.isolation_kohm(), now)

    def _say(self, bits):
        f = self._faults
        if bits & INTERLOCK:
            f.raised(faults.INTERLOCK, -1, 0)
        if bits & STOP:
            f.raised(faults.EMERGENCY_STOP, -1, 0)
        if bits & FAULT_LINE:
            f.raised(faults.FAULT_LINE, -1, 0)
