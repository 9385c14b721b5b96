"""Slots of bytes that outlast the power, as files of a file system.

What `bms.storage.nvm_store` needs of it: `slots`, `size`, `read`, `write`; how a cut write is
survived is its business.
"""

import gc
import os
import sys

_MICROPYTHON = sys.implementation.name == "micropython"


class FileStorage:
    """`slots` files of up to `size` bytes in `folder`, which is made. Raises OSError.

    keep: the files stay open, and nothing allocates. Otherwise a file is opened for each use (one
    of littlefs takes 1.2 KB of an RP2040's heap), and `write` collects what that left. Where a
    shorter content replaces a longer one, the rest of that may stay behind it.
    """

    def __init__(self, folder, slots, size, keep=True):
        self.slots = slots
        self.size = size
        self._keep = keep
        try:
            os.mkdir(folder)
        except OSError:
            pass  # it is there, or opening says why not
        self._paths = ["%s/slot%d" % (folder, i) for i in range(slots)]
        self._files = []
        for path in self._paths:
            file = _opened(path)
            if keep:
                self._files.append(file)
            else:
                file.close()

    def read(self, slot, buf):
        """Bytes put into `buf`, 0 where nothing was ever written."""
        file = self._files[slot] if self._keep else _opened(self._paths[slot])
        try:
            file.seek(0)
            return file.readinto(buf) or 0
        finally:
            if not self._keep:
                file.close()

    def write(self, slot, buf, n):
        """Replace the slot's content by the first `n` bytes; they are out when this returns."""
        if n > self.size:
            raise ValueError("too long for a slot")
        file = self._files[slot] if self._keep else _opened(self._paths[slot])
        try:
            file.seek(0)
            if _MICROPYTHON:
                done = file.write(buf, 0, n)  # pyright: ignore[reportCallIssue]
            else:
                done = file.write(memoryview(buf)[:n])
            if done != n:
                raise OSError(28)  # ENOSPC
            file.flush()
        finally:
            if not self._keep:
                file.close()
                file = None  # so that it is collected now, and not after the next write
                gc.collect()

    def close(self):
        """Give the files back."""
        for file in self._files:
            file.close()


def _opened(path):
    try:
        return open(path, "r+b", buffering=0)
    except OSError:
        return open(path, "w+b", buffering=0)
