"""`bmsctl bench`: the figures of this machine, each measured in this run."""

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bmssim import scenario
from bmssim.boards.kinds import KINDS
from bmssim.bus import PAUSE_US
from bmssim.layout import fit
from bmssim.setup import Setup

HELP = "measure speed, reaction, bus use and heap on this machine"
EXAMPLE = """examples:
  bmsctl bench
  bmsctl bench --json
  bmsctl bench --slave-kinds
"""

SCAN_BOARDS = 16
OLDEST_MS = 60_000  # cell_age, at most
TARGETS = {
    "alloc_bytes_per_cycle": "0",
    "reaction_ms": "<= 2 (simulated time)",
    "bus_use": "<= 1.15",
    "scan_use": "<= 1.10 (a scan / what bytes, boards and gaps need)",
    "speed_cpu": ">= 60 x real time (us06, 64 cells, MicroPython)",
}
LOOPS = 2_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slave-kinds", action="store_true", help="only the table of the kinds of slave boards"
    )
    parser.add_argument("--json", action="store_true", help="one array of objects as the last line")


def _loop_s() -> float:
    """CPU seconds for a loop of fixed work: how fast this machine is, as it is now."""
    started = time.process_time()
    x = 0
    for i in range(LOOPS):
        x = (x * 31 + i) & 0xFFFFFF
    return time.process_time() - started


