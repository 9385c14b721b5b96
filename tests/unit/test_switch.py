"""What a flashed board starts: the newest firmware whose marker is valid."""

import binascii
import os

import switch

from scratch import unique

FOLDER = unique("test_switch")


def _marker(number, digest="ab" * 32):
    text = "%d %s" % (number, digest)
    return text + " %08x\n" % binascii.crc32(text.encode())


def _newest(*markers):
    """The choice among slots with these markers, None for a slot without one; its index or -1."""
    slots = []
    os.mkdir(FOLDER)
    try:
        for i in range(len(markers)):
            path = FOLDER + "/%d" % i
            slots.append(("slot%d" % i, path))
            if markers[i] is not None:
                with open(path, "wb") as f:
                    f.write(markers[i] if isinstance(markers[i], bytes) else markers[i].encode())
        chosen = switch.newest(slots)
        return int(chosen[4:]) if chosen else -1
    finally:
        for name in os.listdir(FOLDER):
            os.remove(FOLDER + "/" + name)
        os.rmdir(FOLDER)


def test_the_highest_number_starts():
    assert _newest(_marker(1), _marker(2), None) == 1
    assert _newest(_marker(2), _marker(1), None) == 0
    assert _newest(_marker(9), _marker(10), None) == 1  # as a number, not as text
    assert _newest(_marker(3), _marker(4), _marker(5)) == 2
    assert _newest(None, None, _marker(0)) == 2


def test_none_is_whole():
    assert _newest(None, None, None) == -1
    assert _newest("", "x", "1 2 3") == -1


def test_a_cut_marker_is_none():
    text = _marker(7)
    for n in range(len(text) - 1):
        assert _newest(_marker(6), text[:n]) == 0, text[:n]
    assert _newest(_marker(6), text[:-1]) == 1  # all but its line end


def test_a_damaged_marker_is_none():
    text = _marker(7)
    for i in range(len(text) - 1):
        for flip in (1, 0x80):
            data = bytearray(text.encode())
            data[i] ^= flip
            assert _newest(_marker(6), bytes(data)) == 0, data


def test_erased_flash_is_no_marker():
    assert _newest(b"\xff" * 100, b"\x00" * 100, _marker(1)) == 2


def test_the_slots_are_where_the_file_system_is():
    assert switch.BASE == os.getcwd().rstrip("/")
    assert switch.SLOTS[0] == (switch.BASE + "/a", switch.BASE + "/a/marker")
    assert switch.SLOTS[1] == (switch.BASE + "/b", switch.BASE + "/b/marker")
    assert switch.SLOTS[2] == ("/rom", switch.BASE + "/rom.marker")
