"""Where the MicroPython interpreter is."""

import os
import shutil
import subprocess
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


def micropython_version() -> str:
    """The version that the interpreter reports, as in "3.4.0; MicroPython v1.28.0 on 2026-04-06".

    Raises MicroPythonMissing, also where the program found is no MicroPython.
    """
    path = find_micropython()
    code = "import sys; print(sys.implementation.name); print(sys.version)"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MicroPythonMissing(f"{path} does not run: {error}") from None
    name, _, version = done.stdout.partition("\n")
    if done.returncode or name != "micropython":
        raise MicroPythonMissing(f"{path} is not MicroPython")
    return version.strip()
