"""ESP32-S3 (DevKitC-1 and alike): which pin is what. README.md has the wiring."""

from bms.links.mcp2515 import Mcp2515
from hal.console import UsbConsole
from hal.mcu import McuBoard
from hal.spi_bus import SpiBus
from hal.uart import Uart

COILS = (4, 5, 6)
FEEDBACK = (7, 15, 16)
HEARTBEAT = 21
CAN_SPI = {"spi": {"id": 1, "sck": 12, "mosi": 11, "miso": 13}, "cs": 10, "irq": 9}
CAN_CRYSTAL_HZ = 8000000  # of the MCP2515's module: 8 or 16 MHz, it is printed on the part
UARTS = {
    "uart1": {"id": 1, "tx": 17, "rx": 18, "de": 8},
    "uart2": {"id": 2, "tx": 1, "rx": 2, "de": 42},
}


class Board(McuBoard):
    """See `McuBoard`; ports can0, uart1, uart2."""

    NAME = "ESP32_GENERIC_S3"
    TIMER = 0

    def __init__(self):
        super().__init__(COILS, FEEDBACK, HEARTBEAT, UsbConsole())
        self.ports = {"can0": "can", "uart1": "uart", "uart2": "uart"}

    def open_can(self, name, rate, filters):
        """The CAN controller on SPI. Raises ValueError for a rate it can't give, OSError."""
        return self.linked(Mcp2515(SpiBus(**CAN_SPI), rate, CAN_CRYSTAL_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream."""
        return self.linked(Uart(rate=rate, **UARTS[name]))
