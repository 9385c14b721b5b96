"""The simulated pack around the running firmware: boards, bus, plant, cells, and time.

`run` goes on to a moment, either in the simulator's own time (the firmware is stepped) or in real
time. The firmware is a process like on a bench: bytes over pseudo-terminals, pins over `process`.
"""

import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import adapter
from .boards import cell_link
from .bus import CanBus, Noise, UartBus
from .cells import CellArray, Spread
from .chemistry import CHEMISTRIES
from .events import Events
from .lines import LineReader
from .load import US06_CELL_AH, Profile
from .plant import Plant
from .process import HEARTBEAT, MINUS, PLUS, PRECHARGE, Firmware, FirmwareDied, Inputs

CYCLE_US = 100  # the firmware's own time for one step, where the simulator owns the clock
PHYSICS_US = 50_000
REAL_INPUTS_US = 10_000
CAN_BPS = 500_000
UART_BPS = 1_000_000
BLEED_OHM = 7.0  # of one balancing resistor: about 0.5 A
HISTORY = 8  # samples in which a reported value may be found: cell_age / period and some


@dataclass
class Setup:
    """What is simulated.

    capacity_ah of a cell; soc 0..1; spread_mv from the lowest to the highest cell at the start;
    temp_c of the surroundings; damage: share of frames hit; load "us06" or "none", load_scale of
    it, load_start_s into it; load_a: a constant current besides, + = charge.
    """

    link: str = "can"
    slaves: int = 4
    cells: int = 16
    temps: int = 4
    chemistry: str = "LFP"
    capacity_ah: float = 50.0
    soc: float = 0.6
    spread_mv: float = 0.0
    temp_c: float = 25.0
    damage: float = 0.0
    seed: int = 1
    load: str = "none"
    load_scale: float = 1.0
    load_start_s: float = 0.0
    load_a: float = 0.0
    runtime: str = "micropython"
    fast: bool = True

    @property
    def port(self) -> str:
        return "can0" if self.link == "can" else "uart0"


@dataclass
class Seen:
    """What came out of the run, as the world saw it."""

    lines: list[dict] = field(default_factory=list)
    coil_off_after_us: list[int] = field(default_factory=list)
    wrong_values: list[str] = field(default_factory=list)
    checked_values: int = 0
    damaged_lines: int = 0
    deaths: list[str] = field(default_factory=list)
    restarts: int = 0
    closed_after_restart: bool = False


