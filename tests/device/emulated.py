"""An emulated Raspberry Pi Pico (`rp2040py`) with a real MicroPython image and our firmware on it.

Corrections to the emulator are made here and only here; each names what it corrects.
"""

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from littlefs import LittleFS
from rp2040py.boards import BoardSpec, build_rp2040_from_spec
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.device.load_flash import load_uf2
from rp2040py.execute_batch import execute_batch
from rp2040py.peripherals.uart import RPUART
from rp2040py.simulator import Simulator
from rp2040py.usb.cdc import USBCDC
from rp2040py.utils.logging import ConsoleLogger, LogLevel

FLASH_START = 0x10000000
# MicroPython's RPI_PICO board: 2 MiB of flash, the last 1408 KiB of it a file system
FS_OFFSET = 0x200000 - 1408 * 1024
FS_BLOCK = 4096
FS_BLOCKS = 352
LITTLEFS_2_0 = 0x00020000

# the stack of core 0, which grows down from the end of RAM (`ports/rp2/memmap_mp_rp2040.ld`)
RAM_START = 0x20000000
STACK_TOP, STACK_BYTES = 0x20042000, 0x2000
STACK_FILL = 0xA5

# PL011 (RP2040 datasheet 4.2.8)
DR, FR, IFLS, IMSC, RIS, MIS, ICR = 0x00, 0x18, 0x34, 0x38, 0x3C, 0x40, 0x44
RX, TX, RT = 1 << 4, 1 << 5, 1 << 6
FIFO_BYTES = 32
LEVELS = (4, 8, 16, 24, 28)

# the ADC's channel of the chip's temperature sensor; 0.706 V of 3.3 V (4.9.5)
ADC_TEMPERATURE = 4
DEGC_27 = 876


class Uart(RPUART):
    """`RPUART` with a transmit FIFO and PL011's interrupts.

    The emulator's own raises the transmit interrupt whatever the FIFO holds, again as soon as it
    is cleared, and MicroPython's driver never leaves its interrupt handler. It has no receive
    time-out either: fewer bytes than the FIFO's level are never seen.
    """

    def __init__(self, rp2040: Any, name: str, irq: int, dreq: Any) -> None:
        super().__init__(rp2040, name, irq, dreq)
        self._out: deque[int] = deque()
        self._shifting = False
        self._ifls = 0x12
        self._status = 0
        self._mask = 0
        self._shift_alarm = rp2040.clock.create_alarm(self._shifted)
        self._idle_alarm = rp2040.clock.create_alarm(self._idle)

    def _byte_nanos(self) -> float:
        return 10e9 / self.baud_rate

    def _update(self) -> None:
        self.rp2040.set_interrupt(self.irq, bool(self._status & self._mask))

    def check_interrupts(self) -> None:
        self._update()

    def _shifted(self) -> None:
        byte = self._out.popleft()
        if len(self._out) == LEVELS[self._ifls & 7]:
            self._status |= TX
        if not self._out:
            self._status |= TX
            self._shifting = False
        else:
            self._shift_alarm.schedule(self._byte_nanos())
        self._update()
        if self.on_byte:
            self.on_byte(byte)

    def _idle(self) -> None:
        if not self.rx_fifo.empty:
            self._status |= RT
            self._update()

    def feed_byte(self, value: int) -> None:
        self.rx_fifo.push(value)
        if self.rx_fifo.item_count >= LEVELS[self._ifls >> 3 & 7]:
            self._status |= RX
        self._idle_alarm.cancel()
        self._idle_alarm.schedule(3.2 * self._byte_nanos())
        self._update()

    def read_uint32(self, offset: int) -> int:
        if offset == DR:
            value = self.rx_fifo.pull()
            if self.rx_fifo.item_count < LEVELS[self._ifls >> 3 & 7]:
                self._status &= ~RX
            if self.rx_fifo.empty:
                self._status &= ~RT
            self._update()
            return value
        if offset == FR:
            full = len(self._out) >= FIFO_BYTES
            return (
                (1 << 6 if self.rx_fifo.full else 0)
                | (1 << 4 if self.rx_fifo.empty else 0)
                | (1 << 5 if full else 0)
                | (0 if self._out else 1 << 7)
                | (1 << 3 if self._shifting else 0)
            )
        if offset == IFLS:
            return self._ifls
        if offset == IMSC:
            return self._mask
        if offset == RIS:
            return self._status
        if offset == MIS:
            return self._status & self._mask
        return super().read_uint32(offset)

    def write_uint32(self, offset: int, value: int) -> None:
        if offset == DR:
            if len(self._out) < FIFO_BYTES:
                self._out.append(value & 0xFF)
            if len(self._out) > LEVELS[self._ifls & 7]:
                self._status &= ~TX
            if not self._shifting:
                self._shifting = True
                self._shift_alarm.schedule(self._byte_nanos())
            self._update()
        elif offset == IFLS:
            self._ifls = value
        elif offset == IMSC:
            self._mask = value & 0x7FF
            self._update()
        elif offset == ICR:
            self._status &= ~self.raw_write_value
            self._update()
        else:
            super().write_uint32(offset, value)


