"""How many bits a CAN 2.0 data frame has on the wire, stuff bits included (ISO 11898-1)."""

from functools import lru_cache

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


class _Run(list[tuple[int, "_Run"]]):
    """What comes after a run of equal bits: (stuff bits, run at the end) by the next byte."""

    full = False  # five equal bits: a stuff bit follows


def _runs() -> list[_Run]:
    # state: 2 * (run length - 1) + last bit, run 1..5
    runs = [_Run() for _ in range(10)]
    for state, run in enumerate(runs):
        run.full = state // 2 == 4
        for byte in range(256):
            added, then = _stuff(state, byte, 8)
            run.append((added, runs[then]))
    return runs


_RUNS = _runs()
# after the dominant start bit, a run of one, by the bits of the identifier before the first byte
_FIRST = {
    bits: [(added, _RUNS[then]) for added, then in (_stuff(0, v, bits) for v in range(1 << bits))]
    for bits in (1, 5)
}
_TAIL_BITS = 1 + 2 + 7 + 3  # CRC delimiter, acknowledge, end of frame, intermission


@lru_cache(maxsize=4096)
def _crc_of_head(head: int) -> int:
    crc = 0
    for byte in head.to_bytes(5, "big"):  # leading zeros change nothing in a CRC of init 0
        crc = (crc << 8 & 0x7FFF) ^ _CRC15[crc >> 7 ^ byte]
    return crc


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
    # the CRC runs over them and the data; it is the same for all frames with this head up to these
    crc = _crc_of_head(head)
    for byte in data:
        crc = (crc << 8 & 0x7FFF) ^ _CRC15[crc >> 7 ^ byte]
    value = (head << 8 * n | int.from_bytes(data, "big")) << 15 | crc
    width = head_bits + 8 * n + 15 & ~7
    bits = head_bits + 14 & 7  # behind the start bit, before the whole bytes
    added, run = _FIRST[bits][value >> width]  # the start bit is 0
    for byte in (value & (1 << width) - 1).to_bytes(width >> 3, "big"):
        more, run = run[byte]
        added += more
    # five equal bits at the end of the CRC are stuffed as well
    return head_bits + 8 * n + 15 + added + run.full + _TAIL_BITS
