"""The inner loops, in machine code on a board; CPython runs the same files as they are.

Each module holds what is used together: a board loads those that its pack needs. The constants of
a kernel's table stand beside it. Nothing of `bms` is imported here but these files.
"""

import sys

# above bit 10 of `_mpy` stands the processor of machine code; 0: this compiler makes none
NATIVE = getattr(sys.implementation, "_mpy", 0) >> 10 > 0
