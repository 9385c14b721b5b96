"""What each kernel must give, said another way: whole numbers, lists and strings, however slow.

Shares no code with the kernels; the constants of their tables are the kernels' own.
"""

from bms.kernels import cell_link as C
from bms.kernels import readings as T

TICKS = 1 << 29
EXTENDED = 1 << 29  # added to an identifier of 29 bits


def crc(data, width, poly, register, xor_out=0, reflected=False):
    """The CRC of any width, a bit at a time."""
    for byte in data:
        for place in range(8) if reflected else range(7, -1, -1):
            out = register >> (width - 1)
            register = (register << 1) % (1 << width)
            if out != byte >> place & 1:
                register ^= poly
    if reflected:
        register = sum([(register >> i & 1) << (width - 1 - i) for i in range(width)])
    return register ^ xor_out


def crc8_frame(ident, data):
    return crc(bytes([ident >> 8, ident & 255]) + bytes(data), 8, 0x1D, 0xFF, 0xFF)


def cobs_decode(data, room):
    """The decoded bytes; None where they are broken or more than there is room for."""
    out = b""
    while data:
        code = data[0]
        if code == 0 or code > len(data):
            return None
        out += data[1:code]
        data = data[code:]
        if code < 255 and data:
            out += b"\0"
    return out if len(out) <= room else None


def slcan_decode(text):
    """(identifier, payload) of a data frame's bytes; None where they are none."""
    text = "".join([chr(c) for c in text])
    digits = {"t": 3, "T": 8}.get(text[:1], 0)
    if not digits or len(text) < digits + 2:
        return None
    for letter in text[1:]:
        if letter not in "0123456789abcdefABCDEF":
            return None
    ident = int(text[1 : digits + 1], 16)
    length = int(text[digits + 1], 16)
    rest = text[digits + 2 :]
    if ident >= (1 << 11 if digits == 3 else 1 << 29) or length > 8 or len(rest) != 2 * length:
        return None
    payload = bytes([int(rest[i : i + 2], 16) for i in range(0, len(rest), 2)])
    return (ident if digits == 3 else ident + EXTENDED), payload


def take13(ident, data, t, values, flags, stamps):
    """Changes its arguments as the kernel does; gives what it gives."""
    function, node = divmod(ident, 64)
    part = function - 8
    row = t[C.H_ROW_OF + node]
    if row == 0:
        return -1
    wanted = t[row + C.R_OPEN] and t[row + C.R_WANT] >> part & 1
    if not wanted or t[row + C.R_GOT] >> part & 1:
        return -1
    if data[6] >> 4 != t[C.H_SEQ] or crc8_frame(ident, data[:7]) != data[7]:
        return -1
    t[row + C.R_GOT] += 1 << part
    t[row + C.R_CRC + part] = data[7]
    t[C.H_MISSING] -= t[row + C.R_GOT] == t[row + C.R_WANT]
    t[C.H_RX_AT] = t[C.H_NOW]
    if part < 8:
        bounds, first, count = C.H_CELL, t[row + C.R_CELL], t[row + C.R_CELLS]
    else:
        part -= 8
        bounds, first, count = C.H_TEMP, t[row + C.R_TEMP], t[row + C.R_TEMPS]
    low, high, offset = t[bounds], t[bounds + 1], t[bounds + 2]
    bits = int.from_bytes(bytes(data[:7]), "little")
    outside = []
    for k in range(4):
        raw = bits // 8192**k % 8192
        at = 4 * part + k
        if raw < 8191 and at < count:
            values[first + at] = raw + offset
            flags[first + at] = t[row + C.R_FLAGS]
            stamps[first + at] = t[C.H_NOW]
            if not low <= raw + offset <= high:
                outside.append(k + 1)
    return outside[0] if outside else 0


def extremes(values, flags, start, end, mark):
    """[minimum, its index, maximum, its index, sum, count]"""
    marked = [(values[i], i) for i in range(start, end) if flags[i] & mark]
    if not marked:
        return [0x7FFF, -1, -0x8000, -1, 0, 0]
    low, low_at = min(marked)
    high, high_at = max([(value, -i) for value, i in marked])
    return [low, low_at, high, -high_at, sum([value for value, _ in marked]), len(marked)]


def age(now, then):
    """ms from `then` to `now`, negative where `then` is still to come."""
    ahead = (now - then) % TICKS
    return ahead if ahead < TICKS // 2 else ahead - TICKS


def expire(flags, stamps, start, end, now, max_age):
    """(index of the first lost reading, the flags afterwards)"""
    after = list(flags)
    for i in range(start, end):
        seen, lost = flags[i] & T.SEEN, flags[i] & T.LOST
        if seen and not lost and age(now, stamps[i]) > max_age:
            after[i] += T.LOST - (flags[i] & T.FRESH)
    lost = [i for i in range(start, end) if after[i] & T.LOST]
    return (lost[0] if lost else -1), after


