"""Every fault: a table that is read at start, and by the host; a code never changes its meaning.

Reference: foxBMS 2's three levels, maximum operating (warn), recommended safety (derate) and
maximum safety limit (trip).
"""

from micropython import const

WARN = const(1)
DERATE = const(2)
TRIP = const(3)
SUFFIXES = ("", "_warning", "_derate", "")

# What the place of a fault counts: a cell of the pack, a temperature, a slave, a contactor (three
# a string), a string.
NOWHERE, CELL, TEMP, SLAVE, CONTACTOR, STRING = range(6)

# Quantities that `limits` judges at three levels, in the order of limit_table.TABLE:
# (codes of warn, derate, trip; name; place; unit of the value; meaning).
LEVELS = (
    ((5, 30, 3), "cell_high", CELL, "mV", "a cell above its bound"),
    ((6, 31, 4), "cell_low", CELL, "mV", "a cell below its bound"),
    ((7, 32, 33), "cell_spread", CELL, "mV", "highest - lowest cell of a string"),
    ((13, 34, 9), "temp_high", TEMP, "0.1 degC", "a temperature above its bound"),
    ((35, 36, 10), "temp_low", TEMP, "0.1 degC", "a temperature below its bound"),
    ((37, 38, 11), "temp_charge_high", TEMP, "0.1 degC", "too warm while charging"),
    ((39, 40, 12), "temp_charge_low", TEMP, "0.1 degC", "too cold while charging"),
    ((41, 42, 43), "temp_spread", TEMP, "0.1 degC", "warmest - coldest sensor of a string"),
    ((44, 45, 46), "board_temp", SLAVE, "0.1 degC", "a slave board itself is too warm"),
    ((47, 48, 49), "voltage_high", STRING, "mV", "a string's voltage above its bound"),
    ((50, 51, 52), "voltage_low", STRING, "mV", "a string's voltage below its bound"),
    ((53, 54, 55), "voltage_differs", STRING, "mV", "measured string voltage - sum of its cells"),
    ((56, 57, 14), "charge_current", STRING, "mA", "charge current of a string"),
    ((58, 59, 15), "discharge_current", STRING, "mA", "discharge current of a string"),
    ((60, 61, 62), "charge_peak", STRING, "permille", "I2t above charge_continuous, of its budget"),
    ((63, 64, 65), "discharge_peak", STRING, "permille", "the same above discharge_continuous"),
    ((66, 67, 68), "pack_charge", NOWHERE, "mA", "charge current of all strings"),
    ((69, 70, 71), "pack_discharge", NOWHERE, "mA", "discharge current of all strings"),
    ((72, 73, 74), "isolation_low", NOWHERE, "kohm", "isolation resistance below its bound"),
    ((75, 76, 77), "slave_age", SLAVE, "ms", "age of a slave's oldest cell reading"),
)

# All others: (code, name, level, place, unit of the value, meaning)
SINGLE = (
    (1, "cell_hard_high", TRIP, CELL, "mV", "one reading above cell_hard_max"),
    (2, "cell_hard_low", TRIP, CELL, "mV", "one reading below cell_hard_min"),
    (8, "temp_hard_high", TRIP, TEMP, "0.1 degC", "one reading above temp_hard_max"),
    (16, "current_hard", TRIP, STRING, "mA", "one sample beyond current_hard_max"),
    (17, "current_lost", TRIP, STRING, "ms", "no current reading for current_age while closed"),
    (18, "cell_lost", TRIP, CELL, "mV", "no fresh reading for cell_age; the last value"),
    (19, "temp_lost", TRIP, TEMP, "0.1 degC", "no fresh reading for temp_age, or open sensor"),
    (20, "slave_mismatch", TRIP, SLAVE, "cells", "brings other cells or sensors than configured"),
    (21, "slave_conflict", TRIP, SLAVE, "frames", "two boards answer with the same number"),
    (22, "slave_alarm", TRIP, SLAVE, "flags", "the slave itself reports an alarm"),
    (23, "slave_reboot", WARN, SLAVE, "times", "the slave started again while in use"),
    (24, "stack_voltage", TRIP, SLAVE, "mV", "slave's stack voltage - sum of its cells"),
    (25, "precharge_failed", TRIP, STRING, "mV", "link voltage not reached in any try"),
    (26, "contactor_feedback", TRIP, CONTACTOR, "ms", "commanded closed, feedback says open"),
    (27, "contactor_welded", TRIP, CONTACTOR, "ms", "commanded open, feedback says closed"),
    (28, "firmware", TRIP, NOWHERE, "", "the program ended by itself before this start"),
    (29, "self_test", TRIP, NOWHERE, "", "the test at start failed: see the boot line"),
    (78, "slaves_missing", TRIP, STRING, "slaves", "slaves of a string that fell silent"),
    (79, "cell_stuck", TRIP, CELL, "mV", "reading unchanged while the current moved"),
    (80, "open_wire", TRIP, CELL, "mV", "two neighbours, one high and one low: their wire is open"),
    (81, "slave_warning", WARN, SLAVE, "flags", "the slave itself reports a warning"),
    (82, "interlock", TRIP, NOWHERE, "", "the interlock loop is open"),
    (83, "emergency_stop", TRIP, NOWHERE, "", "the emergency stop is pressed"),
    (84, "fault_line", TRIP, NOWHERE, "", "the slaves' fault line says fault"),
    (85, "feedback_ignored", WARN, CONTACTOR, "", "a person said that the feedback is wrong"),
    (86, "link_rose", TRIP, STRING, "mV", "link voltage rose with only minus closed: a weld"),
    (87, "string_apart", WARN, STRING, "mV", "did not come near enough to the others to join"),
    (88, "isolation_lost", WARN, NOWHERE, "", "the isolation monitor does not measure"),
    (89, "unlocked", WARN, NOWHERE, "settings", "bounds beyond the chemistry's absolute range"),
    (90, "current_while_open", TRIP, STRING, "mA", "a current flows though all coils are off"),
    (91, "current_disagree", TRIP, STRING, "mA", "two sensors of a string show different currents"),
    (92, "current_frozen", TRIP, STRING, "mA", "the sensor says the same although the load moves"),
    (
        93,
        "current_sensor_error",
        TRIP,
        STRING,
        "code",
        "no sensor is left; what one says of itself",
    ),
    (94, "current_offset", TRIP, STRING, "mA", "shown while open: beyond what is taken off"),
    (95, "current_sensor_lost", WARN, STRING, "sensor", "one of several is silent; which one"),
    (
        96,
        "slave_switch",
        DERATE,
        SLAVE,
        "FETs",
        "a slave's own FETs; 1: charge is on, 2: dis-",
    ),
    (
        100,
        "config_copy_used",
        WARN,
        NOWHERE,
        "",
        "1: pack file damaged, its copy used; 2: the copy is",
    ),
    (101, "store_failed", WARN, NOWHERE, "times", "the storage could not be written"),
    (102, "store_lost", WARN, NOWHERE, "", "nothing whole in the storage: totals begin anew"),
    (103, "memory_error", WARN, NOWHERE, "times", "the cycle asked for memory, which it must not"),
    (110, "deep_discharge", WARN, STRING, "mV", "a cell fell below deep_cell: see clear deep"),
)

# (code, name, level, place, unit of the value, meaning): row n is fault n + 1 of `faults`
TABLE = (
    tuple(
        [
            (codes[level - 1], name + SUFFIXES[level], level, place, unit, meaning)
            for codes, name, place, unit, meaning in LEVELS
            for level in (WARN, DERATE, TRIP)
        ]
    )
    + SINGLE
)
