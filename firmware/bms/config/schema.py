"""The pack file: one table of every setting, its reader, and the checks that refuse a bad one.

The board and the host read a pack file with this same code. The format is a subset of TOML:
`[table]`, `[[slave]]`, `key = "text"`, `key = 12`, `key = true`, comments; a quantity is a text
with its unit, as in `cell_max = "3.65 V"`. Allocates freely: it runs before the cycle starts.
"""

from array import array

from bms.config.errors import ConfigError
from bms.config.settings import Config, LinkConfig, SensorConfig, SlaveConfig

LFP = 0
NMC = 1
CHEMISTRIES = ("LFP", "NMC")

# unit in a pack file -> (unit inside, decimal places to shift)
UNITS = {
    "mV": ("mV", 0),
    "V": ("mV", 3),
    "mA": ("mA", 0),
    "A": ("mA", 3),
    "mAh": ("mAh", 0),
    "Ah": ("mAh", 3),
    "ms": ("ms", 0),
    "s": ("ms", 3),
    "degC": ("0.1 degC", 1),
    "permille": ("permille", 0),
    "%": ("permille", 1),
    "bit/s": ("bit/s", 0),
    "kbit/s": ("bit/s", 3),
    "ohm": ("ohm", 0),
    "kohm": ("kohm", 0),
    "Mohm": ("kohm", 3),
    "J": ("J", 0),
    "uohm": ("uohm", 0),
    "mohm": ("uohm", 3),
    "ppm": ("ppm", 0),
}
SUFFIX = {
    "mV": "_mv",
    "mA": "_ma",
    "mAh": "_mah",
    "ms": "_ms",
    "0.1 degC": "_dc",
    "permille": "_pm",
    "bit/s": "_bps",
    "ohm": "_ohm",
    "kohm": "_kohm",
    "J": "_j",
    "uohm": "_uohm",
    "ppm": "_ppm",
}

