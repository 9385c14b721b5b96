"""`bmsctl check`: what a master makes of a pack file, without one."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from bms.config.schema import CHEMISTRIES

from ..board_files import names
from ..pack_source import at_rest
from ..screen import many
from ..start_check import PackRefused, plan

HELP = "check a pack file as a master will at its start"
EXAMPLE = """examples:
  bmsctl check pack.toml                      by any board's ports
  bmsctl check pack.toml --board RPI_PICO     by the ports that this board has
  bmsctl check examples/mixed.toml --json
  bmsctl scan --link uart:/dev/ttyUSB0 --kind jbd | bmsctl check -

Says what it found: boards, cells and strings, and for each port how long a scan takes at the least
and after which time a lost board trips; last, what nothing protects from. Refuses, with line, key
and reason and exit code 1, what a master would refuse; --json says these, too. `config push` and
`flash` check in the same way before they touch a board.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="PACK", help="the pack file; - is stdin")
    parser.add_argument("--board", default="", choices=names(), help="what board it is for")
    parser.add_argument(
        "--json", action="store_true", help="the result as one object, a refusal as well"
    )


def run(args: argparse.Namespace) -> int:
    with at_rest(args.file) as path:
        return _check(args, path)


def _check(args: argparse.Namespace, path: Path) -> int:
    try:
        found = plan(path, args.board)
    except PackRefused as error:
        if args.json:
            refusal = {"line": error.line, "key": error.key, "reason": error.reason}
            print(json.dumps({"ok": False, **refusal}))
        raise
    config = found.config
    boards = len(config.slaves)
    if args.json:
        ports = [dataclasses.asdict(port) for port in found.ports]
        counts = {"cells": found.cells, "temps": found.temps, "strings": found.strings}
        report = {"ok": True, "boards": boards, **counts, "ports": ports}
        print(json.dumps({**report, "unprotected": unprotected(config)}))
        return 0
    print(f"{args.file}: ok: {config.name}, {CHEMISTRIES[config.chemistry]}")
    print(
        f"  {many(found.cells, 'cell')}, {many(found.temps, 'temperature')},"
        f" {many(boards, 'board')}, {many(found.strings, 'string')}"
    )
    for port in found.ports:
        print(
            f"  {port.name}: {port.kind}, {many(port.boards, 'board')},"
            f" {many(port.cells, 'cell')}, {port.rate_bps} bit/s"
        )
        print(f"    a scan takes {port.scan_ms} ms; one begins each {port.every_ms} ms")
        print(
            f"    a lost board trips after {port.cell_age_ms} ms (cells),"
            f" {port.temp_age_ms} ms (temperatures)"
        )
    gaps = unprotected(config)
    if gaps:
        print("not protected:")
        for gap in gaps:
            print(f"  {gap}")
    return 0


def unprotected(config: Any) -> list[str]:
    """What this pack file leaves without protection, a sentence each."""
    found = []
    bare = [str(n) for n, slave in enumerate(config.slaves, 1) if not slave.temps]
    if len(bare) == len(config.slaves):
        found.append("no temperature: cells may get too hot, or charge in the cold (temps)")
    elif bare:
        found.append(f"no temperature of slave {', '.join(bare)} (temps)")
    if not config.current_sensor:
        found.append("no current: only the fuse stops an overcurrent (current_sensor)")
    if not config.link_sensor and config.precharge_unproven:
        found.append("plus closes onto a load, a short or no link at all (precharge_unproven)")
    if not config.contactor_feedback:
        found.append("a contactor that welds, or does not close (contactor_feedback)")
    if not config.link_capacitance_uf or not config.precharge_resistor_ohm:
        found.append("a shorted precharge resistor (precharge_resistor, link_capacitance)")
    return found
