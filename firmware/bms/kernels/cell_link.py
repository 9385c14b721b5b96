"""Readings of the cell link: from its frames into the pack's arrays.

Values are array('h'), stamps (ms ticks) array('i'), flags a bytearray, as in `readings`. What the
driver and the kernels share travels in an array('i'); its layout stands here. Nothing here
allocates after the import.
"""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython
from micropython import const

from bms.kernels.checksums import CRC8_J1850

# table of `take13`: the scan's number, its time, rows that miss a part, when the last part came;
# low bound, high bound, offset of cells, then of temperatures;
# from H_ROW_OF on the index of each node's row, 0 = none; from H_ROWS on rows of ROW ints
H_SEQ = const(0)
H_NOW = const(1)
H_MISSING = const(2)
H_RX_AT = const(3)
H_CELL = const(4)
H_TEMP = const(7)
H_SCAN = const(10)  # all 8 bits of the scan's number; H_SEQ has 4
H_STATUS = const(11)  # not 0: `store_status` has something to store
H_ROW_OF = const(16)
H_ROWS = const(80)
ROW = const(26)
# of a row: bits of the parts wanted and had; 1 = it may be taken; flags of a reading; first index
# and count of cells, of temperatures; R_DUE is the driver's own; from R_CRC on the CRC of each part
R_WANT = const(0)
R_GOT = const(1)
R_OPEN = const(2)
R_FLAGS = const(3)
R_CELL = const(4)
R_CELLS = const(5)
R_TEMP = const(6)
R_TEMPS = const(7)
R_DUE = const(8)
R_CRC = const(9)
R_SLAVE = const(22)  # index of the slave in the pack
# of its STATUS frame: 0 where none waits, else stack voltage in 10 mV, temperature + 40 degC << 16
# and bit 24; when it came; the upper half of its fault bits
R_STATUS = const(23)
R_STATUS_AT = const(24)
R_WARNINGS = const(25)

# as in `ticks`, whose names the compiler can't fold in here
_HALF = const(0x10000000)
_MASK = const(0x1FFFFFFF)

_STATUS = const(0x1000)  # of the parts wanted and had: CELLS are bits 0..7, TEMPS 8..11


# long: one call for a frame: a second would cost more than the work
@micropython.viper
def take13(ident: int, data: ptr8, t: ptr32, values: ptr16, flags: ptr8, stamps: ptr32) -> int:
    """Take one CELLS or TEMPS frame of the cell link: four values of 13 bits, 8191 = no reading.

    `t` is the table of `H_*` and `R_*`. A frame of an unknown or closed row, of another scan, a
    part that is not wanted or was there already, or of a wrong CRC gives -1 and changes nothing.
    Value k goes, with its offset, behind the row's first index of `values`, with the row's flags
    and the time of the scan; an absent one changes nothing. Returns 1 + the index of the first
    value out of bounds, 0 if none is.
    """
    part = (ident >> 6) - 8
    row = int(t[H_ROW_OF + (ident & 63)])
    bit = 1 << part
    if row == 0 or int(t[row + R_OPEN]) == 0:
        return -1
    got = int(t[row + R_GOT])
    want = int(t[row])  # R_WANT
    if got & bit or want & bit == 0 or int(data[6]) >> 4 != int(t[H_SEQ]):
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
    t[row + R_GOT] = got
    t[row + R_CRC + part] = data[7]
    if got == want:
        t[H_MISSING] = int(t[H_MISSING]) - 1
    now = int(t[H_NOW])
    t[H_RX_AT] = now
    if part < 8:
        kind = H_CELL
        base = int(t[row + R_CELL])
        count = int(t[row + R_CELLS])
    else:
        kind = H_TEMP
        part -= 8
        base = int(t[row + R_TEMP])
        count = int(t[row + R_TEMPS])
    base += 4 * part
    count -= 4 * part
    if count > 4:
        count = 4
    # signed 16 bits: where words are wider than 32 bits, ptr32 doesn't extend the sign
    low = ((int(t[kind]) & 0xFFFF) ^ 0x8000) - 0x8000
    high = ((int(t[kind + 1]) & 0xFFFF) ^ 0x8000) - 0x8000
    shift = ((int(t[kind + 2]) & 0xFFFF) ^ 0x8000) - 0x8000
    flag = int(t[row + R_FLAGS])
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


