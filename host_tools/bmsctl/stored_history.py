"""Reads what a master has stored over its serial port; answers end with a line `stored_end`."""

import struct
import time
from typing import Any

from bms.contactors import sequence
from bms.kernels.checksums import crc16
from bmssim.lines import LineReader

from . import pack_copies
from .errors import ToolError
from .request import noise
from .serial_port import PortLost, open_port, read_some, wait_readable, write_all

TRIES = 3  # a line that is lost on the way makes it read all again


def read_stored(path: str, baud: int, command: str, timeout_s: float) -> list[dict[str, Any]]:
    """The lines of `history`, `frames` or `pack`. Raises ToolError: no port, refusal, gaps."""
    lines: list[dict[str, Any]] = []
    with open_port(path, baud) as port:
        try:
            for _ in range(TRIES):
                write_all(port, b"\n" + command.encode() + b"\n")
                lines = []
                last = _collect(port, path, command, timeout_s, lines)
                if last["lines"] == len(lines):
                    return lines
        except PortLost as error:
            raise ToolError(f"{path} vanished: {error}") from None
    raise ToolError(f"{path}: lines of `{command}` were lost, {TRIES} times")


def _collect(
    port: Any, path: str, command: str, timeout_s: float, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    """Add lines until the last one, which is returned; the time runs anew with each line."""
    reader = LineReader()
    end = time.monotonic() + timeout_s
    answered = False
    while time.monotonic() < end:
        wait_readable(port, 0.1)
        for line in reader.feed(read_some(port)):
            obj = line.obj
            if obj is None:
                continue
            if obj["k"] == "answer" and obj.get("cmd") in (command, "?"):
                if obj["ok"] is not True:
                    raise ToolError(f"{path}: the master refuses: {obj['text']}")
                answered = True
            elif obj["k"] == "stored_end" and obj["what"] == command:
                return obj
            elif obj["k"] in KINDS[command]:
                lines.append(obj)
                end = time.monotonic() + timeout_s
    what = "the end" if answered else "an answer"
    hint = noise(reader, port.baudrate)
    raise ToolError(f"{path}: {what} of `{command}` did not come in {timeout_s:g} s{hint}")


KINDS = {
    "history": ("totals", "crash", "stored_event"),
    "frames": ("frame_part",),
    "pack": ("pack_part",),
}


def joined(lines: list[dict[str, Any]]) -> bytes:
    """The bytes of lines with `at` and `hex`. Raises ToolError where one is missing."""
    data = b""
    for line in lines:
        if line["at"] != len(data):
            raise ToolError(f"byte {len(data)} is missing in what came")
        data += bytes.fromhex(line["hex"])
    return data


def pack(lines: list[dict[str, Any]]) -> bytes:
    """The pack file of `pack`, without its checksum. Raises ToolError where the CRC is wrong."""
    data = joined(lines)
    plain = pack_copies.plain(data)
    right = plain == data or pack_copies.checked(data) == data
    if not lines or not right or crc16(plain, 0, len(plain), 0xFFFF) != lines[0]["config_crc"]:
        raise ToolError("the pack file did not come over whole: its checksum is wrong")
    return plain


def frames(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The freeze frames of which every part is there, the oldest first.

    Each has `frame` (a number), `code`, `index`, `at_ms`, `boot`, and `samples`: dicts with `t_ms`
    (uptime), `link_mv` (null: not measured), `i_ma` and `state` of each string, `cell_mv`,
    `temp_dc`.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["frame"], []).append(line)
    out = []
    for number in sorted(found):
        parts = [[x for x in found[number] if x["part"] == k] for k in range(_parts(found[number]))]
        if all(parts):
            head = {key: parts[0][0][key] for key in ("frame", "code", "index", "at_ms", "boot")}
            data = b"".join(joined(part) for part in parts)
            out.append({**head, "samples": samples(data)})
    return out


def _parts(lines: list[dict[str, Any]]) -> int:
    return lines[0]["parts"]


def samples(data: bytes) -> list[dict[str, Any]]:
    """What `Freeze.fill` made; samples whose end is missing are left out."""
    if len(data) < 8:
        return []
    cells, temps, strings, count = struct.unpack_from("<4H", data)
    form = struct.Struct(f"<{cells}h{temps}h{3 + 2 * strings}i")
    states = sequence.STATES.decode().split()
    out = []
    for k in range(min(count, (len(data) - 8) // form.size)):
        values = form.unpack_from(data, 8 + k * form.size)
        s, ms, link = values[cells + temps : cells + temps + 3]
        rest = values[cells + temps + 3 :]
        out.append(
            {
                "t_ms": 1000 * s + ms,
                "link_mv": None if link < 0 else link,
                "i_ma": list(rest[0::2]),
                "state": [states[state] for state in rest[1::2]],
                "cell_mv": list(values[:cells]),
                "temp_dc": list(values[cells : cells + temps]),
            }
        )
    return out
