"""The files of a slot against the marker that `bmsctl flash` writes."""

import os
import sys
from binascii import hexlify
from hashlib import sha256

from fakes import raises
from hal import slot_marker
from scratch import unique

FILES = {
    "main.mpy": b"M\x06" + bytes(700),
    "bms/a.mpy": bytes(range(256)) * 2,
    "bms/slaves/x.mpy": b"",
    "bms.mpy": b"1",
    "names": b"bms.a e step\n",
}
_FOLDERS = ("", "/bms", "/bms/slaves")
_BASE = os.getcwd() + "/" + unique("test_slot_marker")


class _Os:
    """`os.ilistdir` for CPython."""

    def ilistdir(self, path):
        for name in os.listdir(path):
            kind = 0x8000
            try:
                os.listdir(path + "/" + name)
                kind = 0x4000
            except OSError:
                pass
            yield name, kind, 0

    def getcwd(self):
        return os.getcwd()


def _slot():
    """A folder with all files and their marker; it is the first of sys.path."""
    base = _BASE
    for folder in _FOLDERS:
        try:
            os.mkdir(base + folder)
        except OSError:
            pass
    for path in FILES:
        _write(base + "/" + path, FILES[path])
    lines = b""
    for path in sorted(FILES):
        lines += path.encode() + b" " + hexlify(sha256(FILES[path]).digest()) + b"\n"
    _write(base + "/marker", b"3 " + hexlify(sha256(lines).digest()) + b" 12345678\n")
    return base


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def _remove(base):
    for path in list(FILES) + ["marker", "bms/more.mpy"]:
        try:
            os.remove(base + "/" + path)
        except OSError:
            pass
    for folder in reversed(_FOLDERS):
        os.rmdir(base + folder)


def _result(base):
    """What the check says at last, and after how many steps."""
    slot_marker.os = _Os()
    sys.path.insert(0, base)
    steps = 0
    try:
        for result in slot_marker.steps():
            steps += 1
            if result != b"running":
                return result, steps
    finally:
        sys.path.pop(0)
        slot_marker.os = os


def _intact(base):
    result, _steps = _result(base)
    assert result in (b"ok", b"a file of the firmware is damaged"), result
    return result == b"ok"


def test_no_step_does_more_than_one_piece_of_one_file():
    base = _slot()
    size = slot_marker._STEP_BYTES
    reads = []
    sha = slot_marker.sha256

    class Counted:
        def __init__(self):
            self._sha = sha()

        def update(self, data):
            reads[-1] += len(data)
            self._sha.update(data)

        def digest(self):
            return self._sha.digest()

    try:
        _write(base + "/bms/more.mpy", bytes(5 * size + 7))
        slot_marker.os, slot_marker.sha256 = _Os(), Counted
        sys.path.insert(0, base)
        reads.append(0)
        for result in slot_marker.steps():
            reads.append(0)
            if result != b"running":
                break
        assert sum(reads) > 5 * size
        assert max(reads) <= size + 100  # and the line of a file that has ended
        assert len([n for n in reads if n]) >= 5 + len(FILES)
    finally:
        sys.path.pop(0)
        slot_marker.os, slot_marker.sha256 = os, sha
        _remove(base)


def test_the_marker_alone_is_read_in_the_first_step():
    base = _slot()
    slot_marker.os = _Os()
    sys.path.insert(0, base)
    try:
        check = slot_marker.steps()
        assert next(check) == b"running"
        # what is damaged from here on is found all the same
        _write(base + "/main.mpy", FILES["main.mpy"][:-1] + b"\x55")
        results = []
        while not results or results[-1] == b"running":
            results.append(next(check))
        assert results[-1] == b"a file of the firmware is damaged"
    finally:
        sys.path.pop(0)
        slot_marker.os = os
        _remove(base)


