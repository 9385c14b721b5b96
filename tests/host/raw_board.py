"""A microcontroller on this computer: MicroPython's unix port with a file system of its own.

`micropython -i raw_board.py DISK KIND WELDED ROM JOURNAL`: mounts the file DISK (littlefs or FAT)
as the root, or FAT as /flash where KIND is `stm32`, runs main.py where there is one, and leaves the
REPL, as a board does. A reset kills the process. JOURNAL gets every block that is written.
"""

import os
import sys

import vfs

FAT = sys.argv[2] != "lfs"
BLOCK = 512 if FAT else 4096
MOUNT = "/flash" if sys.argv[2] == "stm32" else "/"


class Disk:
    """A block device in a file."""

    def __init__(self, path):
        self.file = open(path, "r+b")
        self.file.seek(0, 2)
        self.blocks = self.file.tell() // BLOCK

    def readblocks(self, n, buf, off=0):
        self.file.seek(n * BLOCK + off)
        self.file.readinto(buf)

    def writeblocks(self, n, buf, off=0):
        self.file.seek(n * BLOCK + off)
        self.file.write(buf)
        self.file.flush()
        if journal:
            journal.write(b"%10d%10d" % (n * BLOCK + off, len(buf)))
            journal.write(buf)
            journal.flush()

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return BLOCK
        if op == 6:
            if not FAT:
                self.writeblocks(arg, b"\xff" * BLOCK)
            return 0


class Machine:
    """What the firmware and mpremote use of `machine` here."""

    def reset(self):
        os.system("kill -9 $PPID")

    def welded(self):
        return sys.argv[3] == "1"


class Rom:
    """`vfs` with a ROMFS partition: docs/library/vfs.rst, extmod/vfs_rom.c."""

    inner = vfs  # what is typed at the REPL may import another under this name

    def __init__(self, path):
        self.file = open(path, "r+b")
        self.data = bytearray(os.stat(path)[6])
        self.file.readinto(self.data)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def rom_ioctl(self, op, *args):
        if op == 1:
            return 1
        if op == 2:
            return memoryview(self.data)
        if op == 3:
            for i in range(args[1]):
                self.data[i] = 0xFF
            return 4
        if op == 4:
            offset, buf = args[1], args[2]
            self.data[offset : offset + len(buf)] = buf
            self._keep()
            return 0
        if op == 5:
            self._keep()
            return 0
        if op == 6:
            return 4096
        return -22

    def _keep(self):
        self.file.seek(0)
        self.file.write(self.data)
        self.file.flush()


sys.modules["machine"] = Machine()
journal = open(sys.argv[5], "ab") if sys.argv[5] else None
disk = Disk(sys.argv[1])
if sys.argv[4]:
    rom = Rom(sys.argv[4])
    sys.modules["vfs"] = rom
make = vfs.VfsFat if FAT else vfs.VfsLfs2
try:
    root = make(disk)
    if FAT:
        root.statvfs("")
except OSError:
    make.mkfs(disk)
    root = make(disk)
vfs.umount("/")
vfs.mount(root, MOUNT)
os.chdir(MOUNT)
while sys.path:
    sys.path.pop()
sys.path.append("")
if sys.argv[4]:
    try:
        vfs.mount(vfs.VfsRom(memoryview(rom.data)), "/rom")
    except OSError:
        pass
try:
    with open("main.py") as file:
        text = file.read()
except OSError:
    text = ""
try:
    exec(text, {"__name__": "__main__"})
except BaseException as error:
    sys.print_exception(error)
