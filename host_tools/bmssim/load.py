"""Loads over time."""

from dataclasses import dataclass
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
