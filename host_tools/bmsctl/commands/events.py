"""`bmsctl events`: what a master has stored over all its starts."""

import argparse
import contextlib
import json
from typing import Any

from bms.protection.fault_catalog import table
from bms.protection.fault_ids import PLACES

from ..errors import ToolError
from ..options import add_port, positive
from ..plain import plain
from ..readable import Places, cause
from ..request import send_command
from ..stored_history import frames, read_stored

HELP = "show what a master has stored: totals, changes of faults, freeze frames"
EXAMPLE = """examples:
  bmsctl events --port /dev/ttyACM0
  bmsctl events --port /dev/ttyACM0 --frames
  bmsctl events --port /dev/ttyACM0 --frames --json > events.json

A freeze frame is all cells, temperatures, currents and contactor states of the second before and
after a trip. Times are those of the master since its start; `start` counts its starts.
With --json one object: "totals", "crash" (null where there was none), "events", and with --frames
"frames", each with its "samples".
"""
NAMES = {row[0]: row[1] for row in table()}
KINDS = {row[0]: PLACES.decode().split(" ")[row[3]] for row in table()}  # of places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_port(parser)
    parser.add_argument("--frames", action="store_true", help="the stored freeze frames, too")
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument(
        "--timeout", type=positive, default=5.0, metavar="S", help="wait for each line; 5"
    )


def run(args: argparse.Namespace) -> int:
    lines = read_stored(args.port, args.baud, "history", args.timeout)
    out: dict[str, Any] = {
        "totals": next((_bare(x) for x in lines if x["k"] == "totals"), None),
        "crash": next((_bare(x) for x in lines if x["k"] == "crash"), None),
        "events": [_bare(x) for x in lines if x["k"] == "stored_event"],
    }
    if args.frames:
        out["frames"] = frames(read_stored(args.port, args.baud, "frames", args.timeout))
    if args.json:
        print(json.dumps(out))
        return 0
    places = _places(args) if out["events"] or out.get("frames") else Places()
    for key, value in (out["totals"] or {}).items():
        shown = " ".join("-" if x is None else str(x) for x in value) if _many(value) else value
        print(f"{key}: {shown}")
    if out["crash"]:
        crash = out["crash"]
        print(
            f"last crash: start {crash['boot']} at {crash['at_ms'] / 1000:.0f} s:"
            f" {plain(crash['text'])}"
        )
    for event in out["events"]:
        print(f"{_when(event)}  {event['level']} {event['what']}: {cause(event, places)}")
    if not out["events"]:
        print("no change of a fault is stored")
    if args.frames and not out["frames"]:
        print("no freeze frame is stored")
    for frame in out.get("frames", ()):
        name = NAMES.get(frame["code"], f"code {frame['code']}")
        place = KINDS.get(frame["code"], "")
        where = f" {places.name(place, frame['index'])}" if frame["index"] is not None else ""
        print(f"{_when(frame)}  freeze frame {frame['frame']}: {name}{where}")
        for sample in frame["samples"]:
            print("  " + _sample(sample, places))
    return 0


def _places(args: argparse.Namespace) -> Places:
    """Which board cells are on, as the master has them now; none where it does not tell."""
    places = Places()
    with contextlib.suppress(ToolError):
        send_command(args.port, args.baud, "cells", args.timeout, places)
    return places


def _bare(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in line if key not in ("k", "t_ms", "crc")}


def _many(value: object) -> bool:
    return isinstance(value, list)


def _when(item: dict[str, Any]) -> str:
    return f"start {item['boot']:4} {item['at_ms'] / 1000:11.3f} s"


def _sample(sample: dict[str, Any], places: Places) -> str:
    """One moment of a frame in a line."""
    mv, dc = sample["cell_mv"], sample["temp_dc"]
    link = "-" if sample["link_mv"] is None else f"{sample['link_mv'] / 1000:.2f}"
    strings = ", ".join(
        f"{state.replace('_', ' ')} {ma / 1000:+.1f} A"
        for state, ma in zip(sample["state"], sample["i_ma"], strict=True)
    )
    temps = f"  {min(dc) / 10:.1f} .. {max(dc) / 10:.1f} degC" if dc else ""
    low, high = (f"{v} mV ({places.name('cell', mv.index(v) + 1)})" for v in (min(mv), max(mv)))
    return f"{sample['t_ms'] / 1000:9.3f} s  link {link} V  {strings}  cells {low} to {high}{temps}"
