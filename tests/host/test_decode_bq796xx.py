"""`bmsctl decode bq796xx`: TI's words come out as what they are, answers as readings."""

import json
from pathlib import Path

import numpy as np

from bmsctl.decoders.base import Capture
from bmsctl.decoders.bq796xx import decode
from bmssim.boards.bq796xx import BPS, Bq79616, crc16
from bmssim.bus import Noise, UartBus
from bmssim.events import Events

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())
WORDS = {
    "bq_doc_read": "read of one 0: 020f 12 bytes",
    "bq_dll_sync": "write to all: 034c 00",
    "bq_autoaddr": "write to all: 0309 01",
    "bq_addr0": "write to all: 0306 00",
    "bq_addr1": "write to all: 0306 01",
    "bq_addr2": "write to all: 0306 02",
    "bq_allstack": "write to all: 0308 02",
    "bq_base": "write to one 0: 0308 00",
    "bq_top2": "write to one 2: 0308 03",
    "bq_dummyread": "read of all: 034c 1 bytes",
    "bq600_wake": "write to one 0: 0309 20",
}


def answer(device: int, register: int, data: bytes) -> bytes:
    head = bytes([len(data) - 1, device]) + register.to_bytes(2, "big")
    return head + data + crc16(head + data)


def cells(device: int, mv: list[int]) -> bytes:
    raw = [round(v / 0.19073) for v in mv] + [0] * (16 - len(mv))
    return answer(device, 0x0568, b"".join(w.to_bytes(2, "big") for w in reversed(raw)))


def test_ti_s_words() -> None:
    for name, text in WORDS.items():
        got = decode(Capture(bytes.fromhex(FRAMES[name]["hex"])))
        assert got.error is None and got.values["words"] == [text], name


def test_a_stack_answers_the_far_end_first() -> None:
    capture = bytes.fromhex("A005681F5C2D") + cells(2, [3400] * 16) + cells(1, [3300] * 14)
    got = decode(Capture(capture))
    assert got.error is None
    assert got.values["boards"] == [1, 2]
    assert got.values["cells_mv"] == [3300] * 14 + [3400] * 16
    assert got.values["words"] == ["read of the stack: 0568 32 bytes"]


def test_what_is_broken_is_refused() -> None:
    whole = cells(1, [3300] * 16)
    assert decode(Capture(whole[:-1])).error is not None
    broken = bytearray(whole)
    broken[9] ^= 4
    assert decode(Capture(bytes(broken))).error is not None
    assert decode(Capture(b"hello")).error == "neither a word nor an answer in it"


def test_a_simulated_device_answers_when_it_alone_is_polled() -> None:
    events = Events()
    rng = np.random.default_rng(1)
    bus = UartBus(events, BPS, Noise(rng))
    measure = lambda: (np.full(16, 3.3), np.full(2, 25.0))  # noqa: E731
    stack = [Bq79616(events, bus, n, 16, 2, measure, rng) for n in (1, 2)]
    stack[0].on_low()
    for word in ("90000309201395", "D00309010F74", "D0030600CB44", "D00306010A84", "D00306024A85"):
        assert stack[0].answer(bytes.fromhex(word)) is None
    for address, device in ((1, 1), (2, 2), (3, None)):
        word = bytes([0x80, address, 0x03, 0x06, 0x00])
        want = None if device is None else answer(device, 0x0306, bytes([device]))
        assert stack[0].answer(word + crc16(word)) == want
