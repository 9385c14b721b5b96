"""The kernels: published check values, round trips, and the machine code against its twin."""

import sys
from array import array

from bms import kernels
from bms import kernels_plain as plain
from bms.tables import E_COUNT, E_MAX, E_MAX_AT, E_MIN, E_MIN_AT, E_SUM
from fakes import Random, cells_frame, cobs_bytes, crc8, crc16, slcan_bytes, temps_frame

try:
    from bms import kernels_viper as viper
except (ImportError, AttributeError, NameError, SyntaxError):
    viper = None

TWINS = (plain,) if viper is None else (plain, viper)
TOP = 1 << 29


def test_machine_code_is_used_where_there_is_any():
    # `_mpy` holds the architecture of native code, 0 where the port has no emitter
    native = getattr(sys.implementation, "_mpy", 0) >> 10
    assert kernels.NATIVE == (viper is not None)
    if native:
        assert viper is not None


def test_twins_have_the_same_names():
    names = [n for n in dir(plain) if callable(getattr(plain, n)) and not n.startswith("_")]
    assert len(names) == 15
    for name in names:
        for twin in TWINS:
            assert callable(getattr(twin, name)), name
        assert callable(getattr(kernels, name)), name


def test_crc_check_values():
    # CRC catalogue: CRC-8/SAE-J1850 and CRC-16/IBM-3740 over "123456789"
    for k in TWINS:
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
        for k in TWINS:
            assert k.crc8_frame(ident, data, n) == good8
            assert k.crc16(data, 1, n, 0xFFFF) == (good16 if n > 1 else 0xFFFF)


def test_find_and_shift():
    random = Random(3)
    for k in TWINS:
        assert k.find(b"abcabc", 1, 6, 0x61) == 3
        assert k.find(b"abcabc", 4, 6, 0x61) == -1
        assert k.find(b"abc", 1, 1, 0x62) == -1
    for _ in range(50):
        data = bytearray(random.bytes(20))
        start = random.below(20)
        end = random.between(start, 20)
        for k in TWINS:
            copy = bytearray(data)
            assert k.shift(copy, start, end) == end - start
            assert copy[: end - start] == data[start:end]
            assert copy[end:] == data[end:]


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
        for k in TWINS:
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
    for k in TWINS:
        wire = b"\xff" + b"\x11" * 254 + b"\x02\x22"
        back = bytearray(300)
        assert k.cobs_decode(wire, 0, len(wire), back, 300) == 255
        assert back[:255] == b"\x11" * 254 + b"\x22"


def test_cobs_garbage_gives_the_same_on_both():
    random = Random(5)
    for _ in range(300):
        data = bytearray(random.bytes(16))
        for i in range(16):
            if random.below(2):
                data[i] &= 7
        outs = []
        for k in TWINS:
            back = bytearray(14)
            outs.append((k.cobs_decode(data, 1, 15, back, 12), bytes(back)))
            assert back[12:] == b"\0\0"
        assert outs[0] == outs[-1]
    for k in TWINS:
        assert k.cobs_decode(b"\x05\x01\x02", 0, 3, bytearray(8), 8) == -1
        assert k.cobs_decode(b"\x02\x01\x00", 0, 3, bytearray(8), 8) == -1


def test_slcan_round_trip():
    random = Random(6)
    for n in range(9):
        for _ in range(20):
            ident = random.below(0x800)
            data = random.bytes(n)
            for k in TWINS:
                out = bytearray(40)
                end = k.slcan_encode(ident, data, n, out, 2)
                assert bytes(out[2:end]) == slcan_bytes(ident, data)
                back = bytearray(8)
                assert k.slcan_decode(out, 2, end - 1, back) == ident << 4 | n
                assert back[:n] == data
                lower = bytes(out).replace(b"A", b"a").replace(b"F", b"f")
                assert k.slcan_decode(lower, 2, end - 1, back) == ident << 4 | n


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
        b"T0000012300",
        b"r1230",
        b"x1230",
        b"t1231AA1234",  # with a time stamp
    )
    for k in TWINS:
        for text in bad:
            assert k.slcan_decode(text, 0, len(text), bytearray(8)) == -1, text


def test_slcan_garbage_gives_the_same_on_both():
    random = Random(7)
    letters = b"t0123456789abcdefABCDEFgG \xff"
    for _ in range(500):
        text = b"t" + bytes([letters[random.below(len(letters))] for _ in range(12)])
        end = random.between(1, 13)
        outs = [k.slcan_decode(text, 0, end, bytearray(8)) for k in TWINS]
        assert outs[0] == outs[-1]


def _store(k, data, p, room=6):
    values = array("h", [-7] * room)
    flags = bytearray(b"\x09" * room)
    stamps = array("i", [-5] * room)
    found = k.store13(data, values, flags, stamps, p)
    return found, list(values), bytes(flags), list(stamps)


def test_store13_puts_four_cells_in_place():
    _, data = cells_frame(1, 0, [0, 3300, None, 8190], 15)
    for k in TWINS:
        found, values, flags, stamps = _store(
            k, data, array("i", [1, 4, TOP - 1, 2000, 3750, 5, 0])
        )
        assert values == [-7, 0, 3300, -7, 8190, -7]
        assert flags == b"\x09\x05\x05\x09\x05\x09"
        assert stamps == [-5, TOP - 1, TOP - 1, -5, TOP - 1, -5]
        assert found == 0 + (3 << 8)  # a measured zero is out of its bound


