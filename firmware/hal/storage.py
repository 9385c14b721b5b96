"""Slots of bytes that survive a power cut, as files of a file system.

`bms.storage.nvm_store` uses `slots`, `size`, `read` and `write`; it also handles an incomplete
write.
"""

import gc
import os
import sys

_MICROPYTHON = sys.implementation.name == "micropython"


class FileStorage:
    """`slots` files of up to `size` bytes in `folder`, which is made. Raises OSError.

    keep: the files stay open, and nothing allocates. Otherwise a file is opened for each use (one
    of littlefs takes 1.2 KB of an RP2040's heap), and `write` collects the garbage. Where a
    shorter content replaces a longer one, the end of the longer one may stay behind it.
    """

    def __init__(self, folder, slots, size, keep=True):
        self.slots = slots
        self.size = size
        self._keep = keep
        try:
            os.mkdir(folder)
        except OSError:
            pass  # it exists, or opening a file raises
        self._paths = ["%s/slot%d" % (folder, i) for i in range(slots)]
        self._files = []
        for path in self._paths:
            file = _opened(path)
            if keep:
                self._files.append(file)
            else:
                file.close()

    def read(self, slot, buf):
        """Read into `buf`; returns the count, 0 where nothing was ever written."""
        file = self._files[slot] if self._keep else _opened(self._paths[slot])
        try:
            file.seek(0)
            return file.readinto(buf) or 0
        finally:
            if not self._keep:
                file.close()

    def write(self, slot, buf, n):
        """Replace the content of a slot by the first `n` bytes; they are in flash on return.

        Raises ValueError: more than `size`; OSError: no space.
        """
        if n > self.size:
            raise ValueError("too long for a slot")
        try:
            self._write(slot, buf, n)
        finally:
            if not self._keep:
                # now, not after the next write; here, where no slot of the stack holds the file
                gc.collect()

    def _write(self, slot, buf, n):
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

    def close(self):
        """Close the files."""
        for file in self._files:
            file.close()


def _opened(path):
    try:
        return open(path, "r+b", buffering=0)
    except OSError:
        return open(path, "w+b", buffering=0)
