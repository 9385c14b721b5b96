"""What simulated boards on a serial line share: requests, sleep, delays, damaged answers.

A kind defines how a request looks (`request`) and what it answers (`answer`), from the layout of
the protocol alone; it shares no code with the firmware.
"""

import numpy as np

from ..bus import UartBus
from ..events import Events
from .commercial import CommercialBoard, Measure

FORGET_US = 20_000  # a request that stays incomplete for so long is none


def crc16(data: bytes) -> bytes:
    """CRC-16/MODBUS: poly A001, init FFFF, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


class SerialBoard(CommercialBoard):
    """One board at address `node` of a line; see `CommercialBoard`.

    too_early: requests that came before its gap was over, and went unanswered.
    """

    ANSWER_US = 5_000  # from a request's last bit to its answer's first
    GAP_US = 0  # its own minimum from an answer to the next request on its line
    ROOM = False  # its answers have room inside for what is `longer`
    SUMMED = False  # its answers carry a sum, not a CRC

    # parameters: all kinds of boards are made with the same ones
    def __init__(
        self,
        events: Events,
        bus: UartBus,
        node: int,
        cells: int,
        temps: int,
        measure: Measure,
        rng: np.random.Generator,
        noise_mv: float = 0.6,
    ) -> None:
        super().__init__(events, node, cells, temps, measure, rng, noise_mv)
        self.bus = bus
        self.too_early = 0
        self._inbox = b""
        self._received_us = 0
        bus.gap_us = max(bus.gap_us, self.GAP_US)
        bus.summed = self.SUMMED
        bus.attach(self)

    # --- by kind ---

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        """(the first request in `data` or None, bytes that are used up).

        Bytes that begin no request are used up, those that may still become one are not.
        """
        raise NotImplementedError

    def answer(self, request: bytes) -> bytes | None:
        """What it answers to a request, None = it isn't meant, or doesn't know it."""
        raise NotImplementedError

    # --- the line ---

    def restart(self) -> None:
        """As `CommercialBoard.restart`; half a request that it had is lost."""
        self._inbox = b""
        super().restart()

    def on_low(self) -> None:
        """The master holds the line low: most boards don't mind."""

    def on_bytes(self, data: bytes) -> None:
        """Bytes from the master, at the last one's end."""
        now = self.events.now_us
        if now - self._received_us > FORGET_US:
            self._inbox = b""
        self._received_us = now
        self._inbox = (self._inbox + data)[-1024:]
        while self._inbox:
            request, used = self.request(self._inbox)
            if not used:
                return
            self._inbox = self._inbox[used:]
            if request is not None and self.alive:
                self._polled(request)

    def _polled(self, request: bytes) -> None:
        if self.asleep:
            self.asleep = False
            return
        started_us = self.bus.polled_us
        if started_us - self.bus.answered_us < self.GAP_US:
            self.too_early += 1
            return
        answer = self.answer(request)
        if answer is None:
            return
        life = self._starts
        if not self.ROOM:
            answer += bytes(self.longer)
        delay = round(self.ANSWER_US * self.drift * self.slow)
        self.bus.usage.wait(self.ANSWER_US)
        if self.truncate and self._rng.random() < self.truncate:
            answer = answer[: int(self._rng.integers(1, len(answer)))]
        self.events.after(delay, lambda: self._say(answer, life))

    def _say(self, answer: bytes, life: int) -> None:
        if life != self._starts:
            # it went down as it was speaking
            answer = answer[: len(answer) // 2]
        elif not self.alive:
            return
        self.answered += 1
        self.note_back()
        self.bus.say(answer, self, self.beyond())
