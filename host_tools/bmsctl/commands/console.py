"""`bmsctl console`: talk to a master."""

import argparse
import json
import os
import select
import sys

from bmssim.lines import Line, LineReader

from ..ask import FOLLOW, ask
from ..errors import ToolError
from ..serial_port import PortLost, open_port, read_some, write_all
from ..show import readable

HELP = "talk to a master over its serial port, or give it one command"
EXAMPLE = """examples:
  bmsctl console --port /dev/ttyACM0             talk; Ctrl-C or Ctrl-D leaves
  bmsctl console --port /dev/ttyACM0 status      one command, its answer, exit 0 or 1
  bmsctl console --port /dev/ttyACM0 --json close
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", required=True, help="serial port of the master")
    parser.add_argument("--baud", type=int, default=115200, help="bits per second (USB: any)")
    parser.add_argument("--raw", action="store_true", help="lines as they come")
    parser.add_argument("--json", action="store_true", help="with a command: its answer as JSON")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="S", help="for the answer")
    parser.add_argument("command_words", nargs="*", metavar="COMMAND", help="words of one command")


def run(args: argparse.Namespace) -> int:
    if args.command_words:
        return _once(args)
    return _talk(args)


def _once(args: argparse.Namespace) -> int:
    command = " ".join(args.command_words)
    *lines, answer = ask(args.port, args.baud, command, args.timeout)
    wanted = FOLLOW.get(args.command_words[0], ())
    follow = [line for line in lines if line["k"] in wanted]
    if args.json:
        print(json.dumps({**answer, "lines": follow}))
    else:
        for line in follow:
            print(readable(line))
        print(readable(answer))
    return 0 if answer["ok"] else 1


def _show(line: Line, raw: bool) -> None:
    if raw or line.obj is None:
        print(line.raw.decode(errors="replace"), flush=True)
    else:
        print(readable(line.obj), flush=True)


def _talk(args: argparse.Namespace) -> int:
    with open_port(args.port, args.baud) as port:
        print(f"{args.port}: type a command (help), Ctrl-C leaves", file=sys.stderr)
        reader = LineReader()
        fds = [port.fileno(), sys.stdin.fileno()]
        typed = b""
        try:
            while True:
                ready = select.select(fds, [], [])[0]
                if port.fileno() in ready:
                    data = read_some(port)
                    if not data:
                        raise PortLost("end of file")
                    for line in reader.feed(data):
                        _show(line, args.raw)
                if sys.stdin.fileno() in ready:
                    got = os.read(sys.stdin.fileno(), 1024)
                    if not got:
                        return 0
                    *whole, typed = (typed + got).split(b"\n")
                    for command in whole:
                        write_all(port, b"\n" + command + b"\n")
        except PortLost as error:
            raise ToolError(f"{args.port} vanished: {error}") from None
        except KeyboardInterrupt:
            return 0