# Every setting: (table, key, unit inside, lowest, highest, default LFP, default NMC, meaning).
# Units "text", "bool" and "" (a count) take no unit in the file; default None = must be given.
# The defaults are the presets of the two chemistries. Where their numbers come from:
# - cell_max, cell_min: data sheets of LFP (2.50..3.65 V) and NMC cells (2.5..3.0 to 4.20 V, here
#   4.25 V, as a charger that holds 4.20 V overshoots); warn and derate 20..300 mV inside, foxBMS 2
#   has steps of 30..80 mV; hard bounds 100 mV (LFP: 500 mV below) beyond, for one reading
# - temp_*: the same data sheets, charge 0..45 degC, discharge -20..60 degC; steps between levels
#   of 5 and 10 K as foxBMS 2 v1.11; temp_hard_max: where separators of both begin to fail is
#   above 90 degC, 20 K less
# - board_temp_*: parts for 105 degC and for 125 degC at the junction, with 10 K between levels
# - *_delay, *_samples: foxBMS 2 takes 200 ms behind 50 events, evaluated every 10 ms, for
#   voltages, 1 s behind 500 for temperatures, 100 ms behind 10 for currents; here fresh ones
# - spread_warn, temp_spread_warn, voltage_differs_max, isolation_warn and _min, current_age:
#   foxBMS 2's 300 mV, 10 K, 3 V, 750 and 500 kohm, 200 ms; levels between and beyond are ours
# - peak_*, current_warn, current_derate: ours; foxBMS 2 has 170 / 175 / 180 A (94 and 97 %)
# - precharge_*, reclose, join_*, fuse_wait: foxBMS 2 (3 tries, 3 s rest, 2 s, 3 V, 20 A, 3 s), here
#   mostly shorter; contactor_settle its 200 ms; balance_*: ours, its threshold is 200 mV
# - rest_time: foxBMS 2's 10 minutes; full_*, empty_*, deep_*: the data sheets' end of charge
# Check the cell's own data sheet: it goes before all of these.
SETTINGS = (
    ("pack", "name", "text", 1, 32, None, None,
     "name of the pack, as it is shown to the user"),
    ("pack", "chemistry", "text", 1, 8, None, None,
     "LFP or NMC; chooses the default values of the other settings"),
    ("pack", "cells", "", 1, 1984, None, None,
     "number of cells of all slave boards together; must match the [[slave]] tables"),
    ("pack", "capacity", "mAh", 100, 5000000, None, None,
     "rated capacity of one string"),
    ("pack", "unlocked", "bool", 0, 1, 0, 0,
     "true: accept limits outside the absolute range of the chemistry; a warning stays"),
    ("limits", "cell_hard_max", "mV", 1000, 5000, 3750, 4300,
     "trip at once when a single cell reading is above it"),
    ("limits", "cell_max", "mV", 1000, 5000, 3650, 4250,
     "trip when a cell stays above it for cell_delay"),
    ("limits", "cell_derate_max", "mV", 1000, 5000, 3620, 4230,
     "reduce the power limits when a cell stays above it for cell_delay"),
    ("limits", "cell_warn_max", "mV", 1000, 5000, 3600, 4210,
     "warn when a cell stays above it for cell_delay"),
    ("limits", "cell_warn_min", "mV", 500, 4500, 2800, 3000,
     "warn when a cell stays below it for cell_delay"),
    ("limits", "cell_derate_min", "mV", 500, 4500, 2650, 2900,
     "reduce the power limits when a cell stays below it for cell_delay"),
    ("limits", "cell_min", "mV", 500, 4500, 2500, 2800,
     "trip when a cell stays below it for cell_delay"),
    ("limits", "cell_hard_min", "mV", 0, 4500, 2000, 2500,
     "trip at once when a single cell reading is below it"),
    ("limits", "cell_hysteresis", "mV", 1, 500, 50, 50,
     "how far a cell must return inside a bound before its fault clears"),
    ("limits", "cell_delay", "ms", 100, 60000, 1000, 1000,
     "how long a cell must exceed a bound before the fault is set"),
    ("limits", "cell_samples", "", 1, 100, 3, 3,
     "fewest fresh cell readings beyond a bound before the fault is set"),
    ("limits", "spread_warn", "mV", 5, 4000, 300, 300,
     "warn when highest - lowest cell of a string stays above it for cell_delay"),
    ("limits", "spread_derate", "mV", 5, 4000, 500, 500,
     "reduce the power limits when highest - lowest cell stays above it for cell_delay"),
    ("limits", "spread_max", "mV", 5, 4000, 1000, 1000,
     "trip when highest - lowest cell of a string stays above it for cell_delay"),
    ("limits", "temp_hard_max", "0.1 degC", 300, 1200, 700, 700,
     "trip at once when a single temperature reading is above it"),
    ("limits", "temp_max", "0.1 degC", 200, 1000, 600, 600,
     "trip when a temperature stays above it for temp_delay"),
    ("limits", "temp_derate_max", "0.1 degC", 200, 1000, 550, 550,
     "reduce the power limits when a temperature stays above it for temp_delay"),
    ("limits", "temp_warn_max", "0.1 degC", 200, 1000, 500, 500,
     "warn when a temperature stays above it for temp_delay"),
    ("limits", "temp_warn_min", "0.1 degC", -400, 300, -100, -100,
     "warn when a temperature stays below it for temp_delay"),
    ("limits", "temp_derate_min", "0.1 degC", -400, 300, -150, -150,
     "reduce the power limits when a temperature stays below it for temp_delay"),
    ("limits", "temp_min", "0.1 degC", -400, 300, -200, -200,
     "trip when a temperature stays below it for temp_delay"),
    ("limits", "temp_charge_max", "0.1 degC", 200, 800, 450, 450,
     "while charging: trip when a temperature stays above it for temp_delay"),
    ("limits", "temp_charge_derate_max", "0.1 degC", 200, 800, 430, 430,
     "while charging: reduce the power limits when a temperature stays above it"),
    ("limits", "temp_charge_warn_max", "0.1 degC", 200, 800, 400, 400,
     "while charging: warn when a temperature stays above it for temp_delay"),
    ("limits", "temp_charge_warn_min", "0.1 degC", -400, 300, 50, 50,
     "while charging: warn when a temperature stays below it for temp_delay"),
    ("limits", "temp_charge_derate_min", "0.1 degC", -400, 300, 25, 25,
     "while charging: reduce the power limits when a temperature stays below it"),
    ("limits", "temp_charge_min", "0.1 degC", -400, 300, 0, 0,
     "while charging: trip when a temperature stays below it for temp_delay"),
    ("limits", "temp_spread_warn", "0.1 degC", 10, 800, 100, 100,
     "warn when warmest - coldest sensor of a string stays above it for temp_delay"),
    ("limits", "temp_spread_derate", "0.1 degC", 10, 800, 200, 200,
     "reduce the power limits when warmest - coldest sensor of a string stays above it"),
    ("limits", "temp_spread_max", "0.1 degC", 10, 800, 300, 300,
     "trip when warmest - coldest sensor of a string stays above it for temp_delay"),
    ("limits", "temp_hysteresis", "0.1 degC", 5, 200, 20, 20,
     "how far a temperature must return inside a bound before its fault clears"),
    ("limits", "temp_delay", "ms", 100, 60000, 1000, 1000,
     "how long a temperature must exceed a bound before the fault is set"),
    ("limits", "temp_samples", "", 1, 100, 3, 3,
     "fewest fresh temperature readings beyond a bound before the fault is set"),
    ("limits", "board_temp_warn", "0.1 degC", 200, 1400, 750, 750,
     "warn when a slave board itself stays hotter than this for temp_delay"),
    ("limits", "board_temp_derate", "0.1 degC", 200, 1400, 850, 850,
     "reduce the power limits when a slave board itself stays hotter than this"),
    ("limits", "board_temp_max", "0.1 degC", 200, 1400, 950, 950,
     "trip when a slave board itself stays hotter than this for temp_delay"),
    ("limits", "voltage_max", "mV", 0, 1500000, 0, 0,
     "trip when a string's voltage is above it; 0 = cell_max times cells of a string"),
    ("limits", "voltage_derate_max", "mV", 0, 1500000, 0, 0,
     "reduce the power limits above this string voltage; 0 = cell_derate_max times cells"),
    ("limits", "voltage_warn_max", "mV", 0, 1500000, 0, 0,
     "warn when a string's voltage is above it; 0 = cell_warn_max times cells of a string"),
    ("limits", "voltage_warn_min", "mV", 0, 1500000, 0, 0,
     "warn when a string's voltage is below it; 0 = cell_warn_min times cells of a string"),
    ("limits", "voltage_derate_min", "mV", 0, 1500000, 0, 0,
     "reduce the power limits below this string voltage; 0 = cell_derate_min times cells"),
    ("limits", "voltage_min", "mV", 0, 1500000, 0, 0,
     "trip when a string's voltage is below it; 0 = cell_min times cells of a string"),
    ("limits", "voltage_hysteresis", "mV", 1, 50000, 500, 500,
     "how far a string's voltage must return inside a bound before its fault clears"),
    ("limits", "voltage_delay", "ms", 20, 60000, 1000, 1000,
     "how long a string's voltage must exceed a bound before the fault is set"),
    ("limits", "voltage_samples", "", 1, 100, 5, 5,
     "fewest measurements of a string's voltage beyond a bound before the fault is set"),
    ("limits", "voltage_sensor", "bool", 0, 1, 0, 0,
     "true: the voltage of each string is measured"),
    ("limits", "voltage_differs_warn", "mV", 100, 50000, 2000, 2000,
     "warn when measured string voltage and sum of its cells differ by more than this"),
    ("limits", "voltage_differs_derate", "mV", 100, 50000, 2500, 2500,
     "reduce the power limits when measured string voltage and sum of its cells differ"),
    ("limits", "voltage_differs_max", "mV", 100, 50000, 3000, 3000,
     "trip when measured string voltage and sum of its cells differ by more than this"),
    ("limits", "charge_max", "mA", 100, 2000000, None, None,
     "highest charge current of a string; trip when it is exceeded for current_delay"),
    ("limits", "discharge_max", "mA", 100, 2000000, None, None,
     "highest discharge current of a string; trip when it is exceeded for current_delay"),
    ("limits", "charge_continuous", "mA", 0, 2000000, 0, 0,
     "charge current that a string may carry without time limit; 0 = charge_max"),
    ("limits", "discharge_continuous", "mA", 0, 2000000, 0, 0,
     "discharge current that a string may carry without time limit; 0 = discharge_max"),
    ("limits", "peak_time", "ms", 1000, 600000, 10000, 10000,
     "how long charge_max or discharge_max may flow (I2t) before peak current trips"),
    ("limits", "peak_warn", "permille", 1, 999, 500, 500,
     "warn when this share of the I2t budget for peak current is used"),
    ("limits", "peak_derate", "permille", 1, 999, 700, 700,
     "reduce the power limits when this share of the I2t budget for peak current is used"),
    ("limits", "pack_charge_max", "mA", 0, 16000000, 0, 0,
     "trip above this charge current of all strings; 0 = charge_max times strings"),
    ("limits", "pack_discharge_max", "mA", 0, 16000000, 0, 0,
     "trip above this discharge current of all strings; 0 = discharge_max times strings"),
    ("limits", "current_warn", "permille", 500, 998, 940, 940,
     "warn above this share of charge_max, discharge_max and the pack's maxima"),
    ("limits", "current_derate", "permille", 501, 999, 970, 970,
     "reduce the power limits above this share of charge_max, discharge_max and pack maxima"),
    ("limits", "current_hard_max", "mA", 100, 4000000, None, None,
     "trip at once when a single current sample is above it, in either direction"),
    ("limits", "current_delay", "ms", 10, 60000, 100, 100,
     "how long a current must exceed a bound before the fault is set"),
    ("limits", "current_samples", "", 1, 100, 3, 3,
     "fewest current samples beyond a bound before the fault is set"),
    ("limits", "current_idle", "mA", 1, 50000, 500, 500,
     "smallest current that counts as charging; also the hysteresis of current bounds"),
    ("limits", "current_age", "ms", 50, 5000, 200, 200,
     "trip when a string has a contactor closed and its current reading is older than this"),
    ("limits", "current_sensor", "bool", 0, 1, 1, 1,
     "true: each string has a current sensor"),
    ("limits", "cell_age", "ms", 100, 60000, 500, 500,
     "trip when a cell reading is older than this"),
    ("limits", "cell_age_derate", "ms", 0, 60000, 0, 0,
     "reduce the power limits when a cell reading is older; 0 = 80 % of cell_age"),
    ("limits", "cell_age_warn", "ms", 0, 60000, 0, 0,
     "warn when a cell reading is older than this; 0 = 60 % of cell_age"),
    ("limits", "temp_age", "ms", 100, 120000, 5000, 5000,
     "trip when a temperature reading is older than this"),
    ("limits", "stack_tolerance", "mV", 100, 50000, 2000, 2000,
     "trip when a slave's stack voltage and sum of its cells differ by more than this"),
    ("limits", "open_wire", "mV", 50, 4000, 300, 300,
     "two neighbouring cells, one so far above the mean, one so far below: open wire, trip"),
    ("limits", "stuck_time", "ms", 0, 600000, 60000, 60000,
     "trip when a cell reading stays unchanged so long although the current moved; 0 = never"),
    ("limits", "stuck_current", "mA", 0, 2000000, 0, 0,
     "change of current in stuck_time that must move each cell; 0 = capacity / 5 h"),
    ("limits", "isolation_sensor", "bool", 0, 1, 0, 0,
     "true: an isolation monitor measures the resistance between pack and chassis"),
    ("limits", "isolation_warn", "kohm", 1, 50000, 750, 750,
     "warn when the isolation resistance stays below it for isolation_delay"),
    ("limits", "isolation_derate", "kohm", 1, 50000, 600, 600,
     "reduce the power limits when the isolation resistance stays below it"),
    ("limits", "isolation_min", "kohm", 1, 50000, 500, 500,
     "trip when the isolation resistance stays below it for isolation_delay"),
    ("limits", "isolation_hysteresis", "kohm", 1, 5000, 50, 50,
     "how far the isolation resistance must rise above a bound before its fault clears"),
    ("limits", "isolation_delay", "ms", 100, 60000, 5000, 5000,
     "how long the isolation resistance must be below a bound before the fault is set"),
    ("limits", "isolation_samples", "", 1, 100, 5, 5,
     "fewest isolation measurements below a bound before the fault is set"),
    ("scan", "scan_period", "ms", 20, 10000, 100, 100,
     "time from one scan of all slave boards to the next"),
    ("contactors", "contactor_settle", "ms", 10, 2000, 200, 200,
     "wait after the minus contactor and after the plus contactor has closed"),
    ("contactors", "contactor_feedback", "bool", 0, 1, 1, 1,
     "true: the auxiliary contacts of the contactors are wired"),
    ("contactors", "feedback_delay", "ms", 10, 2000, 300, 300,
     "longest time from a change of a coil to that of its auxiliary contact"),
    ("contactors", "precharge_min", "ms", 0, 10000, 200, 200,
     "shortest precharge; plus does not close earlier"),
    ("contactors", "precharge_max", "ms", 50, 30000, 2000, 2000,
     "longest precharge, then it has failed; without a link sensor it always takes so long"),
    ("contactors", "precharge_ratio", "permille", 500, 999, 950, 950,
     "share of the string voltage that the link must reach before plus closes"),
    ("contactors", "precharge_tries", "", 1, 10, 3, 3,
     "number of failed precharges in a row that trips"),
    ("contactors", "precharge_rest", "ms", 0, 120000, 3000, 3000,
     "wait between a failed precharge and the next try"),
    ("contactors", "precharge_resistor", "ohm", 0, 10000, 0, 0,
     "resistance of the precharge resistor; 0 = its heat is not calculated"),
    ("contactors", "precharge_energy", "J", 1, 10000, 500, 500,
     "highest energy that the precharge resistor can take when it is cold"),
    ("contactors", "precharge_cool", "ms", 1000, 600000, 60000, 60000,
     "time in which the precharge resistor gives off precharge_energy"),
    ("contactors", "link_sensor", "bool", 0, 1, 1, 1,
     "true: the link voltage is measured; false: only precharge_max proves a precharge"),
    ("contactors", "reclose", "ms", 0, 600000, 2000, 2000,
     "shortest time between opening and closing again"),
    ("contactors", "open_current", "mA", 100, 500000, 2000, 2000,
     "the command `open` waits until the current is at or below this value"),
    ("contactors", "open_wait", "ms", 0, 60000, 3000, 3000,
     "longest wait of the command `open` for a low current; a trip does not wait for it"),
    ("contactors", "breaking_current", "mA", 0, 4000000, 0, 0,
     "highest current that the contacts can break; 0 = no limit"),
    ("contactors", "fuse_wait", "ms", 0, 5000, 500, 500,
     "a trip above breaking_current waits so long for the fuse to break the current"),
    ("contactors", "opening_gap", "ms", 0, 1000, 0, 0,
     "time between opening the first and the second main contactor"),
    ("contactors", "coil_hold", "permille", 100, 1000, 1000, 1000,
     "coil voltage after coil_pull_in, as a share of the full one; below 100 % by PWM"),
    ("contactors", "coil_pull_in", "ms", 20, 2000, 200, 200,
     "time at full coil voltage after a coil is switched on"),
    ("strings", "join_voltage", "mV", 50, 50000, 1000, 1000,
     "largest voltage difference at which a string may close onto closed strings"),
    ("strings", "join_current", "mA", 100, 500000, 20000, 20000,
     "largest pack current at which a string may close onto closed strings"),
    ("strings", "join_wait", "ms", 1000, 30000000, 600000, 600000,
     "longest time that a string waits to join the closed ones, then it stays open"),
    ("inputs", "interlock", "bool", 0, 1, 0, 0,
     "true: an interlock loop is wired; it trips when it is open"),
    ("inputs", "emergency_stop", "bool", 0, 1, 0, 0,
     "true: an emergency stop is wired; it trips when it is pressed"),
    ("inputs", "fault_line", "bool", 0, 1, 0, 0,
     "true: the fault line of the slave boards is wired; it trips when it is low"),
    ("inputs", "charger", "bool", 0, 1, 0, 0,
     "true: an input reports that a charger is connected"),
    ("inputs", "ignition", "bool", 0, 1, 0, 0,
     "true: an input closes the contactors when it goes on and opens them when it goes off"),
    ("balancing", "balance", "bool", 0, 1, 1, 1,
     "true: balance cells after the start; the command `balance` can change it"),
    ("balancing", "balance_start", "mV", 2, 500, 10, 10,
     "a cell starts to balance when it is so far above the lowest cell of its string"),
    ("balancing", "balance_stop", "mV", 1, 500, 5, 5,
     "a cell stops balancing when it is so far above the lowest cell of its string"),
    ("balancing", "balance_floor", "mV", 1500, 4500, 3300, 3700,
     "cells below this voltage are not balanced"),
    ("balancing", "balance_cells", "", 1, 32, 8, 8,
     "highest number of cells of one slave board that balance at the same time"),
    ("balancing", "balance_temp_max", "0.1 degC", 200, 1200, 700, 700,
     "a slave board that is hotter than this does not balance"),
    ("power", "derate", "permille", 10, 1000, 500, 500,
     "power limits while a derating fault is set, as a share of the full limits"),
    ("power", "ramp_up", "ms", 100, 600000, 10000, 10000,
     "time in which a power limit rises from 0 to its full value"),
    ("power", "ramp_down", "ms", 20, 60000, 1000, 1000,
     "time in which a power limit falls from its full value to 0"),
    ("power", "soc_low", "permille", 1, 900, 100, 100,
     "the discharge limit falls when the state of charge is below it"),
    ("power", "soc_empty", "permille", 0, 800, 20, 20,
     "the discharge limit is 0 when the state of charge is at or below it"),
    ("soc", "charge_efficiency", "permille", 900, 1000, 995, 995,
     "share of the charge that goes in and can be taken out again"),
    ("soc", "rest_current", "mA", 0, 100000, 0, 0,
     "a string rests when its current is at or below this; 0 = capacity / 100 h"),
    ("soc", "rest_time", "ms", 10000, 36000000, 600000, 600000,
     "rest after which the cell voltage counts as open-circuit voltage"),
    ("soc", "full_cell", "mV", 2500, 4500, 3550, 4150,
     "a string is full when a cell is at this voltage and the charge current is small"),
    ("soc", "full_current", "mA", 0, 500000, 0, 0,
     "highest charge current at which full_cell means full; 0 = capacity / 20 h"),
    ("soc", "empty_cell", "mV", 1500, 4000, 2600, 2880,
     "a string is empty when a cell is at this voltage and the current is below capacity / 5 h"),
    ("soc", "deep_cell", "mV", 1000, 3500, 2000, 2500,
     "a cell below this voltage is stored as deep discharge, until `clear deep`"),
    ("sensors", "current_open", "mA", 10, 100000, 500, 500,
     "trip when more current than this flows while all coils of a string are off"),
    ("sensors", "current_open_delay", "ms", 20, 10000, 200, 200,
     "how long current_open must be exceeded before it trips"),
    ("sensors", "current_offset", "mA", 0, 100000, 2000, 2000,
     "largest zero error of a current sensor that is corrected; above it: trip"),
    ("sensors", "current_disagree", "mA", 10, 200000, 5000, 5000,
     "trip when two sensors of a string differ by more than this + 5 % of the current"),
    ("sensors", "current_disagree_delay", "ms", 100, 60000, 1000, 1000,
     "how long two sensors must differ before it trips"),
    ("sensors", "current_frozen", "ms", 0, 60000, 10000, 10000,
     "trip when a current reading is unchanged so long while cell voltages step; 0 = never"),
    ("sensors", "current_frozen_step", "mV", 1, 200, 10, 10,
     "mean step of the cell voltages that the current reading must follow"),
    ("sensors", "current_error_delay", "ms", 20, 10000, 100, 100,
     "trip when no current sensor of a string works and one reports an error so long"),
    ("store", "store_period", "ms", 0, 86400000, 900000, 900000,
     "time between two writes to flash while closed; 0 = no writes while closed"),
    ("store", "store_while_closed", "bool", 0, 1, 0, 0,
     "true: write flash while closed although safety inputs are not seen during a write"),
    ("store", "store_soon", "ms", 0, 60000, 1000, 1000,
     "wait after a change or after opening before it is written to flash"),
    ("store", "store_rest", "ms", 0, 3600000, 10000, 10000,
     "shortest time between two writes to flash while open"),
    ("telemetry", "status_period", "ms", 100, 60000, 1000, 1000,
     "time between two status lines"),
    ("telemetry", "cells_period", "ms", 100, 600000, 1000, 1000,
     "time between two rounds of cells lines"),
)  # fmt: skip

