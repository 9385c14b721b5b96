"""The kernels: published check values, round trips, and random inputs against a plain oracle.

Under CPython they run with its viper pointers, under MicroPython as machine code, and once more as
the bytecode of a MicroPython that makes no machine code.
"""

import os
import sys
from array import array

import kernel_oracle as oracle
from bms import kernels
from bms.kernels import (
    buffers,
    cell_link,
    checksums,
    cobs,
    mcp2515,
    readings,
    slave_checksums,
    slcan,
)
from bms.kernels.cell_link import (
    H_CELL,
    H_MISSING,
    H_NOW,
    H_ROW_OF,
    H_ROWS,
    H_RX_AT,
    H_SEQ,
    H_TEMP,
    R_CELL,
    R_CELLS,
    R_CRC,
    R_FLAGS,
    R_GOT,
    R_OPEN,
    R_TEMP,
    R_TEMPS,
    R_WANT,
    ROW,
)
from bms.kernels.readings import (
    B_HIGH,
    B_LOW,
    BOUNDS,
    E_COUNT,
    E_MAX,
    E_MAX_AT,
    E_MIN,
    E_MIN_AT,
    E_SUM,
    J_BACK,
    J_BIAS,
    J_BOUND,
    J_DELAY,
    J_SAMPLES,
    LEVEL,
)
from bms.links.can import BITS, EXTENDED
from fakes import (
    Random,
    cells_frame,
    cobs_bytes,
    crc8,
    crc16,
    slcan_bytes,
    status_frame,
    temps_frame,
)


class _Together:
    """All kernels of one version under one name."""

    def __init__(self, modules):
        for module in modules:
            for name in dir(module):
                setattr(self, name, getattr(module, name))


MODULES = {
    "buffers": buffers,
    "cell_link": cell_link,
    "checksums": checksums,
    "cobs": cobs,
    "mcp2515": mcp2515,
    "readings": readings,
    "slave_checksums": slave_checksums,
    "slcan": slcan,
}
VERSIONS = [_Together(MODULES.values())]
BYTECODE = {}
if sys.implementation.name == "micropython":
    import bytecode_kernels

    BYTECODE = bytecode_kernels.load()
    VERSIONS.append(_Together(BYTECODE.values()))
TOP = 1 << 29


def test_machine_code_is_used_where_there_is_any():
    # `_mpy` holds the architecture of native code, 0 where the port has no emitter
    assert kernels.NATIVE == bool(getattr(sys.implementation, "_mpy", 0) >> 10)


def test_versions_have_the_same_names():
    files = {name.split(".")[0] for name in os.listdir(kernels.__file__.rsplit("/", 1)[0])}
    assert files - {"__init__", "__pycache__"} == set(MODULES)
    k = VERSIONS[0]
    names = [n for n in dir(k) if callable(getattr(k, n)) and not n.startswith("_")]
    names = [n for n in names if n not in ("array", "const")]
    assert len(names) == 43
    for name in names:
        for k in VERSIONS:
            assert callable(getattr(k, name)), name
    if BYTECODE:
        assert set(BYTECODE) == set(MODULES)
        assert VERSIONS[1].crc16 is not VERSIONS[0].crc16


def test_crc_check_values():
    # CRC catalogue: CRC-8/SAE-J1850 and CRC-16/IBM-3740 over "123456789"
    for k in VERSIONS:
        assert k.crc8_frame(0x3132, b"3456789", 7) == 0x4B
        assert k.crc16(b"123456789", 0, 9, 0xFFFF) == 0x29B1
        assert k.crc16(b"xx123456789xx", 2, 11, 0xFFFF) == 0x29B1
    assert crc8(b"123456789") == 0x4B
    assert crc16(b"123456789") == 0x29B1


def test_crcs_of_random_bytes():
    random = Random(2)
    for _ in range(100):
        n = random.below(9)
        data = random.bytes(n + 2)
        ident = random.below(0x800)
        good8 = crc8(bytes([ident >> 8, ident & 255]) + data[:n])
        good16 = crc16(data[1:n])
        for k in VERSIONS:
            assert k.crc8_frame(ident, data, n) == good8
            assert k.crc16(data, 1, n, 0xFFFF) == (good16 if n > 1 else 0xFFFF)


def test_checksums_of_other_boards():
    text = b"x123456789y"
    for k in VERSIONS:
        assert k.crc16_modbus(text, 1, 10) == 0x4B37  # the catalogue's check value
        assert k.crc8(text, 1, 10) == 0xF4
        assert k.total(text, 1, 10) == 477
        assert k.crc16_modbus(text, 3, 3) == 0xFFFF and k.crc8(text, 3, 3) == 0
    r = Random(5)
    for _ in range(100):
        data = r.bytes(r.below(60))
        start = r.below(len(data) + 1)
        rest = data[start:]
        for k in VERSIONS:
            good = oracle.crc(rest, 16, 0x8005, 0xFFFF, reflected=True)
            assert k.crc16_modbus(data, start, len(data)) == good
            assert k.crc8(data, start, len(data)) == oracle.crc(rest, 8, 0x07, 0)
            assert k.total(data, start, len(data)) == sum(rest)


