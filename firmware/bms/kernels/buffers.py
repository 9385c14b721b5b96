"""Bytes in buffers: search and copy, the parts of a line.

Each writes where it is told and gives the index behind, so that calls chain. Nothing here
allocates after the import; nothing checks that a buffer has room, so that its owner must.
"""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython

HEX_DIGITS = b"0123456789ABCDEF"
_END = b'"crc":"0000"}\n'


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
def row_of(rows: ptr8, size: int, word: ptr8, n: int) -> int:
    """Number (from 0) of the row that begins with `word[:n]` and a tab; -1 where none does.

    Each of the rows, of `size` bytes in all, ends with a line end.
    """
    at = 0
    row = 0
    while at < size:
        i = 0
        while i < n and int(rows[at + i]) == int(word[i]):
            i += 1
        if i == n and int(rows[at + n]) == 9:
            return row
        while int(rows[at]) != 10:
            at += 1
        at += 1
        row += 1
    return -1


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
def shift_aligned(data: ptr32, start: int, end: int) -> int:
    """Move the bytes `data[start:end]` to the front by a multiple of 4; their place there, 0 to 3.

    Four times as fast as `shift`. The size of `data` is a multiple of 4.
    """
    by = start >> 2
    i = by
    last = (end + 3) >> 2
    while i < last:
        data[i - by] = data[i]
        i += 1
    return start & 3


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

    `null` where a flag is not FRESH, or LEFT_OUT; a comma before each but the one at `first`.
    """
    i = start
    while i < end:
        if i > first:
            buf[at] = 0x2C
            at += 1
        if int(flags[i]) & 0x21 == 1:
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
    digits = ptr8(HEX_DIGITS)
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
    digits = ptr8(HEX_DIGITS)
    end = start + n
    while start < end:
        c = int(data[start])
        buf[at] = digits[c >> 4]
        buf[at + 1] = digits[c & 15]
        at += 2
        start += 1
    return at
