"""Values at fixed places of an answer, and alarm bits, read as a driver's tables say.

The same tables serve the driver, `bmsctl decode` and the reference page.

FIELDS: a row for each value that a board reports of itself,
    (name, offset, format, zero, scale); value = (raw - zero) * scale, where scale < 0: / -scale.
    The name is the driver's attribute and ends with its unit; -1 = not reported yet.
ALARMS: a line for each bit, from bit 0 of the first byte on: a letter for what it means to the
    master, a blank, its name. H cell high, L cell low, T over-temperature, F under-temperature,
    C over-current, S short circuit, D defect of the hardware, O other; - nothing. A capital letter
    trips, a small one only warns. One text, as it takes a third of the memory of tuples.

Nothing here allocates.
"""

from micropython import const

from bms.kernels.buffers import find
from bms.slaves.commercial import NO_SENSOR_DC, word

# formats: number of bytes, high byte first
U8 = const(1)
U16 = const(2)
U24 = const(3)
U32 = const(4)  # its low 24 bits; `read_fields` keeps the value before where there are more
S16 = const(10)
# low byte first
U16_LE = const(18)
U24_LE = const(19)
S16_LE = const(26)
S24_LE = const(27)

_BYTES = const(7)
_SIGNED = const(8)
_LITTLE = const(16)

MEANINGS = b"HLTFCSDO"  # in the order of base.ALARMS
_WARNS = const(0x20)  # of a letter's code
_LINE_END = const(10)


def number(data, at, form):
    """The value of a format, at most 24 bits of it."""
    n = form & _BYTES
    if n == U32:  # more would not fit into a small int
        n = U24
        at += 1
    step = 1
    if form & _LITTLE:
        at += n - 1
        step = -1
    value = 0
    for _ in range(n):
        value = value << 8 | data[at]
        at += step
    if form & _SIGNED and value >> (8 * n - 1):
        value -= 1 << 8 * n
    return value


def read_fields(driver, table, data, at):
    """Set the driver's attributes from `data`, offsets counted from `at`."""
    for name, offset, form, zero, scale in table:
        if form == U32 and data[at + offset]:
            continue
        value = number(data, at + offset, form) - zero
        setattr(driver, name, value * scale if scale > 0 else value // -scale)


def alarm_flags(table, data, at, step=1):
    """What alarm bits mean, as bits of base.A_*: trips in the low byte, warnings in the high one.

    Bits 0..7 stand in byte `at`, the next eight `step` bytes behind it.
    """
    flags = bit = line = 0
    end = len(table)
    while line < end:
        if data[at + step * (bit >> 3)] >> (bit & 7) & 1:
            letter = table[line]
            k = find(MEANINGS, 0, 8, letter & ~_WARNS)
            if k >= 0:
                flags |= 0x100 << k if letter & _WARNS else 1 << k
        line = find(table, line, end, _LINE_END) + 1
        bit += 1
    return flags


def take_cells(driver, m, at, count, now, balancing=False):
    """Words of mV from `at` in `link.data` are member m's first `count` cells."""
    data = driver.link.data
    for i in range(count):
        mv = word(data, at + 2 * i)
        if mv <= driver.MOST_MV:  # else no reading: the last one ages
            driver.cell(m, i, mv, now, balancing)


def take_temps(driver, m, at, zero_dc, now):
    """Words from `at` in `link.data` are member m's sensors; the warmest, or NO_SENSOR_DC.

    zero_dc: what a word reads at 0 degC.
    """
    warmest = NO_SENSOR_DC
    for i in range(driver.pack.slave_temps[driver.members[m]]):
        dc = word(driver.link.data, at + 2 * i) - zero_dc
        if NO_SENSOR_DC < dc < driver.MOST_DC:  # else no reading: the last one ages
            driver.temp(m, i, dc, now)
            if dc > warmest:
                warmest = dc
    return warmest
