"""What an .mpy file holds: names, constants and the frame of each function.

The format is MicroPython's, version 6 (py/persistentcode.c); a frame's size stands in the prelude
of its bytecode (py/bc.h).
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

BYTECODE, NATIVE, VIPER, ASM = range(4)
# tags of constants (py/persistentcode.h)
_FUN_TABLE, _NONE, _FALSE, _TRUE, _ELLIPSIS = range(5)
_STR, _BYTES, _INT, _FLOAT, _COMPLEX, _TUPLE = range(5, 11)
_RODATA, _BSS = 0x20, 0x40  # scope flags of viper code (py/runtime0.h)
WORD = 4  # bytes of an object on a 32-bit board
_EXCEPTION_WORDS = 3  # of a `try` that is open (py/bc.h, mp_exc_stack_t)


@dataclass
class Function:
    """One compiled scope; the first of a file is its module.

    kind: BYTECODE, NATIVE, VIPER or ASM; size: bytes of code; state, exceptions: slots of its
    frame, 0 where the code is no bytecode.
    """

    kind: int
    size: int
    state: int = 0
    exceptions: int = 0
    name: str = ""
    children: "list[Function]" = field(default_factory=list)

    @property
    def frame(self) -> int:
        """Bytes of its frame on a 32-bit board, without the fixed part."""
        return (self.state + self.exceptions * _EXCEPTION_WORDS) * WORD

    def all(self) -> "Iterator[Function]":
        """This and all below it, in the order of the source."""
        yield self
        for child in self.children:
            yield from child.all()


@dataclass
class MpyFile:
    """names: those that are no built-in names of MicroPython; builtin: how many of these."""

    names: list[str]
    builtin: int
    constants: list[object]
    module: Function


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        self.at += count
        if self.at > len(self.data):
            raise ValueError("the .mpy file is cut")
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        value = 0
        while True:
            byte = self.byte()
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                return value

    def name(self) -> str | None:
        """A name; None for one of MicroPython's built-in ones, which are numbered."""
        length = self.number()
        if length & 1:
            return None
        return self.take((length >> 1) + 1)[:-1].decode()

    def constant(self) -> object:
        tag = self.byte()
        if tag in (_FUN_TABLE, _NONE, _ELLIPSIS):
            return None
        if tag in (_FALSE, _TRUE):
            return tag == _TRUE
        length = self.number()
        if tag == _TUPLE:
            return tuple(self.constant() for _ in range(length))
        data = self.take(length)
        if tag in (_STR, _BYTES):
            self.byte()
            return data.decode() if tag == _STR else data
        return int(data) if tag == _INT else data.decode()

    def function(self) -> Function:
        head = self.number()
        code = self.take(head >> 3)
        out = Function(head & 3, len(code))
        if out.kind == BYTECODE:
            out.state, out.exceptions = _frame(code)
        elif out.kind == NATIVE:
            self.number()
        else:
            flags = self.number()
            if out.kind == ASM:
                self.number()
                self.number()
            else:
                rodata = self.number() if flags & _RODATA else 0
                if flags & _BSS:
                    self.number()
                self.take(rodata)
        if head & 4:
            out.children = [self.function() for _ in range(self.number())]
        return out


def _frame(code: bytes) -> tuple[int, int]:
    """State and exception slots from a prelude: xSSSSEAA, then xFSSKAED as long as x is set."""
    byte = code[0]
    state = byte >> 3 & 15
    exceptions = byte >> 2 & 1
    at = 0
    while byte & 0x80:
        byte = code[at + 1]
        state |= (byte & 0x30) << 2 * at
        exceptions |= (byte & 0x02) << at
        at += 1
    return state + 1, exceptions


def read(data: bytes) -> MpyFile:
    """Read a whole file. Raises ValueError where it is none of version 6, or is cut."""
    if data[:2] != b"M\x06":
        raise ValueError("no .mpy file of version 6")
    reader = _Reader(data)
    reader.take(4)
    if data[2] & 0x40:
        reader.number()
    names, constants = reader.number(), reader.number()
    found = [reader.name() for _ in range(names)]
    objects = [reader.constant() for _ in range(constants)]
    kept = [name for name in found if name is not None]
    return MpyFile(kept, len(found) - len(kept), objects, reader.function())


_SCOPES = (
    ast.FunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


def _scopes(node: ast.AST, path: str) -> "Iterator[str]":
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            name = getattr(child, "name", f"<{type(child).__name__}>")
            yield path + name
            yield from _scopes(child, path + name + ".")
        else:
            yield from _scopes(child, path)


def named(module: Function, source: str) -> list[Function]:
    """All functions of a file with their names in its `source`, as "Class.method".

    Raises ValueError where the file has not the scopes of that source.
    """
    functions = list(module.all())
    names = ["<module>", *_scopes(ast.parse(source), "")]
    if len(names) != len(functions):
        raise ValueError(f"{len(functions)} functions, {len(names)} in the source")
    for function, name in zip(functions, names, strict=True):
        function.name = name
    return functions
