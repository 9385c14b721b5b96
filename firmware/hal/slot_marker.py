"""Checks the files of the running firmware against the digest in the marker of its slot.

Runs once, in short steps behind the start; all of it is freed afterwards. `switch.py` describes the
marker. Its digest is the SHA-256 over the sorted lines `path sha256` of all files of the folder.
Left out are the marker, the file `sums` (which holds these lines) and the pack files, which have
checksums of their own (`bms.config.pack_file`). With `sums`, only files that this board uses are
read.
"""

import os
import sys
from binascii import hexlify
from hashlib import sha256

SUMS = "sums"
_OTHERS = ("marker", SUMS, "pack.toml", "pack.toml.copy", "pack.toml.ready")
_RUNNING = b"running"
_STEP_BYTES = 2048  # read and hashed in one step: 3 ms on an RP2040
_SHA_END = 66  # of a line: space, digest in hex, line end
_STEP_NAMES = 4  # of a folder, in one step: 5 ms
# a module of these folders is loaded only where the pack file names it, and before this test
_BY_PACK = ("bms/links/", "bms/sensors/", "bms/slaves/")


def steps():
    """Generator: each step yields b"running", the last b"ok" or what is wrong; each allocates.

    b"ok" at once where there is no marker to compare with: a frozen image, or files copied by hand.
    Raises OSError where a file can't be read.
    """
    folder = sys.path[0]
    loaded = list(sys.modules)  # now: modules that only the start needs are freed before the end
    marker = folder + "/marker"
    if folder == "/rom":
        marker = os.getcwd().rstrip("/") + "/rom.marker"
    try:
        with open(marker) as file:
            expected = file.read(200).split()[1].encode()
    except (OSError, IndexError):
        yield b"ok"
        return
    yield _RUNNING
    found = []
    yield from _find(folder, found)
    found.sort()
    sums = _open_sums(folder)
    try:
        digest = yield from _digest(folder, found, sums, loaded)
    finally:
        if sums is not None:
            sums.close()
    yield b"ok" if digest == expected else b"a file of the firmware is damaged"


def _digest(folder, found, sums, loaded):
    """The digest over all lines; None where a file is not as `sums` says."""
    total = sha256()
    buf = bytearray(_STEP_BYTES)
    for path in found:
        line = b""
        if sums is not None:
            line = sums.read(len(path) + _SHA_END)
        if not line or _used(path, loaded):
            sha = yield from _sha(folder + "/" + path, buf)
        else:
            sha = line[-65:-1]
        now = path.encode() + b" " + sha + b"\n"
        if sums is not None and now != line:
            return None
        total.update(now)
        yield _RUNNING
    if sums is not None and sums.read(1):
        return None
    return hexlify(total.digest())


def _find(folder, found):
    """Add the paths of all files that the digest covers."""
    below = [""]
    while below:
        path = below.pop()
        for entry in os.ilistdir(folder + path):
            name = path + "/" + entry[0]
            if entry[1] & 0x4000:
                below.append(name)
            elif name[1:] not in _OTHERS:
                found.append(name[1:])
                if len(found) % _STEP_NAMES == 0:
                    yield _RUNNING


def _sha(path, buf):
    view = memoryview(buf)
    sha = sha256()
    with open(path, "rb") as file:
        while True:
            n = file.readinto(buf)
            if not n:
                return hexlify(sha.digest())
            sha.update(view[:n])
            if n == len(buf):
                yield _RUNNING


def _open_sums(folder):
    """The file `sums`, None where there is none."""
    try:
        return open(folder + "/" + SUMS, "rb")
    except OSError:
        return None


def _used(path, loaded):
    """True where a file belongs to the code that this board loads."""
    if path == "names":  # what functions were called: read after a crash only
        return False
    return not path.startswith(_BY_PACK) or path.rsplit(".", 1)[0].replace("/", ".") in loaded
