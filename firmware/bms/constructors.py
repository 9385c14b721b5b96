"""Frees the constructors of all classes after start: no object is made then.

They are a tenth of the code. Making an object later, against the rules of the firmware, raises
TypeError.
"""

import sys

_PACKAGES = ("bms", "hal", "board", "pico")


def forget(packages=_PACKAGES):
    """Remove `__init__` from every loaded class of these packages."""
    for name in sys.modules:
        if name.split(".")[0] in packages:
            module = sys.modules[name].__dict__
            for key in module:
                _remove_init(module[key])


def _remove_init(cls):
    # `del` would leave the function in the dictionary's table (py/objtype.c, py/map.c)
    if isinstance(cls, type) and "__init__" in cls.__dict__:
        try:
            setattr(cls, "__init__", None)  # noqa: B010
        except (AttributeError, TypeError):
            pass  # a built-in class of MicroPython
