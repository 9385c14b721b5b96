"""Interlock, emergency stop, fault line, charger, ignition, isolation monitor.

The first three switch the coils off in an interrupt of the board. This module sets their faults,
and evaluates their levels each tick too, so that a missed edge is found. Nothing here allocates.
"""

from micropython import const

from bms import ticks
from bms.protection import fault_ids as faults

_STABLE_MS = const(100)  # ignition counts as on or off after this time
_RETRY_MS = const(10000)  # so long an ignition that came on tries to close

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
        self._level = True  # of the ignition at the last look, since `_level_at`
        self._level_at = 0
        self._opened = -1  # while it tries to close: openings when it began
        self._on_at = 0
        self._used = self._installed or self._charger or self._ignition
        self.guarding = bool(self._installed)
        if self._installed:
            board.guard(self._installed)

    def check_cuts(self):
        """Set faults and states after an interrupt has switched the coils off.

        In each cycle where `guarding`.
        """
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
            self._ignite(bool(bits & IGNITION), now)

    def _ignite(self, on, now):
        """Close as the ignition comes on, open as it goes off; a flicker does neither.

        What refuses at first, as readings that are not fresh yet, gets some time to go away; an
        opening or a trip meanwhile ends that.
        """
        strings = self._strings
        if on != self._level:
            self._level = on
            self._level_at = now
        elif on != self._was_on and ticks.diff(now, self._level_at) >= _STABLE_MS:
            self._was_on = on
            self._opened = -1
            if on:
                self._opened = strings.openings
                self._on_at = now
            else:
                strings.open(now)
        if self._opened >= 0:
            late = ticks.diff(now, self._on_at) >= _RETRY_MS
            if self._opened != strings.openings or self._faults.trips or late:
                self._opened = -1
            elif strings.close(now) is None:
                self._opened = -1

    def _set_faults(self, bits):
        f = self._faults
        if bits & INTERLOCK:
            f.set(faults.INTERLOCK, -1, 0)
        if bits & STOP:
            f.set(faults.EMERGENCY_STOP, -1, 0)
        if bits & FAULT_LINE:
            f.set(faults.FAULT_LINE, -1, 0)
