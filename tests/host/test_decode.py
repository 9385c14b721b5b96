"""`bmsctl decode`: captured frames come out as their notes say; anything broken is refused."""

import argparse
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Tool

from bms.links.can import BITS, EXTENDED
from bmsctl.commands import decode
from bmsctl.decoders import cell_link, jbd
from bmsctl.decoders.base import Capture, Decoded
from bmsctl.errors import ToolError
from bmssim import protocol as p
from bmssim.slcan import from_line

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())


def decode_jbd(data: bytes, asked: int | None = None) -> Decoded:
    return jbd.decode(Capture(data, asked=asked))


def decode_cell_link(data: bytes, can: bool, node: int | None = None) -> Decoded:
    return cell_link.decode(Capture(data, can=can, node=node))


def frame(name: str) -> bytes:
    return bytes.fromhex(FRAMES[name]["hex"])


BASIC, CELLS = frame("jbd_03_rsp"), frame("jbd_04_rsp")


def test_cells_as_noted() -> None:
    got = decode_jbd(CELLS).as_json()
    assert got["ok"] is True
    assert got["cells_mv"] == [3875, 3868, 3858, 3869]


def test_basic_as_noted() -> None:
    # 15.47V 0A 4.93/5.00Ah prot 0x1000 fw8.0 soc99 fet2 4S 3NTC 24.5/24.2/23.7C
    got = decode_jbd(BASIC).as_json()
    assert (got["ok"], got["pack_mv"], got["current_ma"], got["soc_pm"]) == (True, 15470, 0, 990)
    assert (got["remaining_mah"], got["nominal_mah"], got["fets"]) == (4930, 5000, 2)
    assert got["temps_dc"] == [245, 242, 237]
    assert (got["protection"], got["alarms"], got["version"]) == (0x1000, ["fet_lock"], "8.0")


def test_name_and_acknowledgement_as_noted() -> None:
    assert decode_jbd(frame("jbd_05_rsp")).values["name"] == "0123456789"
    assert decode_jbd(frame("jbd_mos_ack")).error is None
    assert decode_jbd(frame("jbd_mos_chg_off")).error == "only requests in it"


def test_both_replies_in_one_capture_with_the_requests_heard() -> None:
    capture = bytes.fromhex("dda50400fffc77") + CELLS + bytes.fromhex("dda50300fffd77") + BASIC
    got = decode_jbd(capture).as_json()
    assert got["ok"] is True
    assert got["cells_mv"] == [3875, 3868, 3858, 3869]
    assert got["pack_mv"] == 15470
    assert got["frames"]["echoes"] == 2


@pytest.mark.parametrize("data", [CELLS, BASIC])
def test_truncated_at_every_byte_is_refused(data: bytes) -> None:
    for n in range(1, len(data)):
        got = decode_jbd(data[:n])
        assert got.error == "truncated", n
        assert got.values["cells_mv"] == []


@pytest.mark.parametrize("data", [CELLS, BASIC])
def test_any_flipped_bit_is_refused(data: bytes) -> None:
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 0x80 >> bit % 8
        got = decode_jbd(bytes(broken), data[1])
        assert got.error is not None, bit
        assert not any(got.values["cells_mv"]), bit


def test_reasons() -> None:
    assert decode_jbd(CELLS[:-2] + b"\x00\x77").error == "wrong checksum"
    assert decode_jbd(CELLS[:-1] + b"\x78").error == "no end byte 77"
    assert "wrong responder" in str(decode_jbd(CELLS, 3).error)
    assert decode_jbd(bytes.fromhex("dd048000ff8077")).error == "the board refused: no such command"
    assert "no reply" in str(decode_jbd(b"hello").error)


def test_a_longer_reply_than_documented_is_taken() -> None:
    body = bytes([0, len(BASIC) - 7 + 4]) + BASIC[4:-3] + b"\x01\x02\x03\x04"
    check = (0x10000 - sum(body)) & 0xFFFF
    longer = b"\xdd\x03" + body + check.to_bytes(2, "big") + b"\x77"
    assert decode_jbd(longer).as_json()["temps_dc"] == [245, 242, 237]


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(CELLS), st.just(b"\xdd\x04\x00\xff"))))
def test_hidden_replies_are_all_found_and_nothing_else(parts: list[bytes]) -> None:
    got = decode_jbd(b"".join(parts), 4)
    hidden = parts.count(CELLS)
    assert got.frames["good"] == hidden
    assert got.values["cells_mv"] == ([3875, 3868, 3858, 3869] if hidden else [])


def cell_frames(node: int, seq: int = 5) -> list[p.Frame]:
    return [
        p.cells_frame(node, 0, [3301, 3302, 3303, 3304], seq),
        p.cells_frame(node, 1, [3305, None], seq),
        p.temps_frame(node, 0, [251, -55], seq),
        p.status_frame(node, 16_520, 0x0100, 30, 0, seq),
    ]


