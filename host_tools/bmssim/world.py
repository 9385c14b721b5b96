"""The simulated pack around the running firmware: boards, bus, plant, cells, and time.

`run` goes on to a moment, in the simulator's own time: the firmware is stepped. Where it is `paced`
that keeps to the computer's clock, or goes slower on a slow computer, so that nothing is late in
the simulated world. The firmware is a process like on a bench: bytes and pins go over `process`.
"""

import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import adapter
from .boards import cell_link, ivt_s
from .boards.kinds import KINDS, Board
from .bus import CanBus, Noise, UartBus
from .cells import CellArray, Spread
from .chemistry import CHEMISTRIES
from .events import Events
from .layout import Place, places
from .lines import LineReader
from .load import US06_CELL_AH, Charger, Profile
from .plant import Plant
from .process import (
    ALL_GOOD,
    COILS,
    HEARTBEAT,
    IN_ROOM,
    PLUS,
    STRINGS,
    Firmware,
    FirmwareDied,
    Inputs,
)
from .sensors import HALL_RANGES_A, HallRange, Sensor
from .setup import Setup

CYCLE_US = 100  # the firmware's own time for one step, where the simulator owns the clock
PHYSICS_US = 50_000
SLACK_S = 0.5  # that it may be behind the computer's clock
CAN_BPS = KINDS["cell_link"].bps["can"]
UART_BPS = KINDS["cell_link"].bps["uart"]
BALANCE_OHM = 7.0  # of one balancing resistor: about 0.5 A
BACK_LOOK_US = 10_000
BACK_POLL_US = 100_000
HISTORY = 160  # samples in which a reported value may be found: cell_age / period and some


@dataclass
class Seen:
    """What came out of the run, as the world saw it.

    coils: (us, bits of the coils that are on) at every change. closed_after_restart: a coil went on
    after a restart; died_closed: it ended by itself with a coil on; back: (board, us) from the
    first answer of a restarted board to the first sample of all its cells that the master showed,
    None while it showed none.
    """

    lines: list[dict] = field(default_factory=list)
    coils: list[tuple[int, int]] = field(default_factory=list)
    coil_off_after_us: list[int] = field(default_factory=list)
    wrong_values: list[str] = field(default_factory=list)
    checked_values: int = 0
    damaged_lines: int = 0
    deaths: list[str] = field(default_factory=list)
    restarts: int = 0
    closed_after_restart: bool = False
    died_closed: bool = False
    power_cuts: int = 0
    back: list[tuple[int, int | None]] = field(default_factory=list)


@dataclass
class Port:
    """A port of the master: what is behind it, and bytes on their way to it."""

    bus: CanBus | UartBus
    adapter: adapter.SlcanAdapter | adapter.UartPort
    inbox: bytes = b""


