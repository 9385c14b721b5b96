"""A Pylontech pack on RS-485, written from the layout of its ASCII frames."""

from .kind import Kind
from .serial import SerialBoard


def frame(address: int, code: int, info: bytes) -> bytes:
    """`~ 20 ADR 46 code LENGTH INFO CHKSUM CR`."""
    n = 2 * len(info)
    nibbles = (n >> 8) + (n >> 4 & 15) + (n & 15)
    length = (-nibbles & 15) << 12 | n
    body = f"20{address:02X}46{code:02X}{length:04X}{info.hex().upper()}".encode()
    return b"~" + body + f"{-sum(body) & 0xFFFF:04X}\r".encode()


class PylontechPack(SerialBoard):
    """See `SerialBoard`; its first temperature is the board's. It balances as it likes, which
    isn't simulated; its FETs follow its own alarms.
    """

    ROOM = True
    ANSWER_US = 30_000
    GAP_US = 10_000
    SUMMED = True

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        start = data.rfind(b"~")
        if start < 0:
            return None, len(data)
        end = data.find(b"\r", start)
        if end < 0:
            return None, start
        word = data[start : end + 1]
        if len(word) < 18 or f"{-sum(word[1:-5]) & 0xFFFF:04X}".encode() != word[-5:-1]:
            return None, end + 1
        return word, end + 1

    def answer(self, request: bytes) -> bytes | None:
        if int(request[3:5], 16) != self.node:
            return None
        command = int(request[7:9], 16)
        self.sample()
        if command == 0x42:
            return frame(self.address, 0, self._readings())
        if command == 0x44:
            return frame(self.address, 0, self._alarms())
        return frame(self.address, 4, b"")

    def _readings(self) -> bytes:
        def word(value: int) -> bytes:
            return (value & 0xFFFF).to_bytes(2, "big")

        out = bytes([0x11, self.node, self.cells]) + b"".join(word(mv) for mv in self.mv)
        temps = [self.board_c * 10, *self.dc]
        out += bytes([len(temps)])
        out += b"".join(word(0 if dc is None else dc + 2731) for dc in temps)
        out += word(0) + word(self.stack_mv) + word(0xFFFF) + b"\x04" + word(0xFFFF) + word(2)
        return out + (40_000).to_bytes(3, "big") + (50_000).to_bytes(3, "big") + bytes(self.longer)

    def _alarms(self) -> bytes:
        cells = bytearray(self.cells)
        if "cell_high" in self.alarms:
            cells[0] = 2
        if "cell_low" in self.alarms:
            cells[0] = 1
        temps = bytearray(self.temps + 1)
        if "temp_high" in self.alarms:
            temps[-1] = 2
        out = bytes([0x11, self.node, self.cells]) + cells + bytes([len(temps)]) + temps
        current = 2 if "current" in self.alarms else 0
        fets = (2 if self.fets & 1 else 0) | (4 if self.fets & 2 else 0)
        return out + bytes([0, 0, current, 0, fets, 0, 0, 0])


KIND = Kind(
    ("uart",),
    {"uart": 115_200},
    PylontechPack,
    most=15,
    first=2,
    temps=15,
    balances=False,
    scan_ms=lambda boards, cells: boards * (90 + (180 + 6 * cells) * 0.087),
)
