"""What `limits` judges at three levels: settings by name, read at start only.

A row stands where its quantity stands in fault_table.LEVELS: (side, settings of the bounds that
warn, derate, trip, of hysteresis, delay, samples). A number instead of a name is the value itself;
"" for a bound: `limits` finds it from others.
"""

ABOVE, BELOW = 1, -1

_CELL = ("cell_hysteresis_mv", "cell_delay_ms", "cell_samples")
_TEMP = ("temp_hysteresis_dc", "temp_delay_ms", "temp_samples")
_VOLTAGE = ("voltage_hysteresis_mv", "voltage_delay_ms", "voltage_samples")
_CURRENT = ("current_idle_ma", "current_delay_ms", "current_samples")

TABLE = (
    (ABOVE, "cell_warn_max_mv", "cell_derate_max_mv", "cell_max_mv") + _CELL,
    (BELOW, "cell_warn_min_mv", "cell_derate_min_mv", "cell_min_mv") + _CELL,
    (ABOVE, "spread_warn_mv", "spread_derate_mv", "spread_max_mv") + _CELL,
    (ABOVE, "temp_warn_max_dc", "temp_derate_max_dc", "temp_max_dc") + _TEMP,
    (BELOW, "temp_warn_min_dc", "temp_derate_min_dc", "temp_min_dc") + _TEMP,
    (ABOVE, "temp_charge_warn_max_dc", "temp_charge_derate_max_dc", "temp_charge_max_dc") + _TEMP,
    (BELOW, "temp_charge_warn_min_dc", "temp_charge_derate_min_dc", "temp_charge_min_dc") + _TEMP,
    (ABOVE, "temp_spread_warn_dc", "temp_spread_derate_dc", "temp_spread_max_dc") + _TEMP,
    (ABOVE, "board_temp_warn_dc", "board_temp_derate_dc", "board_temp_max_dc") + _TEMP,
    (ABOVE, "voltage_warn_max_mv", "voltage_derate_max_mv", "voltage_max_mv") + _VOLTAGE,
    (BELOW, "voltage_warn_min_mv", "voltage_derate_min_mv", "voltage_min_mv") + _VOLTAGE,
    (ABOVE, "voltage_differs_warn_mv", "voltage_differs_derate_mv", "voltage_differs_max_mv")
    + _VOLTAGE,
    (ABOVE, "", "", "charge_max_ma") + _CURRENT,
    (ABOVE, "", "", "discharge_max_ma") + _CURRENT,
    (ABOVE, "peak_warn_pm", "peak_derate_pm", 1000, 50, 0, 1),
    (ABOVE, "peak_warn_pm", "peak_derate_pm", 1000, 50, 0, 1),
    (ABOVE, "", "", "pack_charge_max_ma") + _CURRENT,
    (ABOVE, "", "", "pack_discharge_max_ma") + _CURRENT,
    (
        BELOW,
        "isolation_warn_kohm",
        "isolation_derate_kohm",
        "isolation_min_kohm",
        "isolation_hysteresis_kohm",
        "isolation_delay_ms",
        "isolation_samples",
    ),
    (ABOVE, "cell_age_warn_ms", "cell_age_derate_ms", "cell_age_ms", 20, 0, 1),
)
