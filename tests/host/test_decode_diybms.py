"""`bmsctl decode diybms`: packets as they come back, as they were sent, and broken ones."""

from bmsctl.decoders.base import Capture
from bmsctl.decoders.diybms import decode
from bmssim.boards.diybms import _crc, _wire

# the documented example: read voltage of 0-15, sequence 1
REQUEST = _wire(bytes([0, 15, 1, 0, 1, 0]) + bytes(32) + b"\x68\x8a")


def packet(command: int, words: list[int], hops: int = 3, start: int = 0, end: int = 15) -> bytes:
    body = bytes([start, end, command, hops, 1, 0])
    body += b"".join(word.to_bytes(2, "little") for word in words + [0] * (16 - len(words)))
    return _wire(body + _crc(body))


def test_the_documented_request() -> None:
    assert REQUEST.startswith(bytes.fromhex("AA000F010001")) and REQUEST.endswith(b"\x68\x8a")
    assert decode(Capture(REQUEST)).error == "only requests in it"


def test_voltages_and_temperatures() -> None:
    voltages = packet(0x81, [3301, 0x8000 | 3302, 3303])
    got = decode(Capture(REQUEST + voltages + packet(0x83, [70 << 8 | 65, 70 << 8 | 66, 70 << 8])))
    assert got.error is None
    assert got.values["modules"] == 3 and got.values["boards"] == [1]
    assert got.values["cells_mv"] == [3301, 3302, 3303]
    assert got.values["temps_dc"] == [250, 260]
    assert got.values["pack_mv"] == 3301 + 3302 + 3303


def test_a_threshold_of_zero_is_one() -> None:
    settings = [packet(0x85, [0] * 7 + [mv], start=i, end=i) for i, mv in ((0, 4100), (1, 0))]
    got = decode(Capture(packet(0x81, [3301, 3302, 3303]) + b"".join(settings)))
    assert got.values["thresholds_mv"][:3] == [4100, 0, None]


def test_what_is_broken_is_refused() -> None:
    whole = packet(0x81, [3301, 3302, 3303])
    assert decode(Capture(whole[:-1])).error == "truncated"
    broken = bytearray(whole)
    broken[8] ^= 1
    assert decode(Capture(bytes(broken))).error == "wrong checksum"
    assert "not in the ring" in str(decode(Capture(packet(1, [], 3, 16, 31))).error)
    assert "no packet" in str(decode(Capture(b"hello")).error)
