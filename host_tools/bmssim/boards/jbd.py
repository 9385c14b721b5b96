"""A JBD board on its own port, written from the protocol's layout.

`DD A5 reg 00 ck ck 77` in, `DD reg status len data ck ck 77` out, big-endian.
"""

from .kind import Kind
from .serial import SerialBoard

_BASIC, _CELLS, _NAME, _FETS = 0x03, 0x04, 0x05, 0xE1
# what it reports, by the names of `bms.slaves.base.ALARMS`: bits of the protection word
_PROTECTION = {
    "cell_high": 0,
    "cell_low": 1,
    "temp_high": 4,
    "temp_low": 5,
    "current": 9,
    "short_circuit": 10,
    "hardware": 11,
}
_OPEN_K = 0  # 0.1 K that an open thermistor reads


class JbdBoard(SerialBoard):
    """See `SerialBoard`; it balances as it likes, which isn't simulated."""

    ROOM = True
    ANSWER_US = 20_000
    GAP_US = 20_000
    SUMMED = True

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        start = data.find(b"\xdd")
        if start:
            return None, len(data) if start < 0 else start
        if len(data) < 4:
            return None, 0
        size = data[3] + 7
        if len(data) < size:
            return None, 0
        frame = data[:size]
        check = -sum(frame[2:-3]) & 0xFFFF
        if frame[-1] != 0x77 or frame[1] not in (0xA5, 0x5A):
            return None, 1
        if frame[-3:-1] != check.to_bytes(2, "big"):
            return None, 1
        return frame, size

    def answer(self, request: bytes) -> bytes | None:
        register = request[2]
        if request[1] == 0x5A:
            if register != _FETS or request[3] != 2:
                return _reply(register, b"", 0x80)
            self.fets = ~request[5] & 3
            return _reply(register, b"")
        self.sample()
        if register == _CELLS:
            return _reply(register, b"".join(mv.to_bytes(2, "big") for mv in self.mv))
        if register == _BASIC:
            return _reply(register, self._basic())
        if register == _NAME:
            return _reply(register, b"JBD-SIM")
        return _reply(register, b"", 0x80)

    def _basic(self) -> bytes:
        protection = 0
        for name in self.alarms:
            protection |= 1 << _PROTECTION[name]
        out = (self.stack_mv // 10).to_bytes(2, "big") + bytes(2)
        out += (4000).to_bytes(2, "big") + (5000).to_bytes(2, "big") + bytes(2)
        out += (22 << 9 | 3 << 5 | 28).to_bytes(2, "big") + bytes(4)
        out += protection.to_bytes(2, "big") + bytes([0x80, 80, self.fets, self.cells, self.temps])
        for dc in self.dc:
            out += (_OPEN_K if dc is None else dc + 2731).to_bytes(2, "big")
        return out + bytes(self.longer)


def _reply(register: int, data: bytes, status: int = 0) -> bytes:
    body = bytes([status, len(data)]) + data
    check = (-sum(body) & 0xFFFF).to_bytes(2, "big")
    return bytes([0xDD, register]) + body + check + b"\x77"


KIND = Kind(
    ("uart",),
    {"uart": 9600},
    JbdBoard,
    most=1,
    balances=False,
    scan_ms=lambda boards, cells: 120 + 2.1 * cells + 30,
)
