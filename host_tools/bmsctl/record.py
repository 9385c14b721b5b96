"""Records on disk what a master sent: good lines, damaged lines and text in separate files."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bmssim.lines import Line, LineReader, encode

from .errors import ToolError

SYNC_S = 1.0


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Record:
    """Good lines as they came in `path`, damaged ones and text in files beside it.

    Written as they are taken, in whole lines, so that a killed program leaves what it took;
    brought to the disk once a second, so that a power cut leaves all but the last second.
    `lines` counts. All raise ToolError where the disk refuses.
    """

    def __init__(self, folder: Path, name: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"{name}-{stamp}.jsonl"
        self._files: dict[str, int] = {}
        self._start = self._synced = self._last_at = time.monotonic()
        self._last_ms: int | None = None
        self.lines = LineReader()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ToolError(f"{folder}: {error.strerror}") from None
        self._append("", b"")

    def take(self, data: bytes, at: float | None = None) -> None:
        """Bytes of the port, which arrived at `at` of the monotonic clock in s (default: now)."""
        lines = self.lines.feed(data)
        good = [line for line in lines if line.obj is not None]
        if good:
            self._append("", b"".join(line.raw + b"\n" for line in good))
            self._last_ms = good[-1].obj["t_ms"] if good[-1].obj else None
            self._last_at = time.monotonic() if at is None else at
        for line in lines:
            if line.obj is None:
                self._aside(line)
        if time.monotonic() - self._synced >= SYNC_S:
            self.flush()

    def lost(self) -> None:
        """The port vanished: what came of an unended line is damaged."""
        left = self.lines.end()
        if left is not None:
            self._aside(left)
        self.host("lost")

    def host(self, what: str) -> None:
        """A line of our own: master time `t_ms` was `age_ms` before `utc`; and what happened."""
        now = time.monotonic()
        line = {
            "k": "host",
            "t_ms": self._last_ms,
            "age_ms": round((now - self._last_at) * 1000) if self._last_ms is not None else None,
            "utc": _utc(),
            "t_host_ms": round((now - self._start) * 1000),
            "what": what,
            "lines": self.lines.data,
            "damaged": self.lines.damaged,
        }
        self._append("", encode(line))

    def _aside(self, line: Line) -> None:
        suffix = ".damaged" if line.kind == "damaged" else ".txt"
        self._append(suffix, _utc().encode() + b" " + line.raw + b"\n")

    def _append(self, suffix: str, data: bytes) -> None:
        name = f"{self.path}{suffix}"
        try:
            if suffix not in self._files:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                self._files[suffix] = os.open(name, flags, 0o644)
            while data:
                data = data[os.write(self._files[suffix], data) :]
        except OSError as error:
            raise ToolError(f"{name}: {error.strerror}") from None

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._synced = time.monotonic()
        try:
            for file in self._files.values():
                os.fsync(file)
        except OSError as error:
            raise ToolError(f"{self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Nothing more comes."""
        left = self.lines.end()
        if left is not None:
            self._aside(left)
        self.flush()
        for file in self._files.values():
            os.close(file)
