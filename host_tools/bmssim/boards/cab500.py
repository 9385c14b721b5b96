"""A current sensor with its own CAN node: LEM CAB 500-C, from its data sheet's layout."""

from collections.abc import Callable

from ..bus import CanBus
from ..events import Events
from ..protocol import Frame

IDENT = 0x3C2
PERIOD_US = 10_000
ZERO = 0x80000000
NAME = b"CAB"


class Cab500:
    """Sends the current every 10 ms; `measure` gives it in A, + = charge, None = it is silent.

    error: 0, or the error that it reports (7 bits).
    """

    def __init__(
        self,
        events: Events,
        bus: CanBus,
        measure: Callable[[], float | None],
        ident: int = IDENT,
    ) -> None:
        self._bus = bus
        self._ident = ident
        self._measure = measure
        self.error = 0
        bus.attach(self)
        events.every(PERIOD_US, self._say)

    def _say(self) -> None:
        amps = self._measure()
        if amps is None:
            return
        value = 0xFFFFFFFF if self.error else ZERO + round(amps * 1000)
        state = self.error << 1 | 1 if self.error else 0
        data = value.to_bytes(4, "big") + bytes([state]) + NAME
        self._bus.send(Frame(self._ident, data), self)

    def on_frame(self, frame: Frame) -> None:
        """It listens to nobody."""

    def on_sent(self, frame: Frame) -> None:
        """Its own frame has left."""
