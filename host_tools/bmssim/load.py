"""Loads over time, and a charger."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

US06_CSV = Path(__file__).parent / "data" / "us06_cell_current.csv"
US06_CELL_AH = 5.0  # the cell that the profile's amperes were made for (21700 class)


@dataclass(frozen=True)
class Profile:
    """A current in A (+ = charge) at each time in s; held until the next, repeated at the end."""

    time_s: np.ndarray
    amps: np.ndarray

    def current_a(self, t_s: float) -> float:
        """The current at `t_s` from the start."""
        period = float(self.time_s[-1] - self.time_s[0]) + 1.0
        at = np.searchsorted(self.time_s, t_s % period, side="right") - 1
        return float(self.amps[max(int(at), 0)])

    @staticmethod
    def from_csv(path: Path, scale: float = 1.0) -> "Profile":
        """Columns time [s], current [A], + = discharge; lines with # are comments.

        Raises OSError, ValueError.
        """
        table = np.loadtxt(path, delimiter=",", comments="#")
        return Profile(table[:, 0], -table[:, 1] * scale)

    @staticmethod
    def us06(scale: float = 1.0) -> "Profile":
        """The US06 drive cycle, 600 s: current of one cell, + = discharge in the file."""
        return Profile.from_csv(US06_CSV, scale)


@dataclass
class Charger:
    """A charger of `max_a` that follows the charge limit which the master reported `lag_s` ago.

    stop_mv: it does not follow; it switches off for good once a cell reaches so much.
    """

    max_a: float
    lag_s: float = 0.0
    stop_mv: float | None = None
    on: bool = True
    _reports: deque[tuple[int, float]] = field(default_factory=deque)
    _a: float = 0.0

    def report(self, now_us: int, charge_ma: float) -> None:
        """The master reports its charge limit."""
        self._reports.append((now_us + round(self.lag_s * 1e6), charge_ma / 1000))

    def current_a(self, now_us: int, highest_v: float) -> float:
        """What it charges with now; `highest_v`: of all cells."""
        while self._reports and self._reports[0][0] <= now_us:
            self._a = self._reports.popleft()[1]
        if self.stop_mv is None:
            return min(self._a, self.max_a)
        self.on = self.on and highest_v * 1000 < self.stop_mv
        return self.max_a if self.on else 0.0
