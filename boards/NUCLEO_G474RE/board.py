"""ST Nucleo-G474RE: which pin is what. README.md has the wiring."""

from hal.console import UartConsole
from hal.mcu import McuBoard
from hal.native_can import native_can
from hal.uart import UnqueuedUart

COILS = ("C0", "C1", "C2")
FEEDBACK = ("C6", "C7", "C8")
HEARTBEAT = "C9"
CANS = {"can0": 1, "can1": 2}
UARTS = {"uart1": {"id": 1, "de": "A8"}, "uart3": {"id": 3, "de": "B14"}}


class Board(McuBoard):
    """See `McuBoard`; ports can0 (FDCAN1: A11, A12), can1 (FDCAN2: B12, B13), uart1, uart3."""

    NAME = "NUCLEO_G474RE"

    def __init__(self):
        super().__init__(COILS, FEEDBACK, HEARTBEAT, UartConsole())
        self.ports = {"can0": "can", "can1": "can", "uart1": "uart", "uart3": "uart"}

    def open_can(self, name, rate, filters):
        """A controller of its own. Raises ValueError for a rate that it can't give."""
        return self.linked(native_can(CANS[name], rate, filters))

    def open_uart(self, name, rate):
        """A UART as a stream: uart1 on C4 (TX), C5 (RX), uart3 on B10, B11."""
        return self.linked(UnqueuedUart(rate=rate, **UARTS[name]))
