"""Sensors of the master's own: current, voltage, isolation, with the errors that real ones have."""

import random
from dataclasses import dataclass


@dataclass
class Sensor:
    """Reads a quantity as an integer of the unit that it is given in.

    noise: standard deviation; offset: added; gain: factor; `ok` False: no reading at all; `frozen`:
    the last reading for ever; stuck: this value instead, None = not stuck.
    """

    noise: float = 0.0
    offset: float = 0.0
    gain: float = 1.0
    ok: bool = True
    frozen: bool = False
    stuck: int | None = None
    last: int = 0

    def read(self, true: float, rng: random.Random) -> int | None:
        """What it reports for `true`; None = no sample."""
        if not self.ok:
            return None
        if self.stuck is not None:
            return self.stuck
        if not self.frozen:
            noise = rng.gauss(0.0, self.noise) if self.noise else 0.0
            self.last = round(true * self.gain + self.offset + noise)
        return self.last


HALL_RANGES_A = (75.0, 600.0)  # of a sensor with two outputs, the small one first
HALL_ZERO_MV, HALL_SPAN_MV = 1650.0, 1320.0  # behind a divider
RAIL_MV = 3300


@dataclass
class HallRange:
    """One output of a two-range Hall sensor, as the master's ADC reads it.

    clamp: share of the range at which the output stops (some stop early); noise_mv: standard
    deviation; zero_mv: error of the zero; gain: -1 = mounted the wrong way round; broken_mv: what
    the pin shows with its wire open or shorted, None = the wire is whole.
    """

    range_a: float
    clamp: float = 1.0
    noise_mv: float = 0.0
    zero_mv: float = 0.0
    gain: float = 1.0
    broken_mv: int | None = None

    def mv(self, amps: float, rng: random.Random) -> int:
        """Voltage at the pin for a current, + = charge."""
        if self.broken_mv is not None:
            return self.broken_mv
        share = min(max(amps * self.gain / self.range_a, -self.clamp), self.clamp)
        noise = rng.gauss(0.0, self.noise_mv) if self.noise_mv else 0.0
        mv = round(HALL_ZERO_MV + self.zero_mv + share * HALL_SPAN_MV + noise)
        return min(max(mv, 0), RAIL_MV)
