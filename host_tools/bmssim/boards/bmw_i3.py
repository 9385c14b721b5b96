"""A cell supervision circuit of a BMW i3, written from the protocol's layout.

It answers a poll 0x080 | n whose CRC-8 is its own with 0x100 | n and, once it was greeted, with
its cells and temperatures.
"""

from typing import Any

from ..protocol import Frame
from .can import CanBoard
from .kind import Kind

PERIOD_US = 50_000
ANSWER_US = 2_000
_GREETINGS = 3  # polls that ask for nothing, before it measures
_OBEYS_US = 3_000_000  # balancing ends so long after the last command
_MODULES = bytes.fromhex("CFF5BB81271D53690238764C")
_NO_CELL = 0xFF


def crc(data: bytes, module: int) -> int:
    """CRC-8 poly 1D, init FF, XOR the module's own byte, bit by bit."""
    out = 0xFF
    for byte in data:
        out ^= byte
        for _ in range(8):
            out = (out << 1 ^ 0x1D) & 0xFF if out & 0x80 else out << 1
    return out ^ _MODULES[module]


class BmwI3Board(CanBoard):
    """See `CanBoard`; temperatures in whole degC. too_early: polls that came before their time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.too_early = 0
        self.greeted = 0
        self._polled_us = self._last_poll_us = -PERIOD_US  # it, or any module

    def step_dc(self, dc: int) -> int:
        return (dc + 5) // 10 * 10

    def rebooted(self) -> None:
        super().rebooted()
        self.greeted = 0

    def balancing_cells(self) -> int:
        if self.events.now_us - self._polled_us > _OBEYS_US:
            self.balance_mask = 0
        return super().balancing_cells()

    def receive(self, ident: int, data: bytes) -> None:
        module = self.address - 1
        if ident & ~15 != 0x080 or len(data) != 8:
            return
        now, last_poll_us = self.events.now_us, self._last_poll_us
        early = now - last_poll_us < PERIOD_US - 1000
        self._last_poll_us = now
        if ident & 15 != module:
            return
        usage, took_us = self.bus.usage, self.bus.frame_us(Frame(ident, data))
        gap_us = max(0.0, last_poll_us + PERIOD_US - took_us - usage.end_us)
        usage.on_bytes(now - took_us, now, gap_us)
        if data[7] != crc(ident.to_bytes(2, "big") + data[:7], module):
            return
        if early:
            self.too_early += 1
            return
        self._polled_us = self.events.now_us
        if not data[3]:
            self.greeted += 1
        measures = self.greeted >= _GREETINGS
        self.sample()
        self.balance_mask = 0
        if measures and data[4] & 8:
            target = int.from_bytes(data[:2], "little")
            self.balance_mask = sum(1 << i for i, mv in enumerate(self.mv) if mv > target)
        frames = [(0x100 | module, bytes(4) + self.balance_mask.to_bytes(2, "little") + bytes(2))]
        if measures and data[3] & 0x10:
            frames += self._cells(module)
        if measures and data[3] & 0x40:
            warm = [0xFF if dc is None else dc // 10 + 40 for dc in self.dc]
            frames.append((0x170 | module, bytes(warm + [0] * (8 - len(warm)))))
        life = self._starts
        usage.wait(ANSWER_US)
        self.events.after(round(ANSWER_US * self.slow), lambda: self._answer(frames, life))

    def _cells(self, module: int) -> list[tuple[int, bytes]]:
        words = [
            (_NO_CELL << 8) if i in self.open_cells else mv for i, mv in enumerate(self.mv)
        ] + [_NO_CELL << 8] * (12 - self.cells)
        return [
            (
                0x120 + 16 * k | module,
                b"".join(word.to_bytes(2, "little") for word in words[3 * k : 3 * k + 3])
                + bytes(2),
            )
            for k in range(4)
        ]

    def on_sent(self, frame: Frame) -> None:
        now = self.events.now_us
        self.bus.usage.on_bytes(now - self.bus.frame_us(frame), now, 0.0)

    def _answer(self, frames: list[tuple[int, bytes]], life: int) -> None:
        if life == self._starts:
            self.say(frames)


KIND = Kind(
    ("can",),
    {"can": 500_000},
    BmwI3Board,
    most=12,
    cells=12,
    temps=4,
    back=5,  # greeted in three scans, then read; each lost frame costs one more
    scan_ms=lambda boards, cells: boards * PERIOD_US / 1000,
)
