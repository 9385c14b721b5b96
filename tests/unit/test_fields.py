"""Tables of values and alarm bits: every format, scale and letter, on both runtimes."""

from bms.slaves import fields
from bms.slaves.base import (
    A_CELL_HIGH,
    A_CELL_LOW,
    A_CURRENT,
    A_HARDWARE,
    A_OTHER,
    A_SHORT,
    A_TEMP_HIGH,
    A_TEMP_LOW,
)

DATA = bytes((0x00, 0x81, 0x02, 0x83, 0x04, 0xFF))


class Driver:
    pass


def read(form, offset=0, zero=0, scale=1, at=0):
    d = Driver()
    d.value = -1
    fields.read_fields(d, (("value", offset, form, zero, scale),), DATA, at)
    return d.value


def test_formats():
    for form, value in (
        (fields.U8, 0x81),
        (fields.U16, 0x8102),
        (fields.S16, 0x8102 - 0x10000),
        (fields.U24, 0x810283),
        (fields.U16_LE, 0x0281),
        (fields.S16_LE, 0x0281),
        (fields.S24_LE, 0x830281 - 0x1000000),
    ):
        assert read(form, 1) == value, form
        assert read(form, 0, at=1) == value, form
    assert read(fields.S16_LE, 2) == 0x8302 - 0x10000


def test_more_than_24_bits_are_no_value():
    assert read(fields.U32, 0) == 0x810283
    assert read(fields.U32, 1) == -1  # as before
    assert fields.number(DATA, 1, fields.U32) == 0x028304  # never more than a small int


def test_zero_and_scale():
    assert read(fields.U8, 2, zero=5, scale=10) == -30
    assert read(fields.U16, 1, zero=2, scale=-10) == 0x8100 // 10


ALARMS = b"H a\nL b\nT c\nF d\nC e\nS f\nD g\nO h\n- i\nh j\nl k\nt l\nf m\nc n\ns o\nd p\no q\n"


def test_alarm_letters():
    meanings = (
        A_CELL_HIGH,
        A_CELL_LOW,
        A_TEMP_HIGH,
        A_TEMP_LOW,
        A_CURRENT,
        A_SHORT,
        A_HARDWARE,
        A_OTHER,
    )
    expected = list(meanings) + [0] + [m << 8 for m in meanings]
    for bit in range(len(expected)):
        data = bytearray(5)
        data[1 + (bit >> 3)] = 1 << (bit & 7)
        assert fields.alarm_flags(ALARMS, data, 1) == expected[bit], bit
        data = bytearray(5)
        data[3 - (bit >> 3)] = 1 << (bit & 7)
        assert fields.alarm_flags(ALARMS, data, 3, -1) == expected[bit], bit
    assert fields.alarm_flags(ALARMS, b"\xff\xff\xff", 0) == 0xFFFF
    assert fields.alarm_flags(ALARMS, b"\0\0\0", 0) == 0


def test_a_table_without_names_means_the_same():
    short = b"".join([line[:1] + b"\n" for line in ALARMS.split(b"\n") if line])
    for bit in range(17):
        data = bytearray(3)
        data[bit >> 3] = 1 << (bit & 7)
        assert fields.alarm_flags(short, data, 0) == fields.alarm_flags(ALARMS, data, 0), bit
