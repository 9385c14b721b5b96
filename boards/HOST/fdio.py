"""File descriptors as streams that never wait: MicroPython's unix port and CPython alike.

The descriptors are inherited from the program that starts the firmware (`bmssim.process`), which
has made them non-blocking, or, where the simulator owns the time, says how many bytes there are.
Under MicroPython nothing here allocates once a stream is made.
"""

import sys

ON_MICROPYTHON = sys.implementation.name == "micropython"


class FdStream:
    """A stream for `bms.links` and the console; see `SerialLink` for its contract.

    pending: bytes that the simulator says are there, -1 = not told: the descriptor doesn't block.
    written: bytes written since the simulator was told; lows: the line is to be held low.
    """

    def __init__(self, fd, stepped):
        self.fd = fd
        self._file = open(fd, "r+b", buffering=0)
        self._stepped = stepped
        self.pending = 0
        self.written = 0
        self.lows = 0

    def low(self):
        """Have the line held low; the other side does it, and `usual` isn't needed."""
        self.lows = 1

    def usual(self):
        """The line is as before."""

    def read(self, buf):
        """Fill `buf` with what is there; how many bytes."""
        if not self._stepped:
            return self._file.readinto(buf) or 0
        n = self.pending if self.pending < len(buf) else len(buf)
        if n:
            exactly(self._file, buf, n)
            self.pending -= n
        return n

    def write(self, buf, start, n):
        """Write what the descriptor takes of `buf[start:start + n]`; how many bytes."""
        if ON_MICROPYTHON:
            done = self._file.write(buf, start, n)
        else:
            done = self._file.write(memoryview(buf)[start : start + n])
        if not done:
            return 0
        self.written += done
        return done


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
