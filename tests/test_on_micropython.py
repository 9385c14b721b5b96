"""The files of tests/unit once more, in the real interpreter with the heap of a small board."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bmssim.micropython_path import find_micropython
from extent import HANG_S

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "tests" / "unit").glob("test_*.py"))
HEAP = "768k"  # the tests themselves take half of it
# these hold several masters, or the bytes of many scans, beside the one that they test
LARGER = {
    "test_boards": "2M",
    "test_bq796xx": "2M",
    "test_cell_link": "2M",
    "test_console": "2M",
    "test_contactors": "2M",
    "test_diybms": "2M",
    "test_heap": "2M",
    "test_main": "2M",
    "test_lessons": "2M",
    "test_master": "2M",
    "test_mcp2518fd": "2M",
    "test_opening": "2M",
    "test_power": "2M",
    "test_quantities": "2M",
    "test_strings": "2M",
    "test_recall": "2M",
}


def run(path: Path) -> subprocess.CompletedProcess[str]:
    folders = [ROOT / "firmware", path.parent, ROOT / "tests" / "unit", ROOT / "tests"]
    folders.append(ROOT / "boards" / "HOST")
    env = dict(os.environ, MICROPYPATH=":".join(map(str, folders)))
    return subprocess.run(
        [
            find_micropython(),
            "-X",
            f"heapsize={LARGER.get(path.stem, HEAP)}",
            ROOT / "tests" / "mpy_runner.py",
            path,
        ],
        capture_output=True,
        text=True,
        env=env,
        cwd=ROOT,
        timeout=HANG_S,
    )


def param(path: Path) -> Any:
    """A file; it has a long form where it uses `extent`."""
    marks = [pytest.mark.long] if "from extent" in path.read_text() else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [param(path) for path in FILES])
def test_unit(path: Path) -> None:
    done = run(path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    total = re.search(r"^(\d+) tests, 0 failed$", done.stdout, re.MULTILINE)
    assert total, said
    assert int(total[1]) > 0
    # as many as pytest finds in the file
    found = re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    assert int(total[1]) == len(set(found)), said


@pytest.mark.parametrize(
    "body",
    ["def test_x():\n    assert 1 == 2\n", "x = 1\n", "def test_x():\n    raise ValueError\n"],
    ids=["false", "empty", "raises"],
)
def test_the_runner_says_no(body: str, tmp_path: Path) -> None:
    path = tmp_path / "test_bad.py"
    path.write_text(body)
    assert run(path).returncode == 1
