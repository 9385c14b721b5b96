"""Telemetry for a person's eyes: one short line per thing that matters."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bmssim.boards.kinds import KINDS
from bmssim.layout import places
from bmssim.scenario import Scenario
from bmssim.setup import Setup

from .plain import plain
from .readable import Places, cause, figures, readable, uptime
from .request import Wanted


def campaign_table(result: dict[str, Any]) -> list[str]:
    """A campaign's figures as lines: a row a kind, then what failed and how to see it again."""

    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    head = ("kind", "injected", "detected", "p50 ms", "max ms", "allowed", "missed", "false")
    rows = [
        (
            name,
            str(k["injected"]),
            str(k["detected"]),
            ms(k["ms_p50"]),
            ms(k["ms_max"]),
            ms(k["ms_allowed"]),
            str(k["missed"]),
            f"{k['false']}/{k['faultless']}",
        )
        for name, k in result["kinds"].items()
    ]
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        row[0].ljust(wide[0]) + "  " + "  ".join(row[i].rjust(wide[i]) for i in range(1, len(row)))
        for row in (head, *rows)
    ]
    for failed in result["failed"]:
        what = "false" if failed["faultless"] else "missed"
        lines.append(f"{what}: {failed['case']}: {failed['why'].splitlines()[-1]}")
    if result["failed"]:
        lines.append("again: bmsctl sim --campaign --case CASE")
    lines.append(
        f"{result['runs']} runs with a fault, {result['faultless_runs']} without:"
        f" missed {result['missed']}, false {result['false']};"
        f" {result['sim_s'] / 3600:.1f} h simulated in {result['wall_s']:.0f} s,"
        f" {result['runs_per_s']} runs/s, seed {result['seed']}"
    )
    return lines


