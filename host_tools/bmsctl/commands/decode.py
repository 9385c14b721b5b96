"""`bmsctl decode`: captured bytes through the firmware's own driver."""

import argparse
import json
import re
from pathlib import Path

from bms.links.can import BITS, EXTENDED
from bms.slaves import KINDS
from bmssim.protocol import Frame
from bmssim.slcan import to_line

from ..decoders import NAMES, decoder
from ..decoders.base import Capture, Decoded
from ..errors import ToolError

HELP = "read captured bytes of a slave board with the firmware's own driver"
EXAMPLE = """examples:
  bmsctl decode jbd --hex dd0400080f230f1c0f120f1dff4e77
  bmsctl decode jbd capture.bin --json
  bmsctl decode cell_link candump.log --node 3

A file holds raw bytes, hex digits, slcan text or lines of candump. Exit 1 where anything in it was
damaged, truncated or said by somebody who wasn't asked.
"""

_CANDUMP = re.compile(
    r"\b([0-9A-Fa-f]{8}|[0-9A-Fa-f]{3})(?:#([0-9A-Fa-f]*)|\s+\[(\d)\]((?: +[0-9A-Fa-f]{2})*))\s*$"
)
_SLCAN = re.compile(rb"\A[\r\n]*(?:t[0-9A-Fa-f]{3}|T[0-9A-Fa-f]{8})[0-8][0-9A-Fa-f]*[\r\n]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("driver", choices=NAMES, metavar="DRIVER", help=", ".join(NAMES))
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hex", metavar="HEX", help="the bytes as hex digits")
    source.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a file that holds them")
    parser.add_argument(
        "--asked", metavar="REG", help="the register or command that was asked, as 04"
    )
    parser.add_argument("--node", type=int, metavar="N", help="the board that was asked")
    parser.add_argument("--json", action="store_true", help="one object as the last line")


def _bytes(args: argparse.Namespace) -> tuple[bytes, bool]:
    """The captured bytes, and whether they are slcan text."""
    if args.hex is not None:
        return _from_hex(args.hex, "--hex"), False
    try:
        data = args.file.read_bytes()
    except OSError as error:
        raise ToolError(f"{args.file}: {error.strerror}") from None
    if _SLCAN.match(data):
        return data.replace(b"\n", b"\r"), True
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return data, False
    lines = [line for line in text.splitlines() if line.strip()]
    found = [_CANDUMP.search(line) for line in lines]
    if any(found):
        out = b""
        for line, match in zip(lines, found, strict=True):
            if match is None:
                raise ToolError(f"{args.file}: not a line of candump: {line.strip()[:60]}")
            payload = match[2] if match[2] is not None else match[4].replace(" ", "")
            ident = int(match[1], 16)
            if len(payload) > 16 or len(payload) % 2 or ident > BITS:
                raise ToolError(f"{args.file}: not a CAN 2.0 frame: {line.strip()[:60]}")
            if len(match[1]) == 8:
                ident |= EXTENDED
            out += to_line(Frame(ident, bytes.fromhex(payload))) + b"\r"
        return out, True
    return _from_hex(text, str(args.file)), False


def _from_hex(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex("".join(text.split()).replace("0x", "").replace(",", ""))
    except ValueError:
        raise ToolError(f"{where}: not hex digits: {text.strip()[:40]}") from None


def run(args: argparse.Namespace) -> int:
    data, can = _bytes(args)
    media = KINDS[args.driver][2]
    if can and "can" not in media:
        raise ToolError(f"{args.driver} speaks over a UART: these are CAN frames")
    asked = None if args.asked is None else _from_hex(args.asked, "--asked")
    if asked is not None and len(asked) != 1:
        raise ToolError(f"--asked {args.asked}: one byte in hex, as 04")
    capture = Capture(data, can, asked[0] if asked else None, args.node)
    decoded = decoder(args.driver).decode(capture)
    if args.json:
        print(json.dumps(decoded.as_json()))
    else:
        _show(decoded)
    return 0 if decoded.error is None else 1


def _show(decoded: Decoded) -> None:
    for key, value in decoded.values.items():
        if value is None or value == []:
            continue
        if key == "temps_dc":
            shown = " ".join("-" if v is None else f"{v / 10:.1f}" for v in value) + " degC"
        elif key == "cells_mv":
            shown = " ".join("-" if v is None else str(v) for v in value) + " mV"
        elif key == "alarms":
            shown = " ".join(value)
        else:
            shown = str(value)
        print(f"{key:14} {shown}")
    print("frames         " + ", ".join(f"{v} {k}" for k, v in decoded.frames.items()))
    if decoded.error:
        print(f"refused: {decoded.error}")
