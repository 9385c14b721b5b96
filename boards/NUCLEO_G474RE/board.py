"""ST Nucleo-G474RE: which pin is what. README.md has the wiring."""

from machine import SoftI2C

from hal.console import UartConsole
from hal.mcu import McuBoard
from hal.native_can import native_can
from hal.uart import UnqueuedUart

# minus, precharge, plus of each string: pins that a timer can drive
COILS = ("C0", "C1", "C2", "B0", "B1", "C3")
FEEDBACK = ("C6", "C7", "C8", "B2", "B5", "B15")
# interlock, emergency stop, fault line (no two of one EXTI line), charger, ignition
INPUTS = ("C10", "C11", "C12", "D2", "A7")
HEARTBEAT = "C9"
CANS = {"can0": 1, "can1": 2}
UARTS = {"uart1": {"id": 1, "de": "A8"}, "uart3": {"id": 3, "de": "B14"}}


class Board(McuBoard):
    """See `McuBoard`; ports can0 (FDCAN1: A11, A12), can1 (FDCAN2: B12, B13), uart1, uart3."""

    NAME = "NUCLEO_G474RE"
    ADCS = ("A0", "A1", "A4")
    I2CS = {"i2c0": {"scl": "B7", "sda": "B9"}}
    REFERENCE = (256, 1050, 1400)  # VREFINT, 1.2 V, at a supply of 3.0 to 3.6 V

    def __init__(self):
        super().__init__(COILS, FEEDBACK, INPUTS, HEARTBEAT, UartConsole())
        self.ports = {"can0": "can", "can1": "can", "uart1": "uart", "uart3": "uart"}

    def open_can(self, name, rate, filters):
        """A controller of its own. Raises ValueError for a rate that it can't give."""
        return self.linked(native_can(CANS[name], rate, filters))

    def open_uart(self, name, rate):
        """A UART as a stream: uart1 on C4 (TX), C5 (RX), uart3 on B10, B11."""
        return self.linked(UnqueuedUart(rate=rate, **UARTS[name]))

    def _i2c(self, **how):
        # of I2C1, SCL is BOOT0: its pull-up would start ST's boot loader
        return SoftI2C(**how)
