"""What was stored comes back over the serial port, whole, and stands in no way of anything."""

import os
from binascii import unhexlify

import micropython

from bms.console.line_kinds import KINDS
from bms.contactors.sequence import CLOSED
from bms.energy import totals as S
from bms.protection import fault_ids as F
from fake_storage import Slots
from fakes import Rig, crc16, pack_lines
from scratch import unique

PATH = unique("test_history.toml")
LOCKS = hasattr(micropython, "heap_lock")
QUICK = 'store_soon = "100 ms"; store_rest = "100 ms"'
PACK = ("\n".join(pack_lines()) + '\n# \u00e4 "quoted" \\\n' + "# more\n" * 200).encode()


def _rig(storage=None, path="", store="", **tables):
    """A master with a storage, all slaves known."""
    r = Rig(storage=storage, path=path, store=store or QUICK, **tables)
    r.run(1500)
    return r


def _close(r):
    assert r.say("close")["ok"]
    r.run(1500)
    assert r.state == CLOSED


def _commanded(r, word, ms=4000):
    """The lines of a word, their keys checked; the last one counts them."""
    keys = {}
    for kind, names, _ in KINDS:
        keys[kind] = ["k", "t_ms"] + names.split() + ["crc"]
    r.lines()
    r.type(word)
    r.run(ms)
    lines = r.lines()
    for line in lines:
        assert sorted(line) == sorted(keys[line["k"]]), line
    kinds = ("totals", "crash", "stored_event", "frame_part", "pack_part", "stored_end")
    lines = [line for line in lines if line["k"] in kinds]
    assert lines[-1]["k"] == "stored_end" and lines[-1]["what"] == word
    assert lines[-1]["lines"] == len(lines) - 1
    return lines[:-1]


def _bytes(lines):
    data = b""
    for line in lines:
        assert line["at"] == len(data)
        data += unhexlify(line["hex"])
    return data


def test_history_over_several_starts():
    storage = Slots()
    r = _rig(storage)
    _close(r)
    r.run(30000)
    r.boards[0].mv[1] = 3800
    r.run(1000)
    r.boards[0].mv[1] = 3300
    r.run(1000)
    assert r.say("clear")["ok"]
    r.run(1000)
    r.master.store.totals[S.SOC] = 712
    r.master.store.crash(b"ValueError: x")
    r = _rig(storage)
    lines = _commanded(r, "history")
    totals = lines[0]
    assert totals["k"] == "totals" and totals["boot"] == 2
    assert totals["closings"] == [1] and totals["soc_pm"] == [711]
    assert 30 <= totals["operation_s"] <= 40 and totals["closed_s"] >= 29
    assert totals["crashes"] == 1 and totals["loaded_openings"] == [0]
    assert (lines[1]["k"], lines[1]["boot"], lines[1]["text"]) == ("crash", 1, "ValueError: x")
    events = [(x["what"], x["name"], x["index"], x["value"], x["boot"]) for x in lines[2:]]
    hard = [x for x in events if x[1] == "cell_hard_high"]
    assert hard == [
        ("set", "cell_hard_high", 2, 3800, 1),
        ("acknowledged", "cell_hard_high", 2, 3800, 1),
    ]
    assert lines[2]["string"] == 1 and lines[2]["place"] == "cell"


def test_a_frame_of_the_trip():
    storage = Slots(12)
    r = _rig(storage)
    _close(r)
    r.boards[1].mv[2] = 3790
    r.run(3000)
    assert r.master.freeze_frame.ready
    r.run(3000)
    assert not r.master.store.frame_pending and r.master.store.frames == 1
    whole = bytearray(r.master.freeze_frame.bytes)
    r.master.freeze_frame.fill(whole, 0, len(whole))
    boots = (r, _rig(storage))
    for again in boots:
        lines = _commanded(again, "frames", 8000)
        data = b""
        for part in range(lines[0]["parts"]):
            data += _bytes([x for x in lines if x["part"] == part])
        assert data == whole
        assert lines[0]["code"] == 1 and lines[0]["index"] == 7 and lines[0]["boot"] == 1
    # one frame a trip
    r.run(20000)
    assert r.master.store.frames == 1
    r.boards[1].mv[2] = 3300
    r.run(6000)
    assert r.say("clear")["ok"]
    r.run(3000)
    r.boards[0].mv[2] = 3790
    r.run(9000)
    assert r.master.store.frames == 2


