"""ESP32-S3 (DevKitC-1 and alike): which pin is what. README.md has the wiring."""

from time import ticks_diff, ticks_ms

from machine import ADC, Pin
from micropython import const

from hal.console import UsbConsole
from hal.mcu import McuBoard
from hal.spi_bus import SpiBus
from hal.spi_can import spi_can
from hal.uart import Uart

# minus, precharge, plus of each string; the second has the pins of both UARTs
COILS = (4, 5, 6, 1, 2, 14)
FEEDBACK = (7, 15, 16, 17, 18, 8)
INPUTS = (40, 41, 42, 39, 47)  # interlock, emergency stop, fault line, charger, ignition
HEARTBEAT = 21
CAN_SPI = {"id": 1, "sck": 12, "mosi": 11, "miso": 13, "cs": 10, "irq": 9}
# crystal of the CAN controller, printed on the part: an MCP2515's 8 or 16 MHz, an MCP2518FD's 20
# or 40 MHz; which one is there is found out
MCP2515_HZ = 8000000
MCP2518FD_HZ = 40000000
UARTS = {
    "uart1": {"id": 1, "tx": 17, "rx": 18, "de": 8},
    "uart2": {"id": 2, "tx": 1, "rx": 2, "de": 14},
}

_BLOCK_MS = const(6)  # 64 bytes at 115200 bit/s
_STALL_MS = const(100)
_QUIET_MS = const(30000)


class StdoutConsole(UsbConsole):
    """The console where `sys.stdout` always claims to have room (esp32's `mphalport.c`).

    Everything also goes to UART 0 at 115200 bit/s, whose FIFO holds 128 bytes: one block in 6 ms
    never waits for it. A USB host that holds the port open and doesn't read makes the port wait
    0.5 s; after that nothing is written for 30 s, or until the host sends something.
    """

    def __init__(self):
        super().__init__()
        self._wrote_at = ticks_ms()
        self._pause_ms = _BLOCK_MS

    def read(self, buf):
        """See `UsbConsole.read`."""
        n = super().read(buf)
        if n:
            self._pause_ms = _BLOCK_MS
        return n

    def write(self, buf, start, n):
        """See `UsbConsole.write`; 0 before its time."""
        now = ticks_ms()
        if ticks_diff(now, self._wrote_at) < self._pause_ms:
            return 0
        n = super().write(buf, start, n)
        self._wrote_at = ticks_ms()
        stalled = ticks_diff(self._wrote_at, now) >= _STALL_MS
        self._pause_ms = _QUIET_MS if stalled else _BLOCK_MS
        return n


class Board(McuBoard):
    """See `McuBoard`; ports can0, uart1, uart2."""

    NAME = "ESP32_GENERIC_S3"
    TIMER = 0
    SHARED = ("uart1", "uart2")
    ADCS = (3,)
    I2CS = {"i2c0": {"id": 0, "scl": 48, "sda": 38}}

    def __init__(self):
        super().__init__(COILS, FEEDBACK, INPUTS, HEARTBEAT, StdoutConsole())
        self.ports = {"can0": "can", "uart1": "uart", "uart2": "uart"}

    def open_can(self, name, rate, filters):
        """The CAN controller on SPI. Raises ValueError for a rate it can't give, OSError."""
        return self.linked(spi_can(SpiBus(**CAN_SPI), rate, filters, MCP2515_HZ, MCP2518FD_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream. Raises ValueError where a second string has its pins."""
        return self.linked(Uart(rate=rate, **UARTS[self.taken(name)]))

    def _enable_interrupt(self, pin):
        # no hard interrupts on this port: the handler runs between two steps of the program
        pin.irq(self._fell, Pin.IRQ_FALLING)

    def _adc(self, pin):
        return ADC(pin, atten=ADC.ATTN_11DB)  # up to 3.1 V

    def _mv(self, adc):
        return adc.read_uv() // 1000
