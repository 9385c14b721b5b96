"""Constant tables of the kernels and the layout of their parameter arrays, built at import."""

from array import array

DIGITS = b"0123456789ABCDEF"


def _crc_table(bits, poly, out):
    top = 1 << (bits - 1)
    for i in range(256):
        crc = i << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ (poly if crc & top else 0)
        out[i] = crc & ((1 << bits) - 1)
    return out


def _hex_values():
    values = bytearray(b"\xff" * 256)
    for i in range(16):
        values[DIGITS[i]] = i
        values[DIGITS[i] | 0x20] = i
    return values


# CRC catalogue (reveng): CRC-8/SAE-J1850 and CRC-16/IBM-3740, known as CCITT-FALSE
CRC8_J1850 = _crc_table(8, 0x1D, bytearray(256))
CRC16_CCITT = _crc_table(16, 0x1021, array("H", bytearray(512)))
HEX_VALUE = _hex_values()

# parameters of kernels.store13, an array('i'): where to write, what to mark and compare with
P_BASE, P_COUNT, P_NOW, P_LOW, P_HIGH, P_FLAGS, P_SHIFT = range(7)

# results of kernels.extremes, an array('i')
E_MIN, E_MIN_AT, E_MAX, E_MAX_AT, E_SUM, E_COUNT = range(6)
