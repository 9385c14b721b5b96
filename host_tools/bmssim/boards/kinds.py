"""The kinds of slave boards that can be simulated, and what a port of each looks like."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bus import CanBus, UartBus
from ..events import Events
from . import bmw_i3, cell_link, daly, outlander
from .bought import BoughtBoard, Measure
from .bq796xx import Bq79616
from .diybms import BPS as DIYBMS_BPS
from .diybms import DiybmsBlock
from .jbd import JbdBoard
from .jbd_up import JbdUpUnit
from .jk_can import JkCanBoard
from .jk_pb import JkPbBoard
from .jk_ttl import JkTtlBoard
from .pylontech import PylontechPack
from .tesla_s import TeslaModule


@dataclass(frozen=True)
class Kind:
    """What a port carries, and how many.

    media: "can", "uart"; bps: usual rate by medium; make: one board; most: boards on one port; few:
    those that a scenario has at most; first: the lowest node; cells, temps: the most of one board;
    balances: it can be told to; asked: it speaks when it is, and not by itself; says_rate: the pack
    file must, it isn't the usual one; scan_ms(boards, cells): what a scan of a port takes, 0 = less
    than any scan period; back: scans that a restarted board may take to be heard again, where no
    less is said.
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
    asked: bool = True
    says_rate: bool = False
    back: int = 0
    scan_ms: Callable[[int, int], float] = lambda boards, cells: 0.0

    def age_ms(self, boards: int, cells: int) -> int:
        """How old readings must be allowed to get, so that a lost answer does not trip; 0: any."""
        ms = self.scan_ms(boards, cells)
        return round(3.2 * ms / 100 + 6) * 100 if ms else 0


def _cell_link(
    events: Events,
    bus: CanBus | UartBus,
    node: int,
    cells: int,
    temps: int,
    measure: Measure,
    rng: np.random.Generator,
    noise_mv: float,
) -> cell_link.CellLinkBoard:
    board = cell_link.CellLinkBoard(events, node, cells, temps, measure, rng, noise_mv)
    if isinstance(bus, CanBus):
        cell_link.CanPort(bus, board)
    else:
        cell_link.UartPort(bus, board)
    return board


KINDS: dict[str, Kind] = {
    "cell_link": Kind(("can", "uart"), {"can": 500_000, "uart": 1_000_000}, _cell_link),
    "jbd": Kind(
        ("uart",),
        {"uart": 9600},
        JbdBoard,
        most=1,
        balances=False,
        scan_ms=lambda boards, cells: 120 + 2.1 * cells + 30,
    ),
    "jbd_up": Kind(
        ("uart",),
        {"uart": 9600},
        JbdUpUnit,
        most=16,
        balances=False,
        scan_ms=lambda boards, cells: boards * (100 + 1.05 * (160 + 2 * cells)),
    ),
    "bq796xx": Kind(
        ("uart",),
        {"uart": 1_000_000},
        Bq79616,
        cells=16,
        temps=8,
        back=5,  # found lost in two scans, then addressed; each lost word costs one more
        scan_ms=lambda boards, cells: 10 + 0.8 * boards,
    ),
    "bmw_i3": Kind(
        ("can",),
        {"can": 500_000},
        bmw_i3.BmwI3Board,
        most=12,
        cells=12,
        temps=4,
        scan_ms=lambda boards, cells: boards * bmw_i3.PERIOD_US / 1000,
    ),
    "daly": Kind(
        ("uart", "can"),
        {"uart": 9600, "can": 250_000},
        daly.make,
        most=16,
        balances=False,
        scan_ms=lambda boards, cells: boards * (200 + 13 * 1.05 * (10 + (cells + 2) // 3)),
    ),
    "diybms": Kind(
        ("uart",),
        {"uart": DIYBMS_BPS},
        DiybmsBlock,
        most=13,
        few=3,
        cells=16,
        temps=16,
        says_rate=True,
        scan_ms=lambda boards, cells: 3 * boards * (boards * cells + 1) * 410_000 / DIYBMS_BPS,
    ),
    "jk_can": Kind(
        ("can",),
        {"can": 250_000},
        JkCanBoard,
        most=12,
        asked=False,
        cells=25,
        temps=2,
        balances=False,
        scan_ms=lambda boards, cells: 1000,
    ),
    "jk_pb": Kind(
        ("uart",),
        {"uart": 115200},
        JkPbBoard,
        most=15,
        temps=4,
        scan_ms=lambda boards, cells: 175 * boards,
    ),
    "pylontech": Kind(
        ("uart",),
        {"uart": 115_200},
        PylontechPack,
        most=15,
        first=2,
        temps=15,
        balances=False,
        scan_ms=lambda boards, cells: boards * (90 + (180 + 6 * cells) * 0.087),
    ),
    "tesla_s": Kind(
        ("uart",),
        {"uart": 612_500},
        TeslaModule,
        cells=6,
        temps=2,
        scan_ms=lambda boards, cells: 1 + 1.5 * boards,
    ),
    "jk_ttl": Kind(
        ("uart",),
        {"uart": 115200},
        JkTtlBoard,
        most=1,
        temps=2,
        scan_ms=lambda boards, cells: 150 + 0.26 * cells,
    ),
    "outlander": Kind(
        ("can",),
        {"can": 500_000},
        outlander.OutlanderBoard,
        most=15,
        asked=False,
        cells=8,
        temps=3,
        scan_ms=lambda boards, cells: outlander.PERIOD_US / 1000,
    ),
}

Board = cell_link.CellLinkBoard | BoughtBoard
