"""A Daly board on UART or RS-485, written from the protocol's layout: 13 bytes `A5 addr cmd 08 ..`.

Frames of cells are numbered from 1, as captured ones are, or from `first`.
"""

from .serial import SerialBoard

# (byte, bit) of the alarm frame
_ALARMS = {
    "cell_high": (0, 1),
    "cell_low": (0, 3),
    "temp_high": (1, 5),
    "temp_low": (1, 7),
    "current": (2, 3),
    "short_circuit": (6, 2),
    "hardware": (5, 0),
    "other": (2, 4),
}


class DalyBoard(SerialBoard):
    """See `SerialBoard`; it balances as it likes, which isn't simulated."""

    ANSWER_US = 20_000
    GAP_US = 20_000
    SUMMED = True

    first = 1
    command = 0  # that it answered last

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        start = data.find(b"\xa5")
        if start:
            return None, len(data) if start < 0 else start
        if len(data) < 13:
            return None, 0
        frame = data[:13]
        if sum(frame[:12]) & 0xFF != frame[12] or frame[3] != 8:
            return None, 1
        return frame, 13

    def answer(self, request: bytes) -> bytes | None:
        if request[1] != 0x40 + self.node - 1:
            return None
        command = self.command = request[2]
        if command == 0x95:
            self.sample()
            cells = [*self.mv, *([0] * (-self.cells % 3))]
            parts = [cells[i : i + 3] for i in range(0, len(cells), 3)]
            return b"".join(
                self._frame(
                    command,
                    bytes([self.first + n]) + b"".join(mv.to_bytes(2, "big") for mv in part),
                )
                for n, part in enumerate(parts)
            )
        if command == 0x96:
            self.sample()
            raw = bytes(0 if dc is None else dc // 10 + 40 for dc in self.dc) or b"\x41"
            parts_raw = [raw[i : i + 7] for i in range(0, len(raw), 7)]
            return b"".join(
                self._frame(command, bytes([self.first + n]) + part)
                for n, part in enumerate(parts_raw)
            )
        if command == 0x90:
            decivolts = (self.stack_mv + 50) // 100 if self.mv else 0
            words = (decivolts, 0, 30000, 800)
            return self._frame(command, b"".join(w.to_bytes(2, "big") for w in words))
        if command == 0x93:
            fets = bytes([0, self.fets & 1, self.fets >> 1, 0])
            return self._frame(command, fets + (20_000).to_bytes(4, "big"))
        if command == 0x94:
            return self._frame(command, bytes([self.cells, self.temps, 0, 0, 0, 0, 7]))
        if command == 0x97:
            return self._frame(command, bytes(6))
        if command == 0x98:
            out = bytearray(8)
            for name in self.alarms:
                byte, bit = _ALARMS[name]
                out[byte] |= 1 << bit
            return self._frame(command, bytes(out))
        if command in (0xD9, 0xDA):
            bit = 2 if command == 0xD9 else 1
            self.fets = self.fets | bit if request[4] else self.fets & ~bit
            return self._frame(command, request[4:5])
        return None

    def beyond(self) -> bool:
        low, high, hottest = self.watch
        if self.command == 0x95:
            return any(not low <= mv <= high for mv in self.mv)
        return self.command == 0x96 and any(dc is not None and dc > hottest for dc in self.dc)

    def _frame(self, command: int, payload: bytes) -> bytes:
        body = bytes([0xA5, self.address, command, 8]) + payload.ljust(8, b"\0")
        return body + bytes([sum(body) & 0xFF])

    def step_dc(self, dc: int) -> int:
        return round(dc / 10) * 10
