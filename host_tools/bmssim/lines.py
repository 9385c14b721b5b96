"""Lines of the master's serial port: telemetry in JSON with a checksum, and text for a person.

A data line starts with `{"k":KIND,"t_ms":N,` and ends with `,"crc":"XXXX"}`: CRC-16/CCITT-FALSE
(poly 1021, init FFFF) of every byte before `"crc"`. Only a line that is whole, of the right
checksum and shape is data; what looks like data and isn't is damaged. Spaces behind a line are no
part of it.
"""

import binascii
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

LONGEST = 4096  # bytes of a line; the firmware's longest takes 640
_TAIL = len('"crc":"0000"}')

Kind = Literal["data", "text", "damaged"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `raw` as received without its "\\n"; `obj` only where it is data."""

    kind: Kind
    raw: bytes
    obj: dict[str, Any] | None = None


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE; 0x29B1 for b"123456789"."""
    return binascii.crc_hqx(data, 0xFFFF)


def encode(obj: dict[str, Any]) -> bytes:
    """The line of an object without its "crc". Raises ValueError for what no reader would take."""
    body = json.dumps(obj, separators=(",", ":"), allow_nan=False).encode()[:-1] + b","
    line = body + b'"crc":"%04X"}\n' % crc16(body)
    if parse(line) is None:
        raise ValueError(f"not the shape of a telemetry line: {obj}")
    return line


def parse(line: bytes) -> dict[str, Any] | None:
    """The object of a whole line with or without its end, None where it isn't good data."""
    line = line.removesuffix(b"\n").removesuffix(b"\r").rstrip(b" ")
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if len(line) > LONGEST or not body.endswith(b",") or tail != b'"crc":"%04X"}' % crc16(body):
        return None
    try:
        obj = json.loads(
            line.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        return None
    return obj if isinstance(obj, dict) and _shaped(obj) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) != len(pairs):
        raise ValueError("a key comes twice")
    return obj


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse(text)
    return value


def _shaped(obj: dict[str, Any]) -> bool:
    """Keys in order, a kind, a time, and values no deeper than a list of plain ones."""
    if list(obj)[:2] != ["k", "t_ms"] or not isinstance(obj["k"], str):
        return False
    t_ms = obj["t_ms"]
    # a host line may come before the master sent anything
    if not (type(t_ms) is int and t_ms >= 0) and not (t_ms is None and obj["k"] == "host"):
        return False
    for value in obj.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, list | dict):
                return False
    return True


class LineReader:
    """Cuts bytes into lines, however they come. Counts in `data`, `text` and `damaged`.

    A line longer than LONGEST is damaged: its first LONGEST bytes are kept, the others up to the
    next line end are counted in `dropped_bytes`.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._over = False
        self._joined = False
        self.data = self.text = self.damaged = self.dropped_bytes = 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` ends; empty ones are left out."""
        *ended, self._partial = (self._partial + data).split(b"\n")
        lines = []
        for raw in ended:
            raw = raw.rstrip(b" ")  # a USB console fills its last block with them
            if self._over:
                self.dropped_bytes += len(raw) + 1
                self._over = False
            elif len(raw) > LONGEST:
                self.dropped_bytes += len(raw) + 1 - LONGEST
                lines.append(self._damaged(raw[:LONGEST]))
            elif raw and raw != b"\r":
                lines.append(self._whole(raw))
        if self._over:
            self.dropped_bytes += len(self._partial)
            self._partial = b""
        elif len(self._partial) > LONGEST:
            self._over = True
            self.dropped_bytes += len(self._partial) - LONGEST
            lines.append(self._damaged(self._partial[:LONGEST]))
            self._partial = b""
        return lines

    def end(self) -> Line | None:
        """Nothing more comes for now: what is left of an unended line, as damaged."""
        raw, self._partial, self._over, self._joined = self._partial, b"", False, False
        return self._damaged(raw) if raw else None

    def _damaged(self, raw: bytes) -> Line:
        self.damaged += 1
        return Line("damaged", raw)

    def _whole(self, raw: bytes) -> Line:
        joined, self._joined = self._joined, True
        obj = parse(raw)
        if obj is not None:
            self.data += 1
            return Line("data", raw, obj)
        # a data line that lost its front still ends as one; the first may, since we came late
        if raw.startswith(b"{") or (joined and b',"crc":"' in raw[-_TAIL - 3 :]):
            return self._damaged(raw)
        self.text += 1
        return Line("text", raw)
