"""What slcan and COBS framing share: bytes in up to a delimiter, bytes out as the port has room.

A stream (from the HAL) has `read(buf) -> n` and `write(buf, start, n) -> n`, neither of which
waits. Nothing here allocates after start-up.
"""

from bms.kernels.buffers import find, put, shift
from bms.ticks import MASK

_CHUNK = 128
_CHUNKS = 8  # taken in one step at most: a port that floods must not delay the cycle


class SerialLink:
    """Cuts a stream at a delimiter and hands each piece to `_piece`.

    `data`: payload of the frame being handed over. Counters: rx, tx frames; damaged pieces;
    dropped frames for which the port had no room. rx_at: ms tick of the last bytes.
    """

    def __init__(self, stream, delimiter, longest):
        self.rx = self.tx = self.damaged = self.dropped = 0
        self.data = bytearray(8)
        self._stream = stream
        self._delimiter = delimiter
        self._longest = longest
        self._chunk = bytearray(_CHUNK)
        self._in = bytearray(2 * longest + _CHUNK)
        self._filled = 0
        self._out = bytearray(512)
        self._sent = 0
        self._queued = 0
        self.rx_at = -1  # before the first poll

    def poll(self, sink, now):
        """Read what has arrived, hand each good frame to `sink.on_frame(ident, n, data, now)`."""
        self.flush()
        for _ in range(_CHUNKS):
            got = self._stream.read(self._chunk)
            if not got:
                return
            self.rx_at = now
            filled = put(self._in, self._filled, self._chunk, got)
            start = 0
            while True:
                end = find(self._in, start, filled, self._delimiter)
                if end < 0:
                    break
                if end > start:
                    self._piece(start, end, sink, now)
                start = end + 1
            if filled - start > self._longest:
                # no frame is this long: forget it, up to the next delimiter nothing is valid
                self.damaged = (self.damaged + 1) & MASK
                self._in[0] = 0xFF
                self._filled = 1
            else:
                self._filled = shift(self._in, start, filled) if start else filled
            if got < _CHUNK:
                return

    def unended(self):
        """Bytes of a piece whose delimiter has not come."""
        return self._filled

    def _piece(self, start, end, sink, now):
        """Look at the bytes start..end-1 of `_in`: a frame for the sink, or damage to count."""
        raise NotImplementedError

    def room(self):
        """Bytes that can still be queued."""
        if self._sent == self._queued:
            self._sent = self._queued = 0
        return len(self._out) - self._queued

    def flush(self):
        """Give the port what it takes now."""
        if self._sent < self._queued:
            self._sent += self._stream.write(self._out, self._sent, self._queued - self._sent)
            if self._sent >= self._queued:
                self._sent = self._queued = 0
