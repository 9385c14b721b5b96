"""Where the MicroPython interpreter is."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class MicroPythonMissing(Exception):
    """There is no interpreter; the text is one line that says what to do."""


def find_micropython() -> Path:
    """The interpreter: `MICROPYTHON` where set, else of this Python's or the project's
    environment, else on PATH. Raises MicroPythonMissing.
    """
    chosen = os.environ.get("MICROPYTHON")
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise MicroPythonMissing(f"MICROPYTHON={chosen} is no program that can be run")
        return Path(found).absolute()
    folders = [os.path.dirname(sys.executable), str(ROOT / ".venv" / "bin")]
    for search in (os.pathsep.join(folders), None):
        found = shutil.which("micropython", path=search)
        if found:
            return Path(found).absolute()
    raise MicroPythonMissing(
        "no micropython found: run `make setup`, or install MicroPython's unix port and put it"
        " on PATH or name it in MICROPYTHON"
    )
