"""`bmsctl decode daly`: the captured frames come out as their notes say."""

import json
from pathlib import Path

from bmsctl.decoders.base import Capture
from bmsctl.decoders.daly import decode

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
