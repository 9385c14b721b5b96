"""One fault run of the campaign: boot, close, reach a moment, break something, compare the outcome.

Times are the world's microseconds.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bms.config import pack_file

from . import scenario
from .load import Charger
from .plant import OPEN_US
from .process import FirmwareDied
from .setup import Setup
from .world import World

LOOK_US = 50_000  # how often a run notes its worst cell
STEP_US = 20_000  # how often a run checks whether its moment has come
BEFORE_US = 600_000
CLOSE_US = 1_200_000
REACH_US = 14_000_000  # a moment that has not come by then counts as missed
LOAD_A = {"discharge": -25.0, "charge": 20.0, "opening": -25.0}
LAGS_S = (0.0, 5.0)  # of chargers
APART_V = 0.05  # the readings that a string joins by have noise
SETTLED_US = 400_000  # after the last contactor closed
AFTER_US = 400_000  # what was opened must stay so
PRECHARGE_COILS = 0o22222222
MOMENTS = ("before", "precharge", "closed", "discharge", "charge", "balancing", "opening")
STATES_CLOSED = ("closed", "discharge", "charge", "balancing")

# what both chemistries' cells show where something is wrong with them, in mV
CELL_MV = {
    "LFP": {
        "hard_high": 3900,
        "high": 3700,
        "low": 2380,
        "hard_low": 1900,
        "far": (3630, 2580),
        "wire": 340,
    },
    "NMC": {
        "hard_high": 4400,
        "high": 4275,
        "low": 2650,
        "hard_low": 2400,
        "far": (4200, 3050),
        "wire": 400,
    },
}

SETTINGS: dict[str, Any] = {
    "voltage_sensor": True,
    "isolation_sensor": True,
    "isolation_delay": "1 s",
    "interlock": True,
    "emergency_stop": True,
    "fault_line": True,
    "temp_age": "1500 ms",
    "stuck_time": "3 s",
    "charge_max": "100 A",
    "charge_continuous": "60 A",
    "discharge_max": "150 A",
    "discharge_continuous": "80 A",
    "peak_time": "2 s",
    "current_hard_max": "400 A",
    "open_wait": "6 s",
    "precharge_tries": 2,
    "precharge_max": "1 s",
    "precharge_rest": "500 ms",
}


@dataclass(frozen=True)
class Case:
    """What a fault run is made of; `name` replays it."""

    kind: str
    moment: str
    link: str
    strings: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.moment}/{self.link}/{self.strings}/{self.seed}"

    @staticmethod
    def parse(name: str) -> "Case":
        """The case of a name. Raises ValueError."""
        parts = name.split("/")
        if len(parts) != 5 or parts[1] not in MOMENTS or parts[2] not in ("can", "uart"):
            raise ValueError(f"{name}: expected KIND/MOMENT/can|uart/STRINGS/SEED")
        return Case(parts[0], parts[1], parts[2], int(parts[3]), int(parts[4]))


def _varied(case: Case, setup: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Other sensors and strings for a faultless run: entries of its Setup."""
    rng = random.Random(repr(case) + " setup")
    out: dict[str, Any] = {}
    if case.strings > 1 and "string_soc" not in setup:
        out["strings"] = rng.choice((2, 3))
    proves = not settings.get("link_sensor", True)  # no sensor with a large range proves precharge
    if "hall" not in setup and "ivt_s" not in setup and not proves:
        chosen = rng.choice(("", "hall", "ivt_s") if case.link == "can" else ("", "hall"))
        if chosen:
            out[chosen] = True
    return out


@dataclass
class Verdict:
    """Outcome of a fault run.

    injected: its moment came; good: detected in time and opened, or for a faultless run that
    nothing tripped; why: what was wrong; ms, allowed_ms: from the cause to open, None = it stays
    open; trips: names of trips that were set, the first one first; sim_s: of the run.
    """

    case: Case
    faultless: bool
    injected: bool = False
    good: bool = False
    why: str = ""
    ms: float | None = None
    allowed_ms: float | None = None
    trips: list[str] = field(default_factory=list)
    sim_s: float = 0.0


