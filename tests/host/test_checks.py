"""The checks of `make lint` find what they are made to find, and pass what is right."""

from pathlib import Path

import foreign_names
import layout
import pytest
import words

ROOT = Path(__file__).resolve().parents[2]


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# --- imports ---

GOOD = {
    "firmware/main.py": "import board\nfrom bms.master import Master\n",
    "firmware/bms/__init__.py": "",
    "firmware/bms/ticks.py": "from micropython import const\n",
    "firmware/bms/pack.py": "from bms import ticks\n",
    "firmware/bms/master.py": "from bms.console.commands import Commands\nimport bms.pack\n",
    "firmware/bms/console/commands.py": "from bms.storage import history\n",
    "firmware/bms/storage/history.py": "from bms.energy import charge\nfrom bms.pack import Pack\n",
    "firmware/bms/energy/charge.py": "import bms.slaves.base\n",
    "firmware/bms/slaves/base.py": "from bms.protection import limits\n",
    "firmware/bms/protection/limits.py": "from bms.kernels.layout import ROW\n",
    "firmware/bms/kernels/layout.py": "",
    "firmware/hal/mcu.py": "import machine\nfrom bms import ticks\n",
    "boards/X/board.py": "import machine\nfrom hal import mcu\nimport pico\n",
    "boards/pico.py": "import hal.mcu\n",
    "host_tools/bmssim/world.py": "from bms import ticks\nfrom . import bus\n",
    "host_tools/bmssim/bus.py": "",
    "host_tools/bmsctl/cli.py": "from bmssim import world\nfrom .errors import E\n",
    "host_tools/bmsctl/errors.py": "",
}


def test_a_good_layout_has_no_findings(tmp_path: Path) -> None:
    assert layout.findings(tree(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "firmware/bms/pack.py",
            "import bms.slaves.base\n",
            "upward import: bms.pack -> bms.slaves",
        ),
        ("firmware/bms/pack.py", "def f():\n    from bms.energy import charge\n", "upward import"),
        ("firmware/bms/kernels/layout.py", "from bms.pack import Pack\n", "upward import"),
        ("firmware/bms/energy/charge.py", "from bms.storage.history import H\n", "upward import"),
        ("firmware/bms/slaves/base.py", "import machine\n", "bms must not import machine"),
        ("firmware/bms/slaves/base.py", "import asyncio\n", "bms must not import asyncio"),
        ("firmware/bms/slaves/base.py", "from hal import mcu\n", "bms must not import hal"),
        ("firmware/bms/slaves/base.py", "import board\n", "bms must not import board"),
        ("firmware/bms/slaves/base.py", "from bmssim import bus\n", "bms must not import bmssim"),
        ("firmware/main.py", "import machine\n", "only hal and boards import machine"),
        ("firmware/hal/mcu.py", "import pico\n", "upward import: hal.mcu -> boards.pico"),
        ("host_tools/bmssim/bus.py", "from bmsctl import cli\n", "upward import"),
        ("host_tools/bmssim/bus.py", "from . import world\n", "circle: bmssim.bus -> bmssim.world"),
        (
            "host_tools/bmssim/bus.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .world import W\n",
            "circle: bmssim.bus -> bmssim.world -> bmssim.bus",
        ),
        ("firmware/bms/odds.py", "", "bms.odds stands in no room"),
    ],
)
def test_a_bad_import_is_found(name: str, text: str, said: str, tmp_path: Path) -> None:
    found = layout.findings(tree(tmp_path, GOOD | {name: text}))
    assert [one for one in found if said in one.text and one.path == tmp_path / name], found
    assert all(one.about == "imports" for one in found)


def test_a_longer_circle_is_found_once(tmp_path: Path) -> None:
    files = {
        "host_tools/bmssim/a.py": "from . import b\n",
        "host_tools/bmssim/b.py": "from . import c\n",
        "host_tools/bmssim/c.py": "from . import a\n",
    }
    found = layout.findings(tree(tmp_path, files))
    assert [one.text for one in found] == ["circle: bmssim.a -> bmssim.b -> bmssim.c -> bmssim.a"]


# --- functions ---


def long(lines: int, head: str = "def f():\n") -> str:
    return head + "    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (long(59), 0),
        (long(60), 1),
        ("# long: one table\n" + long(60), 0),
        (long(60, "def f():  # long: one table\n"), 0),
        ("# long: one table\n@property\n" + long(60), 0),
        ("# long: one table\n\n\n" + long(60), 1),
        ("def f(a, b, c, d, e, g): pass\n", 0),
        ("def f(a, b, c, d, e, g, h): pass\n", 1),
        ("class C:\n    def f(self, a, b, c, d, e, g): pass\n", 0),
        ("class C:\n    def f(self, a, b, c, *, d, e, g, h): pass\n", 1),
        ("def f(a, b, c, d, e, g, *args): pass\n", 1),
        ("def f(a, b, c, d, e, g, h):  # parameters: a wire has them\n    pass\n", 0),
    ],
)
def test_long_functions_and_many_parameters(text: str, count: int, tmp_path: Path) -> None:
    found = layout.findings(tree(tmp_path, GOOD | {"firmware/bms/pack.py": text}))
    assert len(found) == count and all(one.about == "functions" for one in found)


