"""What simulated boards of other makers share: what they measure, and what befalls them."""

from collections.abc import Callable

import numpy as np

from ..events import Events

# What a board measures: (true voltages in V, true temperatures in degC) at this moment.
Measure = Callable[[], tuple[np.ndarray, np.ndarray]]

BOOT_US = 2_000_000


class CommercialBoard:
    """One board of `cells` cells and `temps` sensors with the number `node`.

    Faults to inject: alive (False: silent), truncate (share of answers that are cut), answers_as
    (another number), asleep (wakes by a request that it doesn't answer), slow (times as late as
    usual with its answer), longer (bytes or frames that an answer has too many), open_cells,
    open_temps, stuck (cell -> mV), hotter_c, alarms (names of `bms.slaves.base.ALARMS` that it
    reports). Its commands: balance_mask (cells that it balances), fets (bit 0 charge, 1
    discharge). on_sample gets (board, mV list, 0.1 degC list, 0) of what it is about to send, in
    the steps of its kind. back_us: after each restart, from the end of its boot to its first
    answer.
    """

    TOLERANCE_MV = 0  # what rounding may make of a voltage in two programs
    TOLERANCE_DC = 0

    # parameters: all kinds of boards are made with the same ones
    def __init__(
        self,
        events: Events,
        node: int,
        cells: int,
        temps: int,
        measure: Measure,
        rng: np.random.Generator,
        noise_mv: float = 0.6,
    ) -> None:
        self.events = events
        self.node = node
        self.cells = cells
        self.temps = temps
        self.alive = True
        self.truncate = 0.0
        self.answers_as: int | None = None
        self.asleep = False
        self.slow = 1.0
        self.longer = 0
        self.open_cells: set[int] = set()
        self.open_temps: set[int] = set()
        self.stuck: dict[int, int] = {}
        self.alarms: set[str] = set()
        self.hotter_c = 0
        self.stack_error_mv = 0
        self.balance_mask = 0
        self.fets = 3
        self.watch: tuple[int, int, int] = (0, 65535, 10000)
        self.on_sample: Callable[[CommercialBoard, list, list, int], None] = lambda *a: None
        self.temp_noise_dc = 0.0
        self.drift = 1.0
        self.answered = 0
        self.back_us: list[int] = []
        self._booted_us: int | None = None
        self.mv: list[int] = []
        self.dc: list[int | None] = []
        self._measure = measure
        self._rng = rng
        self._noise_mv = noise_mv
        self._starts = 0  # answers of an earlier life are not sent

    # --- by kind ---

    def step_mv(self, mv: int) -> int:
        """A voltage as this kind can say it."""
        return mv

    def step_dc(self, dc: int) -> int:
        """A temperature in 0.1 degC as this kind can say it."""
        return dc

    def sensors(self, dc: list[int | None]) -> list[int | None]:
        """What its sensors measure, in the resolution of this kind."""
        return dc

    def rebooted(self) -> None:
        """It has lost its commands: FETs on, no cell balanced."""
        self.balance_mask = 0
        self.fets = 3

    # --- what a kind uses ---

    @property
    def address(self) -> int:
        """The address that it answers for."""
        return self.node if self.answers_as is None else self.answers_as

    def sample(self) -> None:
        """Measure: mv [cells] in mV, dc [temps] in 0.1 degC, None = open sensor."""
        volts, degrees = self._measure()
        noise = self._rng.normal(0.0, self._noise_mv, self.cells)
        self.mv = [self.step_mv(int(v)) for v in np.rint(volts * 1000 + noise)]
        for i, value in self.stuck.items():
            self.mv[i] = self.step_mv(value)
        tenths = degrees[: self.temps] * 10
        if self.temp_noise_dc:
            tenths = tenths + self._rng.normal(0.0, self.temp_noise_dc, self.temps)
        self.dc = self.sensors(
            [
                None if i in self.open_temps else self.step_dc(int(v))
                for i, v in enumerate(np.rint(tenths))
            ]
        )
        sent = [None if i in self.open_cells else v for i, v in enumerate(self.mv)]
        self.on_sample(self, sent, self.dc, 0)

    @property
    def stack_mv(self) -> int:
        """Its own measurement of all cells together."""
        return sum(self.mv) + self.stack_error_mv

    @property
    def board_c(self) -> int:
        """Temperature of its own parts."""
        return 30 + self.hotter_c + 2 * bin(self.balancing_cells()).count("1")

    def beyond(self) -> bool:
        """True where what it measured last is out of the hard bounds of the pack."""
        low, high, hottest = self.watch
        cold = all(dc is None or dc <= hottest for dc in self.dc)
        return not cold or any(not low <= mv <= high for mv in self.mv)

    def note_back(self) -> None:
        """It answers: the first time since it started?"""
        if self._booted_us is not None:
            self.back_us.append(self.events.now_us - self._booted_us)
            self._booted_us = None

    # --- what befalls it ---

    def balancing_cells(self) -> int:
        """Mask of the cells that are balanced now."""
        return self.balance_mask if self.alive else 0

    def restart(self) -> None:
        """A brown-out, also in the middle of an answer; it is back after its boot time."""
        self.alive = False
        self._starts += 1
        self.rebooted()
        self.events.after(round(BOOT_US * self.drift), self._booted)

    def _booted(self) -> None:
        self.alive = True
        self._booted_us = self.events.now_us
