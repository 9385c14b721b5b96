"""What a flashed board starts: the newest firmware whose seal is whole."""

import binascii
import os
import sys

import switch

# both runtimes run this file, at once
FOLDER = f"slots_of_test_switch_{sys.implementation.name}"


def _seal(number, digest="ab" * 32):
    text = "%d %s" % (number, digest)
    return text + " %08x\n" % binascii.crc32(text.encode())


def _newest(*seals):
    """The choice among slots with these seals, None for a slot without one; its index or -1."""
    slots = []
    os.mkdir(FOLDER)
    try:
        for i in range(len(seals)):
            path = FOLDER + "/%d" % i
            slots.append(("slot%d" % i, path))
            if seals[i] is not None:
                with open(path, "wb") as f:
                    f.write(seals[i] if isinstance(seals[i], bytes) else seals[i].encode())
        chosen = switch.newest(slots)
        return int(chosen[4:]) if chosen else -1
    finally:
        for name in os.listdir(FOLDER):
            os.remove(FOLDER + "/" + name)
        os.rmdir(FOLDER)


def test_the_highest_number_starts():
    assert _newest(_seal(1), _seal(2), None) == 1
    assert _newest(_seal(2), _seal(1), None) == 0
    assert _newest(_seal(9), _seal(10), None) == 1  # as a number, not as text
    assert _newest(_seal(3), _seal(4), _seal(5)) == 2
    assert _newest(None, None, _seal(0)) == 2


def test_none_is_whole():
    assert _newest(None, None, None) == -1
    assert _newest("", "x", "1 2 3") == -1


def test_a_cut_seal_is_none():
    text = _seal(7)
    for n in range(len(text) - 1):
        assert _newest(_seal(6), text[:n]) == 0, text[:n]
    assert _newest(_seal(6), text[:-1]) == 1  # all but its line end


def test_a_damaged_seal_is_none():
    text = _seal(7)
    for i in range(len(text) - 1):
        for flip in (1, 0x80):
            data = bytearray(text.encode())
            data[i] ^= flip
            assert _newest(_seal(6), bytes(data)) == 0, data


def test_erased_flash_is_no_seal():
    assert _newest(b"\xff" * 100, b"\x00" * 100, _seal(1)) == 2


def test_the_slots_are_where_the_file_system_is():
    assert switch.BASE == os.getcwd().rstrip("/")
    assert switch.SLOTS[0] == (switch.BASE + "/a", switch.BASE + "/a/seal")
    assert switch.SLOTS[1] == (switch.BASE + "/b", switch.BASE + "/b/seal")
    assert switch.SLOTS[2] == ("/rom", switch.BASE + "/rom.seal")
