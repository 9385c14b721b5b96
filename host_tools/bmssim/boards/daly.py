"""A Daly board, written from the protocol's layout.

On UART or RS-485: 13 bytes `A5 addr cmd 08 d0..d7 sum`. On CAN: d0..d7 in 29-bit frames, asked by
18`cc`nn40 and answered 18`cc`40nn. Frames of cells are numbered from 1, as captured ones are, or
from `first`.
"""

from typing import Any

from ..bus import CanBus, UartBus
from ..events import Events
from ..protocol import EXTENDED, Frame
from .can import CanBoard
from .commercial import CommercialBoard
from .kind import Kind
from .serial import SerialBoard

# (byte, bit) of the alarm frame
_ALARMS = {
    "cell_high": (0, 1),
    "cell_low": (0, 3),
    "temp_high": (1, 5),
    "temp_low": (1, 7),
    "current": (2, 3),
    "short_circuit": (6, 2),
    "hardware": (5, 0),
    "other": (2, 4),
}


class _Daly(CommercialBoard):
    """What a board answers over any link; it balances as it likes, which isn't simulated.

    longer: frames of cells beyond those that it has, with nothing in them.
    """

    first = 1
    command = 0  # that it answered last

    def payloads(self, command: int, d0: int) -> list[bytes]:
        """d0..d7 of each frame that answers a command, none where there is no such command."""
        self.command = command
        if command == 0x95:
            self.sample()
            cells = [*self.mv, *([0] * (-self.cells % 3 + 3 * self.longer))]
            parts = [cells[i : i + 3] for i in range(0, len(cells), 3)]
            return [
                bytes([self.first + n]) + b"".join(mv.to_bytes(2, "big") for mv in part) + b"\0"
                for n, part in enumerate(parts)
            ]
        if command == 0x96:
            self.sample()
            raw = bytes(0 if dc is None else dc // 10 + 40 for dc in self.dc) or b"\x41"
            parts_raw = [raw[i : i + 7] for i in range(0, len(raw), 7)]
            return [(bytes([self.first + n]) + part) for n, part in enumerate(parts_raw)]
        if command == 0x90:
            decivolts = (self.stack_mv + 50) // 100 if self.mv else 0
            words = (decivolts, 0, 30000, 800)
            return [b"".join(w.to_bytes(2, "big") for w in words)]
        if command == 0x93:
            fets = bytes([0, self.fets & 1, self.fets >> 1, 0])
            return [fets + (20_000).to_bytes(4, "big")]
        if command == 0x94:
            return [bytes([self.cells, self.temps, 0, 0, 0, 0, 7])]
        if command == 0x97:
            return [bytes(6)]
        if command == 0x98:
            out = bytearray(8)
            for name in self.alarms:
                byte, bit = _ALARMS[name]
                out[byte] |= 1 << bit
            return [bytes(out)]
        if command in (0xD9, 0xDA):
            bit = 2 if command == 0xD9 else 1
            self.fets = self.fets | bit if d0 else self.fets & ~bit
            return [bytes([d0])]
        return []

    def beyond(self) -> bool:
        low, high, hottest = self.watch
        if self.command == 0x95:
            return any(not low <= mv <= high for mv in self.mv)
        return self.command == 0x96 and any(dc is not None and dc > hottest for dc in self.dc)

    def step_dc(self, dc: int) -> int:
        return round(dc / 10) * 10


class DalyBoard(_Daly, SerialBoard):
    """On a line; see `SerialBoard`."""

    ROOM = True
    ANSWER_US = 20_000
    GAP_US = 20_000
    SUMMED = True

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        start = data.find(b"\xa5")
        if start:
            return None, len(data) if start < 0 else start
        if len(data) < 13:
            return None, 0
        frame = data[:13]
        if sum(frame[:12]) & 0xFF != frame[12] or frame[3] != 8:
            return None, 1
        return frame, 13

    def answer(self, request: bytes) -> bytes | None:
        if request[1] != 0x40 + self.node - 1:
            return None
        out = b""
        for payload in self.payloads(request[2], request[4]):
            body = bytes([0xA5, self.address, request[2], 8]) + payload.ljust(8, b"\0")
            out += body + bytes([sum(body) & 0xFF])
        return out or None


class DalyCanBoard(_Daly, CanBoard):
    """On a CAN bus; see `CanBoard`. too_early: as `SerialBoard`'s."""

    ANSWER_US = 20_000
    GAP_US = 20_000

    too_early = 0
    answered_us = -GAP_US

    def receive(self, ident: int, data: bytes) -> None:
        if ident & ~0xFF0000 != EXTENDED | 0x18000040 | self.node << 8 or len(data) != 8:
            return
        if self.asleep:
            self.asleep = False
            return
        usage, now = self.bus.usage, self.events.now_us
        began_us = now - self.bus.frame_us(Frame(ident, data))
        usage.on_bytes(began_us, now, self.GAP_US)
        if began_us - self.answered_us < self.GAP_US:
            self.too_early += 1
            return
        command = ident >> 16 & 0xFF
        answer = EXTENDED | 0x18004000 | command << 16 | self.address
        frames = [(answer, d.ljust(8, b"\0")) for d in self.payloads(command, data[0])]
        if not frames:
            return
        life = self._starts
        usage.wait(self.ANSWER_US)
        delay = round(self.ANSWER_US * self.drift * self.slow)
        self.events.after(delay, lambda: self.say(frames if life == self._starts else []))

    def on_sent(self, frame: Frame) -> None:
        self.answered_us = self.events.now_us
        began_us = self.answered_us - self.bus.frame_us(frame)
        self.bus.usage.on_bytes(began_us, self.answered_us, 0.0)


def make(events: Events, bus: CanBus | UartBus, *args: Any) -> CommercialBoard:
    """A board on a bus of either kind."""
    if isinstance(bus, CanBus):
        return DalyCanBoard(events, bus, *args)
    return DalyBoard(events, bus, *args)


KIND = Kind(
    ("uart", "can"),
    {"uart": 9600, "can": 250_000},
    make,
    most=16,
    balances=False,
    scan_ms=lambda boards, cells: boards * (200 + 13 * 1.05 * (10 + (cells + 2) // 3)),
)
