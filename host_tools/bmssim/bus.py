"""Lines between the master and the slave boards, with the timing of their bits.

A CAN bus arbitrates by id and carries one frame at a time. A UART bus (half-duplex RS-485, or a
pair of isolated TTL lines used in turn) carries bytes; two that talk at once destroy each other.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .canbits import frame_bits
from .events import Events
from .protocol import CELLS, EXTENDED, SCAN, Frame, uart_decode

PAUSE_US = 300_000  # a line silent for so long is between two rounds


class Noise:
    """Damage on the line: `rate` is the share of frames hit; `hits` counts them."""

    def __init__(self, rng: np.random.Generator, rate: float = 0.0) -> None:
        self.rng = rng
        self.rate = rate
        self.hits = 0

    def strikes(self) -> bool:
        """Whether the next frame is hit."""
        if self.rate <= 0 or self.rng.random() >= self.rate:
            return False
        self.hits += 1
        return True

    def burst(self, data: bytes) -> bytes:
        """Flip some bits of one byte, lose the end, or lose, double or replace a byte.

        What a sum of bytes is sure to catch: of two flips far apart that cancel in it no receiver
        can know, and boards that end their answers with a sum are bench-tested on quiet lines.
        """
        if self.rng.random() < 0.25:
            return data[: int(self.rng.integers(0, len(data)))]
        if self.rng.random() < 0.6:
            out = bytearray(data)
            out[int(self.rng.integers(0, len(out)))] ^= int(self.rng.integers(1, 256))
            return bytes(out)
        at = int(self.rng.integers(0, len(data)))
        if self.rng.random() < 0.5:
            return data[:at] + data[at + 1 :]
        return data[:at] + data[at : at + 1] + data[at:]

    def loss(self, data: bytes) -> bytes:
        """Lose, double or spoil a character of an adapter's text so that nobody can misread it."""
        at = int(self.rng.integers(0, len(data)))
        instead = (b"", data[at : at + 1] * 2, b"?")[int(self.rng.integers(0, 3))]
        return data[:at] + instead + data[at + 1 :]

    def bytes(self, data: bytes) -> bytes:
        """Flip one to three bits, or lose, double or replace a byte."""
        if not data:
            return data
        kind = self.rng.integers(0, 4)
        at = int(self.rng.integers(0, len(data)))
        if kind == 0:
            out = bytearray(data)
            for _ in range(int(self.rng.integers(1, 4))):
                bit = int(self.rng.integers(0, 8 * len(out)))
                out[bit // 8] ^= 1 << bit % 8
            return bytes(out)
        if kind == 1:
            return data[:at] + data[at + 1 :]
        if kind == 2:
            return data[:at] + data[at : at + 1] + data[at:]
        return data[:at] + bytes([int(self.rng.integers(0, 256))]) + data[at + 1 :]

    def cut(self, frame: Frame) -> Frame | None:
        """Lose a CAN frame, or its end.

        Where frames carry no checksum of their own, of other damage no receiver can know: on a
        real bus the controllers' CRC-15 catches it.
        """
        end = int(self.rng.integers(-1, len(frame.data)))
        return None if end < 0 else Frame(frame.ident, frame.data[:end])

    def frame(self, frame: Frame) -> Frame | None:
        """Lose a CAN frame, flip one or two bits of its id and data, or a burst of up to eight.

        What the CRC-8 is sure to catch: wilder damage passes it once in 256, but on a real bus it
        would have to pass the controllers' CRC-15 first.
        """
        kind = self.rng.integers(0, 3)
        if kind == 0:
            return None
        flag = frame.ident & EXTENDED
        width = 4 if flag else 2  # bytes of the identifier, in front of which some bits are unused
        unused = 3 if flag else 5
        raw = bytearray((frame.ident ^ flag).to_bytes(width, "big") + frame.data)
        first = int(self.rng.integers(unused, 8 * len(raw)))
        if kind == 1:
            bits = {first, int(self.rng.integers(unused, 8 * len(raw)))}
        else:
            end = min(first + 8, 8 * len(raw))
            bits = {first} | {b for b in range(first, end) if self.rng.integers(0, 2)}
        for bit in bits:
            raw[bit // 8] ^= 0x80 >> bit % 8
        return Frame(flag | int.from_bytes(raw[:width], "big"), bytes(raw[width:]))


class Usage:
    """Time on the line, and what the frames on it say about the scans.

    busy_us: all of it; readings_us: the part that frames with readings need. scan_ms: per scan,
    from the first bit of the master's SCAN to the last bit of its last answer. rounds: on
    lines where boards are asked, (us, us that it needs at the least: bytes, the boards' own time to
    answer and gaps) of each run of polls without a long pause; end_us: of the last bytes.
    violation_us: the last bit of the first frame that carried a reading out of its hard bounds.
    """

    def __init__(self) -> None:
        self.busy_us = 0.0
        self.readings_us = 0.0
        self.frames = 0
        self.scan_ms: list[float] = []
        self.violation_us: int | None = None
        self.rounds: list[tuple[float, float]] = []
        self._scan_us: float | None = None
        self._answer_us = 0.0
        self._round_us = self.end_us = self._need_us = -1.0

    def on_frame(self, frame: Frame, start_us: float, end_us: float) -> None:
        """Count one frame that is on the line from `start_us` to `end_us`."""
        self.busy_us += end_us - start_us
        self.frames += 1
        if frame.marked and self.violation_us is None:
            self.violation_us = round(end_us)
        function = frame.function
        if function >= CELLS:
            self.readings_us += end_us - start_us
            self._answer_us = end_us
        elif function == SCAN and frame.node == 0:
            if self._scan_us is not None and self._answer_us > self._scan_us:
                self.scan_ms.append((self._answer_us - self._scan_us) / 1000)
            self._scan_us = start_us

    def on_bytes(self, start_us: float, end_us: float, gap_us: float) -> None:
        """Bytes on a line; gap_us: what had to lie before them."""
        if self.end_us < 0 or start_us - self.end_us > PAUSE_US:
            if self.end_us >= 0:
                self.rounds.append((self.end_us - self._round_us, self._need_us))
            self._round_us = start_us
            self._need_us = 0.0
            gap_us = 0.0
        self._need_us += gap_us + end_us - start_us
        self.end_us = end_us

    def wait(self, us: float) -> None:
        """A board takes so long to answer, which is no pause."""
        self._need_us += us
        self.end_us += us


def rank(ident: int) -> int:
    """Whose is lower, wins the bus: its bits as they are sent, a dominant one being 0.

    A standard frame has RTR and IDE dominant where an extended one has SRR and IDE recessive.
    """
    if ident & EXTENDED:
        return (ident ^ EXTENDED) >> 18 << 19 | 1 << 18 | ident & 0x3FFFF
    return ident << 19


class CanNode(Protocol):
    def on_frame(self, frame: Frame) -> None: ...
    def on_sent(self, frame: Frame) -> None: ...


class CanBus:
    """All frames of all nodes, by rank; every other node gets each at its last bit.

    checksummed: frames carry a checksum of their own, besides that of CAN.
    """

    def __init__(self, events: Events, rate_bps: int, noise: Noise) -> None:
        self._events = events
        self._us_per_bit = 1e6 / rate_bps
        self._noise = noise
        self._on_frame: list[tuple[CanNode, Callable[[Frame], None]]] = []
        self._queue: list[tuple[int, int, Frame, CanNode]] = []
        self._made = 0
        self._busy = False
        self.checksummed = True
        self.usage = Usage()

    def attach(self, node: CanNode) -> None:
        self._on_frame.append((node, node.on_frame))

    def frame_us(self, frame: Frame) -> float:
        """How long a frame is on the bus."""
        return frame_bits(frame.ident, frame.data) * self._us_per_bit

    def send(self, frame: Frame, sender: CanNode) -> None:
        """Queue a frame; it is sent when it wins the bus."""
        self._made += 1
        heapq.heappush(self._queue, (rank(frame.ident), self._made, frame, sender))
        if not self._busy:
            self._start()

    def _start(self) -> None:
        self._busy = True
        _rank, _made, frame, sender = heapq.heappop(self._queue)
        us = self.frame_us(frame)
        now = self._events.now_us
        self.usage.on_frame(frame, now, now + us)
        self._events.after(round(us), lambda: self._end(frame, sender))

    def _end(self, frame: Frame, sender: CanNode) -> None:
        self._busy = False
        struck = self._noise.strikes()
        sender.on_sent(frame)
        for node, on_frame in self._on_frame:
            if node is sender:
                continue
            # damage behind the bus' own CRC: in a transceiver, a gateway, a controller's buffer
            got = frame
            if struck:
                got = self._noise.frame(frame) if self.checksummed else self._noise.cut(frame)
            if got is not None:
                on_frame(got)
        if self._queue and not self._busy:
            self._start()


class UartNode(Protocol):
    def on_bytes(self, data: bytes) -> None: ...
    def on_low(self) -> None: ...


@dataclass
class _Burst:
    """Bytes on the line that have not been heard yet."""

    data: bytes
    spoilt: bool = False


class UartBus:
    """Bytes of 10 bits; two that send at once destroy each other's bytes.

    echo: the master receives its own bytes. gap_us: time that boards need between an answer and
    the next poll.
    summed: boards end their answers with a sum only, see `Noise.burst`.
    polled_us: when the master's last bytes began; answered_us: when the last answer ended.
    """

    def __init__(self, events: Events, rate_bps: int, noise: Noise) -> None:
        self._events = events
        self._us_per_byte = 1e7 / rate_bps
        self._noise = noise
        self._boards: list[UartNode] = []
        self._free_us = 0.0
        self._owner: object = None
        self._collided = False
        self._on_line: list[_Burst] = []
        self.collisions = 0
        self.echo = False
        self.summed = False
        self.gap_us = 0
        self.polled_us = self._master_us = -1e9
        self.answered_us = -1e9
        self.usage = Usage()
        self.to_master: Callable[[bytes, bool], None] = lambda data, last: None

    def attach(self, board: UartNode) -> None:
        self._boards.append(board)

    def from_master(self, data: bytes) -> None:
        """The master's bytes go on the line as soon as it is free."""
        start = max(self._free_us, self._events.now_us)
        self._send(data, self, True)
        # bytes that follow each other closely are one question
        if start - self._master_us > 1000 or self.answered_us > self._master_us:
            self.polled_us = start
        self._master_us = self._free_us
        self.usage.on_bytes(start, self._free_us, self.gap_us)
        for piece in data.split(b"\0"):
            frame = uart_decode(piece) if piece else None
            if frame is not None:
                end = start + (len(piece) + 1) * self._us_per_byte
                self.usage.on_frame(frame, start, end)
                start = end

    def from_board(self, frame: Frame, data: bytes, board: UartNode, last: bool) -> None:
        """One frame of a board as bytes; `last` ends its turn."""
        self._send(data, board, last)
        start = self._free_us - len(data) * self._us_per_byte
        self.usage.on_frame(frame, start, self._free_us)
        self.usage.on_bytes(start, self._free_us, 0.0)

    def low(self) -> None:
        """The master holds the line low for some ms."""
        for board in self._boards:
            board.on_low()

    def say(self, data: bytes, board: UartNode, violates: bool) -> None:
        """An answer of a board that was asked; violates: a reading in it is out of hard bounds."""
        start = max(self._free_us, self._events.now_us)
        self._send(data, board, True)
        self.answered_us = self._free_us
        self.usage.on_bytes(start, self._free_us, 0.0)
        if violates and self.usage.violation_us is None:
            self.usage.violation_us = round(self._free_us)

    def _send(self, data: bytes, sender: object, last: bool) -> None:
        now = self._events.now_us
        if now < self._free_us and self._owner is not sender:
            self._collided = True
            self.collisions += 1
        elif now >= self._free_us:
            self._collided = False
        self._owner = sender
        self._free_us = max(self._free_us, now) + len(data) * self._us_per_byte
        burst = _Burst(data)
        self._on_line.append(burst)
        if self._collided:
            for other in self._on_line:
                other.spoilt = True
        elif self._noise.strikes():
            burst.data = self._noise.burst(data) if self.summed else self._noise.bytes(data)
        self._events.at(math.ceil(self._free_us), lambda: self._deliver(burst, sender, last))

    def _deliver(self, burst: _Burst, sender: object, last: bool) -> None:
        self._on_line.remove(burst)
        data = bytes(b & 0x5A for b in burst.data) if burst.spoilt else burst.data
        if sender is self:
            if self.echo:
                self.to_master(data, False)
            for board in self._boards:
                board.on_bytes(data)
        else:
            self.to_master(data, last)
