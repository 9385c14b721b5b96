"""Pyboard v1.1: which pin is what. README.md has the wiring."""

from hal.mcu import McuBoard
from hal.native_can import native_can
from hal.uart import UnqueuedUart
from hal.vcp_console import VcpConsole

# minus, precharge, plus of each string: pins that a timer can drive; the second's contacts have
# the pins of uart3
COILS = ("X1", "X2", "X3", "Y11", "Y12", "Y7")
FEEDBACK = ("X4", "X5", "X6", "Y8", "Y9", "Y10")
# interlock, emergency stop, fault line (no two of one EXTI line), charger, ignition
INPUTS = ("Y5", "Y6", "X11", "X12", "X22")
HEARTBEAT = "X7"
UARTS = {"uart6": {"id": 6, "de": "X8"}, "uart3": {"id": 3, "de": "Y8"}}


class Board(McuBoard):
    """See `McuBoard`; ports can0 (CAN 1 on Y3, Y4), uart6 (Y1, Y2), uart3 (Y9, Y10)."""

    NAME = "PYBV11"
    SHARED = ("uart3",)
    ADCS = ("X19", "X20", "X21")
    I2CS = {"i2c0": {"id": 1}}  # SCL X9, SDA X10
    REFERENCE = (256, 1050, 1400)  # VREFINT, 1.2 V, at a supply of 3.0 to 3.6 V

    def __init__(self):
        super().__init__(COILS, FEEDBACK, INPUTS, HEARTBEAT, VcpConsole())
        self.ports = {"can0": "can", "uart3": "uart", "uart6": "uart"}

    def open_can(self, name, rate, filters):
        """The controller's own bxCAN. Raises ValueError for a rate that it can't give."""
        return self.linked(native_can(1, rate, filters))

    def open_uart(self, name, rate):
        """A UART as a stream. Raises ValueError where a second string has its pins."""
        return self.linked(UnqueuedUart(rate=rate, **UARTS[self.taken(name)]))