# each key must be below the next one of its row
ORDER = (
    (
        "cell_hard_min",
        "cell_min",
        "cell_derate_min",
        "cell_warn_min",
        "cell_warn_max",
        "cell_derate_max",
        "cell_max",
        "cell_hard_max",
    ),
    ("temp_min", "temp_charge_min", "temp_charge_max", "temp_max", "temp_hard_max"),
    ("temp_min", "temp_derate_min", "temp_warn_min", "temp_warn_max", "temp_derate_max"),
    ("temp_derate_max", "temp_max"),
    ("temp_charge_min", "temp_charge_derate_min", "temp_charge_warn_min", "temp_charge_warn_max"),
    ("temp_charge_warn_max", "temp_charge_derate_max", "temp_charge_max"),
    ("temp_spread_warn", "temp_spread_derate", "temp_spread_max"),
    ("board_temp_warn", "board_temp_derate", "board_temp_max"),
    ("voltage_differs_warn", "voltage_differs_derate", "voltage_differs_max"),
    ("peak_warn", "peak_derate"),
    ("soc_empty", "soc_low"),
    ("deep_cell", "empty_cell", "full_cell", "cell_max"),
    ("current_warn", "current_derate"),
    ("isolation_min", "isolation_derate", "isolation_warn"),
    ("current_idle", "charge_max", "current_hard_max"),
    ("current_idle", "discharge_max", "current_hard_max"),
    ("cell_hysteresis", "spread_warn", "spread_derate", "spread_max"),
    ("precharge_min", "precharge_max"),
    ("balance_stop", "balance_start"),
    ("scan_period", "cell_age"),
    ("cell_age_warn", "cell_age_derate", "cell_age"),
    ("voltage_min", "voltage_derate_min", "voltage_warn_min", "voltage_warn_max"),
    ("voltage_warn_max", "voltage_derate_max", "voltage_max"),
    ("scan_period", "temp_age"),
)

