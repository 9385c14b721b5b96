"""`bmsctl console`: talk to a master."""

import argparse
import json
import os
import sys
import time
from datetime import datetime

from serial import Serial

from bmssim.lines import Line, LineReader

from ..errors import ToolError
from ..options import add_port, positive
from ..plain import plain
from ..readable import Places, readable
from ..request import FOLLOW, Wanted, noise, send_command
from ..serial_port import PortLost, open_port, read_some, wait_readable, write_all

HELP = "talk to a master over its serial port, or give it one command"
EXAMPLE = """examples:
  bmsctl console --port /dev/ttyACM0             talk; Ctrl-C or Ctrl-D leaves
  bmsctl console --port /dev/ttyACM0 --watch     every line of the stream as well
  bmsctl console --port /dev/ttyACM0 status      one command, its answer, exit 0 or 1
  bmsctl console --port /dev/ttyACM0 --json close

Shows answers, changes of faults and of contactors; with --watch also what the master sends each
period. Times are those of this computer's clock.
"""
RETRY_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_port(parser)
    parser.add_argument("--watch", action="store_true", help="all that the master sends")
    parser.add_argument("--raw", action="store_true", help="the same, lines as they come")
    parser.add_argument("--json", action="store_true", help="with a command: its answer as JSON")
    parser.add_argument(
        "--timeout", type=positive, default=3.0, metavar="S", help="wait for the answer; 3"
    )
    parser.add_argument(
        "words", nargs="*", type=_word, metavar="COMMAND", help="words of one command"
    )


def _word(text: str) -> str:
    if not text.isprintable() or not text.isascii() or not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no command word")
    return text


def run(args: argparse.Namespace) -> int:
    return _once(args) if args.words else _talk(args)


def _once(args: argparse.Namespace) -> int:
    command = " ".join(args.words)
    places = Places()
    *lines, answer = send_command(args.port, args.baud, command, args.timeout, places)
    wanted = FOLLOW.get(command.split()[0].lower(), ())
    follow = [line for line in lines if line["k"] in wanted]
    if args.json:
        print(json.dumps({**answer, "lines": follow}))
    else:
        now = datetime.now()
        for line in [*follow, answer]:
            print(plain(readable(line, places, now)))
    return 0 if answer["ok"] is True else 1


class _Talk:
    """A conversation: the keyboard's lines to the master, the master's to the screen."""

    def __init__(self, args: argparse.Namespace, port: Serial) -> None:
        self._args = args
        self._port = port
        self._reader = LineReader()
        self._typed = b""
        self._unanswered = 0
        self._stdin = sys.stdin.fileno()
        self._leave_at: float | None = None
        self._wanted = Wanted()
        self._places = Places()
        self._hinted = False

    def run(self) -> None:
        """Until the keyboard ends and what it asked is answered, or time for that is over."""
        while self._leave_at is None or (self._unanswered and time.monotonic() < self._leave_at):
            try:
                keyboard = () if self._leave_at else (self._stdin,)
                ready = wait_readable(self._port, 0.2, *keyboard)
                for line in self._reader.feed(read_some(self._port)):
                    self._show(line)
                self._hint()
                if self._stdin in ready:
                    self._keys()
            except PortLost as error:
                self._again(error)

    def _show(self, line: Line) -> None:
        obj = line.obj
        wanted = self._args.watch
        if obj is not None:
            self._unanswered -= obj["k"] == "answer"
            self._places.line(obj)
            wanted |= self._wanted.line(obj)
        text = line.raw.decode(errors="replace").rstrip("\r")
        if self._args.raw:
            print(plain(text) if sys.stdout.isatty() else text, flush=True)
        elif obj is not None:
            if wanted:
                print(plain(readable(obj, self._places, datetime.now())), flush=True)
        elif line.kind == "damaged":
            if wanted:
                print("(a damaged line)", flush=True)
        elif wanted or text.isprintable():  # without --watch noise is left out
            print(plain(text), flush=True)

    def _hint(self) -> None:
        """Once: that all that comes is noise."""
        hint = "" if self._hinted else noise(self._reader, self._args.baud, few=5)
        if hint:
            self._hinted = True
            print(f"bmsctl: {self._args.port}{hint}", file=sys.stderr, flush=True)

    def _keys(self) -> None:
        got = os.read(self._stdin, 1024)
        if not got:
            self._leave_at = time.monotonic() + self._args.timeout
        *whole, self._typed = (self._typed + got).split(b"\n")
        for command in whole:
            if command.strip():
                write_all(self._port, b"\n" + command.strip() + b"\n")
                self._unanswered += 1

    def _again(self, error: PortLost) -> None:
        """Wait for the port to come back."""
        self._port.close()
        self._reader.end()
        print(f"bmsctl: {self._args.port} lost: {error}; waiting for it", file=sys.stderr)
        while True:
            time.sleep(RETRY_S)
            try:
                self._port = open_port(self._args.port, self._args.baud)
            except ToolError:
                continue
            print(f"bmsctl: {self._args.port} is here", file=sys.stderr)
            return

    def close(self) -> None:
        self._port.close()


def _talk(args: argparse.Namespace) -> int:
    talk = _Talk(args, open_port(args.port, args.baud))
    print(f"{args.port}: type a command (help), Ctrl-C leaves", file=sys.stderr, flush=True)
    try:
        talk.run()
    except KeyboardInterrupt:
        pass
    finally:
        talk.close()
    return 0
