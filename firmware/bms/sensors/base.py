"""The contract of a current sensor: what `StringSensors` calls, what a sensor must do.

A sensor is stepped in each cycle and hands every raw value that it gets to `_take`. It never
waits, and never allocates after start-up. The sensor drops and counts damaged
frames and transfers; only a complete one becomes a value.
"""

from array import array

from micropython import const

from bms import ticks
from bms.ticks import MASK

FRESH_MS = const(100)  # a value that is older does not count
_MILLION = const(1000000)
_LONG_MS = const(60000)

# values of `error`
STUCK = const(0x100)  # it repeats the same message


class Sensor:
    """Base of all sensors.

    ma: calibrated current in mA, + = charge, of the middle one of the last three values; new: it
    came since `StringSensors` last looked; saturated: `ma` is at the end of the range: the
    current may be larger; error: 0, or the error that the sensor reports (its own code);
    offset_ma: what it shows without a current, taken off; raw: its last value, mA before
    calibration; changed_at: tick at which `raw` last changed by as little as a bit.

    Counters: samples; damaged: frames or transfers that can't be right; repeated: the same one
    again; missed: those that a gap in sequence numbers shows.
    """

    EVERY_MS = 0  # `step` must come so often; 0: its values come by themselves
    RANGE_MA = 0  # default of the kind; 0: the pack file must name a range
    port = None  # of the board, where its frames come over CAN
    MEDIAN = True  # a single damaged value shall not pass: it has no checksum

    def __init__(self, config):
        self.kind = config.kind
        self.string = config.string - 1
        self.range_ma = config.range_ma or self.RANGE_MA
        self._full_ma = self.range_ma - self.range_ma // 32  # some clamp that early
        self._deviation = config.gain_ppm - _MILLION
        self._sign = -1 if config.reversed else 1
        self.offset_ma = 0
        self.ma = self.raw = 0
        self.new = self.saturated = False
        self.error = 0
        self.at = self.changed_at = 0
        self._seen = False
        self._last = array("i", [0, 0, 0])  # raw values, the oldest first
        self._count = 0
        self.samples = self.damaged = self.repeated = self.missed = 0

    def step(self, now):
        """Read a new value where there is one; at most one short transfer on a bus."""

    def fresh(self, now):
        """True where the last value is valid and not too old."""
        return self._seen and not self.error and 0 <= ticks.diff(now, self.at) <= FRESH_MS

    def check_ages(self, now):
        """Limit ages before ticks wrap."""
        if self._seen and not 0 <= ticks.diff(now, self.at) <= _LONG_MS:
            self._forget()
        if not 0 <= ticks.diff(now, self.changed_at) <= _LONG_MS:
            self.changed_at = ticks.add(now, -_LONG_MS)

    def _forget(self):
        self._seen = False
        self._count = 0
        self.new = False

    def _take(self, raw, now):
        """Take a value in mA before calibration, within the range."""
        last = self._last
        if not self._count or raw != last[2]:
            self.changed_at = now
        last[0] = last[1]
        last[1] = last[2]
        last[2] = self.raw = raw
        if self._count < 3:
            self._count += 1
        if self.MEDIAN:
            if self._count < 3:
                return
            low = last[0]
            high = last[1]
            if low > high:
                low = last[1]
                high = last[0]
            if raw > high:
                raw = high
            elif raw < low:
                raw = low
        self.saturated = raw >= self._full_ma or raw <= -self._full_ma
        raw -= self.offset_ma
        # two parts, so that no product reaches 2**30
        deviation = self._deviation
        if deviation:
            raw += raw // 1000 * deviation // 1000 + raw % 1000 * deviation // _MILLION
        self.ma = raw * self._sign
        self.at = now
        self._seen = self.new = True
        self.samples = (self.samples + 1) & MASK


class CanSensor(Sensor):
    """Base of sensors whose frames come over CAN: `on_frame` is called with those of `idents`.

    link, sink: of a port that carries sensors only, at the first of them; else the port's
    slaves are stepped by the master, and hand over what is not theirs.
    """

    ID = 0  # usual identifier
    LATER = 0  # number of further identifiers that follow it

    def __init__(self, config):
        super().__init__(config)
        self.ident = config.id or self.ID
        self.link = None
        self.sink = None

    def step(self, now):
        """Read what has arrived, where no slave's driver does."""
        if self.link is not None:
            self.link.poll(self.sink, now)

    def on_frame(self, ident, n, data, now):
        """One frame, n bytes of data."""
        raise NotImplementedError
