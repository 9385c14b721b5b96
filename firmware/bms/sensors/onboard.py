"""The current sensor of the master board itself: `current_ma(string)` of the HAL."""

from bms.sensors.base import Sensor
from bms.ticks import MASK


class OnboardSensor(Sensor):
    """See `Sensor`; the board gives whole samples, in mA and with the sign of the HAL."""

    RANGE_MA = 4000000
    MEDIAN = False  # the board vouches for it

    def __init__(self, config, board):
        super().__init__(config)
        self._board = board

    def step(self, now):
        """A new sample, where there is one."""
        ma = self._board.current_ma(self.string)
        if ma is None:
            return
        if -self.range_ma <= ma <= self.range_ma:
            self._take(ma, now)
        else:
            self.damaged = (self.damaged + 1) & MASK
