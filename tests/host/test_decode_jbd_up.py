"""`bmsctl decode jbd_up`: the documented question, and answers made by the simulated unit."""

import json
from pathlib import Path

import numpy as np

from bmsctl.decoders import decoder
from bmsctl.decoders.base import Capture
from bmssim.boards.jbd_up import JbdUpUnit
from bmssim.boards.serial import crc16
from bmssim.bus import Noise, UartBus
from bmssim.events import Events

decode = decoder("jbd_up").decode
FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())
REQUEST = bytes.fromhex(FRAMES["jbd_up_req_addr1"]["hex"])
MV = [3300 + i for i in range(16)]


def answer() -> bytes:
    rng = np.random.default_rng(1)
    events = Events()
    bus = UartBus(events, 9600, Noise(rng))
    measure = lambda: (np.array(MV) / 1000, np.array([21.0, 22.5, 23.0, 24.0]))  # noqa: E731
    unit = JbdUpUnit(events, bus, 1, 16, 4, measure, rng, 0.0)
    unit.alarms = {"current"}
    data = unit.answer(REQUEST)
    assert data is not None
    return data


def test_an_answer_comes_out_whole_and_behind_its_poll() -> None:
    for data in (answer(), b"noise" + REQUEST + answer()):
        got = decode(Capture(data)).as_json()
        assert got["ok"] and got["boards"] == [1]
        assert got["cells_mv"] == MV and got["temps_dc"] == [210, 225, 230, 240]
        assert got["pack_mv"] == sum(MV) // 10 * 10 and got["current_ma"] == 0
        assert got["soc_pm"] == 800 and got["nominal_mah"] == 50000 and got["fets"] == 3
        assert got["alarms"] == ["discharge_overcurrent_1"]


def test_a_poll_alone_and_somebody_else() -> None:
    got = decode(Capture(REQUEST))
    assert got.error == "only requests in it" and got.frames["echoes"] == 1
    assert "wrong responder" in str(decode(Capture(answer(), node=2)).error)


def test_what_is_broken_is_refused() -> None:
    whole = answer()
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1
        for data in (bytes(broken), whole[:at]):
            got = decode(Capture(data))
            assert got.error is not None and not got.values["cells_mv"], at


def test_warnings_balance_and_names_are_shown() -> None:
    captures = json.loads((Path(__file__).parents[1] / "data" / "public_captures.json").read_text())
    one = next(case["hex"] for case in captures if case["kind"] == "jbd_up")
    values = decode(Capture(bytes.fromhex(one))).values
    assert values["alarms"] == ["cell_overvoltage_warning", "eeprom_warning"]
    assert values["balance"] == 0 and values["version"] == "12.4"
    assert values["name"] == "JBD48100000" and values["ambient_dc"] == 226
    assert values["health_pm"] == 1000 and values["board_dc"] == 210


def test_the_words_behind_the_temperatures_are_the_mask_of_balanced_cells() -> None:
    data = bytearray(answer())
    end = 8 + 66 + 2 + 2 * 16 + 2 + 2 * 4
    data[end : end + 4] = b"\0\0\x80\x05"
    data[-2:] = crc16(bytes(data[:-2]))
    assert decode(Capture(bytes(data))).values["balance"] == 0x8005
