"""Modules of a slot are found by its list of files, where the list is the one that was sealed."""

import os
import sys
from binascii import hexlify
from hashlib import sha256

ON_MICROPYTHON = sys.implementation.name == "micropython"
if ON_MICROPYTHON:
    from hal import module_files

FILES = {
    "quick/__init__.py": b"",
    "quick/one.py": b"VALUE = 1\n",
    "quick/deep/__init__.py": b"",
    "quick/deep/two.py": b"from quick.one import VALUE\nVALUE += 1\n",
    "quick_top.py": b"VALUE = 3\n",
    "quick/late.py": b"VALUE = 4\n",
}


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def _slot(sealed=True):
    base = "/tmp/test_module_files_%d" % id(FILES)
    for folder in ("", "/quick", "/quick/deep"):
        try:
            os.mkdir(base + folder)
        except OSError:
            pass
    sums = b""
    for path in sorted(FILES):
        _write(base + "/" + path, FILES[path])
        sums += path.encode() + b" " + hexlify(sha256(FILES[path]).digest()) + b"\n"
    _write(base + "/sums", sums)
    digest = hexlify(sha256(sums if sealed else b"other").digest())
    _write(base + "/seal", b"3 " + digest + b" 12345678\n")
    return base


def _remove(base):
    for path in list(FILES) + ["sums", "seal"]:
        os.remove(base + "/" + path)
    for folder in ("/quick/deep", "/quick", ""):
        os.rmdir(base + folder)


def test_modules_are_found_by_the_list():
    if not ON_MICROPYTHON:
        return
    base = _slot()
    before = sys.path[:]
    sys.path.insert(0, base)
    try:
        module_files.mount(base)
        assert sys.path[0] == module_files.AT
        import quick_top  # pyright: ignore[reportMissingImports]
        from quick import one  # pyright: ignore[reportMissingImports]
        from quick.deep import two  # pyright: ignore[reportMissingImports]

        assert (one.VALUE, two.VALUE, quick_top.VALUE) == (1, 2, 3)
        assert one.__file__ == "/m/quick/one.py"
        try:
            import quick.none  # noqa: F401  # pyright: ignore[reportMissingImports]

            raise AssertionError("found what isn't there")
        except ImportError:
            pass
        module_files.umount()
        assert sys.path[0] == base
        from quick import late  # pyright: ignore[reportMissingImports]

        assert late.VALUE == 4 and late.__file__ == base + "/quick/late.py"
        module_files.umount()  # once more: nothing to do
        assert sys.path[0] == base
    finally:
        sys.path[:] = before
        _remove(base)


def test_a_list_that_was_not_sealed_does_not_count():
    if not ON_MICROPYTHON:
        return
    base = _slot(sealed=False)
    before = sys.path[:]
    try:
        module_files.mount(base)
        os.remove(base + "/seal")
        module_files.mount(base)
        _write(base + "/seal", b"")
        module_files.mount(base)
        os.remove(base + "/sums")
        module_files.mount(base)
        _write(base + "/sums", b"")
        assert sys.path == before
    finally:
        _remove(base)
