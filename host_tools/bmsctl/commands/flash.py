"""`bmsctl flash`: put the firmware onto a board."""

import argparse
import json
import sys
from pathlib import Path

from .. import romfs
from ..board_files import names
from ..flashing import Flashing, Progress
from ..options import add_port
from ..pack_source import at_rest

HELP = "put the firmware and a pack file onto a board"
EXAMPLE = """examples:
  bmsctl flash --board RPI_PICO --port /dev/ttyACM0 --pack pack.toml   the first time
  bmsctl flash --board RPI_PICO --port /dev/ttyACM0                    the pack file stays
  bmsctl flash --board RPI_PICO --port /dev/ttyACM0 --json

A running master gets the command `service` first: it opens the contactors, checks that they are
open, and returns to the REPL; without that nothing is written. The firmware goes into the slot that
does not run. The board checks the SHA-256 of every file; then a marker makes this slot the one that
starts. If the transfer is interrupted, the board starts the old firmware or the complete new one,
or none, and the contactors stay open.

A board needs MicroPython 1.28 first: see its own page (boards/NAME/README.md).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", required=True, choices=names(), help="what board it is")
    add_port(parser)
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="pack file; without it the board's own stays"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="go on where the master can't prove its contactors open, or where something unknown"
        " runs: with a welded contactor the pack stays connected, and nothing watches its cells"
        " until the new firmware runs",
    )
    parser.add_argument(
        "--romfs", action="store_true", help="into the board's ROMFS partition, where it has one"
    )
    parser.add_argument("--json", action="store_true", help="the result as one object, last")


def run(args: argparse.Namespace) -> int:
    if args.pack is None:
        return _flash(args, None)
    with at_rest(args.pack) as pack:
        return _flash(args, pack)


def _flash(args: argparse.Namespace, pack: Path | None) -> int:
    progress = Progress(sys.stderr)
    flashing = Flashing(args.board, args.port, args.baud, pack, progress, args.force)
    try:
        result = flashing.run(romfs.deploy if args.romfs else None)
    except KeyboardInterrupt:
        progress.end()
        print(f"bmsctl: interrupted: {flashing.state}", file=sys.stderr)
        raise
    except Exception:
        progress.end()
        print(f"bmsctl: not done: {flashing.state}", file=sys.stderr)
        raise
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['board']}: version {result['version']} runs from {result['slot']},"
            f" pack file {result['config_crc']:04X}, self-test {result['self_test']};"
            f" {result['copied']} files copied, {result['kept']} were there"
        )
    return 0
