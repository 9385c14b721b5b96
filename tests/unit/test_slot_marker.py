"""The files of a slot against the marker that `bmsctl flash` writes."""

import os
import sys
from binascii import hexlify
from hashlib import sha256

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


def _intact(base):
    slot_marker.os = _Os()
    sys.path.insert(0, base)
    try:
        return slot_marker.intact()
    finally:
        sys.path.pop(0)
        slot_marker.os = os


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


def test_damaged_sums():
    base = _slot()
    try:
        text = _sums()
        for n in range(0, len(text) - 1, 7):
            for damaged in (text[:n], text[:n] + bytes([text[n] ^ 1]) + text[n + 1 :]):
                _write(base + "/sums", damaged)
                # a line that isn't whole, or none: all files are read, as without it
                words = len(damaged.split())
                assert _intact(base) == (words == 0 or words % 2 == 1), damaged
    finally:
        os.remove(base + "/sums")
        _remove(base)
