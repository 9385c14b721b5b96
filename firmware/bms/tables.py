"""Constant tables of the kernels and the layout of their parameter arrays, built at import."""

from array import array

DIGITS = b"0123456789ABCDEF"


def _crc_table(bits, poly, out):
    top = 1 << (bits - 1)
    for i in range(256):
        crc = i << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ (poly if crc & top else 0)
        out[i] = crc & ((1 << bits) - 1)
    return out


def _hex_values():
    values = bytearray(b"\xff" * 256)
    for i in range(16):
        values[DIGITS[i]] = i
        values[DIGITS[i] | 0x20] = i
    return values


# CRC catalogue (reveng): CRC-8/SAE-J1850 and CRC-16/IBM-3740, known as CCITT-FALSE
CRC8_J1850 = _crc_table(8, 0x1D, bytearray(256))
CRC16_CCITT = _crc_table(16, 0x1021, array("H", bytearray(512)))
HEX_VALUE = _hex_values()

# table of kernels.take13, an array('i'): the scan, 4 bits of it; bounds and shift of cells, of
# temperatures; all 8 bits of the scan; from H_ROW_OF on the row of each node, 0 = none; then rows
# of ROW ints
H_SEQ, H_NOW, H_MISSING, H_HEARD, H_CELL = range(5)
H_TEMP, H_SCAN, H_ROW_OF, H_ROWS, ROW = 7, 10, 16, 80, 24
# of a row: parts wanted, had; whether it may be taken; flags of a reading; first index and count
R_WANT, R_GOT, R_OPEN, R_FLAGS, R_CELL, R_CELLS, R_TEMP, R_TEMPS, R_DUE, R_CRC = range(10)
R_SLAVE = 22  # its place in the pack

# parameters of kernels.choose, an array('i'); the masks of cells 1-16 and 17-32 are its result too
B_FIRST, B_COUNT, B_LOWEST, B_START, B_STOP, B_FLOOR, B_MOST, B_LOW, B_HIGH = range(9)

# results of kernels.extremes, an array('i')
E_MIN, E_MIN_AT, E_MAX, E_MAX_AT, E_SUM, E_COUNT = range(6)

# rows of kernels.plain_slaves, an array('i') of L_ROW ints a slave: first cell and how many, the
# same of temperatures; whether the kernel may evaluate it; when its cells, its temperatures, its
# board's values were evaluated last, each with the ms from the time before to that; time of the
# stack voltage that was evaluated last, and 2 for each scan out of tolerance, less 1 for in; ms of
# charging when its temperatures were evaluated last
L_CELL, L_CELLS, L_TEMP, L_TEMPS, L_PLAIN, L_CELLS_AT, L_CELLS_GAP, L_TEMPS_AT = range(8)
L_TEMPS_GAP, L_BOARD_AT, L_BOARD_GAP, L_STACK_AT, L_STACK_OUT, L_CHARGED_AT = range(8, 14)
L_ROW = 16
# its parameters, an array('i'): first slave, end; time of the scan, now; ms of charging; stack
# tolerance; values of a slave that can be out; then with J_BIAS added: bounds of cells, of
# temperatures, of boards, warmest board (a result, too); age of the oldest reading and its slave
P_SLAVE, P_END, P_SCAN_AT, P_NOW, P_CHARGED, P_TOLERANCE, P_OWN, P_CELL_LOW, P_CELL_HIGH = range(9)
P_TEMP_LOW, P_TEMP_HIGH, P_BOARD, P_HOTTEST, P_AGE, P_AGE_AT = range(9, 15)

# bounds of kernels.judge, an array('i'): BOUNDS ints for a quantity, LEVEL for each of its levels
J_BOUND, J_BACK, J_DELAY, J_SAMPLES, LEVEL, BOUNDS = 0, 1, 2, 3, 4, 12
J_BIAS = 0x20000000  # added to bounds: viper reads no negative numbers on 64-bit machines
# what judge adds up of a quantity, an int for each level: ms beyond its bound, above J_SHIFT bits
# that count the samples beyond it
J_SHIFT, J_COUNT = 7, 0x7F
