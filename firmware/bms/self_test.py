"""Self-test at start: the machine code of the kernels, then what the board tests of its own.

A failure sets `faults.SELF_TEST` until the next start: no contactor closes. What a board tests in
steps goes on behind the start: the master calls its `self_test` until that has a result.
"""

import sys
from array import array

from bms.kernels.checksums import crc8_frame, crc16
from bms.kernels.readings import extremes

_FRAME = b"\xe4\xec\xff\x07\x00\xff_"  # 3300 mV, none, 1 mV, 8190 mV; scan 5


def run(board):
    """Return b"ok", b"running", or what failed. Allocates: it runs once, before the cycle.

    The kernel of the cell link is tested where a driver has loaded it.
    """
    # CRC catalogue: CRC-16/IBM-3740 and CRC-8/SAE-J1850 over "123456789"
    if crc16(b"123456789", 0, 9, 0xFFFF) != 0x29B1:
        return b"CRC-16"
    if crc8_frame(0x3132, b"3456789", 7) != 0x4B:
        return b"CRC-8"
    if not _extremes() or ("bms.kernels.cell_link" in sys.modules and not _take_cells()):
        return b"readings"
    return board.self_test()


def _extremes():
    """True where the kernel finds the extremes, signed, of the marked readings and their sum."""
    out = array("i", [0] * 6)
    extremes(array("h", [3300, -400, -32768, 8190]), b"\1\3\2\1", 0, 4, 1, out)
    return list(out) == [-400, 1, 8190, 3, 11090, 3]


def _take_cells():
    """True where the kernel reads four cells correctly and reports the third, below its bound."""
    from bms.kernels import cell_link as T

    data = bytearray(8)
    data[:7] = _FRAME
    data[7] = crc8_frame(0x201, data, 7)
    t = array("i", [0] * (T.H_ROWS + T.ROW))
    t[T.H_SEQ] = 5
    t[T.H_CELL] = 2
    t[T.H_CELL + 1] = 8190
    t[T.H_ROW_OF + 1] = row = T.H_ROWS
    t[row + T.R_WANT] = t[row + T.R_OPEN] = t[row + T.R_FLAGS] = 1
    t[row + T.R_CELLS] = 4
    mv = array("h", [-1] * 4)
    flags = bytearray(4)
    worst = T.take13(0x201, data, t, mv, flags, array("i", [0] * 4))
    return worst == 3 and list(mv) == [3300, -1, 1, 8190] and flags == b"\1\0\1\1"
