"""Are the files of the running firmware those that its seal was written for?

Runs once, at start, and is forgotten then. What a seal is: `switch.py`; its digest is the SHA-256
over the sorted lines `path sha256` of all files of the folder but the seal itself and the pack file
and its copy, which have checksums of their own (`bms.packfile`).
"""

import os
import sys
from binascii import hexlify
from hashlib import sha256

_OTHERS = ("seal", "pack.toml", "pack.toml.copy")


def _files(folder, below, found):
    for entry in os.ilistdir(folder + below):
        path = below + "/" + entry[0]
        if entry[1] & 0x4000:
            _files(folder, path, found)
        else:
            found.append(path[1:])


def _sha(path, buf, view):
    sha = sha256()
    with open(path, "rb") as file:
        while True:
            n = file.readinto(buf)
            if not n:
                return hexlify(sha.digest())
            sha.update(buf if n == len(buf) else view[:n])


def intact():
    """False where a file is damaged, missing or too many. True where there is no seal to hold to:
    an image, or files that somebody copied by hand.
    """
    folder = sys.path[0]
    seal = folder + "/seal"
    if folder == "/rom":
        seal = os.getcwd().rstrip("/") + "/rom.seal"
    try:
        with open(seal) as file:
            sealed = file.read(200).split()[1].encode()
    except (OSError, IndexError):
        return True
    found = []
    _files(folder, "", found)
    found.sort()
    buf = bytearray(512)
    view = memoryview(buf)
    total = sha256()
    for path in found:
        if path not in _OTHERS:
            total.update(path.encode() + b" " + _sha(folder + "/" + path, buf, view) + b"\n")
    return hexlify(total.digest()) == sealed
