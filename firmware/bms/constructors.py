"""Frees the constructors of all classes, once everything is built: nothing is made after start.

They are a tenth of the code. Who made an object later, against the rules of the firmware, would get
a TypeError.
"""

import sys

_OURS = ("bms", "hal", "board", "pico")


def forget(ours=_OURS):
    """Take `__init__` out of every class in the packages `ours` that is loaded."""
    for name in sys.modules:
        if name.split(".")[0] in ours:
            module = sys.modules[name].__dict__
            for key in module:
                _without(module[key])


def _without(cls):
    # `del` would leave the function in the dictionary's table (py/objtype.c, py/map.c)
    if isinstance(cls, type) and "__init__" in cls.__dict__:
        try:
            setattr(cls, "__init__", None)  # noqa: B010
        except (AttributeError, TypeError):
            pass  # MicroPython's own
