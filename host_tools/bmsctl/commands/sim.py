"""`bmsctl sim`: the whole system on this computer, the real firmware in it."""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bms.config.errors import ConfigError
from bmssim import campaign, scenario
from bmssim.boards.kinds import KINDS
from bmssim.fault_run import Case
from bmssim.layout import fit
from bmssim.mirror import Mirror
from bmssim.process import FirmwareDied
from bmssim.setup import Setup

from ..errors import ToolError
from ..options import positive, wrong_use
from ..record import Record
from ..screen import Story, campaign_table

MOST_BOARDS = 62
HELP = "run the firmware against simulated cells, slave boards and contactors"
EXAMPLE = """examples:
  bmsctl sim --list                          the scenarios
  bmsctl sim demo                            the tour, in real time
  bmsctl sim overvoltage --fast --json       one scenario, its figures as the last line
  bmsctl sim overvoltage --fast --slave-kind jbd
  bmsctl sim us06 --fast --link uart --slaves 8 --runtime cpython
  bmsctl sim --campaign --runs 500           faults of every kind, and as many faultless runs
  bmsctl sim --campaign --kind interlock --kind hang
  bmsctl sim --campaign --case hang/charge/can/3/1   one of them again
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", default="demo", help="name, or path of a .toml")
    parser.add_argument("--list", action="store_true", help="list the scenarios and stop")
    parser.add_argument(
        "--slave-kind",
        choices=tuple(KINDS),
        metavar="KIND",
        help="kind of the slave boards: " + ", ".join(KINDS),
    )
    parser.add_argument("--link", choices=("can", "uart"), help="how the slave boards are wired")
    parser.add_argument("--strings", type=_count(1, 8), metavar="P", help="parallel strings, 1..8")
    parser.add_argument(
        "--slaves", type=_count(1, 62), metavar="N", help="slave boards of a string, 1..62 in all"
    )
    parser.add_argument("--cells", type=_count(1, 32), metavar="M", help="cells a board, 1..32")
    parser.add_argument(
        "--runtime", choices=("micropython", "cpython"), help="what runs the firmware"
    )
    parser.add_argument("--fast", action="store_true", help="virtual time, as fast as it goes")
    parser.add_argument(
        "--for",
        dest="seconds",
        type=positive,
        metavar="S",
        help="simulated seconds; fewer than the scenario has: its outcome isn't evaluated",
    )
    parser.add_argument("--seed", type=int, help="of every random number")
    parser.add_argument("--log", type=Path, metavar="DIR", help="record the telemetry there")
    parser.add_argument("--json", action="store_true", help="one object as the last line")
    many = parser.add_argument_group(
        "campaign",
        "every kind of fault at every moment of the sequence, on both links, with 1 and 3 strings,"
        " and as many faultless runs under noise; exit code 1 unless none was missed and none was"
        " false; always in virtual time",
    )
    many.add_argument("--campaign", action="store_true", help="run it instead of a scenario")
    many.add_argument("--runs", type=_count(1, 10**6), default=2000, metavar="N", help="or 2000")
    many.add_argument(
        "--kind",
        action="append",
        metavar="KIND",
        choices=[k.name for k in campaign.KINDS],
        help="only this kind; `bmsctl reference simulation` lists them",
    )
    many.add_argument("--jobs", type=_count(1, 256), metavar="J", help="processes, or one a CPU")
    many.add_argument(
        "--case", metavar="CASE", help="one run again, as the campaign names those that failed"
    )


def _count(low: int, high: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is out of range: {low} to {high}")
        return value

    return count


def run(args: argparse.Namespace) -> int:
    if args.case:
        return _one_case(args)
    if args.campaign:
        return _campaign(args)
    if args.list:
        width = max(map(len, scenario.names()))
        for name in scenario.names():
            print(f"{name:{width}}  {scenario.load(name).summary}")
        return 0
    try:
        chosen = scenario.load(args.scenario)
    except scenario.ScenarioError as error:
        wrong_use(str(error))
    setup = Setup(**chosen.setup)
    for name in ("link", "strings", "slaves", "cells", "runtime", "seed"):
        value = getattr(args, name)
        if value is not None:
            setattr(setup, name, value)
    if args.slave_kind:
        try:
            fit(setup, args.slave_kind, args.link)
        except ValueError as error:
            wrong_use(f"--link {args.link}: {error}")
        scenario.give_time(chosen, setup)
    if setup.boards > MOST_BOARDS:
        wrong_use(f"{setup.boards} slave boards: a link carries {MOST_BOARDS} at most")
    if args.seconds is not None:
        if args.seconds < chosen.duration_s:
            chosen.expect = {}  # cut short, it can't come out as stated; what always holds, holds
            chosen.evaluated = False
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

            def on_bytes(data: bytes) -> None:
                if recorder is not None:
                    recorder.take(data)
                if mirror is not None:
                    mirror.write(data)

            world.on_bytes = on_bytes
            world.paced = not args.fast
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
        story.end(result, chosen, world.late_s)
    return 0 if result["ok"] else 1


def _campaign(args: argparse.Namespace) -> int:
    live = sys.stderr.isatty()
    seed = 1 if args.seed is None else args.seed
    shown_at = [0.0]

    def progress(done: int, of: int, rate: float, missed: int, false: int) -> None:
        # a line that is overwritten for a person, a line now and then for a file
        now = time.monotonic()
        if done < of and now - shown_at[0] < (0.2 if live else 30.0):
            return
        shown_at[0] = now
        left = (of - done) * 2 / rate if rate else 0.0
        text = (
            f"{done} of {of} faults, {rate:.1f} runs/s, {left:.0f} s left,"
            f" missed {missed}, false {false}"
        )
        end = "\n" if not live or done == of else ""
        print(("\r\x1b[K" if live else "") + text, end=end, file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its workers must not outlive it
    result = campaign.run(args.runs, seed, tuple(args.kind or ()), args.jobs, progress)
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(campaign_table(result)))
    return 0 if result["ok"] else 1


def _one_case(args: argparse.Namespace) -> int:
    try:
        case = Case.parse(args.case)
    except (ValueError, KeyError) as error:
        wrong_use(f"--case: {error}")
    try:
        verdicts = [campaign.play(case, faultless) for faultless in (False, True)]
    except (ValueError, KeyError) as error:
        raise ToolError(f"--case: {error}") from None
    result = campaign.summary([(verdicts[0], verdicts[1])], case.seed, 0.0)
    if args.json:
        print(json.dumps(result))
        return 0 if result["ok"] else 1
    for verdict in verdicts:
        name = "faultless" if verdict.faultless else case.name
        ms = "" if verdict.ms is None else f", open after {verdict.ms:.1f} ms"
        print(f"{name}: {verdict.why or 'good'}{ms}; trips: {' '.join(verdict.trips) or 'none'}")
    return 0 if result["ok"] else 1


def _words(name: str, args: dict[str, Any]) -> str:
    if name == "type":
        return f"you type: {args['command']}"
    return "injected: " + " ".join([name.replace("_", " "), *(f"{k} {v}" for k, v in args.items())])