def many(n: int, thing: str) -> str:
    """A count of things: "1 board", "3 boards"."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def wiring(setup: Setup) -> list[str]:
    """What stands on which port, a line for ports that carry the same."""
    ports: dict[str, list[Any]] = {}
    for place in places(setup):
        ports.setdefault(place.port, []).append(place)
    alike: dict[str, list[str]] = {}
    for port, boards in ports.items():
        first = boards[0]
        rate = KINDS[first.kind].bps[first.medium]
        text = f"{first.kind}, {many(len(boards), 'board')} of {first.cells} cells, {rate} bit/s"
        alike.setdefault(text, []).append(port)
    return [
        f"{' '.join(names)}: {'each ' if len(names) > 1 else ''}{text}"
        for text, names in alike.items()
    ]


class Story:
    """Prints a run as it goes; quiet prints nothing, live adds the pack's figures each second.

    say: prints a line, None = to stdout; answers: somebody types commands, and what they answer is
    shown.
    """

    def __init__(
        self,
        quiet: bool,
        live: bool,
        say: Callable[[str], None] | None = None,
        answers: bool = False,
    ) -> None:
        self._quiet = quiet
        self._live = live
        self._print = say or partial(print, flush=True)
        self._wanted = Wanted() if answers else None
        self._places = Places()
        self._known = -1
        self._tripped = False  # what is raised after the first trip follows from it, mostly

    def _say(self, text: str = "") -> None:
        if not self._quiet:
            self._print(plain(text))

    def begin(self, chosen: Scenario, setup: Setup, console: str | None) -> None:
        """What is simulated, and where its console is."""
        runtime = "MicroPython" if setup.runtime == "micropython" else "CPython"
        self._say(f"{chosen.name}: {chosen.summary}")
        strings = f"{setup.strings} strings, " if setup.strings > 1 else ""
        self._say(
            f"  {strings}{setup.all_cells} {setup.chemistry} cells; in {runtime};"
            f" {chosen.duration_s:g} s{'' if self._live else ', virtual time'}, seed {setup.seed}"
        )
        for text in wiring(setup):
            self._say(f"  {text}")
        if console is not None:
            self._say(f"  console for other programs: {console}")
        self._say()

    def action(self, now_s: float, words: str) -> None:
        """Something was done to the simulated world."""
        self._say(f"{uptime(now_s)}  >> {words}")

    def line(self, obj: dict[str, Any], now_s: float) -> None:
        """One telemetry line."""
        kind = obj["k"]
        self._places.line(obj)
        wanted = self._wanted is not None and self._wanted.line(obj)
        if kind == "boot":
            self._say(
                f"{uptime(now_s)}  boot: version {obj['version']} on {obj['board']},"
                f" {obj['slaves']} slaves, {obj['cells']} cells configured"
            )
        elif kind == "status":
            if obj["known"] != self._known:
                self._known = obj["known"]
                self._say(f"{uptime(now_s)}  slaves found: {self._known}")
            if wanted:
                self._say(readable(obj, self._places))
            elif self._live:
                self._say(f"{uptime(now_s)}  {figures(obj)}")
        elif kind == "contactor":
            self._say(f"{uptime(now_s)}  contactors: {obj['state'].replace('_', ' ')}")
        elif kind == "event":
            mark = obj["level"]
            if obj["level"] == "trip" and obj["what"] == "set":
                mark = "   then" if self._tripped else "!! TRIP"
                self._tripped = True
            self._say(f"{uptime(now_s)}  {mark} {obj['what']}: {cause(obj, self._places)}")
        elif kind == "answer" and not obj["ok"]:
            self._say(f"{uptime(now_s)}  refused: {obj['cmd']}: {obj['text']}")
        elif wanted and "hex" not in obj:  # bytes are for programs
            self._say(readable(obj, self._places))

    def end(self, result: dict[str, Any], chosen: Scenario, late_s: float) -> None:
        """What came out; late_s: how much longer than in real time it took."""
        self._say()
        trip = result["trip"]
        if trip is None:
            self._say("no trip")
        else:
            self._say(
                f"tripped by {trip['code']}" + (f", no. {trip['cell']}" if trip["cell"] else "")
            )
            if trip["t_open_ms"] is not None and trip["t_injected_ms"] is not None:
                took = trip["t_open_ms"] - trip["t_injected_ms"]
                self._say(f"  contactor coils off {took:.1f} ms after the fault was injected")
            if trip["reaction_ms"] is not None:
                self._say(
                    f"  {trip['reaction_ms']:.1f} ms after the last bit of the first frame"
                    " that showed it"
                )
        scan = result["scan_ms"]
        frames = result["frames"]
        speed = result["sim_s"] / result["wall_s"] if result["wall_s"] else 0
        took = ""  # scans that follow each other without a pause can't be distinguished on the line
        if scan["p50"] is not None:
            took = f", {scan['p50']:.1f} ms each (longest {scan['max']:.1f})"
        self._say(
            f"{result['scans']} scans{took};"
            f" {frames['rx']} frames, {frames['damaged']} damaged, {frames['stale']} stale"
        )
        allocated = result["alloc_bytes_per_cycle"]
        if allocated is not None:
            self._say(
                f"heap: {result['heap_peak_bytes']} bytes used,"
                f" {allocated:g} bytes allocated per cycle"
            )
        self._say(f"{result['sim_s']:.1f} s simulated in {result['wall_s']:.1f} s ({speed:.0f} x)")
        if late_s:
            self._say(f"this computer is too slow for real time: {late_s:.1f} s longer")
        if result["log"]:
            self._say(f"log: {result['log']}")
        for problem in result["problems"]:
            self._say(f"NOT AS STATED: {problem}")
        outcome = "ok, all came out as stated" if result["ok"] else "FAILED"
        if result["ok"] and not result["evaluated"]:
            outcome = (
                "cut short, so the outcome isn't evaluated; the checks that always apply passed"
            )
        self._say(f"{chosen.name}: {outcome}")
