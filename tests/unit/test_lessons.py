"""Faults that other masters have: none of them here, on one string and on three in parallel.

Each test is named after its line of the list of lessons and fails where the code is bent that way.
"""

from bms.contactors import sequence as C
from bms.contactors.sequence import MINUS, PLUS, PRECHARGE
from bms.energy.balancing import Balancing
from bms.pack import BALANCING, FRESH
from bms.protection import fault_ids as F
from fakes import Bench, Parts, Rig

STRINGS = (1, 3)


def _parts(parallel, **tables):
    p = Parts(slaves=parallel, parallel=parallel, **tables).ready()
    p.board.pack_mv = 4 * 3300
    return p


def _rig(parallel, **tables):
    r = Rig(slaves=parallel, parallel=parallel, **tables)
    r.run(1500)
    return r


def _closed(parallel, **tables):
    r = _rig(parallel, **tables)
    assert r.say("close")["ok"] is True
    r.run(4000)
    assert r.master.strings.count_closed == parallel
    return r


def _set(values, value):
    values[0] = value


def test_01_a_cell_far_from_the_average_is_evaluated_all_the_same():
    for parallel in STRINGS:
        for mv, name in ((3700, "cell_high"), (2400, "cell_low")):
            p = _parts(parallel)
            p.mv = [2600 if mv > 3000 else 3500] * len(p.mv)
            p.mv[-2] = mv
            for _ in range(15):
                p.scan()
            assert name in p.trips(), (parallel, mv)
            assert p.faults.blocking(parallel - 1)
        p = _parts(parallel)
        p.mv = [2600] * len(p.mv)
        p.limits.hard_cell(len(p.mv) - 2, 3800)
        assert p.trips() == ["cell_hard_high"]


def test_02_a_stale_reading_counts_once_and_its_age_trips():
    for parallel in STRINGS:
        p = _parts(parallel, limits='cell_age = "30 s"')
        p.mv[-1] = 3700
        p.scan()
        p.mv = [None] * len(p.mv)
        for _ in range(100):
            p.scan()
        assert p.trips() == []
        p = _parts(parallel)
        p.mv[-1] = None
        for _ in range(7):
            p.scan()
        assert p.faults.first == F.CELL_LOST
        assert p.faults.blocking(parallel - 1)


def test_03_one_good_sample_forgives_nothing():
    for parallel in STRINGS:
        p = _parts(parallel)
        for i in range(40):
            p.mv[-1] = 3500 if i % 4 == 3 else 3700
            p.scan()
        assert "cell_high" in p.trips()
        # and a cause that stands is not gone with one
        slot = p.faults.slot(F.CELL_HIGH, parallel - 1)
        p.mv[-1] = 3500
        p.scan()
        assert p.faults.active[slot]


def test_04_an_invalid_reading_is_neither_high_nor_low():
    for parallel in STRINGS:
        for bad in (None, 8191):  # 8191 is what the frame says for none
            r = _closed(parallel)
            r.boards[-1].mv[1] = 3740  # over the bound, under the hard one
            r.run(600)
            r.boards[-1].mv[1] = bad
            r.run(350)
            # neither a zero cell nor a cell that is well again
            assert "cell_low" not in r.trips() and "cell_hard_low" not in r.trips()
            r.boards[-1].mv[1] = 3740
            r.run(900)
            assert "cell_high" in r.trips(), parallel
        r = _closed(parallel)
        r.boards[0].mv[1] = None
        r.run(700)
        assert r.master.faults.first == F.CELL_LOST


def test_05_the_smallest_configuration_protects():
    for parallel in STRINGS:
        for change, name in (
            (lambda r: _set(r.boards[-1].mv, 3800), "cell_hard_high"),
            (lambda r: _set(r.boards[-1].mv, 3670), "cell_high"),
            (lambda r: _set(r.boards[-1].mv, 2450), "cell_low"),
            (lambda r: _set(r.boards[-1].dc, 620), "temp_high"),
            (lambda r: setattr(r.boards[-1], "alive", False), "cell_lost"),
            (lambda r: setattr(r.board, "ma", -250000), "discharge_current"),
            (lambda r: setattr(r.board, "ma", None), "current_lost"),
        ):
            r = _closed(parallel)
            change(r)
            r.run(2000)
            assert name in r.trips(), (parallel, name, r.trips())
            assert r.board.coils[3 * parallel - 1] == 0


