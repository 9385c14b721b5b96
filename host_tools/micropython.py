"""`micropython` for CPython: just what `firmware/bms` needs to import there.

It has no `viper` or `native` on purpose: `bms.kernels` falls back to plain Python without them.
"""

from typing import TypeVar

T = TypeVar("T")


def const(value: T) -> T:
    """The value itself; on a board the compiler folds it in."""
    return value
