"""`bmsctl`: finds the command, runs it, turns what went wrong into one line and an exit code.

Exit codes: 0 yes or done, 1 no or failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from bms.version import VERSION
from bmssim.micropython_path import MicroPythonMissing

from .errors import ToolError
from .plain import plain
from .serial_port import PortLost

COMMANDS = (
    "sim",
    "run",
    "console",
    "log",
    "events",
    "config",
    "check",
    "flash",
    "ports",
    "scan",
    "decode",
    "dbc",
    "reference",
    "bench",
    "version",
)


def load(name: str) -> ModuleType:
    """The module of a command; only the one that is used is imported."""
    return importlib.import_module(f".commands.{name}", __package__)


def parser_for(names: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows these commands."""
    parser = argparse.ArgumentParser(
        prog="bmsctl",
        description="Simulate, run, watch and talk to a battery-management master.",
        epilog="bmsctl COMMAND --help shows a command's options and examples.",
    )
    parser.add_argument("--version", action="version", version=f"bmsctl {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = load(name)
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parser_for(words[:1] if words and words[0] in COMMANDS else COMMANDS).parse_args(
            words
        )
        # a shell that starts us in the background has it ignored, and `kill -INT` must end us still
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except (ToolError, MicroPythonMissing, PortLost) as error:
        _report(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is None:
            raise
        _report(f"{error.filename}: {error.strerror}")
        return 1


def _report(reason: str) -> None:
    """The one line that says what went wrong."""
    print(f"bmsctl: {plain(reason)}", file=sys.stderr)
