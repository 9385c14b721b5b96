"""`micropython` for CPython: what `firmware/bms` needs of it, the viper kernels included.

Viper's pointer types are words of MicroPython's compiler, known without an import; so they are put
into `builtins` here. A pointer is a view of the buffer's own bytes: loads are unsigned under ptr8
and ptr16 and signed under ptr32, as on a 32-bit board. A store through a view keeps the low bits;
a buffer that is used as it is (bytearray, array of the same items) raises an error for more.
Arithmetic doesn't wrap here: where 32 bits matter, a kernel masks.
"""

import builtins
import ctypes
from array import array
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


def const(value: T) -> T:
    """The value itself; on a board the compiler folds it in."""
    return value


def _pointer(name: str, code: str, item: Any) -> Callable[[Any], Any]:
    """A pointer type: a call gives the view of a str, bytes or any buffer as items of `code`."""
    size = ctypes.sizeof(item)

    def pointer(buffer: Any) -> Any:
        kind = type(buffer)
        if kind is bytes or kind is bytearray:
            if size == 1:
                return buffer
        elif kind is array and buffer.typecode == code:
            return buffer
        view = memoryview(buffer.encode() if kind is str else buffer).cast("B")
        if view.readonly:
            return view.cast(code)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return (item * (len(view) // size)).from_buffer(view)

    pointer.__name__ = name
    return pointer


ptr8 = _pointer("ptr8", "B", ctypes.c_uint8)
ptr16 = _pointer("ptr16", "H", ctypes.c_uint16)
ptr32 = _pointer("ptr32", "i", ctypes.c_int32)


def uint(value: int) -> int:
    """The value as 32 bits without a sign."""
    return value & 0xFFFFFFFF


def native(function: T) -> T:
    """The function itself; on a board it becomes machine code."""
    return function


def asm_thumb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Raises SyntaxError, as MicroPython's compiler does for a processor of another kind."""
    raise SyntaxError("no Thumb code here: " + function.__name__)


def viper(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its arguments that are annotated as pointers made ones at each call."""
    kinds: dict[str, Any] = function.__annotations__
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    wanted = (ptr8, ptr16, ptr32)
    pointers = [(i, kinds[x]) for i, x in enumerate(names) if kinds.get(x) in wanted]
    if not pointers:
        return function

    @wraps(function)
    def call(*args: Any) -> Any:
        values = list(args)
        for i, pointer in pointers:
            values[i] = pointer(values[i])
        return function(*values)

    return call


builtins.__dict__.update(ptr8=ptr8, ptr16=ptr16, ptr32=ptr32, uint=uint)