def test_the_pack_file():
    with open(PATH, "wb") as f:
        f.write(PACK)
    r = _rig(path=PATH)
    try:
        data = _bytes(_commanded(r, "pack"))
        assert data == PACK
        assert _bytes(_commanded(r, "pack")) == PACK  # once more
        assert crc16(data) == crc16(PACK)
        r.type("pack")
        r.type("history")
        r.run(60)
        answers = r.lines("answer")
        assert [x["ok"] for x in answers] == [True, False]
        assert "busy" in answers[1]["text"]
    finally:
        r.master.history.close()
        os.remove(PATH)


def test_no_pack_file():
    for path in ("", "no such file"):
        assert not _rig(path=path).say("pack")["ok"]


def test_nobody_reads():
    r = _rig(Slots())
    r.board.console.room = 0
    r.board.console.give(b"history\n")
    r.master.tx_buffer._ready = 2000
    for _ in range(600):
        r.master.step()
        r.board.wait(10)
    assert r.master.history.job == 0
    assert not r.master.store.reader_active


def test_status_and_answers_come_between():
    r = _rig(Slots())
    for i in range(60):
        r.master.faults.set(5, 0, i)
        r.master.faults.clear(5, 0)
        r.run(60)
    r.lines()
    r.type("history")
    r.run(40)
    r.type("status")
    r.run(4000)
    kinds = [x["k"] for x in r.lines()]
    assert kinds.count("stored_event") == S.KEPT
    first, last = kinds.index("stored_event"), len(kinds) - kinds[::-1].index("stored_event")
    assert "status" in kinds[first:last]


def test_it_writes_only_in_calm_moments():
    storage = Slots()
    r = _rig(storage, limits='cell_delay = "3 s"')
    r.run(2000)
    moments = []
    m = r.master

    def write(slot, buf, n):
        moments.append(
            (m.strings.energised(), m.limits.within_bounds(0), m.limits.evaluating, m.strings.state)
        )
        Slots.write(storage, slot, buf, n)

    storage.write = write
    r.type("close")
    r.run(1200)
    closing = [x for x in moments if x[0] and x[3] != CLOSED]
    assert not closing
    m.store._period = 1000
    r.run(5000)
    assert len(moments) >= 4
    for energised, calm, evaluating, state in moments:
        assert not energised or (calm and not evaluating and state == CLOSED)
    # a cell out of its bound, not for long enough yet: nothing is written
    r.boards[0].mv[0] = 3700
    r.run(300)
    was = len(moments)
    r.run(2000)
    assert r.state == CLOSED and len(moments) == was


def test_a_string_that_left_holds_up_no_writing():
    storage = Slots()
    r = _rig(storage, slaves=3, parallel=3)
    r.run(2000)
    r.type("close")
    r.run(4000)
    m = r.master
    m.store._period = 1000
    assert m.strings.count_closed == 3
    m.faults.set(F.CELL_HIGH, 4, 3700)
    was = m.store.written
    r.run(5000)
    assert m.strings.count_closed == 2
    assert m.store.written >= was + 3


def test_nothing_is_written_while_loops_are_guarded():
    for more, writes in (("", False), ("; store_while_closed = true", True)):
        storage = Slots()
        r = _rig(storage, inputs="interlock = true", store='store_period = "1 s"' + more)
        r.run(3000)
        r.type("close")
        r.run(3000)
        assert r.state == CLOSED
        was = r.master.store.written
        r.run(5000)
        assert (r.master.store.written > was) == writes
        r.type("open")
        r.run(3000)
        assert r.master.store.written > was  # open: at once


def test_a_storage_that_fails_is_said_and_survived():
    storage = Slots()
    r = _rig(storage)
    storage.broken = 2
    r.master.faults.set(5, 0, 1)
    r.run(5000)
    assert "store_failed" in r.names()
    r.run(130000)
    assert "store_failed" not in r.names()
    assert r.master.store.failed == 2


def test_lost_is_said():
    storage = Slots()
    _rig(storage)
    for slot in range(8):
        if storage.content[slot]:
            storage.flip(slot, 3)
    r = _rig(storage)
    assert "store_lost" in r.names()
    assert r.master.faults.trips == 0


def test_files_are_left_alone_while_closed_where_the_heap_is_short():
    r = _rig(Slots())
    _close(r)
    r.board.HEAP_IS_CHEAP = False
    assert "only while" in r.say("pack")["text"]
    assert not r.say("frames")["ok"]
    assert r.say("history")["ok"]
    r.board.HEAP_IS_CHEAP = True
    r.run(3000)
    assert r.say("frames")["ok"]
