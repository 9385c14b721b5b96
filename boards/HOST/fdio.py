"""Streams that never wait, for MicroPython's unix port and CPython alike.

In real time a stream is a file descriptor, inherited from the program that starts the firmware
(`bmssim.process`), which has made it non-blocking. Where the simulator owns the time, the
bytes of all streams go with the frames of the pins (`board.Board`).
Under MicroPython nothing here allocates once a stream is made.
"""

import sys

ON_MICROPYTHON = sys.implementation.name == "micropython"
IN_ROOM = 2048  # bytes that a stream may be brought in a step, and that may wait in it
_HEAD = 3  # bytes before those of a write: number of the stream, how many follow, low byte first

if ON_MICROPYTHON:
    from bms.kernels.buffers import shift, splice  # pyright: ignore[reportAssignmentType]
else:

    def splice(dst, at, src, start, n):
        dst[at : at + n] = src[start : start + n]

    def shift(data, start, end):
        data[: end - start] = data[start:end]
        return end - start


class FdStream:
    """A stream on a descriptor that doesn't block; see `SerialLink` for a stream's contract.

    lows: the line is to be held low.
    """

    def __init__(self, fd):
        self._file = open(fd, "r+b", buffering=0)
        self.lows = 0

    def low(self):
        """Have the line held low; the other side does it, and `usual` isn't needed."""
        self.lows = 1

    def usual(self):
        """The line is as before."""

    def read(self, buf):
        """Fill `buf` with what is there; how many bytes."""
        return self._file.readinto(buf) or 0

    def write(self, buf, start, n):
        """Write what the descriptor takes of `buf[start:start + n]`; how many bytes."""
        if ON_MICROPYTHON:
            return self._file.write(buf, start, n) or 0
        return self._file.write(memoryview(buf)[start : start + n]) or 0


class Outgoing:
    """What all streams have written since the last step: bytes `start`..`end` of `data`."""

    def __init__(self, data, start, room):
        self.data = data
        self.start = self.end = start
        self._room = room

    def put(self, number, buf, start, n):
        """Keep what there is room for of `buf[start:start + n]`; how many bytes."""
        at = self.end
        left = self._room - at - _HEAD
        if n > left:
            n = left
        if n <= 0:
            return 0
        self.data[at] = number
        self.data[at + 1] = n & 255
        self.data[at + 2] = n >> 8
        splice(self.data, at + _HEAD, buf, start, n)
        self.end = at + _HEAD + n
        return n


class SteppedStream:
    """A stream whose bytes the board brings, and that shares what goes out with the others.

    lows: the line is to be held low; spare: IN_ROOM bytes that all streams may use for a moment.
    """

    def __init__(self, number, outgoing, spare):
        self.lows = 0
        self._number = number
        self._outgoing = outgoing
        self._in = bytearray(IN_ROOM)
        self._start = self._end = 0  # what waits in `_in`
        self._spare = spare

    low = FdStream.low
    usual = FdStream.usual

    def read(self, buf):
        """Fill `buf` with what is there; how many bytes."""
        n = self._end - self._start
        if not n:
            return 0
        if n > len(buf):
            n = len(buf)
        splice(buf, 0, self._in, self._start, n)
        self._start += n
        return n

    def write(self, buf, start, n):
        """Write what there is room for of `buf[start:start + n]`; how many bytes."""
        return self._outgoing.put(self._number, buf, start, n)

    def take(self, file, n):
        """Bring `n` bytes, IN_ROOM at most; without room the newest are lost, as on a UART."""
        if self._start == self._end:
            exactly(file, self._in, n)
            self._start = 0
            self._end = n
            return
        exactly(file, self._spare, n)
        self._end = shift(self._in, self._start, self._end)
        self._start = 0
        if n > IN_ROOM - self._end:
            n = IN_ROOM - self._end
        splice(self._in, self._end, self._spare, 0, n)
        self._end += n


def exactly(file, buf, n):
    """Read `n` bytes into the front of `buf`, waiting for them. Raises OSError at the end."""
    if ON_MICROPYTHON:
        done = file.readinto(buf, n)  # reads all of them, or up to the end
    else:
        view = memoryview(buf).cast("B")
        done = 0
        while done < n:
            got = file.readinto(view[done:n])
            if not got:
                break
            done += got
    if done != n:
        raise OSError("the other side is gone")
