"""Buffer of lines for the serial port; a line without room is dropped and counted.

A line is built in place, piece by piece over several steps, behind those that wait to be sent; it
is sent only after `end` has added its CRC. `flush` writes as much as the port accepts and never
waits. Nothing here allocates after start-up.
"""

from micropython import const

from bms.kernels.buffers import (
    put,
    put_end,
    put_field,
    put_hex,
    put_int,
    put_key,
    put_text,
    put_values,
    shift_aligned,
    splice,
)
from bms.kernels.checksums import crc16
from bms.ticks import MASK

_SIZE = const(2048)
_LINE = const(768)  # room for any line: the longest status line takes 600 bytes
_WRITES = const(3)  # most writes to the port in one step


class TxBuffer:
    """lines: ended since boot; dropped: lines for which there was no room.

    unsent: True while a whole line may wait to be sent.
    """

    def __init__(self, stream, clock):
        self._stream = stream
        self._clock = clock
        self._buf = bytearray(_SIZE)
        self._sent = 0
        self._ready = 0  # end of the last whole line
        self._at = 0  # end of what is built
        self.building = False
        self.unsent = False
        self.lines = self.dropped = 0

    def room(self):
        """True if a new line would not be dropped."""
        return _SIZE - self._ready + self._sent >= _LINE

    def begin(self, kind):
        """Start a line of a kind; False, and counted in `dropped`, if there is no room for it."""
        if _SIZE - self._ready < _LINE:
            if not self.room():
                self.dropped = (self.dropped + 1) & MASK
                return False
            start = shift_aligned(self._buf, self._sent, self._ready)
            self._ready += start - self._sent
            self._sent = start
        self.building = True
        ready = self._ready
        at = put_text(self._buf, ready, b"k", 1, kind, len(kind))
        self._buf[ready] = 0x7B  # {, where other keys have a comma
        self._at = put_key(self._buf, at, b"t_ms", 4)
        self.uptime(self._clock.uptime_s, self._clock.uptime_ms)
        return True

    def uptime(self, seconds, ms):
        """Append seconds and ms as one number of ms, which may exceed a small int."""
        if seconds:
            self._at = put_int(self._buf, self._at, seconds)
            if ms < 100:
                self.raw(b"0" if ms > 9 else b"00")
        self._at = put_int(self._buf, self._at, ms)

    def raw(self, text):
        """Append bytes as they are."""
        self._at = put(self._buf, self._at, text, len(text))

    def part(self, text, start, n):
        """Append n bytes of a text from `start` on."""
        splice(self._buf, self._at, text, start, n)
        self._at += n

    def hex(self, data, start, n):
        """Append n bytes of `data` from `start` on as hex digits."""
        self._at = put_hex(self._buf, self._at, data, start, n)

    def key(self, name):
        """Append a key, given as b'name'."""
        self._at = put_key(self._buf, self._at, name, len(name))

    def number(self, name, value):
        """Append a key and an integer; None gives null."""
        if value is None:
            self.key(name)
            self.raw(b"null")
        else:
            self._at = put_field(self._buf, self._at, name, len(name), value)

    def value(self, value):
        """Append an integer; None gives null."""
        if value is None:
            self.raw(b"null")
        else:
            self._at = put_int(self._buf, self._at, value)

    def values(self, values, flags, start, end, first):
        """Append values start..end-1 of an array('h'), null where `flags` says not FRESH.

        A comma stands before each but the one at `first`.
        """
        self._at = put_values(self._buf, self._at, values, flags, start, end, first)

    def text(self, name, text, more=b""):
        """Append a key and a text of plain characters, in one or two parts."""
        self._at = put_text(self._buf, self._at, name, len(name), text, len(text))
        if more:
            self._at -= 1
            self.raw(more)
            self.raw(b'"')

    def end(self):
        """End the line with its CRC; it can be sent now."""
        buf = self._buf
        at = self._at
        buf[at] = 0x2C  # the comma before the CRC counts, too
        crc = crc16(buf, self._ready, at + 1, 0xFFFF)
        self._at = self._ready = put_end(buf, at + 1, crc)
        self.building = False
        self.unsent = True
        self.lines = (self.lines + 1) & MASK

    def flush(self):
        """Write to the port what it accepts now; call it while `unsent`.

        True where more may be written soon, False where nothing is left or nobody reads.
        """
        for _ in range(_WRITES):
            at = self._sent
            end = self._ready
            if at == end:
                self.unsent = False
                return False
            took = self._stream.write(self._buf, at, end - at)
            if not took:
                return False
            at += took
            if at == end and not self.building:
                at = self._ready = self._at = 0
            self._sent = at
        return True
