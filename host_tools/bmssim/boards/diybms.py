"""A block of diyBMS modules in a ring, written from the protocol's layout.

AA, then 40 bytes with 88 as escape: start, end, command, hops, sequence, 16 words, CRC-16/XMODEM.
Each module takes a packet whole before it sends it on.
"""

import binascii

import numpy as np

from ..bus import UartBus
from .kind import Kind
from .serial import SerialBoard

_VOLTAGE, _TEMPERATURE, _SETTINGS, _WRITE, _TIMING = 1, 3, 5, 6, 8
BPS = 10_000


class DiybmsBlock(SerialBoard):
    """See `SerialBoard`: up to 16 modules, one cell each; every block of a bus is part of its ring.

    threshold_mv: above it a module balances its cell; internal_open: modules with an open
    thermistor; writes: count of writes to the EEPROM. A block that is not alive silences the ring.
    """

    TOLERANCE_DC = 0

    def __init__(self, events, bus: UartBus, node: int, cells: int, temps: int, *more) -> None:  # type: ignore[no-untyped-def]
        super().__init__(events, bus, node, cells, temps, *more)
        self.threshold_mv = [4100] * cells
        self.internal_open: set[int] = set()
        self.writes = 0

    @property
    def ring(self) -> list["DiybmsBlock"]:
        """All blocks of the line, in the order of their modules."""
        blocks = [b for b in self.bus._boards if isinstance(b, DiybmsBlock)]
        return sorted(blocks, key=lambda b: b.node)

    @property
    def modules(self) -> int:
        """Of the whole ring."""
        return sum(block.cells for block in self.ring)

    @property
    def ANSWER_US(self) -> int:  # type: ignore[override]  # noqa: N802
        """The packet's way from the first module to the last."""
        return round((self.modules - 1) * 41 * 1e7 / BPS)

    def request(self, data: bytes) -> tuple[bytes | None, int]:
        start = data.rfind(b"\xaa")
        if start < 0:
            return None, len(data)
        packet, at = bytearray(), start + 1
        while at < len(data) and len(packet) < 40:
            if data[at] == 0x88:
                if at + 1 == len(data):
                    break
                at += 1
                packet.append(data[at] | 0x80)
            else:
                packet.append(data[at])
            at += 1
        if len(packet) < 40:
            return None, start
        return bytes(packet), at

    def on_bytes(self, data: bytes) -> None:
        # a packet takes longer than the line's usual pause at these rates
        self._received_us = self.events.now_us
        super().on_bytes(data)

    def answer(self, request: bytes) -> bytes | None:
        first = self.ring[0]
        mine = (self.node - 1) * 16
        start, end, command = request[0], request[1], request[2]
        if not all(block.alive for block in self.ring):
            return None
        good = binascii.crc_hqx(request, 0) == 0 or _crc(request[:38]) == request[38:]
        owner = next((b for b in self.ring if (b.node - 1) * 16 <= start < b.node * 16), first)
        if owner is not self:
            return None
        if not good:
            return _wire(request)  # sent on unchanged, so that the master sees it
        words = [int.from_bytes(request[6 + 2 * i : 8 + 2 * i], "little") for i in range(16)]
        wanted = [i for i in range(self.cells) if start <= mine + i <= end]
        done = bool(wanted)
        if command == _VOLTAGE:
            self.sample()
            for i in wanted:
                words[i] = self.mv[i] & 0x1FFF
                if self.mv[i] > self.threshold_mv[i]:
                    words[i] |= 0x8000
                if "temp_high" in self.alarms:
                    words[i] |= 0x4000
            self.balance_mask = sum(
                1 << i for i in range(self.cells) if self.mv[i] > self.threshold_mv[i]
            )
        elif command == _TEMPERATURE:
            self.sample()
            for i in wanted:
                dc = self.dc[i] if i < len(self.dc) else None
                inside = 0 if i in self.internal_open else self.board_c + 40
                words[i] = inside << 8 | (0 if dc is None else round(dc / 10) + 40)
        elif command == _SETTINGS:
            words = self._settings(wanted[0])
        elif command == _WRITE:
            self._write(wanted, words)
        elif command != _TIMING:
            done = False
        packet = bytes([start, end, command | 0x80 * done, self.modules])
        packet += request[4:6] + b"".join(word.to_bytes(2, "little") for word in words)
        return _wire(packet + _crc(packet))

    def _settings(self, i: int) -> list[int]:
        words = [0] * 16
        words[6] = 70
        words[7] = self.threshold_mv[i]
        words[10] = 440
        return words

    def _write(self, wanted: list[int], words: list[int]) -> None:
        assert words[2] == words[3] == 0xFFFF, "the calibration was overwritten"
        assert words[6] == 0x00FF, "the bypass temperature was overwritten"
        for i in wanted:
            self.writes += 1
            if words[7] != 0xFFFF:
                self.threshold_mv[i] = words[7]

    def step_dc(self, dc: int) -> int:
        return round(dc / 10) * 10

    def step_mv(self, mv: int) -> int:
        return int(np.clip(mv, 0, 0x1FFF))

    def rebooted(self) -> None:
        self.balance_mask = 0  # thresholds stand in the EEPROM


def _crc(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def _wire(packet: bytes) -> bytes:
    out = b"\xaa"
    for byte in packet:
        out += bytes([0x88, byte & 0x7F]) if byte in (0xAA, 0x88) else bytes([byte])
    return out


KIND = Kind(
    ("uart",),
    {"uart": BPS},
    DiybmsBlock,
    most=13,
    few=3,
    cells=16,
    temps=16,
    says_rate=True,
    scan_ms=lambda boards, cells: 3 * boards * (boards * cells + 1) * 410_000 / BPS,
)
