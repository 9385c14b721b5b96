"""The kernels for a MicroPython whose compiler makes no machine code, as on 64-bit ARM.

There `@micropython.viper` is a syntax error. Their source is run without it, as bytecode, and the
modules stand ready before `bms.kernels` imports them. Viper's pointers become views of the same
bytes, as host_tools/micropython.py makes them for CPython. Slow, and only on a computer: every
board that is supported has machine code.
"""

import builtins
import sys

# one imports from those before it only
MODULES = ("buffers", "checksums", "cell_link", "cobs", "mcp2515", "readings")
MODULES += ("slave_checksums", "slcan")


class _Module:
    pass


def _ptr8(buffer):
    if isinstance(buffer, (bytes, bytearray)):
        return buffer
    return uctypes.bytearray_at(uctypes.addressof(buffer), len(bytes(buffer)))


def _ptr16(buffer):
    return _words(buffer, uctypes.UINT16, 2)


def _ptr32(buffer):
    return _words(buffer, uctypes.INT32, 4) if isinstance(buffer, bytearray) else buffer


def _words(buffer, kind, size):
    count = len(bytes(buffer)) // size
    return uctypes.struct(
        uctypes.addressof(buffer), {"x": (uctypes.ARRAY, kind | count)}, uctypes.NATIVE
    ).x


def without_viper(source):
    """The source with its decorators gone and, in each function, its pointers made on entry."""
    out = []
    head = ""  # of the function, as far as it was read
    viper = False
    for line in source.split("\n"):
        if line == "@micropython.viper":
            viper = True
            continue
        out.append(line)
        if not viper:
            continue
        head += line.strip()
        if line.endswith(":"):
            for argument in head.split("(")[1].split(")")[0].split(","):
                name, _, kind = argument.partition(":")
                if kind.strip().startswith("ptr"):
                    out.append("    %s = %s(%s)" % (name.strip(), kind.strip(), name.strip()))
            head = ""
            viper = False
    return "\n".join(out)


def _source(path):
    for folder in sys.path:
        try:
            with open(folder + "/" + path) as file:
                return file.read()
        except OSError:
            pass
    raise ImportError(path)


def load():
    """The kernels' modules as bytecode, by name. Allocates: once, before the firmware starts.

    While they load they stand in sys.modules, because one imports from another.
    """
    for kind, pointer in (("ptr8", _ptr8), ("ptr16", _ptr16), ("ptr32", _ptr32)):
        setattr(builtins, kind, pointer)
    found = {}
    for name in MODULES:
        names = {"__name__": "bms.kernels." + name}
        exec(without_viper(_source("bms/kernels/%s.py" % name)), names)
        module = _Module()
        for key in names:
            setattr(module, key, names[key])
        sys.modules[names["__name__"]] = module  # pyright: ignore[reportArgumentType]
        found[name] = module
    return found


if sys.implementation.name == "micropython":
    import uctypes

    if not sys.implementation._mpy >> 10:  # pyright: ignore[reportAttributeAccessIssue]
        load()