def test_06_joining_evaluates_faults_in_every_state_and_takes_the_nearest():
    for state in (C.CLOSING_MINUS, C.PRECHARGING, C.CLOSING_PLUS):
        for parallel in STRINGS:
            p = _parts(parallel)
            last = p.strings.each[-1]
            p.strings.close(p.now)
            for _ in range(1000):
                p.step()
                if last.state == state:
                    break
            p.faults.set(F.CELL_LOST, len(p.mv) - 1, 0)
            assert p.board.coils[3 * parallel - 3 : 3 * parallel] == [0, 0, 0]
            assert p.strings.count_closed == parallel - 1
    # the third is nearer than the second
    p = _parts(3)
    p.mv = [3300] * 4 + [3120] * 4 + [3250] * 4
    p.strings.close(p.now)
    order = []
    for _ in range(2000):
        p.step()
        for c in p.strings.each:
            if c.state == C.CLOSING_MINUS and c.string not in order:
                order.append(c.string)
    assert order == [0, 2, 1]


def test_06_every_wait_has_an_end():
    # nothing ever answers as it should: no state is for ever
    for parallel in STRINGS:
        for link, contacts in ((0, None), (0, 0), (0, 1), (10**6, None)):
            p = _parts(parallel, strings='join_wait = "10 s"')
            p.board.link = link
            if contacts is not None:
                p.board.stuck = [contacts] * 9
            p.strings.close(p.now)
            p.steps(90000)
            for c in p.strings.each:
                assert c.state in (C.OPEN, C.CLOSED), (parallel, link, contacts)


def test_07_opening_waits_for_no_feedback_and_for_the_fuse_each_time():
    for parallel in STRINGS:
        fuse = 'breaking_current = "300 A"; fuse_wait = "400 ms"; reclose = "0 ms"'
        p = _parts(parallel, contactors=fuse)
        for _ in range(3):
            p.strings.close(p.now)
            p.steps(4000)
            assert p.strings.count_closed == parallel
            p.board.ma = -350000
            p.step()
            p.board.stuck = [1] * 9  # their feedback stays closed
            p.faults.set(F.SELF_TEST, -1, 0)
            assert p.board.coils[PLUS] == 1000
            p.steps(420)
            assert p.board.coils == [0] * 9
            p.board.stuck = [None] * 9
            p.board.ma = 0
            p.steps(500)
            p.faults.clear(F.SELF_TEST)
            p.faults.acknowledge()
            p.steps(100)


def test_08_each_sense_wire_broken_one_by_one_is_found():
    for parallel in STRINGS:
        for slave in range(parallel):
            for wire in range(3):
                p = _parts(parallel)
                i = 4 * slave + wire
                p.mv[i] += 400
                p.mv[i + 1] -= 400
                for _ in range(3):
                    p.scan()
                assert p.trips() == ["open_wire"]
                assert p.faults.place[p.faults.first_slot] == i


def test_09_balancing_is_in_millivolts():
    for parallel in STRINGS:
        p = _parts(parallel, balancing='balance_start = "10 mV"; balance_floor = "3.350 V"')
        b = Balancing(p.config, p.pack, p.faults, p.now)
        for i in range(parallel):
            p.pack.stack_ok[i] = 1
            p.pack.die_dc[i] = 250
        for high, low, mask in (
            (3400, 3391, 0),
            (3401, 3391, 2),
            (3349, 3300, 0),
            (3350, 3300, 2),
        ):
            b.stop()
            p.mv = [low] * len(p.mv)
            p.mv[-3] = high
            for _ in range(500):
                p.pass_ms(10)
                p.read()
                p.pack.update()
                b.step(p.now)
            assert p.pack.balance_mask[2 * parallel - 2] == mask, (parallel, high, low)


def test_10_temperatures_beyond_eight_bits_and_open_sensors():
    for parallel in STRINGS:
        r = _closed(parallel)
        r.boards[-1].dc[1] = 1300  # 130 degC
        r.run(150)
        assert r.trips() == ["temp_hard_high"]
        assert r.master.faults.value[r.master.faults.first_slot] == 1300
        r = _closed(parallel)
        r.boards[-1].dc[1] = None
        r.run(6000)
        assert "temp_lost" in r.trips()
        # the board's own sensor is open, and reads -40: it must not balance
        r = _rig(parallel)
        r.boards[-1].mv[0] = 3450
        r.run(6000)
        assert r.master.balancing.cells == 1
        r.boards[-1].die_c = -40
        r.run(6000)
        assert r.master.balancing.cells == 0


