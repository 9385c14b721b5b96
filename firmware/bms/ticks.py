"""Wrap-around arithmetic for the 29-bit ticks of every clock of the firmware.

A tick is a millisecond or a microsecond, 0..2**29-1, then 0 again (6.2 days of milliseconds,
8.9 minutes of microseconds). 29 bits, so that sums and differences stay below 2**30: larger
ints live on the heap of a 32-bit board. Nothing here allocates.
"""

from micropython import const

MASK = const(0x1FFFFFFF)
HALF = const(0x10000000)


def diff(later, earlier):
    """Ticks from `earlier` to `later`, -2**28..2**28-1; negative where `later` comes first."""
    return ((later - earlier + HALF) & MASK) - HALF


def since(now, then):
    """Ticks from `then` to `now`, 0..2**28-1; 2**28-1 also where `then` is longer ago.

    For times that may be longer ago than the range of `diff`.
    """
    passed = (now - then) & MASK
    return passed if passed < HALF else HALF - 1


def add(tick, delta):
    """The tick `delta` (|delta| < 2**29) after `tick`."""
    return (tick + delta) & MASK