def test_cell_link_from_uart_bytes() -> None:
    got = decode_cell_link(b"".join(p.uart_encode(f) for f in cell_frames(3)), can=False)
    values = got.as_json()
    assert values["error"] is None
    assert values["cells_mv"] == [3301, 3302, 3303, 3304, 3305]
    assert values["temps_dc"] == [251, -55]
    assert values["pack_mv"] == 16_520
    assert values["alarms"] == ["bit_8"]


def text_of(frames: list[p.Frame], form: str) -> str:
    """CAN frames as slcan, candump or candump -L writes them; candump1: with one space."""
    lines = []
    for f in frames:
        wide = f.ident & EXTENDED
        ident = f"{f.ident & BITS:08X}" if wide else f"{f.ident:03X}"
        if form == "slcan":
            lines.append(f"{'T' if wide else 't'}{ident}{len(f.data)}{f.data.hex().upper()}")
        elif form == "log":
            lines.append(f"(1700000000.123456) can0 {ident}#{f.data.hex().upper()}")
        else:
            gap = " " if form == "candump1" else "  "
            lines.append(f"  can0  {ident}   [{len(f.data)}]{gap}{f.data.hex(' ').upper()}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("form", ["slcan", "candump", "candump1", "log"])
def test_can_frames_of_both_kinds_from_text(form: str, tmp_path: Path) -> None:
    frames = [
        p.Frame(EXTENDED | 0x18904001, bytes.fromhex("0210000100200030")),
        p.Frame(0x201, b""),
        p.Frame(EXTENDED, b"\xab"),
        p.Frame(EXTENDED | BITS, b""),
    ]
    path = tmp_path / "capture.txt"
    path.write_text(text_of(frames, form))
    args = argparse.Namespace(hex=None, file=path)
    data, can = decode._bytes(args)
    assert can
    assert [from_line(line) for line in data.split(b"\r")[:-1]] == frames
    path.write_text(text_of(frames[:1], form).replace("1890", "2890"))
    if form != "slcan":  # there the link says what is wrong
        with pytest.raises(ToolError, match="not a CAN 2.0 frame"):
            decode._bytes(args)


@pytest.mark.parametrize("form", ["slcan", "candump", "log"])
def test_cell_link_from_text_of_can_frames(form: str, bmsctl: Tool, tmp_path: Path) -> None:
    # beside frames of another kind, which have a cell link's number by chance
    other = p.Frame(EXTENDED | p.CELLS << 6 | 5, bytes(8))
    path = tmp_path / "capture.txt"
    path.write_text(text_of([other, *cell_frames(3), other], form))
    code, out, _err = bmsctl.run("decode", "cell_link", path, "--json")
    got = json.loads(out.splitlines()[-1])
    assert (code, got["error"]) == (0, None)
    assert got["boards"] == [3]
    assert got["cells_mv"] == [3301, 3302, 3303, 3304, 3305]


def test_cell_link_refusals() -> None:
    good = [p.uart_encode(f) for f in cell_frames(3)]
    other = p.uart_encode(cell_frames(2)[0])
    assert "wrong responder" in str(decode_cell_link(b"".join(good) + other, False, 3).error)
    assert decode_cell_link(b"".join(good)[:-1], False).error == "truncated"
    broken = bytearray(good[0])
    broken[5] ^= 1
    assert "CRC-16" in str(decode_cell_link(bytes(broken), False).error)
    f = cell_frames(3)[0]
    text = b"t%03X8%s\r" % (f.ident + 1, f.data.hex().upper().encode())  # moved to another id
    got = decode_cell_link(text, can=True)
    assert got.error == "wrong CRC-8"
    assert not any(got.as_json()["cells_mv"])


def test_command(bmsctl: Tool, tmp_path: Path) -> None:
    code, out, _err = bmsctl.run("decode", "jbd", "--hex", CELLS.hex(), "--json")
    got = json.loads(out.splitlines()[-1])
    assert code == 0
    assert got["driver"] == "jbd"
    keys = "driver ok error cells_mv temps_dc pack_mv current_ma soc_pm alarms frames"
    assert set(keys.split()) <= set(got)
    code, out, _err = bmsctl.run("decode", "jbd", "--hex", CELLS[:-1].hex())
    assert code == 1
    assert "refused: truncated" in out
    path = tmp_path / "capture"
    for content in (CELLS, CELLS.hex(" ").encode()):
        path.write_bytes(content)
        code, out, _err = bmsctl.run("decode", "jbd", path)
        assert code == 0
        assert "3875 3868 3858 3869 mV" in out
    assert bmsctl.run("decode", "jbd", "--hex", "zz")[0] == 1
    assert bmsctl.run("decode", "jbd", tmp_path / "none")[0] == 1
    assert bmsctl.run("decode", "abc", "--hex", "00")[0] == 2
    assert bmsctl.run("decode", "jbd")[0] == 2
