"""Frames as an MCP2515 holds them, and waiting for them. Nothing here allocates."""

# viper's pointer types are words of the compiler, not of a type checker
# pyright: reportUndefinedVariable=none

import micropython
from micropython import const

_EXTENDED = const(0x20000000)  # as in `links.can`, whose names the compiler can't fold in here


@micropython.viper
def mcp_frame(ring: ptr8, at: int, data: ptr8, ident: ptr32) -> int:
    """Unpack a frame in an MCP2515's form (identifier in 4 bytes, length, data) at ring[at + 1].

    Its payload goes into `data`, its identifier into ident[0] of an array('i'). Returns its length,
    -1 if it is no data frame. Source: MCP2515 datasheet, RXBnSIDH to RXBnDm.
    """
    low = int(ring[at + 2])
    n = int(ring[at + 5]) & 0x4F  # with the bit of a remote frame
    value = int(ring[at + 1]) << 3 | low >> 5
    if low & 0x08:
        value = value << 18 | (low & 3) << 16 | int(ring[at + 3]) << 8 | int(ring[at + 4])
        value |= _EXTENDED
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
def wait_for(at: ptr32, ms: int, ticks_ms, idle) -> int:
    """Call `idle` until at[0] and at[1] differ (1) or `ms` of `ticks_ms` have passed (0)."""
    start = int(ticks_ms())
    while (int(ticks_ms()) - start) & 0x1FFFFFFF < ms:
        if int(at[0]) != int(at[1]):
            return 1
        idle()
    return 0
