"""The heap lock: while it is on, an allocation is a MemoryError and frames lie on the C stack.

`Master.run` locks the heap for the cycle. What has to allocate there (storage, `open`, a pin that
is set up late) does so in a window: `locked = unlock()`, then `restore(locked)`. A port without
`heap_lock`, and CPython, run on without one. Nothing here allocates after import.
"""

import micropython

LOCKS = hasattr(micropython, "heap_lock")
# holds an exception that is raised while the heap is locked; without it its text would be empty
if hasattr(micropython, "alloc_emergency_exception_buf"):
    micropython.alloc_emergency_exception_buf(256)  # pyright: ignore[reportAttributeAccessIssue]

_state = bytearray(1)  # 1: locked by `lock`


def lock():
    """Lock the heap, where the port can and it isn't locked yet."""
    if LOCKS and not _state[0]:
        _state[0] = 1
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]


def unlock():
    """Unlock the heap; True where it was locked by `lock`."""
    if not _state[0]:
        return False
    _state[0] = 0
    micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    return True


def restore(locked):
    """Lock the heap again where `unlock` said that it was locked."""
    if locked:
        lock()
