"""Writes a pack file to a board that runs: first its copy, then the file itself.

At any moment one of the two is complete, as `firmware/bms/config/pack_file.py` reads them.
"""

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from bms.kernels.checksums import crc16

from . import pack_copies, slots
from .errors import ToolError
from .flashing import LEFT, UNTOUCHED, Service
from .request import send_command
from .start_check import plan

NAME_S = 2  # for the name of the board
NEW = "/pack.new"  # beside the slots: whatever is in a slot belongs to its firmware
EITHER = "a reset starts the firmware with the old pack file or the new one, whole; push again"
WRITTEN = "the board has the new pack file"


def checked(path: Path, unlock: bool, board: str = "") -> tuple[bytes, int]:
    """A pack file's bytes without its checksum, and its CRC. Raises ToolError: it is refused."""
    config = plan(path, board).config
    # as the board will have it: it ends with a line end
    pack = pack_copies.plain(pack_copies.checked(Path(config.path).read_bytes()))
    if config.beyond and not unlock:
        raise ToolError(
            f"{path}: {config.beyond} of its bounds are beyond what its chemistry is used at;"
            " --unlock pushes it anyway"
        )
    return pack, crc16(pack, 0, len(pack), 0xFFFF)


class PackPush(Service):
    """One run."""

    def board_name(self) -> str:
        """Name of the board, as the running master reports it; "" where none answers."""
        self.reach()
        self.state = UNTOUCHED
        with contextlib.suppress(ToolError):
            for line in send_command(self.port, self.baud, "version", NAME_S):
                if line["k"] == "boot":
                    return line["board"]
        return ""

    def run(self, pack: bytes, crc: int) -> dict[str, Any]:
        """Write, start and wait for the boot line; what `--json` prints. Raises ToolError."""
        self.reach()
        self.enter()
        try:
            self._write(pack)
        except ToolError:
            if self.state is LEFT:
                with contextlib.suppress(ToolError):
                    self.remote.reset()
                    self.state = "nothing was written, and the board was started again"
            raise
        self.progress.phase("starting it")
        self.start()
        boot = self.boot()
        if boot["config_crc"] != crc:
            raise ToolError(f"the board runs with {boot['config_crc']:04X}, not with {crc:04X}")
        return {key: boot[key] for key in ("board", "version", "config_crc", "self_test")}

    def _write(self, pack: bytes) -> None:
        self.progress.phase("looking at what is on the board")
        there = self.inventory()
        running = there.running()
        if running is not None and running.folder == slots.ROM:
            raise ToolError("the board runs from its ROMFS: use bmsctl flash --romfs --pack FILE")
        if running is None and not there.frozen:
            raise ToolError("there is no whole firmware on the board: use bmsctl flash")
        folder = running.folder if running is not None else ""
        names = [slots.COPY, slots.PACK]
        paths = {name: there.path(f"{folder}/{name}") for name in names}
        old = self._read(paths[slots.PACK])
        copied = self._read(paths[slots.COPY]) is not None
        if old is None or pack_copies.checked(old) != old and copied:
            names.reverse()  # it isn't what the board started with: the copy is
        new = there.path(NEW)
        data = pack_copies.checked(pack)
        ready = pack_copies.ready(pack)
        self.state = EITHER
        for name in names:
            self.progress.phase(f"writing {paths[name]}")
            self._replace(data, new, paths[name])
        # what is ready counts by the pack file that it was made from: any moment is good
        self._replace(ready, new, there.path(f"{folder}/{slots.READY}"))
        self.state = WRITTEN

    def _read(self, path: str) -> bytes | None:
        """A file of the board, None where there is none."""
        code = f"import os\ntry:\n os.stat({path!r})\n print('there')\nexcept OSError: pass\n"
        return self.remote.read(path) if self.remote.execute(code).strip() else None

    def _replace(self, data: bytes, new: str, path: str) -> None:
        """Write `new`, see that it is whole, then let it take the place of `path`."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "pack"
            source.write_bytes(data)
            self.remote.copy([(source, new)])
        there = hashlib.sha256(self.remote.read(new)).digest()
        if there != hashlib.sha256(data).digest():
            raise ToolError(f"{new} is not on the board as it was sent")
        # FAT's rename replaces nothing (extmod/vfs_fat.c); the other of both is whole meanwhile
        self.remote.execute(
            f"import os\ntry: os.remove({path!r})\nexcept OSError: pass\n"
            f"os.rename({new!r}, {path!r})\n"
        )
