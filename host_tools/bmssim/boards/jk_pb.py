"""A JK-PB board on RS-485 in trigger mode, written from the protocol's layout.

A write of 0000 to register 1620 is answered by 300 bytes, 00, and the write's acknowledgement.
"""

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


class JkPbBoard(SerialBoard):
    """See `SerialBoard`. Balancing is on or off; it chooses by itself while that is on.

    Its balancer moves 1 A, which is the simulator's 0.5 A of balancing on two cells.
    """

    ANSWER_US = 45_000
    GAP_US = 100_000
    SUMMED = True
    BALANCE_MV = 5  # above its own lowest cell

    balance = True  # as it comes from the factory

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
            self.sample()
            self.balance_mask = self._own_choice() if self.balance else 0
            return self._status() + bytes(1) + ack
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

    def _status(self) -> bytes:
        out = bytearray(300)
        out[:6] = b"\x55\xaa\xeb\x90\x02\x00"

        def put(at: int, value: int, n: int = 2) -> None:
            out[at : at + n] = (value & (1 << 8 * n) - 1).to_bytes(n, "little")

        for i, mv in enumerate(self.mv):
            put(6 + 2 * i, mv)
        put(70, (1 << self.cells) - 1, 4)
        put(144, self.board_c * 10)
        put(150, self.stack_mv, 4)
        for at, i in ((162, 0), (164, 1), (256, 2), (258, 3)):
            dc = self.dc[i] if i < len(self.dc) else -2000
            put(at, -2000 if dc is None else dc)
        alarms = 0
        for name in self.alarms:
            alarms |= 1 << _ALARMS[name]
        put(166, alarms, 4)
        out[172] = 2 if self.balance_mask else 0
        out[173] = 80
        put(174, 40_000, 4)
        put(178, 50_000, 4)
        put(182, 3)
        out[190] = 100
        out[198] = self.fets & 1
        out[199] = self.fets >> 1 & 1
        out[299] = sum(out[:299]) & 0xFF
        return bytes(out)


KIND = Kind(
    ("uart",),
    {"uart": 115200},
    JkPbBoard,
    most=15,
    temps=4,
    scan_ms=lambda boards, cells: 175 * boards,
)
