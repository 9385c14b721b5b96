"""ST Nucleo-H563ZI: which pin is what. README.md has the wiring.

MicroPython 1.28 has no FDCAN driver for the STM32H5 (`ports/stm32/mpconfigboard_common.h` names G0,
G4 and H7 only), so CAN goes over SPI.
"""

from hal.mcu import McuBoard
from hal.spi_bus import SpiBus
from hal.spi_can import spi_can
from hal.uart import UnqueuedUart
from hal.vcp_console import VcpConsole

COILS = ("E7", "E8", "E10")
FEEDBACK = ("E12", "E14", "E15")
HEARTBEAT = "F13"
CAN_SPI = {"id": 1, "cs": "D14", "irq": "D15"}  # SCK A5, MOSI B5, MISO G9
# crystal of the CAN controller, printed on the part: an MCP2515's 8 or 16 MHz, an MCP2518FD's 20
# or 40 MHz; which one is there is found out
MCP2515_HZ = 8000000
MCP2518FD_HZ = 40000000
UARTS = {"uart1": {"id": 1, "de": "B8"}}


class Board(McuBoard):
    """See `McuBoard`; ports can0, uart1 (B6 TX, B7 RX)."""

    NAME = "NUCLEO_H563ZI"

    def __init__(self):
        super().__init__(COILS, FEEDBACK, HEARTBEAT, VcpConsole())
        self.ports = {"can0": "can", "uart1": "uart"}

    def open_can(self, name, rate, filters):
        """The CAN controller on SPI. Raises ValueError for a rate it can't give, OSError."""
        return self.linked(spi_can(SpiBus(**CAN_SPI), rate, filters, MCP2515_HZ, MCP2518FD_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream."""
        return self.linked(UnqueuedUart(rate=rate, **UARTS[name]))
