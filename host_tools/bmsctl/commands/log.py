"""`bmsctl log`: record all lines that a master sends."""

import argparse
import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from serial import Serial

from ..errors import ToolError
from ..options import add_port, positive
from ..record import SYNC_S, Record
from ..serial_port import PortLost, open_port, read_some, wait_readable

HELP = "record a master's telemetry from a serial port"
EXAMPLE = """examples:
  bmsctl log --port /dev/ttyACM0 --out logs
  bmsctl log --port /dev/ttyACM0 --for 3600 --wait

Good lines go to NAME-TIME.jsonl as they came, damaged ones to NAME-TIME.jsonl.damaged, text to
NAME-TIME.jsonl.txt. A line of kind `host` each second holds the computer's time. Unplug and plug in
again as you like; Ctrl-C ends it.
"""
RETRY_S = 0.5
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
    """Takes bytes from the port, for ever, and hands them on; never waits for the disk.

    Items of the queue: (monotonic s, bytes), or (.., "connected"), (.., "lost: why"), (.., STOP).
    """

    def __init__(self, path: str, baud: int, port: Serial | None) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._baud = baud
        self._port = port
        self.queue: queue.SimpleQueue[tuple[float, bytes | str]] = queue.SimpleQueue()
        self.stop = threading.Event()

    def put(self, item: bytes | str) -> None:
        """Into the queue, with the time; allowed in a signal handler."""
        self.queue.put((time.monotonic(), item))

    def run(self) -> None:
        try:
            if self._port is not None:
                self.put("connected")
            while not self.stop.is_set():
                self._step()
        finally:  # whatever happens here, the writer must not wait for ever
            self.put(STOP)

    def _step(self) -> None:
        if self._port is None:
            try:
                self._port = open_port(self._path, self._baud)
            except ToolError:
                self.stop.wait(RETRY_S)
                return
            self.put("connected")
        try:
            data = read_some(self._port) if wait_readable(self._port, 0.2) else b""
            if data:
                self.put(data)
            elif self._replaced(self._port):
                raise PortLost("unplugged")
        except PortLost as error:
            with contextlib.suppress(OSError):
                self._port.close()
            self._port = None
            self.put(f"lost: {error}")
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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: reader.put(STOP))
    if not args.quiet:
        print(f"recording {args.port} into {record.path}", file=sys.stderr, flush=True)
    reader.start()
    losses = Writer(args, reader, record).run()
    lines = record.lines
    if args.json:
        counts = {"lines": lines.data, "damaged": lines.damaged, "text": lines.text}
        print(json.dumps({"file": str(record.path), **counts, "losses": losses}))
    else:
        print(f"{lines.data} lines, {lines.damaged} damaged, in {record.path}")
    return 0


def _far(path: str) -> bool:
    """By-id names and links elsewhere are known by their last part."""
    return not path.startswith("/dev/") or path.startswith("/dev/serial/")


class Writer:
    """Takes the reader's queue to the record, until STOP or the time is over."""

    def __init__(self, args: argparse.Namespace, reader: Reader, record: Record) -> None:
        self._args = args
        self._reader = reader
        self._record = record
        self._losses = 0
        self._connected = False

    def run(self) -> int:
        """How often the port was lost."""
        tty = sys.stderr.isatty()
        start = marked = shown = time.monotonic()
        ended = False
        while not ended and (
            not self._args.seconds or time.monotonic() - start < self._args.seconds
        ):
            with contextlib.suppress(queue.Empty):
                ended = self._take(*self._reader.queue.get(timeout=0.2))
            now = time.monotonic()
            if now - marked >= SYNC_S:
                marked = now
                self._record.host("mark")
                self._record.flush()
            if now - shown >= (1 if tty else 10) and not self._args.quiet:
                shown = now
                self._progress("\r" if tty else "\n")
        if tty and not self._args.quiet:
            self._progress("\n")
        self._reader.stop.set()
        self._reader.join(2)
        while not self._reader.queue.empty():
            self._take(*self._reader.queue.get())
        self._record.host("end")
        self._record.close()
        return self._losses

    def _take(self, at: float, item: bytes | str) -> bool:
        """Record one item; True for STOP."""
        if isinstance(item, bytes):
            self._record.take(item, at)
        elif item == STOP:
            return True
        elif item == "connected":
            if self._losses or self._args.wait:
                self._say("is here")
            self._record.host("connected")
        else:
            self._losses += 1
            self._record.lost()
            self._say(f"{item}; waiting for it")
        return False

    def _say(self, what: str) -> None:
        print(f"bmsctl: {self._args.port} {what}", file=sys.stderr, flush=True)

    def _progress(self, end: str) -> None:
        lines = self._record.lines
        print(f"{lines.data} lines, {lines.damaged} damaged", end=end, file=sys.stderr, flush=True)
