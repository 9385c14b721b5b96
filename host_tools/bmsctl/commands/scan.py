"""`bmsctl scan`: finds slave boards behind adapters and prints a pack file to start from."""

import argparse
import json
import sys

from bms.slaves.build import KINDS

from ..bridge import LinkSpec, named_link, open_bridge, port_medium
from ..bus_scan import CanPort, Line, Search, UartPort, in_series, pack_text
from ..decoders import NAMES
from ..decoders.base import driver_class
from ..options import wrong_use

HELP = "find slave boards behind an adapter and print a pack file to start from"
EXAMPLE = """examples:
  bmsctl scan --link uart:/dev/ttyUSB0 --kind jbd > pack.toml
  bmsctl scan --link uart:/dev/ttyUSB0@115200 --kind jk_pb --nodes 1-4
  bmsctl scan --link slcan:/dev/ttyACM0@500000 --kind cell_link --json
  bmsctl scan --link uart0=uart:/dev/ttyUSB0 --link uart1=uart:/dev/ttyUSB1 --kind jbd

Boards are only asked what the master asks at its start; chains get their addresses anew by it. What
no board can say is marked CHECK in the file; where no cell could be read, the file is refused until
the chemistry is filled in. Exit 1 where no board answered on a link, or one not every time: its
name stands on stderr then.
"""
# what a node outside of a kind's would do
_WHY_NOT = {"jk_pb": ": 0 makes a board the master of its line"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--link",
        action="append",
        required=True,
        metavar="[NAME=]KIND:WHERE",
        help="uart:PORT@BAUD, slcan:PORT@BITRATE or socketcan:IFACE; NAME = the port in the pack"
        " file; several of them make one file",
    )
    parser.add_argument(
        "--kind", required=True, choices=NAMES, metavar="KIND", help=", ".join(NAMES)
    )
    parser.add_argument("--nodes", metavar="A-B", help="poll these only, as 1-4 or 2")
    parser.add_argument(
        "--parallel", action="store_true", help="each board is a string of its own, not in series"
    )
    parser.add_argument("--json", action="store_true", help="one array of boards as the last line")


def _nodes(text: str | None, kind: str) -> range | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    ends = (first, last if dash else first)
    if not all(x.isascii() and x.isdigit() for x in ends) or int(ends[1]) < int(ends[0]):
        wrong_use(f"--nodes {text}: write a number or a range, as 1-4")
    low, high = driver_class(kind).NODES
    if int(ends[0]) < low or int(ends[1]) > high:
        has = f"nodes {low} to {high}" if low < high else f"node {low} only"
        wrong_use(f"--nodes {text}: {kind} has {has}{_WHY_NOT.get(kind, '')}")
    return range(int(ends[0]), int(ends[1]) + 1)


def _links(args: argparse.Namespace) -> dict[str, LinkSpec]:
    """The links by the names of their ports; those without one get the next of their medium."""
    out: dict[str, LinkSpec] = {}
    named = [(*named_link(text), text) for text in args.link]
    for name, spec, text in named:
        if spec.medium not in KINDS[args.kind][2]:
            wrong_use(f"--link {text}: {args.kind} speaks over {' or '.join(KINDS[args.kind][2])}")
        if name and port_medium(name) != spec.medium:
            wrong_use(f"--link {text}: {name} is no {spec.medium.upper()} port: {spec.medium}0, ..")
        if not name:
            taken = {*out, *(x[0] for x in named)}
            name = next(x for i in range(99) if (x := f"{spec.medium}{i}") not in taken)
        if name in out:
            wrong_use(f"--link {text}: {name} is given twice")
        out[name] = spec
    return out


def run(args: argparse.Namespace) -> int:
    links = _links(args)
    nodes = _nodes(args.nodes, args.kind)
    lines: list[Line] = []
    try:
        for name, spec in links.items():
            _scan(args.kind, name, spec, nodes, lines)
    except KeyboardInterrupt:
        for line in lines:
            so_far = ", ".join(f"node {x.shape.node} ({x.shape.cells} cells)" for x in line.found)
            print(
                f"bmsctl: interrupted; found on {line.port} so far: {so_far or 'nothing'}",
                file=sys.stderr,
            )
        raise
    found = [x for line in lines for x in line.found]
    if args.json:
        print(
            json.dumps([{**x.as_json(), "link": line.port} for line in lines for x in line.found])
        )
    elif found:
        print(pack_text(args.kind, lines, args.parallel), end="")
        series = "" if args.parallel else in_series(args.kind, lines)
        if series:
            print(f"bmsctl: CHECK: {series}", file=sys.stderr)
        if all(x.highest_mv is None for x in found):
            print(
                "bmsctl: no cell was read: the file is refused until its chemistry is filled in",
                file=sys.stderr,
            )
    code = 0
    for line in lines:
        path = links[line.port].path
        for warning in line.search.warnings:
            print(f"bmsctl: {path}: {warning}", file=sys.stderr)
        if not line.found:
            print(f"bmsctl: no {args.kind} board answers on {path}", file=sys.stderr)
        if line.search.warnings or not line.found:
            code = 1
    return code


def _scan(kind: str, name: str, spec: LinkSpec, nodes: range | None, lines: list[Line]) -> None:
    """Search one link; its line is in `lines` from the start."""
    cls = driver_class(kind)
    usual = cls.UART_BPS if spec.medium == "uart" else cls.CAN_BPS
    bridge = open_bridge(spec, spec.rate or usual)
    live = sys.stderr.isatty()

    def progress(text: str) -> None:
        if live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    try:
        port = UartPort(bridge) if spec.medium == "uart" else CanPort(bridge, spec.rate or usual)
        search = Search(kind, port, nodes, progress)
        lines.append(Line(name, spec.rate if spec.rate != usual else 0, search))
        search.run()
    finally:
        bridge.close()
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
