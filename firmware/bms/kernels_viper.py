"""The inner loops as viper machine code; see `kernels_plain`, their twin, for what each does."""

import micropython

from bms.links.can import BITS, EXTENDED
from bms.tables import CRC8_J1850, CRC16_CCITT, DIGITS, HEX_VALUE


@micropython.viper
def crc8_frame(ident: int, data: ptr8, n: int) -> int:
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
    table = ptr16(CRC16_CCITT)
    while start < end:
        crc = ((crc << 8) & 0xFFFF) ^ int(table[(crc >> 8) ^ data[start]])
        start += 1
    return crc


@micropython.viper
def find(data: ptr8, start: int, end: int, value: int) -> int:
    while start < end:
        if int(data[start]) == value:
            return start
        start += 1
    return -1


@micropython.viper
def shift(data: ptr8, start: int, end: int) -> int:
    n = end - start
    i = 0
    while i < n:
        data[i] = data[start + i]
        i += 1
    return n


@micropython.viper
def cobs_encode(src: ptr8, n: int, dst: ptr8, at: int) -> int:
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
    digits = ptr8(HEX_VALUE)
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
        flag = int(EXTENDED)
    else:
        return -1
    if at >= end or int(src[start + 1]) > top:
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
    digits = ptr8(DIGITS)
    if ident & int(EXTENDED):
        ident &= int(BITS)
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
def take13(ident: int, data: ptr8, t: ptr32, values: ptr16, flags: ptr8, stamps: ptr32) -> int:
    part = (ident >> 6) - 8
    row = int(t[16 + (ident & 63)])
    bit = 1 << part
    if row == 0 or int(t[row + 2]) == 0:
        return -1
    got = int(t[row + 1])
    want = int(t[row])
    if got & bit or want & bit == 0 or int(data[6]) >> 4 != int(t[0]):
        return -1
    table = ptr8(CRC8_J1850)
    crc = int(table[0xFF ^ (ident >> 8)])
    crc = int(table[crc ^ (ident & 0xFF)])
    k = 0
    while k < 7:
        crc = int(table[crc ^ data[k]])
        k += 1
    if crc ^ 0xFF != int(data[7]):
        return -1
    got |= bit
    t[row + 1] = got
    t[row + 9 + part] = data[7]
    if got == want:
        t[2] = int(t[2]) - 1
    now = int(t[1])
    t[3] = now
    if part < 8:
        kind = 4
        base = int(t[row + 4])
        count = int(t[row + 5])
    else:
        kind = 7
        part -= 8
        base = int(t[row + 6])
        count = int(t[row + 7])
    base += 4 * part
    count -= 4 * part
    if count > 4:
        count = 4
    # signed 16 bits: where words are wider than 32 bits, ptr32 doesn't extend the sign
    low = ((int(t[kind]) & 0xFFFF) ^ 0x8000) - 0x8000
    high = ((int(t[kind + 1]) & 0xFFFF) ^ 0x8000) - 0x8000
    shift = ((int(t[kind + 2]) & 0xFFFF) ^ 0x8000) - 0x8000
    flag = int(t[row + 3])
    worst = 0
    bit = 0
    k = 0
    while k < count:
        at = bit >> 3
        raw = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16
        raw = (raw >> (bit & 7)) & 0x1FFF
        if raw != 0x1FFF:
            value = raw + shift
            i = base + k
            values[i] = value
            flags[i] = flag
            stamps[i] = now
            if worst == 0 and (value < low or value > high):
                worst = k + 1
        bit += 13
        k += 1
    return worst


@micropython.viper
def take_status(
    ident: int, data: ptr8, t: ptr32, mv: ptr32, at: ptr32, ok: ptr8, flags: ptr16, die: ptr16
) -> int:
    row = int(t[16 + (ident & 63)])
    if row == 0 or int(t[row + 2]) == 0:
        return -1
    got = int(t[row + 1])
    want = int(t[row])
    if got & 0x1000 or want & 0x1000 == 0 or int(data[6]) != int(t[10]) or int(data[2]):
        return -1
    table = ptr8(CRC8_J1850)
    crc = int(table[0xFF ^ (ident >> 8)])
    crc = int(table[crc ^ (ident & 0xFF)])
    k = 0
    while k < 7:
        crc = int(table[crc ^ data[k]])
        k += 1
    if crc ^ 0xFF != int(data[7]):
        return -1
    got |= 0x1000
    t[row + 1] = got
    t[row + 21] = data[7]
    if got == want:
        t[2] = int(t[2]) - 1
    now = int(t[1])
    t[3] = now
    i = int(t[row + 22])
    mv[i] = (int(data[0]) | int(data[1]) << 8) * 10
    at[i] = now
    ok[i] = 1
    flags[i] = int(data[3]) << 8
    die[i] = (int(data[4]) - 40) * 10
    return 0


