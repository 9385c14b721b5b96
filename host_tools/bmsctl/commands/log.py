"""`bmsctl log`: record what a master says, and lose nothing."""

import argparse
import contextlib
import os
import queue
import select
import signal
import sys
import threading
import time
from pathlib import Path

from ..errors import ToolError
from ..record import Record
from ..serial_port import PortLost, open_port, read_some

HELP = "record a master's telemetry from a serial port"
EXAMPLE = """examples:
  bmsctl log --port /dev/ttyACM0 --out logs
  bmsctl log --port /dev/ttyACM0 --for 3600 --wait

Good lines go to NAME.jsonl as they came, damaged ones to NAME.jsonl.damaged, text to
NAME.jsonl.txt. A line of kind `host` each second says the computer's time. It survives unplugging
of the port; Ctrl-C ends it.
"""
RETRY_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", required=True, help="serial port of the master")
    parser.add_argument("--baud", type=int, default=115200, help="bits per second (USB: any)")
    parser.add_argument("--out", type=Path, default=Path("logs"), metavar="DIR")
    parser.add_argument("--for", dest="seconds", type=float, metavar="S", help="end after S seconds")
    parser.add_argument("--wait", action="store_true", help="the port may come later")
    parser.add_argument("--quiet", action="store_true", help="no progress")


class Reader(threading.Thread):
    """Takes bytes from the port, for ever, and hands them on; never waits for the disk.

    Items of the queue: bytes, or a text that says how the port changed.
    """

    def __init__(self, path: str, baud: int, wait: bool) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._baud = baud
        self.queue: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
        self.stop = threading.Event()
        # the first opening is done here, so that its error is the caller's
        self._port = None
        try:
            self._port = open_port(path, baud)
        except ToolError:
            if not wait:
                raise

    def run(self) -> None:
        if self._port is not None:
            self.queue.put("connected")
        while not self.stop.is_set():
            if self._port is None:
                try:
                    self._port = open_port(self._path, self._baud)
                except ToolError:
                    self.stop.wait(RETRY_S)
                    continue
                self.queue.put("connected")
            try:
                select.select([self._port.fileno()], [], [], 0.2)
                data = read_some(self._port)
                if not data and self._gone():
                    raise PortLost("unplugged")
            except (PortLost, OSError, ValueError):
                with contextlib.suppress(Exception):
                    self._port.close()
                self._port = None
                self.queue.put("lost")
                continue
            if data:
                self.queue.put(data)

    def _gone(self) -> bool:
        """The path is another device now, or none."""
        assert self._port is not None
        try:
            return os.stat(self._path).st_rdev != os.fstat(self._port.fileno()).st_rdev
        except OSError:
            return True


def run(args: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reader = Reader(args.port, args.baud, args.wait)
    writer = Record(args.out, "bms")
    if not args.quiet:
        print(f"recording {args.port} into {writer.path}", file=sys.stderr)
    reader.start()
    with contextlib.suppress(KeyboardInterrupt):
        _record(args, reader, writer)
    reader.stop.set()
    reader.join(2)
    while not reader.queue.empty():
        writer.take(reader.queue.get())
    writer.host("end")
    writer.close()
    lines = writer.lines
    print(f"{lines.data} lines, {lines.damaged} damaged, in {writer.path}", file=sys.stderr)
    return 0


def _record(args: argparse.Namespace, reader: Reader, writer: Record) -> None:
    start = flushed = shown = time.monotonic()
    every = 1.0 if sys.stderr.isatty() else 10.0
    while args.seconds is None or time.monotonic() - start < args.seconds:
        with contextlib.suppress(queue.Empty):
            item = reader.queue.get(timeout=0.2)
            writer.take(item)
            if isinstance(item, str) and not args.quiet:
                print(f"{args.port}: {item}", file=sys.stderr)
        now = time.monotonic()
        if now - flushed >= 1.0:
            flushed = now
            writer.host("tick")
            writer.flush()
        if now - shown >= every and not args.quiet:
            shown = now
            lines = writer.lines
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{lines.data} lines, {lines.damaged} damaged", end=end, file=sys.stderr)
