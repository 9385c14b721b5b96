"""Readings in arrays: scan, age, compare with bounds, choose cells to balance.

Values are array('h'), stamps (ms ticks) array('i'), flags a bytearray. Parameters of the wider
functions travel in an array('i'), because a call with many arguments costs more than the work; its
layout stands here, for those who fill it. Nothing here allocates after the import.
"""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython
from micropython import const

# results of `extremes`
E_MIN = const(0)
E_MIN_AT = const(1)
E_MAX = const(2)
E_MAX_AT = const(3)
E_SUM = const(4)
E_COUNT = const(5)

# bounds of `evaluate`: BOUNDS ints for a quantity, LEVEL for each of its levels
J_BOUND = const(0)
J_BACK = const(1)
J_DELAY = const(2)
J_SAMPLES = const(3)
LEVEL = const(4)
BOUNDS = const(12)
J_BIAS = const(0x20000000)  # added to bounds: ptr32 loads no negative numbers on 64-bit machines
# what `evaluate` adds up, an int for each level: ms beyond its bound, above J_SHIFT bits that count
# the samples beyond it
J_SHIFT = const(7)
J_COUNT = const(0x7F)

# parameters of `choose`; the masks of cells 1-16 and 17-32 are its result too
B_FIRST = const(0)
B_COUNT = const(1)
B_LOWEST = const(2)
B_START = const(3)
B_STOP = const(4)
B_FLOOR = const(5)
B_MOST = const(6)
B_LOW = const(7)
B_HIGH = const(8)

# rows of `plain_slaves`, L_ROW ints a slave: first index and count of cells, of temperatures; 1 =
# the kernel may evaluate it; when its cells, temperatures and board values were evaluated last,
# each with the ms from the time before to that; stamp of the stack voltage evaluated last; scans in
# which it was out of tolerance, 2 for each, less 1 for one within; ms of charging when temperatures
# were evaluated last
L_CELL = const(0)
L_CELLS = const(1)
L_TEMP = const(2)
L_TEMPS = const(3)
L_PLAIN = const(4)
L_CELLS_AT = const(5)
L_CELLS_GAP = const(6)
L_TEMPS_AT = const(7)
L_TEMPS_GAP = const(8)
L_BOARD_AT = const(9)
L_BOARD_GAP = const(10)
L_STACK_AT = const(11)
L_STACK_OUT = const(12)
L_CHARGED_AT = const(13)
L_ROW = const(16)
# parameters of `plain_slaves`: first slave and end; time of the scan, now, ms of charging;
# tolerance of stack voltages; ints of `own` a slave; with J_BIAS added: bounds of cells, of
# temperatures, of boards, and the warmest board; the last three are results too: the oldest
# reading in ms, and its slave
P_SLAVE = const(0)
P_END = const(1)
P_SCAN_AT = const(2)
P_NOW = const(3)
P_CHARGED = const(4)
P_TOLERANCE = const(5)
P_OWN = const(6)
P_CELL_LOW = const(7)
P_CELL_HIGH = const(8)
P_TEMP_LOW = const(9)
P_TEMP_HIGH = const(10)
P_BOARD = const(11)
P_HOTTEST = const(12)
P_AGE = const(13)
P_AGE_AT = const(14)

# flags of a reading; they come to all others by `pack`
FRESH = const(1)  # the value is valid and younger than its bound
BALANCING = const(2)  # it was sampled while its slave was balancing cells
SEEN = const(4)  # it was valid at least once since the start
LOST = const(8)  # it was valid once, and the last valid one is too old; set by `expire`
NEW = const(16)  # it came since its slave was evaluated last
LEFT_OUT = const(32)  # of a sensor that the pack file leaves out: another one's value stands there

# as in `ticks`, whose names the compiler can't fold in here
_HALF = const(0x10000000)
_MASK = const(0x1FFFFFFF)


@micropython.viper
def extremes(values: ptr16, flags: ptr8, start: int, end: int, mark: int, out: ptr32):
    """Minimum, maximum, where each stands first, sum and count of the marked values in a range.

    `values` array('h'); marked: `flags` & `mark` isn't 0; `out` array('i') of 6, count 0 where
    none is.
    """
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
    out[E_MIN] = low
    out[E_MIN_AT] = low_at
    out[E_MAX] = high
    out[E_MAX_AT] = high_at
    out[E_SUM] = total
    out[E_COUNT] = count