@micropython.viper
def mcp_readings(
    ring: ptr8,
    at: ptr32,
    last: int,
    data: ptr8,
    t: ptr32,
    cell_mv: ptr16,
    cell_flags: ptr8,
    cell_at: ptr32,
    temp_dc: ptr16,
    temp_flags: ptr8,
    temp_at: ptr32,
) -> int:
    tail = int(at[1])
    while tail != int(at[0]):
        slot = tail << 4
        low = int(ring[slot + 2])
        ident = int(ring[slot + 1]) << 3 | low >> 5
        part = (ident >> 6) - 8
        if low & 0x18 or int(ring[slot + 5]) & 0x4F != 8 or part < 0 or part > 12:
            return -1
        i = 0
        while i < 8:
            data[i] = ring[slot + 6 + i]
            i += 1
        if part == 12:
            return 0 - ident
        if part < 8:
            worst = int(take13(ident, data, t, cell_mv, cell_flags, cell_at))
        else:
            worst = int(take13(ident, data, t, temp_dc, temp_flags, temp_at))
        if worst < 0:
            return -1
        tail = (tail + 1) & last
        at[1] = tail
        if worst:
            return ident << 3 | worst
    return 0


@micropython.viper
def wait_readings(
    until: int,
    ticks_ms,
    idle,
    ring: ptr8,
    at: ptr32,
    last: int,
    data: ptr8,
    t: ptr32,
    cell_mv: ptr16,
    cell_flags: ptr8,
    cell_at: ptr32,
    temp_dc: ptr16,
    temp_flags: ptr8,
    temp_at: ptr32,
) -> int:
    while True:
        now = int(ticks_ms()) & 0x1FFFFFFF
        if int(at[0]) != int(at[1]):
            t[1] = now
            found = int(
                mcp_readings(
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
                )
            )
            if found:
                return found
            if int(t[2]) == 0:
                return 0
        if (now - until) & 0x1FFFFFFF < 0x10000000:
            return 0
        if int(at[0]) == int(at[1]):
            idle()


@micropython.viper
def put_values(
    buf: ptr8, at: int, values: ptr16, flags: ptr8, start: int, end: int, first: int
) -> int:
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
def wait_for(at: ptr32, ms: int, ticks_ms, idle) -> int:
    start = int(ticks_ms())
    while (int(ticks_ms()) - start) & 0x1FFFFFFF < ms:
        if int(at[0]) != int(at[1]):
            return 1
        idle()
    return 0


@micropython.viper
def mcp_frame(ring: ptr8, at: int, data: ptr8, ident: ptr32) -> int:
    low = int(ring[at + 2])
    n = int(ring[at + 5]) & 0x4F
    value = int(ring[at + 1]) << 3 | low >> 5
    if low & 0x08:
        value = value << 18 | (low & 3) << 16 | int(ring[at + 3]) << 8 | int(ring[at + 4])
        value |= int(EXTENDED)
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
def extremes(values: ptr16, flags: ptr8, start: int, end: int, mark: int, out: ptr32):
    low = 0x7FFF
    high = -0x8000
    low_at = -1
    high_at = -1
    total = 0
    count = 0
    i = start
    while i < end:
        if int(flags[i]) & mark:
            value = (int(values[i]) ^ 0x8000) - 0x8000
            if value < low:
                low = value
                low_at = i
            if value > high:
                high = value
                high_at = i
            total += value
            count += 1
        i += 1
    out[0] = low
    out[1] = low_at
    out[2] = high
    out[3] = high_at
    out[4] = total
    out[5] = count


