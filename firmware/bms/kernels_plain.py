"""The inner loops in plain Python: checksums, bit unpacking, scans over arrays, digits.

Twin of `kernels_viper`: the same names, arguments and results, and the tests compare the two.
Runs under CPython, and under MicroPython where a port has no native emitter.
Parameters of the wider ones travel in an `array('i')`, because a call with many arguments costs
more than the work.
"""

from bms.tables import (
    CRC8_J1850,
    CRC16_CCITT,
    DIGITS,
    E_COUNT,
    E_MAX,
    E_MAX_AT,
    E_MIN,
    E_MIN_AT,
    E_SUM,
    HEX_VALUE,
    P_BASE,
    P_COUNT,
    P_FLAGS,
    P_HIGH,
    P_LOW,
    P_NOW,
    P_SHIFT,
)


def crc8_frame(ident, data, n):
    """SAE J1850 CRC-8 (poly 1D, init FF, xor FF) over id high, id low and `data[:n]`."""
    crc = CRC8_J1850[0xFF ^ (ident >> 8)]
    crc = CRC8_J1850[crc ^ (ident & 0xFF)]
    for i in range(n):
        crc = CRC8_J1850[crc ^ data[i]]
    return crc ^ 0xFF


def crc16(data, start, end, crc):
    """CRC-16/CCITT-FALSE (poly 1021) over `data[start:end]`, from `crc` (0xFFFF to begin)."""
    for i in range(start, end):
        crc = ((crc << 8) & 0xFFFF) ^ CRC16_CCITT[(crc >> 8) ^ data[i]]
    return crc


def find(data, start, end, value):
    """Index of the first byte equal to `value` in `data[start:end]`, -1 where there is none."""
    for i in range(start, end):
        if data[i] == value:
            return i
    return -1


def shift(data, start, end):
    """Move `data[start:end]` to the front; the count of bytes moved."""
    n = end - start
    for i in range(n):
        data[i] = data[start + i]
    return n


def cobs_encode(src, n, dst, at):
    """COBS of `src[:n]` (n < 254) into `dst` from `at`, the delimiter 00 last; the index behind.

    Source: Cheshire and Baker, Consistent Overhead Byte Stuffing (1999).
    """
    code_at = at
    out = at + 1
    for i in range(n):
        if src[i]:
            dst[out] = src[i]
        else:
            dst[code_at] = out - code_at
            code_at = out
        out += 1
    dst[code_at] = out - code_at
    dst[out] = 0
    return out + 1


def cobs_decode(src, start, end, dst, room):
    """Decode COBS `src[start:end]` (without its delimiter) into `dst`; its length, -1 if broken."""
    out = 0
    i = start
    while i < end:
        code = src[i]
        if code == 0 or i + code > end:
            return -1
        i += 1
        for _ in range(code - 1):
            if out >= room:
                return -1
            dst[out] = src[i]
            out += 1
            i += 1
        if code < 0xFF and i < end:
            if out >= room:
                return -1
            dst[out] = 0
            out += 1
    return out


def slcan_decode(src, start, end, dst):
    """Decode one slcan standard data frame `tIIILDD..` in `src[start:end]` into `dst`.

    Returns id << 4 | length, or -1 where it isn't one to the letter (Lawicel CAN232 manual).
    """
    if end - start < 5 or src[start] != 0x74:
        return -1
    ident = 0
    for i in range(start + 1, start + 4):
        digit = HEX_VALUE[src[i]]
        if digit > 15:
            return -1
        ident = ident << 4 | digit
    n = HEX_VALUE[src[start + 4]]
    if n > 8 or end - start != 5 + 2 * n or ident > 0x7FF:
        return -1
    for i in range(n):
        high = HEX_VALUE[src[start + 5 + 2 * i]]
        low = HEX_VALUE[src[start + 6 + 2 * i]]
        if high > 15 or low > 15:
            return -1
        dst[i] = high << 4 | low
    return ident << 4 | n


