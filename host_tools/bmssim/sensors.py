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
