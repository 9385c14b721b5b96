"""A BQ79616 in a stack behind a BQ79600 bridge, written from the layout of the chips' words.

The device next to the bridge speaks for the whole stack, since answers come one behind the other.
"""

from math import exp

import numpy as np

from ..bus import UartBus
from .kind import Kind
from .serial import SerialBoard, crc16

BPS = 1_000_000
_TSREF_V = 5.0
_BETA = 3435.0


class Bq79616(SerialBoard):
    """See `SerialBoard`: one device of 16 cell inputs, an NTC of 10 kohm at each GPIO.

    given: the address that it has, None = none; awake; timers: seconds' codes of cells 1..16;
    active, pins, tsref: what it was set up to measure;
    reset_seen: FAULT_SYS reports DRST. A device that is down hides those behind it.
    """

    ANSWER_US = 20
    TOLERANCE_MV = 1
    TOLERANCE_DC = 4

    def __init__(self, events, bus: UartBus, node: int, cells: int, temps: int, *more) -> None:  # type: ignore[no-untyped-def]
        super().__init__(events, bus, node, cells, temps, *more)
        self.given: int | None = None
        self.awake = False
        self.reset_seen = True
        self.tsref = self.pins = False
        self.active = 6
        self.going = False
        self.timers = [0] * 16
        self._balance_until_us = 0
        self.bridge_awake = False
        self._giving = False
        self._to_give: list[Bq79616] = []

    @property
    def stack(self) -> list["Bq79616"]:
        """All devices of the line, the one next to the bridge first."""
        return sorted((b for b in self.bus._boards if isinstance(b, Bq79616)), key=lambda b: b.node)

    def reachable(self) -> list["Bq79616"]:
        """Those that words get to."""
        out = []
        for device in self.stack:
            if not device.alive:
                break
            out.append(device)
        return out

    def on_low(self) -> None:
        self.bridge_awake = True

    def rebooted(self) -> None:
        self.given = None
        self.awake = False
        self.reset_seen = True
        self.tsref = self.pins = self.going = False
        self.active = 6
        self.timers = [0] * 16
        self._balance_until_us = 0

    def beyond(self) -> bool:
        return any(SerialBoard.beyond(device) for device in self.stack if device.mv)

    def balancing_cells(self) -> int:
        if not self.alive or self.events.now_us >= self._balance_until_us:
            return 0
        return self.balance_mask

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        for start in range(len(data)):
            init = data[start]
            if not init & 0x80:
                continue
            kind = init & 0x70
            head = 4 if kind in (0x00, 0x10) else 3
            read = kind in (0x00, 0x20, 0x40)
            size = head + (1 if read else (init & 7) + 1) + 2
            if len(data) - start < size:
                return None, start
            frame = data[start : start + size]
            if crc16(frame[:-2]) == frame[-2:]:
                return frame, start + size
        return None, len(data)

    def on_bytes(self, data: bytes) -> None:
        if self.node == self.stack[0].node:  # the one that speaks for all
            super().on_bytes(data)

    def answer(self, request: bytes) -> bytes | None:
        if not self.bridge_awake:
            return None
        kind = request[0] & 0x70
        at = 2 if kind in (0x00, 0x10) else 1
        register = int.from_bytes(request[at : at + 2], "big")
        body = request[at + 2 : -2]
        devices = [d for d in self.reachable() if d.awake]
        if kind == 0x20:
            given = [d for d in devices if d.given is not None]
            answers = [d._read(register, body[0] + 1) for d in given]
            if register == 0x0568:
                for device in given:
                    device.note_back()
            return b"".join(reversed(answers)) or None
        if kind == 0x00:
            polled = [d for d in devices if d.given == request[1]]
            return polled[0]._read(register, body[0] + 1) if polled else None
        if kind == 0x10:
            self._one(request[1], register, body)
        elif kind == 0x30:
            for device in devices:
                device._write(register, body)
        elif kind == 0x50:
            self._all(register, body)
        return None

    def _one(self, address: int, register: int, body: bytes) -> None:
        if address == 0 and register == 0x0309 and body[0] & 0x20:
            for device in self.reachable():
                device.awake = True
        for device in self.reachable():
            if device.given == address:
                device._write(register, body)

    def _all(self, register: int, body: bytes) -> None:
        if register == 0x0309 and body[0] & 1:
            self._to_give = [d for d in self.reachable() if d.awake]
            for device in self._to_give:
                device.given = None
            self._giving = True
        elif register == 0x0306 and self._giving and body[0] and self._to_give:
            self._to_give.pop(0).given = body[0]

    def _write(self, register: int, body: bytes) -> None:
        if register == 0x0331:
            self.reset_seen = False
        elif register == 0x0003:
            self.active = 6 + body[0]
        elif register == 0x000E:
            self.pins = all(body)
        elif register == 0x030A:
            self.tsref = bool(body[0] & 1)
        elif register == 0x030D and body[0] & 4:
            self.going = True
            self.sample()
        elif 0x0318 <= register <= 0x0327:
            for i, code in enumerate(body):
                self.timers[15 - (register - 0x0318) - i] = code
        elif register == 0x032F and body[0] & 2:
            self.balance_mask = sum(1 << i for i in range(16) if self.timers[i])
            seconds = {0: 0, 1: 10, 2: 30}[max(self.timers)]
            self._balance_until_us = self.events.now_us + seconds * 1_000_000

    def _read(self, register: int, n: int) -> bytes:
        data = b""
        if register == 0x0568:
            words = [round(mv / 0.19073) for mv in self.mv] if self.going else []
            words = [*words, *([0] * (16 - len(words)))] if self.going else []
            words = [*words[: self.active], *([-0x8000] * 16)][:16]
            data = b"".join(w.to_bytes(2, "big", signed=True) for w in reversed(words))
        elif register == 0x058C:
            tsref = round(_TSREF_V / 169.54e-6) if self.tsref else 0
            data = tsref.to_bytes(2, "big")
            for i in range(8):
                dc = self.dc[i] if i < len(self.dc) else None
                data += self._gpio(dc).to_bytes(2, "big") if self.pins else b"\x80\0"
        elif register == 0x0306:
            data = bytes([self.given or 0])
        elif register == 0x05AE:
            data = (self.board_c * 40).to_bytes(2, "big", signed=True)
        elif register == 0x052D:
            data = bytes([2 * self.reset_seen | 32 * ("hardware" in self.alarms)])
        elif register == 0x0536:
            data = bytes([0x10 * self.reset_seen])
        data = data.ljust(n, b"\0")[:n]
        assert self.given is not None
        head = bytes([n - 1, self.given]) + register.to_bytes(2, "big")
        return head + data + crc16(head + data)

    def _gpio(self, dc: int | None) -> int:
        if dc is None:
            return round(_TSREF_V / 152.59e-6)  # nothing pulls it down
        r = exp(_BETA * (1 / (dc / 10 + 273.15) - 1 / 298.15))
        return round(r / (1 + r) * _TSREF_V / 152.59e-6)

    def step_mv(self, mv: int) -> int:
        return int(np.clip(round(round(mv / 0.19073) * 0.19073), -6000, 6000))


KIND = Kind(
    ("uart",),
    {"uart": 1_000_000},
    Bq79616,
    cells=16,
    temps=8,
    back=5,  # found lost in two scans, then addressed; each lost word costs one more
    scan_ms=lambda boards, cells: 10 + 0.8 * boards,
)