def test_store13_finds_the_first_reading_out_of_bounds():
    for at in range(4):
        for mv, out in ((1999, 1), (2000, 0), (3750, 0), (3751, 1)):
            four = [3300] * 4
            four[at] = mv
            _, data = cells_frame(1, 0, four, 0)
            for k in TWINS:
                found = _store(k, data, array("i", [0, 4, 1, 2000, 3750, 5, 0]))[0]
                assert found == (at if out else -1) + (4 << 8), (at, mv)


def test_store13_finds_the_first_hot_sensor():
    # an offset and a bound below zero: on a computer of 64 bits, too
    for at in range(4):
        for dc, out in ((-1000, 0), (-1, 0), (0, 0), (700, 0), (701, 1), (1200, 1)):
            four = [-100, 250, 0, 300]
            four[at] = dc
            _, data = temps_frame(1, 0, four, 0)
            for k in TWINS:
                found, values, _, _ = _store(k, data, array("i", [0, 4, 1, -1000, 700, 5, -1000]))
                assert values[:4] == four
                assert found == (at if out else -1) + (4 << 8), (k, at, dc)


def test_store13_twins_agree():
    random = Random(8)
    for _ in range(400):
        data = bytearray(random.bytes(8))
        if random.below(3) == 0:
            for i in range(random.below(7)):
                data[i] = 0xFF
        low = random.between(-1000, 3000)
        p = array(
            "i",
            [
                random.below(3),
                random.between(1, 4),
                random.below(TOP),
                low,
                random.between(low, 8000),
                random.below(256),
                random.between(-1000, 10),
            ],
        )
        p[0] = min(p[0], 6 - p[1])
        outs = [_store(k, data, p) for k in TWINS]
        assert outs[0] == outs[-1], (list(p), bytes(data))


def test_extremes():
    values = array("h", [5, -40, 3000, 3000, -40, 32767, -32768])
    flags = bytearray([1, 5, 3, 1, 1, 4, 0])
    for k in TWINS:
        out = array("i", [0] * 6)
        k.extremes(values, flags, 0, 7, 1, out)
        assert (out[E_MIN], out[E_MIN_AT], out[E_MAX], out[E_MAX_AT]) == (-40, 1, 3000, 2)
        assert (out[E_SUM], out[E_COUNT]) == (5925, 5)
        k.extremes(values, flags, 5, 7, 1, out)
        assert (out[E_MIN_AT], out[E_MAX_AT], out[E_COUNT], out[E_SUM]) == (-1, -1, 0, 0)
        k.extremes(values, flags, 0, 7, 4, out)
        assert (out[E_MIN_AT], out[E_MAX_AT], out[E_COUNT]) == (1, 5, 2)


def test_extremes_twins_agree():
    random = Random(9)
    for _ in range(200):
        values = array("h", [random.between(-32768, 32767) for _ in range(20)])
        flags = bytearray(random.bytes(20))
        start = random.below(20)
        mark = 1 << random.below(8)
        outs = []
        for k in TWINS:
            out = array("i", [9] * 6)
            k.extremes(values, flags, start, 20, mark, out)
            outs.append(list(out))
        assert outs[0] == outs[-1]


def test_expire():
    for now in (1000, 3):  # over the wrap, too
        at = [(now - age) % TOP for age in (0, 500, 501, 501, 501)]
        for k in TWINS:
            flags = bytearray([5, 5, 7, 0, 9 | 4])
            assert k.expire(flags, array("i", at), 0, 5, now, 500) == 2
            # lost: not fresh any longer; never seen: nothing to lose; lost before: stays
            assert list(flags) == [5, 5, 14, 0, 13]
            assert k.expire(flags, array("i", at), 0, 2, now, 500) == -1


def test_expire_twins_agree():
    random = Random(10)
    for _ in range(200):
        now = random.below(TOP)
        stamps = array("i", [(now - random.between(-10, 1200)) % TOP for _ in range(12)])
        flags = random.bytes(12)
        outs = []
        for k in TWINS:
            copy = bytearray(flags)
            outs.append((k.expire(copy, stamps, 1, 12, now, 600), bytes(copy)))
        assert outs[0] == outs[-1]


def test_unmark():
    random = Random(12)
    for k in TWINS:
        flags = bytearray(random.bytes(12))
        before = bytes(flags)
        k.unmark(flags, 3, 9, 0x11)
        assert flags[:3] == before[:3]
        assert flags[9:] == before[9:]
        assert list(flags[3:9]) == [b & 0xEE for b in before[3:9]]


def test_put():
    for k in TWINS:
        out = bytearray(8)
        assert k.put(out, 2, b"abcdef", 3) == 5
        assert out == b"\0\0abc\0\0\0"
        assert k.put(out, 0, b"", 0) == 0


def test_put_int():
    top = (1 << 30) - 1
    numbers = [0, 1, 9, 10, 99, 100, 1000000000, top, -1, -10, -top]
    random = Random(11)
    numbers += [random.between(-top, top) for _ in range(50)]
    numbers += [random.between(-5000, 5000) for _ in range(50)]
    for k in TWINS:
        for number in numbers:
            out = bytearray(20)
            end = k.put_int(out, 1, number)
            assert bytes(out[1:end]) == str(number).encode()


def test_put_hex4():
    for k in TWINS:
        for number in (0, 1, 0xABCD, 0xFFFF, 0x10FFF):
            out = bytearray(8)
            assert k.put_hex4(out, 2, number) == 6
            assert bytes(out[2:6]) == f"{number & 0xFFFF:04X}".encode()
