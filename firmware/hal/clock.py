"""Clock of every microcontroller, from the ticks of the port.

MicroPython's ticks have a period of 2**30 on 32-bit ports (`extmod/modtime.c`), a multiple of
2**29, so a mask makes 29-bit ticks of them. Nothing here allocates.
"""

from time import ticks_ms, ticks_us

from bms.ticks import MASK


class Clock:
    """`ms()` and `us()`; see `bms.clock`."""

    def __init__(self):
        self.ms = ticks_ms  # without a call of its own: every step of the cycle begins with it

    def us(self):
        """Microseconds, 0..2**29-1, then 0 again."""
        return ticks_us() & MASK  # pyright: ignore[reportOperatorIssue]