class World:
    """One simulated installation. Raises FirmwareDied where the firmware ends by itself.

    lines: the master's inputs, bits of process.INTERLOCK, ..; set them by `set_lines`. currents,
    voltages (one a string), link, isolation: sensors; halls: outputs of two-range Hall sensors, two
    a string, the small range first. cause: of the firmware's next start.
    program, extra: as `Firmware` takes them. mark: for test programs, see broken_firmware.py.
    on_coils gets the time (us) and the coils that are on, at every change.
    """

    def __init__(self, setup: Setup, pack: Path, hard_bounds: tuple[int, int, int]) -> None:
        self.setup = setup
        self.pack_file = pack
        self.events = Events()
        self.rng = np.random.default_rng(setup.seed)
        self.noise = Noise(np.random.default_rng(setup.seed + 1), setup.damage)
        self.seen = Seen()
        self.reader = LineReader()
        self.on_line: Callable[[dict, bytes], None] = lambda obj, raw: None
        self.on_bytes: Callable[[bytes], None] = lambda data: None
        self.typed_elsewhere: Callable[[], bytes] = lambda: b""
        self.paced = False  # keeps to the computer's clock
        self.late_s = 0.0  # what it could not
        self._make_cells()
        self.plant = Plant(setup.strings)
        self._make_sensors()
        self._make_boards(hard_bounds)
        self.profile: Profile | None = None
        self._profile_start_us: int | None = None
        if setup.load == "us06":
            self.profile = Profile.us06(setup.load_scale * setup.capacity_ah / US06_CELL_AH)
        self.load_a = setup.load_a
        self.charger: Charger | None = None
        self.lines = ALL_GOOD
        self.isolation_kohm: float = 5000.0
        self.cause = "power_on"
        self.program: Path | None = None
        self.extra: dict[str, Any] = {}
        self.mark = 0
        self.on_coils: Callable[[int, int], None] = lambda now_us, coils: None
        self._interrupt = False
        self._wired = (1 << 3 * setup.strings) - 1
        self._cells_us = 0
        self._charge_as = np.zeros(setup.strings)
        self._plant_us = 0
        self._pins = 0
        self._held = 0
        self._arrived = False
        self._typed = b""
        self.firmware: Firmware | None = None
        self._start_us = 0
        self._samples: list[deque] = [deque(maxlen=HISTORY) for _ in self.boards]
        self._answers = [0] * len(self.boards)  # first ones after restarts that `seen.back` has
        # boards that have answered, not shown yet: place in `seen.back`, when they booted, answered
        self._waits: dict[int, tuple[int, int, int]] = {}
        self._typed_cells_us = 0
        self._real_start: float | None = None
        self.events.every(PHYSICS_US, self._physics)

    # --- parts ---

    def _make_cells(self) -> None:
        s = self.setup
        count = s.all_cells
        self.cells = CellArray(
            CHEMISTRIES[s.chemistry], count, s.capacity_ah, s.soc, s.temp_c, self.rng, Spread()
        )
        for n, more in enumerate(s.string_soc):
            part = self.cells.soc[self._cells_of(n)]
            np.clip(part + more, 0.0, 1.0, out=part)
        if s.spread_mv:
            base = float(np.mean(self.cells.voltage_v()))
            # a spread of known width: evenly from lowest to highest, in random order
            steps = self.rng.permutation(np.linspace(-0.5, 0.5, count))
            for i in range(count):
                self.cells.set_voltage(i, base + steps[i] * s.spread_mv / 1000)

    def _cells_of(self, string: int) -> slice:
        n = self.setup.string_cells
        return slice(string * n, string * n + n)

    def _make_sensors(self) -> None:
        s = self.setup
        self._sensor_rng = random.Random(s.seed + 2)
        self.currents = [Sensor(noise=s.current_noise_ma) for _ in range(s.strings)]
        self.halls = [
            HallRange(a) for _ in range(s.strings if s.hall else 0) for a in HALL_RANGES_A
        ]
        self.voltages = [Sensor() for _ in range(s.strings)]
        self.link = Sensor()
        self.isolation = Sensor()
        self._drift = 1.0 + s.drift_ppm * self._sensor_rng.uniform(-1.0, 1.0) / 1e6

    @property
    def sensor_ok(self) -> bool:
        """The current sensors of all strings give samples."""
        return all(x.ok for x in self.currents)

    @sensor_ok.setter
    def sensor_ok(self, ok: bool) -> None:
        for sensor in self.currents:
            sensor.ok = ok

    def _make_boards(self, hard_bounds: tuple[int, int, int]) -> None:
        s = self.setup
        self.places = places(s)
        self._cells_at = [slice(p.first, p.first + p.cells) for p in self.places]
        self._temps_at = [
            p.first + np.arange(p.temps) * p.cells // max(p.temps, 1) for p in self.places
        ]
        self._measured_at = -1  # event of `_measured`, voltages and temperatures of all cells
        self.ports: dict[str, Port] = {}
        self.boards: list[Board] = []
        for n, place in enumerate(self.places):
            if place.port not in self.ports:
                self.ports[place.port] = self._make_port(place)
            board = KINDS[place.kind].make(
                self.events,
                self.ports[place.port].bus,
                place.node,
                place.cells,
                place.temps,
                lambda n=n: self._measure(n),
                np.random.default_rng(s.seed + 100 + n),
                s.cell_noise_mv,
            )
            board.temp_noise_dc = s.temp_noise_dc
            board.drift = 1.0 + s.drift_ppm * self._sensor_rng.uniform(-1.0, 1.0) / 1e6
            board.watch = hard_bounds
            board.on_sample = self._sampled
            self.boards.append(board)
        self.bus = self.ports[self.places[0].port].bus
        # the firmware's order: the console first, then the ports by name
        self._by_name = [self.ports[name] for name in sorted(self.ports)]
        self._sinks = [self._take_console, *(port.adapter.on_bytes for port in self._by_name)]

        if s.ivt_s and isinstance(self.bus, CanBus):
            for n in range(s.strings):
                ident = ivt_s.FIRST_ID + n * ivt_s.IDS
                ivt_s.IvtS(self.events, self.bus, ident, lambda n=n: self._string_a(n))

    def _make_port(self, place: Place) -> Port:
        bps = KINDS[place.kind].bps[place.medium]

        def deliver(data: bytes) -> None:
            port.inbox += data
            self._arrived = True

        if place.medium == "can":
            bus: CanBus | UartBus = CanBus(self.events, bps, self.noise)
            port = Port(bus, adapter.SlcanAdapter(self.events, bus, deliver, self.noise))
        else:
            bus = UartBus(self.events, bps, self.noise)
            bus.echo = self.setup.echo
            port = Port(bus, adapter.UartPort(self.events, bus, deliver))
        return port

    def _string_a(self, n: int) -> float:
        self._settle()
        noise = self._sensor_rng.gauss(0.0, self.setup.current_noise_ma) / 1000
        return self.plant.strings[n].current_a + noise

    def add_board(self, like: int) -> cell_link.CellLinkBoard:
        """One more board that measures the same cells, and has the same number, as board `like`."""
        one = self.boards[like]
        assert isinstance(one, cell_link.CellLinkBoard)
        board = cell_link.CellLinkBoard(
            self.events,
            one.node,
            one.cells,
            one.temps,
            lambda: self._measure(like),
            np.random.default_rng(self.setup.seed + 999),
            5.0,
            cell_link.FIRST_SERIAL + 999,
        )
        if isinstance(self.bus, CanBus):
            cell_link.CanPort(self.bus, board)
        else:
            cell_link.UartPort(self.bus, board)
        return board

    def _measure(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        if self._measured_at != self.events.ran:  # boards that hear one question sample together
            self._measured_at = self.events.ran
            self._physics()
            self._measured = self.cells.voltage_v(), self.cells.temp_c
        volts, degrees = self._measured
        return volts[self._cells_at[n]], degrees[self._temps_at[n]]

    def _sampled(self, board: Any, mv: list, dc: list, seq: int) -> None:
        self._samples[self.boards.index(board)].append((mv, dc, self.events.now_us))

    def watch_back(self) -> None:
        """Find out when the master shows what a restarted board measured: fills `seen.back`."""
        self.events.every(BACK_LOOK_US, self._look_back)

    def _look_back(self) -> None:
        now = self.events.now_us
        for n, board in enumerate(self.boards):
            if len(board.back_us) > self._answers[n]:
                self._answers[n] = len(board.back_us)
                self._waits[n] = (len(self.seen.back), now - board.back_us[-1] - BACK_LOOK_US, now)
                self.seen.back.append((n, None))
        if self._waits and now - self._typed_cells_us >= BACK_POLL_US:
            self._typed_cells_us = now
            self.type("cells")

    def _shown(self, n: int, cell_mv: list) -> None:
        """Note where these cells are what a board sampled since it restarted.

        A board's few cells may read as before by chance: then it seems to be back too early.
        """
        at, booted_us, answered_us = self._waits[n]
        far = self._tolerance(n, 0)
        times = [
            us
            for mv, _dc, us in self._samples[n]
            if us >= booted_us
            and all(
                a is not None and b is not None and abs(a - b) <= far
                for a, b in zip(mv, cell_mv, strict=True)
            )
        ]
        if times:
            self.seen.back[at] = (n, max(times[0] - answered_us, 0))
            del self._waits[n]

    @property
    def violation_us(self) -> int | None:
        """When the first reading out of its hard bounds was on a line, None = none was."""
        seen = [port.bus.usage.violation_us for port in self.ports.values()]
        return min((us for us in seen if us is not None), default=None)

    # --- physics ---

    def _settle(self) -> None:
        """Bring the plant to this moment."""
        now = self.events.now_us
        if now > self._plant_us:
            dt_s = (now - self._plant_us) / 1e6
            for n, string in enumerate(self.plant.strings):
                self._charge_as[n] += string.current_a * dt_s
            self.plant.advance(now)
            self._plant_us = now

    def _physics(self) -> None:
        """Bring the cells to this moment with the charge that has flowed."""
        now = self.events.now_us
        self._load()
        self._settle()
        dt = (now - self._cells_us) / 1e6
        each = self.setup.string_cells
        if dt > 0:
            balance_a = np.zeros(self.setup.all_cells)
            volts = None
            for n, board in enumerate(self.boards):
                mask = board.balancing_cells()
                if mask and volts is None:
                    volts = self.cells.voltage_v()
                while mask and volts is not None:
                    bit = mask & -mask
                    i = self.places[n].first + bit.bit_length() - 1
                    balance_a[i] = volts[i] / BALANCE_OHM
                    mask ^= bit
            self.cells.step(dt, np.repeat(self._charge_as / dt, each), balance_a)
            self._cells_us = now
            self._charge_as[:] = 0.0
        emf = self.cells.emf_v().reshape(self.setup.strings, each).sum(axis=1)
        ohm = self.cells.ohm().reshape(self.setup.strings, each).sum(axis=1)
        self.plant.set_cells(emf.tolist(), ohm.tolist())
        self.plant.set_load(now, self._wanted_a)

    def _load(self) -> None:
        a = self.load_a
        if self.profile is not None and self.plant.is_closed:
            if self._profile_start_us is None:
                self._profile_start_us = self.events.now_us
            a += self.profile.current_a(
                (self.events.now_us - self._profile_start_us) / 1e6 + self.setup.load_start_s
            )
        if self.charger is not None and self.plant.is_closed:
            highest_v = float(np.max(self.cells.voltage_v()))
            a += self.charger.current_a(self.events.now_us, highest_v)
        self._wanted_a = a
        self.plant.set_load(self.events.now_us, a)

    # --- the firmware's side ---

    def boot(self) -> None:
        """Start the firmware."""
        self.events.now_us = max(self.events.now_us, 0)
        self._physics()
        s = self.setup
        store = None
        if s.store:
            store = self.pack_file.parent / "store"
            store.mkdir(exist_ok=True)
        self.firmware = Firmware(
            s.runtime,
            True,
            {place.port: place.medium for place in self.places},
            self.pack_file,
            store=store,
            program=self.program,
            extra={**self.extra, "adcs": len(self.halls)} if self.halls else self.extra,
        )
        self._start_us = self.events.now_us
        self.reader = LineReader()
        for port in self.ports.values():
            port.inbox = b""
        self._arrived = False
        self.firmware.share_cpu()

    def kill(self) -> None:
        """The firmware dies at once: its outputs stay as they are, its heartbeat stops."""
        if self.firmware is not None:
            self.firmware.kill()
            self.firmware.close()
            self.firmware = None

    def restart(self) -> None:
        """Power comes back."""
        self.seen.restarts += 1
        self.boot()

    def set_load(self, current_a: float) -> None:
        """Another constant load or charger from now on, + = charge."""
        self.load_a = current_a
        self._physics()

    def short(self, ohm: float | None) -> None:
        """A short across the DC link, None = none."""
        self._settle()
        self.plant.link_short_ohm = ohm
        self._physics()

    def hold_link(self, v: float, ohm: float) -> None:
        """A charger holds the DC link at a voltage, behind a resistance."""
        self._settle()
        self.plant.link_source = v, ohm
        self._physics()

    def set_lines(self, bits: int, on: bool) -> None:
        """Change inputs of the master, process.INTERLOCK, ..; it sees it at once."""
        self.lines = self.lines | bits if on else self.lines & ~bits
        self._interrupt = True

    def type(self, command: str) -> None:
        """Type a command on the master's console."""
        self._typed += command.encode() + b"\n"

    def close(self) -> None:
        """End everything."""
        self.kill()

    def _inputs(self) -> Inputs:
        self._settle()
        plant = self.plant
        rng = self._sensor_rng
        return Inputs(
            feedback=plant.feedback(),
            wired=self._wired,
            lines=self.lines,
            current_ma=[
                sensor.read(string.current_a * 1000, rng)
                for sensor, string in zip(self.currents, plant.strings, strict=True)
            ],
            string_mv=[
                sensor.read(plant.terminal_v(n) * 1000, rng)
                for n, sensor in enumerate(self.voltages)
            ],
            link_mv=self.link.read(plant.link_v * 1000, rng),
            isolation_kohm=self.isolation.read(self.isolation_kohm, rng),
            adc_mv=[
                hall.mv(plant.strings[n // 2].current_a, rng) for n, hall in enumerate(self.halls)
            ],
            cause=self.cause,
            mark=self.mark,
        )

    def _take_pins(self, pins: int, held: int = 0) -> None:
        now = self.events.now_us
        changed = pins ^ self._pins
        if not changed and held == self._held:
            return
        self._settle()
        if changed & HEARTBEAT:
            self.plant.heartbeat(now)
        if changed & COILS or held != self._held:
            self.seen.coils.append((now, pins & COILS))
            if any((self._pins & ~pins) >> 3 * s & PLUS for s in range(STRINGS)):
                self.seen.coil_off_after_us.append(now)
            if pins & COILS and self.seen.restarts:
                self.seen.closed_after_restart = True
            self.plant.set_coils(now, pins & COILS, held)
            self._watch_plant()
            self.on_coils(now, pins & COILS)
        self._pins = pins
        self._held = held

    def _watch_plant(self) -> None:
        # contactors travel and the supervisor drops by themselves: be there when they do
        due = self.plant.next_change_us()
        if due is not None and due > self.events.now_us:
            self.events.at(due, self._plant_due)

    def _plant_due(self) -> None:
        self._settle()
        self._watch_plant()

    def _take_console(self, data: bytes) -> None:
        """Console bytes of the firmware."""
        self.on_bytes(data)
        for line in self.reader.feed(data):
            if line.obj is not None:
                self.seen.lines.append(line.obj)
                self._check(line.obj)
                if self.charger is not None and line.obj["k"] == "power":
                    self.charger.report(self.events.now_us, line.obj["charge_ma"])
                self.on_line(line.obj, line.raw)
            elif line.kind == "damaged":
                self.seen.damaged_lines += 1

    def _check(self, obj: dict) -> None:
        """Every reported reading must be one that its board really sampled a moment ago."""
        if obj["k"] != "cells":
            return
        n = obj["slave"] - 1
        if n in self._waits:
            self._shown(n, obj["cell_mv"])
        for key, which in (("cell_mv", 0), ("temp_dc", 1)):
            for i, value in enumerate(obj[key]):
                if value is None:
                    continue
                self.seen.checked_values += 1
                far = self._tolerance(n, which)
                if not any(
                    i < len(sample[which])
                    and sample[which][i] is not None
                    and abs(sample[which][i] - value) <= far
                    for sample in reversed(self._samples[n])
                ):
                    self.seen.wrong_values.append(
                        f"{obj['t_ms']} ms: slave {n + 1} {key}[{i}] = {value}"
                    )

    def _tolerance(self, n: int, which: int) -> int:
        """Allowed difference from the sample (mV, 0.1 degC); 0 where the kind does not round."""
        board = self.boards[n]
        if isinstance(board, cell_link.CellLinkBoard):
            return 0
        return board.TOLERANCE_DC if which else board.TOLERANCE_MV

    # --- time ---

    def run(self, until_us: int) -> None:
        """Go on to `until_us`."""
        while self.events.now_us < until_us:
            firmware = self.firmware
            if firmware is None:
                if not self.events.run_next(until_us) and self.events.now_us >= until_us:
                    return
                continue
            try:
                request = firmware.request()
            except FirmwareDied as death:
                self._died(death)
                continue
            for sink, data in zip(self._sinks, request.written, strict=True):
                if data:
                    sink(data)
            self._hold_low(request.lows)
            self._take_pins(request.pins, request.held)
            if request.lost:
                self._lose_power()
                continue
            if request.wait_ms is None:
                continue
            now = self.events.now_us
            deadline = max(self._after_ms(now, request.wait_ms), now + CYCLE_US)
            while self.firmware is firmware and not self._arrived and not self._interrupt:
                if not self.events.run_next(deadline):
                    break
            if self.firmware is not firmware:
                continue
            self._arrived = False
            self._interrupt = False
            if self.paced:
                self._keep_pace()
            pending = [self._typed[:IN_ROOM]]
            self._typed = self._typed[IN_ROOM:]
            for port in self._by_name:
                pending.append(port.inbox[:IN_ROOM])
                port.inbox = port.inbox[IN_ROOM:]
                if port.inbox:
                    self._arrived = True
            firmware.go(self._firmware_us(self.events.now_us), self._inputs(), pending)

    def _keep_pace(self) -> None:
        """Wait for the computer's clock; where that is ahead, the simulation goes slower."""
        now = time.monotonic()
        if self._real_start is None:
            self._real_start = now - self.events.now_us / 1e6
        ahead = self._real_start + self.events.now_us / 1e6 - now
        if ahead > 0:
            time.sleep(ahead)
        elif ahead < -SLACK_S:
            self.late_s -= ahead
            self._real_start -= ahead
        self._typed += self.typed_elsewhere()

    def _hold_low(self, lows: int) -> None:
        """The master holds serial lines low, which wakes some boards."""
        for i, name in enumerate(self.ports if lows else (), 1):
            bus = self.ports[name].bus
            if lows >> i & 1 and isinstance(bus, UartBus):
                bus.low()

    def _firmware_us(self, now_us: int) -> int:
        """The master's own clock, which drifts."""
        return int(now_us * self._drift)

    def _after_ms(self, now_us: int, wait_ms: int) -> int:
        """When `wait_ms` more are over by the master's clock."""
        then = (self._firmware_us(now_us) // 1000 + wait_ms) * 1000
        return then if self._drift == 1.0 else math.ceil(then / self._drift)

    def _lose_power(self) -> None:
        """The firmware and its outputs are gone in the middle of what it did."""
        self.seen.power_cuts += 1
        self.kill()
        self._take_pins(self._pins & HEARTBEAT)

    def _died(self, death: FirmwareDied) -> None:
        if self.firmware is not None:
            self.firmware.close()
            self.firmware = None
        self.seen.died_closed = self.seen.died_closed or bool(self._pins & COILS)
        self._take_pins(self._pins & HEARTBEAT)
        if death.code == 3:  # `reset yes`
            self.cause = "reset"
            self.restart()
            return
        if death.code:
            self.seen.deaths.append(str(death))
            raise death
