"""`bmsctl decode` on frames that are good by their check and hold anything: it never fails itself.

The answers are those of simulated boards, with other bytes and more of them, and a check that fits.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_replies import SERIAL, conversation, sizes

from bmsctl.decoders import decoder
from bmsctl.decoders.base import Capture, Stream, apart, driver_class
from bmssim.boards.pylontech import frame
from extent import extent


def rechecked(kind: str, answer: bytes) -> bytes:
    """The answer with a check that fits its bytes."""
    data = bytearray(answer)
    if kind == "jk_pb":
        data[299] = sum(data[:299]) & 0xFF
        return bytes(data)
    link: Any = driver_class(kind).frame(Stream())
    if hasattr(link, "_check"):
        link._check(data, 0, len(data), True)
    return bytes(data)


def changed(kind: str, answer: bytes, data: st.DataObject) -> bytes:
    """Some bytes of an answer replaced; Pylontech's may go on behind their end."""
    if kind == "pylontech":
        info = bytearray.fromhex(answer[13:-5].decode())
        for _ in range(data.draw(st.integers(0, 3))):
            info[data.draw(st.integers(0, len(info) - 1))] = data.draw(st.integers(0, 255))
        info += data.draw(st.binary(max_size=40))
        return frame(int(answer[3:5], 16), 0, bytes(info))
    out = bytearray(answer)
    for _ in range(data.draw(st.integers(0, 3))):
        out[data.draw(st.integers(4, len(out) - 1))] = data.draw(st.integers(0, 255))
    return rechecked(kind, bytes(out))


@pytest.mark.parametrize("kind", SERIAL)
@settings(max_examples=extent(60, 400))
@given(data=st.data())
def test_whatever_a_good_frame_holds_decode_answers(kind: str, data: st.DataObject) -> None:
    cells, temps = sizes(kind)
    said = conversation(kind, [3300] * cells, [250] * temps, "at_once")
    capture = Capture(b"".join(changed(kind, answer, data) for answer in said.answers))
    decode = decoder(kind).decode
    out = decode(capture)
    apart(decode, capture, out)
    json.dumps(out.as_json())
