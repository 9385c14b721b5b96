"""Faults: which hold, which are latched, the first cause. Raising one that trips opens contactors.

Writers: drivers, limits, contactors, inputs and sensors raise and withdraw; the console
acknowledges. Each string has its own state of every fault, the pack as a whole another one. Nothing
here allocates after start-up.
"""

from array import array

from micropython import const

WARN = const(1)
DERATE = const(2)
TRIP = const(3)

NOWHERE, CELL, TEMP, SLAVE, CONTACTOR, STRING = range(6)
PLACES = (b"", b"cell", b"temp", b"slave", b"contactor", b"string")

# faults by the place of their row in fault_table.TABLE; those at three levels: first the warning
LEVELLED = const(60)
CELL_HIGH, CELL_LOW, CELL_SPREAD, TEMP_HIGH, TEMP_LOW = range(3, 18, 3)
TEMP_CHARGE_HIGH, TEMP_CHARGE_LOW, TEMP_SPREAD, BOARD_TEMP = range(18, 30, 3)
VOLTAGE_HIGH, VOLTAGE_LOW, VOLTAGE_DIFFERS = range(30, 39, 3)
CHARGE_CURRENT, DISCHARGE_CURRENT, CHARGE_PEAK, DISCHARGE_PEAK = range(39, 51, 3)
PACK_CHARGE, PACK_DISCHARGE, ISOLATION_LOW, SLAVE_AGE = range(51, 63, 3)
CELL_HIGH_WARNING, CELL_LOW_WARNING, CELL_SPREAD_WARNING = range(1, 10, 3)
(
    CELL_HARD_HIGH,
    CELL_HARD_LOW,
    TEMP_HARD_HIGH,
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
    SLAVES_MISSING,
    CELL_STUCK,
    OPEN_WIRE,
    SLAVE_WARNING,
    INTERLOCK,
    EMERGENCY_STOP,
    FAULT_LINE,
    FEEDBACK_IGNORED,
    LINK_ROSE,
    STRING_APART,
    ISOLATION_LOST,
    UNLOCKED,
    CURRENT_WHILE_OPEN,
    CURRENT_DISAGREE,
    CURRENT_FROZEN,
    CURRENT_SENSOR_ERROR,
    CURRENT_OFFSET,
    CURRENT_SENSOR_LOST,
    SLAVE_SWITCH,
    CONFIG_COPY_USED,
    STORE_FAILED,
    STORE_LOST,
    MEMORY_ERROR,
    DEEP_DISCHARGE,
) = range(LEVELLED + 1, LEVELLED + 42)

# what happened to a fault, as the event line says it
RAISED, GONE, CLEARED = range(3)
CHANGES = (b"raised", b"gone", b"cleared")

_EVENTS = const(32)


