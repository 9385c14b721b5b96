"""Records on disk what a master sent: good lines, damaged lines and text in separate files."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bmssim.lines import Line, LineReader, encode, parse, whole

from .errors import ToolError

SYNC_S = 1.0


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Record:
    """Good lines as they came in `path`, damaged ones and text in files beside it.

    Written as they are taken, in whole lines, so that a killed program leaves what it took;
    brought to the disk once a second, so that a power cut leaves all but the last second.
    A file that somebody removes begins anew; `removed` counts the lines that went with it. `lines`
    counts all; paused: how often who gives the bytes had to wait or to drop some. All raise
    ToolError where the disk refuses.
    """

    def __init__(self, folder: Path, name: str) -> None:
        begun = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"{name}-{begun}.jsonl"
        self._files: dict[str, int] = {}
        self._held: dict[str, int] = {}  # lines of each file
        self._start = self._synced = self._marked = self._last_at = time.monotonic()
        self._last_ms: int | None = None
        self.lines = LineReader(whole)
        self.removed = self.paused = 0
        self._append("", b"")

    def take(self, data: bytes, at: float | None = None) -> None:
        """Bytes of the port, which arrived at `at` of the monotonic clock in s (default: now)."""
        lines = self.lines.feed(data)
        good = [line.raw for line in lines if line.obj is not None]
        if good:
            good.append(b"")
            self._append("", b"\n".join(good))
            last = parse(good[-2])
            self._last_ms = last["t_ms"] if last else None
            self._last_at = time.monotonic() if at is None else at
        for line in lines:
            if line.obj is None:
                self._aside(line)
        if time.monotonic() - self._synced >= SYNC_S:
            self.flush()

    def mark(self) -> None:
        """Once a second, however often it is called: a line with the time, and all to the disk."""
        if time.monotonic() - self._marked >= SYNC_S:
            self._marked = time.monotonic()
            self.host("mark")
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
            "paused": self.paused,
        }
        self._append("", encode(line))

    def _aside(self, line: Line) -> None:
        suffix = ".damaged" if line.kind == "damaged" else ".txt"
        self._append(suffix, _utc().encode() + b" " + line.raw + b"\n")

    def _append(self, suffix: str, data: bytes) -> None:
        """Write whole lines to one of the files, to a new one where it was removed."""
        name = f"{self.path}{suffix}"
        try:
            self._write(suffix, name, data)
            if not os.fstat(self._files[suffix]).st_nlink:
                os.close(self._files.pop(suffix))
                self.removed += self._held.pop(suffix, 0)
                self._write(suffix, name, data)
        except OSError as error:
            raise ToolError(f"{name}: {error.strerror}") from None
        self._held[suffix] = self._held.get(suffix, 0) + data.count(b"\n")

    def _write(self, suffix: str, name: str, data: bytes) -> None:
        if suffix not in self._files:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._files[suffix] = os.open(name, flags, 0o644)
        while data:
            data = data[os.write(self._files[suffix], data) :]

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
