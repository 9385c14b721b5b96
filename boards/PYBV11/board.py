"""Pyboard v1.1: which pin is what. README.md has the wiring."""

from hal.mcu import McuBoard
from hal.native_can import native_can
from hal.uart import UnqueuedUart
from hal.vcp_console import VcpConsole

COILS = ("X1", "X2", "X3")
FEEDBACK = ("X4", "X5", "X6")
HEARTBEAT = "X7"
UARTS = {"uart6": {"id": 6, "de": "X8"}, "uart3": {"id": 3, "de": "Y8"}}


class Board(McuBoard):
    """See `McuBoard`; ports can0 (CAN 1 on Y3, Y4), uart6 (Y1, Y2), uart3 (Y9, Y10)."""

    NAME = "PYBV11"

    def __init__(self):
        super().__init__(COILS, FEEDBACK, HEARTBEAT, VcpConsole())
        self.ports = {"can0": "can", "uart3": "uart", "uart6": "uart"}

    def open_can(self, name, rate, filters):
        """The controller's own bxCAN. Raises ValueError for a rate that it can't give."""
        return self.linked(native_can(1, rate, filters))

    def open_uart(self, name, rate):
        """A UART as a stream."""
        return self.linked(UnqueuedUart(rate=rate, **UARTS[name]))