@micropython.viper
def expire(flags: ptr8, stamps: ptr32, start: int, end: int, now: int, max_age: int) -> int:
    first = -1
    i = start
    while i < end:
        flag = int(flags[i])
        if flag & 12 == 4:
            age = ((now - int(stamps[i]) + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if age > max_age:
                flag = (flag & 0xFE) | 8
                flags[i] = flag
        if first < 0 and flag & 8:
            first = i
        i += 1
    return first


@micropython.viper
def judge(
    bounds: ptr32,
    row: int,
    out: ptr32,
    at: int,
    levels: int,
    value: int,
    standing: int,
    elapsed: int,
) -> int:
    result = 0
    level = 0
    while level < levels:
        bound = int(bounds[row]) - 0x20000000
        back = 0 - int(bounds[row + 1])
        delay = int(bounds[row + 2])
        ms = int(out[at]) >> 7
        count = int(out[at]) & 0x7F
        if value > bound:
            if ms:
                ms += elapsed
            else:
                ms = 1
            if count < int(bounds[row + 3]):
                count += 1
            if ms > delay:
                ms = delay + 1
                if count >= int(bounds[row + 3]):
                    result |= 1 << level
            out[at] = ms << 7 | count
        elif ms and value - bound < back and standing - bound < back:
            down = (elapsed + 1) >> 1
            half = (delay + 2) >> 1
            if down > half:
                down = half
            ms -= down
            if ms <= 0:
                ms = 0
                count = 0
                result |= 8 << level
            out[at] = ms << 7 | count
        row += 4
        at += 1
        level += 1
    return result


@micropython.viper
def plain_slaves(
    p: ptr32,
    rows: ptr32,
    own: ptr32,
    cell_mv: ptr16,
    cell_flags: ptr8,
    cell_at: ptr32,
    temp_dc: ptr16,
    temp_flags: ptr8,
    stack_mv: ptr32,
    stack_at: ptr32,
    stack_ok: ptr8,
    die: ptr16,
    flags: ptr16,
) -> int:
    end = int(p[1])
    scan_at = int(p[2])
    now = int(p[3])
    charged = int(p[4])
    tolerance = int(p[5])
    each = int(p[6])
    cell_low = int(p[7]) - 0x20000000
    cell_high = int(p[8]) - 0x20000000
    temp_low = int(p[9]) - 0x20000000
    temp_high = int(p[10]) - 0x20000000
    board = int(p[11]) - 0x20000000
    hottest = int(p[12]) - 0x20000000
    i = int(p[0])
    while i < end:
        row = i << 4
        if int(rows[row + 4]) == 0 or int(stack_ok[i]) == 0 or int(flags[i]) & 0xFF00:
            break
        dc = (int(die[i]) ^ 0x8000) - 0x8000
        at = int(stack_at[i])
        if dc > board or int(rows[row + 12]) or at == int(rows[row + 11]):
            break
        if at == int(rows[row + 9]):
            break
        k = i * each
        last = k + each
        while k < last:
            if int(own[k]):
                break
            k += 1
        if k < last:
            break
        age = 0
        total = 0
        first_cell = int(rows[row])
        last = first_cell + int(rows[row + 1])
        k = first_cell
        while k < last:
            mv = (int(cell_mv[k]) ^ 0x8000) - 0x8000
            if int(cell_flags[k]) & 0x19 != 0x11 or mv < cell_low or mv > cell_high:
                break
            total += mv
            one = ((now - int(cell_at[k]) + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if one > age:
                age = one
            k += 1
        if k < last:
            break
        by = int(stack_mv[i]) - total
        if by > tolerance or by < 0 - tolerance:
            break
        first_temp = int(rows[row + 2])
        last = first_temp + int(rows[row + 3])
        k = first_temp
        while k < last:
            value = (int(temp_dc[k]) ^ 0x8000) - 0x8000
            if int(temp_flags[k]) & 0x11 != 0x11 or value < temp_low or value > temp_high:
                break
            k += 1
        if k < last:
            break
        while k > first_temp:
            k -= 1
            temp_flags[k] = int(temp_flags[k]) & 0xEF
        k = first_cell + int(rows[row + 1])
        while k > first_cell:
            k -= 1
            cell_flags[k] = int(cell_flags[k]) & 0xEF
        k = 5
        while k < 11:
            when = at if k == 9 else scan_at
            if k != 7 or int(rows[row + 3]):
                gap = (when - int(rows[row + k])) & 0x1FFFFFFF
                rows[row + k] = when
                rows[row + k + 1] = gap if gap < 0x10000000 else 0xFFFFFFF
            k += 2
        if int(rows[row + 3]):
            rows[row + 13] = charged
        rows[row + 11] = at
        if dc > hottest:
            hottest = dc
        if age > int(p[13]):
            p[13] = age
            p[14] = i
        i += 1
    p[12] = hottest + 0x20000000
    return i


@micropython.viper
def any_set(values: ptr32, start: int, end: int) -> int:
    while start < end:
        if int(values[start]):
            return 1
        start += 1
    return 0


@micropython.viper
def oldest(flags: ptr8, stamps: ptr32, start: int, end: int, now: int) -> int:
    most = 0
    i = start
    while i < end:
        if int(flags[i]) & 4:
            age = ((now - int(stamps[i]) + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if age > most:
                most = age
        i += 1
    return most


@micropython.viper
def open_pair(values: ptr16, flags: ptr8, start: int, end: int, mean: int, apart: int) -> int:
    i = start
    while i < end - 1:
        if int(flags[i]) & int(flags[i + 1]) & 1:
            a = ((int(values[i]) ^ 0x8000) - 0x8000) - mean
            b = ((int(values[i + 1]) ^ 0x8000) - 0x8000) - mean
            if a < 0:
                a = 0 - a
                b = 0 - b
            if a >= apart and 0 - b >= apart and a + b < apart and a + b > 0 - apart:
                return i
        i += 1
    return -1


@micropython.viper
def changed(values: ptr16, before: ptr16, moved: ptr8, start: int, end: int):
    i = start
    while i < end:
        if int(values[i]) != int(before[i]):
            moved[i] = 1
        i += 1


@micropython.viper
def choose(values: ptr16, p: ptr32) -> int:
    first = int(p[0])
    count = int(p[1])
    lowest = int(p[2])
    start = int(p[3])
    stop = int(p[4])
    floor = int(p[5])
    limit = int(p[6])
    was_low = int(p[7])
    was_high = int(p[8])
    low = 0
    high = 0
    chosen = 0
    while chosen < limit:
        best = -1
        most = 0
        i = 0
        while i < count:
            mv = (int(values[first + i]) ^ 0x8000) - 0x8000
            above = mv - lowest
            if above > most and mv >= floor:
                if i < 16:
                    was = was_low >> i & 1
                    taken = low >> i & 1
                else:
                    was = was_high >> (i - 16) & 1
                    taken = high >> (i - 16) & 1
                enough = stop if was else start
                if above >= enough and taken == 0:
                    most = above
                    best = i
            i += 1
        if best < 0:
            break
        if best < 16:
            low |= 1 << best
        else:
            high |= 1 << (best - 16)
        chosen += 1
    p[7] = low
    p[8] = high
    return chosen


@micropython.viper
def unmark(flags: ptr8, start: int, end: int, mark: int):
    keep = 0xFF ^ mark
    while start < end:
        flags[start] = int(flags[start]) & keep
        start += 1


@micropython.viper
def put(buf: ptr8, at: int, text: ptr8, n: int) -> int:
    i = 0
    while i < n:
        buf[at + i] = text[i]
        i += 1
    return at + n


@micropython.viper
def copy(dst: ptr8, src: ptr8, start: int, n: int):
    i = 0
    while i < n:
        dst[i] = src[start + i]
        i += 1


@micropython.viper
def splice(dst: ptr8, at: int, src: ptr8, start: int, n: int):
    i = 0
    while i < n:
        dst[at + i] = src[start + i]
        i += 1


@micropython.viper
def copy16(dst: ptr16, src: ptr16, n: int):
    i = 0
    while i < n:
        dst[i] = src[i]
        i += 1


@micropython.viper
def put_int(buf: ptr8, at: int, value: int) -> int:
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
def put_field(buf: ptr8, at: int, name: ptr8, n: int, value: int) -> int:
    return int(put_int(buf, int(put_key(buf, at, name, n)), value))


@micropython.viper
def put_hex4(buf: ptr8, at: int, value: int) -> int:
    digits = ptr8(DIGITS)
    buf[at] = digits[(value >> 12) & 15]
    buf[at + 1] = digits[(value >> 8) & 15]
    buf[at + 2] = digits[(value >> 4) & 15]
    buf[at + 3] = digits[value & 15]
    return at + 4


@micropython.viper
def put_hex(buf: ptr8, at: int, data: ptr8, start: int, n: int) -> int:
    digits = ptr8(DIGITS)
    end = start + n
    while start < end:
        c = int(data[start])
        buf[at] = digits[c >> 4]
        buf[at + 1] = digits[c & 15]
        at += 2
        start += 1
    return at


@micropython.viper
def total(data: ptr8, start: int, end: int) -> int:
    out = 0
    while start < end:
        out += int(data[start])
        start += 1
    return out


@micropython.viper
def crc16_modbus(data: ptr8, start: int, end: int) -> int:
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