def test_11_the_last_slave_is_read_at_any_count():
    for n in (1, 2, 15, 16, 17, 31, 32, 47, 48, 61, 62):
        for parallel in STRINGS:
            count = n - n % parallel
            if not count:
                continue
            b = Bench(slaves=count, parallel=parallel, cells=1, temps=1).greet()
            b.boards[-1].mv[0] = 3800
            b.scan()
            assert b.faults.first == F.CELL_HARD_HIGH, count
            assert b.faults.place[b.faults.first_slot] == count - 1


def test_12_balancing_is_marked_and_its_loss_is_a_fault():
    for parallel in STRINGS:
        r = _closed(parallel)
        r.boards[-1].mv[0] = 3450
        r.run(5000)
        pack = r.master.pack
        assert r.master.balancing.cells == 1
        last = pack.first_cell[parallel - 1]
        assert pack.cell_flags[last] & BALANCING and pack.cell_flags[last] & FRESH
        scans = r.boards[-1].scans
        r.run(2000)
        assert r.boards[-1].scans >= scans + 18  # polling goes on
        r.boards[-1].alive = False
        r.run(700)
        assert r.master.faults.first == F.CELL_LOST
        assert r.master.balancing.cells == 0
        assert r.board.coils[3 * parallel - 1] == 0


def test_13_a_port_that_nobody_reads_delays_no_trip():
    for parallel in STRINGS:
        took = []
        for deaf in (False, True):
            r = _closed(parallel)
            if deaf:
                r.board.console.room = 0
            for _ in range(40):
                r.type("config")
                r.type("nonsense" * 40)
            r.run(300)
            r.boards[-1].mv[0] = 3800
            steps = 0
            while r.board.coils[3 * parallel - 1]:
                r.step()
                steps += 1
            took.append(steps)
        assert took[1] <= took[0] + 5


def test_14_the_watchdog_is_not_fed_for_a_stage_that_hangs():
    for parallel in STRINGS:
        for part, name in (
            ("master", "_evaluate"),
            ("master", "_act"),
            ("master", "_report"),
            ("master", "_scan"),
        ):
            r = _closed(parallel)
            fed = len(r.board.feeds)
            r.run(500)
            assert len(r.board.feeds) > fed + 4
            board = r.board
            setattr(getattr(r, part), name, lambda *_, board=board: board.clock.pass_ms(1))
            r.run(120)
            fed = len(r.board.feeds)
            r.run(2000)
            assert len(r.board.feeds) <= fed + 1, name


def test_15_nothing_closes_before_all_slaves_answered_and_precharge_ends():
    for parallel in STRINGS:
        r = Rig(slaves=2 * parallel, parallel=parallel)
        for board in r.boards[1::2]:
            board.alive = False
        r.run(3000)
        assert r.say("close")["ok"] is False
        assert r.board.history == []
        for at in range(0, 1500, 130):
            p = _parts(parallel)
            p.strings.close(p.now)
            p.steps(at)
            p.strings.open(p.now)
            p.steps(50)
            for s in range(parallel):
                assert p.board.coils[3 * s + PRECHARGE] == 0
        p = _parts(parallel)
        p.board.link = 0  # never precharged
        p.strings.close(p.now)
        p.steps(60000)
        assert p.board.coils == [0] * 9
        assert not [x for x in p.board.history if x[1] % 3 == PLUS]


def test_16_a_false_weld_alarm_can_be_acknowledged_and_says_what_it_saw():
    for parallel in STRINGS:
        r = _rig(parallel)
        which = 3 * parallel - 3 + MINUS
        r.board.stuck[which] = 1
        r.run(1000)
        event = [x for x in r.lines("event") if x["name"] == "contactor_welded"][0]
        assert (event["place"], event["index"], event["what"]) == ("contactor", which + 1, "set")
        assert event["value"] == 300  # ms that the feedback differed
        assert r.say("clear")["ok"] is False
        assert r.say("clear welded")["ok"] is True
        r.run(200)
        ignored = [x for x in r.lines("event") if x["name"] == "feedback_ignored"]
        assert ignored or "feedback_ignored" in r.names()
        assert r.say("close")["ok"] is True
        r.run(5000)
        assert r.master.strings.count_closed == parallel
