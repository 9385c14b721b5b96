"""Slots in files, with the store on them."""

import gc
import os

import micropython

from bms.clock import Clock
from bms.config import pack_file
from bms.energy import totals as S
from bms.storage.nvm_store import NvmStore
from fakes import FakeClock, pack_lines, raises
from hal.storage import FileStorage
from scratch import unique

FOLDER = unique("test_storage")
LOCKS = hasattr(micropython, "heap_lock")


def _clean():
    try:
        for name in os.listdir(FOLDER):
            os.remove(FOLDER + "/" + name)
        os.rmdir(FOLDER)
    except OSError:
        pass


def _with_folder(test):
    _clean()
    try:
        test()
    finally:
        gc.collect()  # files that nobody holds any more
        _clean()


class Picture:
    """Stands for what the freezer holds."""

    def __init__(self, value):
        self.value = value

    def fill(self, buf, start, n):
        for i in range(n):
            buf[i] = self.value


def test_slots_are_apart_and_stay():
    def body():
        one = FileStorage(FOLDER, 3, 64)
        buf = bytearray(64)
        assert [one.read(i, buf) for i in range(3)] == [0, 0, 0]
        one.write(1, b"middle", 6)
        one.write(2, bytearray(b"last one, cut"), 8)
        two = FileStorage(FOLDER, 3, 64)
        assert [two.read(i, buf) for i in (0, 1, 2)] == [0, 6, 8]
        assert buf[:8] == b"last one"
        two.write(1, b"MID", 3)
        small = bytearray(2)
        assert one.read(1, small) == 2 and small == b"MI"
        raises(ValueError, two.write, 0, bytes(65), 65)
        one.close()
        two.close()
        three = FileStorage(FOLDER, 3, 64, keep=False)
        assert [three.read(i, buf) for i in (0, 1, 2)] == [0, 6, 8]
        three.write(0, b"first", 5)
        assert three.read(0, buf) == 5 and buf[:5] == b"first"
        three.close()

    _with_folder(body)


def test_files_that_are_not_kept_leave_no_garbage():
    def body():
        slots = FileStorage(FOLDER, 3, 64, keep=False)
        slots.write(0, b"first", 5)
        used = gc.mem_alloc() if LOCKS else 0
        for i in range(20):
            slots.write(i % 3, b"again", 5)
        assert not LOCKS or gc.mem_alloc() <= used + 64

    _with_folder(body)


def test_a_folder_that_cannot_be():
    error = raises(OSError, FileStorage, "no_such_folder/below", 2, 64)
    assert error is not None


def _store():
    clock = Clock(FakeClock())
    files = FileStorage(FOLDER, 8, 1280)
    store = NvmStore(pack_file.parse(pack_lines()), files, clock)
    store.load()
    return store, clock, files


def test_the_store_on_files():
    def body():
        for boot in range(1, 12):
            store, clock, files = _store()
            assert store.installed and not store.lost
            assert store.totals[S.BOOT] == boot
            assert store.totals[S.SOC + 3] == boot - 1
            store.totals[S.SOC + 3] = boot
            assert store.save(clock.now)
            assert store.frame(1, 2, Picture(boot), 1500)
            while store.frame_pending:
                store._save_part(clock.now)
            assert store.frames == boot
            assert store.read_part((store.next + 3) % 4)
            assert store.page[0] == boot
            files.close()

    _with_folder(body)


def test_writing_allocates_nothing():
    def body():
        store, clock, files = _store()
        picture = Picture(3)
        store.save(clock.now)
        gc.collect()
        if LOCKS:
            micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
        try:
            for _ in range(20):
                store.save(clock.now)
                store.frame(1, 2, picture, 1500)
                while store.frame_pending:
                    store._save_part(clock.now)
        finally:
            if LOCKS:
                micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
        assert store.failed == 0
        assert store.written == 61
        files.close()

    _with_folder(body)