# What no pack of a chemistry is used beyond: (key, lowest, highest) for LFP, for NMC. A setting
# outside needs `unlocked = true`. LFP: 2.0 V is the deepest that data sheets of 26650 and prismatic
# cells allow, 3.8 V a margin above 3.65 V; NMC: 2.5 V and 4.35 V for high-voltage types. Charging
# below 0 degC plates lithium in both; 65 and 55 degC are the highest that data sheets allow.
ABSOLUTE = (
    ("cell_hard_max", 0, 3800, 0, 4350),
    ("cell_max", 0, 3700, 0, 4300),
    ("cell_min", 2000, 5000, 2500, 5000),
    ("cell_hard_min", 1800, 5000, 2000, 5000),
    ("temp_hard_max", 0, 800, 0, 800),
    ("temp_max", 0, 650, 0, 650),
    ("temp_min", -300, 1000, -300, 1000),
    ("temp_charge_max", 0, 550, 0, 550),
    ("temp_charge_min", 0, 1000, 0, 1000),
)

# keys of [[slave]]: (key, unit inside, lowest, highest, default, kind that alone has it, meaning)
SLAVE_KEYS = (
    ("kind", "text", 1, 16, None, "",
     "type of slave board: one of the kinds below"),
    ("link", "text", 1, 16, None, "",
     "port that the board is connected to, as can0 or uart0"),
    ("node", "nodes", 1, 62, 1, "",
     'address of the board, or a range of equal boards, as "1-4"'),
    ("cells", "", 1, 32, None, "",
     "number of cells that the board measures"),
    ("temps", "", 0, 16, 0, "",
     "number of temperature sensors that must give a reading"),
    ("string", "", 1, 8, 1, "",
     "number of the parallel string that the board belongs to"),
    ("serial", "", 0, 0x3FFFFFFF, 0, "",
     "serial number; a board that has no address yet is given `node` by it"),
    ("reversed", "bool", 0, 1, 0, "daly",
     "true: the board reports a charge current as negative"),
    ("fets_inverted", "bool", 0, 1, 0, "daly",
     "true: the board takes 00 as the command to switch its FETs on"),
    ("beta", "", 0, 6000, 0, "bq796xx",
     "beta value of the NTC sensors in K; 0 = 3435"),
    ("fets", "bool", 0, 1, 0, "",
     "true: the board's FETs can block the voltage of the whole stack: they are commanded"),
    ("poll", "text", 1, 16, "i3", "bmw_i3",
     "i3, or bus for modules that want another poll frame"),
    ("temp_offset", "", 0, 100, 0, "outlander",
     "temperatures are bytes with this offset, 50 or 70; 0 = they are words"),
)  # fmt: skip
# keys of [[sensor]]: (key, unit inside, lowest, highest, default, meaning); which kind has which
# stands in sensors.build.KINDS
SENSOR_KEYS = (
    ("kind", "text", 1, 16, None,
     "type of sensor: board, ina228, hall, ivt_s, cab500"),
    ("string", "", 1, 8, 1,
     "number of the parallel string that it measures; the first one is used while it works"),
    ("link", "text", 1, 16, "",
     "port or bus that the sensor is connected to, as can0 or i2c0"),
    ("id", "", 0, 0x7FF, 0,
     "CAN identifier of the current; 0 = 1313 (ivt_s), 962 (cab500)"),
    ("address", "", 64, 79, 64,
     "I2C address of an ina228"),
    ("shunt", "uohm", 1, 10000, 0,
     "resistance of the shunt at an ina228"),
    ("channel", "", 0, 31, 0,
     "ADC input that a hall sensor is connected to"),
    ("range", "mA", 100, 4000000, 0,
     "highest current that it can measure; 0 = that of its kind"),
    ("zero", "mV", 0, 5000, 0,
     "hall: voltage at the ADC pin without current"),
    ("span", "mV", 50, 5000, 0,
     "hall: change of the voltage at the ADC pin from no current to `range`"),
    ("low", "mV", 0, 5000, 50,
     "hall: a voltage below it means a broken wire"),
    ("high", "mV", 0, 5000, 3250,
     "hall: a voltage above it means a broken wire"),
    ("gain", "ppm", 800000, 1200000, 1000000,
     "calibration: true current / current that the sensor shows"),
    ("reversed", "bool", 0, 1, 0,
     "true: the sensor shows a charge current as negative"),
)  # fmt: skip
# keys of [[link]]: the columns of [[sensor]]
LINK_KEYS = (
    ("port", "text", 1, 16, None,
     "name of the port, as can0 or uart0"),
    ("rate", "bit/s", 1200, 5000000, 0,
     "bit rate; 0 = the usual one of its slave boards"),
    ("gap", "ms", 0, 5000, 0,
     "pause between an answer and the next poll; 0 = the usual one of its slave boards"),
    ("answer", "ms", 0, 5000, 0,
     "longest time until an answer begins; 0 = the usual one of its slave boards"),
    ("cell_age", "ms", 0, 60000, 0,
     "trip when a cell reading of this port is older; warn and derate scale; 0 = as [limits]"),
    ("temp_age", "ms", 0, 120000, 0,
     "trip when a temperature reading of this port is older; 0 = as [limits]"),
)  # fmt: skip


