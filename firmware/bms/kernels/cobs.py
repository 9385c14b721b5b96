"""COBS, the framing of the cell link over a UART. Nothing here allocates.

The owner of the buffer that `cobs_encode` writes checks that it has room.
"""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython


@micropython.viper
def cobs_encode(src: ptr8, n: int, dst: ptr8, at: int) -> int:
    """COBS of `src[:n]` (n < 254) into `dst` from `at`, the delimiter 00 last; the index behind.

    Source: Cheshire and Baker, Consistent Overhead Byte Stuffing (1999).
    """
    code_at = at
    out = at + 1
    i = 0
    while i < n:
        if src[i]:
            dst[out] = src[i]
        else:
            dst[code_at] = out - code_at
            code_at = out
        out += 1
        i += 1
    dst[code_at] = out - code_at
    dst[out] = 0
    return out + 1


@micropython.viper
def cobs_decode(src: ptr8, start: int, end: int, dst: ptr8, room: int) -> int:
    """Decode COBS `src[start:end]` (without its delimiter) into `dst`; its length, -1 if broken."""
    out = 0
    i = start
    while i < end:
        code = int(src[i])
        if code == 0 or i + code > end:
            return -1
        i += 1
        k = 1
        while k < code:
            if out >= room:
                return -1
            dst[out] = src[i]
            out += 1
            i += 1
            k += 1
        if code < 0xFF and i < end:
            if out >= room:
                return -1
            dst[out] = 0
            out += 1
    return out
