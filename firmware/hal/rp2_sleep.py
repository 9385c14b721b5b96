"""Sleep of RP2040 and RP2350 until any interrupt comes.

`machine.idle` sleeps for 1 ms at most, and sets up and removes an alarm for it each time: that
took 2 % of an RP2040's time. Here a timer, set up once, sees to it that an interrupt comes.
"""

import micropython
from machine import Timer
from micropython import const

PERIOD_MS = const(4)  # longest sleep


@micropython.asm_thumb
def until_interrupt():
    """Wait for an event: an interrupt since the last one ends it at once (ARMv6-M, WFE)."""
    data(2, 0xBF20)  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


def waking_timer():
    """The timer, running. Its callback is a built-in function that does nothing with it."""
    return Timer(-1, mode=Timer.PERIODIC, period=PERIOD_MS, callback=bool, hard=True)  # pyright: ignore[reportArgumentType]
