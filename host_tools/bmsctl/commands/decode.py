"""`bmsctl decode`: captured bytes through the firmware's own driver."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from bms.links.can import BITS, EXTENDED
from bms.slaves.build import KINDS
from bmssim.protocol import Frame
from bmssim.slcan import to_line

from ..decoders import NAMES, decoder
from ..decoders.base import Capture, Decoded, apart, driver_class
from ..errors import ToolError
from ..options import wrong_use

HELP = "read captured bytes of a slave board with the firmware's own driver"
EXAMPLE = """examples:
  bmsctl decode jbd --hex dd0400080f230f1c0f120f1dff4e77
  bmsctl decode jbd capture.bin --json
  bmsctl decode cell_link candump.log --node 3
  bmsctl decode bmw_i3 --hex "122#740E750E760E0000 172#404142FF00000000"
  candump -L can0 | head -n 100 | bmsctl decode outlander -

A file holds raw bytes, hex digits (blanks, commas, colons and lines that begin with # are skipped),
slcan text or lines of candump. In --json, "each" lists the boards with the values of each; values
in which they differ are null outside of it. Exit 1 where anything was damaged or truncated, a board
answered that was not polled, or there is no answer.
"""

_CANDUMP = re.compile(
    r"\b([0-9A-Fa-f]{8}|[0-9A-Fa-f]{3})(?:#([0-9A-Fa-f]*)|\s+\[(\d)\]((?: +[0-9A-Fa-f]{2})*))\s*$"
)
# a frame, maybe with the adapter's time behind it and a program's text before it
_SLCAN = re.compile(r"^(?:\S+\s+)*?((?:t[0-9A-Fa-f]{3}|T[0-9A-Fa-f]{8})[0-8][0-9A-Fa-f]*)\s*$")
_TIME = 4  # digits of the time that an slcan adapter may write behind a frame
_ONLY_REQUESTS = "only requests in it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("driver", choices=NAMES, metavar="DRIVER", help=", ".join(NAMES))
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hex", metavar="HEX", help="the bytes as hex digits")
    source.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="a file that holds them; - is stdin"
    )
    parser.add_argument("--register", metavar="REG", help="the register that was polled, as 04")
    parser.add_argument("--node", type=int, metavar="N", help="the board that was polled")
    parser.add_argument("--json", action="store_true", help="one object as the last line")


def _bytes(args: argparse.Namespace) -> tuple[bytes, bool]:
    """The captured bytes, and whether they are slcan text."""
    if args.hex is not None:
        frames = args.hex.split()
        if frames and all("#" in frame for frame in frames):
            return _from_candump(frames, "--hex"), True
        return _from_hex(args.hex, "--hex"), False
    where = str(args.file)
    try:
        data = sys.stdin.buffer.read() if where == "-" else args.file.read_bytes()
    except OSError as error:
        raise ToolError(f"{where}: {error.strerror}") from None
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return data, False
    # without an end of line the last frame may be cut
    lines = [x for x in text.splitlines(keepends=True) if x.strip() and x.strip()[0] != "#"]
    if any(_SLCAN.match(line) for line in lines):
        return b"".join(_slcan(line) for line in lines), True
    if any(_CANDUMP.search(line) for line in lines):
        return _from_candump(lines, where), True
    return _from_hex("".join(lines), where), False


def _slcan(line: str) -> bytes:
    match = _SLCAN.match(line)
    frame = match[1] if match else line.strip()
    if match:
        head = 5 if frame[0] == "t" else 10
        whole = head + 2 * int(frame[head - 1])
        if len(frame) == whole + _TIME:
            frame = frame[:whole]
    return (frame + ("\r" if line[-1] in "\r\n" else "")).encode()


def _refuse(where: str, reason: str) -> NoReturn:
    """Refuse data: on the command line it is wrong usage, in a file it is not."""
    if where.startswith("--"):
        wrong_use(f"{where}: {reason}")
    raise ToolError(f"{where}: {reason}")


def _from_candump(lines: list[str], where: str) -> bytes:
    """Lines of candump as slcan text."""
    out = b""
    for line in lines:
        match = _CANDUMP.search(line)
        if match is None:
            _refuse(where, f"not a line of candump: {line.strip()[:60]}")
        payload = match[2] if match[2] is not None else match[4].replace(" ", "")
        ident = int(match[1], 16)
        if len(payload) > 16 or len(payload) % 2 or ident > BITS:
            _refuse(where, f"not a CAN 2.0 frame: {line.strip()[:60]}")
        if len(match[1]) == 8:
            ident |= EXTENDED
        out += to_line(Frame(ident, bytes.fromhex(payload))) + b"\r"
    return out


def _from_hex(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex(re.sub(r"0[xX]|[\s,:]", "", text))
    except ValueError:
        _refuse(where, f"not hex digits: {text.strip()[:40]}")


def _check(args: argparse.Namespace) -> int | None:
    """Refuse a node or register that the kind does not have; the register as a number."""
    low, high = driver_class(args.driver).NODES
    if args.node is not None and not low <= args.node <= high:
        has = f"nodes {low} to {high}" if low < high else f"node {low} only"
        wrong_use(f"--node {args.node}: {args.driver} has {has}")
    if args.register is None:
        return None
    if args.driver != "jbd":
        wrong_use(f"--register {args.register}: only jbd is polled by register")
    register = _from_hex(args.register, "--register")
    if len(register) != 1:
        wrong_use(f"--register {args.register}: one byte in hex, as 04")
    return register[0]


def run(args: argparse.Namespace) -> int:
    register = _check(args)
    data, can = _bytes(args)
    where = "--hex" if args.hex is not None else str(args.file)
    media = KINDS[args.driver][2]
    if can and "can" not in media:
        _refuse(where, f"{args.driver} speaks over a UART: these are CAN frames")
    if not can and "uart" not in media:
        _refuse(
            where,
            f"{args.driver} speaks over CAN: bytes without identifiers mean nothing;"
            " a file of candump or slcan is needed, or --hex 122#740E750E760E0000",
        )
    decode = decoder(args.driver).decode
    capture = Capture(data, can, register, args.node)
    decoded = decode(capture)
    apart(decode, capture, decoded)
    if decoded.error is None and not decoded.frames["good"]:
        decoded.error = _ONLY_REQUESTS
    if decoded.error == _ONLY_REQUESTS:
        decoded.error += ": nothing answered"
    if args.json:
        print(json.dumps(decoded.as_json()))
    else:
        _show(decoded)
    return 0 if decoded.error is None else 1


def _show(decoded: Decoded) -> None:
    several = len(decoded.each) > 1
    shared = {"boards", *decoded.values} - {key for row in decoded.each for key in row}
    _values({k: v for k, v in decoded.values.items() if not several or k in shared})
    for row in decoded.each if several else ():
        print(f"board {row['node']}")
        _values({key: value for key, value in row.items() if key != "node"})
    print("frames         " + ", ".join(f"{v} {k}" for k, v in decoded.frames.items()))
    if decoded.error:
        print(f"refused: {decoded.error}")


def _values(values: dict[str, Any]) -> None:
    for key, value in values.items():
        if value is None or value == []:
            continue
        if key.endswith("_dc") and isinstance(value, int):
            shown = f"{value / 10:.1f} degC"
        elif key == "temps_dc":
            shown = " ".join("-" if v is None else f"{v / 10:.1f}" for v in value) + " degC"
        elif key == "cells_mv":
            shown = " ".join("-" if v is None else str(v) for v in value) + " mV"
        elif key == "alarms":
            shown = " ".join(value)
        else:
            shown = str(value)
        print(f"{key:14} {shown}")
