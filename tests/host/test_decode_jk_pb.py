"""`bmsctl decode jk_pb`: the captured frames come out as their notes say."""

import json
from pathlib import Path

from bmsctl.decoders.base import Capture
from bmsctl.decoders.jk_pb import decode

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())


def frame(name: str) -> bytes:
    return bytes.fromhex(FRAMES[name]["hex"])


STATUS = frame("jkpb_status_300")
ANSWER = STATUS + b"\0" + frame("jkpb_ack_status_addr3")


def test_a_status_frame_comes_out_as_its_note_says() -> None:
    got = decode(Capture(ANSWER)).as_json()
    assert got["ok"] and got["boards"] == [3]
    assert len(got["cells_mv"]) == 16 and set(got["cells_mv"]) == {3293, 3294}
    assert got["pack_mv"] == 52695 and got["current_ma"] == 0
    assert got["temps_dc"][:2] == [195, 198] and got["board_dc"] == 203
    assert got["soc_pm"] == 550 and got["remaining_mah"] == 155219
    assert got["nominal_mah"] == 280000 and got["cycles"] == 62 and got["health_pm"] == 1000
    assert got["fets"] == 3 and got["alarms"] == []


def test_a_settings_frame_comes_out_as_its_note_says() -> None:
    got = decode(Capture(frame("jkpb_settings_300"))).as_json()
    assert got["settings"] == {
        "cell_max_mv": 3650,
        "cell_min_mv": 2700,
        "balance_start_mv": 5,
        "charge_max_ma": 60_000,
        "discharge_max_ma": 100_000,
        "cells": 16,
        "capacity_mah": 280_000,
        "address": 3,
    }


def test_a_frame_without_its_acknowledgement_is_nobody_s() -> None:
    got = decode(Capture(STATUS))
    assert "its board is unknown" in str(got.error)
    assert got.as_json()["boards"] == [] and got.values["pack_mv"] == 52695


def test_requests_are_distinguished_from_answers() -> None:
    for name in (
        "jkpb_req_status_addr3",
        "jkpb_write_discharge_off_req",
        "jkpb_write_balance_on_req",
    ):
        assert decode(Capture(frame(name))).error == "only requests in it", name
    lone = decode(Capture(frame("jkpb_ack_status_addr3")))
    assert lone.error == "an acknowledgement of [3] without its frame"


def test_a_line_with_echo() -> None:
    got = decode(Capture(frame("jkpb_req_status_addr3") + ANSWER))
    assert got.error is None and got.frames["echoes"] == 1 and got.values["boards"] == [3]


def test_split_or_damaged_anywhere() -> None:
    for at in range(0, len(ANSWER), 7):
        assert decode(Capture(ANSWER[:at])).error is not None, at
        broken = bytearray(ANSWER)
        broken[at] ^= 0x20
        got = decode(Capture(bytes(broken)))
        # the byte between frame and acknowledgement is nobody's
        assert at == 300 or got.error is not None, at


def test_somebody_else_s_answer() -> None:
    assert "wrong responder" in str(decode(Capture(ANSWER, node=2)).error)
