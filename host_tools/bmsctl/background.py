"""Screen and record of a program that must go on whatever becomes of them.

A terminal that stands still (Ctrl-S), a reader of a pipe that left, a full or a slow disk: who
hands over text or bytes here neither waits nor fails.
"""

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from .backlog import Background
from .errors import ToolError
from .record import Record

SCREEN_BYTES = 64 * 1024
RECORD_BYTES = 256 * 1024
END_S = 3.0  # that the end waits for a screen or a disk


class Printer:
    """Lines for stdout and stderr. What finds no room is dropped."""

    def __init__(self) -> None:
        self._dead: set[int] = set()
        self._background = Background(self._write, lambda: None, SCREEN_BYTES)

    def out(self, text: str = "") -> None:
        """A line for stdout."""
        self._background.give((sys.stdout.fileno(), text), len(text) + 1)

    def err(self, text: str) -> None:
        """A line for stderr."""
        self._background.give((sys.stderr.fileno(), text), len(text) + 1)

    def _write(self, item: tuple[int, str], _at: float) -> None:
        fd, text = item
        if fd in self._dead:
            return
        data = (text + "\n").encode(sys.stdout.encoding, "backslashreplace")
        try:
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except BlockingIOError:
                    select.select([], [fd], [])
        except OSError as error:
            self._dead.add(fd)
            if fd != sys.stderr.fileno():
                what = f"bmsctl: output: {error.strerror}; going on without it"
                self._write((sys.stderr.fileno(), what), 0.0)

    def end(self) -> bool:
        """True where all was printed."""
        return self._background.end(END_S) and not self._dead


class Recording:
    """A record that is written in the background; see `Record`. Raises ToolError at the start only.

    Why it stops is printed then.
    """

    def __init__(self, folder: Path, name: str, printer: Printer) -> None:
        self._printer = printer
        self._record = Record(folder, name)
        self._record.host("connected")
        self._background = Background(self._take, self._idle, RECORD_BYTES)
        self.path = self._record.path

    def take(self, data: bytes) -> None:
        """Bytes of the master."""
        self._background.give(data, len(data))

    def _take(self, data: bytes, at: float) -> None:
        self._or_report(lambda: self._record.take(data, at))

    def _idle(self) -> None:
        self._record.paused = self._background.dropped
        self._or_report(self._record.mark)

    def _or_report(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ToolError as error:
            self._printer.err(f"bmsctl: {error}; going on without a record")
            raise

    def end(self) -> str:
        """Close it; what is missing in it, "" where it is whole."""
        if not self._background.end(END_S):
            return f"{self.path}: the disk does not answer"
        if self._background.failed is not None:
            return str(self._background.failed)
        record = self._record
        try:
            record.host("end")
            record.close()
        except ToolError as error:
            return str(error)
        if record.removed:
            return f"{self.path} was removed while it was written: {record.removed} lines are gone"
        if self._background.dropped:
            return f"{self.path}: the disk was too slow {self._background.dropped} times"
        return ""
