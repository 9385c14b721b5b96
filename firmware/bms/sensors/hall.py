"""Hall sensor with a voltage output on an ADC: one range of it.

A sensor of two ranges (LEM DHAB S/118, S/124 and others) is two `[[sensor]]` tables, the small
range first: it counts where it isn't saturated, and both are compared where both are valid.

    current = (voltage - zero) * range / span

`zero` and `span` are millivolts at the ADC's pin, behind a divider: 2.5 V and 2.0 V of a DHAB on
5 V become 1650 mV and 1320 mV behind 17k over 33k. Such an output stays away from both rails even
where it is clamped; beyond `low` and `high` a wire is open or shorted (LEM data sheets DHAB S/118
and S/124: 2.5 V +- 2.0 V over each range).

Uncertain: the output is a share of the sensor's supply. Where the ADC's reference isn't made from
the same supply, its drift is an error of gain, and `zero` drifts too; the zero is found again
while the string is open.
"""

from micropython import const

from bms import ticks
from bms.sensors.base import Sensor
from bms.ticks import MASK

_READINGS = const(4)  # of which one value is the mean: finer than the ADC's step
_EVERY_MS = const(2)  # between two of them
_BROKEN = const(3)  # readings beyond the bounds, one behind the other


class Hall(Sensor):
    """See `Sensor`; `mv`: the pin's last mean. error: the voltage in mV, where a wire is broken."""

    EVERY_MS = _EVERY_MS

    def __init__(self, config, board):
        super().__init__(config)
        self._board = board
        self._channel = config.channel
        self._zero = config.zero_mv * _READINGS
        self._span = config.span_mv * _READINGS
        # mA per (mV * _READINGS): whole, and what remains of the division
        self._whole = self.range_ma // self._span
        self._rest = self.range_ma % self._span
        self._low = config.low_mv
        self._high = config.high_mv
        self.mv = 0
        self._sum = self._n = self._bad = 0
        self._read_at = -1
        board.adc_mv(self._channel)  # the first call sets the pin up

    def step(self, now):
        """One reading; every fourth makes a value."""
        if self._read_at >= 0 and 0 <= ticks.diff(now, self._read_at) < _EVERY_MS:
            return
        self._read_at = now
        mv = self._board.adc_mv(self._channel)
        if mv is None:
            return
        if not self._low <= mv <= self._high:
            self.damaged = (self.damaged + 1) & MASK
            self._bad += 1
            if self._bad >= _BROKEN:
                self._bad = _BROKEN
                self._sum = self._n = 0
                self.error = mv or 1
                self._forget()
            return
        self._bad = 0
        self._sum += mv
        self._n += 1
        if self._n < _READINGS:
            return
        d = self._sum - self._zero
        self.mv = self._sum // _READINGS
        self._sum = self._n = 0
        self.error = 0
        if d > self._span:
            d = self._span
        elif d < -self._span:
            d = -self._span
        self._take(d * self._whole + d * self._rest // self._span, now)
