"""A cell monitor of an Outlander PHEV, written from the protocol's layout.

Identifiers 0x600 + node * 16 + k, big-endian; it speaks every PERIOD_US by itself.
"""

from typing import Any

from .can import CanBoard
from .kind import Kind

PERIOD_US = 100_000
_COMMAND = 0x3C3
_OBEYS_US = 2_000_000  # balancing ends so long after the last command
_NO = 0xFFFF


class OutlanderBoard(CanBoard):
    """See `CanBoard`; its sensors are words of 0.0038 degC less 52."""

    TOLERANCE_DC = 1

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._target_mv = _NO
        self._commanded_us = 0
        # modules of one bus are not in step
        self.events.after(self.node * 7_300 % PERIOD_US, self._begin)

    def _begin(self) -> None:
        self._speak()
        self.events.every(round(PERIOD_US * self.drift), self._speak)

    def receive(self, ident: int, data: bytes) -> None:
        if ident == _COMMAND and len(data) == 8:
            on = data[2] == 1 and data[3:] == bytes([4, 3, 0, 0, 0])
            self._target_mv = int.from_bytes(data[:2], "big") if on else _NO
            self._commanded_us = self.events.now_us

    def rebooted(self) -> None:
        super().rebooted()
        self._target_mv = _NO

    def _speak(self) -> None:
        self.sample()
        if self.events.now_us - self._commanded_us > _OBEYS_US:
            self._target_mv = _NO
        self.balance_mask = sum(1 << i for i, mv in enumerate(self.mv) if mv > self._target_mv)
        ident = 0x600 + self.address * 16
        words = [_NO if i in self.open_cells else mv for i, mv in enumerate(self.mv)]
        words += [_NO] * (12 - self.cells)
        warm = [_NO if dc is None else round((dc / 10 + 52) / 0.0038) for dc in self.dc]
        warm += [round((25 + 52) / 0.0038)] * (3 - self.temps)
        frames = [(ident + 1, bytes([self.balance_mask, 0]) + _big(warm))]
        frames += [(ident + 2 + k, _big(words[4 * k : 4 * k + 4])) for k in range(3)]
        self.say(frames)


def _big(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(2, "big") for word in words)


KIND = Kind(
    ("can",),
    {"can": 500_000},
    OutlanderBoard,
    most=15,
    polled=False,
    cells=8,
    temps=3,
    scan_ms=lambda boards, cells: PERIOD_US / 1000,
)
