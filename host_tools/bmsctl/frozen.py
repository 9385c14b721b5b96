"""The firmware for MicroPython's build: `python -m bmsctl.frozen BOARD FOLDER`.

Writes the sources as `bmsctl flash` compiles them, and a manifest that freezes them.
"""

import sys
from pathlib import Path

from . import board_files
from .errors import ToolError

MANIFEST = """include("$(PORT_DIR)/boards/manifest.py")
package("bms", opt=3)
package("hal", opt=3)
"""


def write(board: str, folder: Path) -> Path:
    """The manifest's path. Raises ToolError."""
    board_files.load(board)
    manifest = MANIFEST
    # functions keep their names: these lie in flash, and a stored crash tells them
    prepared = board_files.prepared(board_files.texts(board), functions=False)
    for path, text in prepared.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        if "/" not in path:
            manifest += f'module("{path}", opt=3)\n'
    (folder / "manifest.py").write_text(manifest, "utf-8")
    return folder / "manifest.py"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(write(sys.argv[1], Path(sys.argv[2])))
    except ToolError as error:
        print(f"bmsctl.frozen: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
