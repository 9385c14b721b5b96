"""Rewritten firmware does what the sources do: piece by piece, and as a whole on MicroPython."""

import ast
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import foreign_names
import pytest

from bmsctl import board_files
from bmsctl import compact as compact_module
from bmsctl.compact import compact, compact_with_names
from bmsctl.program import UnknownSyntax
from bmsctl.short_names import IN_ROM
from bmssim.micropython_path import find_micropython

ROOT = Path(__file__).resolve().parents[2]


def run(sources: Mapping[str, str], module: str) -> dict[str, object]:
    """The names of a module after its import, by exec of all that it imports."""
    import sys
    import types

    before = dict(sys.modules)
    try:
        for path in sources:
            name = path.removesuffix(".py").replace("/", ".")
            parts = name.split(".")
            for i in range(1, len(parts)):
                sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(parts[0]))
        # in the order given: what is imported comes first
        for path, text in sources.items():
            name = path.removesuffix(".py").replace("/", ".")
            found = types.ModuleType(name)
            sys.modules[name] = found
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, found)
            exec(compile(text, path, "exec"), found.__dict__)
        return dict(sys.modules[module].__dict__)
    finally:
        sys.modules.clear()
        sys.modules.update(before)


COLOURS = """
from micropython import const
RED, GREEN, BLUE = range(3)
_STEP = const(7)
WIDE = _STEP << 2 | GREEN
NEGATIVE = -WIDE
NAME = "a text"
COUNT = 0
def count():
    global COUNT
    COUNT += 1
    return COUNT
"""
MICROPYTHON = "def const(x): return x\n"


def both(user: str) -> tuple[dict[str, object], dict[str, object], str]:
    """What a module that uses `zz.colours` gives before and after; its text after."""
    # `const` is MicroPython's own module, which is not rewritten
    sources = {"zz/colours.py": COLOURS, "zz/user.py": user}
    small = compact(sources, ("got", "by_name"))
    own = {"micropython.py": MICROPYTHON}
    return (
        run({**own, **sources}, "zz.user"),
        run({**own, **small}, "zz.user"),
        small["zz/user.py"],
    )


def test_constants_stand_where_they_are_used() -> None:
    before, after, text = both(
        "from zz import colours as C\n"
        "from zz.colours import BLUE, WIDE\n"
        "def f(x):\n return x * WIDE + C.GREEN - C.NEGATIVE - BLUE ** 2 + 2 ** C.NEGATIVE\n"
        "got = f(5)\n"
    )
    assert after["got"] == before["got"]
    assert "colours" not in text
    assert "BLUE" not in text


def test_a_name_that_is_bound_otherwise_is_no_constant() -> None:
    before, after, text = both(
        "from zz.colours import RED, GREEN, BLUE, COUNT, NAME, count\n"
        "def f(RED, *, more=GREEN):\n"
        " for BLUE in range(9, 11):\n  pass\n"
        " inner = [GREEN for GREEN in (5, 6)]\n"
        " return RED, BLUE, inner, more\n"
        "class A:\n BLUE = 77\n got = BLUE\n"
        " def g(self):\n  return BLUE\n"
        "got = f(1), A.got, A().g(), NAME, count(), count(), COUNT\n"
    )
    assert after["got"] == before["got"] == ((1, 10, [5, 6], 1), 77, 2, "a text", 1, 2, 0)
    assert "a text" not in text and "BLUE" in text


