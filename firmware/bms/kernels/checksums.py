"""Checksums of our own frames, lines and files, and their tables.

Those of other makers' boards stand in `slave_checksums`. Nothing here allocates after the import.
"""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

from array import array

import micropython


def _crc_table(bits, poly, out):
    top = 1 << (bits - 1)
    for i in range(256):
        crc = i << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ (poly if crc & top else 0)
        out[i] = crc & ((1 << bits) - 1)
    return out


# CRC catalogue (reveng): CRC-8/SAE-J1850 and CRC-16/IBM-3740, known as CCITT-FALSE
CRC8_J1850 = _crc_table(8, 0x1D, bytearray(256))
CRC16_CCITT = _crc_table(16, 0x1021, array("H", bytearray(512)))


@micropython.viper
def crc8_frame(ident: int, data: ptr8, n: int) -> int:
    """SAE J1850 CRC-8 (poly 1D, init FF, xor FF) over id high, id low and `data[:n]`."""
    table = ptr8(CRC8_J1850)
    crc = int(table[0xFF ^ (ident >> 8)])
    crc = int(table[crc ^ (ident & 0xFF)])
    i = 0
    while i < n:
        crc = int(table[crc ^ data[i]])
        i += 1
    return crc ^ 0xFF


@micropython.viper
def crc16(data: ptr8, start: int, end: int, crc: int) -> int:
    """CRC-16/CCITT-FALSE (poly 1021) over `data[start:end]`, from `crc` (0xFFFF to begin)."""
    table = ptr16(CRC16_CCITT)
    while start < end:
        crc = ((crc << 8) & 0xFFFF) ^ int(table[(crc >> 8) ^ data[start]])
        start += 1
    return crc
