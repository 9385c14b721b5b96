"""What simulated boards of other makers on a CAN bus share."""

import numpy as np

from ..bus import CanBus
from ..events import Events
from ..protocol import Frame
from .commercial import CommercialBoard, Measure


class CanBoard(CommercialBoard):
    """One board on a bus; see `CommercialBoard`. Its frames carry no checksum of their own."""

    # parameters: all kinds of boards are made with the same ones
    def __init__(
        self,
        events: Events,
        bus: CanBus,
        node: int,
        cells: int,
        temps: int,
        measure: Measure,
        rng: np.random.Generator,
        noise_mv: float = 0.6,
    ) -> None:
        super().__init__(events, node, cells, temps, measure, rng, noise_mv)
        self.bus = bus
        bus.checksummed = False
        bus.attach(self)

    def receive(self, ident: int, data: bytes) -> None:
        """What a kind does with a frame from the bus; it may not be meant."""

    def on_frame(self, frame: Frame) -> None:
        """A frame from the bus."""
        if self.alive:
            self.receive(frame.ident, frame.data)

    def on_sent(self, frame: Frame) -> None:
        """Its own frame has left."""

    def say(self, frames: list[tuple[int, bytes]]) -> None:
        """Put frames on the bus, one after the other."""
        if not self.alive:
            return
        self.answered += 1
        self.note_back()
        marked = self.beyond()
        for ident, data in frames:
            if self.truncate and self._rng.random() < self.truncate:
                data = data[: int(self._rng.integers(0, len(data)))]
            self.bus.send(Frame(ident, data, marked=marked), self)
