"""Table of all faults, and of all quantities with bounds.

Read at start, and by the host tools. A row names its fault by the constant in `faults`; the order
of rows does not matter. The meaning of a code never changes. A board unloads this module after
start, because the table is large.

Three levels, as in foxBMS 2: maximum operating limit (warn), recommended safety limit (derate),
maximum safety limit (trip).
"""

from bms.protection import fault_ids as F
from bms.protection.fault_ids import (
    CELL,
    CONTACTOR,
    DERATE,
    NOWHERE,
    SLAVE,
    STRING,
    TEMP,
    TRIP,
    WARN,
)

ABOVE, BELOW = 1, -1  # a quantity exceeds its bounds above, or below them

# settings of (hysteresis, delay, samples)
_CELL = ("cell_hysteresis_mv", "cell_delay_ms", "cell_samples")
_TEMP = ("temp_hysteresis_dc", "temp_delay_ms", "temp_samples")
_VOLTAGE = ("voltage_hysteresis_mv", "voltage_delay_ms", "voltage_samples")
_CURRENT = ("current_idle_ma", "current_delay_ms", "current_samples")
_ISOLATION = ("isolation_hysteresis_kohm", "isolation_delay_ms", "isolation_samples")

# Quantities with three levels, evaluated by `limits`: (fault at level TRIP; codes of warn, derate,
# trip; name; place; unit of the value; side; settings of the warn, derate and trip bounds; settings
# of hysteresis, delay, samples; meaning). A number instead of a setting is the value itself; for ""
# and for a setting that is 0, `limits` calculates the bound from other settings.
QUANTITIES = (
    (
        F.CELL_HIGH, (5, 30, 3), "cell_high", CELL, "mV",
        ABOVE, ("cell_warn_max_mv", "cell_derate_max_mv", "cell_max_mv"), _CELL,
        "a cell voltage is above its bound",
    ),
    (
        F.CELL_LOW, (6, 31, 4), "cell_low", CELL, "mV",
        BELOW, ("cell_warn_min_mv", "cell_derate_min_mv", "cell_min_mv"), _CELL,
        "a cell voltage is below its bound",
    ),
    (
        F.CELL_SPREAD, (7, 32, 33), "cell_spread", CELL, "mV",
        ABOVE, ("spread_warn_mv", "spread_derate_mv", "spread_max_mv"), _CELL,
        "highest - lowest cell voltage of a string is above its bound",
    ),
    (
        F.TEMP_HIGH, (13, 34, 9), "temp_high", TEMP, "0.1 degC",
        ABOVE, ("temp_warn_max_dc", "temp_derate_max_dc", "temp_max_dc"), _TEMP,
        "a temperature is above its bound",
    ),
    (
        F.TEMP_LOW, (35, 36, 10), "temp_low", TEMP, "0.1 degC",
        BELOW, ("temp_warn_min_dc", "temp_derate_min_dc", "temp_min_dc"), _TEMP,
        "a temperature is below its bound",
    ),
    (
        F.TEMP_CHARGE_HIGH, (37, 38, 11), "temp_charge_high", TEMP, "0.1 degC",
        ABOVE,
        ("temp_charge_warn_max_dc", "temp_charge_derate_max_dc", "temp_charge_max_dc"), _TEMP,
        "while charging: a temperature is above its bound for charging",
    ),
    (
        F.TEMP_CHARGE_LOW, (39, 40, 12), "temp_charge_low", TEMP, "0.1 degC",
        BELOW,
        ("temp_charge_warn_min_dc", "temp_charge_derate_min_dc", "temp_charge_min_dc"), _TEMP,
        "while charging: a temperature is below its bound for charging",
    ),
    (
        F.TEMP_SPREAD, (41, 42, 43), "temp_spread", TEMP, "0.1 degC",
        ABOVE, ("temp_spread_warn_dc", "temp_spread_derate_dc", "temp_spread_max_dc"), _TEMP,
        "warmest - coldest temperature sensor of a string is above its bound",
    ),
    (
        F.BOARD_TEMP, (44, 45, 46), "board_temp", SLAVE, "0.1 degC",
        ABOVE, ("board_temp_warn_dc", "board_temp_derate_dc", "board_temp_max_dc"), _TEMP,
        "the temperature of a slave board itself is above its bound",
    ),
    (
        F.VOLTAGE_HIGH, (47, 48, 49), "voltage_high", STRING, "mV",
        ABOVE, ("voltage_warn_max_mv", "voltage_derate_max_mv", "voltage_max_mv"), _VOLTAGE,
        "the voltage of a string is above its bound",
    ),
    (
        F.VOLTAGE_LOW, (50, 51, 52), "voltage_low", STRING, "mV",
        BELOW, ("voltage_warn_min_mv", "voltage_derate_min_mv", "voltage_min_mv"), _VOLTAGE,
        "the voltage of a string is below its bound",
    ),
    (
        F.VOLTAGE_DIFFERS, (53, 54, 55), "voltage_differs", STRING, "mV",
        ABOVE,
        ("voltage_differs_warn_mv", "voltage_differs_derate_mv", "voltage_differs_max_mv"),
        _VOLTAGE,
        "measured string voltage and sum of its cells differ by more than the bound",
    ),
    (
        F.CHARGE_CURRENT, (56, 57, 14), "charge_current", STRING, "mA",
        ABOVE, ("", "", "charge_max_ma"), _CURRENT,
        "the charge current of a string is above its bound",
    ),
    (
        F.DISCHARGE_CURRENT, (58, 59, 15), "discharge_current", STRING, "mA",
        ABOVE, ("", "", "discharge_max_ma"), _CURRENT,
        "the discharge current of a string is above its bound",
    ),
    (
        F.CHARGE_PEAK, (60, 61, 62), "charge_peak", STRING, "permille",
        ABOVE, ("peak_warn_pm", "peak_derate_pm", 1000), (50, 0, 1),
        "charge peak: share of the I2t budget above charge_continuous that is used",
    ),
    (
        F.DISCHARGE_PEAK, (63, 64, 65), "discharge_peak", STRING, "permille",
        ABOVE, ("peak_warn_pm", "peak_derate_pm", 1000), (50, 0, 1),
        "discharge peak: share of the I2t budget above discharge_continuous that is used",
    ),
    (
        F.PACK_CHARGE, (66, 67, 68), "pack_charge", NOWHERE, "mA",
        ABOVE, ("", "", "pack_charge_max_ma"), _CURRENT,
        "the charge current of all strings together is above its bound",
    ),
    (
        F.PACK_DISCHARGE, (69, 70, 71), "pack_discharge", NOWHERE, "mA",
        ABOVE, ("", "", "pack_discharge_max_ma"), _CURRENT,
        "the discharge current of all strings together is above its bound",
    ),
    (
        F.ISOLATION_LOW, (72, 73, 74), "isolation_low", NOWHERE, "kohm",
        BELOW, ("isolation_warn_kohm", "isolation_derate_kohm", "isolation_min_kohm"), _ISOLATION,
        "the isolation resistance is below its bound",
    ),
    (
        F.SLAVE_AGE, (75, 76, 77), "slave_age", SLAVE, "ms",
        ABOVE, ("cell_age_warn_ms", "cell_age_derate_ms", "cell_age_ms"), (20, 0, 1),
        "the oldest cell reading of a slave is older than the bound",
    ),
)  # fmt: skip

