"""A record on disk of what a master said: good lines, damaged ones and text kept apart."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bmssim.lines import Line, LineReader, encode

from .errors import ToolError


class Record:
    """Good lines as they came in `path`, damaged ones and text in files beside it.

    Everything taken is on disk after `flush`. Raises ToolError where the folder can't be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            self.path = folder / f"{name}-{stamp}.jsonl"
            self._files = {"data": open(self.path, "ab")}  # noqa: SIM115 (closed in close)
        except OSError as error:
            raise ToolError(f"{folder}: {error.strerror}") from None
        self._start = self.flushed = time.monotonic()
        self.lines = LineReader()

    def take(self, item: bytes | str) -> None:
        """Bytes of the port, or a word about it."""
        if isinstance(item, bytes):
            for line in self.lines.feed(item):
                self._write(line)
            return
        if item == "lost":
            left = self.lines.end()
            if left is not None:
                self._write(left)
        self.host(item)

    def host(self, what: str) -> None:
        """A line of our own: the computer's time, and what happened."""
        self._files["data"].write(
            encode(
                {
                    "k": "host",
                    "t_ms": 0,
                    "utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "t_host_ms": round((time.monotonic() - self._start) * 1000),
                    "what": what,
                    "lines": self.lines.data,
                    "damaged": self.lines.damaged,
                }
            )
        )

    def _write(self, line: Line) -> None:
        if line.kind == "data":
            self._files["data"].write(line.raw + b"\n")
            return
        suffix = ".damaged" if line.kind == "damaged" else ".txt"
        if line.kind not in self._files:
            self._files[line.kind] = open(f"{self.path}{suffix}", "ab")  # noqa: SIM115
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").encode()
        self._files[line.kind].write(stamp + b" " + line.raw + b"\n")

    def flush(self) -> None:
        """Bring everything to the disk."""
        self.flushed = time.monotonic()
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        left = self.lines.end()
        if left is not None:
            self._write(left)
        self.flush()
        for file in self._files.values():
            file.close()
