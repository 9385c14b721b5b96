"""Heap lock: while it is on, an allocation raises MemoryError and frames lie on the C stack.

`Master.run` locks the heap for the cycle. Code that must allocate there (storage, `open`, a pin
that is set up late) does so between `locked = unlock()` and `restore(locked)`. CPython and ports
without `heap_lock` run without the lock. Nothing here allocates after import.
"""

import micropython

LOCKS = hasattr(micropython, "heap_lock")
# buffer for an exception that is raised while the heap is locked; without it its text is empty
if hasattr(micropython, "alloc_emergency_exception_buf"):
    micropython.alloc_emergency_exception_buf(256)  # pyright: ignore[reportAttributeAccessIssue]

_state = bytearray(1)  # 1: locked by `lock`


def lock():
    """Lock the heap, if the port can and it is not locked yet."""
    if LOCKS and not _state[0]:
        _state[0] = 1
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]


def unlock():
    """Unlock the heap; True where `lock` had locked it."""
    if not _state[0]:
        return False
    _state[0] = 0
    micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    return True


def restore(locked):
    """Lock the heap again; locked: what `unlock` returned."""
    if locked:
        lock()
