"""`bmsctl config`: read a master's pack file, or give it another."""

import argparse
import json
import sys
from pathlib import Path

from ..board_files import names
from ..errors import ToolError
from ..flashing import Progress
from ..options import add_port, positive
from ..pack_push import PackPush, checked
from ..pack_source import at_rest
from ..plain import plain
from ..start_check import plan
from ..stored_history import pack, read_stored

HELP = "read the pack file of a master, or give it another"
EXAMPLE = """examples:
  bmsctl config pull --port /dev/ttyACM0 pack.toml     the file that runs, checked by its CRC
  bmsctl config pull --port /dev/ttyACM0 -             to the terminal
  bmsctl config push --port /dev/ttyACM0 pack.toml
  bmsctl config push --port /dev/ttyACM0 --unlock pack.toml

push checks the file first as `bmsctl check` does, with the ports of --board or of the board that
the master reports. Then the master gets the command `service`: it opens the contactors and checks
that they are open; without that nothing is written. The file is written twice, each copy with a
checksum; after an interruption the board starts with the old file or the new one. After the reset
push compares the CRC of the file that runs, and shows it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="pull|push", required=True)
    pull = actions.add_parser(
        "pull",
        help="read the running pack file",
        description="Read the running pack file over the serial port.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_port(pull)
    pull.add_argument(
        "--timeout", type=positive, default=5.0, metavar="S", help="wait for each line; 5"
    )
    pull.add_argument("file", metavar="FILE", help="where to write it; - is the terminal")
    push = actions.add_parser(
        "push",
        help="give the master another pack file",
        description="Check a pack file, put it onto the board, start it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_port(push)
    push.add_argument(
        "--unlock",
        action="store_true",
        help="also a file with bounds beyond what any pack of its chemistry is used at; it says"
        " unlocked = true, too",
    )
    push.add_argument(
        "--force",
        action="store_true",
        help="go on where the master can't prove its contactors open, or where something unknown"
        " runs: nothing watches the cells until it runs again",
    )
    push.add_argument("--board", default="", choices=names(), help="what board it is for")
    push.add_argument("--json", action="store_true", help="the result as one object, last")
    push.add_argument("file", type=Path, metavar="FILE", help="the pack file; - is stdin")


def run(args: argparse.Namespace) -> int:
    return _pull(args) if args.action == "pull" else _push(args)


def _pull(args: argparse.Namespace) -> int:
    data = pack(read_stored(args.port, args.baud, "pack", args.timeout))
    if args.file == "-":
        if sys.stdout.isatty():
            print(plain(data.decode(errors="replace")), end="")
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
        return 0
    try:
        Path(args.file).write_bytes(data)
    except OSError as error:
        raise ToolError(f"{args.file}: {error.strerror}") from None
    return 0


def _push(args: argparse.Namespace) -> int:
    with at_rest(args.file) as path:
        return _push_file(args, path)


def _push_file(args: argparse.Namespace, path: Path) -> int:
    data, crc = checked(path, args.unlock, args.board)
    progress = Progress(sys.stderr)
    pushing = PackPush(args.port, args.baud, progress, args.force)
    try:
        name = "" if args.board else pushing.board_name()
        if name in names():
            plan(path, name)
        result = pushing.run(data, crc)
    except BaseException as error:
        progress.end()
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else "not done"
        print(f"bmsctl: {what}: {pushing.state}", file=sys.stderr)
        raise
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['board']}: pack file {result['config_crc']:04X} runs with version"
            f" {result['version']}, self-test {result['self_test']}"
        )
    return 0
