"""CAN frames as text, of adapters that speak slcan. Nothing here allocates after the import."""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython
from micropython import const

from bms.kernels.buffers import HEX_DIGITS

# as in `links.can`, whose names the compiler can't fold in here
_EXTENDED = const(0x20000000)
_BITS = const(0x1FFFFFFF)


def _hex_values():
    values = bytearray(b"\xff" * 256)
    for i in range(16):
        values[HEX_DIGITS[i]] = i
        values[HEX_DIGITS[i] | 0x20] = i
    return values


_HEX_VALUE = _hex_values()  # by character; 255: not a hex digit


@micropython.viper
def slcan_decode(src: ptr8, start: int, end: int, dst: ptr8, ident: ptr32) -> int:
    """Decode one slcan data frame `tIIILDD..` or `TIIIIIIIILDD..` in `src[start:end]` into `dst`.

    Returns its length, with the identifier in ident[0] of an array('i'); -1 where it isn't exactly
    one (Lawicel CAN232 manual).
    """
    digits = ptr8(_HEX_VALUE)
    if end - start < 5:
        return -1
    kind = int(src[start])
    if kind == 0x74:
        at = start + 4
        top = 0x37
        flag = 0
    elif kind == 0x54:
        at = start + 9
        top = 0x31
        flag = _EXTENDED
    else:
        return -1
    if at >= end or int(src[start + 1]) > top:  # a higher first digit: more bits than it may have
        return -1
    value = 0
    i = start + 1
    while i < at:
        digit = int(digits[src[i]])
        if digit > 15:
            return -1
        value = value << 4 | digit
        i += 1
    n = int(digits[src[at]])
    at += 1
    if n > 8 or end - at != 2 * n:
        return -1
    i = 0
    while i < n:
        high = int(digits[src[at]])
        low = int(digits[src[at + 1]])
        if high > 15 or low > 15:
            return -1
        dst[i] = high << 4 | low
        at += 2
        i += 1
    ident[0] = flag | value
    return n


@micropython.viper
def slcan_encode(ident: int, data: ptr8, n: int, dst: ptr8, at: int) -> int:
    """Write `tIIILDD..\r` or `TIIIIIIIILDD..\r` into `dst` from `at`; the index behind it."""
    digits = ptr8(HEX_DIGITS)
    if ident & _EXTENDED:
        ident &= _BITS
        dst[at] = 0x54
        shift = 28
    else:
        dst[at] = 0x74
        shift = 8
    out = at + 1
    while shift >= 0:
        dst[out] = digits[(ident >> shift) & 15]
        out += 1
        shift -= 4
    dst[out] = digits[n]
    out += 1
    i = 0
    while i < n:
        dst[out] = digits[int(data[i]) >> 4]
        dst[out + 1] = digits[int(data[i]) & 15]
        out += 2
        i += 1
    dst[out] = 13
    return out + 1
