"""Options that several commands share."""

import argparse
import sys
from typing import NoReturn


def wrong_use(reason: str) -> NoReturn:
    """End the program for wrong usage: one line that says what is wrong, exit code 2."""
    print(f"bmsctl: {reason}", file=sys.stderr)
    raise SystemExit(2)


def positive(text: str) -> float:
    """A number above 0, in seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def baud(text: str) -> int:
    """A rate in bit/s, 50 or more."""
    value = int(text)
    if value < 50:
        raise argparse.ArgumentTypeError(f"{text} is no rate in bits per second")
    return value


def add_port(parser: argparse.ArgumentParser) -> None:
    """`--port` and `--baud` of a master."""
    parser.add_argument("--port", required=True, metavar="P", help="serial port of the master")
    parser.add_argument(
        "--baud", type=baud, default=115200, metavar="N", help="bits per second (USB: any); 115200"
    )
