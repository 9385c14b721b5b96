"""Lines carry bits at their rate, arbitrate, collide and are damaged as said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms.links.can import BITS, EXTENDED
from bmssim import protocol as p
from bmssim.adapter import SlcanAdapter
from bmssim.bus import CanBus, Noise, UartBus, rank
from bmssim.canbits import frame_bits
from bmssim.events import Events
from bmssim.protocol import Frame


def bits_one_by_one(ident: int, data: bytes) -> int:
    """ISO 11898-1 by its words: build the frame, add the CRC, stuff after five equal bits."""
    if ident & EXTENDED:
        bits = [0] + [ident >> k & 1 for k in range(28, 17, -1)] + [1, 1]
        bits += [ident >> k & 1 for k in range(17, -1, -1)] + [0, 0, 0]
    else:
        bits = [0] + [ident >> k & 1 for k in range(10, -1, -1)] + [0, 0, 0]
    bits += [len(data) >> k & 1 for k in (3, 2, 1, 0)]
    bits += [byte >> k & 1 for byte in data for k in range(7, -1, -1)]
    crc = 0
    for bit in bits:
        top = bit ^ (crc >> 14)
        crc = (crc << 1) & 0x7FFF
        if top:
            crc ^= 0x4599
    bits += [crc >> k & 1 for k in range(14, -1, -1)]
    sent, run, last = 0, 0, None
    for bit in bits:
        sent += 1
        run = run + 1 if bit == last else 1
        last = bit
        if run == 5:
            sent, last, run = sent + 1, 1 - bit, 1
    return sent + 13


idents = st.integers(0, 0x7FF) | st.integers(EXTENDED, EXTENDED | BITS)


@given(idents, st.binary(max_size=8))
def test_frame_bits(ident: int, data: bytes) -> None:
    assert frame_bits(ident, data) == bits_one_by_one(ident, data)


@pytest.mark.parametrize("data", [bytes(8), b"\xff" * 8, b"\xf0" * 8, b""])
def test_frame_bits_where_stuffing_is_worst(data: bytes) -> None:
    for ident in (0, 0x7FF, 0x41, 0x20F, EXTENDED, EXTENDED | BITS, EXTENDED | 0x18900140):
        assert frame_bits(ident, data) == bits_one_by_one(ident, data)


def test_a_frame_with_29_bits_takes_20_more() -> None:
    # identifiers and data in which nothing is stuffed but in the CRC: at most 5 of its 15 bits
    data = b"\x55" * 8
    short = frame_bits(0x555, data)
    long = frame_bits(EXTENDED | 0x15555555, data)
    assert 19 + 64 + 15 + 13 <= short <= 19 + 64 + 15 + 13 + 5
    assert 39 + 64 + 15 + 13 <= long <= 39 + 64 + 15 + 13 + 5


@given(idents, idents)
def test_who_wins_the_bus(one: int, two: int) -> None:
    def sent(ident: int) -> list[int]:
        # identifier, RTR, IDE; or base, SRR, IDE, the rest, RTR
        if ident & EXTENDED:
            base = [ident >> k & 1 for k in range(28, 17, -1)]
            return base + [1, 1] + [ident >> k & 1 for k in range(17, -1, -1)] + [0]
        return [ident >> k & 1 for k in range(10, -1, -1)] + [0, 0]

    # the first bit that differs decides: the dominant one, 0, stays
    assert (rank(one) < rank(two)) == (sent(one) < sent(two))


def test_a_standard_frame_wins_against_an_extended_one_with_its_bits() -> None:
    events, bus, a, b = can()
    order = [0x123, EXTENDED | 0x123 << 18, EXTENDED | 0x123 << 18 | 1, 0x124, EXTENDED | BITS]
    bus.send(Frame(0x7FF, b""), a)  # keeps the bus while the others come
    for ident in reversed(order):
        bus.send(Frame(ident, b"x"), a)
    while events.run_next(10_000):
        pass
    assert [f.ident for f in b.got[1:]] == order


@pytest.mark.parametrize("ident", [0x201, EXTENDED | 0x18900140])
def test_noise_damages_frames_of_both_kinds(ident: int) -> None:
    noise = Noise(np.random.default_rng(2), 1.0)
    frame = Frame(ident, bytes(range(8)))
    flipped = lost = 0
    for _ in range(2000):
        got = noise.frame(frame)
        if got is None:
            lost += 1
            continue
        assert got != frame
        assert got.ident & EXTENDED == ident & EXTENDED
        assert got.ident <= (EXTENDED | BITS if ident & EXTENDED else 0x7FF)
        assert len(got.data) == 8
        flipped |= got.ident ^ ident
    assert 500 < lost < 800
    assert flipped == (BITS if ident & EXTENDED else 0x7FF)  # every bit of it, some time


def test_an_adapter_carries_both_kinds() -> None:
    events, bus, _a, b = can()
    said = b""

    def deliver(data: bytes) -> None:
        nonlocal said
        said += data

    adapter = SlcanAdapter(events, bus, deliver, Noise(np.random.default_rng(1)))
    adapter.on_bytes(b"O\rt2012AABB\rT189001403010203\r")
    while events.run_next(10_000):
        pass
    assert b.got == [Frame(0x201, b"\xaa\xbb"), Frame(EXTENDED | 0x18900140, b"\1\2\3")]
    assert said == b"\rz\rZ\r"
    bus.send(b.got[1], b)
    bus.send(b.got[0], b)
    while events.run_next(20_000):
        pass
    assert said == b"\rz\rZ\rT189001403010203\rt2012AABB\r"


def test_an_extended_frame_is_none_of_the_cell_link() -> None:
    for function in range(32):
        assert Frame(EXTENDED | function << 6 | 3, b"").function == -1
        assert Frame(EXTENDED | function << 24 | 3, b"").function == -1


class Node:
    def __init__(self) -> None:
        self.got: list[Frame] = []
        self.sent: list[Frame] = []

    def on_sent(self, frame: Frame) -> None:
        self.sent.append(frame)

    def on_frame(self, frame: Frame) -> None:
        self.got.append(frame)


def can(rate: float = 0.0) -> tuple[Events, CanBus, Node, Node]:
    events = Events()
    bus = CanBus(events, 500_000, Noise(np.random.default_rng(1), rate))
    a, b = Node(), Node()
    bus.attach(a)
    bus.attach(b)
    return events, bus, a, b


def test_the_lowest_id_wins_and_frames_follow_each_other() -> None:
    events, bus, a, b = can()
    frames = [Frame(ident, bytes(8)) for ident in (0x300, 0x200, 0x100)]
    for frame in frames:
        bus.send(frame, a)
    while events.run_next(10_000):
        pass
    assert [f.ident for f in b.got] == [0x300, 0x100, 0x200]  # the first one had begun
    assert a.got == []
    assert a.sent == b.got
    assert b.sent == []
    us = sum(frame_bits(f.ident, f.data) * 2 for f in frames)
    assert bus.usage.busy_us == us


def test_damage_hits_its_share_and_is_never_a_good_cell_frame() -> None:
    events, bus, a, b = can(0.25)
    frame = p.cells_frame(3, 1, [3300, 3301, 3302, 3303], 5)
    for _ in range(4000):
        bus.send(frame, a)
    while events.run_next(10_000_000):
        pass
    other = [f for f in b.got if f != frame]
    assert 800 < bus._noise.hits < 1200
    assert len(other) > 500
    assert not any(p.checksum_is_good(f) for f in other)


def test_uart_takes_ten_bits_a_byte_and_two_talkers_destroy_each_other() -> None:
    events = Events()
    bus = UartBus(events, 1_000_000, Noise(np.random.default_rng(1)))
    received: list[tuple[int, bytes]] = []
    bus.to_master = lambda data, last: received.append((events.now_us, data))
    frame = p.cells_frame(1, 0, [3300] * 4, 1)
    data = p.uart_encode(frame)

    class Board:
        def on_bytes(self, data: bytes) -> None: ...
        def on_low(self) -> None: ...

    one, two = Board(), Board()
    bus.from_board(frame, data, one, True)
    while events.run_next(1000):
        pass
    assert received == [(len(data) * 10, data)]
    bus.from_board(frame, data, one, True)
    bus.from_board(frame, data, two, True)
    while events.run_next(3000):
        pass
    assert bus.collisions == 1
    assert p.uart_decode(received[-1][1].rstrip(b"\0")) is None


def test_crc8_check_value() -> None:
    assert p.crc8(b"123456789") == 0x4B  # SAE J1850, catalogue of parametrised CRCs
    assert p.checksummed(0x3132 >> 6, 0x32, b"3456789").data[-1] == 0x4B
