"""Numbers of the faults, of their levels, places and changes; `fault_catalog` describes the faults.

Integer constants: `bmsctl flash` puts them where they are used, so they cost a board nothing.
"""

from micropython import const

WARN = const(1)
DERATE = const(2)
TRIP = const(3)

SUFFIXES = (b"", b"_warning", b"_derate", b"")  # of a name, by level

# kinds of place of a fault, whose numbers count: cells and temperatures of the pack, slaves,
# contactors (three per string), strings
NOWHERE, CELL, TEMP, SLAVE, CONTACTOR, STRING = range(6)
PLACES = b" cell temp slave contactor string "  # each with a space behind it

# Faults are numbered from 1, those of quantities with three levels first: see `level_fault`. The
# catalog describes them (fault_catalog); only this module orders them.
QUANTITIES = const(20)
LEVELLED = const(3 * QUANTITIES)
# a quantity's fault at level TRIP; `limits` builds on this order: cells, temperatures, a slave's
# own, then a string's, the pack's, and the age of readings
(
    CELL_HIGH,
    CELL_LOW,
    CELL_SPREAD,
    TEMP_HIGH,
    TEMP_LOW,
    TEMP_CHARGE_HIGH,
    TEMP_CHARGE_LOW,
    TEMP_SPREAD,
    BOARD_TEMP,
    VOLTAGE_HIGH,
    VOLTAGE_LOW,
    VOLTAGE_DIFFERS,
    CHARGE_CURRENT,
    DISCHARGE_CURRENT,
    CHARGE_PEAK,
    DISCHARGE_PEAK,
    PACK_CHARGE,
    PACK_DISCHARGE,
    ISOLATION_LOW,
    SLAVE_AGE,
) = range(TRIP, LEVELLED + TRIP, 3)
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
    STATUS_LOST,
    STACK_VOLTAGE,
    VOLTAGE_LOST,
    PRECHARGE_FAILED,
    PRECHARGE_LINK_HIGH,
    PRECHARGE_FAST,
    PRECHARGE_LOAD,
    PRECHARGE_NO_CURRENT,
    CONTACTOR_FEEDBACK,
    CONTACTOR_WELDED,
    FIRMWARE_CRASH,
    SELF_TEST,
    SLAVES_MISSING,
    CELL_STUCK,
    OPEN_WIRE,
    SLAVE_WARNING,
    INTERLOCK,
    EMERGENCY_STOP,
    FAULT_LINE,
    FEEDBACK_IGNORED,
    LINK_RISE,
    STRING_NOT_JOINED,
    ISOLATION_LOST,
    LIMITS_UNLOCKED,
    CURRENT_WHILE_OPEN,
    CURRENT_DISAGREE,
    CURRENT_FROZEN,
    CURRENT_REVERSED,
    CURRENT_SENSOR_ERROR,
    CURRENT_OFFSET,
    CURRENT_SENSOR_LOST,
    SLAVE_SWITCH,
    SLAVE_UNREADABLE,
    CHAIN_INCOMPLETE,
    CONFIG_COPY_USED,
    STORE_FAILED,
    STORE_LOST,
    MEMORY_ERROR,
    DEEP_DISCHARGE,
) = range(LEVELLED + 1, LEVELLED + 51)

# what happened to a fault, as the event line reports it
SET, CLEAR, ACKNOWLEDGED = range(3)
CHANGES = (b"set", b"clear", b"acknowledged")


def level_fault(quantity, level):
    """The fault of a quantity (0..QUANTITIES-1) at WARN, DERATE or TRIP."""
    return 3 * quantity + level


def quantity_of(fault):
    """The quantity of a fault at any of its three levels (1..LEVELLED)."""
    return (fault - WARN) // 3


# quantities that only charging, or only discharging, makes worse: one bit each
CHARGE_ONLY = (
    1 << quantity_of(CELL_HIGH)
    | 1 << quantity_of(TEMP_CHARGE_HIGH)
    | 1 << quantity_of(TEMP_CHARGE_LOW)
    | 1 << quantity_of(VOLTAGE_HIGH)
    | 1 << quantity_of(CHARGE_CURRENT)
    | 1 << quantity_of(CHARGE_PEAK)
    | 1 << quantity_of(PACK_CHARGE)
)
DISCHARGE_ONLY = (
    1 << quantity_of(CELL_LOW)
    | 1 << quantity_of(VOLTAGE_LOW)
    | 1 << quantity_of(DISCHARGE_CURRENT)
    | 1 << quantity_of(DISCHARGE_PEAK)
    | 1 << quantity_of(PACK_DISCHARGE)
)
