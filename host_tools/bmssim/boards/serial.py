"""What simulated boards on a serial line share: they hear, sleep, dawdle, stammer, and answer.

A kind says how a request looks (`request`) and what it answers (`answer`), from the layout alone;
it shares no code with the firmware.
"""

from collections.abc import Callable

import numpy as np

from ..bus import UartBus
from ..events import Events

# What a board measures: (true voltages in V, true temperatures in degC) at this moment.
Measure = Callable[[], tuple[np.ndarray, np.ndarray]]

BOOT_US = 2_000_000
FORGET_US = 20_000  # a request that stays incomplete for so long is none


class SerialBoard:
    """One board of `cells` cells and `temps` sensors at address `node` of a line.

    Faults to inject: alive (False: silent), asleep (wakes by a request that it doesn't answer),
    slow_us (later than usual), truncate (share of answers that are cut), longer (bytes behind each
    answer's data, where the kind has room for them), answers_as (another address), open_temps,
    hotter_c, alarms (names of `bms.slaves.base.ALARMS` that it says), stuck (cell -> mV).
    What it obeys: bleed (mask of the cells that it bleeds), fets (bit 0 charge, 1 discharge).
    on_sample is told (board, mV list, 0.1 degC list, 0) of what it is about to say, in the steps of
    its kind. back_us: after each restart, from the end of its boot to its first answer. too_early:
    requests that came before its gap was over, and went unanswered.
    """

    ANSWER_US = 5_000  # from a request's last bit to its answer's first
    GAP_US = 0  # its own minimum from an answer to the next request on its line
    SUMMED = False  # its answers carry a sum, not a CRC
    TOLERANCE_MV = 0  # what rounding may make of a voltage in two programs
    TOLERANCE_DC = 0

    def __init__(
        self,
        events: Events,
        bus: UartBus,
        node: int,
        cells: int,
        temps: int,
        measure: Measure,
        rng: np.random.Generator,
        noise_mv: float = 0.6,
    ) -> None:
        self.events = events
        self.bus = bus
        self.node = node
        self.cells = cells
        self.temps = temps
        self.alive = True
        self.asleep = False
        self.slow_us = 0
        self.truncate = 0.0
        self.longer = 0
        self.answers_as: int | None = None
        self.open_cells: set[int] = set()
        self.open_temps: set[int] = set()
        self.stuck: dict[int, int] = {}
        self.alarms: set[str] = set()
        self.hotter_c = 0
        self.stack_error_mv = 0
        self.bleed = 0
        self.fets = 3
        self.watch: tuple[int, int, int] = (0, 65535, 10000)
        self.on_sample: Callable[[SerialBoard, list, list, int], None] = lambda *a: None
        self.temp_noise_dc = 0.0
        self.drift = 1.0
        self.too_early = 0
        self.answered = 0
        self.back_us: list[int] = []
        self._booted_us: int | None = None
        self.mv: list[int] = []
        self.dc: list[int | None] = []
        self._measure = measure
        self._rng = rng
        self._noise_mv = noise_mv
        self._inbox = b""
        self._heard_us = 0
        self._starts = 0  # answers of an earlier life are not sent
        bus.gap_us = max(bus.gap_us, self.GAP_US)
        bus.summed = self.SUMMED
        bus.attach(self)

    # --- what a kind says ---

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        """(the first request in `data` or None, bytes that are used up).

        Bytes that begin no request are used up, those that may still become one are not.
        """
        raise NotImplementedError

    def answer(self, request: bytes) -> bytes | None:
        """What it answers to a request, None = it isn't meant, or doesn't know it."""
        raise NotImplementedError

    def step_mv(self, mv: int) -> int:
        """A voltage as this kind can say it."""
        return mv

    def step_dc(self, dc: int) -> int:
        """A temperature in 0.1 degC as this kind can say it."""
        return dc

    def rebooted(self) -> None:
        """It has lost what it was told: FETs on, nothing bleeds."""
        self.bleed = 0
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
        self.dc = [
            None if i in self.open_temps else self.step_dc(int(v))
            for i, v in enumerate(np.rint(tenths))
        ]
        said = [None if i in self.open_cells else v for i, v in enumerate(self.mv)]
        self.on_sample(self, said, self.dc, 0)

    @property
    def stack_mv(self) -> int:
        """Its own measurement of all cells together."""
        return sum(self.mv) + self.stack_error_mv

    @property
    def board_c(self) -> int:
        """Temperature of its own parts."""
        return 30 + self.hotter_c + 2 * bin(self.bleeding()).count("1")

    def beyond(self) -> bool:
        """True where what it measured last is out of the hard bounds of the pack."""
        low, high, hottest = self.watch
        cold = all(dc is None or dc <= hottest for dc in self.dc)
        return not cold or any(not low <= mv <= high for mv in self.mv)

    # --- the line ---

    def bleeding(self) -> int:
        """The mask that bleeds now."""
        return self.bleed if self.alive else 0

    def restart(self) -> None:
        """A brown-out, also in the middle of an answer; it is back after its boot time."""
        self.alive = False
        self._inbox = b""
        self._starts += 1
        self.rebooted()
        self.events.after(round(BOOT_US * self.drift), self._booted)

    def note_back(self) -> None:
        """It answers: the first time since it started?"""
        if self._booted_us is not None:
            self.back_us.append(self.events.now_us - self._booted_us)
            self._booted_us = None

    def _booted(self) -> None:
        self.alive = True
        self._booted_us = self.events.now_us

    def on_low(self) -> None:
        """The master holds the line low: most boards don't mind."""

    def on_bytes(self, data: bytes) -> None:
        """Bytes from the master, at the last one's end."""
        now = self.events.now_us
        if now - self._heard_us > FORGET_US:
            self._inbox = b""
        self._heard_us = now
        self._inbox = (self._inbox + data)[-1024:]
        while self._inbox:
            request, used = self.request(self._inbox)
            if not used:
                return
            self._inbox = self._inbox[used:]
            if request is not None and self.alive:
                self._asked(request)

    def _asked(self, request: bytes) -> None:
        if self.asleep:
            self.asleep = False
            return
        started_us = self.bus.asked_us
        if started_us - self.bus.answered_us < self.GAP_US:
            self.too_early += 1
            return
        answer = self.answer(request)
        if answer is None:
            return
        life = self._starts
        delay = round(self.ANSWER_US * self.drift) + self.slow_us
        self.bus.usage.wait(self.ANSWER_US)
        if self.truncate and self._rng.random() < self.truncate:
            answer = answer[: int(self._rng.integers(1, len(answer)))]
        self.events.after(delay, lambda: self._say(answer, life))

    def _say(self, answer: bytes, life: int) -> None:
        if life != self._starts:
            # it went down as it was speaking
            answer = answer[: len(answer) // 2]
        elif not self.alive:
            return
        self.answered += 1
        self.note_back()
        self.bus.say(answer, self, self.beyond())
