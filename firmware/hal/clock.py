"""Clock of every microcontroller: 29-bit ticks from the ticks of the port.

MicroPython's ticks have a period of 2**30 on 32-bit ports (`extmod/modtime.c`), a multiple of
2**29, so a mask is enough. Nothing here allocates.
"""

from time import ticks_ms, ticks_us

from bms.ticks import MASK


class Clock:
    """`ms()` and `us()`, as `bms.clock` calls them."""

    def ms(self):
        """Milliseconds, 0..2**29-1, then 0 again."""
        return ticks_ms() & MASK  # pyright: ignore[reportOperatorIssue]

    def us(self):
        """Microseconds, 0..2**29-1, then 0 again."""
        return ticks_us() & MASK  # pyright: ignore[reportOperatorIssue]
