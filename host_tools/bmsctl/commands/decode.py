"""`bmsctl decode`: captured bytes through the firmware's own driver."""

import argparse
import json
import os
import re
import select
import stat
import time
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from bms.slaves.build import KINDS

from ..captures import SKIPPED, CanText, NotCan, form_of
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
  candump can0 | bmsctl decode outlander -

A file holds raw bytes, hex digits (blanks, commas, colons and lines that begin with # are skipped),
slcan text or lines of candump; 16 MiB at most. CAN frames that come through a pipe are shown each
second, of the last 5,000 frames. Error, remote and FD frames are skipped and counted. In --json,
"each" lists the boards with the values of each; values in which they differ are null outside of it.
Exit 1 where anything was damaged or truncated, a board answered that was not polled, or there is no
answer.
"""

_ONLY_REQUESTS = "only requests in it"
MOST = 16 << 20  # bytes of a capture
LONGEST_LINE = 64 << 10
LIVE_S = 1.0  # a pipe's frames are shown so often
LIVE_FRAMES = 5000  # as many of the last ones; all of them at its end, and of these the last
MOST_FRAMES = 100_000


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


class _Source:
    """The captured bytes of `--hex`, a file or a pipe.

    live: lines of a pipe, which are decoded as they come. Raises ToolError: no such file, too long.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.where = "--hex" if args.hex is not None else str(args.file)
        self.skipped: Counter[str] = Counter()
        self._fd = -1
        self._left = b""  # of a pipe: bytes that no line has ended
        self._text: CanText | None = None
        self.live = False
        if args.hex is not None:
            return
        try:
            self._fd = 0 if self.where == "-" else os.open(args.file, os.O_RDONLY)
            piped = not stat.S_ISREG(os.fstat(self._fd).st_mode)
            if piped:
                self.live = self._begins_with_frames()
        except OSError as error:
            raise ToolError(f"{self.where}: {error.strerror}") from None

    def close(self) -> None:
        """Give back its descriptor."""
        if self._fd > 0:
            os.close(self._fd)

    def _read(self) -> bytes:
        return os.read(self._fd, 65536)

    def _begins_with_frames(self) -> bool:
        """True where the first lines are CAN frames; what was read stays in `_left`."""
        while len(self._left) < LONGEST_LINE:
            got = self._read()
            self._left += got
            lines = _lines(self._left) if self._left.isascii() else []
            whole = [x for x in lines if x[-1] in "\r\n" and x.strip() and x.strip()[0] != "#"]
            if whole:
                form = form_of(whole)
                self._text = CanText(form) if form else None
                return bool(form)
            if not got or not self._left.isascii():
                return False
        return False

    def rest(self, seconds: float | None) -> list[bytes] | None:
        """Frames of a pipe that came within the time, as slcan text; None where it has ended."""
        assert self._text is not None
        end = None if seconds is None else time.monotonic() + seconds
        frames: list[bytes] = []
        ended = False
        while not ended:
            left, self._left = self._left, b""
            if not left.isascii():
                raise ToolError(f"{self.where}: bytes that are no text between the frames")
            for line in _lines(left):
                if line[-1] in "\r\n":
                    frames += self._frame(line)
                else:
                    self._left = line.encode()
            timeout = None if end is None else end - time.monotonic()
            if timeout is not None and timeout <= 0 or len(self._left) > LONGEST_LINE:
                break
            if select.select([self._fd], [], [], timeout)[0]:
                got = self._read()
                ended = not got
                self._left += got
        if ended and self._left:
            frames += self._frame(self._left.decode())
            self._left = b""
        if len(self._left) > LONGEST_LINE:
            raise ToolError(f"{self.where}: a line of more than {LONGEST_LINE >> 10} KiB")
        self.skipped = self._text.skipped
        return frames if frames or not ended else None

    def _frame(self, line: str) -> list[bytes]:
        assert self._text is not None
        try:
            frame = self._text.line(line)
        except NotCan as error:
            raise ToolError(f"{self.where}: {error}") from None
        return [frame] if frame else []

    def all(self, hex_: str | None) -> tuple[bytes, bool]:
        """All of the bytes, and whether they are slcan text."""
        if hex_ is not None:
            words = hex_.split()
            if not words or not all("#" in word for word in words):
                return _from_hex(hex_, self.where), False
            return self._from_text(words, "candump"), True
        piece = bytearray(self._left)
        try:
            while len(piece) <= MOST and (got := self._read()):
                piece += got
        except OSError as error:
            raise ToolError(f"{self.where}: {error.strerror}") from None
        if len(piece) > MOST:
            raise ToolError(f"{self.where}: more than {MOST >> 20} MiB: cut it")
        data = bytes(piece)
        if not data.isascii():
            return data, False
        lines = [x for x in _lines(data) if x.strip() and x.strip()[0] != "#"]
        form = form_of(lines)
        return (
            (self._from_text(lines, form), True)
            if form
            else (_from_hex("".join(lines), self.where), False)
        )

    def _from_text(self, lines: list[str], form: str) -> bytes:
        text = CanText(form)
        try:
            out = b"".join(map(text.line, lines))
        except NotCan as error:
            _refuse(self.where, str(error))
        self.skipped = text.skipped
        return out


def _lines(data: bytes) -> list[str]:
    """Lines with their ends; an end of two characters is one."""
    return data.decode("ascii").splitlines(keepends=True)


def _refuse(where: str, reason: str) -> NoReturn:
    """Refuse data: on the command line it is wrong usage, in a file it is not."""
    if where.startswith("--"):
        wrong_use(f"{where}: {reason}")
    raise ToolError(f"{where}: {reason}")


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
    source = _Source(args)
    try:
        if source.live:
            return _live(args, source, register)
        data, can = source.all(args.hex)
    finally:
        source.close()
    decoded = _decoded(args, source, Capture(data, can, register, args.node))
    _print(args, source, decoded)
    return 0 if decoded.error is None else 1


def _live(args: argparse.Namespace, source: _Source, register: int | None) -> int:
    """Frames of a pipe: what is known is shown each second, and all of it at the end."""
    frames: deque[bytes] = deque(maxlen=MOST_FRAMES)
    every = LIVE_S
    shown = 0  # frames that the last values are of
    decoded = None
    while (came := source.rest(every)) is not None:
        frames += came
        if came:
            began = time.monotonic()
            last = b"".join(islice(frames, max(0, len(frames) - LIVE_FRAMES), None))
            decoded = _decoded(args, source, Capture(last, True, register, args.node))
            _print(args, source, decoded)
            shown = min(len(frames), LIVE_FRAMES)
            every = max(LIVE_S, 4 * (time.monotonic() - began))
    if decoded is None or shown < len(frames):
        capture = Capture(b"".join(frames), True, register, args.node)
        decoded = _decoded(args, source, capture)
        _print(args, source, decoded)
    return 0 if decoded.error is None else 1


def _decoded(args: argparse.Namespace, source: _Source, capture: Capture) -> Decoded:
    media = KINDS[args.driver][2]
    if capture.can and "can" not in media:
        _refuse(source.where, f"{args.driver} speaks over a UART: these are CAN frames")
    if not capture.can and "uart" not in media:
        _refuse(
            source.where,
            f"{args.driver} speaks over CAN: bytes without identifiers mean nothing;"
            " a file of candump or slcan is needed, or --hex 122#740E750E760E0000",
        )
    decode = decoder(args.driver).decode
    decoded = decode(capture)
    apart(decode, capture, decoded)
    if decoded.error is None and not decoded.frames["good"]:
        decoded.error = _ONLY_REQUESTS
    if decoded.error == _ONLY_REQUESTS:
        decoded.error += ": nothing answered"
    return decoded


def _print(args: argparse.Namespace, source: _Source, decoded: Decoded) -> None:
    skipped = {what: source.skipped[what] for what in SKIPPED}
    if args.json:
        print(json.dumps({**decoded.as_json(), "skipped": skipped}), flush=True)
        return
    _show(decoded)
    if any(skipped.values()):
        print("skipped        " + ", ".join(f"{n} {what}" for what, n in skipped.items() if n))
    for note in decoded.notes:
        print(f"note           {note}")
    if decoded.error:
        print(f"refused: {decoded.error}")
    if source.live:
        print(flush=True)


def _show(decoded: Decoded) -> None:
    several = len(decoded.each) > 1
    shared = {"boards", *decoded.values} - {key for row in decoded.each for key in row}
    _values({k: v for k, v in decoded.values.items() if not several or k in shared})
    for row in decoded.each if several else ():
        print(f"board {row['node']}")
        _values({key: value for key, value in row.items() if key != "node"})
    print("frames         " + ", ".join(f"{v} {k}" for k, v in decoded.frames.items()))


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
