"""`bmsctl dbc`: the cell link as a DBC file, for CAN tools."""

import argparse
from pathlib import Path

from bmssim import protocol as p

from ..errors import ToolError
from ..options import wrong_use

HELP = "write the cell link protocol as a DBC file for CAN tools"
EXAMPLE = """examples:
  bmsctl dbc --nodes 4 > cell_link.dbc
  bmsctl dbc --nodes 62 --cells 16 --temps 4 --out cell_link.dbc
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=4, metavar="N", help="boards 1..N, at most 62")
    parser.add_argument("--cells", type=int, default=32, metavar="M", help="cells a board, 1..32")
    parser.add_argument("--temps", type=int, default=16, metavar="T", help="sensors a board, 0..16")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file instead of stdout")


def run(args: argparse.Namespace) -> int:
    for name, value, low, high in (
        ("--nodes", args.nodes, 1, 62),
        ("--cells", args.cells, 1, 32),
        ("--temps", args.temps, 0, 16),
    ):
        if not low <= value <= high:
            wrong_use(f"{name} {value} is out of range: {low} to {high}")
    text = dbc(args.nodes, args.cells, args.temps)
    if args.out is None:
        print(text, end="")
    else:
        try:
            args.out.write_text(text, "utf-8")
        except OSError as error:
            raise ToolError(f"{args.out}: {error.strerror}") from None
    return 0


def _signal(name: str, start: int, bits: int, scale: str, offset: str, unit: str) -> str:
    return f' SG_ {name} : {start}|{bits}@1+ ({scale},{offset}) [0|0] "{unit}" Vector__XXX'


def _plain(name: str, start: int, bits: int, unit: str = "") -> str:
    return _signal(name, start, bits, "1", "0", unit)


def _message(function: int, node: int, name: str, length: int, signals: list[str]) -> list[str]:
    sender = "Master" if p.SCAN <= function <= p.ASSIGN and function != p.HELLO else f"Slave{node}"
    if sender == "Slave0":
        sender = "Vector__XXX"
    return [f"BO_ {function << 6 | node} {name}: {length} {sender}", *signals, ""]


# long: one message after the other, in the order of the protocol
def dbc(nodes: int, cells: int, temps: int) -> str:
    """The text of a DBC file for boards 1..nodes. Raw 8191 of a cell or temperature: no reading."""
    lines = ['VERSION ""', "", "NS_ :", "", "BS_:", ""]
    lines.append("BU_: Master " + " ".join(f"Slave{n}" for n in range(1, nodes + 1)))
    lines.append("")
    for node in range(nodes + 1):
        to = "All" if node == 0 else f"N{node}"
        lines += _message(
            p.SCAN, node, f"Scan_{to}", 2, [_plain("Seq", 0, 8), _plain("Flags", 8, 8)]
        )
        if node == 0:
            continue
        lines += _message(
            p.BALANCE,
            node,
            f"Balance_{to}",
            8,
            [
                _plain("Mask", 0, 32),
                _plain("Timeout", 32, 8, "s"),
                _plain("Seq", 40, 8),
                _plain("Crc", 56, 8),
            ],
        )
        lines += _message(
            p.ALARM,
            node,
            f"Alarm_{to}",
            7,
            [
                _plain("Flags", 0, 16),
                _plain("Cell", 16, 8),
                _plain("Voltage", 24, 16, "mV"),
                _plain("Seq", 40, 8),
                _plain("Crc", 48, 8),
            ],
        )
        lines += _message(
            p.HELLO,
            node,
            f"Hello_{to}",
            8,
            [
                _plain("Version", 0, 8),
                _plain("Cells", 8, 8),
                _plain("Temps", 16, 8),
                _plain("Abilities", 24, 8),
                _plain("Serial", 32, 32),
            ],
        )
        for k in range((cells + 3) // 4):
            four = [_plain(f"Cell{4 * k + i + 1}", 13 * i, 13, "mV") for i in range(4)]
            four += [_plain("Seq", 52, 4), _plain("Crc", 56, 8)]
            lines += _message(p.CELLS + k, node, f"Cells{k}_{to}", 8, four)
        for k in range((temps + 3) // 4):
            four = [
                _signal(f"Temp{4 * k + i + 1}", 13 * i, 13, "0.1", "-100", "degC") for i in range(4)
            ]
            four += [_plain("Seq", 52, 4), _plain("Crc", 56, 8)]
            lines += _message(p.TEMPS + k, node, f"Temps{k}_{to}", 8, four)
        lines += _message(
            p.STATUS,
            node,
            f"Status_{to}",
            8,
            [
                _signal("Stack", 0, 16, "10", "0", "mV"),
                _plain("Faults", 16, 16),
                _signal("Die", 32, 8, "1", "-40", "degC"),
                _plain("Duty", 40, 8, "%"),
                _plain("Seq", 48, 8),
                _plain("Crc", 56, 8),
            ],
        )
    lines += _message(
        p.ASSIGN,
        p.UNADDRESSED,
        "Assign",
        5,
        [_plain("Serial", 0, 32), _plain("Node", 32, 8)],
    )
    return "\n".join(lines)
