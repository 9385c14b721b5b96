"""The pack file and its copy: whatever is damaged or half written, what is read is whole."""

import os
from binascii import crc32

from bms.config import pack_file
from bms.config.errors import ConfigError
from fakes import FakeBoard, pack_lines, raises
from scratch import unique

PATH = unique("test_pack_file.toml")
COPY = PATH + ".copy"
OLD = ("\n".join(pack_lines()) + "\n").encode()
NEW = OLD.replace(b'name = "test"', b'name = "new"')


def _checked(data):
    return data + pack_file.mark(len(data), crc32(data))


def _put(path, data):
    if data is None:
        try:
            os.remove(path)
        except OSError:
            pass
    else:
        with open(path, "wb") as f:
            f.write(data)


def _load(one, copy):
    """(name of the pack, damaged), or the ConfigError's words."""
    _put(PATH, one)
    _put(COPY, copy)
    try:
        c = pack_file.load(PATH)
        return c.name, c.damaged
    except ConfigError as error:
        return str(error)
    finally:
        _put(PATH, None)
        _put(COPY, None)


def test_both_whole_or_one():
    assert _load(_checked(OLD), _checked(OLD)) == ("test", 0)
    assert _load(_checked(OLD), _checked(NEW)) == ("test", 0)  # the copy is written first
    assert _load(_checked(OLD), None) == ("test", 2)
    assert _load(_checked(OLD), OLD) == ("test", 2)
    assert _load(None, _checked(OLD)) == ("test", 1)
    assert _load(OLD, _checked(NEW)) == ("new", 3)  # cut behind its last line but one


def test_a_bare_file():
    assert _load(OLD, None) == ("test", 0)
    _put(COPY, None)
    raises(OSError, pack_file.load, "no such file")


def test_a_file_placed_by_hand_beside_an_old_copy_is_reported():
    assert _load(NEW, _checked(OLD)) == ("test", 3)
    assert _load(NEW, None) == ("new", 0)  # as the fault tells to do


def test_both_damaged_is_refused():
    bad = _checked(OLD).replace(b"3", b"4", 1)
    assert bad != _checked(OLD)
    for one in (bad, OLD, OLD[:40], b"", None):
        for copy in (bad, OLD, b""):
            assert "are damaged" in _load(one, copy), (one, copy)


def test_changed_by_hand():
    assert "remove its last line" in _load(_checked(OLD) + b"# more\n", None)
    assert "remove its last line" in _load(_checked(OLD).replace(b"3", b"4", 1), None)


def test_one_bit_anywhere():
    good = _checked(OLD)
    for bit in range(0, len(good) * 8, 5):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        name, damaged = _load(bad, _checked(NEW))
        assert name == "new" and damaged in (1, 3), bit  # 3: the mark itself is gone


def test_cut_at_any_byte_while_both_are_written():
    old, new = _checked(OLD), _checked(NEW)
    for k in range(0, len(new) + 1, 3):
        name, damaged = _load(old, new[:k])
        assert name == "test" and damaged in (0, 2), k
        name, damaged = _load(new[:k], new)
        assert name == "new" and damaged in ((1, 3) if k < len(new) else (0,)), k


def test_the_checksum_is_that_of_what_a_person_wrote():
    for data in (OLD, _checked(OLD)):
        _put(PATH, data)
        _put(COPY, _checked(OLD) if data is not OLD else None)
        c = pack_file.load(PATH)
        assert c.crc == pack_file.load(PATH).crc
        if data is OLD:
            bare = c.crc
    assert c.crc == bare
    assert c.path == PATH
    _put(PATH, b"")
    assert pack_file.load(PATH).path == COPY
    _put(PATH, None)
    _put(COPY, None)


def test_the_master_reports_it():
    from bms.master import Master
    from bms.protection import fault_ids as F

    _put(PATH, _checked(OLD).replace(b"3", b"4", 1))
    _put(COPY, _checked(OLD))
    try:
        c = pack_file.load(PATH)
    finally:
        _put(PATH, None)
        _put(COPY, None)
    m = Master(c, FakeBoard())
    assert m.faults.active[F.CONFIG_COPY_USED]
    assert m.faults.value[F.CONFIG_COPY_USED] == 1
    assert m.faults.trips == 0
