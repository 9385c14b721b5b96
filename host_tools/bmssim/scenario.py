"""Scenarios: small TOML files that say what is simulated, what goes wrong and what must come out.

```toml
summary = "one line"
duration_s = 30                 # of simulated time
[setup]                         # fields of setup.Setup: chemistry, soc, load, damage, ..
[settings]                      # pack-file keys that differ from the defaults, as "3.65 V" or 8
[[do]]                          # at_s and one action
at_s = 1
type = "close"                  # a console command
[[do]]
at_s = 10
every_s = 30                    # and again, to the end; without it once
inject = "cell_voltage"         # a name of ACTIONS, with its arguments beside it
cell = 23
mv = 3900
[expect]                        # see `problems`
trip = "cell_hard_high"
```
"""

import itertools
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bms.config import pack_file, schema

from .boards import cell_link, ivt_s
from .boards.kinds import KINDS, Kind
from .bus import PAUSE_US, Usage
from .layout import Place, places
from .load import Charger
from .plant import LINK_FARAD, PRECHARGE_OHM
from .process import CHARGER, ESTOP, FAULT_LINE, IGNITION, INTERLOCK
from .sensors import HALL_RANGES_A, HALL_SPAN_MV, HALL_ZERO_MV, Sensor
from .setup import Setup
from .world import World

FOLDER = Path(__file__).parent / "scenarios"


class ScenarioError(Exception):
    """A scenario that isn't there or is malformed; names the file and the reason."""


@dataclass
class Scenario:
    """A scenario as read; `actions` are (time in us, name, arguments).

    evaluated: the outcome is compared with `expect`; False where the run was cut short.
    """

    name: str
    summary: str
    duration_s: float
    setup: dict[str, Any]
    settings: dict[str, Any]
    actions: list[tuple[int, str, dict[str, Any]]]
    expect: dict[str, Any]
    evaluated: bool = True


def names() -> list[str]:
    """Scenarios that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """A scenario by name, or from a path that ends in .toml. Raises ScenarioError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = " ".join(names())
        raise ScenarioError(f"no scenario {name}; there are: {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: {error}") from None
    allowed = {"summary", "duration_s", "setup", "settings", "do", "expect"}
    if "slave" in raw or "pack" in raw:
        raise ScenarioError(f"{path} is a pack file, no scenario: see bmsctl check, bmsctl run")
    for key in raw:
        if key not in allowed:
            raise ScenarioError(f"{path}: unknown key {key}; known: {' '.join(sorted(allowed))}")
    known_setup = {f.name for f in fields(Setup)}
    for key in raw.get("setup", {}):
        if key not in known_setup:
            raise ScenarioError(f"{path}: [setup] has no {key}; it has: {sorted(known_setup)}")
    for key in raw.get("expect", {}):
        if key not in EXPECTATIONS:
            raise ScenarioError(f"{path}: [expect] has no {key}; it has: {sorted(EXPECTATIONS)}")
    duration_s = float(raw.get("duration_s", 10))
    actions = []
    for number, entry in enumerate(raw.get("do", []), 1):
        args = dict(entry)
        at_us = round(float(args.pop("at_s", -1)) * 1e6)
        if at_us < 0:
            raise ScenarioError(f"{path}: [[do]] number {number} needs at_s")
        every_us = round(float(args.pop("every_s", 0)) * 1e6) or round(duration_s * 1e6) + 1
        times = range(at_us, max(round(duration_s * 1e6), at_us + 1), every_us)
        if "type" in args:
            actions += [(t_us, "type", {"command": args["type"]}) for t_us in times]
            continue
        action = args.pop("inject", None)
        if action not in ACTIONS:
            raise ScenarioError(
                f"{path}: [[do]] number {number}: unknown inject {action!r};"
                f" known: {' '.join(sorted(ACTIONS))}"
            )
        actions += [(t_us, action, args) for t_us in times]
    return Scenario(
        path.stem,
        raw.get("summary", ""),
        duration_s,
        raw.get("setup", {}),
        raw.get("settings", {}),
        actions,
        raw.get("expect", {}),
    )