def attribute(key, unit):
    """Name of a setting inside the firmware: its key and the suffix of its unit."""
    return key + SUFFIX.get(unit, "")


def load(path):
    """Read the pack file at `path`, or its copy (see `packfile`); a `Config`.

    Raises ConfigError, OSError.
    """
    from bms.config import pack_file

    path, damaged = pack_file.choose(path)
    with open(path, "rb") as f:
        config = read(f)
    config.path = path
    config.damaged = damaged
    return config


def read(raws):
    """Read and check a pack file's lines as bytes; a `Config`. Raises ConfigError."""
    from bms.config import pack_file
    from bms.kernels import crc16

    crc = array("i", [0xFFFF])

    def lines():
        for raw in raws:
            if raw.startswith(pack_file.MARK):
                continue
            crc[0] = crc16(raw, 0, len(raw), crc[0])
            try:
                yield raw.decode()
            except UnicodeError:
                yield "\0"

    config = parse(lines())
    config.crc = crc[0]
    return config


def parse(lines):
    """Read and check pack-file lines (any iterable of text); a `Config`. Raises ConfigError."""
    known = {}
    for row in SETTINGS:
        known.setdefault(row[0], {})[row[1]] = row
    tables = {"slave": _rows(SLAVE_KEYS), "link": _rows(LINK_KEYS), "sensor": _rows(SENSOR_KEYS)}
    given = {}
    many_of = {"slave": [], "link": [], "sensor": []}
    table = ""
    keys = None
    into = None
    number = 0
    for text in lines:
        number += 1
        if number == 1 and text.startswith("\ufeff"):
            text = text[1:]  # some editors put a byte order mark before the text
        text = _strip(text, number)
        if not text:
            continue
        if text[0] == "[":
            many = text.startswith("[[")
            closing = "]]" if many else "]"
            if not text.endswith(closing):
                raise ConfigError(number, "", "expected %s at the end of %s" % (closing, text))
            table = text[2:-2].strip(" \t") if many else text[1:-1].strip(" \t")
            if many and table in tables:
                keys = tables[table]
                into = {}
                into[""] = (number, number)
                many_of[table].append(into)
            elif not many and table in known:
                keys = known[table]
                into = given
            else:
                raise ConfigError(number, "", "unknown table " + text + _table_hint(table, many))
            continue
        if "=" not in text:
            raise ConfigError(number, "", "expected key = value, found: " + text)
        key, value = text.split("=", 1)
        key = key.strip(" \t")
        if keys is None or into is None:
            raise ConfigError(number, key, "stands before any [table]")
        if key not in keys:
            raise ConfigError(number, key, "unknown key in [%s]%s" % (table, _key_hint(key, keys)))
        name = table + "." + key if into is given else key
        if name in into:
            raise ConfigError(number, key, "given twice, first in line %d" % into[name][1])
        row = keys[key]
        given_value = _value(number, key, value.strip(" \t"), row[2], row[3], row[4])
        into[name] = (given_value, number)
    return _check(given, many_of)


