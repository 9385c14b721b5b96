"""Cells in series: open-circuit voltage, resistance, one RC pair, charge, heat; every cell its own.

SI units: V, A (+ = charge), s, degC, Ah, ohm. All arrays are [cells].
"""

from dataclasses import dataclass

import numpy as np

from .chemistry import Chemistry

MONTH_S = 30 * 86400.0


@dataclass(frozen=True)
class Spread:
    """Standard deviations from cell to cell: relative, but soc (absolute) and temp_c (K)."""

    capacity: float = 0.01
    r0: float = 0.05
    soc: float = 0.002
    self_discharge: float = 0.3
    temp_c: float = 0.3


class CellArray:
    """`count` cells of one chemistry in series.

    soc, temp_c: state. override_v, override_temp_c: NaN, or what the cell shows instead.
    The current of the last step stays until the next one, so that `voltage_v` includes it.
    """

    # parameters: what cells are made of; none follows from another
    def __init__(
        self,
        chemistry: Chemistry,
        count: int,
        capacity_ah: float,
        soc: float,
        temp_c: float,
        rng: np.random.Generator,
        spread: Spread | None = None,
    ) -> None:
        spread = spread or Spread()
        self.chemistry = chemistry
        self.count = count
        self.capacity_ah = capacity_ah * (1 + spread.capacity * rng.standard_normal(count))
        varied = np.clip(1 + spread.r0 * rng.standard_normal(count), 0.5, 2.0)
        self.r0_ohm = chemistry.r0_ohm_ah / capacity_ah * varied
        self.r1_ohm = chemistry.r1_ohm_ah / capacity_ah * varied
        leak = np.clip(1 + spread.self_discharge * rng.standard_normal(count), 0.0, 3.0)
        self._leak_a = chemistry.self_discharge_per_month * self.capacity_ah * leak
        self._leak_a *= 3600.0 / MONTH_S
        self.soc = np.clip(soc + spread.soc * rng.standard_normal(count), 0.0, 1.0)
        self.ambient_c = temp_c
        self._offset_c = spread.temp_c * rng.standard_normal(count)
        self._warm_k = np.zeros(count)
        self._heat_j_per_k = chemistry.heat_j_per_k_ah * capacity_ah
        self._cooling_k_per_w = chemistry.cooling_k_ah_per_w / capacity_ah
        self._rc_v = np.zeros(count)
        self._current_a = np.zeros(count)
        self.override_v = np.full(count, np.nan)
        self.override_temp_c = np.full(count, np.nan)

    def step(
        self, dt_s: float, current_a: float | np.ndarray, balance_a: np.ndarray | None = None
    ) -> None:
        """Let `current_a` (of all, or [cells]) flow for `dt_s`; `balance_a` [cells] out besides.

        The RC pair and the heat follow their closed forms, so that any step is stable.
        """
        through = np.full(self.count, current_a) if balance_a is None else current_a - balance_a
        self._current_a = through
        self.soc += (through - self._leak_a) * dt_s / 3600.0 / self.capacity_ah
        np.clip(self.soc, 0.0, 1.0, out=self.soc)
        decay = np.exp(-dt_s / self.chemistry.tau_s)
        self._rc_v = self._rc_v * decay + through * self.r1_ohm * (1 - decay)
        power_w = through * through * self.r0_ohm + through * self._rc_v
        cool = np.exp(-dt_s / (self._heat_j_per_k * self._cooling_k_per_w))
        self._warm_k = self._warm_k * cool + power_w * self._cooling_k_per_w * (1 - cool)

    def ocv_v(self) -> np.ndarray:
        """Open-circuit voltages."""
        return np.interp(self.soc, self.chemistry.soc, self.chemistry.ocv_v)

    def emf_v(self) -> np.ndarray:
        """Voltages that would show if the current stopped now; overrides in place."""
        return self._shown(self.ocv_v() + self._rc_v, self.override_v)

    def ohm(self) -> np.ndarray:
        """Resistances that a step of the current meets; 0 where a voltage is overridden."""
        return np.where(np.isnan(self.override_v), self.r0_ohm, 0.0)

    def voltage_v(self) -> np.ndarray:
        """Terminal voltages at the current of the last step; overrides in place."""
        volts = self.ocv_v() + self._rc_v + self._current_a * self.r0_ohm
        return self._shown(volts, self.override_v)

    @staticmethod
    def _shown(values: np.ndarray, override: np.ndarray) -> np.ndarray:
        usual = np.isnan(override)
        return values if usual.all() else np.where(usual, values, override)

    @property
    def temp_c(self) -> np.ndarray:
        """Temperatures; overrides in place."""
        degrees = self.ambient_c + self._offset_c + self._warm_k
        return self._shown(degrees, self.override_temp_c)

    def set_voltage(self, index: int, volt: float) -> None:
        """Give a cell the charge at which its open-circuit voltage is `volt`.

        Raises ValueError outside what the chemistry reaches.
        """
        table = self.chemistry.ocv_v
        if not table[0] <= volt <= table[-1]:
            raise ValueError(f"{volt} V is outside {table[0]:.3f}..{table[-1]:.3f} V")
        self.soc[index] = np.interp(volt, table, self.chemistry.soc)
