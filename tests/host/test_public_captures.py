"""`bmsctl decode` on bytes that others have published: each holds what its source says it holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from bmsctl.decoders import decoder
from bmsctl.decoders.base import Capture
from bmssim.protocol import EXTENDED, Frame
from bmssim.slcan import to_line

CAPTURES = json.loads((Path(__file__).parents[1] / "data" / "public_captures.json").read_text())


def capture_of(case: dict[str, Any]) -> Capture:
    """The bytes of a case, or the frames of its candump lines."""
    if "hex" in case:
        return Capture(bytes.fromhex(case["hex"]))
    lines = b""
    for text in case["candump"]:
        ident, data = text.split("#")
        flag = EXTENDED if len(ident) > 3 else 0
        lines += to_line(Frame(int(ident, 16) | flag, bytes.fromhex(data))) + b"\r"
    return Capture(lines, can=True)


@pytest.mark.parametrize("case", CAPTURES, ids=[f"{c['kind']}: {c['source']}" for c in CAPTURES])
def test_what_others_published_comes_out_as_they_say(case: dict[str, Any]) -> None:
    got = decoder(case["kind"]).decode(capture_of(case)).as_json()
    for key, value in case["expect"].items():
        if key == "t1" or key == "t2":
            assert got["temps_dc"][int(key[1]) - 1] == value
        elif key == "has_alarm":
            assert bool(got["alarms"]) == value
        elif key == "no_cell_above":
            assert all(mv is None or mv <= value for mv in got["cells_mv"])
        else:
            assert got[key] == value, key
