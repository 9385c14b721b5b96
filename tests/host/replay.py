"""What a board would start had its power been cut at any moment of a journal of raw_board.py.

`micropython -X heapsize=32M replay.py DISK KIND JOURNAL EACH`: before the first write, after each
and, on littlefs, in the middle of each, mounts the disk and asks its own main.py which firmware is
the newest that is whole. One line each time: SHA-256 of main.py, the folder, the digest of its
files, the digest in its marker; "-" for none. A line is not repeated in a row.
Of the moments it looks at every EACHth and at the last one.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

import binascii
import hashlib
import os
import sys

import vfs

FAT = sys.argv[2] != "lfs"
BLOCK = 512 if FAT else 4096
MOUNT = "/flash" if sys.argv[2] == "stm32" else "/"


class Disk:
    """A disk in RAM; what a look at it writes is undone after it."""

    def __init__(self, data):
        self.data = data
        self.view = memoryview(data)
        self.undo = []

    def readblocks(self, n, buf, off=0):
        at = n * BLOCK + off
        buf[:] = self.view[at : at + len(buf)]

    def writeblocks(self, n, buf, off=0):
        at = n * BLOCK + off
        self.undo.append((at, bytes(self.view[at : at + len(buf)])))
        self.data[at : at + len(buf)] = buf

    def ioctl(self, op, arg):
        return {4: len(self.data) // BLOCK, 5: BLOCK, 6: 0}.get(op)

    def revert(self):
        while self.undo:
            at, old = self.undo.pop()
            self.data[at : at + len(old)] = old


def sha(path):
    h = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            part = file.read(4096)
            if not part:
                return binascii.hexlify(h.digest()).decode()
            h.update(part)


def files(folder, below=""):
    for entry in os.ilistdir(folder + below):
        path = below + "/" + entry[0]
        if entry[1] & 0x4000:
            yield from files(folder, path)
        elif path not in ("/marker", "/sums", "/pack.toml", "/pack.toml.copy", "/pack.toml.ready"):
            yield path[1:]


def look(disk):
    """The line of this moment."""
    try:
        root = vfs.VfsFat(disk) if FAT else vfs.VfsLfs2(disk)
        vfs.mount(root, MOUNT)
    except OSError:
        return "- - - -"
    try:
        os.chdir(MOUNT)
        try:
            with open("main.py") as file:
                text = file.read()
        except OSError:
            return "- - - -"
        words = {"__name__": "switch"}
        main = sha("main.py")
        exec(text, words)
        folder = words["newest"]()
        if not folder:
            return main + " - - -"
        h = hashlib.sha256()
        for path in sorted(files(folder)):
            h.update((path + " " + sha(folder + "/" + path) + "\n").encode())
        with open(folder + "/marker") as file:
            expected = file.read().split()[1]
        return " ".join((main, folder, binascii.hexlify(h.digest()).decode(), expected))
    finally:
        os.chdir("/")
        vfs.umount(MOUNT)
        disk.revert()


with open(sys.argv[1], "rb") as file:
    disk = Disk(bytearray(file.read()))
journal = open(sys.argv[3], "rb")  # noqa: SIM115  as / goes away
vfs.umount("/")
print(look(disk))
each = int(sys.argv[4])
last = ""
moments = 1
while True:
    head = journal.read(20)
    at, length = int(head[:10] or 0), int(head[10:] or 0)
    data = journal.read(length)
    for part in (length,) if FAT else (length // 2, length):
        disk.data[at : at + part] = data[:part]
        moments += 1
        if head and moments % each:
            continue
        line = look(disk)
        if line != last:
            print(line)
            last = line
    if not head:
        break
print("moments", moments)
