"""The whole system with slave boards made of the example in examples/slave."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmssim import protocol as p
from bmssim import scenario
from bmssim.boards.cell_link import CanPort, CellLinkBoard, UartPort
from bmssim.boards.commercial import Measure
from bmssim.boards.kinds import KINDS
from bmssim.bus import CanBus, UartBus
from bmssim.events import Events
from bmssim.protocol import Frame
from bmssim.setup import Setup

PATH = Path(__file__).parents[2] / "examples" / "slave" / "cell_link_slave.py"
SPEC = importlib.util.spec_from_file_location("cell_link_slave", PATH)
assert SPEC and SPEC.loader
example: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)


class ExampleBoard(CellLinkBoard):
    """The simulator's cells and wires around the example's protocol."""

    def __init__(self, bus: CanBus | UartBus, *args: Any) -> None:
        super().__init__(*args)
        uart = isinstance(bus, UartBus)
        self.slave = example.CellLinkSlave(
            self.node, self.cells, self.temps, self.serial, self._measured, self._balances, uart
        )
        self.slave.board_degc = 30
        self.scan = self.answers = 0

    def _measured(self) -> tuple[list[int | None], list[int | None]]:
        self._sample(self.scan)
        return self._mv, self._dc

    def _balances(self, mask: int) -> None:
        self.balance_mask = mask
        self._balance_until_us = self.events.now_us + 255_000_000  # the example ends it by itself

    def receive(self, frame: Frame) -> None:
        now_ms = self.events.now_us // 1000
        if frame.function == p.SCAN and frame.data:
            self.scan = frame.data[0]
        sent = self.slave.tick(now_ms) + self.slave.receive(frame.ident, frame.data, now_ms)
        low, high, _hottest = self.watch
        frames = []
        for ident, data in sent:
            k = (ident >> 6) - p.CELLS
            four = self._mv[4 * k : 4 * k + 4] if 0 <= k < 8 else []
            marked = any(v is not None and not low <= v <= high for v in four)
            frames.append(Frame(ident, data, marked))
        self.answers += len(frames)
        self._send(frames, max(self.slave.answer_delay_us, self._ready_us - self.events.now_us, 0))


def make(
    events: Events,
    bus: CanBus | UartBus,
    node: int,
    cells: int,
    temps: int,
    measure: Measure,
    rng: np.random.Generator,
    noise_mv: float,
) -> ExampleBoard:
    board = ExampleBoard(bus, events, node, cells, temps, measure, rng, noise_mv)
    if isinstance(bus, CanBus):
        CanPort(bus, board)
    else:
        UartPort(bus, board)
    return board


@pytest.mark.parametrize("link", ["can", "uart"])
def test_a_pack_of_example_slaves_closes_and_trips_in_time(
    link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "cell_link", replace(KINDS["cell_link"], make=make))
    chosen = scenario.load("overvoltage")
    setup = Setup(**{**chosen.setup, "link": link})
    run = scenario.Run(chosen, setup, tmp_path / "pack.toml")
    try:
        run.go()
        assert run.problems() == []
        boards: list[Any] = list(run.world.boards)
        assert all(isinstance(board, ExampleBoard) and board.answers > 100 for board in boards)
    finally:
        run.close()