def test_find_and_shift():
    random = Random(3)
    for k in VERSIONS:
        assert k.find(b"abcabc", 1, 6, 0x61) == 3
        assert k.find(b"abcabc", 4, 6, 0x61) == -1
        assert k.find(b"abc", 1, 1, 0x62) == -1
        assert [k.nth(b"ab c  d ", n, 32) for n in range(5)] == [0, 3, 5, 6, 8]
        rows = b"on\tx\none\tonce on\n\tempty\nlast\t\n"
        found = [k.row_of(rows, len(rows), w, len(w)) for w in (b"on", b"one", b"", b"last")]
        assert found == [0, 1, 2, 3]
        assert [k.row_of(rows, len(rows), w, len(w)) for w in (b"o", b"ones")] == [-1, -1]
    for _ in range(50):
        data = bytearray(random.bytes(20))
        start = random.below(20)
        end = random.between(start, 20)
        for k in VERSIONS:
            copy = bytearray(data)
            assert k.shift(copy, start, end) == end - start
            assert copy[: end - start] == data[start:end]
            assert copy[end:] == data[end:]
            copy = bytearray(data)
            at = k.shift_aligned(copy, start, end)
            assert at == start & 3
            assert copy[at : at + end - start] == data[start:end]
            assert copy[end + 3 :] == data[end + 3 :]


def test_cobs_round_trip_and_its_wire():
    random = Random(4)
    for _ in range(200):
        data = bytearray(random.bytes(random.below(9)))
        for i in range(len(data)):
            if random.below(3) == 0:
                data[i] = 0
        ident = random.below(0x800)
        plain_bytes = bytes([ident & 255, ident >> 8]) + bytes(data)
        crc = crc16(plain_bytes)
        plain_bytes += bytes([crc & 255, crc >> 8])
        n = len(plain_bytes)
        for k in VERSIONS:
            out = bytearray(b"\xaa" * 40)
            end = k.cobs_encode(plain_bytes, n, out, 3)
            assert bytes(out[3:end]) == cobs_bytes(ident, data)
            assert out[:3] == b"\xaa\xaa\xaa"
            assert out[end] == 0xAA
            back = bytearray(16)
            assert k.cobs_decode(out, 3, end - 1, back, 12) == n
            assert back[:n] == plain_bytes
            assert back[n:] == bytes(16 - n)
            # no room: refused, and nothing written behind the room
            back = bytearray(b"\x55" * 16)
            assert k.cobs_decode(out, 3, end - 1, back, n - 1) == -1
            assert back[n - 1 :] == b"\x55" * (17 - n)


def test_cobs_long_block():
    for k in VERSIONS:
        wire = b"\xff" + b"\x11" * 254 + b"\x02\x22"
        back = bytearray(300)
        assert k.cobs_decode(wire, 0, len(wire), back, 300) == 255
        assert back[:255] == b"\x11" * 254 + b"\x22"


def test_cobs_garbage():
    random = Random(5)
    for _ in range(300):
        data = bytearray(random.bytes(16))
        for i in range(16):
            if random.below(2):
                data[i] &= 7
        good = oracle.cobs_decode(bytes(data[1:15]), 12)
        for k in VERSIONS:
            back = bytearray(14)
            n = k.cobs_decode(data, 1, 15, back, 12)
            assert n == (-1 if good is None else len(good))
            assert good is None or back[:n] == good
            assert back[12:] == b"\0\0"
    for k in VERSIONS:
        assert k.cobs_decode(b"\x05\x01\x02", 0, 3, bytearray(8), 8) == -1
        assert k.cobs_decode(b"\x02\x01\x00", 0, 3, bytearray(8), 8) == -1


def _idents(random):
    """Some identifiers of both kinds, with the first and the last ones."""
    some = [0, 0x7FF, EXTENDED, EXTENDED | 0x7FF, EXTENDED | BITS]
    some += [random.below(0x800) for _ in range(20)]
    return some + [EXTENDED | random.below(BITS + 1) for _ in range(20)]


def test_slcan_round_trip():
    random = Random(6)
    for n in range(9):
        for ident in _idents(random):
            data = random.bytes(n)
            for k in VERSIONS:
                out = bytearray(b"." * 40)
                end = k.slcan_encode(ident, data, n, out, 2)
                assert bytes(out[2:end]) == slcan_bytes(ident, data)
                assert out[end] == 0x2E
                back = bytearray(8)
                got = array("i", (-1,))
                assert k.slcan_decode(out, 2, end - 1, back, got) == n
                assert got[0] == ident < 1 << 30  # larger ones live on the heap
                assert back[:n] == data
                lower = bytes(out).replace(b"A", b"a").replace(b"F", b"f")
                assert k.slcan_decode(lower, 2, end - 1, back, got) == n
                assert got[0] == ident


def test_slcan_refuses_what_is_not_a_frame():
    bad = (
        b"",
        b"t",
        b"t123",
        b"t8000",  # 12 bits
        b"t1231",  # shorter than it says
        b"t1230AA",  # longer
        b"t1239001122334455667788",
        b"t12G0",
        b"t1231G1",
        b"t12311 ",
        b"r1230",
        b"R000001230",
        b"T",
        b"T0000",
        b"T00000123",  # no length
        b"T200000000",  # 30 bits
        b"TFFFFFFFF0",
        b"T000001231",
        b"T000001230AA",
        b"T0000012300",
        b"T0000012391122334455667788",
        b"T0000G1230",
        b"T/00001230",
        b"T000001231G1",
        b"T000001231AA1234",
        b"x1230",
        b"t1231AA1234",  # with a time stamp
    )
    for k in VERSIONS:
        for text in bad:
            ident = array("i", (7,))
            assert k.slcan_decode(text, 0, len(text), bytearray(8), ident) == -1, text
            assert ident[0] == 7


def test_slcan_garbage():
    random = Random(7)
    letters = b"t0123456789abcdefABCDEFgG \xff"
    for i in range(1000):
        text = bytes([letters[random.below(len(letters))] for _ in range(17)])
        text = (b"T0" if i & 1 else b"t") + text
        end = random.between(1, len(text))
        good = oracle.slcan_decode(text[:end])
        for k in VERSIONS:
            ident = array("i", (0,))
            data = bytearray(8)
            n = k.slcan_decode(text, 0, end, data, ident)
            if good is None:
                assert n == -1 and ident[0] == 0, text
            else:
                assert n == len(good[1]) and (ident[0], data[:n]) == good, text


