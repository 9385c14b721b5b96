"""`bmsctl scan`: finds slave boards behind an adapter and prints a pack file to start from."""

import argparse
import json
import sys

from bms.slaves import KINDS

from ..bridge import open_bridge, parse_link
from ..decoders import NAMES
from ..decoders.base import driver_class
from ..errors import ToolError
from ..finding import CanPort, UartPort, find, pack_text

HELP = "find slave boards behind an adapter and print a pack file to start from"
EXAMPLE = """examples:
  bmsctl scan --link uart:/dev/ttyUSB0 --kind jbd > pack.toml
  bmsctl scan --link uart:/dev/ttyUSB0@115200 --kind jk_pb --nodes 1-4
  bmsctl scan --link slcan:/dev/ttyACM0@500000 --kind cell_link --json

Nothing is commanded: boards are only asked what a scan asks. What no board can say is marked CHECK
in the file. Exit 1 where no board answered.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--link",
        required=True,
        metavar="KIND:WHERE",
        help="uart:PORT@BAUD, slcan:PORT@BITRATE or socketcan:IFACE",
    )
    parser.add_argument(
        "--kind", required=True, choices=NAMES, metavar="KIND", help=", ".join(NAMES)
    )
    parser.add_argument("--nodes", metavar="A-B", help="ask these only, as 1-4 or 2")
    parser.add_argument("--json", action="store_true", help="one array of boards as the last line")


def _nodes(text: str | None) -> range | None:
    if text is None:
        return None
    first, _dash, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise ToolError(f"--nodes {text}: write a number or a range, as 1-4")
    return range(int(first), int(last or first) + 1)


def run(args: argparse.Namespace) -> int:
    spec = parse_link(args.link)
    if spec.medium not in KINDS[args.kind][2]:
        media = " or ".join(KINDS[args.kind][2])
        raise ToolError(f"--link {args.link}: {args.kind} speaks over {media}")
    nodes = _nodes(args.nodes)
    cls = driver_class(args.kind)
    usual = cls.UART_BPS if spec.medium == "uart" else cls.CAN_BPS
    bridge = open_bridge(spec, spec.rate or usual)
    live = sys.stderr.isatty()

    def progress(text: str) -> None:
        if live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    try:
        port = UartPort(bridge) if spec.medium == "uart" else CanPort(bridge, spec.rate or usual)
        found = find(args.kind, port, nodes, progress)
    finally:
        bridge.close()
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps([x.as_json() for x in found]))
    elif found:
        other = spec.rate if spec.rate != usual else 0
        print(pack_text(args.kind, spec.medium, other, found), end="")
    if not found:
        print(f"bmsctl: no {args.kind} board answers on {spec.path}", file=sys.stderr)
        return 1
    return 0
