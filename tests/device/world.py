"""`bmssim`'s world around the emulated board instead of around a process of this computer."""

import hashlib
import re
from pathlib import Path

from bmsctl import board_files, flashing, pack_copies, slots
from bmssim.bus import CanBus, UartBus
from bmssim.plant import NAMES
from bmssim.process import HEARTBEAT
from bmssim.protocol import Frame
from bmssim.setup import Setup
from bmssim.world import World
from emulated import Pico
from mcp2515_chip import Mcp2515Chip

# of the first string; a second has the pins of the UARTs
COILS = (11, 12, 13, 8, 9, 10)
FEEDBACK = (14, 15, 21, 0, 1, 2)
INPUTS = (3, 6, 7, 28, 27)  # bits of `World.lines`, high = good or there
HEARTBEAT_PIN = 22
CAN_CS, CAN_INT = 17, 20
PWM_FUNCTION = 4  # RP2040 datasheet 2.19.2
PWM_NS = 75_000  # longer than a period: an output that PWM drives is off
START = b"import sys\nsys.path.insert(0, '/a')\nimport %s\n"


class CanController:
    """The MCP2515 as a node of the bus."""

    def __init__(self, world: "EmulatedWorld", bus: CanBus) -> None:
        self.chip = Mcp2515Chip(self._send, world.can_interrupt)
        self._world = world
        self._bus = bus
        bus.attach(self)

    def _send(self, ident: int, data: bytes) -> None:
        self._world.synchronise()
        self._bus.send(Frame(ident, data), self)
        self._world.arm()

    def on_sent(self, frame: Frame) -> None:
        self.chip.sent()

    def on_frame(self, frame: Frame) -> None:
        self.chip.receive(frame.ident, frame.data)


class EmulatedWorld(World):
    """A world whose firmware runs on `Pico`; `image` is MicroPython's image of RPI_PICO."""

    image: Path
    frozen = False  # the image holds the firmware: the file system has the pack file only

    def __init__(self, setup: Setup, pack: Path, hard_bounds: tuple[int, int, int]) -> None:
        self.pico: Pico | None = None
        self.extra_files: dict[str, bytes] = {}
        super().__init__(setup, pack, hard_bounds)

    def boot(self) -> None:
        # what a test runs beside the firmware finds it by its names
        scripts = [data for name, data in self.extra_files.items() if name.endswith(".py")]
        kept = re.findall(r"\w+", b" ".join(scripts).decode())
        compiled = slots.with_sums(board_files.compiled(board_files.load("RPI_PICO"), kept))
        # as `bmsctl flash` leaves the board
        slot = {**compiled, **pack_copies.files(self.pack_file.read_bytes())}
        shas = {path: hashlib.sha256(data).hexdigest() for path, data in slot.items()}
        files = {f"a/{path}": data for path, data in slot.items()}
        files["a/marker"] = slots.marker(1, shas).encode()
        files["main.py"] = flashing.SWITCH.read_bytes()
        if self.frozen:
            files = {slots.PACK: self.pack_file.read_bytes()}
        files.update(self.extra_files)
        pico = Pico(self.image, files)
        self.pico = pico
        self.firmware = self  # type: ignore[assignment]
        pico.on_console = self._console
        self._wake = pico.clock.create_alarm(self._woken)
        if isinstance(self.bus, CanBus):
            self.controller = CanController(self, self.bus)
            pico.attach_spi(0, CAN_CS, self.controller.chip)
            pico.pin(CAN_INT, True)
        else:
            self._attach_uart(self.bus)
        for bit, number in enumerate(COILS[: 3 * self.setup.strings]):
            self._coil(number, 1 << bit)
        pico.watch(HEARTBEAT_PIN, lambda level: self._pin(HEARTBEAT, level))
        self._set_inputs()
        self._physics()
        self._refresh()
        self.arm()

    def _attach_uart(self, bus: UartBus) -> None:
        assert self.pico is not None
        uart = self.pico.uarts[0]

        def from_master(byte: int) -> None:
            self.synchronise()
            bus.from_master(bytes([byte]))
            self.arm()

        uart.on_byte = from_master

        def to_master(data: bytes, last: bool) -> None:
            for byte in data:
                uart.feed_byte(byte)

        bus.to_master = to_master

    def can_interrupt(self, low: bool) -> None:
        """The chip's INT output."""
        if self.pico is not None:
            self.pico.pin(CAN_INT, not low)

    def _console(self, data: bytes) -> None:
        self.synchronise()
        self._take_console(data)

    def _pin(self, mask: int, level: bool) -> None:
        self.synchronise()
        self._take_pins(self._pins | mask if level else self._pins & ~mask)
        self.arm()

    def _coil(self, number: int, mask: int) -> None:
        assert self.pico is not None
        gpio = self.pico.mcu.gpio[number]
        off = self.pico.clock.create_alarm(lambda: self._pin(mask, False))

        def changed(level: bool) -> None:
            off.cancel()
            if not level and gpio.function_select == PWM_FUNCTION:
                off.schedule(PWM_NS)
            else:
                self._pin(mask, level)

        self.pico.watch(number, changed)

    def set_lines(self, bits: int, on: bool) -> None:
        """Change inputs of the master; the level changes at its pin at once."""
        self.lines = self.lines | bits if on else self.lines & ~bits
        self._set_inputs()

    def _set_inputs(self) -> None:
        assert self.pico is not None
        for bit, number in enumerate(INPUTS):
            self.pico.pin(number, bool(self.lines >> bit & 1))

    def type(self, command: str) -> None:
        assert self.pico is not None
        self.pico.type(command.encode() + b"\n")

    def kill(self) -> None:
        self.firmware = None
        self.pico = None

    # --- time ---

    def synchronise(self) -> None:
        """Let everything happen that is due by the board's time."""
        if self.pico is not None:
            now = self.pico.now_us
            while self.events.run_next(now):
                pass

    def arm(self) -> None:
        """Wake up when the next event is due."""
        due = self.events.next_us()
        if due is not None and self.pico is not None:
            self._wake.cancel()
            self._wake.schedule(max(due * 1000 - self.pico.clock.nanos, 0))

    def _woken(self) -> None:
        self.synchronise()
        self._refresh()
        self.arm()

    def _refresh(self) -> None:
        """Show the auxiliary contacts to the board: a closed one pulls its pin low."""
        assert self.pico is not None
        for i in range(3 * self.setup.strings):
            self.pico.pin(FEEDBACK[i], not self.plant.aux(NAMES[i % 3], i // 3))

    def run(self, until_us: int) -> None:
        assert self.pico is not None
        self.pico.run_until(until_us)
        self.synchronise()