def slcan_encode(ident, data, n, dst, at):
    """Write `tIIILDD..\\r` for a standard frame into `dst` from `at`; the index behind it."""
    dst[at] = 0x74
    dst[at + 1] = DIGITS[(ident >> 8) & 15]
    dst[at + 2] = DIGITS[(ident >> 4) & 15]
    dst[at + 3] = DIGITS[ident & 15]
    dst[at + 4] = DIGITS[n]
    out = at + 5
    for i in range(n):
        dst[out] = DIGITS[data[i] >> 4]
        dst[out + 1] = DIGITS[data[i] & 15]
        out += 2
    dst[out] = 13
    return out + 1


def store13(data, values, flags, stamps, p):
    """Unpack up to four 13-bit values (8191 = no reading) and compare them as they arrive.

    Value k goes, with p[P_SHIFT] added, to index p[P_BASE] + k of `values` array('h'), with
    p[P_FLAGS] in `flags` and p[P_NOW] in `stamps` array('i'); an absent one changes nothing.
    Returns the index k (0..3) of the first value outside p[P_LOW]..p[P_HIGH], or -1, plus
    256 x the count of values stored.
    """
    worst = -1
    stored = 0
    base = p[P_BASE]
    for k in range(p[P_COUNT]):
        bit = 13 * k
        at = bit >> 3
        raw = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        raw = (raw >> (bit & 7)) & 0x1FFF
        if raw == 0x1FFF:
            continue
        value = raw + p[P_SHIFT]
        i = base + k
        values[i] = value
        flags[i] = p[P_FLAGS]
        stamps[i] = p[P_NOW]
        stored += 1
        if worst < 0 and (value < p[P_LOW] or value > p[P_HIGH]):
            worst = k
    return worst + (stored << 8)


def extremes(values, flags, start, end, mark, out):
    """Minimum, maximum, where each stands first, sum and count of the marked values in a range.

    `values` array('h'); marked: `flags` & `mark` isn't 0; `out` array('i') of 6, count 0 where
    none is.
    """
    low = 0x7FFF
    high = -0x8000
    low_at = high_at = -1
    total = count = 0
    for i in range(start, end):
        if flags[i] & mark:
            value = values[i]
            if value < low:
                low = value
                low_at = i
            if value > high:
                high = value
                high_at = i
            total += value
            count += 1
    out[E_MIN] = low
    out[E_MIN_AT] = low_at
    out[E_MAX] = high
    out[E_MAX_AT] = high_at
    out[E_SUM] = total
    out[E_COUNT] = count


def expire(flags, stamps, start, end, now, max_age):
    """Mark every reading that was valid once (bit 2) and is older than `max_age` ms as lost.

    Lost is bit 3, and takes fresh (bit 0) away; it stays until the next reading is stored. Returns
    the first index that is lost, -1 where none is.
    """
    first = -1
    for i in range(start, end):
        flag = flags[i]
        if flag & 12 == 4:
            age = ((now - stamps[i] + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if age > max_age:
                flag = (flag & 0xFE) | 8
                flags[i] = flag
        if first < 0 and flag & 8:
            first = i
    return first


def unmark(flags, start, end, mark):
    """Clear the bits of `mark` in a range of `flags`."""
    for i in range(start, end):
        flags[i] &= 0xFF ^ mark


def put(buf, at, text, n):
    """Copy `text[:n]` into `buf` at `at`; the index behind it."""
    for i in range(n):
        buf[at + i] = text[i]
    return at + n


def put_int(buf, at, value):
    """Write `value` (|value| < 2**30) in decimal into `buf` at `at`; the index behind it."""
    if value < 0:
        buf[at] = 45
        at += 1
        value = -value
    power = 1
    while value // power >= 10:
        power *= 10
    while power:
        buf[at] = 48 + value // power % 10
        at += 1
        power //= 10
    return at


def put_hex4(buf, at, value):
    """Write the low 16 bits of `value` as four upper-case hex digits; the index behind them."""
    for k in range(4):
        buf[at + k] = DIGITS[(value >> (12 - 4 * k)) & 15]
    return at + 4