def is_stored(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def test_attributes_are_short_and_never_meet() -> None:
    source = (
        "class Base:\n"
        " def __init__(self):\n  self._alpha = 1\n  self._beta = 2\n"
        " def total(self):\n  return self._alpha * 10 + self._beta\n"
        "class Derived(Base):\n"
        " def __init__(self):\n  super().__init__()\n  self._gamma = 3\n"
        " def all(self):\n"
        "  return self.total(), self._gamma, getattr(self, '_kept'), self._hidden()\n"
        " _kept = 9\n"
        " def _hidden(self):\n  return 4\n"
        "class Other:\n"
        " def __init__(self):\n  self._delta = 5\n"
        "def peek(x):\n return x._delta\n"
        "def poke(x):\n x._poked = 6\n return x._poked, x._alpha\n"
        "got = Derived().all(), peek(Other()), poke(Base())\n"
    )
    before, after, text = both(source)
    assert after["got"] == before["got"] == ((12, 3, 9, 4), 5, (6, 1))
    for name in ("_alpha", "_beta", "_gamma", "_delta", "_poked", "_hidden", "Derived", "peek"):
        assert name not in text
    assert "_kept" in text  # it is asked for by its name
    tree = ast.parse(text)
    given = [x.attr for x in ast.walk(tree) if isinstance(x, ast.Attribute) and is_stored(x)]
    assert len(given) == 5
    assert len(set(given)) == 4  # `_delta` shares one: no object has it beside the others


PARTS = {
    "zz/shapes.py": """
class Shape:
    sides = 0
    def __init__(self, length_mm):
        self.length_mm = length_mm
        self.area_mm2 = self.computed()
    def computed(self):
        return 0
class Square(Shape):
    sides = 4
    def computed(self):
        return self.length_mm ** 2
class Room:
    def __init__(self):
        self.made = 0
        self.source = None
    def read(self, count):
        self.made += 1
        return b"x" * count
def first(source):
    return source.read(1)
shared_room = Room()
""",
    "zz/user.py": """
import io
from zz import shapes as forms
from zz.shapes import Square as Other, first
def show():
    from zz.shapes import shared_room
    shared_room.source = io.BytesIO(b"abc")
    given = [first(shared_room), first(shared_room.source), shared_room.made]
    return given + [forms.Square(3).area_mm2, Other.sides, forms.shared_room.made]
print(show())
""",
    "zz/__init__.py": "",
}


def said(sources: Mapping[str, str], folder: Path) -> str:
    """What `zz.user` prints under MicroPython, or how it ends."""
    for path, text in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    words = [find_micropython(), "-c", "import zz.user"]
    process = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    return (process.stdout + process.stderr).strip().splitlines()[-1]


def test_a_rewritten_program_says_the_same_under_micropython(tmp_path: Path) -> None:
    small, places = compact_with_names(PARTS)
    assert said(PARTS, tmp_path / "whole") == "[b'x', b'a', 1, 9, 4, 1]"
    assert said(small, tmp_path / "small") == "[b'x', b'a', 1, 9, 4, 1]"
    text = small["zz/shapes.py"] + small["zz/user.py"]
    for name in ("length_mm", "area_mm2", "computed", "Square", "sides", "forms"):
        assert name not in text
    assert "shared_room = " not in text and " as shared_room" in text  # there it is a local one
    assert sorted(places["zz.shapes"].values()) == ["computed", "first"]
    assert all(f"def {short}(" in text for short in places["zz.shapes"])


def test_a_name_of_micropythons_own_must_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [name for name in compact_module.FOREIGN if name != "read"]
    assert len(known) == len(compact_module.FOREIGN) - 1
    monkeypatch.setattr(compact_module, "FOREIGN", known)
    assert "AttributeError: 'BytesIO'" in said(compact(PARTS), tmp_path)


def test_functions_keep_their_names_where_that_costs_nothing() -> None:
    small, places = compact_with_names(PARTS, functions=False)
    text = small["zz/shapes.py"]
    assert "def computed(" in text and "class Square(" in text and "length_mm" not in text
    assert places == {"zz.shapes": {}, "zz.user": {}, "zz": {}}


def test_a_short_name_means_one_function_of_a_module() -> None:
    texts = board_files.texts("RPI_PICO")
    lines = board_files.prepared_with_names(texts)[1].decode().splitlines()
    found = [tuple(line.split()) for line in lines]
    assert len({(module, short) for module, short, _ in found}) == len(found) > 500
    for module, _, full in found:
        path = module.replace(".", "/")
        text = texts.get(path + ".py") or texts[path + "/__init__.py"]
        assert f"def {full}(" in text


CRASH = """
import sys
sys.path[:] = ["."]
import main
from bms.slaves import fields
try:
    fields.{short}(b"", 0, 1)
except IndexError as error:
    print(main._describe(error))
    print(main._describe(MemoryError()))
"""


def test_a_crash_tells_module_and_function_in_full(tmp_path: Path) -> None:
    sources, names = board_files.prepared_with_names(host_firmware(), {"_describe"})
    for path, data in board_files.compile_all(sources, "x64").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    lines = [line.split() for line in names.decode().splitlines()]
    (short,) = [x[1] for x in lines if x[0] == "bms.slaves.fields" and x[2] == "number"]
    assert short != "number"

    def said_now() -> list[str]:
        words = [find_micropython(), "-c", CRASH.format(short=short)]
        process = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        return (process.stdout + process.stderr).splitlines()

    text = "IndexError: bytes index out of range, bms.slaves.fields in "
    assert said_now() == [f"b'{text}{short}'", "b'MemoryError: '"]
    (tmp_path / "names").write_bytes(names)
    assert said_now() == [f"b'{text}number'", "b'MemoryError: '"]


def test_short_names_are_in_the_rom() -> None:
    lines = "".join(f" {name} = 1\n" for name in (*IN_ROM, "not_in_the_rom"))
    code = f"import micropython\nclass A:\n{lines}\nmicropython.qstr_info(1)\n"
    words = [find_micropython(), "-c", code]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    held = set(re.findall(r"^Q\((\w+)\)$", out, re.MULTILINE))
    assert held & {*IN_ROM, "not_in_the_rom"} == {"not_in_the_rom"}
    assert len(set(IN_ROM)) == len(IN_ROM)


def test_parameters_are_short_where_nobody_names_them() -> None:
    before, after, text = both(
        "def f(first, second, a=3, *rest, named=0, **more):\n"
        " b = first\n"
        " def inner(value):\n  return value + first + b\n"
        " return inner(second), [x + second for x in rest], named, more, a\n"
        "got = f(1, 2, 3, 4, 5, named=6, other=7), f(second=8, first=9)\n"
        "by_name = (lambda thing: thing + 1)(thing=1)\n"
    )
    assert after["got"] == before["got"]
    assert after["by_name"] == before["by_name"] == 2
    assert "value" not in text
    assert "second" in text and "thing" in text


def test_exceptions_and_nested_names() -> None:
    before, after, _ = both(
        "def f(data, error):\n"
        " try:\n  return data[3]\n"
        " except IndexError as error:\n  text = str(error)\n"
        " return [[data[i] * j for i in range(2)] for j in range(2)], text\n"
        "got = f([1, 2], 0)\n"
    )
    assert after["got"] == before["got"]


def test_what_nothing_mentions_goes(tmp_path: Path) -> None:
    small = compact(
        {
            "zz/user.py": "class Unused:\n def f(self):\n  return only()\n"
            "def only():\n return 1\n"
            "class A:\n def by_name(self):\n  return 5\n def never(self):\n  return 6\n"
            " def write(self):\n  return 7\n"
            "print(getattr(A(), 'by_name')())\n",
            "zz/__init__.py": "",
        }
    )
    text = small["zz/user.py"]
    assert said(small, tmp_path) == "5"
    assert "return 6" not in text and "only" not in text and "return 1" not in text
    assert "def write(" in text  # MicroPython may call it


def test_what_goes_with_its_class_is_not_counted_twice() -> None:
    text = compact(
        {
            "zz/user.py": "def both():\n return 1\n"
            "class Unused:\n class Inner:\n  def f(self):\n   return both()\n"
            "print(both())\n"
        }
    )["zz/user.py"]
    assert "class" not in text and text.count("def ") == 1


def test_what_is_not_known_is_refused() -> None:
    for text in (
        "from . import x\n",
        "def f():\n from zz.colours import *\n",
        "if (x := 1): pass\n",
    ):
        with pytest.raises(UnknownSyntax, match=r"^zz/user\.py: line \d"):
            compact({"zz/colours.py": COLOURS, "zz/user.py": text})


def host_firmware(*folders: str) -> dict[str, str]:
    """The firmware, the HOST board, and what is in more folders."""
    found = {}
    for base in ("firmware", "boards/HOST", *folders):
        for path in sorted((ROOT / base).rglob("*.py")):
            found[str(path.relative_to(ROOT / base))] = path.read_text()
    del found["hal/rp2_sleep.py"]  # code of another processor
    return found


def program() -> dict[str, str]:
    """The firmware, the HOST board and the unit tests: all that runs in one of these."""
    found = host_firmware("tests/unit")
    found["mpy_runner.py"] = (ROOT / "tests/mpy_runner.py").read_text()
    return found


def names_of_tests() -> set[str]:
    """Names that only the tests define: no table says which of them MicroPython has too."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for path, text in program().items():
        of_tests = (ROOT / "tests/unit" / path).exists()
        found[of_tests].update(foreign_names.defined(ast.parse(text).body))
    return found[True] - found[False]


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program as boards get it, compiled for this computer."""
    folder = tmp_path_factory.mktemp("rewritten")
    texts = board_files.prepared(program(), names_of_tests())
    for path, data in board_files.compile_all(texts, "x64").items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "mpy_runner.py").write_text(program()["mpy_runner.py"])
    (folder / "mpy_runner.mpy").unlink()
    return folder


