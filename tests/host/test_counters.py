"""Public counters of links, drivers and sensors wrap before they would move to a board's heap."""

import ast
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).parents[2] / "firmware"
PARTS = ("bms/links", "bms/slaves", "bms/sensors", "hal")
FILES = [path for part in PARTS for path in sorted((FIRMWARE / part).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FIRMWARE)))
def test_a_counter_wraps(path: Path) -> None:
    """1000 frames/s reach 2**30, from where on each count allocates on a 32-bit board, in 12 days:
    `x = (x + 1) & 0x1FFFFFFF` is how they count.
    """
    unbounded = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AugAssign)
        and isinstance(node.op, ast.Add)
        and isinstance(node.target, ast.Attribute)
        and not node.target.attr.startswith("_")
    ]
    assert not unbounded
