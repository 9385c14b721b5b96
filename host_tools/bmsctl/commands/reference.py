"""`bmsctl reference`: the pages of docs/reference, generated from the code."""

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bms.config import checks, schema
from bms.console import line_kinds
from bms.protection import fault_catalog
from bms.protection import fault_ids as faults
from bms.sensors.build import KINDS as SENSORS
from bms.slaves import base
from bms.slaves.build import KINDS
from bms.slaves.fields import MEANINGS
from bmssim import campaign_faults, console_commands, scenario
from bmssim.fault_run import MOMENTS

from .. import cell_link_page
from ..decoders.base import alarm_rows, driver_class
from ..errors import ToolError
from ..markdown import table

HELP = "print a page of the reference, generated from the code"
EXAMPLE = """examples:
  bmsctl reference                        the pages, and what each holds
  bmsctl reference faults                 one page, as Markdown
  bmsctl reference --out docs/reference   all of them, as files in a folder
"""

GENERATED = "Generated from the code by `make reference`; a test compares them."

SLAVE_BOARDS = """\
The bit rate, the gap between two polls and the time to answer can be set in `[[link]]`. A dash
means that the value has no effect for this kind; the pack file must not set it then. For boards
that broadcast, `answer` is the time in which they send all their values once. The scan of a slow
port starts in every n-th scan of the master. `cell_age` and `temp_age` must allow two scans of the
port and a lost answer; otherwise the pack file is refused, and the message names the times.

Balancing follows the plan of the whole string: *mask*: the board discharges the cells that it is
sent; *target*: it discharges its cells down to a voltage; *on/off*: it chooses the cells itself,
and the master can forbid it; *by itself*: the master has no influence. FETs are commanded only
where the pack file has `fets = true`, and only after the contactors are open. An open FET is the
fault `slave_switch`."""
BALANCES = (
    (base.BALANCE_MASK, "mask"),
    (base.BALANCE_TARGET, "target"),
    (base.BALANCE_ON_OFF, "on/off"),
)
LEVELS = {faults.WARN: "warn", faults.DERATE: "derate", faults.TRIP: "trip"}

