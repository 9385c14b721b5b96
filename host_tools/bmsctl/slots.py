"""The two slots of a board's file system, and what `firmware/switch.py` makes of them.

A slot holds a whole firmware; its marker, written last, names its number and its files.
"""

import binascii
import hashlib
from dataclasses import dataclass, field

from bms.config import pack_file

# by their path below the folder where the board's file system is; /rom is a place of its own
A, B, ROM = "/a", "/b", "/rom"
MARKERS = {A: "/a/marker", B: "/b/marker", ROM: "/rom.marker"}
PACK = "pack.toml"
COPY = PACK + pack_file.COPY
READY = PACK + pack_file.READY
SUMS = "sums"  # the lines that a slot's digest is made of, see firmware/hal/slot_marker.py
FROZEN = ".frozen"  # in sys.path: what is in the image (MicroPython's py/builtinimport.c)


def sums(files: dict[str, str]) -> str:
    """The sorted list of `path sha256` lines of a slot's files.

    The pack files have checksums of their own, so that they can change by themselves.
    """
    others = (PACK, COPY, READY, SUMS)
    return "".join(f"{p} {files[p]}\n" for p in sorted(files) if p not in others)


def digest(files: dict[str, str]) -> str:
    """SHA-256 over `sums`."""
    return hashlib.sha256(sums(files).encode()).hexdigest()


def with_sums(files: dict[str, bytes]) -> dict[str, bytes]:
    """A firmware's files and the list of their digests, by path."""
    found = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    return {**files, SUMS: sums(found).encode()}


def marker(number: int, files: dict[str, str]) -> str:
    """Text of the marker of a slot: `NUMBER DIGEST CRC-32`, see firmware/switch.py."""
    text = f"{number} {digest(files)}"
    return f"{text} {binascii.crc32(text.encode()):08x}\n"


def read_marker(text: str) -> tuple[int, str] | None:
    """Number and digest of a marker, None where it is incomplete or damaged."""
    words = text.split()
    if len(words) != 3:
        return None
    try:
        good = int(words[2], 16) == binascii.crc32(f"{words[0]} {words[1]}".encode())
        return (int(words[0]), words[1]) if good else None
    except ValueError:
        return None


@dataclass
class Slot:
    """files: sha256 by path in the slot; number: of its valid marker, -1 = it has none."""

    folder: str
    files: dict[str, str] = field(default_factory=dict)
    number: int = -1


@dataclass
class Inventory:
    """What is on a board. root: sha256 of files beside the slots; free: bytes.

    base: where its file system is, "/flash" on stm32, "" elsewhere; frozen: the image has a
    firmware in it, which starts before any file; mpy: `sys.implementation._mpy`; machine: what
    MicroPython calls the board.
    """

    slots: dict[str, Slot]
    root: dict[str, str] = field(default_factory=dict)
    base: str = ""
    free: int = 0
    frozen: bool = False
    mpy: int = 0
    machine: str = ""

    def path(self, name: str) -> str:
        """The path on the board of a folder, a marker or a file of these names."""
        return name if name == ROM or name.startswith(ROM + "/") else self.base + name

    def running(self) -> Slot | None:
        """The slot that the board starts, None where none is whole."""
        whole = [slot for slot in self.slots.values() if slot.number >= 0]
        return max(whole, key=lambda slot: slot.number) if whole else None

    def target(self) -> Slot:
        """The slot to write: the one of /a and /b that the board doesn't start."""
        running = self.running()
        if running is not None and running.folder in (A, B):
            return self.slots[B if running.folder == A else A]
        # neither runs: the one with the older marker, or none
        return min((self.slots[A], self.slots[B]), key=lambda slot: slot.number)


def parse(text: str) -> Inventory:
    """What `LIST` printed on the board. Raises ValueError where that isn't it."""
    found = Inventory({folder: Slot(folder) for folder in MARKERS})
    ended = False
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "file":
            sha, _, path = rest.partition(" ")
            folder = next((f for f in MARKERS if path.startswith(f + "/")), None)
            if folder is None:
                found.root[path] = sha
            elif path != MARKERS[folder]:
                found.slots[folder].files[path[len(folder) + 1 :]] = sha
        elif word == "marker":
            folder, _, marker_text = rest.partition(" ")
            read = read_marker(marker_text)
            if read is not None:
                found.slots[folder].number = read[0]
        elif word == "base":
            found.base = rest
        elif word == "free":
            found.free = int(rest)
        elif word == "frozen":
            found.frozen = True
        elif word == "mpy":
            found.mpy = int(rest)
        elif word == "machine":
            found.machine = rest
        elif word == "end":
            ended = True
    if not ended:
        raise ValueError("the list of the board's files has no end")
    return found


# runs on the board: every file of the slots with its SHA-256, the markers, what else `parse` reads
LIST = f"""
import os, sys, hashlib, binascii
buf = bytearray(512)
view = memoryview(buf)
base = os.getcwd().rstrip("/")
def one(base, path):
    h = hashlib.sha256()
    with open(base + path, "rb") as f:
        while True:
            n = f.readinto(buf)
            if not n:
                break
            h.update(view[:n])
    print("file", binascii.hexlify(h.digest()).decode(), path)
def walk(base, folder):
    for entry in os.ilistdir(base + folder):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            walk(base, path)
        else:
            one(base, path)
for place, folder in ((base, "{A}"), (base, "{B}"), ("", "{ROM}")):
    try:
        walk(place, folder)
    except OSError:
        pass
for path in ("/main.py", "/main.new"):
    try:
        one(base, path)
    except OSError:
        pass
for folder, path in {list(MARKERS.items())!r}:
    try:
        with open(base + path) as f:
            print("marker", folder, f.read(200).strip())
    except (OSError, ValueError):
        pass
loaded = {{name: sys.modules.pop(name) for name in ("bms", "bms.version") if name in sys.modules}}
path = sys.path[:]
sys.path[:] = [{FROZEN!r}]
try:
    import bms.version
    print("frozen")
except ImportError:
    pass
sys.path[:] = path
sys.modules.update(loaded)
s = os.statvfs(base or "/")
print("base", base)
print("free", s[0] * s[3])
print("mpy", getattr(sys.implementation, "_mpy", 0))
print("machine", sys.implementation._machine)
print("end")
"""
