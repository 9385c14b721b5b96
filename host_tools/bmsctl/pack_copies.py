"""A board's pack file and its copy, as `firmware/bms/config/pack_file.py` reads them."""

import binascii
import io
import json
from collections.abc import Iterable
from typing import Any

from bms.config import pack_file
from bms.config.errors import ConfigError

from . import board_files, slots


def checked(pack: bytes) -> bytes:
    """A pack file with the line that holds its checksum."""
    pack = plain(pack)
    if pack and not pack.endswith(b"\n"):
        pack += b"\n"
    return pack + pack_file.mark(len(pack), binascii.crc32(pack))


def plain(pack: bytes) -> bytes:
    """A pack file as a person wrote it, without that line."""
    lines = io.BytesIO(pack).readlines()
    return b"".join(line for line in lines if not line.startswith(pack_file.MARK))


def files(pack: bytes) -> dict[str, bytes]:
    """The files of a board that hold a pack file, by name.

    A pack file that this reader refuses isn't made ready: the board reports the reason.
    """
    out = {slots.PACK: checked(pack), slots.COPY: checked(pack)}
    try:
        out[slots.READY] = ready(pack)
    except ConfigError:
        pass
    return out


def ready(pack: bytes) -> bytes:
    """What a board starts with instead of parsing, see `firmware/bms/config/ready_pack.py`.

    Raises ConfigError.
    """
    marked = checked(pack)
    bare = plain(marked)
    found = pack_file.read(io.BytesIO(bare))
    text = json.dumps(
        {
            "schema": board_files.reader_crc(),
            "of": marked[len(bare) :].decode(),
            "crc": found.crc,
            "chemistry": found.chemistry,
            "beyond": found.beyond,
            "values": list(found.values),
            "slaves": _tables(found.slaves),
            "links": _tables(found.links),
            "sensors": _tables(found.sensors),
        },
        separators=(",", ":"),
    )
    return checked(text.encode())


def _tables(objects: Iterable[Any]) -> dict[str, Any]:
    """Slaves, links or sensors; those of one table differ by their node only."""
    fields: list[str] = []
    tables: list[list[Any]] = []
    last = None
    for one in objects:
        values = {key: value for key, value in vars(one).items() if key != "at"}
        fields = fields or list(values)
        if last is not None and one.at is last:
            tables[-1][0] += 1
        else:
            tables.append([1, one.at, [values[key] for key in fields]])
            last = one.at
    return {"fields": fields, "tables": tables}


def whole(*candidates: bytes) -> bytes | None:
    """The first that is as `checked` made it, or the first that has no checksum; as `plain`."""
    for data in candidates:
        if data == checked(data):
            return plain(data)
    return next((data for data in candidates if data and data == plain(data)), None)