def _rows(keys):
    # the same columns as SETTINGS, so that one reader serves all tables
    return {row[0]: ("", row[0], row[1], row[2], row[3], row[4]) for row in keys}


def _strip(text, number):
    out = ""
    quoted = False
    for c in text.rstrip("\r\n"):
        if c == '"':
            quoted = not quoted
        elif c == "#" and not quoted:
            break
        if c < " " and c != "\t":
            raise ConfigError(number, "", "a control byte or broken UTF-8 in the line")
        out += c
    if quoted:
        raise ConfigError(number, "", "a quote is not closed")
    return out.strip(" \t")


def _table_hint(table, many):
    if table in ("slave", "link", "sensor") and not many:
        return ": write [[%s]]" % table
    tables = []
    for row in SETTINGS:
        if row[0] not in tables:
            tables.append(row[0])
    return (
        "; known: "
        + " ".join(["[%s]" % name for name in tables])
        + " [[slave]] [[link]] [[sensor]]"
    )


def _key_hint(key, keys):
    for known in keys:
        unit = keys[known][2]
        if key.startswith(known) and key[len(known) :].startswith("_") and unit in SUFFIX:
            return ': write %s = "... %s", the unit stands in the value' % (
                known,
                _shown_unit(unit),
            )
    best = None
    for known in keys:
        if known.replace("_", "") == key.replace("_", "").lower():
            best = known
    return ": did you mean %s?" % best if best else "; known: " + " ".join(sorted(keys))