LOW, HIGH, COLD, HOT, OFFSET = 2000, 3750, -1000, 700, -1000
SEQ = 5
_NODE = 3
_ROW = H_ROWS


def _table(first_cell=1, cells=4, first_temp=1, temps=4, want=0x1FFF, now=TOP - 1):
    t = array("i", [0] * (H_ROWS + ROW))
    t[H_SEQ] = SEQ
    t[H_NOW] = now
    t[H_MISSING] = 1
    for i, value in ((H_CELL, LOW), (H_CELL + 1, HIGH), (H_TEMP, COLD), (H_TEMP + 1, HOT)):
        t[i] = value
    t[H_TEMP + 2] = OFFSET
    t[H_ROW_OF + _NODE] = _ROW
    for i, value in (
        (R_WANT, want),
        (R_OPEN, 1),
        (R_FLAGS, 5),
        (R_CELL, first_cell),
        (R_CELLS, cells),
        (R_TEMP, first_temp),
        (R_TEMPS, temps),
    ):
        t[_ROW + i] = value
    return t


def _take(k, ident, data, t, room=6):
    values = array("h", [-7] * room)
    flags = bytearray(b"\x09" * room)
    stamps = array("i", [-5] * room)
    found = k.take13(ident, data, t, values, flags, stamps)
    return found, list(values), bytes(flags), list(stamps), list(t)


def test_take13_puts_four_cells_in_place():
    ident, data = cells_frame(_NODE, 0, [0, 3300, None, 8190], SEQ)
    for k in VERSIONS:
        t = _table(want=1)
        found, values, flags, stamps, _ = _take(k, ident, data, t)
        assert values == [-7, 0, 3300, -7, 8190, -7]
        assert flags == b"\x09\x05\x05\x09\x05\x09"
        assert stamps == [-5, TOP - 1, TOP - 1, -5, TOP - 1, -5]
        assert found == 1  # a measured zero is out of its bound
        assert t[_ROW + R_GOT] == 1
        assert t[_ROW + R_CRC] == data[7]
        assert t[H_MISSING] == 0
        assert t[H_RX_AT] == TOP - 1


def test_take13_finds_the_first_reading_out_of_bounds():
    for at in range(4):
        for mv, out in ((LOW - 1, 1), (LOW, 0), (HIGH, 0), (HIGH + 1, 1)):
            four = [3300] * 4
            four[at] = mv
            ident, data = cells_frame(_NODE, 1, four, SEQ)
            for k in VERSIONS:
                t = _table(first_cell=0, cells=8)
                assert _take(k, ident, data, t, 8)[0] == (at + 1 if out else 0), (at, mv)
                assert t[H_MISSING] == 1  # others are still to come


def test_take13_finds_the_first_hot_sensor():
    # an offset and a bound below zero: on a computer of 64 bits, too
    for at in range(4):
        for dc, out in ((-1000, 0), (-1, 0), (0, 0), (700, 0), (701, 1), (1200, 1)):
            four = [-100, 250, 0, 300]
            four[at] = dc
            ident, data = temps_frame(_NODE, 0, four, SEQ)
            for k in VERSIONS:
                found, values, _, _, t = _take(k, ident, data, _table(first_temp=0))
                assert values[:4] == four
                assert found == (at + 1 if out else 0), (k, at, dc)
                assert t[_ROW + R_GOT] == 1 << 8


def test_take13_refuses_and_changes_nothing():
    ident, data = cells_frame(_NODE, 0, [3300] * 4, SEQ)
    other, wrong = cells_frame(_NODE + 1, 0, [3300] * 4, SEQ)
    _, stale = cells_frame(_NODE, 0, [3300] * 4, SEQ + 1)
    for k in VERSIONS:
        for change, i, d in (
            (None, other, wrong),  # nobody of that number
            (None, ident, stale),
            (None, ident ^ 0x40, data),  # the CRC is that of another part
            ((R_OPEN, 0), ident, data),
            ((R_GOT, 1), ident, data),
            ((R_WANT, 0x1FFE), ident, data),
        ):
            t = _table()
            if change:
                t[_ROW + change[0]] = change[1]
            before = list(t)
            found, values, flags, stamps, after = _take(k, i, d, t)
            assert found == -1
            assert after == before
            assert set(values) == {-7} and set(flags) == {9} and set(stamps) == {-5}
        for bit in range(64):
            bad = bytearray(data)
            bad[bit >> 3] ^= 1 << (bit & 7)
            assert _take(k, ident, bad, _table())[0] == -1


def test_take13_of_random_frames():
    random = Random(8)
    for _ in range(400):
        part = random.below(12)
        four = [random.between(0, 8190) if random.below(4) else None for _ in range(4)]
        if part < 8:
            ident, data = cells_frame(_NODE, part, four, SEQ)
        else:
            ident, data = temps_frame(_NODE, part - 8, [v and v % 8190 - 1000 for v in four], SEQ)
        count = 4 * (part if part < 8 else part - 8) + random.between(1, 4)
        first = random.below(3)
        t = _table(first, count, first, count, now=random.below(TOP))
        t[H_CELL] = random.between(-1000, 3000)
        t[H_CELL + 1] = random.between(t[H_CELL], 8000)
        good = _take(oracle, ident, data, array("i", t), 36)
        assert good[0] >= 0
        for k in VERSIONS:
            assert _take(k, ident, data, array("i", t), 36) == good, (list(t), bytes(data))


