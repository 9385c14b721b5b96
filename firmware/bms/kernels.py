"""The inner loops: machine code where this MicroPython can make it, plain Python elsewhere."""

try:
    from bms.kernels_viper import *  # noqa: F403

    NATIVE = True
except (ImportError, AttributeError, NameError, SyntaxError):  # no native emitter, or CPython
    from bms.kernels_plain import *  # noqa: F403

    NATIVE = False