class World:
    """One simulated installation. Raises FirmwareDied where the firmware ends by itself."""

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
        self._make_cells()
        self.plant = Plant()
        self._make_boards(hard_bounds)
        self.profile: Profile | None = None
        self._profile_start_us: int | None = None
        if setup.load == "us06":
            self.profile = Profile.us06(setup.load_scale * setup.capacity_ah / US06_CELL_AH)
        self.load_a = setup.load_a
        self.sensor_ok = True
        self.link_ok = True
        self._cells_us = 0
        self._charge_as = 0.0
        self._plant_us = 0
        self._voltage_v = 0.0  # of all cells, at the last physics step
        self._pins = 0
        self._inbox = b""
        self._typed = b""
        self.firmware: Firmware | None = None
        self._start_us = 0
        self._samples: list[deque] = [deque(maxlen=HISTORY) for _ in range(setup.slaves)]
        self._real_start: float | None = None
        self.events.every(PHYSICS_US, self._physics)

    # --- parts ---

    def _make_cells(self) -> None:
        s = self.setup
        count = s.slaves * s.cells
        self.cells = CellArray(
            CHEMISTRIES[s.chemistry], count, s.capacity_ah, s.soc, s.temp_c, self.rng, Spread()
        )
        if s.spread_mv:
            base = float(np.mean(self.cells.voltage_v()))
            # a spread of known width: evenly from lowest to highest, in random order
            steps = self.rng.permutation(np.linspace(-0.5, 0.5, count))
            for i in range(count):
                self.cells.set_voltage(i, base + steps[i] * s.spread_mv / 1000)

    def _make_boards(self, hard_bounds: tuple[int, int, int]) -> None:
        s = self.setup
        if s.link == "can":
            self.bus: CanBus | UartBus = CanBus(self.events, CAN_BPS, self.noise)
            self.port = adapter.SlcanAdapter(self.events, self.bus, self._deliver, self.noise)
        else:
            self.bus = UartBus(self.events, UART_BPS, self.noise)
            self.port = adapter.UartPort(self.events, self.bus, self._deliver)
        self.boards: list[cell_link.CellLinkBoard] = []
        for n in range(s.slaves):
            board = cell_link.CellLinkBoard(
                self.events,
                n + 1,
                s.cells,
                s.temps,
                lambda n=n: self._measure(n),
                np.random.default_rng(s.seed + 100 + n),
            )
            board.watch = hard_bounds
            board.on_sample = self._sampled
            if isinstance(self.bus, CanBus):
                cell_link.CanPort(self.bus, board)
            else:
                cell_link.UartPort(self.bus, board)
            self.boards.append(board)

    def _measure(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        self._physics()
        cells, temps = self.setup.cells, self.setup.temps
        first = n * cells
        where = first + np.arange(temps) * cells // max(temps, 1)
        return self.cells.voltage_v()[first : first + cells], self.cells.temp_c[where]

    def _sampled(self, board: cell_link.CellLinkBoard, mv: list, dc: list, seq: int) -> None:
        self._samples[self.boards.index(board)].append((mv, dc))

    def _deliver(self, data: bytes) -> None:
        self._inbox += data

    # --- physics ---

    def _settle(self) -> None:
        """Bring the plant to this moment."""
        now = self.events.now_us
        if now > self._plant_us:
            current_a = self.plant.current_a
            self.plant.advance(now, self._voltage_v)
            self._charge_as += current_a * (now - self._plant_us) / 1e6
            self._plant_us = now

    def _physics(self) -> None:
        """Bring the cells to this moment with the charge that has flowed."""
        now = self.events.now_us
        self._load()
        self._settle()
        dt = (now - self._cells_us) / 1e6
        if dt > 0:
            bleed = np.zeros(self.setup.slaves * self.setup.cells)
            volts = self.cells.voltage_v()
            for n, board in enumerate(self.boards):
                mask = board.bleeding()
                while mask:
                    bit = mask & -mask
                    i = n * self.setup.cells + bit.bit_length() - 1
                    bleed[i] = volts[i] / BLEED_OHM
                    mask ^= bit
            self.cells.step(dt, self._charge_as / dt, bleed)
            self._cells_us = now
            self._charge_as = 0.0
        self._voltage_v = float(np.sum(self.cells.voltage_v()))

    def _load(self) -> None:
        a = self.load_a
        if self.profile is not None and self.plant.is_closed:
            if self._profile_start_us is None:
                self._profile_start_us = self.events.now_us
            a += self.profile.current_a(
                (self.events.now_us - self._profile_start_us) / 1e6 + self.setup.load_start_s
            )
        self.plant.set_load(self.events.now_us, a)

    # --- the firmware's side ---

    def boot(self) -> None:
        """Start the firmware."""
        self.events.now_us = max(self.events.now_us, 0)
        self._physics()
        self.plant.advance(self.events.now_us, self._voltage_v)
        s = self.setup
        self.firmware = Firmware(s.runtime, s.fast, {s.port: s.link}, self.pack_file)
        self._start_us = self.events.now_us
        self.reader = LineReader()
        self._inbox = b""
        if s.fast:
            self.firmware.share_cpu()

    def kill(self) -> None:
        """The firmware dies at once; its pins fall to off, its heartbeat stops."""
        if self.firmware is not None:
            self.firmware.kill()
            self.firmware.close()
            self.firmware = None

    def restart(self) -> None:
        """Power comes back."""
        self.seen.restarts += 1
        self.boot()

    def type(self, command: str) -> None:
        """Type a command on the master's console."""
        self._typed += command.encode() + b"\n"

    def close(self) -> None:
        """End everything."""
        self.kill()

    def _inputs(self) -> Inputs:
        self._settle()
        plant = self.plant
        bits = plant.aux("minus") | plant.aux("precharge") << 1 | plant.aux("plus") << 2
        return Inputs(
            feedback=int(bits),
            wired=MINUS | PRECHARGE | PLUS,
            current_ma=round(plant.current_a * 1000) if self.sensor_ok else None,
            link_mv=round(plant.link_v * 1000) if self.link_ok else None,
        )

    def _take_pins(self, pins: int) -> None:
        now = self.events.now_us
        changed = pins ^ self._pins
        if not changed:
            return
        self._settle()
        if changed & HEARTBEAT:
            self.plant.heartbeat(now)
        if changed & 7:
            if self._pins & PLUS and not pins & PLUS:
                self.seen.coil_off_after_us.append(now)
            if pins & 7 and self.seen.restarts:
                self.seen.closed_after_restart = True
            self.plant.set_coils(now, bool(pins & MINUS), bool(pins & PRECHARGE), bool(pins & PLUS))
            self._watch_plant()
        self._pins = pins

    def _watch_plant(self) -> None:
        # contactors travel and the supervisor drops by themselves: be there when they do
        due = self.plant.next_change_us()
        if due is not None and due > self.events.now_us:
            self.events.at(due, self._plant_due)

    def _plant_due(self) -> None:
        self._settle()
        self._watch_plant()

    def _heard(self, data: bytes) -> None:
        """Console bytes of the firmware."""
        self.on_bytes(data)
        for line in self.reader.feed(data):
            if line.obj is not None:
                self.seen.lines.append(line.obj)
                self._check(line.obj)
                self.on_line(line.obj, line.raw)
            elif line.kind == "damaged":
                self.seen.damaged_lines += 1

    def _check(self, obj: dict) -> None:
        """Every reported reading must be one that its board really sampled a moment ago."""
        if obj["k"] != "cells":
            return
        n = obj["slave"] - 1
        for key, which in (("cell_mv", 0), ("temp_dc", 1)):
            for i, value in enumerate(obj[key]):
                if value is None:
                    continue
                self.seen.checked_values += 1
                if all(sample[which][i] != value for sample in self._samples[n]):
                    self.seen.wrong_values.append(
                        f"{obj['t_ms']} ms: slave {n + 1} {key}[{i}] = {value}"
                    )

    # --- time ---

    def run(self, until_us: int) -> None:
        """Go on to `until_us`."""
        if self.setup.fast:
            self._run_stepped(until_us)
        else:
            self._run_real(until_us)

    def _run_stepped(self, until_us: int) -> None:
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
            for i, terminal in enumerate(firmware.terminals):
                if request.written[i]:
                    data = terminal.read_exactly(request.written[i])
                    if i:
                        self.port.on_bytes(data)
                    else:
                        self._heard(data)
            self._take_pins(request.pins)
            if request.wait_ms is None:
                continue
            now = self.events.now_us
            deadline = max((now // 1000 + request.wait_ms) * 1000, now + CYCLE_US)
            while self.firmware is firmware and not self._inbox:
                if not self.events.run_next(deadline):
                    break
            if self.firmware is not firmware:
                continue
            pending = [len(self._typed), len(self._inbox)]
            firmware.console.write(self._typed)
            firmware.terminals[1].write(self._inbox)
            self._typed = self._inbox = b""
            firmware.go(self.events.now_us, self._inputs(), pending)

    def _died(self, death: FirmwareDied) -> None:
        if self.firmware is not None:
            self.firmware.close()
            self.firmware = None
        self._take_pins(self._pins & HEARTBEAT)
        if death.code == 3:  # `reset yes`
            self.restart()
            return
        if death.code:
            self.seen.deaths.append(str(death))
            raise death

    def _run_real(self, until_us: int) -> None:
        if self._real_start is None:
            self._real_start = time.monotonic() - self.events.now_us / 1e6
            self.events.every(REAL_INPUTS_US, self._say_inputs)
        while self.events.now_us < until_us:
            now = min(round((time.monotonic() - self._real_start) * 1e6), until_us)
            while self.events.run_next(now):
                pass
            firmware = self.firmware
            if firmware is not None:
                self._exchange_real(firmware)
            due = min(self.events.next_us() or until_us, until_us)
            wait = self._real_start + due / 1e6 - time.monotonic()
            fds = [] if self.firmware is None else [self.firmware.io_fd]
            if self.firmware is not None:
                fds += [t.master for t in self.firmware.terminals]
            if wait > 0:
                select.select(fds, [], [], wait)

    def _exchange_real(self, firmware: Firmware) -> None:
        try:
            while firmware.readable():
                self._take_pins(firmware.request().pins)
        except FirmwareDied as death:
            self._died(death)
            return
        console, port = firmware.terminals
        data = console.read_now()
        if data:
            self._heard(data)
        data = port.read_now()
        if data:
            self.port.on_bytes(data)
        self._typed += self.typed_elsewhere()
        if self._typed:
            self._typed = self._typed[console.write(self._typed) :]
        if self._inbox:
            self._inbox = self._inbox[port.write(self._inbox) :]

    def _say_inputs(self) -> None:
        if self.firmware is not None:
            try:
                self.firmware.go(self.events.now_us, self._inputs(), [])
            except FirmwareDied as death:
                self._died(death)
