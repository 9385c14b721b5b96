"""State of all faults: active, latched, the first cause. Setting one that trips opens contactors.

Writers: drivers, limits, contactors, inputs and sensors set and clear; the console acknowledges.
Each string has its own state of every fault, the pack as a whole another one. Nothing here
allocates after start-up.
"""

from array import array

from micropython import const

from bms.protection.fault_ids import (
    ACKNOWLEDGED,
    CELL,
    CELL_SPREAD,
    CHARGE_ONLY,
    CLEAR,
    CONTACTOR,
    DEEP_DISCHARGE,
    DERATE,
    DISCHARGE_ONLY,
    LEVELLED,
    NOWHERE,
    SET,
    SLAVE,
    SLAVE_SWITCH,
    STRING,
    SUFFIXES,
    TRIP,
    WARN,
    level_fault,
    quantity_of,
)

_EVENTS = const(32)


def derated_sides(fault, value):
    """Power limits that a fault of level DERATE reduces: bits 1 charge, 2 discharge.

    A spread reduces them by its size alone, which `energy.power` calculates: 0.
    """
    if fault == SLAVE_SWITCH:
        return ~value & 3  # value: FETs that are still on
    quantity = quantity_of(fault)
    if CHARGE_ONLY >> quantity & 1:
        return 1
    if DISCHARGE_ONLY >> quantity & 1:
        return 2
    return 0 if quantity == quantity_of(CELL_SPREAD) else 3


