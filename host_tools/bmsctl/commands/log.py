"""`bmsctl log`: record all lines that a master sends."""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from serial import Serial

from ..backlog import LOOK_S, Backlog
from ..errors import ToolError
from ..options import add_port, positive
from ..record import Record
from ..request import noise
from ..serial_port import PortLost, open_port, read_some, wait_readable

HELP = "record a master's telemetry from a serial port"
EXAMPLE = """examples:
  bmsctl log --port /dev/ttyACM0 --out logs
  bmsctl log --port /dev/ttyACM0 --for 3600 --wait

Good lines go to NAME-TIME.jsonl as they came, damaged ones to NAME-TIME.jsonl.damaged, text to
NAME-TIME.jsonl.txt. A line of kind `host` each second holds the computer's time. Unplug and plug in
again as you like; Ctrl-C ends it. Where the disk is slower than the port, 256 KiB wait in memory,
then the port has to wait, which is counted as `paused`. Exit 1 where lines went with a file that
somebody removed, or the port never came.
"""
RETRY_S = 0.5
MOST = 256 * 1024  # bytes that wait for the disk: 20 s at 115200 bit/s
STOP = "stop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_port(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("logs"), metavar="DIR", help="folder of the record; logs"
    )
    parser.add_argument(
        "--for", dest="seconds", type=positive, metavar="S", help="end after S seconds"
    )
    parser.add_argument("--wait", action="store_true", help="the port may come later")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="the summary as one object")


class Reader(threading.Thread):
    """Takes bytes from the port, for ever, and hands them on through `backlog`.

    Its items: bytes, or "connected", "lost: why", STOP.
    """

    def __init__(self, path: str, baud: int, port: Serial | None) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._baud = baud
        self._port = port
        self.backlog = Backlog(MOST)
        self.stop = threading.Event()

    def run(self) -> None:
        try:
            if self._port is not None:
                self._word("connected")
            while not self.stop.is_set():
                self._step()
        finally:  # whatever happens here, the writer must not wait for ever
            self._word(STOP)

    def _word(self, word: str) -> None:
        self.backlog.put(word, 0)

    def _step(self) -> None:
        if self._port is None:
            try:
                self._port = open_port(self._path, self._baud)
            except ToolError:
                self.stop.wait(RETRY_S)
                return
            self._word("connected")
        try:
            data = read_some(self._port) if wait_readable(self._port, 0.2) else b""
            if data:
                self.backlog.put(data, len(data), self.stop)
            elif self._replaced(self._port):
                raise PortLost("unplugged")
        except PortLost as error:
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None
            self._word(f"lost: {error}")
            self.stop.wait(RETRY_S)

    def _replaced(self, port: Serial) -> bool:
        """The path is another device now, or none."""
        try:
            return os.stat(self._path).st_rdev != os.fstat(port.fileno()).st_rdev
        except OSError:
            return True


def _name(path: str) -> str:
    """A file name from a port's path: /dev/pts/3 gives pts-3."""
    return path.removeprefix("/dev/").strip("/.").replace("/", "-") or "port"


def run(args: argparse.Namespace) -> int:
    try:
        port = open_port(args.port, args.baud)
    except ToolError as error:
        if not args.wait:
            raise
        port = None
        print(f"bmsctl: {error}; waiting for it", file=sys.stderr)
    reader = Reader(args.port, args.baud, port)
    record = Record(args.out, _name(os.path.basename(args.port) if _far(args.port) else args.port))
    writer = Writer(args, reader, record)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, writer.end)
    if not args.quiet:
        print(f"recording {args.port} into {record.path}", file=sys.stderr, flush=True)
    reader.start()
    losses = writer.run()
    lines = record.lines
    if args.json:
        counts = {"lines": lines.data, "damaged": lines.damaged, "text": lines.text}
        more = {"losses": losses, "paused": record.paused, "removed": record.removed}
        print(json.dumps({"file": str(record.path), **counts, **more}))
    else:
        paused = f", paused {record.paused} times for the disk" if record.paused else ""
        print(f"{lines.data} lines, {lines.damaged} damaged{paused}, in {record.path}")
    if not writer.connected:
        raise ToolError(f"{args.port} never came")
    if record.removed:
        what = f"{record.removed} of these lines are gone"
        raise ToolError(f"{record.path} was removed while it was written: {what}")
    return 0


def _far(path: str) -> bool:
    """By-id names and links elsewhere are known by their last part."""
    return not path.startswith("/dev/") or path.startswith("/dev/serial/")


class Writer:
    """Takes the reader's items to the record, until STOP, a signal, or the time is over."""

    def __init__(self, args: argparse.Namespace, reader: Reader, record: Record) -> None:
        self._args = args
        self._reader = reader
        self._record = record
        self._losses = 0
        self.connected = False  # the port was there once
        self._last_at = 0.0  # when the last bytes came
        self._hinted = False
        self._ended = False

    def end(self, *_signal: object) -> None:
        """End soon: a handler of signals."""
        self._ended = True

    def run(self) -> int:
        """How often the port was lost."""
        tty = sys.stderr.isatty()
        start = shown = time.monotonic()
        backlog = self._reader.backlog
        while not self._ended and (
            not self._args.seconds or time.monotonic() - start < self._args.seconds
        ):
            self._take_all(backlog.take(LOOK_S))
            self._record.paused = backlog.paused
            self._record.mark()
            self._hint()
            now = time.monotonic()
            if now - shown >= (1 if tty else 10) and not self._args.quiet:
                shown = now
                self._progress("\r" if tty else "\n")
        if tty and not self._args.quiet:
            self._progress("\n")
        self._reader.stop.set()
        self._reader.join(2)
        self._take_all(backlog.take(0))
        self._record.host("end")
        self._record.close()
        return self._losses

    def _take_all(self, items: Iterable[tuple[float, bytes | str]]) -> None:
        """Record items, the bytes between two words in one piece."""
        piece: list[bytes] = []
        for at, item in items:
            if isinstance(item, bytes):
                piece.append(item)
                self._last_at = at
            else:
                self._bytes(piece)
                piece = []
                self._word(item)
        self._bytes(piece)

    def _bytes(self, piece: list[bytes]) -> None:
        if piece:
            self._record.take(b"".join(piece), self._last_at)

    def _word(self, word: str) -> None:
        """The port came or went, or its reader ended."""
        if word == STOP:
            self._ended = True
        elif word == "connected":
            self.connected = True
            if self._losses or self._args.wait:
                self._say("is here")
            self._record.host("connected")
        else:
            self._losses += 1
            self._record.lost()
            self._say(f"{word}; waiting for it")

    def _say(self, what: str) -> None:
        print(f"bmsctl: {self._args.port} {what}", file=sys.stderr, flush=True)

    def _hint(self) -> None:
        """Once: that all that comes is noise."""
        hint = "" if self._hinted else noise(self._record.lines, self._args.baud, few=5)
        if hint:
            self._hinted = True
            self._say(hint.removeprefix("; "))

    def _progress(self, end: str) -> None:
        lines = self._record.lines
        print(f"{lines.data} lines, {lines.damaged} damaged", end=end, file=sys.stderr, flush=True)
