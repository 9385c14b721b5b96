"""`bmsctl decode` shows what boards say beside their cells, where their frames carry it."""

import json
from pathlib import Path
from typing import Any

from bmsctl.decoders import NAMES, decoder
from bmsctl.decoders.base import KEYS, Capture
from bmssim import protocol as p
from bmssim.boards.pylontech import frame
from bmssim.boards.tesla_s import crc8

DATA = Path(__file__).parents[1] / "data"
FRAMES = json.loads((DATA / "frames.json").read_text())
CAPTURES = json.loads((DATA / "public_captures.json").read_text())


def values_of(kind: str, data: bytes, can: bool = False) -> dict[str, Any]:
    got = decoder(kind).decode(Capture(data, can=can))
    assert got.error is None, got.error
    return got.as_json()


def named(name: str) -> bytes:
    return bytes.fromhex(FRAMES[name]["hex"])


def captured(kind: str) -> bytes:
    return bytes.fromhex(next(case["hex"] for case in CAPTURES if case["kind"] == kind))


def slcan(*frames: tuple[int, str]) -> bytes:
    return b"".join(f"t{ident:03X}{len(x) // 2}{x}\r".encode() for ident, x in frames)


def test_every_kind_has_the_same_keys() -> None:
    for kind in NAMES:
        assert set(KEYS) <= set(decoder(kind).decode(Capture(b"")).as_json())


def test_jbd() -> None:
    got = values_of("jbd", named("jbd_04_rsp") + named("jbd_03_rsp"))
    assert got["made"] == "2022-03-28" and got["version"] == "8.0" and got["balanced_cells"] == []
    body = bytearray(named("jbd_03_rsp")[4:-3])
    body[13] = 0b1010
    check = -(sum(body) + len(body)) & 0xFFFF
    other = b"\xdd\x03\x00" + bytes([len(body)]) + body + check.to_bytes(2, "big") + b"\x77"
    got = values_of("jbd", named("jbd_04_rsp") + other)
    assert got["balance"] == 0b1010 and got["balanced_cells"] == [2, 4]


def test_jk_ttl() -> None:
    got = values_of("jk_ttl", captured("jk_ttl"))
    assert got["version"] == "11.XW_S11.261" and got["name"] == "Input UserdaJK_B1A20S15P"
    assert (got["board_dc"], got["cycles"], got["nominal_mah"]) == (330, 25, 234_000)
    assert got["fets"] == 3 and got["balance"] == 0 and got["made"] == "2306"


def test_daly() -> None:
    cells = [named("daly_" + x) for x in ("r94", "r95_1", "r95_2", "r95_3", "r95_4", "r95_5")]
    body = bytes.fromhex("A5019708") + bytes([0b10000001, 0b10, 0, 0, 0, 0, 0, 0])
    got = values_of("daly", b"".join(cells) + body + bytes([sum(body) & 0xFF]))
    assert got["balanced_cells"] == [1, 8, 10]


def test_pylontech_names_its_alarms() -> None:
    info = bytearray([0x11, 2, 4]) + bytes([0, 2, 1, 0]) + bytes([3]) + bytes([0, 0, 2])
    info += bytes([0, 0, 1, 0b1, 6, 0, 0b100, 0])
    got = values_of("pylontech", frame(2, 0, bytes(info)))
    assert got["alarms"] == sorted(
        ["cell_2_high", "cell_3_low", "temp_3_high", "discharge_current_low", "cell_3_failed"]
        + ["pack_overvoltage"]
    )


def test_tesla_names_alerts_faults_and_cells() -> None:
    state = bytes([2, 0x20, 4, 0x03, 0x08, 0b1001, 0b10])
    sample = captured("tesla_s")
    got = values_of("tesla_s", sample + state + bytes([crc8(state)]))
    assert got["alerts"] == ["hot_1", "hot_2"] and got["faults"] == ["reset"]
    assert got["high_cells"] == [1, 4] and got["low_cells"] == [2]


def test_monitors_of_evs_show_which_cells_they_balance() -> None:
    cells = "0E740E750E760E77"
    got = values_of(
        "outlander",
        slcan((0x611, "05FF0FA00FA00FA0"), (0x612, cells), (0x613, cells)),
        can=True,
    )
    assert got["balanced_cells"] == [1, 3]


def test_cell_link_boards_say_who_they_are() -> None:
    hello = p.Frame(p.HELLO << 6 | 3, bytes([1, 4, 1, 1, 0x78, 0x56, 0x34, 0x12]))
    frames = [hello, p.cells_frame(3, 0, [3300] * 4, 5), p.temps_frame(3, 0, [250], 5)]
    frames.append(p.status_frame(3, 13_200, 0, 31, 40, 5))
    got = values_of("cell_link", b"".join(p.uart_encode(x) for x in frames))
    assert (got["version"], got["serial"]) == ("1", 0x12345678)
    assert (got["board_dc"], got["balance"]) == (310, 40)