@pytest.mark.parametrize("name", ["test_heap", "test_main", "test_strings"])
def test_unit_tests_pass_as_boards_get_the_firmware(rewritten: Path, name: str) -> None:
    process = subprocess.run(
        [find_micropython(), "-X", "heapsize=3M", "mpy_runner.py", f"{name}.py"],
        cwd=rewritten,
        env={"MICROPYPATH": "."},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert ", 0 failed" in process.stdout


def test_what_a_function_computes_from_constants_stands_where_it_is_used() -> None:
    sources = {
        "zz/ids.py": "HIGH, LOW = range(3, 9, 3)\n"
        "def quantity_of(fault):\n    return (fault - 1) // 3\n",
        "zz/user.py": "from zz import ids\nfrom zz.ids import quantity_of\n"
        "_LOW = quantity_of(ids.LOW)\ndef f(x):\n    return x + _LOW\n",
    }
    small = compact(sources, ["f"])
    assert "x + 1" in small["zz/user.py"].replace("a + 1", "x + 1")
    assert "LOW" not in small["zz/user.py"] and "HIGH" not in small["zz/ids.py"]
    assert run(small, "zz.user")["f"](4) == run(sources, "zz.user")["f"](4) == 5  # type: ignore[operator]


def test_names_are_imported_from_where_they_are_made() -> None:
    sources = {
        "zz/made.py": "def f():\n    return 7\n",
        "zz/passed.py": "from zz.made import f\n",
        "zz/user.py": "from zz.passed import f\ngot = [f()]\n",
    }
    small = compact(sources)
    assert "from zz.made import " in small["zz/user.py"]
    assert small["zz/passed.py"].strip() == ""
    small = compact(sources, ["got"])
    assert run(small, "zz.user")["got"] == [7]


TICKS = """
HALF = 8
MASK = 15
def diff(later, earlier):
    return ((later - earlier + HALF) & MASK) - HALF
def twice(x):
    return x + x
def late(later, earlier):
    return (earlier - later) & MASK
"""
TICKS_USER = """
from zz import ticks
from zz.ticks import diff, late, twice
seen = []
def next_one(x):
    seen.append(x)
    return x
def all_of(now, then):
    signs = (ticks.diff(now, then) >= 0, diff(now, then) < 0, diff(now, then) > 0)
    return signs + (diff(now, then), twice(now), late(now, then))
got = [all_of(now, then) for now in range(16) for then in range(16)]
order = diff(next_one(3), next_one(9)), late(next_one(4), next_one(5)), twice(next_one(2))
"""


def test_a_sum_stands_where_it_is_called() -> None:
    sources = {"zz/ticks.py": TICKS, "zz/user.py": TICKS_USER}
    small = compact(sources, kept=("got", "order", "seen"))
    before, after = run(sources, "zz.user"), run(small, "zz.user")
    for name in ("got", "order", "seen"):
        assert before[name] == after[name]
    text = small["zz/user.py"]
    assert " & 15 < 8" in text and " & 15 >= 8" in text  # the sign alone
    assert "& 15) - 8" in text
    # a parameter that stands in it twice, or parameters in another order: called as before
    assert "import" in text
