"""`bmsctl decode jk_ttl`: the captured frames come out as their notes say."""

import json
from pathlib import Path

from terminal import Tool

from bmsctl.decoders.base import Capture
from bmsctl.decoders.jk_ttl import decode

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())
REPLY = bytes.fromhex(FRAMES["jk_ttl_rsp_14s"]["hex"])
REQUEST = bytes.fromhex(FRAMES["jk_ttl_req"]["hex"])


def test_a_captured_answer_comes_out_as_its_note_says() -> None:
    got = decode(Capture(REPLY)).as_json()
    assert got["ok"] and got["boards"] == [1]
    assert len(got["cells_mv"]) == 14 and got["cells_mv"][:3] == [3821, 3834, 3831]
    assert got["pack_mv"] == 53590  # 53.59 V
    assert got["current_ma"] == 2080  # +2.08 A
    assert got["soc_pm"] == 150
    assert got["temps_dc"] == [300, 280]
    assert got["fets"] == 3 and got["balance"] == 1 and got["alarms"] == []


def test_a_request_is_one() -> None:
    got = decode(Capture(REQUEST))
    assert got.error == "only requests in it" and got.frames["echoes"] == 1


def test_a_whole_conversation_in_one_capture() -> None:
    got = decode(Capture(b"\0\x4e" + REQUEST + REPLY + REQUEST + REPLY))
    assert got.error is None
    assert got.frames == {"good": 2, "damaged": 0, "echoes": 2}


def test_what_is_broken_is_refused() -> None:
    assert decode(Capture(REPLY[:-1])).error == "truncated"
    broken = bytearray(REPLY)
    broken[14] ^= 1
    got = decode(Capture(bytes(broken)))
    assert got.error == "wrong checksum" and got.as_json()["cells_mv"] == []
    assert "no frame" in str(decode(Capture(b"hello")).error)


def test_the_command(bmsctl: Tool) -> None:
    code, out, _err = bmsctl.run("decode", "jk_ttl", "--hex", REPLY.hex())
    assert code == 0 and "3821 3834" in out and "30.0 28.0 degC" in out
