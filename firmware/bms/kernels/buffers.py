"""Bytes in buffers: search and copy, COBS, slcan, frames of a CAN controller, digits of a line.

Each writes where it is told and gives the index behind, so that calls chain. Nothing here
allocates after the import; nothing checks that a buffer has room, so that its owner must.
"""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython
from micropython import const

# an identifier of a CAN frame in one int: its 29 bits, and the flag of an extended frame
EXTENDED = const(0x20000000)
BITS = const(0x1FFFFFFF)

_DIGITS = b"0123456789ABCDEF"
_END = b'"crc":"0000"}\n'


def _hex_values():
    values = bytearray(b"\xff" * 256)
    for i in range(16):
        values[_DIGITS[i]] = i
        values[_DIGITS[i] | 0x20] = i
    return values


_HEX_VALUE = _hex_values()  # by character; 255: not a hex digit


@micropython.viper
def find(data: ptr8, start: int, end: int, value: int) -> int:
    """Index of the first byte equal to `value` in `data[start:end]`, -1 where there is none."""
    while start < end:
        if int(data[start]) == value:
            return start
        start += 1
    return -1


@micropython.viper
def nth(data: ptr8, n: int, stop: int) -> int:
    """Index of the n-th text (from 0) of those in `data`, each ended by a byte `stop`."""
    at = 0
    while n > 0:
        if int(data[at]) == stop:
            n -= 1
        at += 1
    return at


@micropython.viper
def shift(data: ptr8, start: int, end: int) -> int:
    """Move `data[start:end]` to the front; the count of bytes moved."""
    n = end - start
    i = 0
    while i < n:
        data[i] = data[start + i]
        i += 1
    return n


@micropython.viper
def copy(dst: ptr8, src: ptr8, start: int, n: int):
    """Copy src[start:start + n] to the beginning of `dst`."""
    i = 0
    while i < n:
        dst[i] = src[start + i]
        i += 1


@micropython.viper
def copy16(dst: ptr16, src: ptr16, n: int):
    """Copy the first n values of 16 bits."""
    i = 0
    while i < n:
        dst[i] = src[i]
        i += 1


@micropython.viper
def splice(dst: ptr8, at: int, src: ptr8, start: int, n: int):
    """Copy n bytes of `src`, an array of any kind, from its byte `start` into `dst` at `at`."""
    i = 0
    while i < n:
        dst[at + i] = src[start + i]
        i += 1


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
        flag = EXTENDED
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
    digits = ptr8(_DIGITS)
    if ident & EXTENDED:
        ident &= BITS
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


@micropython.viper
def mcp_frame(ring: ptr8, at: int, data: ptr8, ident: ptr32) -> int:
    """Unpack a frame in an MCP2515's form (identifier in 4 bytes, length, data) at ring[at + 1].

    Its payload goes into `data`, its identifier into ident[0] of an array('i'). Returns its length,
    -1 if it is no data frame. Source: MCP2515 datasheet, RXBnSIDH to RXBnDm.
    """
    low = int(ring[at + 2])
    n = int(ring[at + 5]) & 0x4F  # with the bit of a remote frame
    value = int(ring[at + 1]) << 3 | low >> 5
    if low & 0x08:
        value = value << 18 | (low & 3) << 16 | int(ring[at + 3]) << 8 | int(ring[at + 4])
        value |= EXTENDED
    elif low & 0x10:
        return -1
    if n > 8:
        return -1
    i = 0
    while i < 8:
        data[i] = ring[at + 6 + i]
        i += 1
    ident[0] = value
    return n


@micropython.viper
def put(buf: ptr8, at: int, text: ptr8, n: int) -> int:
    """Copy `text[:n]`, bytes or plain characters, into `buf` at `at`; the index behind it."""
    i = 0
    while i < n:
        buf[at + i] = text[i]
        i += 1
    return at + n


@micropython.viper
def put_int(buf: ptr8, at: int, value: int) -> int:
    """Write `value` (|value| < 2**30) in decimal into `buf` at `at`; the index behind it."""
    if value < 0:
        buf[at] = 45
        at += 1
        value = 0 - value
    power = 1
    while value // power >= 10:
        power *= 10
    while power > 0:
        buf[at] = 48 + value // power % 10
        at += 1
        power = power // 10
    return at


@micropython.viper
def put_key(buf: ptr8, at: int, name: ptr8, n: int) -> int:
    """Write `,"name":` with the n bytes of `name`; the index behind it."""
    buf[at] = 0x2C
    buf[at + 1] = 0x22
    at += 2
    i = 0
    while i < n:
        buf[at + i] = name[i]
        i += 1
    at += n
    buf[at] = 0x22
    buf[at + 1] = 0x3A
    return at + 2


@micropython.viper
def put_text(buf: ptr8, at: int, name: ptr8, n: int, text: ptr8, m: int) -> int:
    """Write a key as `put_key` does, and the m bytes of `text` in quotes; the index behind it."""
    at = int(put_key(buf, at, name, n))
    buf[at] = 0x22
    at += 1
    i = 0
    while i < m:
        buf[at + i] = text[i]
        i += 1
    at += m
    buf[at] = 0x22
    return at + 1


@micropython.viper
def put_field(buf: ptr8, at: int, name: ptr8, n: int, value: int) -> int:
    """Write a key as `put_key` does, and an integer as `put_int` does; the index behind it."""
    return int(put_int(buf, int(put_key(buf, at, name, n)), value))


# parameters: a kernel gets its buffers one by one
@micropython.viper
def put_values(
    buf: ptr8, at: int, values: ptr16, flags: ptr8, start: int, end: int, first: int
) -> int:
    """Write values start..end-1 of an array('h') as a JSON list has them; the place behind.

    `null` where a flag is not FRESH; a comma before each but the one at `first`.
    """
    i = start
    while i < end:
        if i > first:
            buf[at] = 0x2C
            at += 1
        if int(flags[i]) & 1:
            at = int(put_int(buf, at, (int(values[i]) ^ 0x8000) - 0x8000))
        else:
            buf[at] = 0x6E
            buf[at + 1] = 0x75
            buf[at + 2] = 0x6C
            buf[at + 3] = 0x6C
            at += 4
        i += 1
    return at


@micropython.viper
def put_end(buf: ptr8, at: int, crc: int) -> int:
    """Write `"crc":"XXXX"}` and a line end, with the low 16 bits of `crc`; the index behind."""
    digits = ptr8(_DIGITS)
    text = ptr8(_END)
    i = 0
    while i < 14:
        buf[at + i] = text[i]
        i += 1
    buf[at + 7] = digits[(crc >> 12) & 15]
    buf[at + 8] = digits[(crc >> 8) & 15]
    buf[at + 9] = digits[(crc >> 4) & 15]
    buf[at + 10] = digits[crc & 15]
    return at + 14


@micropython.viper
def put_hex(buf: ptr8, at: int, data: ptr8, start: int, n: int) -> int:
    """Write n bytes of `data` from `start` as upper-case hex digits; the index behind them."""
    digits = ptr8(_DIGITS)
    end = start + n
    while start < end:
        c = int(data[start])
        buf[at] = digits[c >> 4]
        buf[at + 1] = digits[c & 15]
        at += 2
        start += 1
    return at


@micropython.viper
def wait_for(at: ptr32, ms: int, ticks_ms, idle) -> int:
    """Call `idle` until at[0] and at[1] differ (1) or `ms` of `ticks_ms` have passed (0)."""
    start = int(ticks_ms())
    while (int(ticks_ms()) - start) & 0x1FFFFFFF < ms:
        if int(at[0]) != int(at[1]):
            return 1
        idle()
    return 0
