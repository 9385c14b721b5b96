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
    "test_commands": "2M",
    "test_sequence": "2M",
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
    "test_history": "2M",
}


# what takes more than some seconds runs in parts, so that workers can share it
PARTS = {
    "test_bq796xx": 2,
    "test_cell_link": 2,
    "test_sequence": 2,
    "test_lessons": 3,
    "test_limits": 2,
}


def run(path: Path, part: int = 0, parts: int = 1) -> subprocess.CompletedProcess[str]:
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
            f"{part}/{parts}",
        ],
        capture_output=True,
        text=True,
        env=env,
        cwd=ROOT,
        timeout=HANG_S,
    )


def param(path: Path, part: int, parts: int) -> Any:
    """A part of a file; it has a long form where the file uses `extent`."""
    marks = [pytest.mark.long] if "from extent" in path.read_text() else []
    name = path.stem if parts == 1 else f"{path.stem}-{part + 1}"
    return pytest.param(path, part, parts, id=name, marks=marks)


@pytest.mark.parametrize(
    ("path", "part", "parts"),
    [
        param(path, part, PARTS.get(path.stem, 1))
        for path in FILES
        for part in range(PARTS.get(path.stem, 1))
    ],
)
def test_unit(path: Path, part: int, parts: int) -> None:
    done = run(path, part, parts)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    total = re.search(r"^(\d+) tests, 0 failed$", done.stdout, re.MULTILINE)
    assert total, said
    assert int(total[1]) > 0
    # as many as pytest finds in the file
    found = set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    assert int(total[1]) == len(sorted(found)[part::parts]), said


@pytest.mark.parametrize(
    "body",
    ["def test_x():\n    assert 1 == 2\n", "x = 1\n", "def test_x():\n    raise ValueError\n"],
    ids=["false", "empty", "raises"],
)
def test_the_runner_says_no(body: str, tmp_path: Path) -> None:
    path = tmp_path / "test_bad.py"
    path.write_text(body)
    assert run(path).returncode == 1
