"""The firmware in a board's ROMFS partition: read where it lies, without a copy in RAM.

The partition is written in place, so it counts only while its marker on the file system is there.
"""

import hashlib
import re
import tempfile
from pathlib import Path

from . import pack_copies, slots
from .errors import ToolError
from .flashing import NONE_RUNS, OLD_RUNS, Flashing

_MOUNT = "import vfs\nvfs.mount(vfs.VfsRom(vfs.rom_ioctl(2, 0)), '/rom')\n"


def deploy(
    flashing: Flashing, there: slots.Inventory, files: dict[str, bytes], pack: bytes | None
) -> tuple[str, int, int]:
    """Write the partition and its marker; folder, files copied and kept. Raises ToolError."""
    remote = flashing.remote
    output = remote.run("romfs", "query")
    partition = re.search(r"partition has size (\d+)", output)
    if partition is None:
        lines = output.strip().splitlines()
        raise ToolError(f"--romfs: {lines[-1] if lines else 'no answer'}; flash without it")
    files = {**files, **pack_copies.files(flashing.own_pack(there) if pack is None else pack)}
    wanted = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    slot = there.slots[slots.ROM]
    others = [s for s in there.slots.values() if s.folder != slots.ROM and s.number >= 0]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "rom"
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        image = Path(folder) / "rom.romfs"
        flashing.progress.phase(f"writing {len(files)} files to the ROMFS partition")
        remote.run("romfs", "--no-mpy", "--output", str(image), "build", str(tree))
        size = image.stat().st_size
        if size > int(partition[1]):
            raise ToolError(f"--romfs: {size} bytes don't fit into the {partition[1]} there are")
        flashing.state = OLD_RUNS if others else NONE_RUNS
        flashing.remove([there.path(slots.MARKERS[slots.ROM])])
        output = remote.run("romfs", "deploy", str(image))
        if "deployed" not in output:
            raise ToolError(f"--romfs: {output.strip().splitlines()[-1]}")
    flashing.progress.phase("verifying")
    remote.execute(_MOUNT)
    now = flashing.inventory()
    flashing.verify(now, slots.ROM, wanted)
    flashing.write_marker(now, slots.ROM, wanted)
    return slot.folder, len(files), 0
