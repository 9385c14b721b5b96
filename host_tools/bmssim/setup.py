"""What a simulation is made of: boards, cells, load, runtime of the firmware."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Setup:
    """What is simulated.

    strings in parallel, each of `slaves` boards of `kind` with `cells` cells; more: boards of other
    kinds behind them in series, as tables of kind, slaves, cells, temps; link: "can" or "uart"
    where a kind supports both; echo: serial adapters receive their own bytes; capacity_ah of a
    cell; soc 0..1, string_soc: added to it, by string; spread_mv from the lowest to the highest
    cell at the start;
    temp_c of the surroundings; load "us06" or "none", load_scale of it, load_start_s into it;
    load_a: a constant current besides, + = charge; serials: the pack file has the boards' serial
    numbers; ivt_s: each string has a second current sensor, on CAN; hall: its only current sensor
    is a two-range Hall sensor on the master's ADC; store: the master has a memory.

    What real parts do, as standard deviations: cell_noise_mv and temp_noise_dc of the boards,
    current_noise_ma of the sensors; drift_ppm: clocks of the master and of the boards go wrong by
    up to so much; damage: share of frames hit.
    """

    link: str = "can"
    kind: str = "cell_link"
    more: list[dict[str, Any]] = field(default_factory=list)
    echo: bool = False
    strings: int = 1
    slaves: int = 4
    cells: int = 16
    temps: int = 4
    chemistry: str = "LFP"
    capacity_ah: float = 50.0
    soc: float = 0.6
    string_soc: list[float] = field(default_factory=list)
    spread_mv: float = 0.0
    temp_c: float = 25.0
    cell_noise_mv: float = 0.6
    temp_noise_dc: float = 0.0
    current_noise_ma: float = 0.0
    drift_ppm: float = 0.0
    damage: float = 0.0
    seed: int = 1
    load: str = "none"
    load_scale: float = 1.0
    load_start_s: float = 0.0
    load_a: float = 0.0
    serials: bool = False
    ivt_s: bool = False
    hall: bool = False
    store: bool = False
    runtime: str = "micropython"

    @property
    def boards(self) -> int:
        """Slave boards of all strings."""
        return self.strings * (self.slaves + sum(x["slaves"] for x in self.more))

    @property
    def all_cells(self) -> int:
        """Cells of all strings."""
        return self.strings * self.string_cells

    @property
    def string_cells(self) -> int:
        """Cells in series."""
        return self.slaves * self.cells + sum(x["slaves"] * x["cells"] for x in self.more)
