"""Interlock, emergency stop, fault line, charger, ignition, isolation monitor.

The first three switch the coils off in an interrupt of the board. This module sets their faults,
and evaluates their levels each tick too, so that a missed edge is found. Nothing here allocates.
"""

from bms.protection import fault_ids as faults

INTERLOCK, STOP, FAULT_LINE, CHARGER, IGNITION = 1, 2, 4, 8, 16


class Inputs:
    """guarding: some inputs switch the coils off."""

    def __init__(self, config, board, faults_, strings, limits):
        self._board = board
        self._faults = faults_
        self._strings = strings
        self._limits = limits
        self._installed = 0
        if config.interlock:
            self._installed |= INTERLOCK
        if config.emergency_stop:
            self._installed |= STOP
        if config.fault_line:
            self._installed |= FAULT_LINE
        self._charger = bool(config.charger)
        self._ignition = bool(config.ignition)
        self._isolation = bool(config.isolation_sensor)
        self._was_on = True  # an ignition that is on at the start does not close
        self._used = self._installed or self._charger or self._ignition
        self.guarding = bool(self._installed)
        if self._installed:
            board.guard(self._installed)

    def check_cuts(self):
        """Set faults and states after an interrupt has switched the coils off; each cycle."""
        if self._installed:
            bits = self._board.check_cuts()
            if bits:
                self._strings.cut()
                self._set_faults(bits)

    def bits(self):
        """Present levels, see the board's `inputs()`."""
        return self._board.inputs()

    def step(self, now):
        """Evaluate the levels; each tick."""
        if self._isolation:
            self._limits.isolation_measured(self._board.isolation_kohm(), now)
        if not self._used:
            return
        bits = self._board.inputs()
        if self._installed:
            self._set_faults(self._installed & ~bits)
            good = self._installed & bits
            f = self._faults
            if good & INTERLOCK:
                f.clear(faults.INTERLOCK)
            if good & STOP:
                f.clear(faults.EMERGENCY_STOP)
            if good & FAULT_LINE:
                f.clear(faults.FAULT_LINE)
        if self._charger:
            self._strings.charger = bool(bits & CHARGER)
        if self._ignition:
            on = bool(bits & IGNITION)
            if on and not self._was_on:
                self._strings.close(now)
            elif self._was_on and not on:
                self._strings.open(now)
            self._was_on = on

    def _set_faults(self, bits):
        f = self._faults
        if bits & INTERLOCK:
            f.set(faults.INTERLOCK, -1, 0)
        if bits & STOP:
            f.set(faults.EMERGENCY_STOP, -1, 0)
        if bits & FAULT_LINE:
            f.set(faults.FAULT_LINE, -1, 0)