def test_mcp_frame():
    random = Random(9)
    for _ in range(200):
        at = 16 * random.below(3)
        ring = bytearray(random.bytes(64))
        base = random.below(0x800)
        n = random.below(9)
        ring[at + 1] = base >> 3
        ring[at + 2] = (base & 7) << 5 | random.below(4)
        ring[at + 5] = n
        for k in VERSIONS:
            data = bytearray(8)
            ident = array("i", (0,))
            assert k.mcp_frame(ring, at, data, ident) == n
            assert ident[0] == base
            assert data == ring[at + 6 : at + 14]
        wrong = ((5, 9 ^ n if n < 8 else 1), (5, 0x40))
        for where, bits in wrong + ((2, 16),):
            bad = bytearray(ring)
            bad[at + where] ^= bits
            for k in VERSIONS:
                assert k.mcp_frame(bad, at, bytearray(8), ident) == -1, (where, bits, n)
        # 29 bits; SRR, bit 4, says nothing then
        rest = random.below(1 << 18)
        ring[at + 2] = (base & 7) << 5 | 8 | rest >> 16 | random.below(2) << 4
        ring[at + 3] = rest >> 8 & 0xFF
        ring[at + 4] = rest & 0xFF
        for k in VERSIONS:
            data = bytearray(8)
            ident = array("i", (0,))
            assert k.mcp_frame(ring, at, data, ident) == n
            assert ident[0] == EXTENDED | base << 18 | rest
            assert data == ring[at + 6 : at + 14]
        for where, bits in wrong:
            bad = bytearray(ring)
            bad[at + where] ^= bits
            for k in VERSIONS:
                assert k.mcp_frame(bad, at, bytearray(8), ident) == -1, (where, bits, n)


def test_put_key_and_field():
    for value in (0, -1, 7, 1234567, -(1 << 29)):
        for k in VERSIONS:
            buf = bytearray(b"." * 40)
            end = k.put_field(buf, 2, b"min_mv", 6, value)
            assert buf[:end] == b'..,"min_mv":%d' % value
            end = k.put_key(buf, 1, b"n", 1)
            assert buf[:end] == b'.,"n":'


def test_choose():
    p = array("i", [1, 4, 3300, 20, 5, 3000, 2, 0, 0])
    for k in VERSIONS:
        q = array("i", p)
        assert k.choose(array("h", [4000, 3300, 3319, 3320, 3340]), q) == 2
        assert list(q[7:]) == [0b1100, 0]
        q[6] = 32  # as many as may be: those that were balanced go on to the lower bound
        assert k.choose(array("h", [4000, 3304, 3305, 3305, 3306]), q) == 2
        assert list(q[7:]) == [0b1100, 0]
        q[6] = 0
        assert k.choose(array("h", [4000, 3300, 3319, 3320, 3340]), q) == 0
        assert list(q[7:]) == [0, 0]
        q = array("i", p)
        q[5] = 3341  # nothing below the floor
        assert k.choose(array("h", [4000, 3300, 3319, 3320, 3340]), q) == 0


def test_choose_of_random_cells():
    random = Random(10)
    for _ in range(200):
        values = array("h", [random.between(3290, 3340) for _ in range(34)])
        p = array("i", [random.below(3), random.between(1, 32), 3290, 20, 5, 3295])
        p.append(random.below(33))
        p.append(random.below(1 << 16))
        p.append(random.below(1 << 16))
        good = oracle.choose(values, p)
        for k in VERSIONS:
            q = array("i", p)
            assert k.choose(values, q) == len(good)
            mask = q[B_LOW] | q[B_HIGH] << 16
            assert [i for i in range(32) if mask >> i & 1] == good, (list(values), list(p))
            assert q[:B_LOW] == p[:B_LOW]


def test_copy():
    for k in VERSIONS:
        dst = bytearray(b"......")
        k.copy(dst, b"abcdef", 2, 3)
        assert dst == b"cde..."


def test_extremes():
    values = array("h", [5, -40, 3000, 3000, -40, 32767, -32768])
    flags = bytearray([1, 5, 3, 1, 1, 4, 0])
    for k in VERSIONS:
        out = array("i", [0] * 6)
        k.extremes(values, flags, 0, 7, 1, out)
        assert (out[E_MIN], out[E_MIN_AT], out[E_MAX], out[E_MAX_AT]) == (-40, 1, 3000, 2)
        assert (out[E_SUM], out[E_COUNT]) == (5925, 5)
        k.extremes(values, flags, 5, 7, 1, out)
        assert (out[E_MIN_AT], out[E_MAX_AT], out[E_COUNT], out[E_SUM]) == (-1, -1, 0, 0)
        k.extremes(values, flags, 0, 7, 4, out)
        assert (out[E_MIN_AT], out[E_MAX_AT], out[E_COUNT]) == (1, 5, 2)


def test_extremes_of_random_values():
    random = Random(9)
    for _ in range(200):
        values = array("h", [random.between(-32768, 32767) for _ in range(20)])
        flags = bytearray(random.bytes(20))
        start = random.below(20)
        mark = 1 << random.below(8)
        good = oracle.extremes(values, flags, start, 20, mark)
        for k in VERSIONS:
            out = array("i", [9] * 6)
            k.extremes(values, flags, start, 20, mark, out)
            assert list(out) == good


def test_expire():
    for now in (1000, 3):  # over the wrap, too
        at = [(now - age) % TOP for age in (0, 500, 501, 501, 501)]
        for k in VERSIONS:
            flags = bytearray([5, 5, 7, 0, 9 | 4])
            assert k.expire(flags, array("i", at), 0, 5, now, 500) == 2
            # lost: not fresh any longer; never seen: nothing to lose; lost before: stays
            assert list(flags) == [5, 5, 14, 0, 13]
            assert k.expire(flags, array("i", at), 0, 2, now, 500) == -1


