"""A JK board of the B series on its GPS port, written from the protocol's layout.

`4E57 len id(4) cmd src type info record(4) 68 0000 sum`, big-endian, fields of a code and a value.
"""

from .kind import Kind
from .serial import SerialBoard

_ALARMS = {
    "cell_high": 10,
    "cell_low": 11,
    "temp_high": 4,
    "temp_low": 9,
    "current": 6,
    "hardware": 12,
    "other": 0,
}


class JkTtlBoard(SerialBoard):
    """See `SerialBoard`. Balancing is on or off; it chooses by itself while that is on.

    Its balancer moves 1 A, which is the simulator's 0.5 A of balancing on two cells.

    unlocked: the password was sent since the last write.
    """

    ROOM = True
    ANSWER_US = 20_000
    GAP_US = 100_000
    SUMMED = True
    BALANCE_MV = 10  # above its own lowest cell

    unlocked = False
    balance = True  # as it comes from the factory

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        start = data.find(b"\x4e\x57")
        if start < 0:
            return None, len(data) - (data[-1:] == b"\x4e")
        if start:
            return None, start
        if len(data) < 4:
            return None, 0
        size = int.from_bytes(data[2:4], "big") + 2
        if not 20 <= size <= 300:
            return None, 2
        if len(data) < size:
            return None, 0
        frame = data[:size]
        if sum(frame[:-4]) & 0xFFFF != int.from_bytes(frame[-2:], "big") or frame[-5] != 0x68:
            return None, 2
        return frame, size

    def answer(self, request: bytes) -> bytes | None:
        command, fields = request[8], request[11:-9]
        if request[10] != 0:
            return None
        if command == 0x05:
            self.unlocked = fields.startswith(b"\xb2123456")
            return _frame(command, b"")
        if command == 0x02:
            if self.unlocked:
                self._write(fields)
            self.unlocked = False
            return _frame(command, fields[:1])
        if command != 0x06:
            return None
        self.sample()
        self.balance_mask = self._own_choice() if self.balance else 0
        return _frame(command, self._fields())

    def rebooted(self) -> None:
        super().rebooted()
        self.balance = True
        self.unlocked = False

    def _write(self, fields: bytes) -> None:
        code, value = fields[0], fields[1]
        if code == 0x9D:
            self.balance = bool(value)
            self.balance_mask = self._own_choice() if value else 0
        elif code == 0xAB:
            self.fets = self.fets & 2 | (value & 1)
        elif code == 0xAC:
            self.fets = self.fets & 1 | (value & 1) << 1

    def _own_choice(self) -> int:
        if not self.mv or max(self.mv) - min(self.mv) < self.BALANCE_MV:
            return 0
        first, second = sorted(range(self.cells), key=lambda i: -self.mv[i])[:2]
        return 1 << first | 1 << second

    def step_dc(self, dc: int) -> int:
        return round(dc / 10) * 10

    def _fields(self) -> bytes:
        cells = b"".join(bytes([i + 1]) + mv.to_bytes(2, "big") for i, mv in enumerate(self.mv))
        out = bytes([0x79, len(cells)]) + cells
        out += b"\x80" + _degrees(self.board_c * 10)
        for i in range(2):
            dc = self.dc[i] if i < len(self.dc) else 250
            out += bytes([0x81 + i]) + _degrees(dc)
        out += b"\x83" + (self.stack_mv // 10).to_bytes(2, "big")
        out += b"\x84\x00\x00\x85\x50\x86\x02\x87\x00\x04\x89\x00\x00\x00\x00"
        out += b"\x8a" + self.cells.to_bytes(2, "big")
        alarms = 0
        for name in self.alarms:
            alarms |= 1 << _ALARMS[name]
        out += b"\x8b" + alarms.to_bytes(2, "big")
        out += b"\x8c" + (self.fets | 4 * self.balance).to_bytes(2, "big")
        for code in range(0x8E, 0xA9):
            out += bytes([code, 1]) if code == 0x9D else bytes([code, 0, 1])
        out += b"\xa9" + bytes([self.cells]) + b"\xaa" + (50).to_bytes(4, "big")
        out += b"\xab\x01\xac\x01\xad\x04\x11\xae\x01\xaf\x01\xb0\x00\x0a\xb1\x14"
        out += b"\xb2123456\0\0\0\0\xb3\x00\xb4Input Us\xb52101\xb6\x00\x00\xe2\x00"
        out += b"\xb7H6.X__S6.1.3S__\xb8\x00\xb9\x00\x00\x00\x00\xbaBT3072020120000200521001"
        return out + b"\xc0\x01" + b"\xb8\x00" * self.longer


def _degrees(dc: int | None) -> bytes:
    degrees = -40 if dc is None else round(dc / 10)
    return (degrees if degrees >= 0 else 100 - degrees).to_bytes(2, "big")


def _frame(command: int, fields: bytes) -> bytes:
    body = bytes(4) + bytes([command, 0, 1]) + fields + bytes(4) + b"\x68"
    head = b"\x4e\x57" + (len(body) + 6).to_bytes(2, "big")
    return head + body + b"\0\0" + (sum(head + body) & 0xFFFF).to_bytes(2, "big")


KIND = Kind(
    ("uart",),
    {"uart": 115200},
    JkTtlBoard,
    most=1,
    temps=2,
    scan_ms=lambda boards, cells: 150 + 0.26 * cells,
)
