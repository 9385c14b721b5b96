"""The pages: links lead somewhere, commands are ones that exist, the README's pack file closes."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from bmsctl.cli import COMMANDS, parser_for
from bmsctl.start_check import plan
from bmssim import scenario
from bmssim.setup import Setup

ROOT = Path(__file__).resolve().parents[2]
# written together with this page, or by a later change; their links are checked once they exist
LATER = {"docs/adding-a-slave.md", "docs/benchmarks.md"}
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "boards").rglob("*.md"),
        *(ROOT / "tests").rglob("*.md"),
    )
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of every heading, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"https?:", target):
            continue
        name, _hash, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() and path.relative_to(ROOT).as_posix() in LATER:
            continue
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def commands(page: Path) -> list[str]:
    """Lines of code blocks, and code in the text, that call bmsctl."""
    text = page.read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(bmsctl [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in lines if re.match(r"bmsctl (?!->)", line)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md" and commands(page)], ids=str
)
def test_every_command_is_one_that_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_for(COMMANDS)
    for line in commands(page):
        words = shlex.split(line.split(" #")[0].split(" > ")[0].split(" | ")[0])[1:]
        if words[-1] == "--help":
            continue
        for placeholder, word in (("BOARD", "RPI_PICO"), ("KIND", "jbd"), ("PAGE", "faults")):
            words = [word if one == placeholder else one for one in words]
        try:
            parser.parse_args(words)
        except SystemExit:
            # text may name a command without all that it needs
            err = capsys.readouterr().err
            assert "required" in err, f"{line}: {err}"


def test_every_page_and_message_names_the_same_micropython() -> None:
    sources = [*PAGES, *(ROOT / "host_tools/bmsctl").rglob("*.py")]
    for path in sources:
        if path.name != "CHANGELOG.md":
            named = re.findall(r"MicroPython v?(\d\.\d+)", path.read_text("utf-8"))
            assert set(named) <= {"1.28"}, path


def test_the_readme_is_short_and_its_pack_file_is_the_example() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    block = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert block
    example = (ROOT / "examples" / "pico.toml").read_text()
    assert tomllib.loads(re.sub(r"^ +", "", block[1], flags=re.MULTILINE)) == tomllib.loads(example)


def test_the_readme_pack_file_is_one_for_a_pico_and_closes(tmp_path: Path) -> None:
    path = ROOT / "examples" / "pico.toml"
    found = plan(path, "RPI_PICO")
    assert [port.name for port in found.ports] == ["can0"]
    pack = tomllib.loads(path.read_text())
    rows = [*pack["limits"].items(), *pack["contactors"].items()]
    slave = pack["slave"][0]
    lines = ['summary = "closes"', "duration_s = 8", "[setup]", "slaves = 4"]
    lines += [f"cells = {slave['cells']}", f"temps = {slave['temps']}", "[settings]"]
    lines += [f"{key} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for key, v in rows]
    lines += ["[[do]]", "at_s = 3", 'type = "close"']
    lines += ["[expect]", 'trip = ""', "closed = true", 'state = "closed"']
    chosen = tmp_path / "pico.toml"
    chosen.write_text("\n".join(lines) + "\n")
    one = scenario.load(str(chosen))
    run = scenario.Run(one, Setup(**one.setup), tmp_path / "pack.toml")
    try:
        run.go()
        assert run.problems() == []
    finally:
        run.close()
