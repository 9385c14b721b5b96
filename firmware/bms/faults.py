"""Faults: codes, levels, latches, the first cause. Raising one that trips opens the contactors.

Writers: drivers, limits and contactors raise and withdraw; the console acknowledges. Nothing here
allocates after start-up.
"""

from array import array

from micropython import const

WARN = const(1)
TRIP = const(3)

# What the place of a fault counts: a cell of the pack, a temperature, a slave, a contactor.
NOWHERE, CELL, TEMP, SLAVE, CONTACTOR = range(5)
PLACES = (b"", b"cell", b"temp", b"slave", b"contactor")

# (code, name, level, place, unit of the value, meaning); a code never changes its meaning
TABLE = (
    (1, "cell_hard_high", TRIP, CELL, "mV", "one reading above cell_hard_max"),
    (2, "cell_hard_low", TRIP, CELL, "mV", "one reading below cell_hard_min"),
    (3, "cell_high", TRIP, CELL, "mV", "above cell_max for cell_delay"),
    (4, "cell_low", TRIP, CELL, "mV", "below cell_min for cell_delay"),
    (5, "cell_high_warning", WARN, CELL, "mV", "above cell_warn_max for cell_delay"),
    (6, "cell_low_warning", WARN, CELL, "mV", "below cell_warn_min for cell_delay"),
    (7, "cell_spread", WARN, CELL, "mV", "highest - lowest cell above spread_warn"),
    (8, "temp_hard_high", TRIP, TEMP, "0.1 degC", "one reading above temp_hard_max"),
    (9, "temp_high", TRIP, TEMP, "0.1 degC", "above temp_max for temp_delay"),
    (10, "temp_low", TRIP, TEMP, "0.1 degC", "below temp_min for temp_delay"),
    (11, "temp_charge_high", TRIP, TEMP, "0.1 degC", "charging above temp_charge_max"),
    (12, "temp_charge_low", TRIP, TEMP, "0.1 degC", "charging below temp_charge_min"),
    (13, "temp_high_warning", WARN, TEMP, "0.1 degC", "above temp_warn_max for temp_delay"),
    (14, "charge_current", TRIP, NOWHERE, "mA", "above charge_max for current_delay"),
    (15, "discharge_current", TRIP, NOWHERE, "mA", "above discharge_max for current_delay"),
    (16, "current_hard", TRIP, NOWHERE, "mA", "one sample beyond current_hard_max"),
    (17, "current_lost", TRIP, NOWHERE, "ms", "no current reading for current_age while closed"),
    (18, "cell_lost", TRIP, CELL, "mV", "no fresh reading for cell_age; the last value"),
    (19, "temp_lost", TRIP, TEMP, "0.1 degC", "no fresh reading for temp_age, or open sensor"),
    (20, "slave_mismatch", TRIP, SLAVE, "cells", "brings other cells or sensors than configured"),
    (21, "slave_conflict", TRIP, SLAVE, "frames", "two boards answer with the same number"),
    (22, "slave_alarm", TRIP, SLAVE, "flags", "the slave itself reports an alarm"),
    (23, "slave_reboot", WARN, SLAVE, "times", "the slave started again while in use"),
    (24, "stack_voltage", TRIP, SLAVE, "mV", "sum of cells against the slave's stack voltage"),
    (25, "precharge_failed", TRIP, NOWHERE, "mV", "link voltage not reached in any try"),
    (26, "contactor_feedback", TRIP, CONTACTOR, "ms", "commanded closed, feedback says open"),
    (27, "contactor_welded", TRIP, CONTACTOR, "ms", "commanded open, feedback says closed"),
    (28, "firmware", TRIP, NOWHERE, "", "an exception in the cycle"),
    (29, "self_test", TRIP, NOWHERE, "", "the test at start failed: see the boot line"),
)

