"""`bmsctl check`: what a master makes of a pack file, without one."""

import argparse
import dataclasses
import json
from pathlib import Path

from bms.config import CHEMISTRIES

from ..board_files import names
from ..plan import plan

HELP = "check a pack file as a master will at its start"
EXAMPLE = """examples:
  bmsctl check pack.toml                      by any board's ports
  bmsctl check pack.toml --board RPI_PICO     by the ports that this board has
  bmsctl check examples/mixed.toml --json

Says what it found: boards, cells and strings, and for each port how long a scan takes at the least
and after which time a lost board trips. Refuses, with line, key and reason and exit code 1, what a
master would refuse. `config push` and `flash` check in the same way before they touch a board.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="PACK", help="the pack file")
    parser.add_argument("--board", default="", choices=["", *names()], help="what board it is for")
    parser.add_argument("--json", action="store_true", help="the result as one object")


def run(args: argparse.Namespace) -> int:
    found = plan(args.file, args.board)
    if args.json:
        ports = [dataclasses.asdict(port) for port in found.ports]
        counts = {"cells": found.cells, "temps": found.temps, "strings": found.strings}
        print(json.dumps({"ok": True, **counts, "ports": ports}))
        return 0
    config = found.config
    many = f"{found.strings} strings" if found.strings > 1 else "1 string"
    print(f"{args.file}: ok: {config.name}, {CHEMISTRIES[config.chemistry]}")
    print(f"  {found.cells} cells, {found.temps} temperatures, {many}")
    for port in found.ports:
        boards = f"{port.boards} boards" if port.boards > 1 else "1 board"
        print(
            f"  {port.name}: {port.kind}, {boards}, {port.cells} cells, {port.rate_bps} bit/s;"
            f" a scan takes {port.scan_ms} ms, each {port.every_ms} ms"
        )
        print(
            f"    a lost board trips after {port.cell_age_ms} ms (cells),"
            f" {port.temp_age_ms} ms (temperatures)"
        )
    return 0
