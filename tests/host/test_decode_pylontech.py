"""`bmsctl decode pylontech`: the document's frames, one of which carries a wrong checksum."""

import json
from pathlib import Path

from bmsctl.decoders.base import Capture
from bmsctl.decoders.pylontech import decode
from bmssim.boards.pylontech import frame

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())
REQUEST = bytes.fromhex(FRAMES["pylon_42_req"]["hex"])
SAMPLE = bytes.fromhex(FRAMES["pylon_42_rsp"]["hex"])
RIGHT = SAMPLE.replace(b"E1A2\r", b"E27A\r")  # as recomputed
RIGHT_INFO = bytes.fromhex(RIGHT[13:-5].decode())[2:]  # of one pack


def test_the_document_s_sample_is_refused_and_good_with_its_true_checksum() -> None:
    got = decode(Capture(SAMPLE))
    assert got.error == "wrong checksum" and not got.values["cells_mv"]
    got = decode(Capture(RIGHT)).as_json()
    assert got["ok"] and got["boards"] == [2]
    assert got["cells_mv"][:3] == [0x0D45, 0x0D44, 0x0D45] and len(got["cells_mv"]) == 15
    assert got["board_dc"] == 0x0BC3 - 2731
    assert got["temps_dc"] == [280, 280, 290, 290]
    assert got["pack_mv"] == 0xC725 and got["current_ma"] == 0
    assert got["remaining_mah"] == 0x00CA58 and got["nominal_mah"] == 0x012110
    assert got["cycles"] == 2


def test_a_request_is_one() -> None:
    assert decode(Capture(REQUEST)).error == "only requests in it"
    got = decode(Capture(b"noise" + REQUEST + RIGHT))
    assert got.error is None and got.frames["echoes"] == 1


def test_what_is_broken_is_refused() -> None:
    for at in range(len(RIGHT)):
        broken = bytearray(RIGHT)
        broken[at] ^= 1
        assert not decode(Capture(bytes(broken))).values["cells_mv"], at
        assert not decode(Capture(RIGHT[:at])).values["cells_mv"], at
    assert "wrong responder" in str(decode(Capture(RIGHT, node=3)).error)


def other(at: int, digits: bytes) -> bytes:
    """The good answer with other digits, and a checksum that fits."""
    body = RIGHT[1:at] + digits + RIGHT[at + len(digits) : -5]
    return b"~" + body + f"{-sum(body) & 0xFFFF:04X}\r".encode()


def test_another_maker_s_frame_of_the_same_form_is_refused() -> None:
    assert other(1, b"20") == RIGHT
    for at, digits in ((1, b"25"), (1, b"22"), (5, b"4A")):
        got = decode(Capture(other(at, digits)))
        assert "another protocol" in str(got.error), (at, digits)
        assert got.as_json()["cells_mv"] == [] and got.values["boards"] is None


def test_an_answer_of_several_packs_is_refused_by_that_name() -> None:
    info = bytes([0x11, 3]) + 3 * RIGHT_INFO
    got = decode(Capture(frame(2, 0, info) + RIGHT))
    assert "several packs" in str(got.error) and got.frames["good"] == 1


def test_more_cells_than_can_be_read_are_said() -> None:
    info = bytes([0x11, 2, 33]) + bytes([13, 0]) * 33 + RIGHT_INFO[1 + 2 * RIGHT_INFO[0] :]
    assert "33 cells" in str(decode(Capture(frame(2, 0, info))).error)