def _cpu_s() -> float:
    """CPU seconds of this process and of those that it has ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _one(name: str, seconds: float, **setup: Any) -> dict[str, Any]:
    """A run, with how fast it was.

    speed: simulated seconds in one of the clock's; speed_cpu: in one of CPU time, which other
    programs hardly change; loop_s: CPU seconds of a loop of fixed work, before and after it;
    speed_loop: simulated seconds in the time of a loop, which compares between machines.
    """
    chosen = scenario.load(name)
    chosen.duration_s = min(chosen.duration_s, seconds)
    with tempfile.TemporaryDirectory() as folder:
        before_s = _loop_s()
        started, cpu_started = time.monotonic(), _cpu_s()
        run = scenario.Run(chosen, Setup(**{**chosen.setup, **setup}), Path(folder) / "pack.toml")
        try:
            run.go()
            result = run.result(time.monotonic() - started, None)
        finally:
            run.close()
        cpu_s = _cpu_s() - cpu_started
        loop_s = (before_s + _loop_s()) / 2
    result["speed"] = round(result["sim_s"] / result["wall_s"], 1)
    result["speed_cpu"] = round(result["sim_s"] / cpu_s, 1)
    result["loop_s"] = round(loop_s, 3)
    result["speed_loop"] = round(result["sim_s"] / cpu_s * loop_s, 1)
    return result


def _reaction(link: str, moments: int) -> dict[str, Any]:
    """The worst reaction over faults injected at many moments of a scan, in one run each."""
    worst: dict[str, Any] = {}
    for i in range(moments):
        chosen = scenario.load("overvoltage")
        chosen.duration_s = 4.0
        chosen.actions = [
            (1_000_000, "type", {"command": "close"}),
            (
                3_000_000 + i * 100_000 // moments,
                "cell_voltage",
                {"cell": 1 + 7 * i % 64, "mv": 3900},
            ),
        ]
        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(**{**chosen.setup, "link": link, "seed": i + 1})
            run = scenario.Run(chosen, setup, Path(folder) / "pack.toml")
            try:
                run.go()
                result = run.result(1.0, None)
            finally:
                run.close()
        if not worst or result["trip"]["reaction_ms"] > worst["trip"]["reaction_ms"]:
            worst = result
    return worst


def scan_of(kind: str, link: str | None = None) -> dict[str, Any]:
    """Scans of 16 boards of 16 cells, or as many and as large as the kind can be.

    link: what they are wired by, None = as the kind usually is.
    """
    chosen = scenario.load("us06")
    setup = Setup(slaves=SCAN_BOARDS, cells=16, temps=2, soc=0.8, load="us06")
    fit(setup, kind, link)
    known = KINDS[kind]
    setup.slaves = min(setup.slaves, known.most if known.most > 1 else setup.slaves)
    while True:
        boards = 1 if known.most == 1 else setup.slaves
        # a pause behind each scan, so that it is distinct from the next
        pause_ms = PAUSE_US / 1000 + 100
        period_ms = math.ceil((known.scan_ms(boards, setup.cells) + pause_ms) / 100) * 100
        if 4 * period_ms <= OLDEST_MS:
            break
        setup.slaves -= 1  # nobody may have that many in one chain
    chosen.settings["scan_period"] = f"{period_ms} ms"
    chosen.settings["cell_age"] = chosen.settings["temp_age"] = f"{4 * period_ms} ms"
    scenario.give_time(chosen, setup)
    chosen.expect = {}
    chosen.duration_s = 25 * period_ms / 1000
    with tempfile.TemporaryDirectory() as folder:
        run = scenario.Run(chosen, setup, Path(folder) / "pack.toml")
        try:
            run.go()
            result = run.result(1.0, None)
            rounds = [x for port in run.world.ports.values() for x in port.bus.usage.rounds[2:]]
        finally:
            run.close()
    took = sorted(x[0] for x in rounds)[len(rounds) // 2] / 1000 if rounds else None
    if not known.polled:
        took = known.scan_ms(boards, setup.cells)
    return {
        "what": "scan",
        "kind": kind,
        "link": setup.link,
        "boards": setup.slaves,
        "cells": setup.cells,
        "ports": len(run.world.ports),
        "scan_ms": result["scan_ms"]["p50"] if took is None else round(took, 1),
        "scan_use": result["scan_use"] if known.polled else None,
        "alloc_bytes_per_cycle": result["alloc_bytes_per_cycle"],
        "problems": result["problems"],
    }


def _print_kind(args: argparse.Namespace, row: dict[str, Any]) -> None:
    if args.json:
        return
    own = row["scan_use"] is None
    use = "by itself     " if own else f"scan use {row['scan_use']:5.3f}"
    print(
        f"scan of {row['kind']:10} {row['link']:4} {row['boards']:2} x {row['cells']:2} cells,"
        f" ports: {row['ports']}   {row['scan_ms']:7.1f} ms   {use}"
        f"   alloc {row['alloc_bytes_per_cycle']:g}"
        + (f"   {row['problems'][0]}" if row["problems"] else ""),
        flush=True,
    )


def run(args: argparse.Namespace) -> int:
    rows = []
    for kind, known in KINDS.items():
        for link in known.media:
            rows.append(scan_of(kind, link))
            _print_kind(args, rows[-1])
    if args.slave_kinds:
        if args.json:
            print(json.dumps(rows))
        return 0
    for link in ("can", "uart"):
        for runtime in ("micropython", "cpython"):
            result = _one("us06", 60, link=link, runtime=runtime)
            rows.append({"what": "us06, 64 cells, 10 scans/s", **result})
            _print(args, rows[-1])
        rows.append({"what": "overvoltage, worst of 20 moments", **_reaction(link, 20)})
        _print(args, rows[-1])
        result = _one("noisy_bus", 60, link=link)
        rows.append({"what": "noisy_bus, 64 cells", **result})
        _print(args, rows[-1])
        result = _one("us06", 10, link=link, slaves=16, cells=16)
        rows.append({"what": "us06, 256 cells, 10 scans/s", **result})
        _print(args, rows[-1])
    if args.json:
        print(json.dumps(rows))
    else:
        print()
        for key, target in TARGETS.items():
            print(f"target: {key} {target}")
    return 0


def _print(args: argparse.Namespace, row: dict[str, Any]) -> None:
    if args.json:
        return
    trip = row["trip"] or {}
    reaction = trip.get("reaction_ms")
    speed = ""
    if "speed" in row:
        speed = (
            f"{row['speed']:5.1f} x real time, {row['speed_cpu']:5.1f} by CPU,"
            f" {row['speed_loop']:4.1f} s a loop"
        )
    alloc = row["alloc_bytes_per_cycle"]
    print(
        f"{row['what']:33} {row['link']:4} {row['runtime']:11} {speed:45}"
        f"   bus use {row['bus_use']:.3f}   scan {row['scan_ms']['p50']:5.1f} ms"
        f" (max {row['scan_ms']['max']:5.1f})"
        f"   alloc {'-' if alloc is None else f'{alloc:g}'}"
        f"   heap {row['heap_peak_bytes'] or '-'}"
        + (f"   reaction {reaction:.2f} ms" if reaction is not None else ""),
        flush=True,
    )
