"""`bmsctl decode bmw_i3`: polls as noted, what modules say, and what is wrong with a capture."""

import json
from pathlib import Path

import pytest
from terminal import Tool

from bmsctl.decoders import bmw_i3
from bmsctl.decoders.base import Capture, Decoded

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())
POLLS = [(FRAMES[f"i3_poll_{n}"]["note"], FRAMES[f"i3_poll_{n}"]["hex"]) for n in (0, 1)]
# module 1, constructed from the layout
SAID = (
    b"t10280000000005080000\r"
    b"t1228740E750E760E0000\r"
    b"t1328770E780E790E0000\r"
    b"t14287A0E7B0E7C0E0000\r"
    b"t15287D0E7E0E7F0E0000\r"
    b"t1728404142FF00000000\r"
)
CELLS = [3700 + i for i in range(12)]


def decode(data: bytes, node: int | None = None) -> Decoded:
    return bmw_i3.decode(Capture(data, can=True, node=node))


def poll(note: str, hex_: str) -> bytes:
    ident = int(note.removeprefix("CAN id "), 16)
    return b"t%03X8%s\r" % (ident, hex_.upper().encode())


@pytest.mark.parametrize(("note", "hex_"), POLLS)
def test_polls_as_noted(note: str, hex_: str) -> None:
    got = decode(poll(note, hex_))
    assert got.frames["polls"] == 1 and got.frames["damaged"] == 0
    assert got.error == "only requests in it"


@pytest.mark.parametrize(("note", "hex_"), POLLS)
def test_a_poll_with_one_wrong_bit_or_for_another_module(note: str, hex_: str) -> None:
    for bit in range(64):
        wrong = f"{int(hex_, 16) ^ 1 << bit:016x}"
        assert decode(poll(note, wrong)).error == "wrong CRC-8 of a poll", bit
    other = decode(poll("CAN id 0x082", hex_))
    assert other.error == "wrong CRC-8 of a poll"


def test_a_module_s_answers() -> None:
    for data in (SAID, poll(*POLLS[0]) + SAID):
        got = decode(data).as_json()
        assert got["ok"] is True
        assert got["boards"] == [3]
        assert got["cells_mv"] == CELLS
        assert got["pack_mv"] == sum(CELLS)
        assert got["temps_dc"] == [240, 250, 260]
        assert (got["balance"], got["protection"], got["alarms"]) == (0x805, 0, [])


def test_the_command_reads_slcan_text(bmsctl: Tool, tmp_path: Path) -> None:
    file = tmp_path / "said.txt"
    file.write_bytes(SAID.replace(b"\r", b"\n"))
    code, out, _err = bmsctl.run("decode", "bmw_i3", file, "--json")
    assert code == 0
    assert json.loads(out)["cells_mv"] == CELLS


@pytest.mark.parametrize(
    ("data", "node", "error"),
    [
        (SAID[:-5], None, "truncated"),
        (SAID.replace(b"750E", b"75E"), None, "not an slcan frame"),
        (SAID + b"t1225740E750E76\r", None, "too short"),
        (SAID, 1, "6 times: wrong responder: a frame of another module than 1"),
        (SAID[:22], None, "no cells in it"),
        (b"", None, "no frame in it"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, node: int | None, error: str) -> None:
    assert decode(data, node).error == error


def test_frames_of_others_on_the_bus_are_no_error() -> None:
    for node in (None, 3):
        got = decode(b"t1A00\r" + SAID + b"t6FF0\r", node)
        assert got.error is None and got.values["cells_mv"] == CELLS
        assert got.notes == ["2 times: an identifier that bmw_i3 does not have: 1A0, 6FF"]


def test_a_capture_cut_anywhere_is_never_misread() -> None:
    for n in range(len(SAID)):
        got = decode(SAID[:n])
        for mv in got.values["cells_mv"] or []:
            assert mv is None or mv in CELLS
        assert (got.error is None) == (n in (44, 66, 88, 110)), n