(
    CELL_HARD_HIGH,
    CELL_HARD_LOW,
    CELL_HIGH,
    CELL_LOW,
    CELL_HIGH_WARNING,
    CELL_LOW_WARNING,
    CELL_SPREAD,
    TEMP_HARD_HIGH,
    TEMP_HIGH,
    TEMP_LOW,
    TEMP_CHARGE_HIGH,
    TEMP_CHARGE_LOW,
    TEMP_HIGH_WARNING,
    CHARGE_CURRENT,
    DISCHARGE_CURRENT,
    CURRENT_HARD,
    CURRENT_LOST,
    CELL_LOST,
    TEMP_LOST,
    SLAVE_MISMATCH,
    SLAVE_CONFLICT,
    SLAVE_ALARM,
    SLAVE_REBOOT,
    STACK_VOLTAGE,
    PRECHARGE_FAILED,
    CONTACTOR_FEEDBACK,
    CONTACTOR_WELDED,
    FIRMWARE,
    SELF_TEST,
) = range(1, len(TABLE) + 1)

# what happened to a fault, as the event line says it
RAISED, GONE, CLEARED = range(3)
CHANGES = (b"raised", b"gone", b"cleared")

_EVENTS = const(32)


class Faults:
    """State of every code, indexed by code.

    active: its condition holds now; latched: it tripped and was not acknowledged; place (0-based
    index, -1 = none), value, at_s + at_ms (uptime): those of the first occurrence since it was
    last clear; count: occurrences since boot. `first`: the code that tripped first, 0 = none.
    """

    def __init__(self, clock):
        n = len(TABLE) + 1
        self._clock = clock
        self._opener = None
        self.names = [b""] + [row[1].encode() for row in TABLE]
        self.level = bytearray([0] + [row[2] for row in TABLE])
        self.kind = bytearray([0] + [row[3] for row in TABLE])
        self.active = bytearray(n)
        self.latched = bytearray(n)
        self.place = array("h", [-1] * n)
        self.value = array("i", [0] * n)
        self.at_s = array("i", [0] * n)
        self.at_ms = array("h", [0] * n)
        self.count = array("i", [0] * n)
        self.first = 0
        self.trips = 0  # latched codes
        # ring of changes for telemetry: what happened, its code, place, value
        self.event_code = bytearray(_EVENTS)
        self.event_change = bytearray(_EVENTS)
        self.event_place = array("h", [-1] * _EVENTS)
        self.event_value = array("i", [0] * _EVENTS)
        self.event_at_s = array("i", [0] * _EVENTS)
        self.event_at_ms = array("h", [0] * _EVENTS)
        self.events = 0  # written since boot
        self.read = 0  # taken by telemetry
        self.lost_events = 0

    def opens(self, contactors):
        """Name what is told `trip()` when a code of level TRIP is raised."""
        self._opener = contactors

    def raised(self, code, place, value):
        """The condition of `code` holds; trips at once where its level says so."""
        if self.active[code]:
            return
        self.active[code] = 1
        if self.level[code] == TRIP:
            if self._opener is not None:
                self._opener.trip()
            if self.latched[code]:
                return
            self.latched[code] = 1
            self.trips += 1
            if not self.first:
                self.first = code
        self.place[code] = place
        self.value[code] = value
        self.at_s[code] = self._clock.uptime_s
        self.at_ms[code] = self._clock.uptime_ms
        self.count[code] = (self.count[code] + 1) & 0x3FFFFFF
        self._event(RAISED, code)

    def gone(self, code):
        """The condition of `code` no longer holds; a trip stays latched until acknowledged."""
        if self.active[code]:
            self.active[code] = 0
            if not self.latched[code]:
                self._event(GONE, code)

    def acknowledge(self):
        """Clear every latched code whose condition is gone; the count of those that stay."""
        for code in range(1, len(self.active)):
            if self.latched[code] and not self.active[code]:
                self.latched[code] = 0
                self.trips -= 1
                self._event(CLEARED, code)
        if not self.trips:
            self.first = 0
        elif not self.latched[self.first]:
            for code in range(1, len(self.active)):
                if self.latched[code]:
                    self.first = code
                    break
        return self.trips

    def _event(self, change, code):
        if self.events - self.read >= _EVENTS:
            self.read += 1
            self.lost_events += 1
        i = self.events % _EVENTS
        self.event_change[i] = change
        self.event_code[i] = code
        self.event_place[i] = self.place[code]
        self.event_value[i] = self.value[code]
        self.event_at_s[i] = self._clock.uptime_s
        self.event_at_ms[i] = self._clock.uptime_ms
        self.events += 1