# All other faults: (fault, code, name, level, place, unit of the value, meaning)
SINGLE = (
    (
        F.CELL_HARD_HIGH, 1, "cell_hard_high", TRIP, CELL, "mV",
        "a single cell reading is above cell_hard_max",
    ),
    (
        F.CELL_HARD_LOW, 2, "cell_hard_low", TRIP, CELL, "mV",
        "a single cell reading is below cell_hard_min",
    ),
    (
        F.TEMP_HARD_HIGH, 8, "temp_hard_high", TRIP, TEMP, "0.1 degC",
        "a single temperature reading is above temp_hard_max",
    ),
    (
        F.CURRENT_HARD, 16, "current_hard", TRIP, STRING, "mA",
        "a single current sample is above current_hard_max, in either direction",
    ),
    (
        F.CURRENT_LOST, 17, "current_lost", TRIP, STRING, "ms",
        "no current reading for current_age while a contactor is closed; value: its age",
    ),
    (
        F.CELL_LOST, 18, "cell_lost", TRIP, CELL, "mV",
        "no valid reading of a cell for cell_age; value: the last valid one",
    ),
    (
        F.TEMP_LOST, 19, "temp_lost", TRIP, TEMP, "0.1 degC",
        "no valid reading of a temperature for temp_age, or its sensor is disconnected",
    ),
    (
        F.SLAVE_MISMATCH, 20, "slave_mismatch", TRIP, SLAVE, "cells",
        "a slave board has another number of cells or sensors than the pack file says",
    ),
    (
        F.SLAVE_CONFLICT, 21, "slave_conflict", TRIP, SLAVE, "frames",
        "two slave boards answer with the same address",
    ),
    (
        F.SLAVE_ALARM, 22, "slave_alarm", TRIP, SLAVE, "flags",
        "the slave board reports an alarm; value: its alarm flags",
    ),
    (
        F.SLAVE_REBOOT, 23, "slave_reboot", WARN, SLAVE, "times",
        "the slave board restarted while it was in use",
    ),
    (
        F.STATUS_LOST, 105, "status_lost", TRIP, SLAVE, "ms",
        "a slave board has not reported its own state, alarms included, for temp_age",
    ),
    (
        F.STACK_VOLTAGE, 24, "stack_voltage", TRIP, SLAVE, "mV",
        "a slave's stack voltage and sum of its cells differ by more than stack_tolerance",
    ),
    (
        F.VOLTAGE_LOST, 106, "voltage_lost", WARN, STRING, "ms",
        "the voltage of a string is not measured; the sum of its cells is evaluated instead",
    ),
    (
        F.PRECHARGE_FAILED, 25, "precharge_failed", TRIP, STRING, "mV",
        "precharge_tries precharges failed; value: link voltage, -1 = not measured",
    ),
    (
        F.PRECHARGE_LINK_HIGH, 97, "precharge_link_high", TRIP, STRING, "mV",
        "something holds the link above the string's voltage; value: the link voltage",
    ),
    (
        F.PRECHARGE_FAST, 98, "precharge_fast", TRIP, STRING, "ms",
        "the link charged faster than the precharge resistor allows: is the resistor shorted?",
    ),
    (
        F.PRECHARGE_LOAD, 99, "precharge_load", TRIP, STRING, "mA",
        "the precharge current did not decay: a load or a short on the link",
    ),
    (
        F.PRECHARGE_NO_CURRENT, 104, "precharge_no_current", TRIP, STRING, "mA",
        "no precharge current was seen: the resistor is open, or the link was charged already",
    ),
    (
        F.CONTACTOR_FEEDBACK, 26, "contactor_feedback", TRIP, CONTACTOR, "ms",
        "a coil is on, but the auxiliary contact reports that the contactor is open",
    ),
    (
        F.CONTACTOR_WELDED, 27, "contactor_welded", TRIP, CONTACTOR, "ms",
        "a coil is off, but the auxiliary contact reports that the contactor is closed",
    ),
    (
        F.FIRMWARE_CRASH, 28, "firmware_crash", TRIP, NOWHERE, "crashes",
        "before this start the firmware crashed, or the watchdog reset the board",
    ),
    (
        F.SELF_TEST, 29, "self_test", TRIP, NOWHERE, "",
        "the self-test at start failed; the boot line names the failed part",
    ),
    (
        F.SLAVES_MISSING, 78, "slaves_missing", TRIP, STRING, "slaves",
        "slave boards of a string stopped sending readings; value: how many",
    ),
    (
        F.CELL_STUCK, 79, "cell_stuck", TRIP, CELL, "mV",
        "a cell reading was unchanged for stuck_time although the current changed",
    ),
    (
        F.OPEN_WIRE, 80, "open_wire", TRIP, CELL, "mV",
        "open sense wire: of the two cells beside it one reads high, the other low",
    ),
    (
        F.SLAVE_WARNING, 81, "slave_warning", WARN, SLAVE, "flags",
        "the slave board reports a warning; value: its flags",
    ),
    (
        F.INTERLOCK, 82, "interlock", TRIP, NOWHERE, "",
        "the interlock loop is open",
    ),
    (
        F.EMERGENCY_STOP, 83, "emergency_stop", TRIP, NOWHERE, "",
        "the emergency stop is pressed",
    ),
    (
        F.FAULT_LINE, 84, "fault_line", TRIP, NOWHERE, "",
        "the fault line of the slave boards reports a fault",
    ),
    (
        F.FEEDBACK_IGNORED, 85, "feedback_ignored", WARN, CONTACTOR, "",
        "after `clear welded`, an auxiliary contact is ignored until the next start",
    ),
    (
        F.LINK_RISE, 86, "link_rise", TRIP, STRING, "mV",
        "the link voltage rose with only minus closed: plus or precharge is welded",
    ),
    (
        F.STRING_NOT_JOINED, 87, "string_not_joined", WARN, STRING, "mV",
        "a string could not join within join_wait; value: its voltage difference",
    ),
    (
        F.ISOLATION_LOST, 88, "isolation_lost", WARN, NOWHERE, "",
        "the isolation monitor gives no measurement",
    ),
    (
        F.LIMITS_UNLOCKED, 89, "limits_unlocked", WARN, NOWHERE, "settings",
        "settings are outside the absolute range of the chemistry; value: how many",
    ),
    (
        F.CURRENT_WHILE_OPEN, 90, "current_while_open", TRIP, STRING, "mA",
        "a current flows although all coils of the string are off",
    ),
    (
        F.CURRENT_DISAGREE, 91, "current_disagree", TRIP, STRING, "mA",
        "two sensors of a string measure different currents; value: the difference",
    ),
    (
        F.CURRENT_FROZEN, 92, "current_frozen", TRIP, STRING, "mA",
        "the current reading did not change although the cell voltages stepped",
    ),
    (
        F.CURRENT_REVERSED, 107, "current_reversed", TRIP, STRING, "mA",
        "the cells' voltage steps against the current: is the sensor mounted the wrong way round?",
    ),
    (
        F.CURRENT_SENSOR_ERROR, 93, "current_sensor_error", TRIP, STRING, "code",
        "no current sensor of a string works; value: the error code that one reports",
    ),
    (
        F.CURRENT_OFFSET, 94, "current_offset", TRIP, STRING, "mA",
        "a current sensor's zero error, measured while open, is above current_offset",
    ),
    (
        F.CURRENT_SENSOR_LOST, 95, "current_sensor_lost", WARN, STRING, "sensor",
        "one of several current sensors of a string is silent; value: its number, from 1",
    ),
    (
        F.SLAVE_SWITCH, 96, "slave_switch", DERATE, SLAVE, "FETs",
        "a slave board switched FETs of its own off; value: bits, 1 charge, 2 discharge still on",
    ),
    (
        F.SLAVE_UNREADABLE, 108, "slave_unreadable", WARN, SLAVE, "pieces",
        "bytes come on the port of this slave, but none make sense; value: damaged pieces",
    ),
    (
        F.CHAIN_INCOMPLETE, 109, "chain_incomplete", WARN, SLAVE, "modules",
        "fewer modules of a chain answer than are configured; this one does not; value: how many",
    ),
    (
        F.CONFIG_COPY_USED, 100, "config_copy_used", WARN, NOWHERE, "",
        "1: pack file damaged, copy in use; 2: copy damaged; 3: file without checksum, copy in use",
    ),
    (
        F.STORE_FAILED, 101, "store_failed", WARN, NOWHERE, "times",
        "a read or a write of the store failed; value: how many",
    ),
    (
        F.STORE_LOST, 102, "store_lost", WARN, NOWHERE, "",
        "the store holds no valid record; all totals start from zero",
    ),
    (
        F.MEMORY_ERROR, 103, "memory_error", WARN, NOWHERE, "times",
        "the cycle allocated memory, which it must never do; value: how often",
    ),
    (
        F.DEEP_DISCHARGE, 110, "deep_discharge", WARN, STRING, "mV",
        "a cell was below deep_cell; `clear deep` allows its use again",
    ),
)  # fmt: skip


def by_quantity():
    """Rows of QUANTITIES, sorted by the numbers that `faults` gives the quantities."""
    rows: list = [()] * len(QUANTITIES)
    for row in QUANTITIES:
        rows[F.quantity_of(row[0])] = row
    return rows


def table():
    """All faults as (code, name, level, place, unit, meaning), sorted by their numbers."""
    rows: list = [()] * (F.LEVELLED + len(SINGLE))
    for fault, codes, name, place, unit, _side, _bounds, _timing, meaning in QUANTITIES:
        for level in (WARN, DERATE, TRIP):
            at = F.level_fault(F.quantity_of(fault), level) - 1
            full = name + F.SUFFIXES[level].decode()
            rows[at] = (codes[level - 1], full, level, place, unit, meaning)
    for row in SINGLE:
        rows[row[0] - 1] = row[1:]
    return rows
