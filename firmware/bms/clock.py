"""Time of the firmware: ticks from the HAL, and an uptime that does not wrap.

The HAL's clock has `ms()`, ticks whose period is a multiple of 2**29, and `us()`, 29-bit ticks (see
`ticks`). Nothing here allocates.
"""

from bms import ticks
from bms.ticks import MASK


class Clock:
    """`now`: ms tick of this step; uptime_s and uptime_ms: seconds and ms since the start."""

    def __init__(self, hal):
        self.hal = hal
        self.now = hal.ms() & MASK
        self.uptime_s = 0
        self.uptime_ms = 0

    def tick(self):
        """Read the clock of the HAL, once per step; the ms tick. Call it at least once a day."""
        now = self.hal.ms() & MASK
        ms = self.uptime_ms + ticks.diff(now, self.now)
        while ms >= 1000:
            ms -= 1000
            self.uptime_s += 1
        self.uptime_ms = ms
        self.now = now
        return now