def test_expire_and_oldest_of_random_readings():
    random = Random(10)
    for _ in range(200):
        now = random.below(TOP)
        stamps = array("i", [(now - random.between(-10, 1200)) % TOP for _ in range(12)])
        flags = random.bytes(12)
        first, after = oracle.expire(flags, stamps, 1, 12, now, 600)
        most = oracle.oldest(flags, stamps, 2, 11, now)
        for k in VERSIONS:
            copy = bytearray(flags)
            assert k.oldest(copy, stamps, 2, 11, now) == most
            assert k.expire(copy, stamps, 1, 12, now, 600) == first
            assert list(copy) == after


def _bounds(*rows):
    """A table of bounds with a quantity in front; rows: (bound, back, delay, samples)."""
    bounds = array("i", [0] * (2 * BOUNDS))
    for level in range(len(rows)):
        at = BOUNDS + level * LEVEL
        bounds[at + J_BOUND] = J_BIAS + rows[level][0]
        bounds[at + J_BACK] = rows[level][1]
        bounds[at + J_DELAY] = rows[level][2]
        bounds[at + J_SAMPLES] = rows[level][3]
    return bounds


def test_evaluate_adds_up_the_time_of_a_value():
    for k in VERSIONS:
        bounds = _bounds((100, 10, 1000, 2))

        def evaluate(value, standing, ms, k=k, bounds=bounds):
            return k.evaluate(bounds, BOUNDS, out, 1, 1, value, standing, ms)

        for ms, beyond in ((100, 11), (600, 3), (8000, 2)):
            out = array("i", [0] * 4)
            found = []
            for _ in range(beyond):  # the first only starts the time
                found.append(evaluate(101, 101, ms))
                found.append(evaluate(95, 101, ms))  # inside the hysteresis
                found.append(evaluate(50, 101, ms))  # another one is not back
            assert found == [0] * (3 * beyond - 3) + [1, 0, 0]
            assert list(out)[0] == list(out)[2] == 0
            # it runs down at half the speed, and by half the delay at most
            found = [evaluate(50, 50, ms) for _ in range(22)]
            assert found.index(8) == {100: 20, 600: 3, 8000: 1}[ms], (ms, found)
            assert list(out) == [0] * 4
        # beyond in two of three is out in the end, however rarely it is read
        out = array("i", [0] * 4)
        found = [evaluate(50 if i % 3 == 2 else 101, 50, 8000) for i in range(6)]
        assert found == [0, 1, 0, 1, 1, 0]
        # one in two is not
        out = array("i", [0] * 4)
        assert not any([evaluate(101 if i % 2 else 50, 50, 8000) & 1 for i in range(40)])


def test_evaluate_needs_its_samples():
    for k in VERSIONS:
        for samples in (1, 3, 100):
            out = array("i", [0] * 3)
            bounds = _bounds((0, 0, 0, samples))
            found = [k.evaluate(bounds, BOUNDS, out, 0, 1, 1, 1, 60000) for _ in range(101)]
            assert found == [0] * (samples - 1) + [1] * (102 - samples)


def test_evaluate_of_random_values():
    random = Random(14)
    for _ in range(40):
        rows = []
        for _ in range(3):
            rows.append(
                (
                    random.between(-200, 200),
                    random.below(60),
                    random.below(900),
                    random.between(1, 100) if random.below(3) == 0 else random.below(4),
                )
            )
        bounds = _bounds(*rows)
        tables = [array("i", [0] * 6) for _ in VERSIONS]
        good = [oracle.Level(*row) for row in rows]
        for _ in range(60):
            ms = random.below(300) if random.below(8) else random.below(60000)
            value = random.between(-300, 300)
            standing = value + random.below(100)
            levels = random.below(2) + 2
            said = [level.evaluate(value, standing, ms) for level in good[:levels]]
            bits = 0
            for i in range(levels):
                bits |= {"out": 1, "clear": 8, "": 0}[said[i]] << i
            for k, out in zip(VERSIONS, tables):
                assert k.evaluate(bounds, BOUNDS, out, 2, levels, value, standing, ms) == bits
                assert list(out) == [0, 0] + [level.out() for level in good] + [0]


def test_any_set():
    for k in VERSIONS:
        values = array("i", [0, 0, 5, 0, 1 << 28])
        assert [k.any_set(values, i, i + 1) for i in range(5)] == [0, 0, 1, 0, 1]
        assert (k.any_set(values, 0, 2), k.any_set(values, 0, 3), k.any_set(values, 3, 3)) == (
            0,
            1,
            0,
        )


def test_open_pair():
    for first, second, at in (
        (3500, 3100, 1),
        (3100, 3500, 1),
        (3500, 3101, -1),
        (3700, 3100, -1),  # not about as far from the mean
        (3500, 3500, -1),
    ):
        values = array("h", (3300, first, second, 3300))
        for k in VERSIONS:
            assert k.open_pair(values, b"\1\1\1\1", 0, 4, 3300, 200) == at
            assert k.open_pair(values, b"\1\1\0\1", 0, 4, 3300, 200) == -1


def test_open_pair_of_random_cells():
    random = Random(15)
    for _ in range(300):
        values = array("h", [random.between(-30, 30) for _ in range(12)])
        flags = random.bytes(12)
        mean = random.between(-8, 8)
        good = oracle.open_pair(values, flags, 1, 11, mean, 12)
        for k in VERSIONS:
            assert k.open_pair(values, flags, 1, 11, mean, 12) == good


