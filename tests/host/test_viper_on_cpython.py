"""Viper's words under CPython: pointers are views that load and store as a board's do."""

from array import array

import micropython
import pytest
from micropython import ptr8, ptr16, ptr32, uint


def test_loads_are_unsigned_below_32_bits() -> None:
    values = array("h", [-1, 0x1234])
    assert [ptr16(values)[i] for i in range(2)] == [0xFFFF, 0x1234]
    assert [ptr8(values)[i] for i in range(4)] == [0xFF, 0xFF, 0x34, 0x12]
    assert ptr32(values)[0] == 0x1234FFFF
    assert ptr32(array("i", [-5]))[0] == -5
    assert ptr32(bytearray(b"\xfe\xff\xff\xff"))[0] == -2
    assert ptr16(b"\x01\x02\x03\x04")[1] == 0x0403
    assert ptr8("ab")[1] == 0x62


def test_stores_reach_the_buffer_and_keep_the_low_bits() -> None:
    values = array("h", [0, 0])
    ptr16(values)[1] = -3
    ptr16(values)[0] = 0x18001
    assert list(values) == [-0x7FFF, -3]
    data = bytearray(4)
    ptr16(data)[1] = 0x0102
    assert data == b"\0\0\2\1"
    ptr8(memoryview(data)[1:])[0] = 9
    assert data == b"\0\x09\2\1"
    with pytest.raises(TypeError):
        ptr16(b"ab")[0] = 1


def test_a_store_outside_the_buffer_is_an_error() -> None:
    for pointer in (ptr8, ptr16, ptr32):
        with pytest.raises(IndexError):
            pointer(array("h", [0, 0]))[4] = 1
    with pytest.raises(ValueError, match="byte must be"):
        ptr8(bytearray(1))[0] = 256


def test_arguments_become_what_they_are_annotated_as() -> None:
    @micropython.viper
    def second(count: int, values: ptr16) -> int:  # pyright: ignore[reportInvalidTypeForm]
        """The second of some values."""
        return values[1] + count

    @micropython.native
    def plain(x: int) -> int:
        return x

    assert second(1, array("h", [0, -1])) == 0x10000
    assert second.__doc__ == "The second of some values."
    assert plain(2) == 2
    assert uint(-1) == 0xFFFFFFFF
    with pytest.raises(TypeError):  # as on a board, where viper functions take no keywords
        second(count=1, values=array("h", [0, 0]))
