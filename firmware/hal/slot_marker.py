"""Checks the files of the running firmware against the digest in the marker of its slot.

Runs once, at start; the module is freed afterwards. `switch.py` describes the marker. Its digest is
the SHA-256 over the sorted lines `path sha256` of all files of the folder. Left out are the marker,
the file `sums` (which holds these lines) and the pack files, which have checksums of their own
(`bms.config.pack_file`). With `sums`, only files that this board uses are read.
"""

import os
import sys
from binascii import hexlify
from hashlib import sha256

SUMS = "sums"
_OTHERS = ("marker", SUMS, "pack.toml", "pack.toml.copy", "pack.toml.ready")
# a module of these folders is loaded only where the pack file names it, and before this test
_BY_PACK = ("bms/links/", "bms/sensors/", "bms/slaves/")


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
    """False where a file is damaged, missing or superfluous.

    True where there is no marker to compare with: a frozen image, or files copied by hand.
    """
    folder = sys.path[0]
    marker = folder + "/marker"
    if folder == "/rom":
        marker = os.getcwd().rstrip("/") + "/rom.marker"
    try:
        with open(marker) as file:
            expected = file.read(200).split()[1].encode()
    except (OSError, IndexError):
        return True
    found = []
    _files(folder, "", found)
    found = [path for path in found if path not in _OTHERS]
    found.sort()
    buf = bytearray(512)
    view = memoryview(buf)
    total = sha256()
    for path, sha in _sums(folder) or [(path, b"") for path in found]:
        if not found or found.pop(0) != path:
            return False
        if not sha or _used(path):
            now = _sha(folder + "/" + path, buf, view)
            if sha and now != sha:
                return False
            sha = now
        total.update(path.encode() + b" " + sha + b"\n")
    return not found and hexlify(total.digest()) == expected


def _sums(folder):
    """(path, digest) of every line of `sums`; None where there is none."""
    try:
        with open(folder + "/" + SUMS) as file:
            return [(words[0], words[1].encode()) for words in map(str.split, file)]
    except (OSError, IndexError, ValueError):
        return None


def _used(path):
    """True where a file belongs to the code that this board loads."""
    if path == "names":  # what functions were called: read after a crash only
        return False
    module = path.rsplit(".", 1)[0].replace("/", ".")
    return not path.startswith(_BY_PACK) or module in sys.modules
