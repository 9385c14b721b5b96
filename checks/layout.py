"""Checks what imports what, and how long functions are: `python checks/layout.py [FOLDER]`.

Prints file:line: finding for each, and exits with 1 where there is one.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Rooms from top to bottom: a module may import from rooms below and beside it, never from above.
# A name ending in a dot stands for the modules in that folder.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("bmsctl.",),
    ("bmssim.",),
    ("main", "switch"),
    ("boards.",),
    ("hal.",),
    ("bms.master", "bms.build", "bms.shutdown", "bms.watchdog"),
    ("bms.console.", "bms.storage.", "bms.inverters."),
    ("bms.energy.",),
    ("bms.slaves.", "bms.sensors.", "bms.contactors."),
    ("bms.protection.", "bms.links.", "bms.pack", "bms.self_test"),
    (
        "bms.kernels.",
        "bms.config.",
        "bms.attribute_tables",
        "bms.clock",
        "bms.constructors",
        "bms.heap_lock",
        "bms.start_modules",
        "bms.ticks",
        "bms.version",
        "bms",
        "micropython",
    ),
)
# what firmware/bms must never import: it runs on every board, and on a computer
NEVER_IN_BMS = ("asyncio", "board", "esp", "esp32", "hal", "machine", "pyb", "rp2", "stm")
NEVER_IN_BMS += ("bmsctl", "bmssim", "main", "switch")
# the hardware's modules belong to these rooms
HARDWARE = ("esp", "esp32", "machine", "pyb", "rp2", "stm")
MAY_USE_HARDWARE = ("hal", "boards")
# folders that are on the path of imports, and the name that their modules get here
SOURCES = (("firmware", ""), ("host_tools", ""), ("boards", "boards."))

MOST_LINES = 59
MOST_PARAMETERS = 6

# What makes the check fail; the others are counted only.
ENFORCED = {"imports": True, "functions": True}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be; about: "imports" or "functions"."""

    about: str
    path: Path
    line: int
    text: str


@dataclass(frozen=True)
class Import:
    """One import of a module of the project or of another one."""

    line: int
    name: str


def modules(root: Path) -> dict[str, Path]:
    """Every module of firmware, host tools and boards by its dotted name."""
    out = {}
    for folder, prefix in SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            out[prefix + name] = path
    return out


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """What a module imports, inside functions and for types only as well."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(node.lineno, inner if inner in known else base)


def level(name: str) -> int | None:
    """Row of a module's room in ROOMS; None where it stands in none."""
    for row, rooms in enumerate(ROOMS):
        for room in rooms:
            if name == room or room.endswith(".") and (name + ".").startswith(room):
                return row
    return None


def _local(name: str, known: dict[str, Path]) -> str:
    """The project's module that an import means; modules of a board's folder have short names."""
    if name in known:
        return name
    for other in known:
        if other.startswith("boards.") and other.rpartition(".")[2] == name:
            return other
    return name


def check_imports(root: Path) -> Iterator[Finding]:
    """Upward imports, forbidden imports, modules in no room, and circles."""
    known = modules(root)
    arrows: dict[str, dict[str, int]] = {name: {} for name in known}
    for name, path in known.items():
        own = level(name)
        if own is None:
            yield Finding("imports", path, 1, f"{name} stands in no room of ROOMS")
        for one in imports(name, path, known):
            first = one.name.partition(".")[0]
            if name.partition(".")[0] == "bms" and first in NEVER_IN_BMS:
                yield Finding("imports", path, one.line, f"bms must not import {one.name}")
            elif first in HARDWARE and name.partition(".")[0] not in MAY_USE_HARDWARE:
                yield Finding("imports", path, one.line, f"only hal and boards import {one.name}")
            target = _local(one.name, known)
            if target not in known or target == name:
                continue
            arrows[name].setdefault(target, one.line)
            to = level(target)
            if own is not None and to is not None and to < own:
                yield Finding("imports", path, one.line, f"upward import: {name} -> {target}")
    for circle in circles(arrows):
        line = arrows[circle[0]][circle[1 % len(circle)]]
        text = "circle: " + " -> ".join([*circle, circle[0]])
        yield Finding("imports", known[circle[0]], line, text)


def circles(arrows: dict[str, dict[str, int]]) -> Iterator[list[str]]:
    """A shortest circle through each group of modules that import each other."""
    seen: set[str] = set()
    for start in sorted(arrows):
        if start in seen:
            continue
        came_from: dict[str, str] = {}
        queue = [start]
        for name in queue:
            for target in arrows[name]:
                if target == start:
                    circle = [name]
                    while circle[-1] != start:
                        circle.append(came_from[circle[-1]])
                    seen.update(circle)
                    yield circle[::-1]
                    queue.clear()
                    break
                if target not in came_from:
                    came_from[target] = name
                    queue.append(target)


def check_functions(root: Path) -> Iterator[Finding]:
    """Functions that are too long or take too many parameters, and do not say why."""
    for path in modules(root).values():
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            head = "\n".join(lines[max(first - 2, 0) : node.body[0].lineno])
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES and "# long: " not in head:
                text = f"{node.name} has {length} lines, more than {MOST_LINES}: # long: why"
                yield Finding("functions", path, node.lineno, text)
            count = _parameters(node.args)
            if count > MOST_PARAMETERS and "# parameters: " not in head:
                text = f"{node.name} has {count} parameters, more than {MOST_PARAMETERS}:"
                yield Finding("functions", path, node.lineno, f"{text} # parameters: why")


def _parameters(args: ast.arguments) -> int:
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    own = 1 if names[:1] in (["self"], ["cls"]) else 0
    rest = sum(arg is not None for arg in (args.vararg, args.kwarg))
    return len(names) - own + len(args.kwonlyargs) + rest


def findings(root: Path) -> list[Finding]:
    """All of a project's folder."""
    return list(dict.fromkeys([*check_imports(root), *check_functions(root)]))


def main(argv: list[str] | None = None) -> int:
    """0 where nothing that is enforced was found."""
    parser = argparse.ArgumentParser(description="Check imports and functions.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--all", action="store_true", help="enforce everything")
    args = parser.parse_args(argv)
    found = findings(args.folder)
    shown = [one for one in found if args.all or ENFORCED[one.about]]
    for one in shown:
        print(f"{one.path.relative_to(args.folder)}:{one.line}: {one.text}")
    if len(found) > len(shown):
        print(f"layout: {len(found) - len(shown)} findings are not enforced yet: see --all")
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())
