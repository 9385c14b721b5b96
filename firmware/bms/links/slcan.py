"""CAN frames over a serial port in slcan ASCII (Lawicel CAN232): the protocol of USB adapters.

Each good frame is handed to a sink, everything else is counted. Nothing here waits, and nothing
allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.buffers import put
from bms.kernels.slcan import slcan_decode, slcan_encode
from bms.links.can import EXTENDED
from bms.links.serial import SerialLink
from bms.ticks import MASK

# bit/s -> the adapter's speed command
SPEEDS = {
    10000: b"S0\r",
    20000: b"S1\r",
    50000: b"S2\r",
    100000: b"S3\r",
    125000: b"S4\r",
    250000: b"S5\r",
    500000: b"S6\r",
    800000: b"S7\r",
    1000000: b"S8\r",
}
DEFAULT_BPS = 500000
_LONGEST = 31  # an extended frame with its time stamp and a little more
_FRAME = 22  # characters of the longest standard frame
_EXTENDED_FRAME = 27
_SILENT_MS = 1000
_BEL = const(7)
_LF = const(10)
_TIME = 4  # characters of the time that some adapters write behind a frame
_CONVINCED = const(3)  # frames of the other form, one after the other, until it is the adapter's
_ANSWERS = b"zZVFN"  # first bytes of an adapter's own replies


class Slcan(SerialLink):
    """A CAN link over an adapter; see `SerialLink` for its fields."""

    polled = False  # many boards may send at once: the bus arbitrates

    def __init__(self, stream, rate=0):
        """Open the channel at `rate` bit/s (0 = 500000). Raises ValueError for another rate."""
        super().__init__(stream, 13, _LONGEST)
        self._ident = array("i", (0,))  # of the frame that is decoded
        self._time = 0  # characters behind each frame of this adapter: none or its time
        self._others = 0  # frames of the other form since the last one of this
        self.rate = rate or DEFAULT_BPS
        if self.rate not in SPEEDS:
            raise ValueError("slcan has no %d bit/s" % self.rate)
        self._setup = b"\r\rC\r" + SPEEDS[self.rate] + b"O\r"
        self._open()

    def poll(self, sink, now):
        """As `SerialLink.poll`; an adapter that has been silent is opened again: it may be new."""
        if self.rx_at < 0:
            self.rx_at = now
        super().poll(sink, now)
        if ticks.diff(now, self.rx_at) >= _SILENT_MS:
            self.rx_at = now
            self._open()

    def _open(self):
        if self.room() >= len(self._setup):
            self._queued = put(self._out, self._queued, self._setup, len(self._setup))
            self.flush()

    def send(self, ident, data, n):
        """Queue one data frame; False (and counted) where there is no room."""
        if self.room() < (_EXTENDED_FRAME if ident & EXTENDED else _FRAME):
            self.dropped = (self.dropped + 1) & MASK
            return False
        self._queued = slcan_encode(ident, data, n, self._out, self._queued)
        self.tx = (self.tx + 1) & MASK
        self.flush()
        return True

    def _piece(self, start, end, sink, now):
        # an adapter's error reply has no end of its own, and some end each line with CR LF
        while start < end and (self._in[start] == _BEL or self._in[start] == _LF):
            start += 1
        if start == end:
            return
        n = slcan_decode(self._in, start, end - self._time, self.data, self._ident)
        if n >= 0:
            self._others = 0
            self.rx = (self.rx + 1) & MASK
            sink.on_frame(self._ident[0], n, self.data, now)
        elif self._in[start] not in _ANSWERS:
            self.damaged = (self.damaged + 1) & MASK
            self._other_form(start, end)

    def _other_form(self, start, end):
        """Find out whether the adapter adds its time, or stops to: by several frames in a row.

        One alone may be a damaged frame, and its last bytes data.
        """
        other = _TIME - self._time
        if slcan_decode(self._in, start, end - other, self.data, self._ident) < 0:
            self._others = 0
            return
        self._others += 1
        if self._others >= _CONVINCED:
            self._others = 0
            self._time = other
