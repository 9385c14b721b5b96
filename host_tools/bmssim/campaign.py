"""Fault campaign: every kind of fault, in every state, on both links, with 1 and 3 strings.

A fault run is one short run of the real firmware with one injected fault. It passes when the coils
of the affected strings are off within the allowed time and stay off, the other strings stay closed,
and the firmware has reported the right fault. Each fault run has a twin without the fault, but with
the imperfections of real parts: noise on cells, temperatures and currents, clocks that drift, 1 %
of all frames damaged, other current sensors, chargers with a lag. There nothing may trip. In all
of them no string may join others that are further apart than `join_voltage`.
"""

import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np

from .campaign_faults import BY_NAME, KINDS, Kind
from .fault_run import AFTER_US, STATES_CLOSED, Case, FaultRun, Verdict
from .micropython_path import find_micropython

BROKEN_FIRMWARE = Path(__file__).parent / "broken_firmware.py"
LONGEST_US = 20_000_000


def cases(seed: int) -> Iterator[Case]:
    """Cases without end, the kinds in turn, each going through its own part of the matrix."""
    rng = random.Random(seed)

    def of(kind: Kind) -> Iterator[Case]:
        matrix = list(itertools.product(kind.moments, kind.links, kind.strings))
        for n in itertools.count(seed):
            rng.shuffle(matrix)
            for moment, link, strings in matrix:
                yield Case(kind.name, moment, link, strings, n)

    kinds = [of(kind) for kind in KINDS]
    while True:
        for each in kinds:
            yield next(each)


def play(case: Case, faultless: bool = False) -> Verdict:
    """One fault run, or its faultless twin. Raises KeyError for an unknown kind."""
    kind = BY_NAME[case.kind]
    faultless = faultless or kind.outcome == "nothing"
    with tempfile.TemporaryDirectory(prefix="bmssim-") as folder:
        setup = kind.setup | kind.varied(random.Random(repr(case) + " kind"))
        fault_run = FaultRun(case, Path(folder), setup, dict(kind.settings), faultless)
        fault_run.any_string = kind.scope == "pack" or kind.first
        try:
            verdict = _twin(kind, fault_run) if faultless else _with_fault(kind, fault_run)
        finally:
            fault_run.world.close()
        verdict.why = verdict.why or fault_run.joined_apart()
        verdict.good = verdict.injected and not verdict.why
        verdict.sim_s = fault_run.world.events.now_us / 1e6
        return verdict


def _twin(kind: Kind, t: FaultRun) -> Verdict:
    verdict = Verdict(t.case, True)
    verdict.injected = t.reach()
    if verdict.injected:
        kind.prepare(t)
        t.run(t.world.events.now_us + kind.twin_us + round(t.lag_s * 1e6))
    verdict.trips = t.trips()
    if verdict.trips:
        verdict.why = f"tripped: {verdict.trips[0]}"
    elif t.died is not None:
        verdict.why = str(t.died)
    elif not verdict.injected:
        verdict.why = "the moment never came"
    elif t.case.moment in STATES_CLOSED and not all(
        t.world.plant.strings[n].is_closed for n in t.joining
    ):
        verdict.why = "a string opened"
    elif t.worst_v * 1000 > t.config.cell_max_mv:
        verdict.why = f"a cell was charged to {t.worst_v:.3f} V"
    return verdict


def _with_fault(kind: Kind, t: FaultRun) -> Verdict:
    verdict = Verdict(t.case, False)
    if kind.broken is not None:
        t.world.program = BROKEN_FIRMWARE
        t.world.extra = {"broken": kind.broken(t)}
    kind.before_boot(t)
    if not t.reach():
        # a run that stops before its moment fails with the reason
        verdict.why = str(t.died) if t.died else "the moment never came"
        verdict.trips = t.trips()
        return verdict
    verdict.injected = True
    kind.prepare(t)
    kind.inject(t)
    verdict.allowed_ms = kind.allowed_ms(t)
    _OUTCOMES[kind.outcome](kind, t, verdict)
    verdict.trips = t.trips()
    wrong = [name for name in verdict.trips if name in kind.never]
    if wrong and not verdict.why:
        verdict.why = f"reported {verdict.trips}, {' and '.join(wrong)} among them"
    return verdict


def _run_on(t: FaultRun, verdict: Verdict, more_us: int = 0) -> None:
    """Long enough to see whether it opens in time and stays open."""
    start = max(t.world.events.now_us, 2_000_000)  # `close` has been typed by then
    t.run(start + round((verdict.allowed_ms or 0.0) * 1000) + AFTER_US + more_us)


