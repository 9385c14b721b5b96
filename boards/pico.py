"""Raspberry Pi Pico and Pico 2 have the same header: which pin is what."""

from hal.console import UsbConsole
from hal.mcu import McuBoard
from hal.rp2_spi import SpiBus
from hal.spi_can import spi_can
from hal.uart import Uart

COILS = (11, 12, 13)
FEEDBACK = (14, 15, 21)
HEARTBEAT = 22
CAN_SPI = {"id": 0, "sck": 18, "mosi": 19, "miso": 16, "cs": 17, "irq": 20}
# crystal of the CAN controller, printed on the part: an MCP2515's 8 or 16 MHz, an MCP2518FD's 20
# or 40 MHz; which one is there is found out
MCP2515_HZ = 8000000
MCP2518FD_HZ = 40000000
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
        return self.linked(spi_can(SpiBus(**CAN_SPI), rate, filters, MCP2515_HZ, MCP2518FD_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream."""
        return self.linked(Uart(rate=rate, **UARTS[name]))
