"""A current sensor with its own CAN node: Isabellenhuette IVT-S, from its data sheet's layout."""

from collections.abc import Callable

from ..bus import CanBus
from ..events import Events
from ..protocol import Frame

FIRST_ID = 0x521
IDS = 4  # of the current and three voltages
PERIOD_US = 20_000


class IvtS:
    """Sends the current every 20 ms; `measure` gives it in A, + = charge, None = it is silent."""

    def __init__(
        self, events: Events, bus: CanBus, ident: int, measure: Callable[[], float | None]
    ) -> None:
        self._bus = bus
        self._ident = ident
        self._measure = measure
        self._counter = 0
        bus.attach(self)
        events.every(PERIOD_US, self._say)

    def _say(self) -> None:
        amps = self._measure()
        if amps is None:
            return
        self._counter = self._counter + 1 & 15
        value = round(amps * 1000).to_bytes(4, "big", signed=True)
        self._bus.send(Frame(self._ident, bytes([0, self._counter]) + value), self)

    def on_frame(self, frame: Frame) -> None:
        """It listens to nobody."""

    def on_sent(self, frame: Frame) -> None:
        """Its own frame has left."""
