"""How many bits a CAN 2.0 data frame has on the wire, stuff bits included (ISO 11898-1)."""

from .protocol import EXTENDED


def _crc15_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 7
        for _ in range(8):
            crc <<= 1
            if crc & 0x8000:
                crc ^= 0xC599
        table.append(crc & 0x7FFF)
    return table


_CRC15 = _crc15_table()


def _stuff_table() -> list[list[tuple[int, int]]]:
    # state: 2 * (run length - 1) + last bit, run 1..5; entry: (stuff bits, next state) per byte
    table = []
    for state in range(10):
        row = []
        for byte in range(256):
            row.append(_stuff(state, byte, 8))
        table.append(row)
    return table


def _stuff(state: int, value: int, bits: int) -> tuple[int, int]:
    run, last = state // 2 + 1, state % 2
    added = 0
    for i in range(bits - 1, -1, -1):
        if run == 5:
            # a stuff bit of the other level stands before this bit
            added += 1
            last, run = 1 - last, 1
        bit = value >> i & 1
        run = run + 1 if bit == last else 1
        last = bit
    return added, 2 * (run - 1) + last


_STUFF = _stuff_table()
_TAIL_BITS = 1 + 2 + 7 + 3  # CRC delimiter, acknowledge, end of frame, intermission


def frame_bits(ident: int, data: bytes) -> int:
    """Bits from the start of frame to the end of the intermission."""
    n = len(data)
    if ident & EXTENDED:
        # start, base id, SRR, IDE, the other 18 bits, RTR, r1, r0, DLC
        head_bits = 39
        head = ((ident ^ EXTENDED) >> 18 << 2 | 3) << 25 | (ident & 0x3FFFF) << 7 | n
    else:
        # start, id, RTR, IDE, r0, DLC
        head_bits = 19
        head = ident << 7 | n
    # the CRC runs over them and the data
    value = head << (8 * n) | int.from_bytes(data, "big")
    width = head_bits + 8 * n
    pad = -width % 8  # leading zeros change nothing in a CRC of init 0
    crc = 0
    for byte in value.to_bytes((width + pad) // 8, "big"):
        crc = ((crc << 8) & 0x7FFF) ^ _CRC15[((crc >> 7) ^ byte) & 0xFF]
    value = value << 15 | crc
    width += 15
    first = width % 8
    # before the frame the bus is recessive: the dominant start bit begins a run of one
    added, state = (
        _stuff(0, value >> (width - first) & ((1 << (first - 1)) - 1), first - 1)
        if (first)
        else _stuff(0, value >> (width - 8) & 127, 7)
    )
    width -= first or 8
    for byte in (value & ((1 << width) - 1)).to_bytes(width // 8, "big"):
        more, state = _STUFF[state][byte]
        added += more
    if state // 2 == 4:
        added += 1  # five equal bits at the end of the CRC are stuffed as well
    return head_bits + 8 * n + 15 + added + _TAIL_BITS