def test_a_file_that_goes_while_it_is_checked():
    base = _slot()
    slot_marker.os = _Os()
    sys.path.insert(0, base)
    try:
        check = slot_marker.steps()
        next(check)
        next(check)  # the names were read
        os.remove(base + "/main.mpy")  # the last by name
        raises(OSError, list, check)
    finally:
        sys.path.pop(0)
        slot_marker.os = os
        _write(base + "/main.mpy", FILES["main.mpy"])
        _remove(base)


def test_whole_damaged_missing_and_too_many():
    base = _slot()
    try:
        assert _intact(base)
        for path in FILES:
            if FILES[path]:
                _write(base + "/" + path, FILES[path][:-1] + b"\x55")
                assert not _intact(base), path
            os.remove(base + "/" + path)
            assert not _intact(base), path
            _write(base + "/" + path, FILES[path])
            assert _intact(base)
        _write(base + "/bms/more.mpy", b"")
        assert not _intact(base)
        os.remove(base + "/bms/more.mpy")
        _write(base + "/marker", b"3 " + b"0" * 64 + b" 12345678\n")
        assert not _intact(base)
    finally:
        _remove(base)


def test_pack_files_have_checksums_of_their_own():
    base = _slot()
    try:
        for name in ("/pack.toml", "/pack.toml.copy"):
            _write(base + name, b"[pack]\n")
            assert _intact(base)
            os.remove(base + name)
    finally:
        _remove(base)


def test_without_a_marker_nothing_is_compared():
    base = _slot()
    try:
        os.remove(base + "/marker")
        assert _intact(base)
        _write(base + "/marker", b"")  # the switch would not start it
        assert _intact(base)
    finally:
        _remove(base)


def _sums():
    return b"".join(
        [
            path.encode() + b" " + hexlify(sha256(FILES[path]).digest()) + b"\n"
            for path in sorted(FILES)
        ]
    )


def test_with_sums_only_what_runs_is_read():
    base = _slot()
    try:
        _write(base + "/sums", _sums())
        assert _intact(base)
        _write(base + "/bms/slaves/x.mpy", b"damaged")
        assert _intact(base)  # this pack has no such board
        sys.modules["bms.slaves.x"] = sys
        assert not _intact(base)
        del sys.modules["bms.slaves.x"]
        assert _intact(base)
        for path in ("main.mpy", "bms/a.mpy", "bms.mpy"):
            _write(base + "/" + path, FILES[path][:-1] + b"\x55")
            assert not _intact(base), path
            _write(base + "/" + path, FILES[path])
        _write(base + "/names", b"damaged")
        assert _intact(base)  # it is read after a crash only
        os.remove(base + "/names")
        assert not _intact(base)
        _write(base + "/names", FILES["names"])
        os.remove(base + "/bms/slaves/x.mpy")
        assert not _intact(base)
        _write(base + "/bms/slaves/x.mpy", b"")
        _write(base + "/bms/slaves/x.py", b"")  # MicroPython would load it instead
        assert not _intact(base)
        os.remove(base + "/bms/slaves/x.py")
        assert _intact(base)
    finally:
        os.remove(base + "/sums")
        _remove(base)


def test_modules_that_the_start_frees_meanwhile_are_read():
    base = _slot()
    slot_marker.os = _Os()
    sys.path.insert(0, base)
    sys.modules["bms.slaves.x"] = sys
    try:
        _write(base + "/sums", _sums())
        _write(base + "/bms/slaves/x.mpy", b"damaged")
        check = slot_marker.steps()
        next(check)
        del sys.modules["bms.slaves.x"]
        results = []
        while not results or results[-1] == b"running":
            results.append(next(check))
        assert results[-1] == b"a file of the firmware is damaged"
    finally:
        sys.path.pop(0)
        slot_marker.os = os
        os.remove(base + "/sums")
        _remove(base)


def test_damaged_sums():
    base = _slot()
    try:
        text = _sums()
        for n in range(0, len(text) - 1, 7):
            for damaged in (text[:n], text[:n] + bytes([text[n] ^ 1]) + text[n + 1 :]):
                _write(base + "/sums", damaged)
                assert not _intact(base), damaged
    finally:
        os.remove(base + "/sums")
        _remove(base)
