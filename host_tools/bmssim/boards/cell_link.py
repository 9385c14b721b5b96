"""A slave board that speaks the cell link, over CAN or UART."""

from collections.abc import Callable

import numpy as np

from .. import protocol as p
from ..bus import CanBus, UartBus
from ..events import Events
from ..protocol import Frame
from .kind import Kind

SAMPLE_US = 1500  # conversion of all cells
TURNAROUND_US = 30  # a UART board's time from the request's last bit to its answer's first
BOOT_US = 150_000
FIRST_SERIAL = 0x10000  # + the node that a board has first

# What a board measures: (true voltages in V, true temperatures in degC) at this moment.
Measure = Callable[[], tuple[np.ndarray, np.ndarray]]


class CellLinkBoard:
    """One board: `cells` cells and `temps` sensors measured by `measure` with ADC noise.

    Faults to inject: `alive` (False: silent), `node` (changed: it answers for another),
    `open_cells`, `open_temps` (no reading), `says_status` (False: no STATUS), `stuck`, `hotter_c`,
    `stack_error_mv`, `alarm_high_mv` (its own limit).
    `on_sample` gets (board, mV list, 0.1 degC list, seq) at every sample. balance_mask: cells of
    the last balancing command. back_us: after each restart, from the end of its boot to its first
    answer.
    """

    # parameters: all kinds of boards are made with the same ones, and a serial number
    def __init__(
        self,
        events: Events,
        node: int,
        cells: int,
        temps: int,
        measure: Measure,
        rng: np.random.Generator,
        noise_mv: float = 0.6,
        serial: int | None = None,
    ) -> None:
        self.events = events
        self.node = node
        self.cells = cells
        self.temps = temps
        self.serial = serial if serial is not None else FIRST_SERIAL + node
        self.alive = True
        self.open_cells: set[int] = set()
        self.open_temps: set[int] = set()
        self.says_status = True
        self.alarm_high_mv = 0
        self.faults = 0
        self.hotter_c = 0  # its own temperature above the usual
        self.stack_error_mv = 0  # of its measurement of all cells together
        self.stuck: dict[int, int] = {}  # cell -> mV that it always reports
        self.balance_mask = 0
        self.balance_frames = 0
        self.watch: tuple[int, int, int] = (
            0,
            8191,
            10000,
        )  # hard bounds in mV, mV, 0.1 degC: frames beyond are marked
        self.on_sample: Callable[[CellLinkBoard, list, list, int], None] = lambda *a: None
        self._measure = measure
        self.temp_noise_dc = 0.0
        self.drift = 1.0  # how much longer its times are than they should be
        self._rng = rng
        self._noise_mv = noise_mv
        self._balance_until_us = 0
        self.back_us: list[int] = []
        self._booted_us: int | None = None
        self._seq: int | None = None
        self._ready_us = 0
        self._mv: list[int | None] = []
        self._dc: list[int | None] = []
        self.port: CanPort | UartPort | None = None

    def restart(self) -> None:
        """Lose everything and say HELLO after the boot time, as after a brown-out."""
        self.alive = False
        self.balance_mask = 0
        self._seq = None
        self.events.after(round(BOOT_US * self.drift), self._booted)

    def lose_cell(self) -> None:
        """From its next start on it brings one cell less, as another board in its place would."""
        self.cells -= 1
        whole = self._measure

        def measure() -> tuple[np.ndarray, np.ndarray]:
            volts, degrees = whole()
            return volts[:-1], degrees

        self._measure = measure

    def _booted(self) -> None:
        self.alive = True
        self._booted_us = self.events.now_us
        if isinstance(self.port, CanPort):
            self._send([self._hello()], 0)

    def balancing_cells(self) -> int:
        """Mask of the cells that are balanced now; 0 once the command has expired."""
        return (
            self.balance_mask if self.alive and self.events.now_us < self._balance_until_us else 0
        )

    def receive(self, frame: Frame) -> None:
        """One good frame from the line."""
        if not self.alive or frame.node not in (0, self.node):
            return
        if frame.function == p.SCAN and len(frame.data) == 2:
            self._scan(frame.node, frame.data[0])
        elif frame.function == p.HELLO and not frame.data:
            delay = 0 if self.node != p.UNADDRESSED else self.serial % 64 * 300
            self._send([self._hello()], delay)
        elif frame.function == p.BALANCE and len(frame.data) == 8 and p.checksum_is_good(frame):
            self.balance_mask = int.from_bytes(frame.data[:4], "little")
            self._balance_until_us = self.events.now_us + round(frame.data[4] * 1e6 * self.drift)
            self.balance_frames += 1
        elif (
            frame.function == p.ASSIGN
            and len(frame.data) == 5
            and int.from_bytes(frame.data[:4], "little") == self.serial
        ):
            self.node = frame.data[4]
            self._send([self._hello()], 0)

    def _hello(self) -> Frame:
        return p.hello_frame(self.node, self.cells, self.temps, self.serial)

    def _scan(self, node: int, seq: int) -> None:
        now = self.events.now_us
        if node == 0 or seq != self._seq:
            self._sample(seq)
        if node == 0 and isinstance(self.port, UartPort):
            return  # it samples now and answers when it is asked
        if self._booted_us is not None:
            self.back_us.append(now - self._booted_us)
            self._booted_us = None
        self._send(self._answers(), max(self._ready_us - now, 0))

    def _sample(self, seq: int) -> None:
        volts, degrees = self._measure()
        noise = self._rng.normal(0.0, self._noise_mv, self.cells)
        mv = np.rint(volts * 1000 + noise).astype(int).tolist()
        degrees = degrees[: self.temps] * 10
        if self.temp_noise_dc:
            degrees = degrees + self._rng.normal(0.0, self.temp_noise_dc, self.temps)
        dc = np.rint(degrees).astype(int).tolist()
        self._mv = [None if i in self.open_cells else v for i, v in enumerate(mv)]
        for i, value in self.stuck.items():
            self._mv[i] = value
        self._dc = [None if i in self.open_temps else v for i, v in enumerate(dc)]
        self._seq = seq
        self._ready_us = self.events.now_us + round(SAMPLE_US * self.drift)
        self.on_sample(self, self._mv, self._dc, seq)

    def _answers(self) -> list[Frame]:
        seq = self._seq or 0
        frames = []
        low, high, hottest = self.watch
        known = [v for v in self._mv if v is not None]
        if self.alarm_high_mv and known and max(known) > self.alarm_high_mv:
            cell = self._mv.index(max(known))
            frames.append(p.alarm_frame(self.node, 1, cell + 1, max(known), seq))
        wild = bool(known) and not (low <= min(known) and max(known) <= high)
        for k in range((self.cells + 3) // 4):
            four = self._mv[4 * k : 4 * k + 4]
            marked = wild and any(v is not None and not low <= v <= high for v in four)
            frames.append(p.cells_frame(self.node, k, four, seq, marked))
        hot = any(v is not None and v > hottest for v in self._dc)
        for k in range((self.temps + 3) // 4):
            four = self._dc[4 * k : 4 * k + 4]
            marked = hot and any(v is not None and v > hottest for v in four)
            frames.append(p.temps_frame(self.node, k, four, seq, marked))
        if not self.says_status:
            return frames
        balancing_cells = self.balancing_cells()
        die_c = 30 + self.hotter_c + 2 * balancing_cells.bit_count()
        duty = 100 if balancing_cells else 0
        frames.append(
            p.status_frame(
                self.node, sum(known) + self.stack_error_mv, self.faults, die_c, duty, seq
            )
        )
        return frames

    def _send(self, frames: list[Frame], delay_us: int) -> None:
        if self.port is not None:
            self.port.send(frames, delay_us)


class CanPort:
    """A board's CAN controller."""

    def __init__(self, bus: CanBus, board: CellLinkBoard) -> None:
        self._bus = bus
        self._board = board
        board.port = self
        bus.attach(self)

    def on_sent(self, frame: Frame) -> None:
        """Its own frame has left."""

    def on_frame(self, frame: Frame) -> None:
        node = frame.ident & 63
        if not node or node == self._board.node:  # most frames are those of other boards
            self._board.receive(frame)

    def send(self, frames: list[Frame], delay_us: int) -> None:
        self._board.events.after(delay_us, lambda: self._now(frames))

    def _now(self, frames: list[Frame]) -> None:
        if self._board.alive:
            for frame in frames:
                self._bus.send(frame, self)


class UartPort:
    """A board's transceiver on a UART bus; it talks only when it was asked."""

    def __init__(self, bus: UartBus, board: CellLinkBoard) -> None:
        self._bus = bus
        self._board = board
        self._piece = b""
        board.port = self
        bus.attach(self)

    def on_low(self) -> None:
        """It isn't woken so."""

    def on_bytes(self, data: bytes) -> None:
        *whole, self._piece = (self._piece + data).split(b"\0")
        for piece in whole:
            frame = p.uart_decode(piece) if piece else None
            if frame is not None:
                self._board.receive(frame)
        self._piece = self._piece[-64:]

    def send(self, frames: list[Frame], delay_us: int) -> None:
        delay_us = max(delay_us, TURNAROUND_US)
        self._bus.usage.wait(delay_us)
        self._board.events.after(delay_us, lambda: self._now(frames))

    def _now(self, frames: list[Frame]) -> None:
        if self._board.alive:
            for i, frame in enumerate(frames):
                self._bus.from_board(frame, p.uart_encode(frame), self, i == len(frames) - 1)


# parameters: all kinds of boards are made with the same ones
def _make(
    events: Events,
    bus: CanBus | UartBus,
    node: int,
    cells: int,
    temps: int,
    measure: Measure,
    rng: np.random.Generator,
    noise_mv: float,
) -> CellLinkBoard:
    board = CellLinkBoard(events, node, cells, temps, measure, rng, noise_mv)
    if isinstance(bus, CanBus):
        CanPort(bus, board)
    else:
        UartPort(bus, board)
    return board


KIND = Kind(("can", "uart"), {"can": 500_000, "uart": 1_000_000}, _make)