def give_time(scenario: Scenario, setup: Setup) -> None:
    """Let everything happen later, as boards whose scans take long need it."""
    _within(scenario, setup)
    on = _by_port(setup).values()
    ms = _longest_ms(setup)
    if "spread_at_most_mv" in scenario.expect and not all(kind.balances for kind, _n, _c in on):
        raise ScenarioError(f"{scenario.name} needs boards that take the command to balance")
    if "back_within_scans" in scenario.expect:
        most = max(kind.back for kind, _boards, _cells in on)
        scenario.expect["back_within_scans"] = max(most, scenario.expect["back_within_scans"])
    if not ms:
        return
    wait_us = round(5 * ms * 1000)
    scenario.actions = [(at_us + wait_us, name, args) for at_us, name, args in scenario.actions]
    scenario.duration_s += 2 * wait_us / 1e6
    if "open_within_ms" in scenario.expect:
        scenario.expect["open_within_ms"] += 4 * ms
    if "damaged_at_least" in scenario.expect:  # fewer frames than the cell link has
        scenario.expect["damaged_at_least"] //= 20 if ms < 3000 else 200
    if scenario.expect.get("trip") == "temp_high":  # both come true within one slow scan
        scenario.expect["trip"] = ["temp_high", "temp_spread"]
    if "reaction_ms" in scenario.expect:  # a reading that jumps is asked for once more
        scenario.expect["reaction_ms"] = 10 + ms


def _within(scenario: Scenario, setup: Setup) -> None:
    """Let what is done hit boards, cells and sensors that are there."""
    boards = places(setup)
    at = [p.first + k * p.cells // p.temps for p in boards for k in range(p.temps)]
    expect = scenario.expect
    for _us, name, args in scenario.actions:
        # of two that say the same number by themselves nobody can tell which is which
        if args.get("answers_as") and not all(KINDS[place.kind].polled for place in boards):
            args["answers_as"] = len(boards) + 1
        if "slave" in args:
            args["slave"] = min(args["slave"], len(boards))
            if expect.get("trip") == "cell_lost" and "index" in expect:
                expect["index"] = boards[args["slave"] - 1].first + 1
        if name == "cell_voltage":
            args["cell"] = min(args["cell"], setup.all_cells)
            if "index" in expect:
                expect["index"] = args["cell"]
        if name == "cell_temperature" and at:  # what gets warm must lie at a sensor
            index = min(range(len(at)), key=lambda i: abs(at[i] + 1 - args["cell"]))
            args["cell"] = at[index] + 1
            if "index" in expect:
                expect["index"] = index + 1


def pack_text(setup: Setup, settings: dict[str, Any]) -> str:
    """A pack file for a setup; `settings` by key, written into the tables they belong to.

    The slaves of a string stand together, the strings in their order.
    """
    c_rate_a = setup.capacity_ah
    base: dict[str, Any] = {
        "name": "simulated",
        "chemistry": setup.chemistry,
        "cells": setup.all_cells,
        "capacity": f"{setup.capacity_ah:g} Ah",
        "charge_max": f"{2 * c_rate_a:g} A",
        "discharge_max": f"{6 * c_rate_a:g} A",
        "current_hard_max": f"{10 * c_rate_a:g} A",
        "precharge_resistor": f"{PRECHARGE_OHM:g} ohm",
        "precharge_energy": "6000 J",  # three precharges of 400 V to their end
        "link_capacitance": f"{LINK_FARAD * 1e6:g} uF",
    }
    base.update(settings)
    lines: list[str] = []
    table = ""
    for row in schema.SETTINGS:
        if row[1] in base:
            if row[0] != table:
                table = row[0]
                lines.append(f"[{table}]")
            value = base.pop(row[1])
            shown = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"{row[1]} = " + (f'"{shown}"' if isinstance(value, str) else str(shown)))
    if base:
        raise ScenarioError(f"[settings] has keys that no pack file has: {' '.join(base)}")
    for place, nodes in _tables(setup):
        lines += [
            "[[slave]]",
            f'kind = "{place.kind}"',
            f'link = "{place.port}"',
            f'node = "{place.node}-{place.node + nodes - 1}"',
            f"cells = {place.cells}",
            f"temps = {place.temps}",
            f"string = {place.string + 1}",
        ]
        if setup.serials:
            lines.append(f"serial = {cell_link.FIRST_SERIAL + place.node}")
    rates = {p.port: KINDS[p.kind].bps[p.medium] for p in places(setup) if KINDS[p.kind].says_rate}
    ages = _patient(setup, settings)
    for port in dict.fromkeys((*rates, *ages)):
        lines += ["[[link]]", f'port = "{port}"']
        if port in rates:
            lines.append(f'rate = "{rates[port]} bit/s"')
        lines += [f'{key} = "{ms} ms"' for key, ms in ages.get(port, {}).items()]
    return "\n".join(lines + _sensor_lines(setup)) + "\n"