def test_changed():
    random = Random(16)
    for _ in range(50):
        values = array("h", [random.between(-2, 2) for _ in range(9)])
        before = array("h", [random.between(-2, 2) for _ in range(9)])
        for k in VERSIONS:
            moved = bytearray(b"\0\7" * 5)
            k.changed(values, before, moved, 1, 8)
            for i in range(10):
                other = 1 <= i < 8 and values[i] != before[i]
                assert moved[i] == (1 if other else b"\0\7"[i & 1])


def test_copy16():
    for k in VERSIONS:
        dst = array("h", [7] * 4)
        k.copy16(dst, array("h", [-32768, -1, 32767, 5]), 3)
        assert list(dst) == [-32768, -1, 32767, 7]


def test_unmark():
    random = Random(12)
    for k in VERSIONS:
        flags = bytearray(random.bytes(12))
        before = bytes(flags)
        k.unmark(flags, 3, 9, 0x11)
        assert flags[:3] == before[:3]
        assert flags[9:] == before[9:]
        assert list(flags[3:9]) == [b & 0xEE for b in before[3:9]]


def test_put():
    for k in VERSIONS:
        out = bytearray(8)
        assert k.put(out, 2, b"abcdef", 3) == 5
        assert out == b"\0\0abc\0\0\0"
        assert k.put(out, 0, b"", 0) == 0


def test_splice():
    for k in VERSIONS:
        out = bytearray(8)
        k.splice(out, 1, array("h", [0x201, 0x403, 0x605]), 1, 4)
        assert out == b"\0\x02\x03\x04\x05\0\0\0"
        k.splice(out, 0, array("i", [-2]), 0, 4)
        assert out == b"\xfe\xff\xff\xff\x05\0\0\0"
        k.splice(out, 6, b"abc", 1, 2)
        assert out == b"\xfe\xff\xff\xff\x05\0bc"


def test_put_int():
    top = (1 << 30) - 1
    numbers = [0, 1, 9, 10, 99, 100, 1000000000, top, -1, -10, -top]
    random = Random(11)
    numbers += [random.between(-top, top) for _ in range(50)]
    numbers += [random.between(-5000, 5000) for _ in range(50)]
    for k in VERSIONS:
        for number in numbers:
            out = bytearray(20)
            end = k.put_int(out, 1, number)
            assert bytes(out[1:end]) == str(number).encode()


def test_put_end():
    for k in VERSIONS:
        for number in (0, 0xABCD, 0xFFFF, 0x1234):
            out = bytearray(b"." * 20)
            assert k.put_end(out, 2, number) == 16
            assert bytes(out) == b'.."crc":"%04X"}\n....' % number


def test_put_text():
    for k in VERSIONS:
        for name, text in ((b"a", b""), (b"state", b"open"), (b"", b"x")):
            out = bytearray(b"." * 24)
            end = k.put_text(out, 1, name, len(name), text, len(text))
            want = b',"' + name + b'":"' + text + b'"'
            assert bytes(out) == b"." + want + b"." * (23 - len(want))
            assert end == 1 + len(want)


def test_put_hex():
    for k in VERSIONS:
        out = bytearray(b"........")
        assert k.put_hex(out, 1, b"\x00\x5a\xff\x10", 1, 3) == 7
        assert out == b".5AFF10."
        assert k.put_hex(out, 3, b"\1", 0, 0) == 3


def _slot(ident, data):
    """A standard frame as it stands in an MCP2515's receive buffer."""
    head = [0, ident >> 3, (ident & 7) << 5, 0, 0, len(data)]
    return bytes(head) + data + bytes(16 - len(head) - len(data))


def _link_table():
    """Nodes 1 and 2 with 16 cells, 4 temperatures; scan 0x57."""
    t = array("i", [0] * (H_ROWS + 2 * ROW))
    t[H_SEQ], t[cell_link.H_SCAN], t[H_NOW], t[H_MISSING] = 7, 0x57, 5000, 2
    t[H_CELL], t[H_CELL + 1] = 2000, 3750
    t[H_TEMP], t[H_TEMP + 1], t[H_TEMP + 2] = -1000, 700, -1000
    for m in range(2):
        row = H_ROWS + ROW * m
        t[H_ROW_OF + 1 + m] = row
        t[row + R_WANT] = 0x110F
        t[row + R_OPEN] = 1
        t[row + R_FLAGS] = 21
        t[row + R_CELL], t[row + R_CELLS] = 16 * m, 16
        t[row + R_TEMP], t[row + R_TEMPS] = 4 * m, 4
        t[row + cell_link.R_SLAVE] = m
    return t


class _Taken:
    """What `mcp_readings` and `store_status` of one twin read and write."""

    def __init__(self, k, slots, first):
        self.k = k
        self.ring = bytearray(16 * 16)
        for i in range(len(slots)):
            at = 16 * ((first + i) & 15)
            self.ring[at : at + 16] = slots[i]
        self.at = array("i", [(first + len(slots)) & 15, first])
        self.data = bytearray(8)
        self.t = _link_table()
        self.cells = (array("h", [0] * 32), bytearray(32), array("i", [0] * 32))
        self.temps = (array("h", [0] * 8), bytearray(8), array("i", [0] * 8))
        self.mv, self.when, self.ok = array("i", [0, 0]), array("i", [0, 0]), bytearray(2)
        self.flags, self.die = array("H", [0, 0]), array("h", [0, 0])

    def take(self):
        return self.k.mcp_readings(
            self.ring, self.at, 15, self.data, self.t, *self.cells, *self.temps
        )

    def store(self):
        self.k.store_status(self.t, 2, self.mv, self.when, self.ok, self.flags, self.die)

    def all(self):
        lists = self.cells + self.temps
        lists += (self.at, self.t, self.mv, self.when, self.ok, self.flags, self.die)
        return [list(x) for x in lists]


