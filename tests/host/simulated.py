"""Simulated slave boards behind a real pseudo-terminal, as an adapter would show them."""

import threading
import time
from pathlib import Path

import numpy as np
from terminal import Board

from bmssim import adapter
from bmssim.boards.kinds import KINDS
from bmssim.bus import CanBus, Noise, UartBus
from bmssim.events import Events


class SimulatedBoards(threading.Thread):
    """`slaves` boards of a kind on a bus, live until `close`; `mv` is in every cell."""

    def __init__(
        self,
        link: Path,
        medium: str,
        slaves: int,
        kind: str = "cell_link",
        cells: int = 8,
        temps: int = 2,
    ) -> None:
        super().__init__(daemon=True)
        self.terminal = Board(link)
        self.mv = 3300.0
        self._ended = threading.Event()
        self._events = Events()
        self._out = b""
        rng = np.random.default_rng(1)
        made = KINDS[kind]
        if medium == "can":
            bus: CanBus | UartBus = CanBus(self._events, made.bps["can"], Noise(rng))
            self._port = adapter.SlcanAdapter(self._events, bus, self._deliver, Noise(rng))
        else:
            bus = UartBus(self._events, made.bps["uart"], Noise(rng))
            self._port = adapter.UartPort(self._events, bus, self._deliver)
        self.boards = []
        for n in range(slaves):
            measure = lambda: (np.full(cells, self.mv / 1000), np.full(temps, 25.0))  # noqa: E731
            node = made.first + n
            self.boards.append(made.make(self._events, bus, node, cells, temps, measure, rng, 0.6))
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
precharge_unproven = true
precharge_max = "500 ms"
[[slave]]
kind = "cell_link"
link = "{port}"
node = "1-2"
cells = 8
temps = 2
"""
