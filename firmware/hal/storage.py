"""Slots of bytes that outlast the power, as files of a file system.

What `bms.store` needs of it: `slots`, `size`, `read`, `write`; how a cut write is survived is its
business.
"""

import os
import sys

_MICROPYTHON = sys.implementation.name == "micropython"


class FileStorage:
    """`slots` files of up to `size` bytes in `folder`, which is made; opened once, for good.

    Where a shorter content replaces a longer one, the rest of that stays behind it. Raises OSError.
    """

    def __init__(self, folder, slots, size):
        self.slots = slots
        self.size = size
        try:
            os.mkdir(folder)
        except OSError:
            pass  # it is there, or opening says why not
        self._files = [_opened("%s/slot%d" % (folder, i)) for i in range(slots)]

    def read(self, slot, buf):
        """Bytes put into `buf`, 0 where nothing was ever written."""
        file = self._files[slot]
        file.seek(0)
        return file.readinto(buf) or 0

    def write(self, slot, buf, n):
        """Replace the slot's content by the first `n` bytes; they are out when this returns."""
        if n > self.size:
            raise ValueError("too long for a slot")
        file = self._files[slot]
        file.seek(0)
        if _MICROPYTHON:
            done = file.write(buf, 0, n)  # pyright: ignore[reportCallIssue]
        else:
            done = file.write(memoryview(buf)[:n])
        if done != n:
            raise OSError(28)  # ENOSPC
        file.flush()

    def close(self):
        """Give the files back."""
        for file in self._files:
            file.close()


def _opened(path):
    options = {} if _MICROPYTHON else {"buffering": 0}  # a port's files have no buffer of Python's
    try:
        return open(path, "r+b", **options)  # pyright: ignore
    except OSError:
        return open(path, "w+b", **options)  # pyright: ignore