def test_readings_are_taken_from_a_ring():
    frames = [cells_frame(1, k, [3300 + 4 * k + i for i in range(4)], 7) for k in range(4)]
    frames += [temps_frame(1, 0, [250, 251, None, -105], 7), status_frame(1, 0x57, 53160, 0x300)]
    frames += [cells_frame(2, 0, [3300, 3751, 3300, 3760], 7), cells_frame(2, 1, [3300] * 4, 7)]
    for k in VERSIONS:
        b = _Taken(k, [_slot(*f) for f in frames], 13)  # over the ring's end
        assert b.take() == frames[6][0] << 3 | 2  # the first cell out of bounds, from 1
        assert b.at[1] == (13 + 7) & 15
        assert list(b.cells[0][:16]) == list(range(3300, 3316))
        assert list(b.temps[0][:4]) == [250, 251, 0, -105]
        assert list(b.temps[1][:4]) == [21, 21, 0, 21]
        assert (b.t[cell_link.H_STATUS], b.mv[0], b.ok[0]) == (1, 0, 0)
        b.store()
        assert (b.mv[0], b.when[0], b.ok[0], b.flags[0], b.die[0]) == (53160, 5000, 1, 0x300, 250)
        assert (b.mv[1], b.ok[1]) == (0, 0)
        b.mv[0] = 1
        b.store()  # once
        assert b.mv[0] == 1
        assert b.t[H_MISSING] == 1 and b.t[H_ROWS + R_GOT] == 0x110F
        assert b.take() == 0
        assert b.at[1] == b.at[0]


def test_a_scan_begins_in_every_row():
    for k in VERSIONS:
        for opened in (0, 1):
            t = _link_table()
            for row in (H_ROWS, H_ROWS + ROW):
                t[row + R_GOT] = 7
                t[row + R_OPEN] = 1
            polled = bytearray(b"\2\1\3")
            assert k.begin_rows(t, 2, b"\1\1", polled, b"\0\0", opened) == 2
            assert [t[H_ROWS + R_OPEN], t[H_ROWS + ROW + R_OPEN]] == [opened, opened]
            assert [t[H_ROWS + R_GOT], t[H_ROWS + ROW + R_GOT]] == [0, 0]
            assert polled == b"\0\0\3"
            assert k.begin_rows(t, 2, b"\0\1", polled, b"\0\2", opened) == 1
            assert [t[H_ROWS + cell_link.R_DUE], t[H_ROWS + ROW + cell_link.R_DUE]] == [0, 1]
            assert [t[H_ROWS + R_OPEN], t[H_ROWS + ROW + R_OPEN]] == [0, 0]


def test_what_is_no_plain_reading_stays_in_the_ring():
    good = cells_frame(1, 0, [3300] * 4, 7)
    bad = (
        cells_frame(1, 0, [3300] * 4, 6),  # of another scan
        cells_frame(1, 4, [3300] * 4, 7),  # not wanted
        cells_frame(3, 0, [3300] * 4, 7),  # nobody's
        (good[0], good[1][:7] + bytes([good[1][7] ^ 1])),
        (good[0], good[1][:7]),
        (0x041, bytes(8)),
        (0x541, bytes(8)),
    )
    for k in VERSIONS:
        for frame in bad:
            b = _Taken(k, [_slot(*frame)], 3)
            before = b.all()
            assert b.take() == -1, frame
            assert b.all() == before
        for byte, bit in ((2, 0x08), (2, 0x10), (5, 0x40)):  # extended, two kinds of remote frame
            slot = bytearray(_slot(*good))
            slot[byte] |= bit
            assert _Taken(k, [slot], 3).take() == -1
        for ident, data in (
            status_frame(1, 0x47, 53000),  # of another scan
            status_frame(1, 0x57, 53000, 1),  # severe
            status_frame(3, 0x57, 53000),
            (status_frame(1, 0x57, 53000)[0], bytes(6) + b"\x57\0"),
        ):
            b = _Taken(k, [_slot(ident, data)], 3)
            before = b.all()
            assert b.take() == -1
            b.store()
            assert b.all() == before
        b = _Taken(k, [_slot(*status_frame(1, 0x57, 53000))], 3)
        assert b.take() == 0
        b.t[H_ROWS + cell_link.R_OPEN] = 0  # two boards have its number: seen since
        b.store()
        assert (b.mv[0], b.ok[0]) == (0, 0)


def _slaves(random):
    """Arguments of `plain_slaves` for 6 slaves; mostly plain ones."""
    n = 6
    p = array("i", [0, n, 9000, 9050, 777, 500, 27] + [0] * 8)
    for at, value in ((7, 2800), (8, 3600), (9, -100), (10, 450), (11, 750), (12, -10000)):
        p[at] = value + J_BIAS
    rows = array("i", [0] * (16 * n))
    own = array("i", [0] * (27 * n))
    mv = array(
        "h", [random.between(2790 if random.below(60) == 0 else 3200, 3600) for _ in range(24)]
    )
    flags = bytearray([21 if random.below(90) else random.below(32) for _ in range(24)])
    at = array("i", [random.between(8900, 9050) for _ in range(24)])
    dc = array("h", [random.between(-100, 451 if random.below(9) == 0 else 400) for _ in range(12)])
    temp_flags = bytearray([21 if random.below(90) else random.below(32) for _ in range(12)])
    stack = array("i", [0] * n)
    stack_at = array("i", [random.between(8900, 9050) for _ in range(n)])
    die = array("h", [random.between(-390, 751 if random.below(9) == 0 else 700) for _ in range(n)])
    ok = bytearray([1 if random.below(20) else 0 for _ in range(n)])
    slave_flags = array("H", [0 if random.below(20) else random.below(0x8000) for _ in range(n)])
    for i in range(n):
        stack[i] = sum(mv[4 * i : 4 * i + 4]) + random.between(
            -501 if random.below(9) == 0 else 0, 500
        )
        temps = 2 if i != 3 else 0
        last = -1 if random.below(3) == 0 else random.between(8000, 8900)
        rest = [last, 0, last, 0, last, 0, last, 0, 5, 0, 0]
        rows[16 * i : 16 * i + 16] = array("i", [4 * i, 4, 2 * i, temps, 1] + rest)
        if random.below(20) == 0:
            rows[16 * i + (4, 9, 11, 12)[random.below(4)]] = (0, stack_at[i], stack_at[i], 2)[
                random.below(4)
            ]
        if random.below(20) == 0:
            own[27 * i + random.below(27)] = 128
    return (p, rows, own, mv, flags, at, dc, temp_flags, stack, stack_at, ok, die, slave_flags)


