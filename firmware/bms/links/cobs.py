"""The cell link's frames over a UART: COBS, 00 between frames, CRC-16/CCITT-FALSE inside.

`id low, id high, payload 0..8, CRC low, CRC high`. Nothing here waits, and nothing allocates after
start-up.
"""

from bms.kernels.buffers import put
from bms.kernels.checksums import crc16
from bms.kernels.cobs import cobs_decode, cobs_encode
from bms.links.serial import SerialLink
from bms.ticks import MASK

DEFAULT_BPS = 1000000
_LONGEST = 13  # 2 + 8 + 2 bytes and COBS's own
_WIRE = 14


class CobsLink(SerialLink):
    """A bus of boards on one UART; see `SerialLink` for its fields."""

    polled = True  # one board may send at a time: the master polls each by its number
    echoes = 0  # as `ReplyLink`; none are known

    def __init__(self, stream, rate=0):
        super().__init__(stream, 0, _LONGEST)
        self.rate = rate or DEFAULT_BPS
        self._plain = bytearray(12)

    def send(self, ident, data, n):
        """Queue one frame; False (and counted) where there is no room."""
        if self.room() < _WIRE:
            self.dropped = (self.dropped + 1) & MASK
            return False
        plain = self._plain
        plain[0] = ident & 0xFF
        plain[1] = ident >> 8
        put(plain, 2, data, n)
        crc = crc16(plain, 0, n + 2, 0xFFFF)
        plain[n + 2] = crc & 0xFF
        plain[n + 3] = crc >> 8
        self._queued = cobs_encode(plain, n + 4, self._out, self._queued)
        self.tx = (self.tx + 1) & MASK
        self.flush()
        return True

    def forget(self):
        """Drop a piece whose end never came: its bytes would spoil the next board's first frame."""
        if self._filled:
            self._filled = 0
            self.damaged = (self.damaged + 1) & MASK

    def _piece(self, start, end, sink, now):
        plain = self._plain
        n = cobs_decode(self._in, start, end, plain, 12) - 4
        if (
            n < 0
            or crc16(plain, 0, n + 2, 0xFFFF) != plain[n + 2] | plain[n + 3] << 8
            or plain[1] > 7
        ):
            self.damaged = (self.damaged + 1) & MASK
            return
        data = self.data
        for i in range(n):
            data[i] = plain[i + 2]
        self.rx = (self.rx + 1) & MASK
        sink.on_frame(plain[0] | plain[1] << 8, n, data, now)