RESULT = """{"scenario", "ok", "evaluated": false where --for cut it short,
 "problems": [why not ok], "runtime", "link", "slaves", "cells", "seed", "sim_s", "wall_s", "scans",
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
    parser.add_argument("page", nargs="?", choices=PAGES, metavar="PAGE", help=" ".join(PAGES))
    parser.add_argument("--out", type=Path, metavar="DIR", help="write all pages into a folder")


def run(args: argparse.Namespace) -> int:
    if args.out is not None:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            for name in PAGES:
                (args.out / f"{name}.md").write_text(page(name), "utf-8")
        except OSError as error:
            raise ToolError(f"{args.out}: {error.strerror}") from None
    elif args.page is not None:
        print(page(args.page), end="")
    else:
        for name, (what, _make) in PAGES.items():
            print(f"{name:12} {what}")
    return 0


def page(name: str) -> str:
    """One page as Markdown."""
    return "\n".join(PAGES[name][1]())


def _default(value: object, unit: str) -> str:
    return "must be given" if value is None else str(schema.show(value, unit))


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
            texts += [f"## {kind}", "", doc.replace("<", "\\<"), "", *_from_tables(cls)]
    head = ["kind", "over", "boards a port", "node", "cells", "temps", "balancing", "FETs", "gap"]
    return [
        "# Slave kinds",
        "",
        GENERATED,
        "",
        *SLAVE_BOARDS.splitlines(),
        "",
        *table([*head, "answer"], rows),
        *texts,
    ]


def _from_tables(cls: Any) -> list[str]:
    """What the tables of a driver say: polls, values, alarm bits; see `bms.slaves.fields`."""
    out = []
    polls = getattr(cls, "POLLS", ())
    if polls:
        polled = [f"`{name}` ({command:02X})" for name, command, *_sizes in polls]
        out += ["Polls of a scan: " + ", ".join(polled) + ".", ""]
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
        out += table(["bit", "alarm", "means", "the master"], rows)
    return out


def _settings() -> list[str]:
    """Every key of the pack file."""
    out = [
        "# Settings",
        "",
        GENERATED,
        "",
        "The pack file is a subset of TOML. A quantity is a string with its unit:",
        '`cell_max = "3.65 V"`. In telemetry the unit stands in the name: `cell_max_mv`. A key',
        "that is unknown, out of range, out of order or without its unit is refused with its line",
        "and the reason, on the computer and on the board; the contactors stay open then.",
        "",
    ]
    for name in dict.fromkeys(row[0] for row in schema.SETTINGS):
        out += [f"## [{name}]", "", *_keys_of(name)]
    slave_keys = [
        (key, unit, low, high, default, f"{kind}: {text}" if kind else text)
        for key, unit, low, high, default, kind, text in schema.SLAVE_KEYS
    ]
    for name, keys in (
        ("slave", slave_keys),
        ("link", schema.LINK_KEYS),
        ("sensor", schema.SENSOR_KEYS),
    ):
        rows = [
            [f"`{key}`", unit or "count", _default(default, unit if unit != "nodes" else ""), text]
            for key, unit, _low, _high, default, text in keys
        ]
        out += [f"## [[{name}]]", "", *table(["key", "type", "default", "meaning"], rows)]
    out += ["Slave kinds: " + ", ".join(f"`{kind}`" for kind in KINDS) + "."]
    out += ["See [slave kinds](slave-kinds.md)."]
    out += ["", "Kinds of current sensors, the keys each must have, and those it may have:", ""]
    for kind, (_module, _class, medium, needed, others, _error_pm) in sorted(SENSORS.items()):
        needs = ", ".join(f"`{key}`" for key in needed) or "none"
        known = ", ".join(f"`{key}`" for key in others)
        out.append(f"- `{kind}` ({medium or 'the board itself'}): {needs}; {known}")
    out += [
        "",
        "Without any `[[sensor]]` the master reads the board's own current sensor for each string;",
        "`current_sensor = false` in `[limits]`: there is none.",
        "",
        "## Order of the bounds",
        "",
        "In each row the value of a key must be below that of the next one:",
        "",
    ]
    out += ["- " + " < ".join(f"`{key}`" for key in row) for row in checks.ORDER]
    return [*out, ""]


def _keys_of(name: str) -> list[str]:
    """The keys of one table of the pack file."""
    rows = []
    for of, key, unit, low, high, lfp, nmc, meaning in schema.SETTINGS:
        if of != name:
            continue
        if unit in ("text", "bool"):
            limits = "true, false" if unit == "bool" else f"{low} to {high} characters"
        else:
            limits = f"{schema.show(low, unit)} .. {schema.show(high, unit)}"
        default = _default(lfp, unit)
        if lfp != nmc:
            default = f"LFP {default}, NMC {_default(nmc, unit)}"
        rows.append([f"`{key}`", limits, default, meaning])
    return table(["key", "range", "default", "meaning"], rows)


def _faults() -> list[str]:
    """Every fault by its code."""
    places = faults.PLACES.decode().split(" ")
    rows = [
        [str(code), f"`{name}`", LEVELS[level], places[place] or "-", unit or "-"] + [text]
        for code, name, level, place, unit, text in sorted(fault_catalog.table())
    ]
    return [
        "# Faults",
        "",
        GENERATED,
        "",
        "- **warn**: reported, nothing else happens.",
        "- **derate**: the power limits are reduced while it lasts. What only charging makes worse",
        "  reduces only the charge limit, and the other way round.",
        "- **trip**: the contactors open. A trip latches: it stays until its cause has ended and",
        "  somebody gives the command `clear`.",
        "",
        "A fault names a place (which cell, temperature sensor, slave, contactor or string) and",
        "carries a value in the unit below. A code never changes its meaning.",
        "",
        *table(["code", "name", "level", "place", "value in", "meaning"], rows),
    ]


def _serial_port() -> list[str]:
    """Lines and commands."""
    return [
        "# Serial port",
        "",
        GENERATED,
        "",
        "Lines of UTF-8, each ended by `\\n`. A line that starts with `{` is one JSON object:",
        "first its kind `k`, then `t_ms` since the start, last `crc`: CRC-16/CCITT-FALSE in four",
        'hex digits of all bytes before the opening quote of `"crc"`. Other text is for people.',
        "The unit stands in the name of a key: `_mv` mV, `_ma` mA, `_dc` 0.1 degC, `_pm` permille.",
        "A reading that is missing or too old is null.",
        "",
        "## Lines",
        "",
        *table(
            ["kind", "keys", "when"],
            [[f"`{kind}`", f"`{keys}`", when] for kind, keys, when in line_kinds.KINDS],
        ),
        "## Commands",
        "",
        "One on a line; the master answers each with a line of kind `answer`:",
        "",
        *table(
            ["command", "meaning"],
            [[f"`{word}`", text] for word, text in console_commands.rows()],
        ),
    ]


def _simulation() -> list[str]:
    """What `bmsctl sim` prints, the campaign's faults, and the scenarios."""
    return [
        "# Simulation",
        "",
        GENERATED,
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
        "that shows a hard bound exceeded to the change of the contactor outputs. The firmware's",
        "computing takes no simulated time; the adapter does: up to 1 ms over slcan, up to 0.5 ms",
        "over UART.",
        "",
        *_campaign(),
        "## Scenarios",
        "",
        *table(
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
        "Every scenario also fails on a wrong value, damaged telemetry, or a cycle that allocates",
        "memory.",
        "",
    ]


def _campaign() -> list[str]:
    """The faults that a campaign injects."""
    rows = [
        [f"`{kind.name}`", kind.meaning, " or ".join(kind.trips) or "-"]
        + ["all" if kind.moments == MOMENTS else " ".join(kind.moments)]
        for kind in campaign_faults.KINDS
    ]
    return [
        "## `bmsctl sim --campaign --json`",
        "",
        "```",
        CAMPAIGN,
        "```",
        "",
        "Moments: " + ", ".join(f"`{name}`" for name in MOMENTS) + ".",
        "Times count from the cause: for hard bounds from the last bit of the first frame that",
        "shows it; for faults that only a closing sequence can show, from the first coil that is",
        "switched on; for a weld, from the coils that are switched off. A fault that the firmware",
        "does not find counts as missed, it is never left out.",
        "",
        *table(["kind", "what goes wrong", "must be reported", "moments"], rows),
    ]


def _cell_link() -> list[str]:
    """The project's own slave protocol."""
    return ["# The cell link", "", GENERATED, "", *cell_link_page.lines()]


PAGES: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "settings": ("every key of the pack file: range, default, meaning", _settings),
    "faults": ("every fault by its code", _faults),
    "serial-port": ("lines and commands of the serial port", _serial_port),
    "slave-kinds": ("slave boards: what each kind can do, its limits and its sources", _kinds),
    "cell-link": ("the project's own slave protocol, for those who build a slave", _cell_link),
    "simulation": ("what the simulator prints, injects and accepts", _simulation),
}
