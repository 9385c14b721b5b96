"""Finds replies in a stream of bytes, wherever they begin: for links to polled boards.

A stream (from the HAL) is as `SerialLink` says. Nothing here waits or allocates after start-up.
"""

from bms.kernels.buffers import find, put, shift
from bms.ticks import MASK

_CHUNK = 64
_CHUNKS = 8  # taken in one step at most: a port that floods must not delay the cycle

# why the last piece was refused
NO_FAULT, TRUNCATED, CHECKSUM = range(3)


class ReplyLink:
    """Bytes out as they are, replies in. A subclass knows how a reply looks.

    Counters: rx replies, tx requests; damaged pieces; dropped requests that were not out before the
    next; echoes: own requests that the adapter returns. fault: why the last piece was refused, an
    index of REASONS. rx_at: ms tick of the last bytes.
    """

    REASONS = ("", "truncated", "wrong checksum")
    polled = True

    def __init__(self, stream, rate, longest, start=-1, chunk=_CHUNK):
        """rate: bit/s; longest: bytes of a reply; start: its first byte, -1 = any; chunk: bytes
        read at once, many where many boards answer one poll.
        """
        self.rate = rate
        self.rx = self.tx = self.damaged = self.dropped = self.echoes = 0
        self.fault = NO_FAULT
        self.rx_at = 0
        self.out = bytearray(longest)  # a request is written here, then `send`
        self._longest = longest
        self._start = start
        self._stream = stream
        self._chunk = bytearray(chunk)
        self._in = bytearray(longest + chunk)
        self._filled = 0
        self._sent = self._to_send = 0

    # --- what a subclass defines ---

    def _size(self, at, filled):
        """Bytes of the reply that may begin at `at` of `_in`; 0 = none does.

        Where its length isn't there yet (`filled` bytes are), the longest that it may have.
        """
        raise NotImplementedError

    def _good(self, at, size):
        """True where those bytes are a whole reply; else sets `fault`."""
        raise NotImplementedError

    def _hand_over(self, at, size, sink, now):
        """Give a good reply to the sink, which sends nothing before it has returned."""
        raise NotImplementedError

    # --- bytes ---

    def send(self, n):
        """Send n bytes of `out`, as the port takes them; counted where others were not out yet."""
        self.tx = (self.tx + 1) & MASK
        if self._sent < self._to_send:
            self.dropped = (self.dropped + 1) & MASK
        self._to_send = n
        self._sent = 0
        self._flush()
        return True

    def unsent(self):
        """True where the port has not taken all of the last request."""
        return self._sent < self._to_send

    def _flush(self):
        n = self._to_send - self._sent
        self._sent += self._stream.write(self.out, self._sent, n)

    def poll(self, sink, now):
        """Read what has arrived; each good reply goes to the sink."""
        if self._sent < self._to_send:
            self._flush()
        for _ in range(_CHUNKS):
            got = self._stream.read(self._chunk)
            if not got:
                return
            self.rx_at = now
            if self._filled + got > len(self._in):
                self._drop(self._filled + got - len(self._in))
            self._filled = put(self._in, self._filled, self._chunk, got)
            self._search(sink, now)

    def end(self, sink, now):
        """Nothing more comes: what is left, and looked like the front of a reply, is damaged."""
        self._search(sink, now)
        if self._filled:
            self.damaged = (self.damaged + 1) & MASK
            if self.fault == NO_FAULT:
                self.fault = TRUNCATED
        self._filled = 0

    def forget(self):
        """Drop what arrived before the next poll: it is no answer to it."""
        self._filled = 0

    def _drop(self, n):
        self.damaged = (self.damaged + 1) & MASK
        self._filled = shift(self._in, n, self._filled)

    def _search(self, sink, now):
        """Hand over every whole reply; a front that may still become one is kept, and only that.

        A false start with a large length must not hide a reply behind it: all starts are tried.
        """
        data = self._in
        filled = self._filled
        keep = -1
        at = 0
        while at < filled:
            if self._start >= 0:
                at = find(data, at, filled, self._start)
                if at < 0:
                    break
            size = self._size(at, filled)
            if size:
                if at + size > filled:
                    if keep < 0:
                        keep = at
                elif self._good(at, size):
                    self._hand_over(at, size, sink, now)
                    at += size
                    keep = -1  # a front before a good reply was none
                    continue
                elif keep < 0:
                    self.damaged = (self.damaged + 1) & MASK  # counted once, as it is dropped
            at += 1
        if keep < 0:
            self._filled = 0
        elif keep:
            self._filled = shift(data, keep, filled)
