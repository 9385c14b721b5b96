"""Raspberry Pi Pico and Pico 2 have the same header: which pin is what."""

from bms.links.mcp2515 import Mcp2515
from hal.console import UsbConsole
from hal.mcu import McuBoard
from hal.rp2_spi import SpiBus
from hal.uart import Uart

COILS = (11, 12, 13)
FEEDBACK = (14, 15, 21)
HEARTBEAT = 22
CAN_SPI = {"id": 0, "sck": 18, "mosi": 19, "miso": 16, "cs": 17, "irq": 20}
CAN_CRYSTAL_HZ = 8000000  # of the MCP2515's module: 8 or 16 MHz, it is printed on the part
UARTS = {
    "uart0": {"id": 0, "tx": 0, "rx": 1, "de": 2},
    "uart1": {"id": 1, "tx": 8, "rx": 9, "de": 10},
}


class PicoBoard(McuBoard):
    """See `McuBoard`; ports can0, uart0, uart1."""

    def __init__(self):
        super().__init__(COILS, FEEDBACK, HEARTBEAT, UsbConsole())
        self.ports = {"can0": "can", "uart0": "uart", "uart1": "uart"}

    def open_can(self, name, rate, filters):
        """The CAN controller on SPI. Raises ValueError for a rate it can't give, OSError."""
        return self.linked(Mcp2515(SpiBus(**CAN_SPI), rate, CAN_CRYSTAL_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream."""
        return self.linked(Uart(rate=rate, **UARTS[name]))
