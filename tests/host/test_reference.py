"""The pages in docs/reference are what the code says; the cell link's example bytes are right."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from terminal import Tool

from bms.kernels.checksums import crc8_frame
from bms.slaves import cell_link as driver
from bmsctl import cell_link_page
from bmsctl.commands.reference import PAGES, page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / f"{name}.md").read_text() == page(name), "run `make reference`"


def test_there_is_no_page_that_nothing_writes() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(PAGES)


def test_the_command_prints_a_page_lists_pages_and_writes_all(bmsctl: Tool, tmp_path: Path) -> None:
    code, out, _err = bmsctl.run("reference", "faults")
    assert (code, out) == (0, page("faults"))
    code, out, _err = bmsctl.run("reference")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(PAGES)
    assert bmsctl.run("reference", "--out", tmp_path / "a" / "b")[0] == 0
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {f"{n}.md" for n in PAGES}
    assert bmsctl.run("reference", "--out", "/dev/null/x")[0] == 1
    assert bmsctl.run("reference", "nosuch")[0] == 2


# --- example bytes of the cell link, as they stand in the page ---

ROW = re.compile(r"^\| (master|slave) \| (\w+).* \| `(\w{3})` \| (?:`([0-9A-F ]*)`|-) \| `([^`]*)`")


def rows() -> list[tuple[str, str, int, bytes, bytes]]:
    found = [ROW.match(line) for line in page("cell-link").splitlines()]
    return [
        (m[1], m[2], int(m[3], 16), bytes.fromhex(m[4] or ""), bytes.fromhex(m[5]))
        for m in found
        if m
    ]


def sent_by(who: str, function: str) -> list[tuple[int, bytes]]:
    return [
        (ident, data) for one, name, ident, data, _u in rows() if (one, name) == (who, function)
    ]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = ROOT / "examples" / "slave" / "cell_link_slave.py"
    spec = importlib.util.spec_from_file_location("example", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_firmware_reads_the_example_bytes(bmsctl: Tool) -> None:
    assert len(rows()) == len(cell_link_page.EXAMPLES) == 10
    answers = [row for row in rows() if row[0] == "slave" and row[1] not in ("HELLO", "ALARM")]
    hello = next(row for row in rows() if row[:2] == ("slave", "HELLO"))
    used = [hello, *answers]
    on_uart = b"".join(row[4] for row in used).hex()
    code, out, _err = bmsctl.run("decode", "cell_link", "--hex", on_uart, "--json")
    got = json.loads(out)
    assert code == 0, got
    assert got["cells_mv"] == [3301, 3302, 3303, 3304, 3305]
    assert got["temps_dc"] == [251, -55]
    assert got["pack_mv"] == 16510
    assert got["frames"]["good"] == len(used)


def test_a_slave_answers_the_example_commands_with_the_example_bytes(example: ModuleType) -> None:
    masks: list[int] = []
    readings = ([3301, 3302, 3303, 3304, 3305, None], [251, -55])
    board = example.CellLinkSlave(3, 6, 2, 0x12345, lambda: readings, masks.append)
    hello, scan = sent_by("master", "HELLO")[0], sent_by("master", "SCAN")[0]
    assert board.receive(*hello, 0) == sent_by("slave", "HELLO")
    want = sent_by("slave", "CELLS") + sent_by("slave", "TEMPS") + sent_by("slave", "STATUS")
    assert board.receive(*scan, 0) == want
    board.faults, board.worst_cell = 1, 2
    assert board.tick(0) == sent_by("slave", "ALARM")
    board.receive(*sent_by("master", "BALANCE")[0], 0)
    assert masks == [0b110]
    new = example.CellLinkSlave(63, 6, 2, 0x12345, lambda: readings, masks.append)
    assert new.receive(*sent_by("master", "ASSIGN")[0], 0) == sent_by("slave", "HELLO")


def test_the_example_bytes_of_a_uart_are_the_frames(example: ModuleType) -> None:
    for _who, _name, ident, data, line in rows():
        assert example.UartFramer().feed(line) == [(ident, data)]
        assert example.UartFramer().encode(ident, data) == line


def test_the_driver_sends_the_example_commands() -> None:
    scan, balance = sent_by("master", "SCAN")[0], sent_by("master", "BALANCE")[0]
    assert scan == (driver.SCAN << 6, bytes([cell_link_page.SEQ, driver.PAUSE_BALANCING]))
    assert balance[0] == driver.BALANCE << 6 | cell_link_page.NODE
    assert balance[1][4] == driver._BALANCE_S
    assert balance[1][7] == crc8_frame(balance[0], balance[1], 7)