class Faults:
    """State of every fault; the index of an array is `slot(fault, scope)`.

    A scope is a string, or the pack (`pack_scope`); with one string both are 0, and a slot is the
    fault's own number. active: its condition holds now; latched: it tripped and was not
    acknowledged; place (0-based index, -1 = none), value, at_s + at_ms (uptime): those of the
    first occurrence since it was last clear; count: occurrences since boot. `first`: the fault
    that tripped first, 0 = none, and `first_slot`. By fault: code, name, level, kind of place.
    """

    def __init__(self, clock, pack):
        from bms.fault_table import SUFFIXES, TABLE  # large, and needed at start only

        self._clock = clock
        self._pack = pack
        self._opener = None
        rows = self.rows = len(TABLE) + 1
        strings = pack.strings
        self.pack_scope = strings if strings > 1 else 0
        size = rows * (self.pack_scope + 1)
        names = [b""]
        for row in TABLE:
            if len(names) > LEVELLED:
                names.append(row[1].encode())
            elif row[2] == WARN:
                names.append(row[1][: -len(SUFFIXES[WARN])].encode())
            else:
                names.append(names[-1])  # one text for the three levels
        self.names = names  # without the suffix of the level, see `suffix`
        self.code = bytearray([0] + [row[0] for row in TABLE])
        self.level = bytearray([0] + [row[2] for row in TABLE])
        self.kind = bytearray([0] + [row[3] for row in TABLE])
        self.active = bytearray(size)
        self.latched = bytearray(size)
        self.place = array("h", [-1] * size)
        self.value = array("i", [0] * size)
        self.at_s = array("i", [0] * size)
        self.at_ms = array("h", [0] * size)
        self.count = array("H", [0] * size)
        self.first = self.first_slot = 0
        self.trips = 0  # latched faults
        self._held = array("h", [0] * (self.pack_scope + 1))  # of them, by scope
        self._eased = array("h", [0] * (self.pack_scope + 1))  # active ones of level DERATE
        self.changes = 0  # of `trips`
        # ring of changes for telemetry and the store: what happened, its slot, place, value
        self.event_slot = array("h", [0] * _EVENTS)
        self.event_change = bytearray(_EVENTS)
        self.event_place = array("h", [-1] * _EVENTS)
        self.event_value = array("i", [0] * _EVENTS)
        self.event_at_s = array("i", [0] * _EVENTS)
        self.event_at_ms = array("h", [0] * _EVENTS)
        self.events = 0  # written since boot
        self.read = 0  # taken by telemetry
        self.lost_events = 0

    def opens(self, strings):
        """Name what is told `trip(scope)` when a fault of level TRIP is raised."""
        self._opener = strings

    def suffix(self, fault):
        """What its name has behind `names[fault]`, as bytes."""
        level = self.level[fault]
        if fault > LEVELLED or level == TRIP:
            return b""
        return b"_derate" if level == DERATE else b"_warning"

    def scope(self, fault, place):
        """The string that a place belongs to, or the pack."""
        pack = self._pack
        if self.pack_scope == 0:
            return 0
        kind = self.kind[fault]
        if kind == NOWHERE or place < 0:
            return self.pack_scope
        if kind == STRING:
            return place
        if kind == CONTACTOR:
            return place // 3
        if kind == SLAVE:
            return pack.string_of_slave[place]
        return pack.string_at(pack.cell_from if kind == CELL else pack.temp_from, place)

    def slot(self, fault, scope):
        """Where the state of a fault stands in the arrays."""
        return scope * self.rows + fault

    def held(self, string):
        """Latched faults that keep a string open: its own and the pack's."""
        if self.pack_scope == 0:
            return self.trips
        return self._held[string] + self._held[self.pack_scope]

    def derating(self, string):
        """Active faults of level DERATE: a string's own and the pack's."""
        if self.pack_scope == 0:
            return self._eased[0]
        return self._eased[string] + self._eased[self.pack_scope]

    def raised(self, fault, place, value):
        """The condition of `fault` holds; trips at once where its level says so."""
        i = fault if self.pack_scope == 0 else self.slot(fault, self.scope(fault, place))
        if self.active[i]:
            return
        self.active[i] = 1
        level = self.level[fault]
        scope = i // self.rows
        if level == TRIP:
            if not self.latched[i]:
                self.place[i] = place  # before anything can fail: see `complete`
                self.value[i] = value
            if self._opener is not None:
                self._opener.trip(scope)
            if self.latched[i]:
                return
            self.latched[i] = 1
            self.trips += 1
            self.changes += 1
            self._held[scope] += 1
            if not self.first:
                self.first = fault
                self.first_slot = i
        elif level == DERATE:
            self._eased[scope] += 1
        self.place[i] = place
        self.value[i] = value
        self.at_s[i] = self._clock.uptime_s
        self.at_ms[i] = self._clock.uptime_ms
        self.count[i] = (self.count[i] + 1) & 0x7FFF
        self._event(RAISED, i)

    def complete(self):
        """Trip what is active once more: an error in the cycle may have come between."""
        for i in range(len(self.active)):
            fault = i % self.rows
            if not self.active[i] or self.level[fault] != TRIP:
                continue
            if not self.latched[i]:
                self.active[i] = 0
                self.raised(fault, self.place[i], self.value[i])
            elif self._opener is not None:
                self._opener.trip(i // self.rows)

    def gone(self, fault, place=-1):
        """The condition of `fault` no longer holds there; a trip stays until acknowledged."""
        i = fault if self.pack_scope == 0 else self.slot(fault, self.scope(fault, place))
        if self.active[i]:
            self.active[i] = 0
            if self.level[fault] == DERATE:
                self._eased[i // self.rows] -= 1
            if not self.latched[i]:
                self._event(GONE, i)

    def acknowledge(self):
        """Clear every latched fault whose condition is gone; the count of those that stay."""
        self.changes += 1
        for i in range(len(self.active)):
            if self.latched[i] and not self.active[i]:
                self.latched[i] = 0
                self.trips -= 1
                self._held[i // self.rows] -= 1
                self._event(CLEARED, i)
        if not self.trips:
            self.first = self.first_slot = 0
        elif not self.latched[self.first_slot]:
            for i in range(len(self.active)):
                if self.latched[i]:
                    self.first_slot = i
                    self.first = i % self.rows
                    break
        return self.trips

    def _event(self, change, slot):
        if self.events - self.read >= _EVENTS:
            self.read += 1
            self.lost_events += 1
        i = self.events % _EVENTS
        self.event_change[i] = change
        self.event_slot[i] = slot
        self.event_place[i] = self.place[slot]
        self.event_value[i] = self.value[slot]
        self.event_at_s[i] = self._clock.uptime_s
        self.event_at_ms[i] = self._clock.uptime_ms
        self.events += 1
