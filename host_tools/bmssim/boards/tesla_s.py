"""A Tesla Model S module in a daisy chain, written from the layout of its words.

`address << 1 | write, register, length or value`, CRC-8 (poly 07) behind a write and an answer.
"""

from math import exp

import numpy as np

from .kind import Kind
from .serial import SerialBoard


def crc8(data: bytes) -> int:
    """CRC-8 of poly 07, init 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc


def _ohm(celsius: float) -> float:
    """Steinhart-Hart the other way round, by bisection."""
    low, high = 1.0, 20.0
    for _ in range(60):
        ln = (low + high) / 2
        t = 1 / (7.610373573e-4 + 2.728524832e-4 * ln + 1.022822735e-7 * ln**3) - 273.15
        low, high = (ln, high) if t > celsius else (low, ln)
    return exp(low)


def raw_of(celsius: float, sensor: int) -> int:
    """What the module's ADC reads at a thermistor."""
    x = 1.78 / (_ohm(celsius) / 1000 + 3.57)
    return round(x * 33068 - 9) if sensor else round(x * 33046 - 2)


class TeslaModule(SerialBoard):
    """See `SerialBoard`: six cells. given: its address, 0 = none; the first of a chain without an
    address answers for 0; one that is down hides those behind it. latched: alarms that stay until
    FF is written to their register.
    """

    ANSWER_US = 60
    TOLERANCE_MV = 1
    TOLERANCE_DC = 4

    given = 0
    latched: frozenset[str] = frozenset()
    _until_us = 0
    _seconds = 0
    por = True

    @property
    def chain(self) -> list["TeslaModule"]:
        """Those that words get to, the master's end first."""
        modules = [b for b in self.bus._boards if isinstance(b, TeslaModule)]
        out = []
        for module in sorted(modules, key=lambda b: b.node):
            if not module.alive:
                break
            out.append(module)
        return out

    def on_bytes(self, data: bytes) -> None:
        # the first one receives for all
        nodes = [b.node for b in self.bus._boards if isinstance(b, TeslaModule)]
        if self.node == min(nodes):
            super().on_bytes(data)

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        for start in range(len(data)):
            write = data[start] & 1
            size = 4 if write else 3
            if len(data) - start < size:
                return None, start
            word = data[start : start + size]
            if write and crc8(word[:3]) == word[3]:
                return word, start + size
            if not write and word[1] in (0x00, 0x01, 0x20) and 1 <= word[2] <= 18:
                return word, start + size
        return None, len(data)

    def answer(self, request: bytes) -> bytes | None:
        address, register, value = request[0] >> 1, request[1], request[2]
        if request[0] & 1:
            return self._written(address, register, value, request)
        module = next((m for m in self.chain if m.given == address), None)
        if module is None:
            return None
        data = module._data(register, value)
        if data is None:
            return None
        head = bytes([request[0], register, value])
        crc = crc8(head + data)
        if not address:
            head = bytes([0x80, register, value])
        if register == 0x01:
            module.note_back()
        return head + data + bytes([crc])

    def _written(self, address: int, register: int, value: int, request: bytes) -> bytes | None:
        if address == 0x3F:
            if register == 0x3C and value == 0xA5:
                for module in self.chain:
                    module.given = 0
                    module.balance_mask = 0
            else:
                for module in self.chain:
                    module._write(register, value)
            return request if self.chain else None
        module = next((m for m in self.chain if m.given == address), None)
        if module is None:
            return None
        if register == 0x3B:
            module.given = value & 0x3F
            return bytes([0x81]) + request[1:] if not address else request
        module._write(register, value)
        return request

    def _write(self, register: int, value: int) -> None:
        if register == 0x34 and value & 1:
            self.sample()
        elif register == 0x33:
            self._seconds = (value & 0x3F) * (60 if value & 0x80 else 1)
        elif register == 0x32:
            self.balance_mask = value & 0x3F
            self._until_us = self.events.now_us + self._seconds * 1_000_000
        elif register == 0x20 and value == 0xFF:
            self.latched -= {"temp_high"}
        elif register == 0x21 and value == 0xFF:
            self.por = False
            self.latched &= {"temp_high"}

    def _data(self, register: int, n: int) -> bytes | None:
        if register == 0x00:
            return b"\x61"[:n].ljust(n, b"\0")
        if register == 0x20:
            self.latched |= self.alarms
            hot, high, low = (x in self.latched for x in ("temp_high", "cell_high", "cell_low"))
            return bytes([hot, 8 * self.por | 2 * low | high, high, low])[:n]
        if register != 0x01 or not self.mv:
            return None
        words = [round(self.stack_mv * 16383 / 33333)]
        words += [round(mv * 16383 / 6250) for mv in self.mv] + [0] * (6 - len(self.mv))
        for i in range(2):
            dc = self.dc[i] if i < len(self.dc) else 250
            words.append(0 if dc is None else raw_of(dc / 10, i))
        return b"".join(word.to_bytes(2, "big") for word in words)[:n]

    def beyond(self) -> bool:
        return any(SerialBoard.beyond(module) for module in self.chain if module.mv)

    def balancing_cells(self) -> int:
        return self.balance_mask if self.alive and self.events.now_us < self._until_us else 0

    def rebooted(self) -> None:
        super().rebooted()
        self.given = 0
        self.por = True
        self.latched = frozenset()
        self.mv = []

    def step_mv(self, mv: int) -> int:
        return int(np.clip(mv, 0, 6250))


KIND = Kind(
    ("uart",),
    {"uart": 612_500},
    TeslaModule,
    cells=6,
    temps=2,
    scan_ms=lambda boards, cells: 1 + 1.5 * boards,
)
