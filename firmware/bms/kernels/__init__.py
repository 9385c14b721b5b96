"""The inner loops, in machine code on a board; CPython runs the same files as they are.

Here are their names. The constants of their tables stand in the module that reads them. Nothing
of `bms` is imported from here but these files.
"""

import sys

from bms.kernels.buffers import (
    cobs_decode,
    cobs_encode,
    copy,
    copy16,
    find,
    mcp_frame,
    nth,
    put,
    put_end,
    put_field,
    put_hex,
    put_int,
    put_key,
    put_text,
    put_values,
    shift,
    slcan_decode,
    slcan_encode,
    splice,
    wait_for,
)
from bms.kernels.checksums import (
    crc8,
    crc8_frame,
    crc16,
    crc16_modbus,
    total,
)
from bms.kernels.readings import (
    any_set,
    begin_rows,
    changed,
    choose,
    evaluate,
    expire,
    extremes,
    mcp_readings,
    oldest,
    open_pair,
    plain_slaves,
    store_status,
    take13,
    unmark,
    wait_readings,
)

# above bit 10 of `_mpy` stands the processor of machine code; 0: this compiler makes none
NATIVE = getattr(sys.implementation, "_mpy", 0) >> 10 > 0