def test_plain_slaves():
    ends = set()
    for seed in range(120):
        args = _slaves(Random(seed))
        found = [(oracle.plain_slaves(*args), [list(x) for x in args])]
        for k in VERSIONS:
            args = _slaves(Random(seed))
            found.append((k.plain_slaves(*args), [list(x) for x in args]))
        assert all([x == found[0] for x in found]), seed
        ends.add(found[0][0])
        end, (p, rows, _own, _mv, flags, *_rest) = found[0]
        for i in range(end):
            assert (
                rows[16 * i + readings.L_CELLS_AT] == 9000
                and rows[16 * i + readings.L_CELLS_GAP] > 99
            )
            assert flags[4 * i] & 16 == 0
        assert p[readings.P_AGE] == 0 if end == 0 else p[readings.P_AGE] > 0
    assert ends == {0, 1, 2, 3, 4, 5, 6}


class _Time:
    """`idle` lets a millisecond pass; frames come into the ring at given times."""

    def __init__(self, taken, now, coming):
        self.taken = taken
        self.now = now
        self.coming = coming  # (ms, frame)
        self.idled = 0

    def ticks_ms(self):
        return self.now

    def idle(self):
        self.idled += 1
        self.now += 1
        while self.coming and self.coming[0][0] <= self.now:
            at = self.taken.at
            slot = 16 * at[0]
            self.taken.ring[slot : slot + 16] = _slot(*self.coming.pop(0)[1])
            at[0] = (at[0] + 1) & 15

    def wait(self, ms):
        b = self.taken
        until = (self.now + ms) & (TOP - 1)
        return b.k.wait_readings(
            until, self.ticks_ms, self.idle, b.ring, b.at, 15, b.data, b.t, *b.cells, *b.temps
        )


def test_readings_are_taken_while_waiting():
    for k in VERSIONS:
        for now in (100, TOP - 3, 2 * TOP - 3):
            frames = [cells_frame(1, i, [3300 + i] * 4, 7) for i in range(4)]
            frames += [temps_frame(1, 0, [250] * 4, 7)]
            time = _Time(_Taken(k, [], 14), now, [(now + 1 + i, frames[i]) for i in range(5)])
            assert time.wait(3) == 0
            assert time.now == now + 3
            assert list(time.taken.cells[0][:12]) == [3300] * 4 + [3301] * 4 + [3302] * 4
            assert time.taken.cells[2][0] == (now + 1) & (TOP - 1)
            assert time.taken.cells[2][8] == (now + 3) & (TOP - 1)
            time.coming.append((now + 6, status_frame(1, 0x57, 53000)))
            assert time.wait(3) == 0
            assert time.now == now + 6
            assert time.taken.t[cell_link.H_STATUS] == 1
            time.coming.append((now + 9, cells_frame(2, 1, [3300, 1999, 3300, 3300], 7)))
            found = cells_frame(2, 1, [], 7)[0] << 3 | 2
            assert time.wait(20) == found
            assert time.now == now + 9
            assert time.wait(0) == 0 and time.now == now + 9
            # the last frame that is missing ends the wait
            t = time.taken.t
            t[H_MISSING] = 1
            t[H_ROWS + ROW + R_WANT] = 6
            time.coming.append((now + 11, cells_frame(2, 2, [3300] * 4, 7)))
            assert time.wait(20) == 0
            assert time.now == now + 11
            time.coming.append((now + 12, (0x041, bytes(8))))
            assert time.wait(20) == -1
            assert time.taken.at[1] != time.taken.at[0]


def test_waiting_for_a_ring():
    for k in VERSIONS:
        for now in (5, 2 * TOP - 2):
            time = _Time(_Taken(k, [], 0), now, [(now + 4, (0x041, bytes(8)))])
            assert k.wait_for(time.taken.at, 3, time.ticks_ms, time.idle) == 0
            assert time.idled == 3
            assert k.wait_for(time.taken.at, 3, time.ticks_ms, time.idle) == 1
            assert time.idled == 4
            assert k.wait_for(time.taken.at, 0, time.ticks_ms, time.idle) == 0
            assert time.idled == 4


def test_values_as_a_list():
    values = array("h", [0, 3300, -105, 32767, -32768, 9])
    for k in VERSIONS:
        buf = bytearray(b"." * 60)
        end = k.put_values(buf, 2, values, b"\1\x15\7\1\0\1", 1, 4, 1)
        assert bytes(buf[: end + 1]) == b"..3300,-105,32767."
        end = k.put_values(buf, end, values, b"\1\x15\7\1\x14\1", 4, 6, 1)
        assert bytes(buf[: end + 1]) == b"..3300,-105,32767,null,9."
        assert k.put_values(buf, 7, values, b"", 3, 3, 1) == 7