@micropython.viper
def expire(flags: ptr8, stamps: ptr32, start: int, end: int, now: int, max_age: int) -> int:
    """Mark every reading that was valid once (seen) and is older than `max_age` ms as lost.

    Lost clears fresh; it stays until the next reading is stored. Returns the first index that is
    lost, -1 where none is.
    """
    first = -1
    i = start
    while i < end:
        flag = int(flags[i])
        if flag & (SEEN | LOST) == SEEN:
            age = ((now - int(stamps[i]) + _HALF) & _MASK) - _HALF
            if age > max_age:
                flag = (flag & (0xFF ^ FRESH)) | LOST
                flags[i] = flag
        if first < 0 and flag & LOST:
            first = i
        i += 1
    return first


@micropython.viper
def oldest(flags: ptr8, stamps: ptr32, start: int, end: int, now: int) -> int:
    """Age in ms of the oldest reading of start..end-1 that was valid once (seen); 0: none was."""
    most = 0
    i = start
    while i < end:
        if int(flags[i]) & SEEN:
            age = ((now - int(stamps[i]) + _HALF) & _MASK) - _HALF
            if age > most:
                most = age
        i += 1
    return most


@micropython.viper
def unmark(flags: ptr8, start: int, end: int, mark: int):
    """Clear the bits of `mark` in a range of `flags`."""
    keep = 0xFF ^ mark
    while start < end:
        flags[start] = int(flags[start]) & keep
        start += 1


@micropython.viper
def changed(values: ptr16, before: ptr16, moved: ptr8, start: int, end: int):
    """Mark in `moved` every value that is another than `before`."""
    i = start
    while i < end:
        if int(values[i]) != int(before[i]):
            moved[i] = 1
        i += 1


# long: one call for all slaves costs least  # parameters: a kernel gets its arrays one by one
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
    """Evaluate slaves that are and were within all bounds; returns the first slave that is not.

    p, rows: see P_* and L_*; own: what `evaluate` adds up of each; the others are the pack's.
    Notes of each what an evaluation notes: readings are no longer new, when they were evaluated,
    the warmest board, the oldest reading.
    """
    end = int(p[P_END])
    scan_at = int(p[P_SCAN_AT])
    now = int(p[P_NOW])
    charged = int(p[P_CHARGED])
    tolerance = int(p[P_TOLERANCE])
    each = int(p[P_OWN])
    cell_low = int(p[P_CELL_LOW]) - J_BIAS
    cell_high = int(p[P_CELL_HIGH]) - J_BIAS
    temp_low = int(p[P_TEMP_LOW]) - J_BIAS
    temp_high = int(p[P_TEMP_HIGH]) - J_BIAS
    board = int(p[P_BOARD]) - J_BIAS
    hottest = int(p[P_HOTTEST]) - J_BIAS
    i = int(p[P_SLAVE])
    while i < end:
        row = i * L_ROW
        if int(rows[row + L_PLAIN]) == 0 or int(stack_ok[i]) == 0 or int(flags[i]) & 0xFF00:
            break
        dc = (int(die[i]) ^ 0x8000) - 0x8000
        at = int(stack_at[i])
        if dc > board or int(rows[row + L_STACK_OUT]) or at == int(rows[row + L_STACK_AT]):
            break
        if at == int(rows[row + L_BOARD_AT]):
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
        last = first_cell + int(rows[row + L_CELLS])
        k = first_cell
        while k < last:
            mv = (int(cell_mv[k]) ^ 0x8000) - 0x8000
            if (
                int(cell_flags[k]) & (FRESH | LOST | NEW) != (FRESH | NEW)
                or mv < cell_low
                or mv > cell_high
            ):
                break
            total += mv
            one = ((now - int(cell_at[k]) + _HALF) & _MASK) - _HALF
            if one > age:
                age = one
            k += 1
        if k < last:
            break
        by = int(stack_mv[i]) - total
        if by > tolerance or by < 0 - tolerance:
            break
        first_temp = int(rows[row + L_TEMP])
        last = first_temp + int(rows[row + L_TEMPS])
        k = first_temp
        while k < last:
            value = (int(temp_dc[k]) ^ 0x8000) - 0x8000
            if (
                int(temp_flags[k]) & (FRESH | NEW) != (FRESH | NEW)
                or value < temp_low
                or value > temp_high
            ):
                break
            k += 1
        if k < last:
            break
        while k > first_temp:
            k -= 1
            temp_flags[k] = int(temp_flags[k]) & (0xFF ^ NEW)
        k = first_cell + int(rows[row + L_CELLS])
        while k > first_cell:
            k -= 1
            cell_flags[k] = int(cell_flags[k]) & (0xFF ^ NEW)
        k = L_CELLS_AT
        while k <= L_BOARD_AT:
            when = at if k == L_BOARD_AT else scan_at
            if k != L_TEMPS_AT or int(rows[row + L_TEMPS]):
                gap = (when - int(rows[row + k])) & _MASK
                rows[row + k] = when
                rows[row + k + 1] = gap if gap < _HALF else _HALF - 1
            k += 2
        if int(rows[row + L_TEMPS]):
            rows[row + L_CHARGED_AT] = charged
        rows[row + L_STACK_AT] = at
        if dc > hottest:
            hottest = dc
        if age > int(p[P_AGE]):
            p[P_AGE] = age
            p[P_AGE_AT] = i
        i += 1
    p[P_HOTTEST] = hottest + J_BIAS
    return i