def test_layout_exits_with_1_where_something_enforced_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ENFORCED", {"imports": True, "functions": False})
    tree(tmp_path, GOOD)
    assert layout.main([str(tmp_path)]) == 0
    tree(tmp_path, {"firmware/bms/pack.py": long(60)})
    assert layout.main([str(tmp_path)]) == 0
    assert "1 findings are not enforced" in capsys.readouterr().out
    assert layout.main([str(tmp_path), "--all"]) == 1
    tree(tmp_path, {"firmware/bms/pack.py": "import machine\n"})
    assert layout.main([str(tmp_path)]) == 1
    assert "firmware/bms/pack.py:1: bms must not import machine" in capsys.readouterr().out


# --- words ---

TERMS = """| term | meaning | not |
| --- | --- | --- |
| balance | discharge high cells | bleed, bled |
| poll | ask a slave | `ask` |
| sensor | of a string | `source` (in firmware/) |
| `FUSE_WAIT` | a state | FUSE |
| report | what a board does | says so |
| cell | a cell | |
"""


def said(folder: Path) -> list[str]:
    banned = words.words(TERMS)
    out = []
    for shown in words.tracked(folder):
        for line, word, found in words.check(folder / shown, shown, banned):
            out.append(f"{shown}:{line}: {found}: use {word.use}")
    return out


def test_the_list_of_words_is_read_from_the_page_of_terms() -> None:
    assert words.words(TERMS) == [
        words.Word("bleed", "balance", False, ""),
        words.Word("bled", "balance", False, ""),
        words.Word("ask", "poll", True, ""),
        words.Word("source", "sensor", True, "firmware/"),
        words.Word("FUSE", "FUSE_WAIT", False, ""),
        words.Word("says so", "report", False, ""),
    ]
    page = (ROOT / "docs" / "terms.md").read_text()
    assert len(words.words(page)) > 30
    with pytest.raises(ValueError, match="can't read"):
        words.words("| a | b | `c` d |\n")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.md", "It bleeds cells.\n", "1: bleeds: use balance"),
        ("a.md", "x\nBleeding is off\n", "2: Bleeding: use balance"),
        ("a.py", "stop_bleed_mv = 1\n", "1: bleed: use balance"),
        ("a.py", "class CellBleeder:\n    pass\n", ""),
        ("a.py", "class CellBleed:\n    pass\n", "1: Bleed: use balance"),
        ("a.py", "x = 1  # what bled\n", "1: bled: use balance"),
        ("a.toml", 'x = "bleed"\n', "1: bleed: use balance"),
        ("bleed.py", "", "0: bleed: use balance"),
        ("a.py", "x = FUSE_WAIT\n", ""),
        ("a.py", "x = FUSE_MS\n", ""),
        ("a.py", "x = FUSE\n", "1: FUSE: use FUSE_WAIT"),
        ("a.py", "# boards ask for it, in tasks\n", ""),
        ("a.py", "def ask_next(): pass\n", "1: ask: use poll"),
        ("a.py", "x.askingly = mask\n", ""),
        ("a.md", "I ask\n", ""),
        ("a.md", "call `ask()`\n", "1: ask: use poll"),
        ("a.toml", "ask = 1\n", "1: ask: use poll"),
        ("a.toml", "[ask]\n", "1: ask: use poll"),
        ("host/a.py", "source = 1\n", ""),
        ("firmware/a.py", "sources = 1\n", "1: sources: use sensor"),
        ("a.md", "a fuse, and FUSE_WAIT_MS, FUSE\n", "1: FUSE: use FUSE_WAIT"),
        ("a.md", "a fuse\n", ""),
        ("a.md", "it says so itself\n", "1: says so: use report"),
        ("CHANGELOG.md", "bleed\n", ""),
        ("a.json", "bleed\n", ""),
    ],
)
def test_a_banned_word_is_found(name: str, text: str, found: str, tmp_path: Path) -> None:
    assert said(tree(tmp_path, {name: text})) == ([f"{name}:{found}"] if found else [])


def test_words_exits_with_1_where_a_word_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, {"docs/terms.md": TERMS, "other.md": "fine\n"})
    assert words.main([str(tmp_path)]) == 0
    tree(tmp_path, {"other.md": "bleed\n"})
    assert words.main([str(tmp_path)]) == 1
    assert "other.md:1: bleed: use balance" in capsys.readouterr().out


# --- names that MicroPython has too ---


def test_a_name_that_micropython_has_too_is_found(tmp_path: Path) -> None:
    stubs = (
        "IRQ: int\nclass Pin:\n    OUT: int\n    def value(self): ...\n    def _hidden(self): ...\n"
    )
    typings = tree(tmp_path, {"rp2/machine.pyi": stubs})
    sources = {
        "hal/x.py": "IRQ = []\nclass Meter:\n    OUT = 1\n    def _hidden(self, Pin):\n"
        "        self.value, own = Pin\ndef read():\n    IRQ.own = 1\n"
    }
    assert foreign_names.missing(typings, sources, ["other"]) == ["IRQ", "OUT", "value"]
    assert foreign_names.missing(typings, sources, ["OUT", "value", "IRQ"]) == []


def test_all_sources_are_looked_through_for_such_names() -> None:
    paths = [Path(path).relative_to(ROOT).as_posix() for path in foreign_names.sources()]
    assert {"firmware/hal/mcu.py", "boards/PYBV11/board.py", "boards/HOST/fdio.py"} <= set(paths)