def _sensor_lines(setup: Setup) -> list[str]:
    """[[sensor]] tables: of each string a second sensor on CAN, or both ranges of a Hall sensor."""
    lines: list[str] = []
    for n in range(setup.strings if setup.hall else 0):
        for channel, amps in enumerate(HALL_RANGES_A, 2 * n):
            lines += ["[[sensor]]", 'kind = "hall"', f"string = {n + 1}", f"channel = {channel}"]
            lines.append(f'range = "{amps:g} A"')
            lines += [f'zero = "{HALL_ZERO_MV:g} mV"', f'span = "{HALL_SPAN_MV:g} mV"']
    for n in range(setup.strings if setup.ivt_s else 0):
        lines += ["[[sensor]]", 'kind = "board"', f"string = {n + 1}"]
        lines += [
            "[[sensor]]",
            'kind = "ivt_s"',
            f"string = {n + 1}",
            f'link = "{places(setup)[0].port}"',
        ]
        lines.append(f"id = {ivt_s.FIRST_ID + n * ivt_s.IDS}")
    return lines


def _tables(setup: Setup) -> list[tuple[Place, int]]:
    """The first board of each [[slave]] table, and how many equal ones stand in it."""
    out: list[tuple[Place, int]] = []
    for place in places(setup):
        last, nodes = out[-1] if out else (None, 0)
        if (
            last is not None
            and not setup.serials
            and replace(place, node=last.node, first=last.first) == last
            and place.node == last.node + nodes
        ):
            out[-1] = (last, nodes + 1)
        else:
            out.append((place, 1))
    return out


def _by_port(setup: Setup) -> dict[str, tuple[Kind, int, int]]:
    """For each port the kind of its boards, how many there are, cells of one."""
    on: dict[str, list[Place]] = {}
    for place in places(setup):
        on.setdefault(place.port, []).append(place)
    return {port: (KINDS[x[0].kind], len(x), x[0].cells) for port, x in on.items()}


def _longest_ms(setup: Setup) -> float:
    """What a scan of the slowest port takes, 0 = no matter."""
    return max(kind.scan_ms(boards, cells) for kind, boards, cells in _by_port(setup).values())


