"""`bmsctl reference`: the page of settings, commands, lines and faults, from the code."""

import argparse
import inspect
import sys
from typing import Any

from bms import config, fault_table, faults, kinds, telemetry
from bms.sensors.build import KINDS as SENSORS
from bms.slaves import KINDS, base
from bms.slaves.fields import MEANINGS
from bmssim import campaign_kinds, scenario
from bmssim.trial import MOMENTS

from ..decoders.base import alarm_rows, driver_class

HELP = "print the reference page, generated from the code"
EXAMPLE = """examples:
  bmsctl reference > docs/reference.md
"""

SLAVE_BOARDS = """\
`[[link]]` can set the rate, the gap between polls and the time to answer; a dash: the key has no
effect for the kind, and is refused. For boards that broadcast, `answer` is the time within which
they send everything again. A scan of a slow port begins in every n-th scan of the master; readings
must be allowed to get as old as two of the port's scans: otherwise the pack file is refused, with
the times. Balancing follows the plan of the whole string: *mask* the cells that are named, *target*
down to a voltage, *on/off* where the board chooses the cells. FETs are commanded only where the
pack file says `fets = true`, and only after the contactors are open; open FETs are the fault
`slave_switch`."""
BALANCES = (
    (base.BALANCE_MASK, "mask"),
    (base.BALANCE_TARGET, "target"),
    (base.BALANCE_ON_OFF, "on/off"),
)
LEVELS = {faults.WARN: "warn", faults.DERATE: "derate", faults.TRIP: "trip"}

RESULT = """{"scenario", "ok", "judged": false where --for cut it short, "problems": [why not ok],
 "runtime", "link", "slaves", "cells", "seed", "sim_s", "wall_s", "scans",
 "scan_ms": {"p50", "p99", "max"}: null where the line never pauses,
 "bus_use": bits on the bus / bits of the frames with readings,
 "frames": {"rx", "tx", "damaged", "stale"}: the master's own counts,
 "trip": null | {"code", "cell", "t_injected_ms", "t_detected_ms", "t_open_ms", "reaction_ms"},
 "spread_mv": {"before", "after"}: true open-circuit voltages,
 "alloc_bytes_per_cycle", "heap_peak_bytes": null under CPython, "log": path or null}"""

