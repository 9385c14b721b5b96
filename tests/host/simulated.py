"""Simulated slave boards behind a real pseudo-terminal, as an adapter would show them."""

import threading
import time
from pathlib import Path

import numpy as np
from terminal import Board

from bmssim import adapter
from bmssim.boards import cell_link
from bmssim.bus import CanBus, Noise, UartBus
from bmssim.events import Events


class Boards(threading.Thread):
    """`slaves` cell link boards of 8 cells on a bus, live until `close`; `mv` is in every cell."""

    def __init__(self, link: Path, medium: str, slaves: int) -> None:
        super().__init__(daemon=True)
        self.terminal = Board(link)
        self.mv = 3300.0
        self._ended = threading.Event()
        self._events = Events()
        self._out = b""
        rng = np.random.default_rng(1)
        if medium == "can":
            bus: CanBus | UartBus = CanBus(self._events, 500_000, Noise(rng))
            self._port = adapter.SlcanAdapter(self._events, bus, self._deliver, Noise(rng))
        else:
            bus = UartBus(self._events, 1_000_000, Noise(rng))
            self._port = adapter.UartPort(self._events, bus, self._deliver)
        for n in range(slaves):
            measure = lambda: (np.full(8, self.mv / 1000), np.full(2, 25.0))  # noqa: E731
            board = cell_link.CellLinkBoard(self._events, n + 1, 8, 2, measure, rng)
            if isinstance(bus, CanBus):
                cell_link.CanPort(bus, board)
            else:
                cell_link.UartPort(bus, board)
        self.start()

    def _deliver(self, data: bytes) -> None:
        self._out += data

    def run(self) -> None:
        start = time.monotonic()
        while not self._ended.is_set():
            while self._events.run_next(round((time.monotonic() - start) * 1e6)):
                pass
            terminal = self.terminal
            if self._out and terminal.master >= 0:
                data, self._out = self._out, b""
                terminal.say(data)
            data = terminal.take(0.001)
            if data:
                self._port.on_bytes(data)

    def close(self) -> None:
        self._ended.set()
        self.join()
        self.terminal.close()


PACK = """[pack]
name = "bench"
chemistry = "LFP"
cells = 16
capacity = "20 Ah"
[limits]
charge_max = "20 A"
discharge_max = "40 A"
current_hard_max = "60 A"
current_sensor = false
[contactors]
contactor_feedback = false
link_sensor = false
precharge_max = "500 ms"
[[slave]]
kind = "cell_link"
link = "{port}"
node = "1-2"
cells = 8
temps = 2
"""