def _shown_unit(unit):
    return "degC" if unit == "0.1 degC" else unit


def _value(line, key, text, unit, low, high):
    quoted = len(text) >= 2 and text[0] == '"' and text[-1] == '"'
    inner = text[1:-1] if quoted else text
    if unit == "text":
        if not quoted:
            raise ConfigError(line, key, 'expected a text in quotes, as "%s"' % inner)
        if not low <= len(inner) <= high or '"' in inner or "\\" in inner:
            raise ConfigError(line, key, "a text of %d to %d plain characters" % (low, high))
        return inner
    if unit == "bool":
        if text not in ("true", "false"):
            raise ConfigError(line, key, "expected true or false, found " + text)
        return 1 if text == "true" else 0
    if unit == "nodes":
        return _nodes(line, key, inner, low, high)
    if unit == "":
        if quoted:
            raise ConfigError(line, key, "a count: expected a number without quotes or unit")
        value = _number(line, key, text, 0)
    else:
        value = _quantity(line, key, inner if quoted else "", text, unit)
    if not low <= value <= high:
        raise ConfigError(
            line, key, "%s is out of range: %s to %s" % (text, show(low, unit), show(high, unit))
        )
    return value


def _quantity(line, key, inner, text, unit):
    parts = [word for word in inner.replace("\t", " ").split(" ") if word]
    if len(parts) != 2:
        raise ConfigError(
            line,
            key,
            'expected a number and its unit in quotes, as "%s", found %s'
            % (_example(unit), text or "nothing"),
        )
    inside, places = UNITS.get(parts[1], ("", 0))
    if inside != unit:
        names = [name for name in UNITS if UNITS[name][0] == unit]
        names.sort()
        raise ConfigError(
            line, key, "wrong unit %s: this setting takes %s" % (parts[1], " or ".join(names))
        )
    return _number(line, key, parts[0], places)


def _example(unit):
    return {"mV": "3.65 V", "mA": "100 A", "ms": "500 ms", "0.1 degC": "55.0 degC"}.get(
        unit, "10 " + _shown_unit(unit)
    )


def _number(line, key, text, places):
    """A decimal number as an integer of 10**-places; refuses what would lose a digit."""
    digits = text[1:] if text[:1] in "+-" and text else text
    whole, dot, rest = digits.partition(".")
    plain = whole + rest
    if not whole or (dot and not rest) or not all("0" <= c <= "9" for c in plain):
        raise ConfigError(line, key, "not a number: " + (text or "nothing"))
    rest = rest.rstrip("0")
    if len(rest) > places or len(whole) > 9:
        raise ConfigError(line, key, "%s has more digits than this setting holds" % text)
    value = int(whole + rest + "0" * (places - len(rest)))
    return -value if text[0] == "-" else value


def _nodes(line, key, text, low, high):
    first, dash, last = text.partition("-")
    a = _number(line, key, first.strip(" \t"), 0)
    b = _number(line, key, last.strip(" \t"), 0) if dash else a
    if not low <= a <= b <= high:
        raise ConfigError(line, key, "%s is out of range: %d to %d" % (text, low, high))
    return range(a, b + 1)


