"""`bmsctl decode tesla_s`: the documented words come out as what they are."""

import json
from pathlib import Path

from bms.kernels.slave_checksums import crc8
from bmsctl.decoders.base import Capture
from bmsctl.decoders.tesla_s import decode

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())
WORDS = {
    "tesla_reset": "write to all: reset A5",
    "tesla_setaddr1": "write to 0: address 81",
    "tesla_baltime_a1": "write to 1: balance timer 82",
    "tesla_bal12_a1": "write to 1: balance 03",
    "tesla_adcctl_a1": "write to 1: ADC control 3D",
    "tesla_ioctl_a1": "write to 1: IO control 03",
    "tesla_conv_a1": "write to 1: convert 01",
}


def sample(node: int, mv: int) -> bytes:
    words = [round(6 * mv * 16383 / 33333)] + [round(mv * 16383 / 6250)] * 6 + [4337, 4337]
    body = bytes([node << 1, 1, 18]) + b"".join(w.to_bytes(2, "big") for w in words)
    return body + bytes([crc8(body, 0, len(body))])


def test_documented_words() -> None:
    for name, text in WORDS.items():
        got = decode(Capture(bytes.fromhex(FRAMES[name]["hex"])))
        assert got.error is None and got.values["words"] == [text], name


def test_a_module_without_an_address() -> None:
    got = decode(Capture(bytes.fromhex("0000018000016135")))
    assert got.error is None and got.values["words"] == ["read of 0: status 1 bytes"]


def test_samples_of_two_modules() -> None:
    got = decode(Capture(b"\x02\x01\x12" + sample(1, 3700) + b"\x04\x01\x12" + sample(2, 4100)))
    assert got.error is None and got.values["boards"] == [1, 2]
    assert got.values["cells_mv"] == [3700] * 6 + [4100] * 6
    assert all(240 <= dc <= 260 for dc in got.values["temps_dc"])


def test_what_is_broken_is_refused() -> None:
    whole = sample(1, 3700)
    broken = bytearray(whole)
    broken[8] ^= 4
    for data in (bytes(broken), whole[:-1]):
        got = decode(Capture(data))
        assert got.error is not None and not got.values["cells_mv"]
    assert decode(Capture(b"\xff\xff")).error is not None
