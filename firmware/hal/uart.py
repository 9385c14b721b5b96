"""A UART as the stream that links and drivers expect, with a driver-enable pin for RS-485.

`read(buf) -> n` and `write(buf, start, n) -> n` never wait for the other side. Nothing here
allocates after start-up.
"""

from machine import UART, Pin
from micropython import const

_RX = const(512)  # bytes; the port's own default is 64 to 256
_TX = const(256)
_LOW_BPS = const(2400)


class Uart:
    """`machine.UART` of ports that queue what is sent (rp2, esp32).

    de: pin that is high while the transceiver drives the line, None where none is needed.
    """

    def __init__(self, id, rate, tx, rx, de=None):
        """Raises ValueError for pins or a speed that the port refuses."""
        uart = UART(id, baudrate=rate, tx=tx, rx=rx, rxbuf=_RX, txbuf=_TX, timeout=0)
        self._start(uart, de, _TX, rate)

    def _start(self, uart, de, most, rate):
        self._uart = uart
        self._rate = rate
        self._most = most  # bytes of one write
        self._de = None if de is None else Pin(de, Pin.OUT, value=0)
        self._driving = False

    def read(self, buf):
        """Read into `buf`, at most its length; returns the count."""
        if self._de is not None and self._driving and self._uart.txdone():
            self._de.off()
            self._driving = False
        n = self._uart.any()
        if not n:
            return 0
        return self._uart.readinto(buf, n if n < len(buf) else len(buf)) or 0

    def write(self, buf, start, n):
        """Write from buf[start:start + n]; returns the number of bytes taken."""
        if self._de is not None:
            self._de.on()
            self._driving = True
        n = n if n < self._most else self._most
        # MicroPython's streams take a start and a count (`py/stream.c`); the stubs omit it
        return self._uart.write(buf, start, n) or 0  # pyright: ignore[reportCallIssue]

    def low(self):
        """Hold the line low for 3.75 ms: a zero byte at 2400 bit/s. `usual` must follow."""
        if self._de is not None:
            self._de.on()
            self._driving = True
        self._uart.init(baudrate=_LOW_BPS)
        self._uart.write(b"\0")

    def usual(self):
        """Restore the speed of the line after `low`."""
        self._uart.init(baudrate=self._rate)

    def ready(self):
        """True where bytes wait, or the driver-enable pin must be switched off."""
        return self._driving or self._uart.any() > 0


class UnqueuedUart(Uart):
    """`machine.UART` of the stm32 port: its pins are fixed, and a write blocks until it is sent.

    Each write is limited to 0.7 ms, at least one byte.
    """

    def __init__(self, id, rate, de=None):
        """Raises ValueError for a speed that the port refuses."""
        self._start(UART(id, baudrate=rate, rxbuf=_RX, timeout=0), de, max(rate // 14000, 1), rate)
