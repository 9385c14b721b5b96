"""The freeze frame: readings of the second before and after the first trip.

Samples go into a ring. After the first fault that trips, half a ring of samples follows; then the
ring keeps its content until the frame is stored or the faults are acknowledged. Nothing here
allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.buffers import copy16, splice

_BYTES = const(3072)  # bytes of RAM for all samples: a large pack has fewer
_SPAN_MS = const(2000)
# of `more`: uptime, link voltage, then a current and a contactor state a string
AT_S, AT_MS, LINK, STRING = 0, 1, 2, 3


class FreezeFrame:
    """count: samples; cell_mv [count][cells], temp_dc [count][temps]: array('h'); more [count].

    more: array('i') of uptime s and ms, link mV (-1 = not measured), then mA and state of each
    string. ready: a frame is complete; blocking: it must not be released yet; fault: its
    cause; oldest: index of its first sample.
    """

    def __init__(self, pack, currents, strings, faults, clock):
        self._pack = pack
        self._currents = currents
        self._strings = strings
        self._faults = faults
        self._clock = clock
        size = 2 * (pack.cells + pack.temps) + 4 * (STRING + 2 * pack.strings)
        count = min(max(_BYTES // size, 2), 20) & ~1
        self.count = count
        self._head = array("h", [pack.cells, pack.temps, pack.strings, count])
        self._lengths = (2 * pack.cells, 2 * pack.temps, 4 * (STRING + 2 * pack.strings))
        self.bytes = 8 + size * count  # of a frame, see `fill`
        self.blocking = False
        self._period = _SPAN_MS // count
        self.cell_mv = [array("h", [0] * pack.cells) for _ in range(count)]
        self.temp_dc = [array("h", [0] * pack.temps) for _ in range(count)]
        self.more = [array("i", [0] * (STRING + 2 * pack.strings)) for _ in range(count)]
        self._next_at = clock.now
        self.oldest = 0
        self._samples_left = -1  # samples still to take, -1 = nothing tripped
        self.ready = False
        self.fault = 0

    def release(self):
        """Give up the frame: it is stored, or its fault is acknowledged."""
        self.ready = False
        self._samples_left = -1

    def fill(self, buf, start, n):
        """Put n bytes of the frame from its byte `start` into `buf`.

        As bytes, little-endian, a frame is the numbers of cells, temperatures, strings and samples
        in 16 bits each, then its samples, the oldest first: cell_mv, temp_dc, more.
        """
        at = 0
        if start < 8:
            at = n if n < 8 - start else 8 - start
            splice(buf, 0, self._head, start, at)
            n -= at
            start = 8
        start -= 8
        for k in range(self.count):
            i = self.oldest + k
            if i >= self.count:
                i -= self.count
            for part in range(3):
                length = self._lengths[part]
                if start < length and n > 0:
                    some = length - start
                    if some > n:
                        some = n
                    whole = self.cell_mv[i]
                    if part:
                        whole = self.temp_dc[i] if part == 1 else self.more[i]
                    splice(buf, at, whole, start, some)
                    at += some
                    n -= some
                    start = 0
                else:
                    start -= length

    def recording(self):
        """True while the samples after a trip are taken."""
        return self._samples_left >= 0 and not self.ready

    def step(self, now):
        """Take a sample when one is due."""
        if self.ready:
            if not self._faults.first and not self.blocking:
                self.release()
            return
        if self._samples_left < 0 and self._faults.first:
            self._samples_left = self.count >> 1
            self.fault = self._faults.first
        if ticks.diff(now, self._next_at) < 0:
            return
        self._next_at = ticks.add(self._next_at, self._period)
        if ticks.diff(now, self._next_at) >= 0:
            self._next_at = ticks.add(now, self._period)  # late by more than a period: skip samples
        self._sample(self.oldest)
        self.oldest = self.oldest + 1 if self.oldest + 1 < self.count else 0
        if self._samples_left > 0:
            self._samples_left -= 1
            if not self._samples_left:
                self.ready = True

    def _sample(self, i):
        pack = self._pack
        copy16(self.cell_mv[i], pack.cell_mv, pack.cells)
        copy16(self.temp_dc[i], pack.temp_dc, pack.temps)
        more = self.more[i]
        more[AT_S] = self._clock.uptime_s
        more[AT_MS] = self._clock.uptime_ms
        link = pack.link_mv
        more[LINK] = -1 if link is None else link
        for s in range(pack.strings):
            more[STRING + 2 * s] = self._currents[s].ma
            more[STRING + 2 * s + 1] = self._strings.each[s].state