# parameters: a kernel gets its arrays one by one
@micropython.viper
def begin_rows(t: ptr32, n: int, known: ptr8, polled: ptr8, conflict: ptr8, opened: int) -> int:
    """Begin a scan in the first n rows; returns of how many rows answers are due.

    Due are slaves that are known; with `opened` those without conflict may be taken at once.
    """
    row = H_ROWS
    missing = 0
    m = 0
    while m < n:
        due = int(known[int(t[row + R_SLAVE])])
        t[row + R_GOT] = 0
        t[row + R_DUE] = due
        t[row + R_OPEN] = 0
        if due and opened and int(conflict[m]) == 0:
            t[row + R_OPEN] = 1
        polled[m] = 0
        missing += due
        row += ROW
        m += 1
    return missing


@micropython.viper
def take_status(ident: int, data: ptr8, t: ptr32) -> int:
    """Take one STATUS frame of the cell link that reports no severe fault; 0, or -1 as `take13`.

    Its values wait in its row for `store_status`.
    """
    row = int(t[H_ROW_OF + (ident & 63)])
    if row == 0 or int(t[row + R_OPEN]) == 0:
        return -1
    got = int(t[row + R_GOT])
    want = int(t[row])  # R_WANT
    if got & _STATUS or want & _STATUS == 0 or int(data[6]) != int(t[H_SCAN]) or int(data[2]):
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
    got |= _STATUS
    t[row + R_GOT] = got
    t[row + R_CRC + 12] = data[7]
    if got == want:
        t[H_MISSING] = int(t[H_MISSING]) - 1
    now = int(t[H_NOW])
    t[H_RX_AT] = now
    t[row + R_STATUS_AT] = now
    t[row + R_STATUS] = int(data[0]) | int(data[1]) << 8 | int(data[4]) << 16 | 1 << 24
    t[row + R_WARNINGS] = data[3]
    t[H_STATUS] = 1
    return 0


# parameters: a kernel gets its arrays one by one
@micropython.viper
def store_status(t: ptr32, n: int, mv: ptr32, at: ptr32, ok: ptr8, flags: ptr16, die: ptr16):
    """Store what `take_status` took in the first n rows, where a row is still open.

    mv, at: array('i') of stack mV and time by slave, ok: whether they are valid; flags array('H');
    die array('h'), 0.1 degC.
    """
    row = H_ROWS
    while n > 0:
        if int(t[row + R_STATUS]) and int(t[row + R_OPEN]):
            i = int(t[row + R_SLAVE])
            status = int(t[row + R_STATUS])
            mv[i] = (status & 0xFFFF) * 10
            at[i] = t[row + R_STATUS_AT]
            ok[i] = 1
            flags[i] = int(t[row + R_WARNINGS]) << 8
            die[i] = ((status >> 16 & 0xFF) - 40) * 10
        t[row + R_STATUS] = 0
        row += ROW
        n -= 1


# parameters: a kernel gets its arrays one by one
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
    """Take readings of the cell link (`take13`) from the front of an MCP2515's ring.

    at: slot to be written, slot to be read, of slots of 16 bytes as `mcp_frame` has them, numbered
    up to `last`, and STATUS frames (`take_status`). Ends at the first frame that neither takes: -1;
    it stays in the ring. A reading out of bounds gives identifier << 3 | what `take13` gave; 0: the
    ring is empty.
    """
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
            worst = int(take_status(ident, data, t))
        elif part < 8:
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


# parameters: a kernel gets its arrays one by one
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
    """Call `idle`, and take readings as they come, until the tick `until` is reached.

    Ends before where `mcp_readings`, which does it, gives anything but 0: that is the result; and
    where no answer of the scan is missing after it: 0, as at the end.
    """
    while True:
        now = int(ticks_ms()) & _MASK
        if int(at[0]) != int(at[1]):
            t[H_NOW] = now
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
            if int(t[H_MISSING]) == 0:
                return 0
        if (now - until) & _MASK < _HALF:
            return 0
        if int(at[0]) == int(at[1]):
            idle()
