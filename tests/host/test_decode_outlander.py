"""`bmsctl decode outlander`: captures come out as they were meant, broken ones are refused."""

import json
from pathlib import Path

import pytest
from terminal import Tool

from bmsctl.decoders import outlander
from bmsctl.decoders.base import Capture, Decoded, Shape

# a module with the number 9, as a user posted it: five sensors at 21..23 degC, eight cells
CAPTURE = """(1.0) can0 691#00304949494949FF
(1.0) can0 692#0E670E670E670E64
(1.0) can0 693#0F310F360F210F2E
(1.0) can0 694#FFFFFFFFFFFFFFFF
"""
TEXT = (
    b"t691800304949494949FF\rt69280E670E670E670E64\rt69380F310F360F210F2E\rt6948FFFFFFFFFFFFFFFF\r"
)
CELLS = [3687, 3687, 3687, 3684, 3889, 3894, 3873, 3886]


def decode(data: bytes, node: int | None = None) -> Decoded:
    return outlander.decode(Capture(data, can=True, node=node))


def test_a_capture_as_noted() -> None:
    got = decode(TEXT).as_json()
    assert got["ok"] is True
    assert got["boards"] == [9]
    assert got["cells_mv"] == CELLS
    assert got["pack_mv"] == sum(CELLS)
    assert got["temps_dc"] == [193, 193, 200]  # as words
    assert got["balance"] == 0
    assert got["frames"] == {
        "good": 4,
        "damaged": 0,
        "wrong_responder": 0,
        "unexpected": 0,
        "unended": 0,
    }


def test_the_command_reads_candump(bmsctl: Tool, tmp_path: Path) -> None:
    file = tmp_path / "dump.log"
    file.write_text(CAPTURE)
    code, out, _err = bmsctl.run("decode", "outlander", file, "--json")
    assert code == 0
    got = json.loads(out)
    assert got["cells_mv"] == CELLS


def test_several_modules_and_balancing_cells() -> None:
    more = TEXT.replace(b"t69", b"t61").replace(b"t61180030", b"t61185530")
    got = decode(more + TEXT).as_json()
    assert got["boards"] == [1, 9]
    assert got["cells_mv"] == CELLS * 2
    assert got["balance"] == 0x55


@pytest.mark.parametrize(
    ("data", "node", "error"),
    [
        (TEXT[:-5], None, "truncated"),
        (TEXT.replace(b"E67\r", b"E6\r").replace(b"0E64\r", b"0E6\r"), None, "not an slcan frame"),
        (TEXT + b"t69260E670E670E67\r", None, "not 8 bytes"),
        (TEXT, 3, "4 times: wrong responder: a frame of another module than 3"),
        (TEXT[:22], None, "no cells in it"),
        (b"", None, "no frame in it"),
        (TEXT.replace(b"t6948FFFF", b"t69480E67"), None, "a module with more than 8 cells"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, node: int | None, error: str) -> None:
    assert decode(data, node).error == error


def test_frames_of_others_on_the_bus_are_counted_and_named_once() -> None:
    others = b"t1A02ABCD\rt3F10\rt1A02ABCD\rt6FF0\rT18FF50E580000000000000000\r"
    for node in (None, 9):
        got = decode(others + TEXT, node).as_json()
        assert got["ok"] is True
        assert got["cells_mv"] == CELLS
        assert got["frames"]["unexpected"] == 5
        assert got["notes"] == [
            "5 times: an identifier that outlander does not have: 1A0, 3F1, 6FF, 18FF50E5"
        ]
    assert decode(others).error == "no cells in it"
    assert decode(TEXT).as_json()["notes"] == []


def test_a_capture_cut_anywhere_is_never_misread() -> None:
    for n in range(len(TEXT)):
        got = decode(TEXT[:n])
        for mv in got.values["cells_mv"] or []:
            assert mv is None or mv in CELLS
        assert (got.error is None) == (n in (44, 66)), n


def test_modules_are_found_by_listening() -> None:
    class Port:
        def exchange(self, frames: list, wait_ms: int) -> list[tuple[int, bytes]]:
            assert not frames and wait_ms >= 1000
            frame = b"\x0e\x67" * 4
            twice = [(0x691, b"\0\0" + b"\x49" * 6), (0x692, frame), (0x694, b"\xff" * 8)] * 2
            return [*twice, (0x611, bytes(8)), (0x612, bytes(8)), (0x3C3, bytes(8)), (0x613, b"")]

    assert [x.shape for x in outlander.find(Port())] == [Shape(9, 4, 3)]
