"""Raspberry Pi Pico and Pico 2 have the same header: which pin is what."""

import sys

from machine import mem32

from hal.console import UsbConsole
from hal.mcu import McuBoard

# minus, precharge, plus of each string; the second has the pins of both UARTs
COILS = (11, 12, 13, 8, 9, 10)
FEEDBACK = (14, 15, 21, 0, 1, 2)
INPUTS = (3, 6, 7, 28, 27)  # interlock, emergency stop, fault line, charger, ignition
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


# datasheets RP2040 2.12.1, 4.7.6 and RP2350 6.5.2, 12.9.6: the watchdog's REASON; CHIP_RESET, and
# its bits of the RUN pin, brown-out (the RP2040 has none of its own) and power-on
_RP2040 = (0x40058008, 0x40064008, 1 << 16, 0, 1 << 8)
_RP2350 = (0x400D8008, 0x4010002C, 1 << 18, 1 << 17, 1 << 16)


class PicoBoard(McuBoard):
    """See `McuBoard`; ports can0, uart0, uart1."""

    SHARED = ("uart0", "uart1")
    ADCS = (26, 27, 28)  # a channel that is asked for takes its pin from ignition, charger
    I2CS = {"i2c0": {"id": 0, "scl": 5, "sda": 4}}
    # the temperature sensor: 706 mV at 27 degC, -1.72 mV/K (RP2040 datasheet 4.9.5)
    REFERENCE = (4, 500, 900)

    def __init__(self):
        super().__init__(COILS, FEEDBACK, INPUTS, HEARTBEAT, UsbConsole())
        self.ports = {"can0": "can", "uart0": "uart", "uart1": "uart"}

    def started(self):
        """See `McuBoard`; from now on the processor sleeps longer between two interrupts."""
        super().started()
        try:
            from hal import rp2_sleep
        except SyntaxError:
            return  # a compiler that makes no Thumb code
        self._waking = rp2_sleep.waking_timer()
        self._sleep = rp2_sleep.until_interrupt
        self._sleep_ms = rp2_sleep.PERIOD_MS

    def open_can(self, name, rate, filters):
        """The CAN controller on SPI. Raises ValueError for a rate it can't give, OSError."""
        from hal.rp2_spi import SpiBus  # loaded where a pack file asks for a port of its kind
        from hal.spi_can import spi_can

        return self.linked(spi_can(SpiBus(**CAN_SPI), rate, filters, MCP2515_HZ, MCP2518FD_HZ))

    def open_uart(self, name, rate):
        """A UART as a stream. Raises ValueError where a second string has its pins."""
        from hal.uart import Uart

        return self.linked(Uart(rate=rate, **UARTS[self.taken(name)]))

    def reset_cause(self):
        """b"power_on", b"brown_out", b"watchdog", b"reset" (by the program or RUN), b"unknown".

        `machine.reset_cause` calls a reset by the program a watchdog's here.
        """
        rp2350 = "RP2350" in sys.implementation._machine
        reason, chip, run, brown_out, power_on = _RP2350 if rp2350 else _RP2040
        why = mem32[reason]
        if why & 1:
            return b"watchdog"
        why = mem32[chip] if not why & 2 else run
        if why & run:
            return b"reset"
        if why & brown_out:
            return b"brown_out"
        return b"power_on" if why & power_on else b"unknown"
