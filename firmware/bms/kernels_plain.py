"""The inner loops in plain Python: checksums, bit unpacking, scans over arrays, digits.

Twin of `kernels_viper`: the same names, arguments and results, and the tests compare the two.
Runs under CPython, and under MicroPython where a port has no native emitter.
Parameters of the wider ones travel in an `array('i')`, because a call with many arguments costs
more than the work.
"""

from bms.links.can import BITS, EXTENDED
from bms.tables import (
    B_COUNT,
    B_FIRST,
    B_FLOOR,
    B_HIGH,
    B_LOW,
    B_LOWEST,
    B_MOST,
    B_START,
    B_STOP,
    CRC8_J1850,
    CRC16_CCITT,
    DIGITS,
    E_COUNT,
    E_MAX,
    E_MAX_AT,
    E_MIN,
    E_MIN_AT,
    E_SUM,
    H_CELL,
    H_HEARD,
    H_MISSING,
    H_NOW,
    H_ROW_OF,
    H_SCAN,
    H_SEQ,
    H_TEMP,
    HEX_VALUE,
    J_BACK,
    J_BIAS,
    J_BOUND,
    J_COUNT,
    J_DELAY,
    J_SAMPLES,
    J_SHIFT,
    L_BOARD_AT,
    L_CELL,
    L_CELLS,
    L_CELLS_AT,
    L_CHARGED_AT,
    L_PLAIN,
    L_ROW,
    L_STACK_AT,
    L_STACK_OUT,
    L_TEMP,
    L_TEMPS,
    L_TEMPS_AT,
    LEVEL,
    P_AGE,
    P_AGE_AT,
    P_BOARD,
    P_CELL_HIGH,
    P_CELL_LOW,
    P_CHARGED,
    P_END,
    P_HOTTEST,
    P_NOW,
    P_OWN,
    P_SCAN_AT,
    P_SLAVE,
    P_TEMP_HIGH,
    P_TEMP_LOW,
    P_TOLERANCE,
    R_CELL,
    R_CELLS,
    R_CRC,
    R_FLAGS,
    R_GOT,
    R_OPEN,
    R_SLAVE,
    R_TEMP,
    R_TEMPS,
    R_WANT,
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


def slcan_decode(src, start, end, dst, ident):
    """Decode one slcan data frame `tIIILDD..` or `TIIIIIIIILDD..` in `src[start:end]` into `dst`.

    Returns its length, with the identifier in ident[0] of an array('i'); -1 where it isn't one to
    the letter (Lawicel CAN232 manual).
    """
    if end - start < 5:
        return -1
    if src[start] == 0x74:
        at = start + 4
        top = 0x37
        flag = 0
    elif src[start] == 0x54:
        at = start + 9
        top = 0x31
        flag = EXTENDED
    else:
        return -1
    if at >= end or src[start + 1] > top:  # a first digit that is higher makes it too wide
        return -1
    value = 0
    for i in range(start + 1, at):
        digit = HEX_VALUE[src[i]]
        if digit > 15:
            return -1
        value = value << 4 | digit
    n = HEX_VALUE[src[at]]
    at += 1
    if n > 8 or end - at != 2 * n:
        return -1
    for i in range(n):
        high = HEX_VALUE[src[at + 2 * i]]
        low = HEX_VALUE[src[at + 1 + 2 * i]]
        if high > 15 or low > 15:
            return -1
        dst[i] = high << 4 | low
    ident[0] = flag | value
    return n


def slcan_encode(ident, data, n, dst, at):
    """Write `tIIILDD..\\r` or `TIIIIIIIILDD..\\r` into `dst` from `at`; the index behind it."""
    if ident & EXTENDED:
        ident &= BITS
        dst[at] = 0x54
        shift = 28
    else:
        dst[at] = 0x74
        shift = 8
    out = at + 1
    while shift >= 0:
        dst[out] = DIGITS[(ident >> shift) & 15]
        out += 1
        shift -= 4
    dst[out] = DIGITS[n]
    out += 1
    for i in range(n):
        dst[out] = DIGITS[data[i] >> 4]
        dst[out + 1] = DIGITS[data[i] & 15]
        out += 2
    dst[out] = 13
    return out + 1


def take13(ident, data, t, values, flags, stamps):
    """Take one CELLS or TEMPS frame of the cell link: four values of 13 bits, 8191 = no reading.

    `t` is the table of `tables.H_*` and `R_*`. A frame of an unknown or closed row, of another
    scan, a part that is not wanted or was there already, or of a wrong CRC gives -1 and changes
    nothing. Value k goes, with its shift, behind the row's first index of `values` array('h'),
    with the row's flags in `flags` and the time in `stamps` array('i'); an absent one changes
    nothing. Gives 1 + the index of the first value out of bounds, or 0.
    """
    part = (ident >> 6) - 8
    row = t[H_ROW_OF + (ident & 63)]
    bit = 1 << part
    if not row or not t[row + R_OPEN] or t[row + R_GOT] & bit or not t[row + R_WANT] & bit:
        return -1
    if data[6] >> 4 != t[H_SEQ] or crc8_frame(ident, data, 7) != data[7]:
        return -1
    t[row + R_GOT] |= bit
    t[row + R_CRC + part] = data[7]
    if t[row + R_GOT] == t[row + R_WANT]:
        t[H_MISSING] -= 1
    now = t[H_NOW]
    t[H_HEARD] = now
    if part < 8:
        kind = H_CELL
        base = t[row + R_CELL]
        count = t[row + R_CELLS]
    else:
        kind = H_TEMP
        part -= 8
        base = t[row + R_TEMP]
        count = t[row + R_TEMPS]
    base += 4 * part
    count -= 4 * part
    worst = 0
    for k in range(count if count < 4 else 4):
        bit = 13 * k
        at = bit >> 3
        raw = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        raw = (raw >> (bit & 7)) & 0x1FFF
        if raw == 0x1FFF:
            continue
        value = raw + t[kind + 2]
        i = base + k
        values[i] = value
        flags[i] = t[row + R_FLAGS]
        stamps[i] = now
        if not worst and (value < t[kind] or value > t[kind + 1]):
            worst = k + 1
    return worst


def take_status(ident, data, t, mv, at, ok, flags, die):
    """Take one STATUS frame of the cell link that reports no severe fault; 0, or -1 as `take13`.

    mv, at: array('i') of stack mV and time by slave, ok: whether they are valid; flags array('H');
    die array('h'), 0.1 degC.
    """
    row = t[H_ROW_OF + (ident & 63)]
    bit = 0x1000
    if not row or not t[row + R_OPEN] or t[row + R_GOT] & bit or not t[row + R_WANT] & bit:
        return -1
    if data[6] != t[H_SCAN] or data[2] or crc8_frame(ident, data, 7) != data[7]:
        return -1
    t[row + R_GOT] |= bit
    t[row + R_CRC + 12] = data[7]
    if t[row + R_GOT] == t[row + R_WANT]:
        t[H_MISSING] -= 1
    t[H_HEARD] = t[H_NOW]
    i = t[row + R_SLAVE]
    mv[i] = (data[0] | data[1] << 8) * 10
    at[i] = t[H_NOW]
    ok[i] = 1
    flags[i] = data[3] << 8
    die[i] = (data[4] - 40) * 10
    return 0


def mcp_readings(
    ring, at, last, data, t, cell_mv, cell_flags, cell_at, temp_dc, temp_flags, temp_at
):
    """Take readings of the cell link (`take13`) from the front of an MCP2515's ring.

    at: slot to be written, slot to be read, of slots of 16 bytes as `mcp_frame` has them, numbered
    up to `last`. Ends at the first frame that is something else: -1, or below it the identifier of
    a STATUS frame, negative, whose payload is in `data` then; both stay in the ring. A reading out
    of bounds gives identifier << 3 | what `take13` gave; 0: the ring is empty.
    """
    while at[1] != at[0]:
        slot = 16 * at[1]
        low = ring[slot + 2]
        ident = ring[slot + 1] << 3 | low >> 5
        part = (ident >> 6) - 8
        if low & 0x18 or ring[slot + 5] & 0x4F != 8 or not 0 <= part <= 12:
            return -1
        for i in range(8):
            data[i] = ring[slot + 6 + i]
        if part == 12:
            return -ident
        if part < 8:
            worst = take13(ident, data, t, cell_mv, cell_flags, cell_at)
        else:
            worst = take13(ident, data, t, temp_dc, temp_flags, temp_at)
        if worst < 0:
            return -1
        at[1] = (at[1] + 1) & last
        if worst:
            return ident << 3 | worst
    return 0


def wait_readings(
    until,
    ticks_ms,
    idle,
    ring,
    at,
    last,
    data,
    t,
    cell_mv,
    cell_flags,
    cell_at,
    temp_dc,
    temp_flags,
    temp_at,
):
    """Call `idle`, and take readings as they come, until the tick `until` is reached.

    Ends before where `mcp_readings`, which does it, gives anything but 0: that is the result; and
    where no answer of the scan is missing after it: 0, as at the end.
    """
    while True:
        now = ticks_ms() & 0x1FFFFFFF
        if at[0] != at[1]:
            t[H_NOW] = now
            found = mcp_readings(
                ring, at, last, data, t, cell_mv, cell_flags, cell_at, temp_dc, temp_flags, temp_at
            )
            if found or not t[H_MISSING]:
                return found
        if (now - until) & 0x1FFFFFFF < 0x10000000:
            return 0
        if at[0] == at[1]:
            idle()


def put_values(buf, at, values, flags, start, end, first):
    """Write values start..end-1 of an array('h') as a JSON list has them; the place behind.

    `null` where a flag is not FRESH; a comma before each but the one at `first`.
    """
    for i in range(start, end):
        if i > first:
            buf[at] = 0x2C
            at += 1
        if flags[i] & 1:
            at = put_int(buf, at, values[i])
        else:
            at = put(buf, at, b"null", 4)
    return at


def wait_for(at, ms, ticks_ms, idle):
    """Call `idle` until at[0] and at[1] differ (1) or `ms` of `ticks_ms` have passed (0)."""
    start = ticks_ms()
    while (ticks_ms() - start) & 0x1FFFFFFF < ms:
        if at[0] != at[1]:
            return 1
        idle()
    return 0


def mcp_frame(ring, at, data, ident):
    """A frame as an MCP2515 has it (identifier in 4 bytes, length, data) at ring[at + 1].

    Its payload goes into `data`, its identifier into ident[0] of an array('i'); gives its length,
    or -1 for what is no data frame.
    """
    low = ring[at + 2]
    n = ring[at + 5] & 0x4F  # with the bit of a remote frame
    value = ring[at + 1] << 3 | low >> 5
    if low & 0x08:
        value = EXTENDED | value << 18 | (low & 3) << 16 | ring[at + 3] << 8 | ring[at + 4]
    elif low & 0x10:
        return -1
    if n > 8:
        return -1
    for i in range(8):
        data[i] = ring[at + 6 + i]
    ident[0] = value
    return n


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


def judge(bounds, row, out, at, levels, value, standing, elapsed):
    """Judge a fresh value against the levels of a quantity, bounds[row]; see tables.J_*.

    It stands for the `elapsed` ms since the one before. Time beyond a bound adds up in out[at] and
    behind it; it is held inside the hysteresis, and while `standing` is not back; farther inside it
    runs down, at half the speed, and by half the delay at most: one good value forgives no more.
    Returns the levels that are out long enough in bits 0..2, those that are gone in bits 3..5.
    """
    result = 0
    for level in range(levels):
        bound = bounds[row + J_BOUND] - J_BIAS
        back = -bounds[row + J_BACK]
        delay = bounds[row + J_DELAY]
        ms = out[at] >> J_SHIFT
        count = out[at] & J_COUNT
        if value > bound:
            # the first sample only starts the time: how long it was so before, nobody knows
            ms = ms + elapsed if ms else 1
            if count < bounds[row + J_SAMPLES]:
                count += 1
            if ms > delay:
                ms = delay + 1
                if count >= bounds[row + J_SAMPLES]:
                    result |= 1 << level
            out[at] = ms << J_SHIFT | count
        elif ms and value - bound < back and standing - bound < back:
            down = (elapsed + 1) >> 1
            half = (delay + 2) >> 1
            ms -= down if down < half else half
            if ms <= 0:
                ms = count = 0
                result |= 8 << level
            out[at] = ms << J_SHIFT | count
        row += LEVEL
        at += 1
    return result


def plain_slaves(
    p,
    rows,
    own,
    cell_mv,
    cell_flags,
    cell_at,
    temp_dc,
    temp_flags,
    stack_mv,
    stack_at,
    stack_ok,
    die,
    flags,
):
    """Evaluate slaves of which nothing is out of a bound, nor was; the first that isn't so.

    p, rows: see tables.P_*, L_*; own: what `judge` adds up of each; the others are the pack's.
    Notes of each what an evaluation notes: readings are no longer new, when they were evaluated,
    the warmest board, the oldest reading.
    """
    i = p[P_SLAVE]
    while i < p[P_END]:
        row = L_ROW * i
        cells = range(rows[row + L_CELL], rows[row + L_CELL] + rows[row + L_CELLS])
        temps = range(rows[row + L_TEMP], rows[row + L_TEMP] + rows[row + L_TEMPS])
        mv = [cell_mv[k] for k in cells]
        dc = [temp_dc[k] for k in temps]
        if (
            not rows[row + L_PLAIN]
            or not stack_ok[i]
            or flags[i] & 0xFF00
            or die[i] > p[P_BOARD] - J_BIAS
            or rows[row + L_STACK_OUT]
            or stack_at[i] in (rows[row + L_STACK_AT], rows[row + L_BOARD_AT])
            or any(own[p[P_OWN] * i + k] for k in range(p[P_OWN]))
            or any(cell_flags[k] & 25 != 17 for k in cells)  # FRESH and NEW, not LOST
            or any(temp_flags[k] & 17 != 17 for k in temps)
            or not p[P_CELL_LOW] - J_BIAS <= min(mv) <= max(mv) <= p[P_CELL_HIGH] - J_BIAS
            or (dc and min(dc) < p[P_TEMP_LOW] - J_BIAS)
            or (dc and max(dc) > p[P_TEMP_HIGH] - J_BIAS)
            or not -p[P_TOLERANCE] <= stack_mv[i] - sum(mv) <= p[P_TOLERANCE]
        ):
            break
        for k in cells:
            cell_flags[k] &= 0xEF
            age = ((p[P_NOW] - cell_at[k] + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if age > p[P_AGE]:
                p[P_AGE] = age
                p[P_AGE_AT] = i
        for k in temps:
            temp_flags[k] &= 0xEF
        for k in (L_CELLS_AT, L_TEMPS_AT, L_BOARD_AT):
            if k == L_TEMPS_AT and not dc:
                continue
            when = stack_at[i] if k == L_BOARD_AT else p[P_SCAN_AT]
            gap = (when - rows[row + k]) & 0x1FFFFFFF
            rows[row + k] = when
            rows[row + k + 1] = min(gap, 0xFFFFFFF)
        if dc:
            rows[row + L_CHARGED_AT] = p[P_CHARGED]
        rows[row + L_STACK_AT] = stack_at[i]
        p[P_HOTTEST] = max(p[P_HOTTEST], die[i] + J_BIAS)
        i += 1
    return i


def any_set(values, start, end):
    """1 where any of values[start:end] is not 0."""
    for i in range(start, end):
        if values[i]:
            return 1
    return 0


def oldest(flags, stamps, start, end, now):
    """Age in ms of the oldest reading of start..end-1 that was valid once (bit 2); 0: none was."""
    most = 0
    for i in range(start, end):
        if flags[i] & 4:
            age = ((now - stamps[i] + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if age > most:
                most = age
    return most


def open_pair(values, flags, start, end, mean, apart):
    """The first of two fresh neighbours of which one is `apart` above `mean`, one below; -1 = none.

    Both must be about as far from it: an open wire between two cells moves their common tap.
    """
    for i in range(start, end - 1):
        if flags[i] & flags[i + 1] & 1:
            a = values[i] - mean
            b = values[i + 1] - mean
            if a < 0:
                a, b = -a, -b
            if a >= apart and -b >= apart and a + b < apart and a + b > -apart:
                return i
    return -1


def changed(values, before, moved, start, end):
    """Mark in `moved` every value that is another than `before`."""
    for i in range(start, end):
        if values[i] != before[i]:
            moved[i] = 1


def choose(values, p):
    """The cells of one slave that bleed, the highest first; how many. `p`: see tables.B_*.

    A cell begins p[B_START] mV above p[B_LOWEST] and goes on down to p[B_STOP] above it, and never
    below p[B_FLOOR]. The masks in p[B_LOW] and p[B_HIGH] are those that bled, then those that do.
    """
    was = p[B_LOW] | p[B_HIGH] << 16
    mask = chosen = 0
    while chosen < p[B_MOST]:
        best = -1
        most = 0
        for i in range(p[B_COUNT]):
            mv = values[p[B_FIRST] + i]
            above = mv - p[B_LOWEST]
            enough = p[B_STOP] if was >> i & 1 else p[B_START]
            if above > most and above >= enough and mv >= p[B_FLOOR] and not mask >> i & 1:
                most = above
                best = i
        if best < 0:
            break
        mask |= 1 << best
        chosen += 1
    p[B_LOW] = mask & 0xFFFF
    p[B_HIGH] = mask >> 16
    return chosen


def unmark(flags, start, end, mark):
    """Clear the bits of `mark` in a range of `flags`."""
    for i in range(start, end):
        flags[i] &= 0xFF ^ mark


def put(buf, at, text, n):
    """Copy `text[:n]`, bytes or plain characters, into `buf` at `at`; the index behind it."""
    if isinstance(text, str):
        text = text.encode()
    for i in range(n):
        buf[at + i] = text[i]
    return at + n


def copy(dst, src, start, n):
    """Copy src[start:start + n] to the beginning of `dst`."""
    for i in range(n):
        dst[i] = src[start + i]


def splice(dst, at, src, start, n):
    """Copy n bytes of `src`, an array of any kind, from its byte `start` into `dst` at `at`."""
    data = bytes(src)
    for i in range(n):
        dst[at + i] = data[start + i]


def copy16(dst, src, n):
    """Copy the first n values of 16 bits."""
    for i in range(n):
        dst[i] = src[i]


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


def put_key(buf, at, name, n):
    """Write `,"name":` with the n bytes of `name`; the index behind it."""
    at = put(buf, at, b',"', 2)
    at = put(buf, at, name, n)
    return put(buf, at, b'":', 2)


def put_field(buf, at, name, n, value):
    """Write a key as `put_key` does, and an integer as `put_int` does; the index behind it."""
    return put_int(buf, put_key(buf, at, name, n), value)


def put_hex4(buf, at, value):
    """Write the low 16 bits of `value` as four upper-case hex digits; the index behind them."""
    for k in range(4):
        buf[at + k] = DIGITS[(value >> (12 - 4 * k)) & 15]
    return at + 4


def put_hex(buf, at, data, start, n):
    """Write n bytes of `data` from `start` as upper-case hex digits; the index behind them."""
    for i in range(start, start + n):
        buf[at] = DIGITS[data[i] >> 4]
        buf[at + 1] = DIGITS[data[i] & 15]
        at += 2
    return at


def total(data, start, end):
    """Sum of the bytes start..end-1."""
    out = 0
    for i in range(start, end):
        out += data[i]
    return out


def crc16_modbus(data, start, end):
    """CRC-16/MODBUS (poly 8005 reflected, init FFFF) of the bytes start..end-1."""
    crc = 0xFFFF
    for i in range(start, end):
        crc ^= data[i]
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def crc8(data, start, end):
    """CRC-8 (poly 07, init 0) of the bytes start..end-1."""
    crc = 0
    for i in range(start, end):
        crc ^= data[i]
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc
