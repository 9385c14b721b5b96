"""Frees the constructors of all classes, once everything is built: nothing is made after start.

They are a twentieth of the code. Whoever made an object later, against the rules of the firmware,
would get an exception, or what the class's base leaves it with.
"""

import sys

_OURS = ("bms", "hal", "board", "pico")


def forget():
    """Take `__init__` out of every class of the firmware that is loaded."""
    for name in sys.modules:
        if name.split(".")[0] in _OURS:
            module = sys.modules[name].__dict__
            for key in module:
                _without(module[key])


def _without(cls):
    if isinstance(cls, type):
        try:
            delattr(cls, "__init__")
        except (AttributeError, TypeError):
            pass  # it has none of its own, or is MicroPython's
