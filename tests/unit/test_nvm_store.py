"""The store: a power cut at any byte of any write leaves the last complete state."""

import gc

import micropython

from bms.clock import Clock
from bms.config import pack_file
from bms.energy import totals
from bms.protection.fault_ids import ACKNOWLEDGED, CLEAR, SET
from bms.storage import nvm_store as S
from bms.storage.nvm_store import NvmStore
from extent import extent
from fake_storage import PowerCut, Slots
from fakes import FakeClock, pack_lines, raises

LOCKS = hasattr(micropython, "heap_lock")
ERASED = (
    lambda new, old, k: new[:k] + old[k:],  # the rest of what was there
    lambda new, old, k: new[:k] + b"\xff" * (len(new) - k),  # erased flash
    lambda new, old, k: new[:k],  # a shorter file
    lambda new, old, k: bytes(len(new)),  # nothing at all
)


class Bench:
    """A store on a clock; `again` is what comes after a power cut."""

    def __init__(self, storage, **tables):
        self.storage = storage
        self.config = pack_file.parse(pack_lines(**tables))
        self.again()

    def again(self):
        self.storage.cut_at = -1
        self.hal = FakeClock()
        self.clock = Clock(self.hal)
        self.store = NvmStore(self.config, self.storage, self.clock)
        self.store.load()
        return self.store

    def run(self, ms, may_write=True, closed=False, every=100):
        for _ in range(ms // every):
            self.hal.pass_ms(every)
            self.clock.tick()
            self.store.step(self.clock.now, may_write, closed)

    def save(self):
        return self.store.save(self.clock.now)

    def event(self, code=3, change=SET, place=7, value=3651):
        self.store.event(change, code, -1, place, value, self.clock.uptime_s, self.clock.uptime_ms)

    def events(self):
        """(code, change, place, value, boot) of those kept, the oldest first."""
        t = self.store.totals
        out = []
        for k in range(max(0, t[totals.EVENTS] - totals.KEPT), t[totals.EVENTS]):
            i = totals.RING + k % totals.KEPT * totals.EVENT
            out.append((t[i] & 255, t[i] >> 8 & 3, (t[i] >> 14) - 1, t[i + 1], t[i + 3] >> 10))
        return out

    def frames(self):
        """Frames of which every part is whole: {number: bytes}."""
        s = self.store
        parts = {}
        for i in range(s.slots):
            if s.read_part(i):
                part = s.tail[S.F_PART]
                data = bytes(s.page[: part >> 16])
                parts.setdefault(s.tail[S.F_FRAME], [part >> 8 & 255, {}])[1][part & 255] = data
        return {
            n: b"".join([parts[n][1][k] for k in range(parts[n][0])])
            for n in parts
            if len(parts[n][1]) == parts[n][0]
        }


class Picture:
    """Stands for what the freezer holds."""

    def __init__(self, data):
        self.data = data

    def fill(self, buf, start, n):
        for i in range(n):
            buf[i] = self.data[start + i]


def _picture(n, seed=1):
    return bytearray([(i * 7 + seed) & 255 for i in range(n)])


def test_what_is_kept_comes_back():
    b = Bench(Slots())
    t = b.store.totals
    assert b.store.installed and not b.store.lost
    assert t[totals.BOOT] == 1
    t[totals.CLOSINGS + 2] = 1234
    t[totals.SOC] = 801
    t[totals.OFFSET + 7] = -35
    t[totals.DEEP] = 0x81
    b.event()
    b.event(change=CLEAR, code=119, place=-1, value=-400000)
    assert b.save()
    b.again()
    t = b.store.totals
    assert t[totals.BOOT] == 2
    assert (t[totals.CLOSINGS + 2], t[totals.SOC], t[totals.OFFSET + 7], t[totals.DEEP]) == (
        1234,
        801,
        -35,
        0x81,
    )
    assert b.events() == [(3, SET, 7, 3651, 1), (119, CLEAR, -1, -400000, 1)]


def test_the_ring_keeps_the_last():
    b = Bench(Slots())
    for i in range(totals.KEPT + 20):
        b.event(code=1 + i % 100, value=i)
    b.save()
    b.again()
    b.event(change=ACKNOWLEDGED, value=-1)
    events = b.events()
    assert [e[3] for e in events] == list(range(21, totals.KEPT + 20)) + [-1]
    assert events[-1][4] == 2 and events[0][4] == 1


def test_places_do_not_overlap():
    singles = [
        totals.SEQ,
        totals.BOOT,
        totals.EVENTS,
        totals.SECONDS,
        totals.CLOSED_S,
        totals.DEEP,
        totals.CONFIG_CRC,
    ]
    singles += [totals.CRASHES, totals.CRASH_N, totals.CRASH_BOOT, totals.CRASH_S]
    taken = [0] + singles
    for first in (
        totals.ENERGY_IN,
        totals.ENERGY_OUT,
        totals.CHARGE_IN,
        totals.CHARGE_OUT,
        totals.CYCLES,
    ):
        taken += [first, first + 1, first + 2]
    for first in (totals.CLOSINGS, totals.LOADED, totals.SOC, totals.OFFSET):
        taken += list(range(first, first + 8))
    assert len(set(taken)) == len(taken)
    assert max(taken) < totals.RING
    assert totals.BYTES <= 1280


def test_totals_carry_and_stay_small():
    b = Bench(Slots())
    s = b.store
    # 80 MW in steps of 10 ms: mW x ms, of which 3.6 million are 1 mWh
    for _ in range(4500):
        s.add(totals.ENERGY_OUT, 80000 * 1000, 3600000)
    t = s.totals
    assert (t[totals.ENERGY_OUT], t[totals.ENERGY_OUT + 1], t[totals.ENERGY_OUT + 2]) == (100, 0, 0)
    s.add(totals.CHARGE_IN, 3600000 * 25 - 1, 3600000)
    assert (t[totals.CHARGE_IN], t[totals.CHARGE_IN + 1], t[totals.CHARGE_IN + 2]) == (
        0,
        24,
        3599999,
    )
    assert t[totals.ENERGY_IN] == t[totals.CHARGE_OUT] == 0


def test_hours_are_counted():
    b = Bench(Slots())
    b.run(50000)
    b.run(30000, closed=True)
    assert b.store.totals[totals.SECONDS] == 80
    assert b.store.totals[totals.CLOSED_S] == 30


def _cuts(n, step):
    """Bytes to cut behind: of `n` each `step`th, and all of the last ones, which decide."""
    return [k for k in range(n) if k % step == 0 or k >= n - 12 and step < 37]


def test_a_cut_at_any_byte_of_a_record():
    for torn in ERASED:
        storage = Slots(4, totals.BYTES, torn)
        b = Bench(storage)
        b.store.totals[totals.SOC] = 1
        b.save()
        # slots never written, then slots with older records
        for round_ in range(2):
            for k in _cuts(totals.BYTES, extent(7, 1) if torn is ERASED[round_] else 37):
                before = b.store.totals[totals.SOC]
                seq = b.store.totals[totals.SEQ]
                b.store.totals[totals.SOC] = before + 1
                storage.cut_at = k
                raises(PowerCut, b.save)
                b.again()
                done = 1 if storage.whole else 0
                assert k >= totals.BYTES - 4 or not done
                assert b.store.totals[totals.SOC] == before + done, (round_, k)
                assert b.store.totals[totals.SEQ] == seq + done
                if not done and (round_ or k % 5 == 0):
                    b.store.totals[totals.SOC] = before + 1
                    storage.cut_at = totals.BYTES  # the last byte came out
                    assert b.save()
                    b.again()
                    assert b.store.totals[totals.SOC] == before + 1
                    assert not b.store.lost


def test_a_cut_at_any_byte_of_a_frame():
    size = 256
    room = size - S.PART_TAIL
    for torn in ERASED[:3]:
        storage = Slots(10, totals.BYTES, torn)
        storage.size = size  # of parts; records are read with their own length
        b = _frame_bench(storage, size)
        old = {}
        seed = 0
        for k in _cuts(2 * size, extent(5, 1) if torn is ERASED[0] else 61):
            seed += 1
            assert b.store.frame(3, 7, Picture(_picture(2 * room - 9, seed)), 2 * room - 9)
            storage.cut_at = k
            raises(PowerCut, _parts, b)
            b = _frame_bench(storage, size)
            last = max(old) if old else 0
            kept = b.frames()
            assert not last or kept[last] == old[last], k
            for number in kept:
                assert number not in old or kept[number] == old[number]
                assert number in old or storage.whole, "half a frame passes for one"
            if storage.whole:
                old = kept
            if k % 3 == 0:
                assert b.store.frame(4, -1, Picture(_picture(room + 5, seed)), room + 5)
                _parts(b)
                old = b.frames()
                assert old[b.store.frames] == _picture(room + 5, seed)


def _frame_bench(storage, size):
    """A store whose parts are short, so that all bytes can be tried."""
    storage.size = totals.BYTES
    was, S.PART_MAX = S.PART_MAX, size
    try:
        return Bench(storage)
    finally:
        S.PART_MAX = was


def _parts(b):
    while b.store.frame_pending:
        b.store._save_part(b.clock.now)


def test_frames():
    b = Bench(Slots(12, 2048))
    s = b.store
    assert (s.slots, s.size) == (6, 1024)
    pictures = {}
    for n in range(1, 6):
        pictures[n] = _picture(2500, n)
        assert s.frame(8 + n, n, Picture(pictures[n]), 2500)
        assert not s.frame(1, 0, Picture(_picture(9)), 9)  # one at a time
        b.run(60000)
        assert not s.frame_pending
    assert s.cut == 5
    assert b.frames() == {4: pictures[4], 5: pictures[5]}
    b.again()
    assert b.frames() == {4: pictures[4], 5: pictures[5]}
    assert b.store.read_part(b.store.next)  # the oldest
    assert b.store.tail[S.F_FRAME] == 4
    assert b.store.tail[S.F_CODE] == 12 | 5 << 8
    assert b.store.tail[S.F_MS] >> 10 == 1
    assert b.store.frame(1, -1, Picture(pictures[1]), 100)
    b.run(60000)
    assert b.frames()[6] == pictures[1][:100]


def test_a_frame_that_is_too_long_loses_its_end():
    b = Bench(Slots(8, 2048))
    assert b.store.frame(1, 0, Picture(_picture(4000)), 4000)
    b.run(60000)
    assert b.store.cut == 1
    assert b.frames() == {1: _picture(4000)[: 2 * (1024 - S.PART_TAIL)]}


def test_no_room_for_frames():
    b = Bench(Slots(3, 2048))
    assert b.store.installed
    assert not b.store.frame(1, 0, Picture(_picture(10)), 10)
    assert b.save()
    b.again()
    assert b.store.totals[totals.BOOT] == 2


def test_without_a_storage():
    for storage in (None, Slots(1, 2048), Slots(8, totals.BYTES - 1)):
        clock = Clock(FakeClock())
        s = NvmStore(pack_file.parse(pack_lines()), storage, clock)
        s.load()
        assert not s.installed and not s.lost
        s.event(SET, 1, -1, 2, 3, 4, 5)
        s.step(clock.now, True, False)
        assert not s.save(clock.now)
        assert not s.frame(1, 0, Picture(_picture(10)), 10)
        s.crash(b"text")
        assert s.totals[totals.EVENTS] == 1 and s.written == 0


# --- when it writes ---


def test_nothing_is_written_while_a_reading_is_near_a_limit():
    b = Bench(Slots())
    b.event()
    b.store.frame(3, 7, Picture(_picture(100)), 100)
    b.run(100 * 3600 * 10, may_write=False, every=5000)
    b.run(100 * 3600 * 10, may_write=False, closed=True, every=5000)
    assert sum(b.storage.writes) == 0
    b.run(5000)
    assert sum(b.storage.writes) == 2


def test_while_closed_only_every_period():
    b = Bench(Slots())
    b.run(20000)
    start = sum(b.storage.writes)
    assert start == 1  # the number of this start
    for _ in range(40):
        b.event()
        b.run(90000, closed=True, every=1000)
    assert sum(b.storage.writes) - start == 4  # in an hour
    b.store.frame(1, 1, Picture(_picture(100)), 100)
    b.run(905000, closed=True, every=1000)
    b.run(2000)
    assert not b.store.frame_pending or sum(b.storage.writes) - start == 5
    b.run(12000)
    assert not b.store.frame_pending


def test_never_while_closed():
    b = Bench(Slots(), store='store_period = "0 ms"')
    b.run(20000)
    assert sum(b.storage.writes) == 1
    b.event()
    b.run(4000000, closed=True, every=1000)
    assert sum(b.storage.writes) == 1
    b.run(1200)
    assert sum(b.storage.writes) == 2


def test_after_days_in_which_nothing_was_written():
    for days in (3.2, 5.9):
        b = Bench(Slots(), store='store_period = "0 ms"')
        b.run(20000)
        b.event()
        b.run(int(days * 86400000), closed=True, every=3600000)
        assert sum(b.storage.writes) == 1
        b.run(1200)
        assert sum(b.storage.writes) == 2, days


def test_soon_after_opening():
    b = Bench(Slots())
    b.run(20000)
    b.run(60000, closed=True)
    b.store.totals[totals.SOC] = 500
    was = sum(b.storage.writes)
    b.run(900)
    assert sum(b.storage.writes) == was
    b.run(300)
    assert sum(b.storage.writes) == was + 1
    b.again()
    assert b.store.totals[totals.SOC] == 500


def test_chatter_does_not_wear():
    b = Bench(Slots())
    for _ in range(600):
        b.event()
        b.run(100)
    assert sum(b.storage.writes) <= 6


def test_one_write_a_step():
    b = Bench(Slots(), store='store_soon = "0 ms"; store_rest = "0 ms"')
    b.run(100)
    for _ in range(50):
        b.event()
        b.store.frame(1, 1, Picture(_picture(1500)), 1500)
        was = sum(b.storage.writes)
        b.run(100)
        assert sum(b.storage.writes) - was <= 1


def test_wear_is_spread():
    b = Bench(Slots(8, 2048))
    # two months: a record every 15 min, a frame every other day, a start every ten
    for day in range(60):
        for _ in range(96):
            b.save()
        if day % 2:
            b.event()
            b.store.frame(1, 1, Picture(_picture(10)), 10)
            _parts(b)
        if day % 10 == 0:
            b.again()
    for name, writes in (("records", b.storage.writes[:4]), ("frames", b.storage.writes[4:])):
        mean = sum(writes) / len(writes)
        print(name, "writes per slot:", writes, "max/mean: %.3f" % (max(writes) / mean))
        assert max(writes) <= 1.1 * mean


def test_the_same_crash_in_a_loop_is_written_once():
    b = Bench(Slots())
    for i in range(20):
        b.again()
        b.store.crash(b"ValueError: broken")
    assert sum(b.storage.writes) == 1
    b.again()
    t = b.store.totals
    assert (
        bytes(b.store.raw[totals.CRASH * 4 : totals.CRASH * 4 + t[totals.CRASH_N]])
        == b"ValueError: broken"
    )
    b.store.crash(b'a "quoted" \\ text\n')
    assert bytes(b.store.raw[totals.CRASH * 4 : totals.CRASH * 4 + 17]) == b"a ?quoted? ? text"
    b.again()
    b.store.crash(b"x" * 500)
    assert sum(b.storage.writes) == 3
    b.run(70000)
    was = sum(b.storage.writes)
    b.store.crash(b"x" * 500)
    assert sum(b.storage.writes) == was + 1
    b.again()
    assert b.store.totals[totals.CRASH_N] == totals.CRASH_BYTES
    assert b.store.totals[totals.CRASHES] == 4


# --- damage ---


def test_one_bit_anywhere_and_the_record_before_counts():
    b = Bench(Slots(3, totals.BYTES))
    for soc in (1, 2, 3):
        b.store.totals[totals.SOC] = soc
        b.save()
    good = list(b.storage.content)
    newest = b.store._at
    for bit in range(0, totals.BYTES * 8, 11):
        b.storage.content = list(good)
        b.storage.flip(newest, bit)
        b.again()
        assert b.store.totals[totals.SOC] == 2, bit


def test_without_a_valid_record_it_starts_with_zeros_and_reports_it():
    b = Bench(Slots(3, totals.BYTES))
    for _ in range(5):
        b.save()
    for slot in range(3):
        b.storage.flip(slot, 77)
    b.again()
    assert b.store.lost
    assert b.store.totals[totals.BOOT] == 1
    assert b.save()
    b.again()
    assert not b.store.lost and b.store.totals[totals.BOOT] == 2


def test_a_slot_that_cannot_be_read():
    for error in (OSError(5), MemoryError()):  # neither ends the program
        b = Bench(Slots())
        b.storage.error = error
        for soc in (1, 2, 3):
            b.store.totals[totals.SOC] = soc
            b.save()
        b.storage.unreadable = (b.store._at, 6)
        b.again()
        assert b.store.totals[totals.SOC] == 2
        assert b.store.failed == 3  # a frame's slot is looked at twice
        b.storage.unreadable = range(8)
        b.again()
        assert b.store.lost
        b.run(30000)


def test_writes_that_fail_are_counted_and_tried_again():
    for error in (OSError(5), MemoryError()):  # neither ends the program
        storage = Slots()
        storage.error = error
        b = Bench(storage)
        b.save()
        newest = b.store._newest
        b.event()
        storage.broken = 10
        b.run(650000)
        assert b.store.failed == 10
        assert storage.writes[newest] == 1  # what is whole is never in danger
        b.run(60000)
        b.again()
        assert len(b.events()) == 1


def test_writes_that_fail_leave_the_newest_record():
    storage = Slots()
    b = Bench(storage)
    b.store.totals[totals.SOC] = 77
    b.save()
    for _ in range(12):  # each leaves its slot torn
        storage.broken = 1
        assert not b.save()
    b.again()
    assert b.store.totals[totals.SOC] == 77 and not b.store.lost


def test_a_frame_that_cannot_be_written_is_given_up():
    storage = Slots()
    b = Bench(storage)
    b.run(20000)
    old = _picture(1500)
    b.store.frame(1, 1, Picture(old), 1500)
    b.run(60000)
    b.store.frame(1, 1, Picture(_picture(1900, 5)), 1900)
    while b.store._part == 0:
        b.run(100)
    storage.broken = 3
    b.run(300000)
    assert not b.store.frame_pending and b.store.cut == 1
    assert b.frames() == {1: old}
    b.store.frame(1, 1, Picture(_picture(1900, 6)), 1900)
    b.run(60000)
    assert b.frames() == {1: old, 3: _picture(1900, 6)}


# --- the heap ---


def test_it_allocates_nothing():
    storage = Slots()
    b = Bench(storage)
    s = b.store
    source = Picture(_picture(1500))
    hal = b.hal
    clock = b.clock
    storage.locked = True
    gc.collect()
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        for i in range(3000):
            hal.pass_ms(100)
            now = clock.tick()
            s.step(now, i % 3 == 0, 500 < i < 800)
            s.add(totals.ENERGY_IN, 72000000, 3600000)
            if i % 50 == 0:
                s.event(SET, 3, 2, 7, 3651, clock.uptime_s, clock.uptime_ms)
            if i % 600 == 0:
                s.frame(3, 7, source, 1500)
    finally:
        if LOCKS:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    assert s.written > 20
    assert min(storage.writes) > 0
    assert s.cut == 0


def test_this_test_can_fail():
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
        try:
            raises(MemoryError, _allocate)
        finally:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]


def _allocate():
    return [1, 2, 3]