def oldest(flags, stamps, start, end, now):
    return max([0] + [age(now, stamps[i]) for i in range(start, end) if flags[i] & T.SEEN])


class Level:
    """One level of a quantity: its bound and the time and samples beyond it so far."""

    def __init__(self, bound, hysteresis, delay, samples):
        self.bound = bound
        self.inside = bound - hysteresis
        self.delay = delay
        self.samples = samples
        self.ms = self.count = 0

    def out(self):
        """As the kernel keeps them in an int."""
        return self.ms * 128 + self.count

    def evaluate(self, value, standing, elapsed):
        """What the kernel says of it: "out", "gone" or nothing."""
        if value > self.bound:
            self.ms = min(self.ms + elapsed if self.ms else 1, self.delay + 1)
            self.count = min(self.count + 1, max(self.samples, self.count))
            if self.ms > self.delay and self.count >= self.samples:
                return "out"
        elif self.ms and max(value, standing) < self.inside:
            # half of each, rounded up
            self.ms -= min(-(-elapsed // 2), -(-(self.delay + 1) // 2))
            if self.ms <= 0:
                self.ms = self.count = 0
                return "clear"
        return ""


def open_pair(values, flags, start, end, mean, apart):
    for i in range(start, end - 1):
        low, high = sorted((values[i], values[i + 1]))
        fresh = flags[i] & T.FRESH and flags[i + 1] & T.FRESH
        wide = high >= mean + apart and low <= mean - apart
        if fresh and wide and abs(high + low - 2 * mean) < apart:
            return i
    return -1


def choose(values, p):
    """Indices of the cells to balance, the lowest first."""
    was = p[T.B_LOW] + (p[T.B_HIGH] << 16)
    found = []
    for i in range(p[T.B_COUNT]):
        mv = values[p[T.B_FIRST] + i]
        above = mv - p[T.B_LOWEST]
        enough = above >= (p[T.B_STOP] if was >> i & 1 else p[T.B_START])
        if above > 0 and enough and mv >= p[T.B_FLOOR]:
            found.append((-mv, i))
    return sorted([i for _, i in sorted(found)[: p[T.B_MOST]]])


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
    """Changes its arguments as the kernel does; gives what it gives."""
    i = p[T.P_SLAVE]
    while i < p[T.P_END]:
        row = T.L_ROW * i
        cells = range(rows[row + T.L_CELL], rows[row + T.L_CELL] + rows[row + T.L_CELLS])
        temps = range(rows[row + T.L_TEMP], rows[row + T.L_TEMP] + rows[row + T.L_TEMPS])
        mv = [cell_mv[k] for k in cells]
        dc = [temp_dc[k] for k in temps]
        if (
            not rows[row + T.L_PLAIN]
            or not stack_ok[i]
            or flags[i] & 0xFF00
            or die[i] > p[T.P_BOARD] - T.J_BIAS
            or rows[row + T.L_STACK_OUT]
            or stack_at[i] in (rows[row + T.L_STACK_AT], rows[row + T.L_BOARD_AT])
            or any(own[p[T.P_OWN] * i + k] for k in range(p[T.P_OWN]))
            or any(cell_flags[k] & 25 != 17 for k in cells)  # FRESH and NEW, not LOST
            or any(temp_flags[k] & 17 != 17 for k in temps)
            or not p[T.P_CELL_LOW] - T.J_BIAS <= min(mv) <= max(mv) <= p[T.P_CELL_HIGH] - T.J_BIAS
            or (dc and min(dc) < p[T.P_TEMP_LOW] - T.J_BIAS)
            or (dc and max(dc) > p[T.P_TEMP_HIGH] - T.J_BIAS)
            or not -p[T.P_TOLERANCE] <= stack_mv[i] - sum(mv) <= p[T.P_TOLERANCE]
        ):
            break
        for k in cells:
            cell_flags[k] &= 0xEF
            age = ((p[T.P_NOW] - cell_at[k] + 0x10000000) & 0x1FFFFFFF) - 0x10000000
            if age > p[T.P_AGE]:
                p[T.P_AGE] = age
                p[T.P_AGE_AT] = i
        for k in temps:
            temp_flags[k] &= 0xEF
        for k in (T.L_CELLS_AT, T.L_TEMPS_AT, T.L_BOARD_AT):
            if k == T.L_TEMPS_AT and not dc:
                continue
            when = stack_at[i] if k == T.L_BOARD_AT else p[T.P_SCAN_AT]
            gap = (when - rows[row + k]) & 0x1FFFFFFF
            rows[row + k] = when
            rows[row + k + 1] = min(gap, 0xFFFFFFF)
        if dc:
            rows[row + T.L_CHARGED_AT] = p[T.P_CHARGED]
        rows[row + T.L_STACK_AT] = stack_at[i]
        p[T.P_HOTTEST] = max(p[T.P_HOTTEST], die[i] + T.J_BIAS)
        i += 1
    return i
