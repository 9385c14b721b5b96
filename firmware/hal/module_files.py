"""Says where the modules of a slot are, from its list of files, while the firmware starts.

A look into littlefs takes milliseconds on an RP2040, and an import takes three before it opens the
file (py/builtinimport.c). The list (`seal.SUMS`) counts only where the slot's seal is for it.
"""

import sys
from binascii import hexlify
from hashlib import sha256

from hal.seal import SUMS, sealed_digest

AT = "/m"
_FILE, _FOLDER = 0x8000, 0x4000


class Files:
    """A file system that knows which files there are, and opens those of `folder`."""

    def __init__(self, folder, paths):
        self.folder = folder
        self._kinds = {"/": _FOLDER}
        for path in paths:
            self._kinds["/" + path] = _FILE
            parts = path.split("/")
            for i in range(1, len(parts)):
                self._kinds["/" + "/".join(parts[:i])] = _FOLDER

    def mount(self, readonly, mkfs):
        """For `vfs.mount`."""

    def umount(self):
        """For `vfs.umount`."""

    def stat(self, path):
        """Kind of a file or folder, as `os.stat` has it. Raises OSError where there is none."""
        kind = self._kinds.get(path)
        if kind is None:
            raise OSError(2)
        return (kind, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def open(self, path, mode):
        """The file itself."""
        return open(self.folder + path, mode)


def mount(folder):
    """Find modules of a slot by its list from here on; nothing where it has no whole list.

    Nor in a ROMFS: a look into one costs little.
    """
    if folder == "/rom":
        return
    try:
        with open(folder + "/" + SUMS, "rb") as file:
            text = file.read()
    except OSError:
        return
    if hexlify(sha256(text).digest()) != sealed_digest(folder):
        return
    import vfs

    paths = [line.split(" ")[0] for line in text.decode().split("\n") if line]
    vfs.mount(Files(folder, paths), AT)
    sys.path.insert(0, AT)


def umount():
    """What is imported later is looked for in the slot itself."""
    if sys.path[0] != AT:
        return
    import vfs

    sys.path.pop(0)
    vfs.umount(AT)
    for name in sys.modules:
        path = getattr(sys.modules[name], "__path__", "")
        if path.startswith(AT + "/"):
            setattr(sys.modules[name], "__path__", sys.path[0] + path[len(AT) :])  # noqa: B010
