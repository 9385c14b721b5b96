"""The master's console as a port for other programs, as a board's USB port is one."""

import os
import tty


class Mirror:
    """`path` is the port to open. What nobody reads is dropped, whole lines at a time."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._partial = b""
        self._rest = b""
        self.dropped = 0

    @property
    def path(self) -> str:
        return os.ttyname(self._slave)

    @property
    def fd(self) -> int:
        """For `select`: readable when somebody typed."""
        return self._master

    def write(self, data: bytes) -> None:
        """Show console bytes."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._flush()
            if self._rest:
                self.dropped += 1
            else:
                self._rest = line + b"\n"
        self._flush()

    def _flush(self) -> None:
        if self._rest:
            try:
                self._rest = self._rest[os.write(self._master, self._rest) :]
            except BlockingIOError:
                pass

    def read(self) -> bytes:
        """What somebody typed."""
        try:
            return os.read(self._master, 4096)
        except (BlockingIOError, OSError):
            return b""

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)
