"""The kinds of lines that leave the serial port: a table for people, which no board loads."""

# kind, its keys, when it comes; the tests compare them with real lines
KINDS = (
    (
        "boot",
        "version board config_crc native slaves cells temps self_test",
        'once after start, and by `version`; self_test: "ok" or what failed',
    ),
    (
        "status",
        "state pack_mv link_mv i_ma min_mv min_cell max_mv max_cell min_dc max_dc scans known"
        " trips first bleeding rx tx damaged stale strange missed dropped",
        "every status_period; pack_mv, min, max are null where a reading is not fresh",
    ),
    (
        "cells",
        "slave first_cell cell_mv temp_dc stack_mv bleed",
        "one line per slave every cells_period; null = no fresh reading",
    ),
    ("event", "what name code level place index value at_ms", "a fault raised, gone or cleared"),
    ("contactor", "state closings", "the contactor sequence took a step"),
    ("fault", "name code level active latched place index value at_ms count", "by `faults`"),
    ("past_event", "what name code level place index value at_ms", "by `events`"),
    ("setting", "name value", "by `limits` and `config`; the unit is the name's suffix"),
    (
        "mem",
        "heap_used heap_free cycles",
        "by `version`: while a coil is on as found before; every status_period on a computer",
    ),
    ("answer", "cmd ok text", "to every command"),
    ("refused", "line key reason", "once a second while no valid pack file is loaded"),
    ("host", "age_ms utc t_host_ms what lines damaged", "written by `bmsctl log` each second"),
)
