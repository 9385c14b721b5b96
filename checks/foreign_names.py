"""Checks that names of MicroPython's own that the firmware has too are never shortened.

`python checks/foreign_names.py` prints each that `FOREIGN` in host_tools/bmsctl/compact.py lacks,
and exits with 1 where there is one. It reads MicroPython's names from `typings`, which `make lint`
fills.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bmsctl import board_files
from bmsctl.compact import FOREIGN

ROOT = Path(__file__).resolve().parents[1]


def defined(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that modules and classes define, and those of attributes that objects are given."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
            yield from _given(node)
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from defined(node.body)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                yield node.id
        else:
            yield from _given(node)
            yield from defined(ast.iter_child_nodes(node))


def _given(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load):
            yield part.attr


def missing(typings: Path, sources: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Names that sources and MicroPython define and that are not `known`; private ones apart."""
    theirs: set[str] = set()
    for path in typings.rglob("*.pyi"):
        theirs.update(defined(ast.parse(path.read_text()).body))
    ours: set[str] = set()
    for text in sources.values():
        ours.update(defined(ast.parse(text).body))
    return sorted(x for x in (ours & theirs) - set(known) if not x.startswith("_"))


def sources() -> dict[str, str]:
    """All sources of all boards, HOST included."""
    found = {}
    for name in board_files.names():
        for path in board_files.sources(name).values():
            found[str(path)] = path.read_text()
    for path in (ROOT / "boards/HOST").glob("*.py"):
        found[str(path)] = path.read_text()
    return found


def main() -> int:
    typings = ROOT / "typings"
    if not any(typings.rglob("*.pyi")):
        print("foreign_names: typings is empty: make lint", file=sys.stderr)
        return 1
    found = missing(typings, sources(), FOREIGN)
    for name in found:
        print(f"host_tools/bmsctl/compact.py: FOREIGN lacks {name}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
