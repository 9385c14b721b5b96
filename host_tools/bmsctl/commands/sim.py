"""`bmsctl sim`: the whole system on this computer, the real firmware in it."""

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bms.errors import ConfigError
from bmssim import scenario
from bmssim.mirror import Mirror
from bmssim.process import FirmwareDied
from bmssim.world import Setup

from ..errors import ToolError
from ..record import Record
from ..show import Story

HELP = "run the firmware against simulated cells, slave boards and contactors"
EXAMPLE = """examples:
  bmsctl sim --list                          the scenarios
  bmsctl sim demo                            the tour, in real time
  bmsctl sim overvoltage --fast --json       one scenario, its figures as the last line
  bmsctl sim us06 --fast --link uart --slaves 8 --runtime cpython
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", default="demo", help="name, or path of a .toml")
    parser.add_argument("--list", action="store_true", help="list the scenarios and stop")
    parser.add_argument("--link", choices=("can", "uart"), help="how the slave boards are wired")
    parser.add_argument("--slaves", type=_count(1, 62), metavar="N", help="slave boards, 1..62")
    parser.add_argument("--cells", type=_count(1, 32), metavar="M", help="cells a board, 1..32")
    parser.add_argument(
        "--runtime", choices=("micropython", "cpython"), help="what runs the firmware"
    )
    parser.add_argument("--fast", action="store_true", help="virtual time, as fast as it goes")
    parser.add_argument(
        "--for",
        dest="seconds",
        type=float,
        metavar="S",
        help="simulated seconds; fewer than the scenario has: its outcome isn't judged",
    )
    parser.add_argument("--seed", type=int, help="of every random number")
    parser.add_argument("--log", type=Path, metavar="DIR", help="record the telemetry there")
    parser.add_argument("--json", action="store_true", help="one object as the last line")


def _count(low: int, high: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is out of range: {low} to {high}")
        return value

    return count


def run(args: argparse.Namespace) -> int:
    if args.list:
        width = max(map(len, scenario.names()))
        for name in scenario.names():
            print(f"{name:{width}}  {scenario.load(name).summary}")
        return 0
    try:
        chosen = scenario.load(args.scenario)
    except scenario.ScenarioError as error:
        raise ToolError(str(error)) from None
    setup = Setup(**chosen.setup)
    setup.fast = args.fast
    for name in ("link", "slaves", "cells", "runtime", "seed"):
        value = getattr(args, name)
        if value is not None:
            setattr(setup, name, value)
    if args.seconds is not None:
        if args.seconds < chosen.duration_s:
            chosen.expect = {}  # cut short, it can't come out as stated; what always holds, holds
        chosen.duration_s = args.seconds
    with tempfile.TemporaryDirectory(prefix="bmssim-") as folder:
        return _simulate(chosen, setup, Path(folder), args)


def _simulate(
    chosen: scenario.Scenario, setup: Setup, folder: Path, args: argparse.Namespace
) -> int:
    started = time.monotonic()
    log_dir = args.log or (Path("logs") if not args.fast else None)
    story = Story(quiet=args.json, live=not args.fast)
    with contextlib.ExitStack() as closing:
        try:
            run = closing.enter_context(
                contextlib.closing(scenario.Run(chosen, setup, folder / "pack.toml"))
            )
            recorder = Record(log_dir, f"sim-{chosen.name}") if log_dir else None
            mirror = None if args.fast else Mirror()
            for thing in (recorder, mirror):
                if thing is not None:
                    closing.enter_context(contextlib.closing(thing))
            story.begin(chosen, setup, mirror.path if mirror else None)
            world = run.world

            def heard(data: bytes) -> None:
                if recorder is not None:
                    recorder.take(data)
                if mirror is not None:
                    mirror.write(data)

            world.on_bytes = heard
            if mirror is not None:
                world.typed_elsewhere = mirror.read
            run.on_action = lambda name, a: story.action(world.events.now_us / 1e6, _words(name, a))
            world.on_line = lambda obj, raw: story.line(obj, world.events.now_us / 1e6)
            problem = None
            try:
                run.go()
            except FirmwareDied as death:
                problem = str(death)
            result = run.result(
                time.monotonic() - started, str(recorder.path) if recorder else None
            )
        except (scenario.ScenarioError, ConfigError) as error:
            raise ToolError(f"{chosen.name}: {error}") from None
    if problem:
        result["ok"] = False
        result["problems"].insert(0, problem)
    if args.json:
        print(json.dumps(result))
    else:
        story.end(result, chosen)
    return 0 if result["ok"] else 1


def _words(name: str, args: dict[str, Any]) -> str:
    if name == "type":
        return f"you type: {args['command']}"
    return "injected: " + " ".join([name.replace("_", " "), *(f"{k} {v}" for k, v in args.items())])
