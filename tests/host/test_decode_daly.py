"""`bmsctl decode daly`: the captured frames come out as their notes say."""

import json
from pathlib import Path

from bms.links.can import EXTENDED
from bmsctl.decoders.base import Capture
from bmsctl.decoders.daly import decode
from bmssim.protocol import Frame
from bmssim.slcan import to_line

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())


def frame(name: str) -> bytes:
    return bytes.fromhex(FRAMES[name]["hex"])


SET = ("r94", "r95_1", "r95_2", "r95_3", "r95_4", "r95_5", "r96", "r90", "r91", "r92", "r93")
WHOLE = b"".join(frame("daly_" + name) for name in (*SET, "r97", "r98"))


def test_the_set_of_14_cells() -> None:
    got = decode(Capture(WHOLE)).as_json()
    assert got["ok"] and got["boards"] == [1]
    assert len(got["cells_mv"]) == 14
    assert got["cells_mv"][:4] == [0x0EC0, 0x0EC2, 0x0EC7, 0x0EC8]
    assert got["cells_mv"][12:] == [0x0EC3, 0x0EC0]
    assert got["temps_dc"] == [210]
    assert got["pack_mv"] == 52800 and got["soc_pm"] == 500 and got["current_ma"] == 25600
    assert got["highest_mv"] == 0x0EC8 and got["lowest_mv"] == 0x0E9C
    assert got["remaining_mah"] == 20000 and got["cycles"] == 0


def test_frames_of_a_real_board() -> None:
    got = decode(Capture(frame("daly_real_90"))).as_json()
    assert (got["pack_mv"], got["current_ma"], got["soc_pm"]) == (13000, 0, 499)
    got = decode(Capture(frame("daly_real_91"))).as_json()
    assert (got["highest_mv"], got["highest_cell"]) == (3253, 2)
    assert (got["lowest_mv"], got["lowest_cell"]) == (3250, 1)


def test_every_frame_alone_is_good() -> None:
    for name in FRAMES:
        if name.startswith("daly_"):
            assert decode(Capture(frame(name))).error is None, name


def test_requests_damage_and_somebody_else() -> None:
    request = bytes.fromhex("A540900800000000000000007D")
    assert decode(Capture(request)).error == "only requests in it"
    one = frame("daly_r90")
    for at in range(13):
        broken = bytearray(one)
        broken[at] ^= 0x10
        assert decode(Capture(bytes(broken))).error is not None, at
    assert decode(Capture(one[:-1])).error == "truncated"
    assert "wrong responder" in str(decode(Capture(one, node=2)).error)


# --- on CAN ---


def on_can(name: str) -> bytes:
    """A captured answer as the same eight bytes on a CAN bus, in slcan text."""
    data = frame("daly_" + name)
    ident = EXTENDED | 0x18004000 | data[2] << 16 | data[1]
    return to_line(Frame(ident, data[4:12])) + b"\r"


def test_the_same_set_on_can() -> None:
    serial = decode(Capture(WHOLE)).as_json()
    whole = b"".join(on_can(name) for name in (*SET, "r97", "r98"))
    got = decode(Capture(whole, can=True)).as_json()
    assert got["frames"] == {
        "good": 13,
        "damaged": 0,
        "echoes": 0,
        "wrong_responder": 0,
        "unexpected": 0,
        "unended": 0,
    }
    del got["frames"], serial["frames"]
    assert got == serial


def test_on_can_requests_damage_and_somebody_else() -> None:
    request = b"T1890014080000000000000000\r"
    assert decode(Capture(request, can=True)).error == "only requests in it"
    assert "no frame in it" in str(decode(Capture(b"t1230\r", can=True)).error)
    one = on_can("r90")
    assert decode(Capture(request + one, can=True)).error is None
    assert decode(Capture(one[:-1], can=True)).error == "truncated"
    shared = decode(Capture(b"t1230\r" + one, can=True))
    assert shared.error is None
    assert shared.notes == ["an identifier that daly does not have: 123"]
    assert "too short" in str(decode(Capture(b"T1890400120102\r", can=True)).error)
    assert "slcan" in str(decode(Capture(one[:-4] + b"\r", can=True)).error)
    assert "wrong responder" in str(decode(Capture(one, can=True, node=2)).error)


def said(numbers: list[bytes], can: bool) -> bytes:
    """Frames of cells of board 1, d0..d7 each, as a line or a bus carries them."""
    if can:
        return b"".join(to_line(Frame(EXTENDED | 0x18954001, d)) + b"\r" for d in numbers)
    bodies = [bytes([0xA5, 1, 0x95, 8]) + d for d in numbers]
    return b"".join(body + bytes([sum(body) & 255]) for body in bodies)


def test_where_only_cells_are_said_they_end_with_the_last_that_reads() -> None:
    cells = decode(Capture(WHOLE)).as_json()["cells_mv"]
    for first in (0, 1):
        parts = [frame(f"daly_r95_{n}")[5:12] for n in range(1, 6)]
        parts[4] = parts[4][:4] + bytes(3)  # this board says a 15th voltage, though it has 14
        for more in (0, 11):  # an answer may go on behind the last cell
            numbers = [bytes([first + i]) + d for i, d in enumerate(parts + [bytes(7)] * more)]
            for can in (False, True):
                got = decode(Capture(said(numbers, can), can=can)).as_json()
                assert got["cells_mv"] == cells, (first, more, can)


CELLS = [frame("daly_" + name) for name in ("r95_1", "r95_2", "r95_3", "r95_4", "r95_5")]


def test_cells_stay_where_a_frame_of_them_is_lost_and_it_is_named() -> None:
    whole = decode(Capture(b"".join(CELLS))).values["cells_mv"]
    for lost in range(5):
        data = b"".join(CELLS[:lost] + CELLS[lost + 1 :])
        got = decode(Capture(frame("daly_r94") + data))
        assert got.error == f"frames of cells are missing: {lost + 1} of board 1"
        hidden = range(3 * lost, 3 * lost + 3)
        assert got.values["cells_mv"] == [None if i in hidden else whole[i] for i in range(14)]


def test_a_frame_whose_first_byte_is_damaged_is_counted() -> None:
    for at in range(5):
        frames = list(CELLS)
        frames[at] = b"\xa7" + frames[at][1:]
        got = decode(Capture(b"".join(frames)))
        assert got.frames["damaged"] == 1 and got.error is not None, at
    assert decode(Capture(b"\x01\x02" + b"".join(CELLS))).frames["damaged"] == 0