class Faults:
    """State of every fault; the index of an array is `slot(fault, scope)`.

    A scope is a string, or the pack (`pack_scope`); with one string both are 0, and a slot is the
    number of the fault. active: its condition holds now; latched: it tripped and was not
    acknowledged; place (0-based index, -1 = none), value, at_s + at_ms (uptime): those of the
    first occurrence since it was last clear; count: occurrences since boot. `first`: the fault
    that tripped first, 0 = none, and `first_slot`. By fault: code, level, kind of place,
    name_at: where in `names` its name begins, which a space ends.
    """

    def __init__(self, clock, pack):
        self._clock = clock
        self._pack = pack
        self._open_target = None
        self._read_catalog()
        strings = pack.strings
        self.pack_scope = strings if strings > 1 else 0
        size = self.rows * (self.pack_scope + 1)
        self.active = bytearray(size)
        self.latched = bytearray(size)
        self.place = array("h", [-1] * size)
        self.value = array("i", [0] * size)
        self.at_s = array("i", [0] * size)
        self.at_ms = array("h", [0] * size)
        self.count = array("H", [0] * size)
        self.first = self.first_slot = 0
        self.trips = 0  # latched faults
        self._held = array("h", [0] * (self.pack_scope + 1))  # latched faults by scope
        # active ones of level DERATE that reduce charge, discharge, by scope
        self._derating = array("h", [0] * (2 * self.pack_scope + 2))
        self.changes = 0  # of `trips`
        # ring of events for telemetry and the store: slot, change, place, value, uptime
        self.event_slot = array("h", [0] * _EVENTS)
        self.event_change = bytearray(_EVENTS)
        self.event_place = array("h", [-1] * _EVENTS)
        self.event_value = array("i", [0] * _EVENTS)
        self.event_at_s = array("i", [0] * _EVENTS)
        self.event_at_ms = array("h", [0] * _EVENTS)
        self.events = 0  # written since boot
        self.read = 0  # taken by telemetry
        self.lost_events = 0

    def _read_catalog(self):
        """Codes, names, levels and places by fault. Raises ValueError: a fault without a row."""
        from bms.protection.fault_catalog import (
            QUANTITIES as LEVELS,  # large, and needed at start only
        )
        from bms.protection.fault_catalog import SINGLE

        rows = self.rows = DEEP_DISCHARGE + 1  # the last one
        names = [""]  # fault 0 has none; one text, since each object takes room on a board
        self.name_at = array("H", [0] * rows)
        self.code = bytearray(rows)
        self.level = bytearray(rows)
        self.kind = bytearray(rows)
        at = 1
        for row in LEVELS:
            names.append(row[2])  # for the three levels, without their suffixes
            for level in (WARN, DERATE, TRIP):
                fault = level_fault(quantity_of(row[0]), level)
                self._describe(fault, row[1][level - 1], at, level, row[3])
            at += len(row[2]) + 1
        for row in SINGLE:
            names.append(row[2])
            self._describe(row[0], row[1], at, row[3], row[4])
            at += len(row[2]) + 1
        names.append("")
        self.names = " ".join(names).encode()
        for fault in range(1, rows):
            if not self.code[fault]:
                raise ValueError("fault_catalog has no row for fault %d" % fault)

    def _describe(self, fault, code, name_at, level, kind):
        self.code[fault] = code
        self.name_at[fault] = name_at
        self.level[fault] = level
        self.kind[fault] = kind

    def set_open_target(self, strings):
        """Set the object whose `trip(scope)` is called when a fault of level TRIP is set."""
        self._open_target = strings

    def suffix(self, fault):
        """Suffix of the level, which follows the name; bytes."""
        return SUFFIXES[self.level[fault]] if fault <= LEVELLED else b""

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
        """Index of a fault in the arrays, for a scope."""
        return scope * self.rows + fault

    def is_latched(self, fault, string):
        """True where a fault of a string is latched."""
        return self.latched[self.slot(fault, string if self.pack_scope else 0)]

    def blocking(self, string):
        """Number of latched faults that keep a string open: its own and the pack's."""
        if self.pack_scope == 0:
            return self.trips
        return self._held[string] + self._held[self.pack_scope]

    def derating(self, string, side):
        """Number of active faults that reduce charge (side 0) or discharge (1) of a string.

        A string's own and the pack's.
        """
        if self.pack_scope == 0:
            return self._derating[side]
        return self._derating[2 * string + side] + self._derating[2 * self.pack_scope + side]

    def _derate(self, i, value, by):
        """Count fault `i` of level DERATE, with its value, on the sides that it reduces."""
        sides = derated_sides(i % self.rows, value)
        at = i // self.rows * 2
        self._derating[at] += by * (sides & 1)
        self._derating[at + 1] += by * (sides >> 1)

    def set(self, fault, place, value):
        """Set `fault` at `place` (0-based, -1 = none), with its value; level TRIP opens at once."""
        i = fault if self.pack_scope == 0 else self.slot(fault, self.scope(fault, place))
        if self.active[i]:
            if fault == SLAVE_SWITCH:  # another board, another FET
                self._derate(i, self.value[i], -1)
                self.value[i] &= value
                self._derate(i, self.value[i], 1)
            return
        self.active[i] = 1
        level = self.level[fault]
        scope = i // self.rows
        if level == TRIP:
            if not self.latched[i]:
                self.place[i] = place  # before anything can fail: see `complete`
                self.value[i] = value
            if self._open_target is not None:
                self._open_target.trip(scope)
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
            self._derate(i, value, 1)
        self.place[i] = place
        self.value[i] = value
        self.at_s[i] = self._clock.uptime_s
        self.at_ms[i] = self._clock.uptime_ms
        self.count[i] = (self.count[i] + 1) & 0x7FFF
        self._event(SET, i)

    def complete(self):
        """Trip every active fault of level TRIP again, after an error in the cycle."""
        for i in range(len(self.active)):
            fault = i % self.rows
            if not self.active[i] or self.level[fault] != TRIP:
                continue
            if not self.latched[i]:
                self.active[i] = 0
                self.set(fault, self.place[i], self.value[i])
            elif self._open_target is not None:
                self._open_target.trip(i // self.rows)

    def clear(self, fault, place=-1):
        """The condition of `fault` no longer holds there; a trip stays until acknowledged."""
        i = fault if self.pack_scope == 0 else self.slot(fault, self.scope(fault, place))
        if self.active[i]:
            self.active[i] = 0
            if self.level[fault] == DERATE:
                self._derate(i, self.value[i], -1)
            if not self.latched[i]:
                self._event(CLEAR, i)

    def acknowledge(self):
        """Clear every latched fault that is no longer active; returns how many stay latched.

        `first` stays as long as any does: it says why the others came.
        """
        self.changes += 1
        for i in range(len(self.active)):
            if self.latched[i] and not self.active[i]:
                self.latched[i] = 0
                self.trips -= 1
                self._held[i // self.rows] -= 1
                self._event(ACKNOWLEDGED, i)
        if not self.trips:
            self.first = self.first_slot = 0
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
