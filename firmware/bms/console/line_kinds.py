"""Table of the kinds of lines on the serial port, for the reference; no board loads it."""

# (kind, its keys, when it is sent and what it means); tests compare them with real lines
KINDS = (
    (
        "boot",
        "version board config_crc native slaves cells temps self_test reset",
        "after start, again when a self-test that was running has ended, and by `version`; native:"
        ' 1 = the inner loops run as machine code; self_test: "running", "ok" or the part that'
        " failed; reset: why the board started: power_on, watchdog, reset"
        " (by the program or a pin), brown_out, unknown",
    ),
    (
        "status",
        "state closed pack_mv link_mv i_ma min_mv min_cell max_mv max_cell min_dc max_dc scans"
        " known trips first balancing inputs rx tx damaged stale unexpected missed dropped",
        "every status_period; closed: number of closed strings; pack_mv, min and max are null while"
        " a reading is not fresh; known: slave boards that have been identified; trips: latched"
        " faults; first: the fault that tripped first; balancing: cells that balance; inputs: bits,"
        " 1 = good or present; rx .. dropped: counters of frames, wrap at 2^29",
    ),
    (
        "cells",
        "slave first_cell cell_mv temp_dc stack_mv balance_mask",
        "one line per slave board every cells_period; null = no fresh reading",
    ),
    (
        "power",
        "soc_pm soc_sure charge_ma discharge_ma charge_mv discharge_mv charge_by discharge_by",
        "every status_period; soc_pm: state of charge of the emptiest string; soc_sure: 1 = it has"
        " drifted by 10 % at most since a voltage corrected it; charge_ma, discharge_ma: power"
        " limits at present; charge_mv, discharge_mv: highest and lowest pack voltage; charge_by,"
        " discharge_by: what limits most",
    ),
    (
        "string",
        "string state string_mv i_ma min_mv max_mv trips closings loaded_openings",
        "by `strings`, and every status_period with several strings; loaded_openings: openings"
        " under load",
    ),
    (
        "event",
        "what name code level string place index value at_ms",
        "when a fault is set, cleared or acknowledged; string: null for a fault of the whole pack",
    ),
    (
        "contactor",
        "string state closings",
        "when the contactor sequence of a string changes its state",
    ),
    (
        "fault",
        "name code level string active latched first place index value at_ms count",
        "by `faults`, one per fault; active: its cause lasts; latched: not acknowledged yet; first:"
        " 1 = it tripped first",
    ),
    (
        "past_event",
        "what name code level string place index value at_ms",
        "by `events`: as `event`",
    ),
    (
        "totals",
        "boot operation_s closed_s energy_in_wh energy_out_wh charge_in_ah charge_out_ah cycles"
        " deep crashes closings loaded_openings soc_pm offset_ma writes failed",
        "by `history`: totals of all starts; deep: one bit per string, 1 = it was discharged too"
        " deeply; lists: one value per string; writes, failed: accesses to the store since this"
        " start",
    ),
    ("crash", "boot at_ms text", "by `history`: the exception of the last crash, if there was one"),
    (
        "stored_event",
        "what name code level string place index value at_ms boot",
        "by `history`; boot: number of the start; at_ms: time since that start",
    ),
    (
        "frame_part",
        "frame part parts code index at_ms boot at hex",
        "by `frames`: bytes of one part of a freeze frame, from offset `at`",
    ),
    ("pack_part", "config_crc at hex", "by `pack`: bytes of the pack file, from offset `at`"),
    ("stored_end", "what lines", "ends `history`, `frames`, `pack`; lines: lines before it"),
    ("setting", "name value", "by `limits` and `config`; the unit is the name's suffix"),
    (
        "mem",
        "heap_used heap_free cycles",
        "by `version`; while a coil is on, the heap as it was measured before; on a computer every"
        " status_period",
    ),
    ("answer", "cmd ok text", "after every command; ok: false = not done, text: why"),
    ("config_error", "line key reason", "once a second while no valid pack file is loaded"),
    (
        "host",
        "age_ms utc t_host_ms what lines damaged paused",
        "written by `bmsctl log` and `run` each second, not by the board; paused: how often the"
        " disk was too slow: the port had to wait, or `run` dropped what it should record",
    ),
)
