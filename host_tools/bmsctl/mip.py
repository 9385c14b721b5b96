"""`package.json` for MicroPython's `mip`: `python -m bmsctl.mip > package.json`.

mip copies sources, so it has the modules that every board shares and none of a board's own.
"""

import json

from bms.version import VERSION

from . import board_files


def package() -> str:
    """The text of package.json: every module of `bms` and `hal`, by its path on the board."""
    firmware = board_files.ROOT / "firmware"
    paths = [
        str(path.relative_to(firmware))
        for folder in ("bms", "hal")
        for path in sorted((firmware / folder).rglob("*.py"))
    ]
    urls = [[path, f"firmware/{path}"] for path in paths]
    return json.dumps({"urls": urls, "version": VERSION}, indent=2) + "\n"


if __name__ == "__main__":
    print(package(), end="")