def show(value, unit):
    """A value as a person writes it in a pack file, without quotes."""
    if unit == "text":
        return value
    if unit == "bool":
        return "true" if value else "false"
    if unit == "0.1 degC":
        sign = "-" if value < 0 else ""
        return "%s%d.%d degC" % (sign, abs(value) // 10, abs(value) % 10)
    return "%d %s" % (value, unit) if unit else str(value)


def _small(value):
    """A number as a small int; a text as it is.

    In a frozen image the ints of a constant tuple from 8192 on are long ones (`mpy-tool.py`): to
    compute with them takes memory.
    """
    return array("i", (value,))[0] if isinstance(value, int) else value


def _check(given, many_of):
    name, line = given.get("pack.chemistry", ("", 0))
    if name not in CHEMISTRIES:
        reason = "missing in [pack]" if not line else '"%s" is not known' % name
        raise ConfigError(line, "chemistry", reason + ': write "LFP" or "NMC"')
    config = Config()
    chemistry = CHEMISTRIES.index(name)
    line_of = {}
    limits = []
    others = []
    for table, key, unit, _low, _high, lfp, nmc, _meaning in SETTINGS:
        value, line = given.get(table + "." + key, (nmc if chemistry else lfp, 0))
        if value is None:
            raise ConfigError(0, key, "missing in [%s]: it has no default" % table)
        line_of[key] = (line, value, unit)
        if unit == "text":
            setattr(config, key, value)
        else:
            (limits if table == "limits" else others).append(value)
    config.chemistry = chemistry
    for row in ORDER:
        for i in range(len(row) - 1):
            low_line, low, unit = line_of[row[i]]
            high_line, high, _ = line_of[row[i + 1]]
            if not (low and high) and unit in ("mV", "ms"):
                continue  # 0: found from another setting
            if not low < high:
                # name the one that the file sets; where both are set, the later one
                first = low_line >= high_line
                raise ConfigError(
                    max(low_line, high_line),
                    row[i] if first else row[i + 1],
                    "%s = %s must be below %s = %s"
                    % (row[i], show(low, unit), row[i + 1], show(high, unit)),
                )
    config.values = array("i", limits + others)
    _absolute(config, chemistry, line_of)
    config.links = _links(many_of["link"], config.scan_period_ms)
    config.slaves = _slaves(many_of["slave"])
    config.sensors = _sensors(many_of["sensor"], config, line_of["current_sensor"][0])
    cells = sum(s.cells for s in config.slaves)
    if cells != config.cells:
        raise ConfigError(
            line_of["cells"][0],
            "cells",
            "the pack has %d cells but the slaves bring %d" % (config.cells, cells),
        )
    return config


def _absolute(config, chemistry, line_of):
    """Bounds beyond what the chemistry is used at: refused, or counted where they are unlocked."""
    config.beyond = 0
    for row in ABSOLUTE:
        line, value, unit = line_of[row[0]]
        low = row[1 + 2 * chemistry]
        high = row[2 + 2 * chemistry]
        if low <= value <= high:
            continue
        config.beyond += 1
        if not config.unlocked:
            raise ConfigError(
                line,
                row[0],
                "%s is outside what %s is used at, %s to %s: [pack] unlocked = true if it is meant"
                % (show(value, unit), CHEMISTRIES[chemistry], show(low, unit), show(high, unit)),
            )


def _fields(entry, table, rows, cls):
    out = cls()
    out.line = entry[""][0]
    for row in rows:
        key, unit, _low, _high, default = row[:5]
        value = entry[key][0] if key in entry else default
        if value is None:
            raise ConfigError(out.line, key, "missing in this [[%s]]" % table)
        setattr(out, attribute(key, unit), _small(value))
    out.at = {key: entry[key][1] for key in entry}
    return out


def _links(entries, period_ms):
    links = []
    for entry in entries:
        link = _fields(entry, "link", LINK_KEYS, LinkConfig)
        if any(other.port == link.port for other in links):
            raise ConfigError(link.line, "port", "%s stands in two [[link]]" % link.port)
        for key, age in (("cell_age", link.cell_age_ms), ("temp_age", link.temp_age_ms)):
            if 0 < age <= period_ms:
                raise ConfigError(
                    link.at[key],
                    key,
                    "%d ms must be above scan_period = %d ms" % (age, period_ms),
                )
        links.append(link)
    return links


def _sensors(entries, config, line):
    """Those of the file; where it has none, and no word against it, the board's own ones."""
    sensors = [_fields(entry, "sensor", SENSOR_KEYS, SensorConfig) for entry in entries]
    if sensors and not config.current_sensor:
        raise ConfigError(line, "current_sensor", "false, but there is a [[sensor]]")
    if not sensors and config.current_sensor:
        for string in range(1, config.slaves[-1].string + 1):
            entry = {"": (0, 0), "kind": ("board", 0), "string": (string, 0)}
            sensors.append(_fields(entry, "sensor", SENSOR_KEYS, SensorConfig))
    return sensors


def _slaves(entries):
    if not entries:
        raise ConfigError(0, "", "no [[slave]] in the file")
    slaves = []
    taken = {}
    for entry in entries:
        nodes = entry["node"][0] if "node" in entry else range(1, 2)
        at = {key: entry[key][1] for key in entry}
        for node in nodes:
            slave = _fields(entry, "slave", SLAVE_KEYS, SlaveConfig)
            slave.at = at  # one for all
            slave.node = node
            _own_keys(slave)
            place = (slave.link, node)
            if place in taken:
                line = entry["node"][1] if "node" in entry else slave.line
                raise ConfigError(
                    line,
                    "node",
                    "node %d on %s is taken by the slave in line %d"
                    % (node, slave.link, taken[place]),
                )
            if slave.serial and len(nodes) > 1:
                raise ConfigError(slave.line, "serial", "one serial number for several nodes")
            taken[place] = slave.line
            slaves.append(slave)
    _strings(slaves)
    return slaves


def _own_keys(slave):
    """Refuse a key that only another kind has."""
    for row in SLAVE_KEYS:
        key = row[0]
        kind = row[5]
        if kind and kind != slave.kind and key in slave.at:
            raise ConfigError(slave.at[key], key, "only %s has it" % kind)


def _strings(slaves):
    """Slaves of a string stand together, and parallel strings are of one length."""
    cells = [0]
    lines = [slaves[0].line]
    for slave in slaves:
        n = len(cells)
        if slave.string != n:
            if slave.string != n + 1 or not cells[-1]:
                raise ConfigError(
                    slave.at.get("string", slave.line),
                    "string",
                    "%d: the slaves of a string stand together, strings in order; here goes %s"
                    % (slave.string, "%d or %d" % (n, n + 1) if cells[-1] else "1"),
                )
            cells.append(0)
            lines.append(slave.at.get("string", slave.line))
        cells[-1] += slave.cells
    for i in range(len(cells)):
        if cells[i] != cells[0]:
            raise ConfigError(
                lines[i],
                "string",
                "string %d has %d cells, string 1 %d" % (i + 1, cells[i], cells[0]),
            )
