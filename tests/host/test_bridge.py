"""SocketCAN behind `bmsctl run`: slcan text becomes frames of Linux, and the other way round."""

import socket
import struct

import pytest

from bms.links.can import BITS, EXTENDED
from bmsctl.bridge import LinkSpec, SocketCanBridge
from bmssim.protocol import Frame
from bmssim.slcan import to_line

# struct can_frame of linux/can.h, and the flags in its identifier
CAN_FRAME = struct.Struct("=IB3x8s")
EFF, RTR, ERR = 0x80000000, 0x40000000, 0x20000000

FRAMES = [
    Frame(0x201, b"\x01\x02"),
    Frame(EXTENDED | 0x18900140, bytes(range(8))),
    Frame(EXTENDED | 0x201, b""),
    Frame(EXTENDED | BITS, b"\xff"),
    Frame(0x7FF, b""),
]


def raw(frame: Frame) -> bytes:
    ident = frame.ident
    if ident & EXTENDED:
        ident = ident & BITS | EFF
    return CAN_FRAME.pack(ident, len(frame.data), frame.data)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch):
    """A bridge, and the bus behind it."""
    bus, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    class Socket:
        def bind(self, address: tuple[str]) -> None:
            assert address == ("can0",)

        def __getattr__(self, name: str) -> object:
            return getattr(ours, name)

    monkeypatch.setattr("bmsctl.bridge.socket.socket", lambda *args: Socket())
    bridge = SocketCanBridge(LinkSpec("socketcan", "can0", 0))
    yield bridge, bus
    bridge.close()
    bus.close()


def test_frames_to_the_bus(pair: tuple[SocketCanBridge, socket.socket]) -> None:
    bridge, bus = pair
    text = b"\r\rC\rS6\rO\r" + b"".join(to_line(f) + b"\r" for f in FRAMES)
    for k in range(0, len(text), 7):  # in pieces
        bridge.write(text[k : k + 7])
    assert [bus.recv(100) for _ in FRAMES] == [raw(f) for f in FRAMES]


def test_frames_from_the_bus(pair: tuple[SocketCanBridge, socket.socket]) -> None:
    bridge, bus = pair
    for f in FRAMES:
        bus.send(raw(f))
        for flags in (RTR, EFF | RTR, ERR, ERR | EFF):  # none of them is a data frame
            bus.send(CAN_FRAME.pack(flags | f.ident & 0x7FF, 0, b""))
    assert bridge.read() == b"".join(to_line(f) + b"\r" for f in FRAMES)
    assert bridge.read() == b""
