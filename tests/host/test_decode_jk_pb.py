"""`bmsctl decode jk_pb`: the captured frames come out as their notes say."""

import json
from pathlib import Path

import pytest

from bmsctl.decoders.base import Capture
from bmsctl.decoders.jk_pb import decode
from bmssim.boards.jk_pb import FORMS

DATA = Path(__file__).parents[1] / "data"
FRAMES = json.loads((DATA / "frames.json").read_text())


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


REQUEST = frame("jkpb_req_status_addr3")
ACK = frame("jkpb_ack_status_addr3")
# of firmware 15.10, as `jblance/mpp-solar` has it: the acknowledgement follows at once
AT_ONCE = bytes.fromhex(
    next(
        case["hex"]
        for case in json.loads((DATA / "public_captures.json").read_text())
        if case["kind"] == "jk_pb"
    )
)


def test_a_board_of_firmware_15_10_comes_out_as_captured() -> None:
    got = decode(Capture(AT_ONCE)).as_json()
    assert got["ok"] and got["boards"] == [1]
    assert got["cells_mv"] == [3357, 3357, 3357, 3356, 3356, 3357, 3356, 3356]
    assert got["pack_mv"] == 26852 and got["current_ma"] == 17841 and got["soc_pm"] == 880
    assert got["remaining_mah"] == 193465 and got["nominal_mah"] == 220000
    assert got["cycles"] == 101 and got["board_dc"] == 300 and got["health_pm"] == 1000
    assert got["temps_dc"][:2] == [296, 294]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("polls", [True, False])
def test_every_place_of_the_acknowledgement_alone_and_beside_others(form: str, polls: bool) -> None:
    mine = FORMS[form](STATUS, ACK, REQUEST)
    got = decode(Capture(mine))
    assert got.error is None and got.values["boards"] == [3]
    for other in FORMS:
        theirs = FORMS[other](AT_ONCE[:300], AT_ONCE[300:], b"")
        for n in (1, 2):
            pair = (REQUEST if polls else b"") + mine + theirs
            got = decode(Capture(pair * n))
            assert got.error is None, (other, n, got.error)
            cells = {row["node"]: row["cells_mv"] for row in got.each}
            assert len(cells[1]) == 8 and len(cells[3]) == 16, other


def test_a_frame_with_the_device_s_names() -> None:
    about = bytearray(300)
    about[:6] = b"\x55\xaa\xeb\x90\x03\x00"
    for at, text in ((6, b"JK_PB2A16S20P"), (22, b"15XA"), (30, b"15.41"), (46, b"4071A")):
        about[at : at + len(text)] = text
    about[299] = sum(about[:299]) & 0xFF
    values = decode(Capture(bytes(about) + ACK)).values
    assert values["name"] == "JK_PB2A16S20P" and values["version"] == "15.41"
    assert values["hardware"] == "15XA" and values["serial"] == "4071A"
