"""Cell chemistries: published open-circuit voltages and typical figures of a cell.

The open-circuit voltage of a full cell is that of its positive minus that of its negative
electrode, each a published fit over its lithium fraction, between the fractions of the empty and
of the full cell.

NMC: LG M50, NMC 811 against graphite-SiOx. Chen et al., Development of Experimental Techniques
for Parameterization of Multi-scale Lithium-ion Battery Models, J. Electrochem. Soc. 167 (2020)
080534, doi:10.1149/1945-7111/ab9050: both fits, and fractions for 2.5 V and 4.2 V.
LFP: the positive electrode of Afshar, Morris, Khajepour, Efficient electrochemical model for
lithium-ion cells, arXiv:1709.03970 (2017), against the graphite of Chen et al.; fractions chosen
for 2.5 V empty and 3.59 V full.
Resistance, RC pair, self-discharge and thermal figures are typical of 50 Ah prismatic cells
(0.5 mohm..1 mohm, 30 s, 3 % a month, 1 kg) and scaled with the capacity; they are no cell's data.
"""

from dataclasses import dataclass

import numpy as np

_GRID = np.linspace(0.0, 1.0, 401)


@dataclass(frozen=True)
class Chemistry:
    """A cell type. soc and ocv_v are the table of its open-circuit voltage, both rising.

    r0_ohm_ah, r1_ohm_ah: series and RC resistance times capacity; tau_s of the RC pair.
    """

    name: str
    soc: np.ndarray
    ocv_v: np.ndarray
    r0_ohm_ah: float
    r1_ohm_ah: float
    tau_s: float
    self_discharge_per_month: float
    heat_j_per_k_ah: float
    cooling_k_ah_per_w: float


def _graphite_v(x: np.ndarray) -> np.ndarray:
    return (
        1.9793 * np.exp(-39.3631 * x)
        + 0.2482
        - 0.0909 * np.tanh(29.8538 * (x - 0.1234))
        - 0.04478 * np.tanh(14.9159 * (x - 0.2769))
        - 0.0205 * np.tanh(30.4444 * (x - 0.6103))
    )


def _nmc_v(y: np.ndarray) -> np.ndarray:
    return (
        4.4875
        - 0.8090 * y
        - 0.0428 * np.tanh(18.5138 * (y - 0.5542))
        - 17.7326 * np.tanh(15.7890 * (y - 0.3117))
        + 17.5842 * np.tanh(15.9308 * (y - 0.3120))
    )


def _lfp_v(y: np.ndarray) -> np.ndarray:
    return 3.4077 - 0.020269 * y + 0.5 * np.exp(-150 * y) - 0.9 * np.exp(-30 * (1 - y))


def _between(empty: float, full: float) -> np.ndarray:
    return empty + (full - empty) * _GRID


LFP = Chemistry(
    name="LFP",
    soc=_GRID,
    ocv_v=_lfp_v(_between(0.92, 0.004)) - _graphite_v(_between(0.04, 0.86)),
    r0_ohm_ah=0.030,
    r1_ohm_ah=0.025,
    tau_s=30.0,
    self_discharge_per_month=0.03,
    heat_j_per_k_ah=20.0,
    cooling_k_ah_per_w=150.0,
)
NMC = Chemistry(
    name="NMC",
    soc=_GRID,
    ocv_v=_nmc_v(_between(0.8540, 0.2638)) - _graphite_v(_between(0.0263, 0.9106)),
    r0_ohm_ah=0.040,
    r1_ohm_ah=0.030,
    tau_s=30.0,
    self_discharge_per_month=0.03,
    heat_j_per_k_ah=16.0,
    cooling_k_ah_per_w=150.0,
)
CHEMISTRIES = {"LFP": LFP, "NMC": NMC}
