"""Lines of the master's serial port: telemetry in JSON with a checksum, and text for a person.

A data line starts with `{"k":KIND,"t_ms":N,` and ends with `,"crc":"XXXX"}`: CRC-16/CCITT-FALSE
(poly 1021, init FFFF) of every byte before `"crc"`. Only a line that is whole, of the right
checksum and shape is data; what looks like data and isn't is damaged. Spaces behind a line are no
part of it.
"""

import binascii
import json
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, NoReturn

LONGEST = 4096  # bytes of a line; the firmware's longest takes 640
_TAIL = len('"crc":"0000"}')

Kind = Literal["data", "text", "damaged"]


class Line(NamedTuple):
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
    body = line[:-_TAIL]
    if line[-_TAIL:] != b'"crc":"%04X"}' % binascii.crc_hqx(body, 0xFFFF):
        return None
    if len(line) > LONGEST or body[-1:] != b"," or body[:1] != b"{":
        return None
    try:
        text = line.decode()
        obj, end = _read(text, 0)
        # every "{", "[" and colon is that of a plain key, as in each line of the firmware: then no
        # key comes twice and no list is in a list
        lists = line.count(b"[")
        if line.count(b"{") != 1 or lists and lists != line.count(b'":['):
            return _parse_slowly(text)
        if line.count(b'":') != len(obj):
            return _parse_slowly(text)
    except (ValueError, RecursionError):
        return None
    return obj if end == len(text) and _begins_right(obj) else None


def _parse_slowly(text: str) -> dict[str, Any] | None:
    """The object of any text. Raises ValueError or RecursionError where it is none."""
    obj = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    return obj if isinstance(obj, dict) and _flat(obj) and _begins_right(obj) else None


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


_read = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).raw_decode


def _flat(obj: dict[str, Any]) -> bool:
    """Values are no deeper than a list of plain ones."""
    for value in obj.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, list | dict):
                return False
    return True


def _begins_right(obj: dict[str, Any]) -> bool:
    """The first keys are a kind and a time."""
    keys = iter(obj)
    if next(keys) != "k" or next(keys, None) != "t_ms" or not isinstance(obj["k"], str):
        return False
    t_ms = obj["t_ms"]
    # a host line may come before the master sent anything
    return type(t_ms) is int and t_ms >= 0 or t_ms is None and obj["k"] == "host"


_WHOLE: dict[str, Any] = {}


def whole(line: bytes) -> dict[str, Any] | None:
    """`{}` for a line that looks at its ends and by its checksum like data, None for another.

    For those who keep lines as they are: `parse` takes five times as long, and finds nothing more
    in what a sender with a right checksum has made.
    """
    if line[-1:] == b"\r":
        line = line[:-1]
    if line[-_TAIL:] != b'"crc":"%04X"}' % binascii.crc_hqx(line[:-_TAIL], 0xFFFF):
        return None
    return _WHOLE if line[:6] == b'{"k":"' and len(line) <= LONGEST else None


class LineReader:
    """Cuts bytes into lines, however they come. Counts in `data`, `text` and `damaged`.

    A line longer than LONGEST is damaged: its first LONGEST bytes are kept, the others up to the
    next line end are counted in `dropped_bytes`. parser: `parse`, or `whole` where that is enough.
    """

    def __init__(self, parser: Callable[[bytes], dict[str, Any] | None] = parse) -> None:
        self._parser = parser
        self._partial = b""
        self._over = False
        self._joined = False
        self.data = self.text = self.damaged = self.dropped_bytes = 0

    @property
    def unended(self) -> int:
        """Bytes that no line has ended, and those that were dropped."""
        return len(self._partial) + self.dropped_bytes

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` ends; empty ones are left out."""
        *ended, self._partial = (self._partial + data).split(b"\n")
        lines = []
        for raw in ended:
            raw = raw.rstrip(b" ")  # a USB console fills its last block with them
            if not self._over and (obj := self._parser(raw)) is not None:
                self.data += 1
                self._joined = True
                lines.append(Line("data", raw, obj))
            elif self._over:
                self.dropped_bytes += len(raw) + 1
                self._over = False
            elif len(raw) > LONGEST:
                self.dropped_bytes += len(raw) + 1 - LONGEST
                lines.append(self._damaged(raw[:LONGEST]))
            elif raw and raw != b"\r":
                lines.append(self._no_data(raw))
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

    def _no_data(self, raw: bytes) -> Line:
        joined, self._joined = self._joined, True
        # a data line that lost its front still ends as one; the first may, since we came late
        if raw.startswith(b"{") or (joined and b',"crc":"' in raw[-_TAIL - 3 :]):
            return self._damaged(raw)
        self.text += 1
        return Line("text", raw)
