"""Checksums of other makers' slave boards, without tables. Nothing here allocates."""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython


@micropython.viper
def crc16_modbus(data: ptr8, start: int, end: int) -> int:
    """CRC-16/MODBUS (poly 8005 reflected, init FFFF) of `data[start:end]`."""
    crc = 0xFFFF
    while start < end:
        crc ^= int(data[start])
        k = 0
        while k < 8:
            if crc & 1:
                crc = (crc >> 1) ^ 0xA001
            else:
                crc = crc >> 1
            k += 1
        start += 1
    return crc


@micropython.viper
def crc8(data: ptr8, start: int, end: int) -> int:
    """CRC-8 (poly 07, init 0) of `data[start:end]`."""
    crc = 0
    while start < end:
        crc ^= int(data[start])
        k = 0
        while k < 8:
            crc = crc << 1
            if crc & 0x100:
                crc ^= 0x107
            k += 1
        start += 1
    return crc


@micropython.viper
def total(data: ptr8, start: int, end: int) -> int:
    """Sum of the bytes of `data[start:end]`."""
    out = 0
    while start < end:
        out += int(data[start])
        start += 1
    return out
