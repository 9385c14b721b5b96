"""The cell link as a slave board speaks it, written from the protocol's layout alone.

Shares no code with the firmware, so that a mistake in one of the two shows; only the flag of
identifiers with 29 bits, which no wire carries, is the firmware's.
"""

from typing import NamedTuple

from bms.links.can import EXTENDED

from .lines import crc16

ALARM, SCAN, BALANCE, HELLO, ASSIGN = range(5)
CELLS, TEMPS, STATUS = 0x08, 0x10, 0x14
UNADDRESSED = 63
NO_READING = 8191
VERSION = 1
ABILITY_BALANCE_MASK = 1


class Frame(NamedTuple):
    """One CAN 2.0 frame, or the same inside a UART frame.

    ident: 11 bits, or 29 and EXTENDED. marked: it carries a reading out of hard bounds; the
    simulated board sets it, so that reaction times can be measured.
    """

    ident: int
    data: bytes
    marked: bool = False

    @property
    def function(self) -> int:
        """Of a frame of the cell link; -1 where it can't be one."""
        return -1 if self.ident & EXTENDED else self.ident >> 6

    @property
    def node(self) -> int:
        return self.ident & 63


def crc8(data: bytes) -> int:
    """CRC-8 SAE J1850: poly 1D, init FF, xor FF, bit by bit."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ 0x11D if crc & 0x80 else crc << 1
    return crc ^ 0xFF


# the next state by the state xor the byte
_CRC8 = [crc8(bytes([i ^ 0xFF])) ^ 0xFF for i in range(256)]


def _crc8_fast(data: bytes) -> int:
    crc = 0xFF
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc ^ 0xFF


def checksummed(function: int, node: int, payload: bytes) -> Frame:
    """A frame whose last byte is the CRC-8 over id high, id low and `payload`."""
    ident = function << 6 | node
    return Frame(ident, payload + bytes([_crc8_fast(ident.to_bytes(2, "big") + payload)]))


def checksum_is_good(frame: Frame) -> bool:
    """True where the last payload byte is the CRC-8 of everything before it."""
    head = frame.ident.to_bytes(2, "big") + frame.data[:-1]
    return bool(frame.data) and _crc8_fast(head) == frame.data[-1]


def _four(
    function: int, node: int, values: list[int | None], offset: int, seq: int, marked: bool
) -> Frame:
    word = (seq & 15) << 52
    for k in range(4):
        v = values[k] if k < len(values) else None
        word |= (NO_READING if v is None else min(max(v + offset, 0), 8190)) << (13 * k)
    frame = checksummed(function, node, word.to_bytes(7, "little"))
    return Frame(frame.ident, frame.data, True) if marked else frame


def cells_frame(node: int, k: int, mv: list[int | None], seq: int, marked: bool = False) -> Frame:
    """CELLS k: up to four voltages in mV, None = no valid reading."""
    return _four(CELLS + k, node, mv, 0, seq, marked)


def temps_frame(node: int, k: int, dc: list[int | None], seq: int, marked: bool = False) -> Frame:
    """TEMPS k: up to four temperatures in 0.1 degC, None = no sensor."""
    return _four(TEMPS + k, node, dc, 1000, seq, marked)


def status_frame(node: int, stack_mv: int, faults: int, die_c: int, duty: int, seq: int) -> Frame:
    """STATUS: stack voltage, fault bits, die temperature in degC, balancing duty in %."""
    payload = (
        min(stack_mv // 10, 65535).to_bytes(2, "little")
        + faults.to_bytes(2, "little")
        + bytes([min(max(die_c + 40, 0), 255), duty, seq & 255])
    )
    return checksummed(STATUS, node, payload)


def hello_frame(node: int, cells: int, temps: int, serial: int) -> Frame:
    """HELLO: protocol version, cells, temperatures, abilities, serial number."""
    head = bytes([VERSION, cells, temps, ABILITY_BALANCE_MASK])
    return Frame(HELLO << 6 | node, head + serial.to_bytes(4, "little"))


def alarm_frame(node: int, flags: int, cell: int, mv: int, seq: int) -> Frame:
    """ALARM: fault bits, worst cell (1..), its voltage in mV."""
    payload = flags.to_bytes(2, "little") + bytes([cell]) + mv.to_bytes(2, "little")
    return checksummed(ALARM, node, payload + bytes([seq & 255]))


def uart_encode(frame: Frame) -> bytes:
    """COBS of id low, id high, payload, CRC-16 low, high; ended by 00."""
    plain = frame.ident.to_bytes(2, "little") + frame.data
    plain += crc16(plain).to_bytes(2, "little")
    out = b""
    for block in plain.split(b"\0"):
        out += bytes([len(block) + 1]) + block
    return out + b"\0"


def uart_decode(piece: bytes) -> Frame | None:
    """The frame in a piece between two 00; None where it is broken."""
    plain = b""
    rest = piece
    while rest:
        code = rest[0]
        if code == 0 or code > len(rest):
            return None
        plain += rest[1:code]
        rest = rest[code:]
        if rest:
            plain += b"\0"
    if len(plain) < 4 or crc16(plain[:-2]) != int.from_bytes(plain[-2:], "little"):
        return None
    return Frame(int.from_bytes(plain[:2], "little"), plain[2:-2])