def _patient(setup: Setup, settings: dict[str, Any]) -> dict[str, dict[str, int]]:
    """How old readings may get on ports whose scans take long, in ms by port and key."""
    ages: dict[str, dict[str, int]] = {}
    for port, (kind, boards, cells) in _by_port(setup).items():
        least_ms = kind.age_ms(boards, cells)
        # temperatures may be older: of a lost board only its cells are reported
        for key, usual_ms, ms in (
            ("cell_age", 500, least_ms),
            ("temp_age", 5000, least_ms * 3 // 2),
        ):
            number, unit = str(settings.get(key, f"{usual_ms} ms")).split()
            if float(number) * (1000 if unit == "s" else 1) < ms:
                ages.setdefault(port, {})[key] = ms
    return ages


# --- what can be done to the world ---


def _cell_voltage(world: World, cell: int, mv: float) -> None:
    """The cell's terminals show `mv` from now on."""
    world.cells.override_v[cell - 1] = mv / 1000


def _cell_temperature(world: World, cell: int, dc: float) -> None:
    """The cell is `dc` (0.1 degC) warm from now on."""
    world.cells.override_temp_c[cell - 1] = dc / 10


def _load(world: World, a: float) -> None:
    """A further current, + = charge."""
    world.set_load(a)


def _charger(world: World, a: float, lag_s: float = 0.0, stop_mv: float | None = None) -> None:
    """A charger follows the reported charge limit, late; with stop_mv it only switches off."""
    world.charger = Charger(a, lag_s, stop_mv)


def _slave_silent(world: World, slave: int) -> None:
    """The board's transceiver dies."""
    world.boards[slave - 1].alive = False


def _slave_restart(world: World, slave: int) -> None:
    """The board restarts after a brown-out."""
    world.boards[slave - 1].restart()


def _slave_answers_as(world: World, slave: int, node: int) -> None:
    """The board takes itself for another one."""
    world.boards[slave - 1].node = node


def _slave_habit(world: World, slave: int, **how: float | str) -> None:
    """Set habits of a commercial board: one or more of HABITS; answers_as 0: its own node."""
    board = world.boards[slave - 1]
    for name, value in how.items():
        if name not in HABITS or not hasattr(board, name):
            raise AttributeError(f"board {slave} has no habit {name}")
        setattr(board, name, None if name == "answers_as" and not value else value)


def _open_sensor(world: World, slave: int, temp: int) -> None:
    """A thermistor's wire breaks."""
    world.boards[slave - 1].open_temps.add(temp - 1)


def _contactor(world: World, which: str, fault: str, string: int = 1) -> None:
    """A contactor gets a fault of plant.Contactor: stuck_open, welded, feedback_lost, .."""
    setattr(world.plant.strings[string - 1].contactors[which], fault, True)


def _precharge_open(world: World, string: int = 1) -> None:
    """The precharge resistor is burnt through."""
    world.plant.strings[string - 1].precharge_resistor_open = True


def _precharge_shorted(world: World, string: int = 1) -> None:
    """The precharge resistor is bridged."""
    world.plant.strings[string - 1].precharge_resistor_shorted = True


def _link_held(world: World, v: float, ohm: float = 1.0) -> None:
    """A charger holds the DC link at a voltage."""
    world.hold_link(v, ohm)


def _link_short(world: World, ohm: float) -> None:
    """A short across the DC link."""
    world.short(ohm)


def _current_sensor_lost(world: World, string: int = 0) -> None:
    """The current sensor of a string falls silent, or of all (0)."""
    for n, sensor in enumerate(world.currents, 1):
        if string in (0, n):
            sensor.ok = False


def _current_sensor(world: World, string: int = 1, **how: float) -> None:
    """A current sensor gets errors of sensors.Sensor in mA: offset, gain, noise, frozen, stuck."""
    _spoil(world.currents[string - 1], how)


def _voltage_sensor(world: World, string: int = 1, **how: float) -> None:
    """A string's voltage sensor gets errors of sensors.Sensor, in mV."""
    _spoil(world.voltages[string - 1], how)


def _spoil(sensor: Sensor, how: dict[str, float]) -> None:
    for name, value in how.items():
        if not hasattr(sensor, name):
            raise AttributeError(f"a sensor has no {name}")
        setattr(sensor, name, value)


def _isolation(world: World, kohm: float) -> None:
    """The isolation resistance of the high voltage falls."""
    world.isolation_kohm = kohm


HABITS = ("asleep", "slow", "truncate", "longer", "answers_as")
HABITS += ("form", "drowsy", "tells_about")  # of a JK-PB board

LINES = {
    "interlock": INTERLOCK,
    "emergency_stop": ESTOP,
    "fault_line": FAULT_LINE,
    "charger": CHARGER,
    "ignition": IGNITION,
}


def _input(world: World, which: str, on: bool) -> None:
    """An input of the master changes; true: good, or there."""
    world.set_lines(LINES[which], on)


def _kill_master(world: World) -> None:
    """The firmware's process is killed."""
    world.kill()


def _restart_master(world: World) -> None:
    """The firmware is started again."""
    world.restart()


ACTIONS: dict[str, Callable[..., None]] = {
    "cell_voltage": _cell_voltage,
    "cell_temperature": _cell_temperature,
    "precharge_shorted": _precharge_shorted,
    "link_held": _link_held,
    "load": _load,
    "charger": _charger,
    "slave_silent": _slave_silent,
    "slave_restart": _slave_restart,
    "slave_answers_as": _slave_answers_as,
    "slave_habit": _slave_habit,
    "open_sensor": _open_sensor,
    "contactor": _contactor,
    "precharge_open": _precharge_open,
    "link_short": _link_short,
    "current_sensor_lost": _current_sensor_lost,
    "current_sensor": _current_sensor,
    "voltage_sensor": _voltage_sensor,
    "isolation": _isolation,
    "input": _input,
    "kill_master": _kill_master,
    "restart_master": _restart_master,
}

# --- what must come out ---

EXPECTATIONS = {
    "trip": 'name of the first trip, "" = none, or a list of names',
    "index": "cell, slave, .. that the trip names",
    "state": "contactor state at the end",
    "charge_ma": "charge limit at the end: a number, or [lowest, highest]",
    "discharge_ma": "discharge limit at the end: a number, or [lowest, highest]",
    "charge_swing_ma": "largest - smallest charge limit in the last minute, at most",
    "charge_rise_ma": "how far the charge limit came up again in the last minute, at most",
    "charge_true_pm": "how far soc_pm may be from the true mean of the cells at the end",
    "soc_pm": 'state of charge at the end: a number, [lowest, highest], or "unknown"',
    "closed": "whether the contactors closed at least once, and current could flow",
    "strings_closed": "strings that are on the DC link at the end",
    "join_at_most_mv": "voltage across a contactor at most as its string joined others, if it did",
    "inrush_at_most_a": "current at most as plus closed onto a difference of voltage",
    "open_within_ms": "from the last injection to the coils off, at most",
    "reaction_ms": "from the last bit of the first violating frame to the coils off, at most",
    "damaged_at_least": "damaged frames that the master must have counted",
    "odd_at_least": "answers that are damaged, stale, unexpected or missed, as it counted them",
    "spread_at_most_mv": "true spread of the cells at the end",
    "back_within_scans": "of its port: from a restarted board's boot to its first answer, at most,"
    " and from there to what it measured first of what the master shows",
    "dropped_by_supervisor": "the contactors fell open by the missing heartbeat",
}


def _as_expected(expected: Any, found: float | None) -> bool:
    """Whether a value is the expected number, within [lowest, highest], or null where "unknown"."""
    if expected == "unknown" or found is None:
        return expected == "unknown" and found is None
    low, high = expected if isinstance(expected, list) else (expected, expected)
    return low <= found <= high


def _scan_use(usage: Usage, rounds: list[tuple[float, float]]) -> float | None:
    """Time of the scans / what their bytes, the boards' answers and gaps need; None = not seen."""
    if rounds:
        return round(sum(x[0] for x in rounds) / sum(x[1] for x in rounds), 3)
    if usage.scan_ms and usage.readings_us:
        return round(sum(usage.scan_ms) * 1000 / usage.readings_us, 3)
    return None


class Run:
    """One run of a scenario: `start`, then `go_on` to times up to the end, then `result`."""

    def __init__(
        self, scenario: Scenario, setup: Setup, pack: Path, world: type[World] = World
    ) -> None:
        self.scenario = scenario
        self.setup = setup
        pack.write_text(pack_text(setup, scenario.settings), "utf-8")
        settings: Any = pack_file.load(str(pack))
        bounds = (
            settings.cell_hard_min_mv,
            settings.cell_hard_max_mv,
            settings.temp_hard_max_dc,
        )
        # a scan is distinct from the next one where the line pauses between them
        self._apart = settings.scan_period_ms > _longest_ms(setup) + PAUSE_US / 1000
        self.world = world(setup, pack, bounds)
        if "back_within_scans" in scenario.expect:
            self.world.watch_back()
        self.spread_before_mv = self._spread_mv()
        self.injected_us: int | None = None
        self.on_action: Callable[[str, dict[str, Any]], None] = lambda name, args: None
        for at_us, name, args in scenario.actions:
            self.world.events.at(at_us, lambda n=name, a=args: self._act(n, a))

    def _act(self, name: str, args: dict[str, Any]) -> None:
        self.on_action(name, args)
        if name == "type":
            self.world.type(args["command"])
            return
        self.injected_us = self.world.events.now_us
        try:
            ACTIONS[name](self.world, **args)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ScenarioError(
                f"{name} {args} can't be done to {self.setup.strings} strings of"
                f" {self.setup.slaves} slaves x {self.setup.cells} cells: {error}"
            ) from None

    def go(self, until_s: float | None = None) -> None:
        """Boot where needed and run to `until_s`, or to the scenario's end."""
        if self.world.firmware is None and self.world.events.now_us == 0:
            self.world.boot()
        end_s = self.scenario.duration_s if until_s is None else until_s
        self.world.run(round(end_s * 1e6))

    def _spread_mv(self) -> float:
        ocv = self.world.cells.ocv_v()
        return float(np.max(ocv) - np.min(ocv)) * 1000

    def _last(self, kind: str) -> dict[str, Any]:
        return next((x for x in reversed(self.world.seen.lines) if x["k"] == kind), {})

    def trip(self) -> dict[str, Any] | None:
        """The first trip: code, cell and times as documented for `sim --json`; None without one."""
        event = next(
            (
                x
                for x in self.world.seen.lines
                if x["k"] == "event" and x["what"] == "set" and x["level"] == "trip"
            ),
            None,
        )
        if event is None:
            return None
        seen_us = self.world.violation_us
        detected_ms = event["at_ms"] if seen_us is None else seen_us / 1000
        first_us = min(detected_ms, event["at_ms"]) * 1000 - 1000
        off = [t for t in self.world.seen.coil_off_after_us if t >= first_us]
        open_ms = off[0] / 1000 if off else None
        by_frame = event["name"].find("_hard_") >= 0 and seen_us is not None
        return {
            "code": event["name"],
            "cell": event["index"],
            "t_injected_ms": None if self.injected_us is None else self.injected_us / 1000,
            "t_detected_ms": detected_ms,
            "t_open_ms": open_ms,
            "reaction_ms": round(open_ms - detected_ms, 3) if by_frame and open_ms else None,
        }

    def allocated_per_cycle(self) -> float | None:
        """Growth of the heap per cycle between the first and the last `mem` line of each boot."""
        grown = cycles = 0
        last = None
        for line in self.world.seen.lines:
            if line["k"] == "boot":
                last = None
            elif line["k"] == "mem":
                if last is not None:
                    grown += max(line["heap_used"] - last["heap_used"], 0)
                    cycles += line["cycles"] - last["cycles"]
                last = line
        return grown / cycles if cycles else None

    # long: one check for each key of [expect], in the order of their docs
    def problems(self) -> list[str]:
        """What did not come out as the scenario states; empty = it came out."""
        expect = self.scenario.expect
        world = self.world
        seen = world.seen
        status = self._last("status")
        trip = self.trip()
        out = []

        def check(what: str, good: bool, found: object) -> None:
            if not good:
                out.append(f"{what}: expected {expect.get(what)!r}, found {found!r}")

        if "trip" in expect:
            name = trip["code"] if trip else ""
            wanted = expect["trip"] if isinstance(expect["trip"], list) else [expect["trip"]]
            check("trip", name in wanted, name)
        if "index" in expect:
            index = trip["cell"] if trip else None
            check("index", index == expect["index"], index)
        if "state" in expect:
            check("state", status.get("state") == expect["state"], status.get("state"))
        if "closed" in expect:
            closings = any(x["k"] == "contactor" and x["closings"] for x in seen.lines)
            check("closed", closings == expect["closed"], closings)
        power = self._last("power")
        for key in ("charge_ma", "discharge_ma", "soc_pm"):
            if key in expect:
                check(key, _as_expected(expect[key], power.get(key)), power.get(key))
        last_ms = world.events.now_us / 1000 - 60_000
        late = [x["charge_ma"] for x in seen.lines if x["k"] == "power" and x["t_ms"] >= last_ms]
        if "charge_swing_ma" in expect:
            swing = max(late) - min(late)
            check("charge_swing_ma", swing <= expect["charge_swing_ma"], swing)
        if "charge_rise_ma" in expect:
            lowest = itertools.accumulate(late, min)
            rise = max(ma - low for ma, low in zip(late, lowest, strict=True))
            check("charge_rise_ma", rise <= expect["charge_rise_ma"], rise)
        if "charge_true_pm" in expect:
            true = float(np.mean(world.cells.soc)) * 1000
            found = power.get("soc_pm")
            good = found is not None and abs(found - true) <= expect["charge_true_pm"]
            check("charge_true_pm", good, (found, round(true)))
        if "strings_closed" in expect:
            count = sum(string.is_closed for string in world.plant.strings)
            check("strings_closed", count == expect["strings_closed"], count)
        if "join_at_most_mv" in expect:
            worst = max((abs(volt) * 1000 for _us, _n, volt in world.plant.joins), default=None)
            good = worst is None or worst <= expect["join_at_most_mv"]
            check("join_at_most_mv", good, worst)
        if "inrush_at_most_a" in expect:
            inrush_a = world.plant.peak_inrush_a
            check("inrush_at_most_a", inrush_a <= expect["inrush_at_most_a"], inrush_a)
        if "open_within_ms" in expect:
            took = None
            if trip and trip["t_open_ms"] is not None and trip["t_injected_ms"] is not None:
                took = trip["t_open_ms"] - trip["t_injected_ms"]
            check(
                "open_within_ms", took is not None and 0 <= took <= expect["open_within_ms"], took
            )
        if "reaction_ms" in expect:
            took = trip["reaction_ms"] if trip else None
            check("reaction_ms", took is not None and 0 <= took <= expect["reaction_ms"], took)
        if "damaged_at_least" in expect:
            damaged = status.get("damaged", 0)
            check("damaged_at_least", damaged >= expect["damaged_at_least"], damaged)
        if "odd_at_least" in expect:
            odd = sum(status.get(key, 0) for key in ("damaged", "stale", "unexpected", "missed"))
            check("odd_at_least", odd >= expect["odd_at_least"], odd)
        if "spread_at_most_mv" in expect:
            spread = self._spread_mv()
            check("spread_at_most_mv", spread <= expect["spread_at_most_mv"], round(spread, 1))
        if "back_within_scans" in expect:
            worst = self._back_in_scans()
            good = worst is not None and worst <= expect["back_within_scans"]
            check("back_within_scans", good, worst)
        if "dropped_by_supervisor" in expect:
            dropped = world.plant.supervisor_drops > 0
            check("dropped_by_supervisor", dropped == expect["dropped_by_supervisor"], dropped)
            if seen.closed_after_restart:
                out.append("a coil went on after the restart though nobody commanded it")
        # what holds in every scenario
        if seen.wrong_values:
            out.append(f"{len(seen.wrong_values)} wrong values, first: {seen.wrong_values[0]}")
        if not seen.checked_values:
            out.append("no reading was reported at all")
        if seen.damaged_lines:
            out.append(f"{seen.damaged_lines} damaged telemetry lines")
        grown = self.allocated_per_cycle()
        if grown:
            out.append(f"the cycle allocates: {grown:.3f} bytes each")
        return out

    def _back_in_scans(self) -> float | None:
        """The longest that a restarted board took to answer, or then to be read, in scans."""
        world = self.world
        worst = None
        for n, (place, board) in enumerate(zip(world.places, world.boards, strict=True)):
            on = [p for p in world.places if p.port == place.port]
            ms = KINDS[place.kind].scan_ms(len(on), place.cells)
            period_ms = max(math.ceil(ms / 100), 1) * 100  # scans begin at the master's own
            # a scan may take a tenth longer than its wire needs
            read_us = [
                (world.events.now_us if us is None else us) / 1.1
                for k, us in world.seen.back
                if k == n
            ]
            for us in board.back_us + read_us:
                worst = max(worst or 0.0, round(us / 1000 / period_ms, 2))
        return worst

    def result(self, wall_s: float, log: str | None) -> dict[str, Any]:
        """The object that `bmsctl sim --json` prints."""
        world = self.world
        status = self._last("status")
        rounds = [x for port in world.ports.values() for x in port.bus.usage.rounds[1:]]
        scans = world.bus.usage.scan_ms or [x[0] / 1000 for x in rounds if self._apart]
        heaps = [x["heap_used"] for x in world.seen.lines if x["k"] == "mem"]
        usage = world.bus.usage
        problems = self.problems()
        return {
            "scenario": self.scenario.name,
            "ok": not problems,
            "evaluated": self.scenario.evaluated,
            "problems": problems,
            "runtime": self.setup.runtime,
            "link": self.setup.link,
            "strings": self.setup.strings,
            "slaves": self.setup.boards,
            "cells": self.setup.all_cells,
            "seed": self.setup.seed,
            "sim_s": world.events.now_us / 1e6,
            "wall_s": round(wall_s, 3),
            "scans": status.get("scans", 0),
            "scan_ms": {
                name: round(float(np.percentile(scans, part)), 3) if scans else None
                for name, part in (("p50", 50), ("p99", 99), ("max", 100))
            },
            "scan_use": _scan_use(usage, rounds),
            "bus_use": round(usage.busy_us / usage.readings_us, 3) if usage.readings_us else None,
            "frames": {
                "rx": status.get("rx", 0),
                "tx": status.get("tx", 0),
                "damaged": status.get("damaged", 0),
                "stale": status.get("stale", 0),
            },
            "trip": self.trip(),
            "spread_mv": {
                "before": round(self.spread_before_mv, 1),
                "after": round(self._spread_mv(), 1),
            },
            "alloc_bytes_per_cycle": self.allocated_per_cycle(),
            "heap_peak_bytes": max(heaps) if heaps else None,
            "log": log,
        }

    def close(self) -> None:
        """End the firmware."""
        self.world.close()