class SpiChip(Protocol):
    """What a chip on SPI must do."""

    def select(self) -> None: ...
    def deselect(self) -> None: ...
    def exchange(self, out: int, /) -> int: ...


def file_system(files: dict[str, bytes]) -> bytes:
    """A littlefs image with `files` by path."""
    fs = LittleFS(
        block_size=FS_BLOCK, block_count=FS_BLOCKS, prog_size=256, disk_version=LITTLEFS_2_0
    )
    for path, data in files.items():
        folder = path.rpartition("/")[0]
        if folder:
            fs.makedirs(folder, exist_ok=True)
        with fs.open(path, "wb") as file:
            file.write(data)
    return bytes(fs.context.buffer)


class Pico:
    """The board: `run_until` moves its time; pins, console, SPI and UARTs are hooks.

    on_console(bytes); on_pin(number, level) for watched pins; every hook is called at the board's
    time, `now_us`.
    """

    def __init__(self, image: Path, files: dict[str, bytes]) -> None:
        self.sim = Simulator(rp2040=build_rp2040_from_spec(BoardSpec(image=image)))
        self.mcu = self.sim.rp2040
        self.mcu.logger = ConsoleLogger(LogLevel.ERROR, throw_on_error=False)
        self.mcu.load_bootrom(BOOTROM_B1)
        load_uf2(image, self.mcu)
        image_bytes = file_system(files)
        self.mcu.flash[FS_OFFSET : FS_OFFSET + len(image_bytes)] = image_bytes
        self.clock = self.sim.clock
        self.uarts = []
        for i, address in enumerate((0x40034, 0x40038)):
            old = self.mcu.uart[i]
            new = Uart(self.mcu, f"UART{i}", old.irq, old.dreq)
            self.mcu.uart[i] = new
            self.mcu.peripherals[address] = new
            self.uarts.append(new)
        self.mcu.adc.channel_values[ADC_TEMPERATURE] = DEGC_27
        self.on_console: Callable[[bytes], None] = lambda data: None
        self._reading = True
        self._make_console()
        self._stop_alarm = self.clock.create_alarm(self._stop)
        self.mcu.core.pc = FLASH_START

    def _make_console(self) -> None:
        self.cdc = USBCDC(self.mcu.usb_ctrl)
        self.cdc.on_serial_data = lambda data: self.on_console(bytes(data))
        usb = self.mcu.usb_ctrl
        inner = usb.on_endpoint_read
        self._waiting_out: tuple[int, int] | None = None

        def read(endpoint: int, size: int) -> None:
            # the emulator answers a waiting OUT endpoint with empty packets without end, and the
            # processor does nothing but take them; a host sends nothing where it has nothing
            if endpoint == self.cdc._out_endpoint and self.cdc.tx_fifo.empty:
                self._waiting_out = (endpoint, size)
            elif inner is not None:
                inner(endpoint, size)

        self._inner_read = inner
        usb.on_endpoint_read = read
        taken = usb._indicate_buffer_ready
        self._untaken: list[tuple[int, bool]] = []

        def ready(endpoint: int, out: bool) -> None:
            # a host that doesn't read leaves the packet where it is
            if endpoint == self.cdc._in_endpoint and not out and not self._reading:
                self._untaken.append((endpoint, out))
            else:
                taken(endpoint, out)

        usb._indicate_buffer_ready = ready

    @property
    def now_us(self) -> int:
        return math.floor(self.clock.nanos / 1000)

    def type(self, data: bytes) -> None:
        """Bytes from the host to the console, at most 512 at a time."""
        for byte in data:
            self.cdc.send_serial_byte(byte)
        if self._waiting_out is not None and self._inner_read is not None:
            waiting, self._waiting_out = self._waiting_out, None
            self._inner_read(*waiting)

    def reading(self, reads: bool) -> None:
        """Whether the host takes what the console says; it holds the port open all the same."""
        self._reading = reads
        while reads and self._untaken:
            self.mcu.usb_ctrl._indicate_buffer_ready(*self._untaken.pop(0))

    def fill_stack(self) -> None:
        """Write a pattern below the stack's end of this moment; see `stack_used`."""
        bottom = STACK_TOP - STACK_BYTES - RAM_START
        end = max(self.mcu.core.sp - RAM_START - 64, bottom)
        self.mcu.sram[bottom:end] = bytes([STACK_FILL]) * (end - bottom)

    def stack_used(self) -> int:
        """Bytes of the stack that were in use at most since `fill_stack`."""
        bottom = STACK_TOP - STACK_BYTES - RAM_START
        stack = bytes(self.mcu.sram[bottom : bottom + STACK_BYTES])
        return len(stack.lstrip(bytes([STACK_FILL])))

    def slow_erase(self, milliseconds: float, begins: Callable[[], None]) -> None:
        """Let the next erase of flash take its time: the chip reports busy for so long.

        `begins` is called first. The boot ROM waits for the chip with interrupts off, and nothing
        can be read from flash. Only one erase: the emulator runs slowly while the boot ROM asks.
        """
        ssi = self.mcu.ssi
        apply = ssi._apply_command
        shift = ssi._shift_byte
        busy_until = 0.0

        def applied() -> None:
            nonlocal busy_until
            erases = bool(ssi._tx_buffer) and ssi._tx_buffer[0] in (0x20, 0xD8)
            if erases and ssi._write_enabled and not busy_until:
                begins()
                busy_until = self.clock.nanos + milliseconds * 1e6
                ssi._shift_byte = shifted  # type: ignore[method-assign]
                ssi._apply_command = apply  # type: ignore[method-assign]
            apply()

        def shifted(byte: int) -> int:
            if self.clock.nanos >= busy_until:
                ssi._shift_byte = shift  # type: ignore[method-assign]
                return shift(byte)
            return shift(byte) | (ssi._tx_buffer[0] == 0x05)

        ssi._apply_command = applied  # type: ignore[method-assign]

    def pin(self, number: int, level: bool) -> None:
        """Drive an input."""
        self.mcu.gpio[number].set_input_value(level)

    def watch(self, number: int, changed: Callable[[bool], None]) -> None:
        """Call `changed(level)` whenever an output changes; an input counts as low."""
        gpio = self.mcu.gpio[number]
        last = [False]

        def listener(new: Any, _old: Any) -> None:
            level = int(new) == 1
            if level != last[0]:
                last[0] = level
                changed(level)

        gpio.add_listener(listener)

    def attach_spi(self, which: int, cs: int, chip: SpiChip) -> None:
        """Put a chip on SPI `which`; each byte takes its time on the wire."""
        spi = self.mcu.spi[which]
        byte = [0]

        def done() -> None:
            spi.complete_transmit(chip.exchange(byte[0]))

        alarm = self.clock.create_alarm(done)

        def transmit(value: int) -> None:
            byte[0] = value
            alarm.schedule(8e9 / spi.clock_frequency)

        spi.on_transmit = transmit
        selected = [False]

        def listener(new: Any, _old: Any) -> None:
            low = int(new) == 0
            if low != selected[0]:
                selected[0] = low
                if low:
                    chip.select()
                else:
                    chip.deselect()

        self.mcu.gpio[cs].add_listener(listener)

    def _stop(self) -> None:
        self.sim.stopped = True

    def run_until(self, until_us: int) -> None:
        """Execute up to `until_us`."""
        left = until_us * 1000 - self.clock.nanos
        if left <= 0:
            return
        self._stop_alarm.schedule(left)
        self.sim.stopped = False
        while not self.sim.stopped:
            execute_batch(self.sim, 1)

    def reset(self) -> None:
        """The RUN pin is pulled low and let go."""
        self.mcu.enter_reset(from_watchdog=False)
        self.mcu.leave_reset()
