"""What a kind of simulated slave board is; each board's module has one as `KIND`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What a port carries, and how many.

    media: "can", "uart"; bps: usual rate by medium; make: makes one board; most: boards on one
    port; few: most boards in a scenario; first: the lowest node; cells, temps: the most of one
    board; balances: balancing can be commanded; polled: it is polled, and does not broadcast;
    says_rate: the pack file must give the rate; scan_ms(boards, cells): time of a scan of a port,
    0 = less than any scan period; back: scans until a restarted board is read again, where the
    scenario does not say less.
    """

    media: tuple[str, ...]
    bps: dict[str, int]
    make: Callable[..., Any]
    most: int = 62
    few: int = 62
    first: int = 1
    cells: int = 32
    temps: int = 16
    balances: bool = True
    polled: bool = True
    says_rate: bool = False
    back: int = 0
    scan_ms: Callable[[int, int], float] = lambda boards, cells: 0.0

    def age_ms(self, boards: int, cells: int) -> int:
        """How old readings must be allowed to get, so that a lost answer does not trip; 0: any."""
        ms = self.scan_ms(boards, cells)
        return round(3.2 * ms / 100 + 6) * 100 if ms else 0
