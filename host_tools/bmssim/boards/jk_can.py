"""A JK board that broadcasts on CAN, written from the protocol's layout.

The address (node - 1) is added to each identifier; cells are 29-bit frames, little-endian.
"""

from typing import Any

from ..protocol import EXTENDED
from .can import CanBoard
from .kind import Kind

PERIOD_US = 1_000_000


class JkCanBoard(CanBoard):
    """See `CanBoard`; it balances as it likes, which isn't simulated."""

    TOLERANCE_DC = 5

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.events.after(self.node * 37_300 % 100_000, self._begin)
        self._period = 0

    def _begin(self) -> None:
        self._tick()
        self.events.every(round(100_000 * self.drift), self._tick)

    @property
    def _address(self) -> int:
        return (self.node if self.answers_as is None else self.answers_as) - 1

    def _tick(self) -> None:
        """100 ms: status and extremes; temperatures each 500 ms, cells each second."""
        self._period += 1
        self.sample()
        a = self._address
        high, low = max(self.mv), min(self.mv)
        extremes = high.to_bytes(2, "little") + bytes([self.mv.index(high) + 1])
        extremes += low.to_bytes(2, "little") + bytes([self.mv.index(low) + 1])
        stack = round(sum(self.mv) / 100).to_bytes(2, "little")
        frames = [
            (0x2F4 + a, stack + (4000).to_bytes(2, "little") + bytes([80, 0, 0, 0])),
            (0x4F4 + a, extremes + bytes(2)),
        ]
        if self._period % 5 == 1:
            warm, cold = ((dc or 0) // 10 + 50 for dc in (self.dc or [250, 250]))
            frames.append((0x5F4 + a, bytes([warm, 1, cold, 2, (warm + cold) // 2, 0, 0, 0])))
            alarm = 1 if self.alarms else 0
            frames.append((0x7F4 + a, bytes([alarm, 0, 0, 0, 0, 0, 0, 0])))
        if self._period % 10 == 1:
            words = self.mv + [0] * (-len(self.mv) % 4)
            for k in range(len(words) // 4):
                data = b"".join(mv.to_bytes(2, "little") for mv in words[4 * k : 4 * k + 4])
                frames.append((EXTENDED | 0x18E028F4 + (k << 16) + a, data))
        self.say(frames)

    def sensors(self, dc: list[int | None]) -> list[int | None]:
        known = [one for one in dc if one is not None]
        return [max(known), min(known)] if known else []

    def step_dc(self, dc: int) -> int:
        return round(dc / 10) * 10


KIND = Kind(
    ("can",),
    {"can": 250_000},
    JkCanBoard,
    most=12,
    polled=False,
    cells=25,
    temps=2,
    balances=False,
    scan_ms=lambda boards, cells: 1000,
)
