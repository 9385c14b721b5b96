"""Rewritten firmware does what the sources do: piece by piece, and as a whole on MicroPython."""

import ast
import subprocess
from collections.abc import Mapping
from pathlib import Path

import foreign_names
import pytest

from bmsctl import board_files
from bmsctl.compact import UnknownSyntax, compact, compact_with_names
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


def test_what_is_not_known_is_refused() -> None:
    for text in (
        "from . import x\n",
        "def f():\n from zz.colours import *\n",
        "if (x := 1): pass\n",
    ):
        with pytest.raises(UnknownSyntax, match=r"^zz/user\.py: line \d"):
            compact({"zz/colours.py": COLOURS, "zz/user.py": text})


def program() -> dict[str, str]:
    """The firmware, the HOST board and the unit tests: all that runs in one of these."""
    found = {}
    for base in ("firmware", "boards/HOST", "tests/unit"):
        for path in sorted((ROOT / base).rglob("*.py")):
            found[str(path.relative_to(ROOT / base))] = path.read_text()
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


def test_every_board_can_be_compiled() -> None:
    for name in board_files.names():
        files = board_files.compiled(board_files.load(name))
        assert "bms/master.mpy" in files


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