@micropython.viper
def any_set(values: ptr32, start: int, end: int) -> int:
    """1 where any of values[start:end] is not 0."""
    while start < end:
        if int(values[start]):
            return 1
        start += 1
    return 0


# parameters: an array for them would cost more than the call
@micropython.viper
def evaluate(
    bounds: ptr32,
    row: int,
    out: ptr32,
    at: int,
    levels: int,
    value: int,
    standing: int,
    elapsed: int,
) -> int:
    """Compare a fresh value with the levels of a quantity, bounds[row]; see J_*.

    It stands for the `elapsed` ms since the one before. Time beyond a bound adds up in out[at] and
    behind it; it is held inside the hysteresis, and while `standing` is not back; farther inside it
    runs down, at half the speed, and by half the delay at most: one good value forgives no more.
    Returns the levels that are out long enough in bits 0..2, those that have cleared in bits 3..5.
    """
    result = 0
    level = 0
    while level < levels:
        bound = int(bounds[row]) - J_BIAS  # J_BOUND is 0
        back = 0 - int(bounds[row + J_BACK])
        delay = int(bounds[row + J_DELAY])
        ms = int(out[at]) >> J_SHIFT
        count = int(out[at]) & J_COUNT
        if value > bound:
            # the first sample only starts the time: how long it was beyond before is unknown
            if ms:
                ms += elapsed
            else:
                ms = 1
            if count < int(bounds[row + J_SAMPLES]):
                count += 1
            if ms > delay:
                ms = delay + 1
                if count >= int(bounds[row + J_SAMPLES]):
                    result |= 1 << level
            out[at] = ms << J_SHIFT | count
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
            out[at] = ms << J_SHIFT | count
        row += LEVEL
        at += 1
        level += 1
    return result


@micropython.viper
def open_pair(values: ptr16, flags: ptr8, start: int, end: int, mean: int, apart: int) -> int:
    """The first of two fresh neighbours of which one is `apart` above `mean`, one below; -1 = none.

    Both must be about as far from it: an open wire between two cells moves their common tap.
    """
    i = start
    while i < end - 1:
        if int(flags[i]) & int(flags[i + 1]) & FRESH:
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
def choose(values: ptr16, p: ptr32) -> int:
    """Choose the cells of one slave to balance, the highest first; how many. `p`: see B_*.

    A cell begins p[B_START] mV above p[B_LOWEST] and goes on down to p[B_STOP] above it, and never
    below p[B_FLOOR]. The masks in p[B_LOW] and p[B_HIGH] are those that were balanced, on return
    those that shall be.
    """
    first = int(p[B_FIRST])
    count = int(p[B_COUNT])
    lowest = int(p[B_LOWEST])
    start = int(p[B_START])
    stop = int(p[B_STOP])
    floor = int(p[B_FLOOR])
    limit = int(p[B_MOST])
    was_low = int(p[B_LOW])
    was_high = int(p[B_HIGH])
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
    p[B_LOW] = low
    p[B_HIGH] = high
    return chosen
