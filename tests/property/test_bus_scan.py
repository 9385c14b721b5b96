"""Whatever `bmsctl scan` prints, `bmsctl check` accepts: over kinds, counts and rates."""

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms.links.slcan import SPEEDS
from bms.slaves.build import KINDS
from bmsctl.bus_scan import CanPort, Line, Search, pack_text
from bmsctl.decoders.base import Found, Shape, driver_class
from bmsctl.errors import ToolError
from bmsctl.start_check import plan
from extent import extent

UART_RATES = (1200, 2400, 4800, 9600, 10000, 19200, 38400, 57600, 115200, 612500, 1000000)


def found_line(
    port: str, kind: str, rate: int, shapes: list[Shape], woken: bool = False, answer_ms: int = 0
) -> Line:
    """A line as a search leaves it."""
    search = Search(kind, cast(CanPort, None), None, lambda text: None)
    for shape in shapes:
        search.found[shape.node] = Found(shape, 100_000, 3300, woken)
    search.answer_ms = answer_ms
    return Line(port, rate, search)


def least_ms(kind: str, text: str, tmp_path: Path) -> int:
    """The age of cells on a pack file's first port, as `check` takes it."""
    path = tmp_path / f"{kind}.toml"
    path.write_text(text)
    return plan(path).ports[0].cell_age_ms


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=extent(15, 300))
@given(data=st.data())
def test_whatever_scan_prints_check_accepts(
    kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cls = driver_class(kind)
    medium = data.draw(st.sampled_from(KINDS[kind][2]))
    rates = UART_RATES if medium == "uart" else tuple(sorted(SPEEDS))
    rate = data.draw(st.sampled_from((0, *rates)))
    count = data.draw(st.integers(1, cls.MOST))
    low, high = cls.NODES
    cells = data.draw(st.integers(1, cls.CELLS))
    # what its frames can show: of an Outlander three words, of a JK board on CAN both or none
    most: int = {"outlander": 3, "jk_can": 2}.get(kind, int(cls.TEMPS))
    temps = data.draw(st.sampled_from((0, min(2, most), most)))
    if kind == "diybms":
        cells = cls.CELLS if count > 1 else cells
        temps = min(temps, cells)
    shapes = [Shape(low + n, cells, temps) for n in range(count) if low + n <= high]
    woken = kind == "jk_pb" and data.draw(st.booleans())
    late = data.draw(st.sampled_from((0, 17, 400)))
    try:
        text = pack_text(kind, [found_line(f"{medium}0", kind, rate, shapes, woken, late)])
    except ToolError as error:
        assert "at this rate" in str(error)
        if late:
            return
        assert rate and rate < (cls.UART_BPS if medium == "uart" else 500_000) or kind == "diybms"
        return
    path = tmp_path_factory.mktemp("scan") / "pack.toml"
    path.write_text(text)
    assert plan(path).cells == sum(shape.cells for shape in shapes)


def test_the_ages_are_those_of_the_line_s_rate(tmp_path: Path) -> None:
    blocks = [Shape(1, 16, 16), Shape(2, 16, 16)]
    fast = pack_text("diybms", [found_line("uart0", "diybms", 10000, blocks)])
    assert 20_100 < least_ms("diybms", fast, tmp_path) < 25_000
    packs = [Shape(2 + n, 15, 4) for n in range(6)]
    slow = pack_text("pylontech", [found_line("uart0", "pylontech", 9600, packs)])
    usual = pack_text("pylontech", [found_line("uart0", "pylontech", 0, packs)])
    assert least_ms("pylontech", slow, tmp_path) > 2 * least_ms("pylontech", usual, tmp_path)


def test_boards_that_must_be_woken_get_twice_the_time(tmp_path: Path) -> None:
    boards = [Shape(1 + n, 16, 2) for n in range(8)]
    usual, woken = (
        pack_text("jk_pb", [found_line("uart0", "jk_pb", 0, boards, wakes)])
        for wakes in (False, True)
    )
    assert least_ms("jk_pb", woken, tmp_path) > 1.7 * least_ms("jk_pb", usual, tmp_path)


def test_boards_that_may_be_parallel_are_not_silently_put_in_series(tmp_path: Path) -> None:
    line = found_line("uart0", "jk_pb", 0, [Shape(1 + n, 16, 2) for n in range(4)])
    text = pack_text("jk_pb", [line])
    assert "# CHECK: the file has these 4 boards in series, 211 V" in text and "--parallel" in text
    path = tmp_path / "pack.toml"
    path.write_text(text)
    assert plan(path).strings == 1
    path.write_text(pack_text("jk_pb", [line], parallel=True))
    assert plan(path).strings == 4
    assert "series" not in path.read_text()
    one = found_line("uart0", "jk_pb", 0, [Shape(1, 16, 2)])
    assert "series" not in pack_text("jk_pb", [one])
    cells = found_line("can0", "cell_link", 0, [Shape(1 + n, 16, 2) for n in range(4)])
    assert "series" not in pack_text("cell_link", [cells])
    odd = found_line("uart0", "jk_pb", 0, [Shape(1, 16, 2), Shape(2, 15, 2)])
    with pytest.raises(ToolError, match="node 2: 15"):
        pack_text("jk_pb", [odd], parallel=True)


def test_behind_a_late_adapter_the_file_has_its_answer_time_and_ages(tmp_path: Path) -> None:
    modules = [Shape(1 + n, 6, 2) for n in range(16)]
    usual = pack_text("tesla_s", [found_line("uart0", "tesla_s", 0, modules)])
    assert "answer" not in usual
    late = pack_text("tesla_s", [found_line("uart0", "tesla_s", 0, modules, answer_ms=17)])
    assert 'answer = "22 ms"' in late
    # two scans of 16 modules, of six answers each
    assert least_ms("tesla_s", late, tmp_path) > 2 * 16 * 6 * 16
