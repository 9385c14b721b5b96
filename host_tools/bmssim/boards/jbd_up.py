"""A JBD-UP rack unit on RS-485, written from the layout of its status block."""

from .kind import Kind
from .serial import SerialBoard, crc16

_PROTECTION = {
    "cell_high": 0,
    "cell_low": 1,
    "temp_high": 10,
    "temp_low": 11,
    "current": 6,
    "short_circuit": 18,
    "hardware": 26,
    "other": 15,
}


class JbdUpUnit(SerialBoard):
    """See `SerialBoard`; it balances as it likes, which isn't simulated."""

    ROOM = True
    ANSWER_US = 50_000
    GAP_US = 50_000

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        for start in range(len(data)):
            word = data[start : start + 10]
            if len(word) < 10:
                return None, start
            if word[1] == 0x78 and crc16(word[:8]) == word[8:]:
                return word, start + 10
        return None, len(data)

    def answer(self, request: bytes) -> bytes | None:
        if request[0] != self.node or request[2:8] != bytes.fromhex("100010A00000"):
            return None
        self.sample()
        data = self._status()
        out = bytes([self.address]) + request[1:6] + len(data).to_bytes(2, "big") + data
        return out + crc16(out)

    def _status(self) -> bytes:
        def word(value: int) -> bytes:
            return (value & 0xFFFF).to_bytes(2, "big")

        protection = sum(1 << _PROTECTION[name] for name in self.alarms)
        fets = (1 if self.fets & 2 else 0) | (2 if self.fets & 1 else 0)
        out = word(self.stack_mv // 10) + word(0) + (300_000).to_bytes(4, "big")
        out += word(8000) + word(4000) + word(5000) + word(5000)
        out += word(self.board_c * 10 + 500) + word(726) + word(0) + word(100)
        out += protection.to_bytes(4, "big") + bytes(4) + word(fets) + word(4) + word(12)
        out = out.ljust(66, b"\0") + word(self.cells) + b"".join(word(mv) for mv in self.mv)
        out += word(self.temps)
        out += b"".join(word(0 if dc is None else dc + 500) for dc in self.dc)
        out += bytes(4) + b"\x0c\x04" + b"JBD-SIM".ljust(30, b"\0") + bytes(14)
        return out + bytes(self.longer)


KIND = Kind(
    ("uart",),
    {"uart": 9600},
    JbdUpUnit,
    most=16,
    balances=False,
    scan_ms=lambda boards, cells: boards * (100 + 1.05 * (160 + 2 * cells)),
)
