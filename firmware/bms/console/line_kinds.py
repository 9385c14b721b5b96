"""The kinds of lines that leave the serial port: a table for people, which no board loads."""

# kind, its keys, when it comes; the tests compare them with real lines
KINDS = (
    (
        "boot",
        "version board config_crc native slaves cells temps self_test reset",
        'once after start, and by `version`; self_test: "ok" or what failed; reset: why it started:'
        " power_on, watchdog, reset (by the program or a pin), brown_out, unknown",
    ),
    (
        "status",
        "state closed pack_mv link_mv i_ma min_mv min_cell max_mv max_cell min_dc max_dc scans"
        " known trips first balancing inputs rx tx damaged stale unexpected missed dropped",
        "every status_period; pack_mv, min, max are null where a reading is not fresh; counters"
        " wrap at 2^29",
    ),
    (
        "cells",
        "slave first_cell cell_mv temp_dc stack_mv balance_mask",
        "one line per slave every cells_period; null = no fresh reading",
    ),
    (
        "power",
        "soc_pm soc_sure charge_ma discharge_ma charge_mv discharge_mv charge_by discharge_by",
        "every status_period: charge left in the emptiest string; what may flow in and out now, the"
        " voltages to stay within, and what holds each current down",
    ),
    (
        "string",
        "string state string_mv i_ma min_mv max_mv trips closings loaded_openings",
        "by `strings`, and every status_period with several strings; loaded_openings: with a"
        " current",
    ),
    (
        "event",
        "what name code level string place index value at_ms",
        "a fault set, clear or acknowledged; string: null where it is the whole pack's",
    ),
    ("contactor", "string state closings", "a contactor sequence took a step"),
    (
        "fault",
        "name code level string active latched first place index value at_ms count",
        "by `faults`; first: what tripped first",
    ),
    ("past_event", "what name code level string place index value at_ms", "by `events`"),
    (
        "totals",
        "boot operation_s closed_s energy_in_wh energy_out_wh charge_in_ah charge_out_ah cycles"
        " deep crashes closings loaded_openings soc_pm offset_ma writes failed",
        "by `history`: counted over all starts; deep: a bit for each string discharged too deeply;"
        " lists: one a string; writes, failed: of the storage since this start",
    ),
    ("crash", "boot at_ms text", "by `history`, where there was one: the last exception"),
    (
        "stored_event",
        "what name code level string place index value at_ms boot",
        "by `history`; boot: number of the start, at_ms: since it",
    ),
    (
        "frame_part",
        "frame part parts code index at_ms boot at hex",
        "by `frames`: bytes of a part of a freeze frame, from its byte `at`",
    ),
    ("pack_part", "config_crc at hex", "by `pack`: bytes of the file, from its byte `at`"),
    ("stored_end", "what lines", "the last line of `history`, `frames`, `pack`; lines before it"),
    ("setting", "name value", "by `limits` and `config`; the unit is the name's suffix"),
    (
        "mem",
        "heap_used heap_free cycles",
        "by `version`: while a coil is on as found before; every status_period on a computer",
    ),
    ("answer", "cmd ok text", "to every command"),
    ("config_error", "line key reason", "once a second while no valid pack file is loaded"),
    ("host", "age_ms utc t_host_ms what lines damaged", "written by `bmsctl log` each second"),
)
