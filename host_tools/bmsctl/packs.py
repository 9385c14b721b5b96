"""A board's pack file and its copy, as `firmware/bms/packfile.py` reads them."""

import binascii
import io

from bms import packfile

from . import slots


def checked(pack: bytes) -> bytes:
    """A pack file with the line that holds its checksum."""
    pack = plain(pack)
    if pack and not pack.endswith(b"\n"):
        pack += b"\n"
    return pack + packfile.mark(len(pack), binascii.crc32(pack))


def plain(pack: bytes) -> bytes:
    """A pack file as a person wrote it, without that line."""
    lines = io.BytesIO(pack).readlines()
    return b"".join(line for line in lines if not line.startswith(packfile.MARK))


def both(pack: bytes) -> dict[str, bytes]:
    """The files of a board that hold a pack file, by name."""
    return {slots.PACK: checked(pack), slots.COPY: checked(pack)}


def whole(*candidates: bytes) -> bytes | None:
    """The first that is as `checked` made it, or the first that has no checksum; as `plain`."""
    for data in candidates:
        if data == checked(data):
            return plain(data)
    return next((data for data in candidates if data and data == plain(data)), None)
