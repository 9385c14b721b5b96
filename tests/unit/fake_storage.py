"""Slots in RAM whose power can be cut within a write; strict as the HAL's contract is."""


class PowerCut(Exception):
    """The power went within a write. No OSError: nothing on a board would see it."""


class Slots:
    """The HAL's `storage`. `cut_at`: bytes that still get written; `torn` makes the rest of a slot.

    torn(new, old, k): what a slot holds whose write was cut after k bytes. writes: per slot.
    whole: what the cut kept back was there already. broken: writes that fail with `error` from
    now on. Reads of slots in `unreadable` fail with it.
    """

    def __init__(self, slots=8, size=2048, torn=None):
        self.slots = slots
        self.size = size
        self.content = [b""] * slots
        self.writes = [0] * slots
        self.cut_at = -1
        self.torn = torn or (lambda new, old, k: new[:k] + old[k:])
        self.whole = False
        self.broken = 0
        self.error = OSError(5)
        self.unreadable = ()
        self.locked = False
        self.closed = 0

    def close(self):
        self.closed += 1

    def read(self, slot, buf):
        if slot in self.unreadable:
            raise self.error
        data = self.content[slot]
        n = len(data) if len(data) < len(buf) else len(buf)
        for i in range(n):
            buf[i] = data[i]
        return n

    def write(self, slot, buf, n):
        if not 0 <= slot < self.slots or not 0 < n <= min(self.size, len(buf)):
            raise ValueError("no such slot, or too long")
        if self.broken:
            self.broken -= 1
            self.content[slot] = b"\x5a" * n  # it may have come any far
            raise self.error
        self.writes[slot] += 1
        if self.locked:
            return  # with the heap locked nothing can be kept
        new = bytes(buf[:n])
        if self.cut_at >= 0:
            if self.cut_at < n:
                self.content[slot] = bytes(self.torn(new, self.content[slot], self.cut_at))
                self.whole = self.content[slot] == new
                raise PowerCut
            self.cut_at -= n
        self.content[slot] = new

    def flip(self, slot, bit):
        """One bit of a slot turns."""
        data = bytearray(self.content[slot])
        data[bit // 8] ^= 1 << bit % 8
        self.content[slot] = bytes(data)
