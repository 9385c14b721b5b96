"""What stands between the master's serial port and a bus: an slcan adapter, or a UART itself."""

from collections.abc import Callable

from .bus import CanBus, Noise, UartBus
from .events import Events
from .protocol import Frame
from .slcan import from_line, to_line

USB_US = 1000  # a full-speed USB device hands over what it has once a millisecond
CHUNK_US = 500  # while a UART's bytes keep coming they are handed over so often, and at idle

Deliver = Callable[[bytes], None]


class SlcanAdapter:
    """A USB-CAN adapter that speaks slcan (Lawicel CAN232): S6, O, C, frames, one CAN node.

    `deliver` gives bytes to the firmware's port. Text on the USB side may be struck by `noise`.
    """

    def __init__(self, events: Events, bus: CanBus, deliver: Deliver, noise: Noise) -> None:
        self._events = events
        self._bus = bus
        self._deliver = deliver
        self._noise = noise
        self._line = b""
        self._open = False
        self._text = b""
        self._flushing = False
        bus.attach(self)

    def on_bytes(self, data: bytes) -> None:
        """Bytes from the firmware."""
        *lines, self._line = (self._line + data).split(b"\r")
        for line in lines:
            self._command(line)

    def _command(self, line: bytes) -> None:
        if not line:
            return
        if line[:1] == b"O":
            self._open = True
        elif line[:1] == b"C":
            self._open = False
        elif self._open and (frame := from_line(line)) is not None:
            self._bus.send(frame, self)
            self._say(b"z\r" if line[:1] == b"t" else b"Z\r")
            return
        self._say(b"\r")

    def on_sent(self, frame: Frame) -> None:
        """Its own frame has left."""

    def on_frame(self, frame: Frame) -> None:
        """A frame from the bus."""
        if self._open:
            text = to_line(frame) + b"\r"
            # a quarter of all damage strikes behind the bus, on the way to the master
            if self._noise.rate and self._noise.rng.random() < 0.25 and self._noise.strikes():
                text = self._noise.bytes(text) if self._bus.checksummed else self._noise.loss(text)
            self._say(text)

    def _say(self, text: bytes) -> None:
        self._text += text
        if not self._flushing:
            self._flushing = True
            now = self._events.now_us
            self._events.at((now // USB_US + 1) * USB_US, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        text, self._text = self._text, b""
        self._deliver(text)


class UartPort:
    """The master's own UART on a bus: bytes are seen soon after they are on the line."""

    def __init__(self, events: Events, bus: UartBus, deliver: Deliver) -> None:
        self._events = events
        self._bus = bus
        self._deliver = deliver
        self._data = b""
        self._waiting = False
        bus.to_master = self._from_bus

    def on_bytes(self, data: bytes) -> None:
        """Bytes from the firmware."""
        self._bus.from_master(data)

    def _from_bus(self, data: bytes, last: bool) -> None:
        self._data += data
        if last:
            self._flush()
        elif not self._waiting:
            self._waiting = True
            self._events.after(CHUNK_US, self._flush)

    def _flush(self) -> None:
        self._waiting = False
        data, self._data = self._data, b""
        if data:
            self._deliver(data)