CAMPAIGN = """{"ok": none missed and none false, "runs", "faultless_runs", "seed",
 "missed", "false", "wall_s", "sim_s", "runs_per_s",
 "kinds": {name: {"meaning", "injected", "detected", "missed", "faultless", "false",
   "ms_p50", "ms_max": from the cause to open, "ms_allowed": the largest of its runs}},
 "failed": [{"case": for --case, "faultless", "why", "trips": [names]}]}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    del args
    print(page(), end="")
    return 0


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    out += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*out, ""]


def _default(value: object, unit: str) -> str:
    return "must be given" if value is None else str(config.show(value, unit))


def _kinds() -> list[str]:
    """What each kind of slave board is, from its driver."""
    rows = []
    texts = []
    for kind, (_module, _class, media) in KINDS.items():
        cls = driver_class(kind)
        able = [word for bit, word in BALANCES if cls.ABILITIES & bit] or ["by itself"]
        answer = getattr(cls, "ANSWER_MS", getattr(cls, "PERIOD_MS", 0))
        times = [("gap", getattr(cls, "GAP_MS", 0)), ("answer", answer)]
        rates = [cls.UART_BPS if medium == "uart" else cls.CAN_BPS for medium in media]
        over = [f"{m}, {r or 500000} bit/s" for m, r in zip(media, rates, strict=True)]
        row = [f"`{kind}`", " or ".join(over), str(cls.MOST), f"{cls.NODES[0]}-{cls.NODES[1]}"]
        row += [str(cls.CELLS), str(cls.TEMPS), ", ".join(able)]
        row += ["own" if cls.ABILITIES & base.OWN_FETS else "-"]
        row += ["-" if key in cls.IGNORED else f"{ms} ms" for key, ms in times]
        rows.append(row)
        if kind != "cell_link":
            doc = inspect.getdoc(sys.modules[cls.__module__]) or ""
            texts += [f"### {kind}", "", doc.replace("<", "\\<"), "", *_from_tables(cls)]
    head = ["kind", "over", "boards a port", "node", "cells", "temps", "balances", "FETs", "gap"]
    return [
        "## Slave boards",
        "",
        *SLAVE_BOARDS.splitlines(),
        "",
        *_table([*head, "answer"], rows),
        *texts,
    ]


def _from_tables(cls: Any) -> list[str]:
    """What the tables of a driver say: polls, values, alarm bits; see `bms.slaves.fields`."""
    out = []
    polls = getattr(cls, "POLLS", ())
    if polls:
        said = [f"`{name}` ({command:02X})" for name, command, *_sizes in polls]
        out += ["Polls of a scan: " + ", ".join(said) + ".", ""]
    fields = list(dict.fromkeys(row[0] for row in getattr(cls, "FIELDS", ())))
    if fields:
        out += ["It reports of itself: " + ", ".join(f"`{name}`" for name in fields) + ".", ""]
    bits = alarm_rows(getattr(cls, "ALARMS", b""))
    if bits:
        rows = []
        for bit, (letter, name) in enumerate(bits):
            k = MEANINGS.find(letter.upper().encode())
            meaning = base.ALARMS[k] if k >= 0 else "-"
            does = "-" if k < 0 else "trips" if letter.isupper() else "warns"
            rows.append([str(bit), f"`{name}`", meaning, does])
        out += _table(["bit", "alarm", "means", "the master"], rows)
    return out


def page() -> str:
    """The page as Markdown."""
    out = [
        "# Reference",
        "",
        "`bmsctl reference` generates this page from the code; a test compares them.",
        "",
        "## The pack file",
        "",
        'A subset of TOML. A quantity is a text with its unit: `cell_max = "3.65 V"`. Inside the',
        "firmware and in telemetry a setting is named with its unit: `cell_max_mv`.",
        "",
    ]
    for table in dict.fromkeys(row[0] for row in config.SETTINGS):
        rows = []
        for _table_name, key, unit, low, high, lfp, nmc, meaning in config.SETTINGS:
            if _table_name != table:
                continue
            if unit in ("text", "bool"):
                limits = "true, false" if unit == "bool" else f"{low} to {high} characters"
            else:
                limits = f"{config.show(low, unit)} .. {config.show(high, unit)}"
            default = _default(lfp, unit)
            if lfp != nmc:
                default = f"LFP {default}, NMC {_default(nmc, unit)}"
            rows.append([f"`{key}`", limits, default, meaning])
        out += [f"### [{table}]", "", *_table(["key", "range", "default", "meaning"], rows)]
    for name, keys in (
        ("slave", config.SLAVE_KEYS),
        ("link", config.LINK_KEYS),
        ("sensor", config.SENSOR_KEYS),
    ):
        rows = [
            [f"`{key}`", unit or "count", _default(default, unit if unit != "nodes" else ""), text]
            for key, unit, _low, _high, default, text in keys
        ]
        out += [f"### [[{name}]]", "", *_table(["key", "kind", "default", "meaning"], rows)]
    out += ["Each key of a row must be below the next:", ""]
    out += ["- " + " < ".join(f"`{key}`" for key in row) for row in config.ORDER]
    out += ["", "Kinds of slaves: " + ", ".join(f"`{kind}`" for kind in KINDS) + "; see below."]
    out += ["", "Kinds of current sensors, what each needs, and what else it knows:", ""]
    for kind, (_module, _class, medium, needed, others) in sorted(SENSORS.items()):
        needs = ", ".join(f"`{key}`" for key in needed) or "nothing"
        known = ", ".join(f"`{key}`" for key in others)
        out.append(f"- `{kind}` ({medium or 'the board itself'}): {needs}; {known}")
    out += [
        "",
        "Without any `[[sensor]]` each string has the board's own; `current_sensor = false`: none.",
    ]
    out += ["", "## Faults", "", "A trip latches: `clear` after its cause is gone.", ""]
    out += _table(
        ["code", "name", "level", "names a", "value in", "meaning"],
        [
            [
                str(code),
                f"`{name}`",
                LEVELS[level],
                faults.PLACES[place].decode() or "-",
                unit or "-",
                text,
            ]
            for code, name, level, place, unit, text in fault_table.TABLE
        ],
    )
    out += [
        "## Serial port",
        "",
        "Lines of UTF-8 ended by `\\n`. A line that starts with `{` is one JSON object: kind `k`",
        "first, `t_ms` since the start second, `crc` last: CRC-16/CCITT-FALSE in four hex digits",
        'of all bytes before the opening quote of `"crc"`. Missing readings are null.',
        "",
        *_table(
            ["kind", "keys", "when"],
            [[f"`{kind}`", f"`{keys}`", when] for kind, keys, when in kinds.KINDS],
        ),
        "Commands, one a line; each is answered by a line of kind `answer`:",
        "",
        *_table(
            ["command", "meaning"],
            [[f"`{word.decode()}`", text.decode()] for word, _unlock, text in telemetry.COMMANDS],
        ),
        *_kinds(),
        "## The cell link",
        "",
        "The protocol of the project's own slave boards, on CAN 2.0A at 500 kbit/s and on UART at",
        "1 Mbit/s. id = function << 6 | node; node 1..62, 0 = all, 63 = no number yet. Bits and",
        "bytes are little-endian.",
        "",
        *_table(
            ["function", "from", "payload"],
            [
                ["00 ALARM", "slave", "flags U16, worst cell U8, its mV U16, seq U8, CRC-8"],
                ["01 SCAN", "master", "seq U8, flags U8: bit 0 pause balancing while sampling"],
                [
                    "02 BALANCE",
                    "master",
                    "mask U32 (bit n = cell n+1), timeout s U8, seq U8, reserved, CRC-8",
                ],
                [
                    "03 HELLO",
                    "slave",
                    "version U8, cells U8, temperatures U8, abilities U8, serial U32; empty: the"
                    " master asks for it",
                ],
                ["04 ASSIGN", "master", "serial U32, new node U8"],
                ["08..0F CELLS k", "slave", "four cells, 13 bits each in mV, seq 4 bits, CRC-8"],
                [
                    "10..13 TEMPS k",
                    "slave",
                    "four temperatures, 13 bits each, 0.1 degC from -100 degC, seq 4 bits, CRC-8",
                ],
                [
                    "14 STATUS",
                    "slave",
                    "stack U16 10 mV, faults U16, die U8 degC + 40, duty U8 %, seq U8, CRC-8",
                ],
            ],
        ),
        "8191 in 13 bits: no valid reading. CRC-8: SAE J1850 over id high, id low and the payload",
        "before it. Fault flags: the low byte trips the master, the high byte informs. A board",
        "without a number answers HELLO on node 63 after (serial mod 64) x 0.3 ms.",
        "",
        "CAN: a SCAN to node 0 makes all sample and answer; a SCAN to one node with the same seq",
        "asks it once more. UART: COBS around id low, id high, payload, CRC-16/CCITT-FALSE low,",
        "high; 00 between frames. A SCAN to node 0 samples, a SCAN to a node asks for its answers;",
        "an ALARM goes in front of them.",
        "",
        "## `bmsctl sim --json`",
        "",
        "The last line of stdout:",
        "",
        "```",
        RESULT,
        "```",
        "",
        "Times are ms of simulated time. `reaction_ms` runs from the last bit of the first frame",
        "that shows a hard bound broken to the change of the contactor outputs; the firmware's own",
        "computing takes no simulated time, the adapter's hand-over does (up to 1 ms over slcan,",
        "up to 0.5 ms over UART).",
        "",
        "## `bmsctl sim --campaign --json`",
        "",
        "```",
        CAMPAIGN,
        "```",
        "",
        "Moments: " + ", ".join(f"`{name}`" for name in MOMENTS) + ". Times count from the cause;",
        "for hard bounds from the last bit of the first frame that shows it; for faults that only",
        "the contactor sequence shows, from the first coil that goes on; for a weld, from the",
        "coils that go off. A fault that the firmware does not find counts as missed.",
        "",
        *_table(
            ["kind", "what goes wrong", "must be reported", "moments"],
            [
                [
                    f"`{kind.name}`",
                    kind.meaning,
                    " or ".join(kind.trips) or "-",
                    "all" if kind.moments == MOMENTS else " ".join(kind.moments),
                ]
                for kind in campaign_kinds.KINDS
            ],
        ),
        "## Scenarios",
        "",
        *_table(
            ["name", "what happens"],
            [[f"`{name}`", scenario.load(name).summary] for name in scenario.names()],
        ),
        "A scenario file's `[[do]]` takes `type` (a console command) or `inject`: "
        + ", ".join(f"`{name}`" for name in sorted(scenario.ACTIONS))
        + ".",
        "`[expect]` takes:",
        "",
        *[f"- `{key}`: {text}" for key, text in scenario.EXPECTATIONS.items()],
        "",
        "Every scenario also requires: no wrong value, no damaged telemetry, and a cycle that",
        "does not allocate.",
        "",
    ]
    return "\n".join(out)
