"""ST Nucleo-H563ZI: which pin is what. README.md has the wiring.

MicroPython 1.28 has no FDCAN driver for the STM32H5 (`ports/stm32/mpconfigboard_common.h` names G0,
G4 and H7 only), so CAN goes over SPI.
"""

from hal.mcu import McuBoard
from hal.spi_bus import SpiBus
from hal.spi_can import spi_can
from hal.uart import UnqueuedUart
from hal.vcp_console import VcpConsole

# minus, precharge, plus of each string: pins that a timer can drive
COILS = ("E9", "E11", "E13", "C6", "C7", "C8", "C9", "B10", "B11")
FEEDBACK = ("E12", "E14", "E15", "D11", "D12", "D13", "G0", "G1", "G2")
# interlock, emergency stop, fault line (no two of one EXTI line), charger, ignition
INPUTS = ("F7", "F8", "F9", "F10", "F14")
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
    ADCS = ("A6", "C0", "C3")
    I2CS = {"i2c0": {"id": 2}}  # SCL F1, SDA F0
    REFERENCE = (256, 1050, 1400)  # VREFINT, 1.2 V, at a supply of 3.0 to 3.6 V

    def __init__(self):
        super().__init__(COILS, FEEDBACK, INPUTS, HEARTBEAT, VcpConsole())
        self.ports = {"can0": "can", "uart1": "uart"}

    def open_can(self, name, rate, filters):
        """The CAN controller on SPI. Raises ValueError for a rate it can't give, OSError."""
        return self.linked(spi_can(SpiBus(**CAN_SPI), rate, filters, MCP2515_HZ, MCP2518FD_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream."""
        return self.linked(UnqueuedUart(rate=rate, **UARTS[name]))