def _since(kind: Kind, t: FaultRun) -> int | None:
    """The moment that the allowed time counts from, None = it never came."""
    assert t.t0_us is not None
    if kind.since == "frame":
        return t.world.violation_us
    if kind.since == "close":
        return None if t.first_coil_us is None else max(t.t0_us, t.first_coil_us)
    if kind.since == "off":
        return t.off_us(t.string, t.t0_us)
    return t.t0_us


def _reported(kind: Kind, t: FaultRun, verdict: Verdict) -> bool:
    """The right fault was reported; before closing, a refusal to close is enough."""
    trips = t.trips()
    if not kind.trips or any(name in kind.trips for name in trips):
        return True
    answers = [x for x in t.world.seen.lines if x["k"] == "answer" and x["cmd"] == "close"]
    if t.case.moment == "before" and answers:
        if not any(x["ok"] for x in answers):
            return True
        if kind.scope == "string" and not any(
            c >> 3 * t.string & 7 for _us, c in t.world.seen.coils
        ):
            return True  # the others close, this one doesn't
    verdict.why = f"reported {trips or 'nothing'}, not {' or '.join(kind.trips)}"
    return False


def _open(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    more_us = 2_500_000 if kind.since in ("frame", "close") else 0
    _run_on(t, verdict, more_us)
    if t.died is not None:
        verdict.why = str(t.died)
        return
    since_us = _since(kind, t)
    off_us = t.off_us(None if kind.scope == "pack" else t.string, 0)
    if since_us is None:
        verdict.why = f"there was no {kind.since} to count from"
        return
    if off_us is None:
        verdict.why = f"it stays closed; reported {t.trips() or 'nothing'}"
        return
    verdict.ms = max(off_us - since_us, 0) / 1000
    if verdict.ms > (verdict.allowed_ms or 0.0):
        verdict.why = f"too late: {verdict.ms:.1f} ms of {verdict.allowed_ms:.1f} allowed"
        return
    if _reported(kind, t, verdict):
        _others(kind, t, verdict)


def _others(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """Only the string with the fault opens."""
    if kind.scope == "pack" or t.case.moment not in STATES_CLOSED:
        return
    for n, string in enumerate(t.world.plant.strings):
        if n != t.string and not string.is_closed:
            verdict.why = f"string {n + 1} opened too, the fault is in {t.string + 1}: {t.trips()}"


def _latched(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """Reported within the time, and the string stays open."""
    _run_on(t, verdict, 2_000_000)
    since_us = _since(kind, t)
    at_ms = t.reported_ms(kind.trips)
    if since_us is None:
        verdict.why = "the coils never went off"
    elif at_ms is None:
        verdict.why = f"reported {t.trips() or 'nothing'}, not {' or '.join(kind.trips)}"
    elif t.off_us(t.string, 0) is None:
        verdict.why = "the coils are on"
    else:
        verdict.ms = max(at_ms - since_us / 1000, 0.0)
        if verdict.ms > (verdict.allowed_ms or 0.0):
            verdict.why = f"too late: {verdict.ms:.1f} ms of {verdict.allowed_ms:.1f} allowed"


def _only_reported(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """Reported within the time, and nothing opens."""
    _run_on(t, verdict)
    assert t.t0_us is not None
    at_ms = t.reported_ms(kind.trips)
    if t.trips():
        verdict.why = f"tripped: {t.trips()}"
    elif at_ms is None and t.case.link == "uart" and kind.name == "slave_reboot":
        # boards there answer polls only: a short silence between two scans is not seen
        status = next(x for x in reversed(t.world.seen.lines) if x["k"] == "status")
        if status["min_mv"] is None:
            verdict.why = "its readings did not come back"
    elif at_ms is None:
        verdict.why = f"reported nothing of {' or '.join(kind.trips)}"
    else:
        verdict.ms = max(at_ms - t.t0_us / 1000, 0.0)
        if verdict.ms > (verdict.allowed_ms or 0.0):
            verdict.why = f"too late: {verdict.ms:.1f} ms of {verdict.allowed_ms:.1f} allowed"


def _program_ends(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """The program ends with its coils off, and closes nothing when it starts again."""
    until_us = max(t.world.events.now_us, 2_000_000) + 2_500_000
    while t.died is None and t.world.events.now_us < until_us:
        t.run(t.world.events.now_us + 20_000)
    if t.died is None:
        verdict.why = f"the stage was not run: {t.world.extra['broken']['stage']}"
        return
    if "broken on purpose" not in t.died.text:
        verdict.why = f"another exception than that of the stage: {t.died}"
        return
    if t.world.seen.died_closed:
        verdict.why = "the program ended with coils on"
        return
    verdict.ms = 0.0
    _starts_again(t, verdict)


def _starts_again(t: FaultRun, verdict: Verdict) -> None:
    world = t.world
    lines = len(world.seen.lines)
    world.program = None
    world.extra = {}
    world.mark = 0
    t.closes = False
    t.died = None
    world.restart()
    t.run(world.events.now_us + 1_500_000)
    kinds = [x["k"] for x in world.seen.lines[lines:]]
    if t.died is not None:
        verdict.why = f"it does not start again: {t.died}"
    elif "boot" not in kinds or "status" not in kinds:
        verdict.why = f"it does not start again: {sorted(set(kinds))}"
    elif world.seen.closed_after_restart:
        verdict.why = "a coil went on after the restart though nobody commanded it"


def _nobody_joins(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """The weld is reported within the time; no string that is apart closes (`joined_apart`)."""
    _latched(kind, t, verdict)
    if verdict.why:
        return
    for n, string in enumerate(t.world.plant.strings):
        apart = (n in t.joining) != (t.string in t.joining)
        if apart and string.is_closed and t.world.plant.strings[t.string].is_closed:
            verdict.why = f"string {n + 1} is closed onto string {t.string + 1}"


def _supervisor_opens(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """The supervisor cuts the supply of the coils when the heartbeat stops."""
    _run_on(t, verdict, 2_000_000)
    beat_us = t.world.plant.beat_us
    assert t.t0_us is not None
    if t.died is not None:
        verdict.why = str(t.died)
    elif beat_us is None or t.world.events.now_us - beat_us < 200_000:
        verdict.why = f"the heartbeat goes on: {t.world.extra['broken']['stage']}"
    elif (opened_us := t.opened_us(beat_us)) is None:
        verdict.why = "it stays closed"
    else:
        verdict.ms = (opened_us - beat_us) / 1000
        if verdict.ms > (verdict.allowed_ms or 0.0):
            verdict.why = f"too late: {verdict.ms:.1f} ms of {verdict.allowed_ms:.1f} allowed"


def _refused(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """The pack file is refused and no coil goes on; or its valid copy is used."""
    _run_on(t, verdict, 500_000)
    refused = any(x["k"] == "config_error" for x in t.world.seen.lines)
    if t.copied:
        if (
            refused
            or t.died
            or t.reported_ms(("config_copy_used",)) is None
            or not t.world.seen.coils
        ):
            verdict.why = "the valid copy of the settings was not used"
        verdict.ms = 0.0
    elif t.world.seen.coils:
        verdict.why = "it closed on damaged settings"
    elif not refused and t.died is None and not t.trips():
        verdict.why = "damaged settings were taken"
    elif t.died is not None:
        verdict.why = str(t.died)
    else:
        verdict.ms = 0.0


def _starts_whole(kind: Kind, t: FaultRun, verdict: Verdict) -> None:
    """Power is lost during a write; the next start finds a valid store and stays open."""
    until_us = max(t.world.events.now_us, 2_000_000) + 8_000_000
    while t.died is None and not t.world.seen.power_cuts and t.world.events.now_us < until_us:
        t.run(t.world.events.now_us + 20_000)
    if t.died is not None:
        verdict.why = str(t.died)
    elif not t.world.seen.power_cuts:
        verdict.why = "nothing was stored after a trip"
    else:
        t.world.cells.override_v[:] = np.nan
        lines = len(t.world.seen.lines)
        _starts_again(t, verdict)
        verdict.ms = 0.0
        names = [x["name"] for x in t.world.seen.lines[lines:] if x["k"] == "event"]
        if not verdict.why and any(name.startswith(("store", "self_test")) for name in names):
            verdict.why = f"after the start: {names}"


_OUTCOMES: dict[str, Callable[[Kind, FaultRun, Verdict], None]] = {
    "open": _open,
    "latched": _latched,
    "nobody_joins": _nobody_joins,
    "reported": _only_reported,
    "program_ends": _program_ends,
    "supervisor_opens": _supervisor_opens,
    "config_error": _refused,
    "starts_whole": _starts_whole,
}


# --- many of them ---


def _pin(cpus: Any, folder: str) -> None:
    """A worker and its firmware stay on one CPU: they take turns. What it writes is in `folder`."""
    tempfile.tempdir = folder
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpus.get()})


def _pair(case: Case) -> tuple[Verdict, Verdict]:
    out = []
    for faultless in (False, True):
        try:
            out.append(play(case, faultless))
        except Exception as error:  # a run that raises counts as a missed fault
            out.append(Verdict(case, faultless, why=f"{type(error).__name__}: {error}"))
    return out[0], out[1]


def _cases(runs: int, seed: int, kinds: tuple[str, ...]) -> list[Case]:
    """As many as have `runs` faults; those of kinds without a fault come besides."""
    out = []
    only = all(BY_NAME[name].outcome == "nothing" for name in kinds) if kinds else False
    for case in cases(seed):
        if kinds and case.kind not in kinds:
            continue
        if not runs:
            return out
        out.append(case)
        runs -= only or BY_NAME[case.kind].outcome != "nothing"
    return out


def run(
    runs: int,
    seed: int = 1,
    kinds: tuple[str, ...] = (),
    jobs: int | None = None,
    progress: Callable[[int, int, float, int, int], None] = lambda *a: None,
) -> dict[str, Any]:
    """`runs` fault runs and as many faultless ones; the object that `--campaign --json` prints.

    progress gets (runs done, of, runs per second, missed, false). jobs: processes, None =
    one a CPU. Raises MicroPythonMissing.
    """
    find_micropython()  # once, not in each run
    todo = _cases(runs, seed, kinds)
    started = time.monotonic()
    done: list[tuple[Verdict, Verdict]] = []
    missed = false = 0
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    jobs = jobs or os.cpu_count() or 1
    context = get_context("spawn")
    queue = context.Queue()
    for n in range(jobs):
        queue.put(cpus[n % len(cpus)])
    with (
        tempfile.TemporaryDirectory(prefix="bmssim-", ignore_cleanup_errors=True) as folder,
        ProcessPoolExecutor(jobs, context, _pin, (queue, folder)) as pool,
    ):
        try:
            # Ctrl-C is for this process: its workers, and what they start, have it blocked
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
            try:
                pairs = pool.map(_pair, todo, chunksize=4)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
            for pair in pairs:
                done.append(pair)
                missed += sum(not v.good and not v.faultless for v in pair)
                false += sum(not v.good and v.faultless for v in pair)
                rate = 2 * len(done) / (time.monotonic() - started)
                progress(len(done), len(todo), rate, missed, false)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # runs that wait are not started
            for worker in active_children():  # those that run go no further
                worker.terminate()
            raise
    return summary(done, seed, time.monotonic() - started)


def summary(done: list[tuple[Verdict, Verdict]], seed: int, wall_s: float) -> dict[str, Any]:
    """Figures by kind of fault; keys as documented for `bmsctl sim --campaign --json`."""
    table = {}
    for kind in KINDS:
        pairs = [p for p in done if p[0].case.kind == kind.name]
        if not pairs:
            continue
        fault_runs = [p[0] for p in pairs]
        faultless = [v for p in pairs for v in p if v.faultless]
        with_fault = [v for v in fault_runs if not v.faultless]
        ms = [v.ms for v in fault_runs if v.ms is not None]
        allowed = [v.allowed_ms for v in fault_runs if v.allowed_ms is not None]
        table[kind.name] = {
            "meaning": kind.meaning,
            "injected": sum(v.injected for v in with_fault),
            "detected": sum(v.good for v in with_fault),
            "missed": sum(not v.good for v in with_fault),
            "faultless": len(faultless),
            "false": sum(not v.good for v in faultless),
            "ms_p50": round(float(np.percentile(ms, 50)), 3) if ms else None,
            "ms_max": round(max(ms), 3) if ms else None,
            "ms_allowed": round(max(allowed), 3) if allowed else None,
        }
    verdicts = [v for pair in done for v in pair]
    bad = [v for v in verdicts if not v.good]
    missed = sum(not v.faultless for v in bad)
    false = len(bad) - missed
    return {
        "ok": not bad,
        "runs": sum(not v.faultless for v in verdicts),
        "faultless_runs": sum(v.faultless for v in verdicts),
        "seed": seed,
        "missed": missed,
        "false": false,
        "wall_s": round(wall_s, 1),
        "sim_s": round(sum(v.sim_s for v in verdicts), 1),
        "runs_per_s": round(len(verdicts) / wall_s, 2) if wall_s else None,
        "kinds": table,
        "failed": [
            {"case": v.case.name, "faultless": v.faultless, "why": v.why, "trips": v.trips}
            for v in bad
        ],
    }
