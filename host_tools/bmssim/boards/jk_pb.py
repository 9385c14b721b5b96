"""A JK-PB board on RS-485 in trigger mode, written from the protocol's layout.

A write of 0000 to register 1620 is answered by 300 bytes and the write's acknowledgement, in one of
FORMS. 161E asks for the settings, 161C for the device's names.
"""

from collections.abc import Callable

from .kind import Kind
from .serial import SerialBoard, crc16

_ALARMS = {
    "cell_high": 4,
    "cell_low": 11,
    "temp_high": 8,
    "temp_low": 9,
    "current": 13,
    "short_circuit": 14,
    "hardware": 3,
    "other": 10,
}


FORMS: dict[str, Callable[[bytes, bytes, bytes], bytes]] = {
    "zero_between": lambda frame, ack, request: frame + b"\0" + ack,
    "at_once": lambda frame, ack, request: frame + ack,
    "zeros": lambda frame, ack, request: frame + b"\0" + ack + b"\0",
    "in_front": lambda frame, ack, request: ack + frame,
    "echo_between": lambda frame, ack, request: ack + request + frame,
}
_AWAKE_US = 200_000


class JkPbBoard(SerialBoard):
    """See `SerialBoard`. Balancing is on or off; it chooses by itself while that is on.

    Its balancer moves 1 A, which is the simulator's 0.5 A of balancing on two cells. By firmware:
    form: where the acknowledgement stands, one of FORMS; drowsy: answers 1620 only within 200 ms
    after another poll; tells_about: sends the device's names where its settings are polled.
    """

    ANSWER_US = 45_000
    GAP_US = 100_000
    SUMMED = True
    BALANCE_MV = 5  # above its own lowest cell

    balance = True  # as it comes from the factory
    form = "zero_between"
    drowsy = False
    tells_about = False
    _other_us = -1e9  # when the last other poll began

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        for start in range(len(data)):
            if data[start : start + 1] and 1 <= data[start] <= 15:
                if len(data) - start < 7:
                    return (None, start) if start else (None, 0)
                size = 9 + data[start + 6]
                if data[start + 1] == 0x10 and size <= 20:
                    if len(data) - start < size:
                        return (None, start) if start else (None, 0)
                    frame = data[start : start + size]
                    if crc16(frame[:-2]) == frame[-2:]:
                        return frame, start + size
        return None, len(data)

    def answer(self, request: bytes) -> bytes | None:
        if request[0] != self.node:
            return None
        register = int.from_bytes(request[2:4], "big")
        ack = bytes([self.address]) + request[1:6]
        ack += crc16(ack)
        if register == 0x1620:
            if self.drowsy and self.bus.polled_us - self._other_us > _AWAKE_US:
                return None
            self.sample()
            self.balance_mask = self._own_choice() if self.balance else 0
            return FORMS[self.form](self._status(), ack, request)
        self._other_us = self.bus.polled_us
        if register == 0x161E and not self.tells_about:
            return FORMS[self.form](self._settings(), ack, request)
        if register in (0x161E, 0x161C):
            return FORMS[self.form](self._about(), ack, request)
        value = int.from_bytes(request[7:-2], "big")
        if register == 0x1078:
            self.balance = bool(value)
            self.balance_mask = self._own_choice() if value else 0
        elif register == 0x1070:
            self.fets = self.fets & 2 | bool(value)
        elif register == 0x1074:
            self.fets = self.fets & 1 | bool(value) << 1
        else:
            return None
        return ack

    def rebooted(self) -> None:
        super().rebooted()
        self.balance = True

    def beyond(self) -> bool:
        return bool(self.mv) and super().beyond()

    def _own_choice(self) -> int:
        if not self.mv or max(self.mv) - min(self.mv) < self.BALANCE_MV:
            return 0
        first, second = sorted(range(self.cells), key=lambda i: -self.mv[i])[:2]
        return 1 << first | 1 << second

    def _settings(self) -> bytes:
        out = _Frame(1)
        out.put(10, 2700, 4)
        out.put(18, 3650, 4)
        out.put(114, self.cells, 4)
        out.put(130, 50_000, 4)
        out.put(270, self.address, 4)
        return out.whole()

    def _about(self) -> bytes:
        out = _Frame(3)
        for at, text in ((6, "JK_PB2A16S20P"), (22, "15A"), (30, "15.41"), (46, "12345678")):
            out.data[at : at + len(text)] = text.encode()
        return out.whole()

    def _status(self) -> bytes:
        out = _Frame(2)
        for i, mv in enumerate(self.mv):
            out.put(6 + 2 * i, mv)
        out.put(70, (1 << self.cells) - 1, 4)
        out.put(144, self.board_c * 10)
        out.put(150, self.stack_mv, 4)
        for at, i in ((162, 0), (164, 1), (256, 2), (258, 3)):
            dc = self.dc[i] if i < len(self.dc) else -2000
            out.put(at, -2000 if dc is None else dc)
        alarms = 0
        for name in self.alarms:
            alarms |= 1 << _ALARMS[name]
        out.put(166, alarms, 4)
        out.data[172] = 2 if self.balance_mask else 0
        out.data[173] = 80
        out.put(174, 40_000, 4)
        out.put(178, 50_000, 4)
        out.put(182, 3)
        out.data[190] = 100
        out.data[198] = self.fets & 1
        out.data[199] = self.fets >> 1 & 1
        out.data[214] = 1
        for bit, dc in zip((1, 2, 4, 5), self.dc, strict=False):
            out.data[214] |= (dc is not None) << bit
        return out.whole()


class _Frame:
    """300 bytes, little-endian, with a sum."""

    def __init__(self, kind: int) -> None:
        self.data = bytearray(300)
        self.put(0, 0x90EBAA55, 4)
        self.put(4, kind)

    def put(self, at: int, value: int, n: int = 2) -> None:
        self.data[at : at + n] = (value & (1 << 8 * n) - 1).to_bytes(n, "little")

    def whole(self) -> bytes:
        self.data[299] = sum(self.data[:299]) & 0xFF
        return bytes(self.data)


KIND = Kind(
    ("uart",),
    {"uart": 115200},
    JkPbBoard,
    most=15,
    temps=4,
    scan_ms=lambda boards, cells: 175 * boards,
)