class FaultRun:
    """One fault run in progress; the functions of a kind get it.

    world, config (the pack file as the firmware reads it), rng, string: the one that is hit,
    cell, slave: in it, 0-based of the pack; t0_us: when the cause was there; any_string: a fault
    of the pack, its string is the first that closes; closes: `close` will be typed; copied: the
    settings have a copy that is whole; joining: strings that are near enough to be joined; worst_v:
    the highest true voltage of a cell so far; lag_s: of the charger, where there is one.
    """

    def __init__(
        self,
        case: Case,
        folder: Path,
        setup: dict[str, Any],
        settings: dict[str, Any],
        faultless: bool,
    ) -> None:
        self.case = case
        self.rng = random.Random(repr(case))
        self.faultless = faultless
        self.setup = self._setup(setup, settings)
        pack = folder / "pack.toml"
        of_pack = SETTINGS | settings
        pack.write_text(scenario.pack_text(self.setup, of_pack), "utf-8")
        self.config: Any = pack_file.load(str(pack))
        c = self.config
        bounds = (c.cell_hard_min_mv, c.cell_hard_max_mv, c.temp_hard_max_dc)
        self.world = World(self.setup, pack, bounds)
        highest = max(self.setup.string_soc, default=0.0)
        socs = self.setup.string_soc or [highest] * self.setup.strings
        self.joining = [n for n, soc in enumerate(socs) if soc == highest]
        self.worst_v = 0.0
        self.lag_s = 0.0
        if faultless:
            self._vary()
        self.string = self.rng.randrange(self.setup.strings)
        per_string = self.setup.slaves * self.setup.cells
        self.cell = self.string * per_string + self.rng.randrange(per_string)
        self.slave = self.cell // self.setup.cells
        self.t0_us: int | None = None
        self.any_string = False
        self.closes = True
        self.copied = False
        self.died: FirmwareDied | None = None
        self.first_coil_us: int | None = None
        self.open_at_us: int | None = None
        self._precharge_us: int | None = None
        self._steady_us: int | None = None
        self.world.on_coils = self._coils

    def _setup(self, setup: dict[str, Any], settings: dict[str, Any]) -> Setup:
        """What is simulated: `setup` goes before what every run of the campaign has."""
        case = self.case
        n = self.rng.choice((1, 2, 2, 3)) if case.strings == 1 else 2
        of_setup: dict[str, Any] = {
            "link": case.link,
            "strings": case.strings,
            "slaves": max(n, setup.pop("slaves_least", 1)),
            "cells": 8,
            "temps": 2,
            "seed": case.seed * 1000 + self.rng.randrange(1000),
            "cell_noise_mv": 1.0,
            "temp_noise_dc": 2.0,
            "current_noise_ma": 100.0,
            "drift_ppm": 50.0,
        }
        if case.moment == "balancing":
            of_setup |= {"chemistry": "NMC", "spread_mv": 60.0}
        if self.faultless:
            of_setup |= {
                "cell_noise_mv": 2.0,
                "temp_noise_dc": 3.0,
                "current_noise_ma": 200.0,
                "drift_ppm": 100.0,
                "damage": 0.01,
                **_varied(case, setup, settings),
            }
        return Setup(**of_setup | setup)

    # --- for the kinds ---

    @property
    def scan_ms(self) -> int:
        return self.config.scan_period_ms

    @property
    def mv(self) -> dict[str, Any]:
        """Values that cells show, by what is wrong with them."""
        return CELL_MV[self.setup.chemistry]

    def cells(self) -> range:
        """Cells of the string that is hit."""
        n = self.setup.slaves * self.setup.cells
        return range(self.string * n, self.string * n + n)

    def sensed(self) -> int:
        """A cell of the string that has a temperature sensor."""
        every = self.setup.cells // self.setup.temps
        return self.rng.choice([i for i in self.cells() if i % every == 0])

    def at(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do something later."""
        self.world.events.after(delay_us, action)

    def charge_late(self, max_a: float, lag_s: float) -> None:
        """Put a charger there that follows the charge limit late; note the worst cell."""
        self.world.charger = Charger(max_a, lag_s)
        self.lag_s = lag_s

        def look() -> None:
            self.worst_v = max(self.worst_v, float(np.max(self.world.cells.voltage_v())))

        self.world.events.every(LOOK_US, look)

    def _vary(self) -> None:
        """The rest of what real parts do, for a faultless run: zeros, ends of ranges, lag."""
        rng = random.Random(repr(self.case) + " without")
        for hall in self.world.halls:
            hall.noise_mv = rng.uniform(0.0, 1.0)
            hall.zero_mv = rng.uniform(-2.0, 2.0)
            hall.clamp = rng.uniform(0.99, 1.02)
        if self.case.moment == "charge":
            self.charge_late(15.0 * self.setup.strings, rng.uniform(*LAGS_S))

    # --- the sequence ---

    def _coils(self, now_us: int, coils: int) -> None:
        if coils and self.first_coil_us is None:
            self.first_coil_us = now_us
        if self._precharge_us is None and coils & PRECHARGE_COILS:
            # a fault of the whole pack shows best in the first string
            if self.any_string:
                self.string = next(s for s in range(8) if coils >> 3 * s & 2)
            if not coils >> 3 * self.string & 2:
                return
            self._precharge_us = now_us + self.rng.randrange(5_000, 200_000)

    def _all_closed(self) -> bool:
        """All strings are joined, and no coil has changed for a while."""
        if not all(self.world.plant.strings[n].is_closed for n in self.joining):
            return False
        last = self.world.seen.coils[-1][0] if self.world.seen.coils else 0
        return self.world.events.now_us - last >= SETTLED_US

    def _there(self) -> bool:
        """The run's moment has come; `_coils` notes when a precharge begins."""
        now = self.world.events.now_us
        moment = self.case.moment
        if moment == "before":
            return now >= BEFORE_US
        if moment == "precharge":
            return self._precharge_us is not None and now >= self._precharge_us
        if self._steady_us is None:
            balancing = moment != "balancing" or any(b.balancing_cells() for b in self.world.boards)
            if self._all_closed() and balancing:
                if self.world.charger is None:
                    self.world.set_load(LOAD_A.get(moment, 0.0) * len(self.joining))
                # anywhere in a scan
                self._steady_us = now + self.rng.randrange(200_000, 400_000)
            return False
        if now < self._steady_us:
            return False
        if moment != "opening":
            return True
        if self.open_at_us is None:
            self.world.type("open")
            self.open_at_us = now + self.rng.randrange(40_000, 200_000)
        return now >= self.open_at_us

    def reach(self) -> bool:
        """Run up to the moment; False where it doesn't come."""
        world = self.world
        world.boot()
        world.events.at(CLOSE_US, lambda: world.type("close") if self.closes else None)
        while world.events.now_us < REACH_US:
            if self._there():
                self.t0_us = world.events.now_us
                return True
            # a precharge is short: be exact
            due = self._precharge_us if self.case.moment == "precharge" else None
            step = 5_000 if self.case.moment in ("precharge", "opening") else STEP_US
            self.run(due if due is not None else world.events.now_us + step)
            if self.died is not None:
                return False
        return False

    def run(self, until_us: int) -> None:
        """Go on; where the firmware ends, `died` is set and time goes on without it."""
        try:
            self.world.run(until_us)
        except FirmwareDied as death:
            self.died = death
            self.world.run(until_us)

    # --- outcome ---

    def joined_apart(self) -> str:
        """What was wrong with strings that closed onto others, "" = nothing."""
        most_v = self.config.join_voltage_mv / 1000 + APART_V
        for now_us, n, apart_v in self.world.plant.joins:
            if abs(apart_v) > most_v:
                return f"string {n + 1} joined {apart_v:.1f} V apart at {now_us / 1e6:.3f} s"
        return ""

    def trips(self, since_us: int = 0) -> list[str]:
        """Names of trips that were set since then."""
        return [
            x["name"]
            for x in self.world.seen.lines
            if x["k"] == "event"
            and x["what"] == "set"
            and x["level"] == "trip"
            and x["at_ms"] * 1000 >= since_us - 2_000
        ]

    def reported_ms(self, names: tuple[str, ...]) -> float | None:
        """ms of the first event of these names, None = none."""
        return next(
            (
                x["at_ms"]
                for x in self.world.seen.lines
                if x["k"] == "event" and x["what"] == "set" and x["name"] in names
            ),
            None,
        )

    def off_us(self, string: int | None, since_us: int) -> int | None:
        """When the coils of a string (None: of all) went off for good; None = they are on.

        `since_us` where they were off by then.
        """
        mask = 0xFFFFFF if string is None else 7 << 3 * string
        off: int | None = 0
        for now_us, coils in self.world.seen.coils:
            on = coils & mask
            if on:
                off = None
            elif off is None:
                off = now_us
        return None if off is None else max(off, since_us)

    def opened_us(self, since_us: int) -> int | None:
        """When the last contactor opened, None = one still conducts."""
        plant = self.world.plant
        if plant.feedback():
            return None
        opened = [t for t, _name, conducts, _string in plant.history if not conducts]
        return max([t - OPEN_US for t in opened] + [since_us])
