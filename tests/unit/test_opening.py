"""Opening under load, on a word, with a fuse; economiser, precharge heat, weld checks."""

from bms.contactors import sequence as C
from bms.contactors.sequence import MINUS, PLUS, PRECHARGE
from bms.protection import fault_ids as F
from extent import extent
from fakes import Parts


def _closed(**tables):
    p = Parts(**tables).ready()
    p.board.pack_mv = sum(p.mv)
    assert p.strings.close(p.now) is None
    p.steps(1500)
    assert p.contactors.state == C.CLOSED
    return p


def test_open_waits_for_the_current_and_not_longer_than_it_may():
    p = _closed()
    p.board.ma = -50000
    p.step()
    p.strings.open(p.now)
    p.step()
    assert p.contactors.state == C.OPEN_REQUESTED
    assert not p.strings.wants_power
    assert p.board.coils[:3] == [1000, 0, 1000]
    p.board.ma = -1500
    p.steps(30)
    assert p.board.coils[:3] == [0, 0, 0]
    assert p.contactors.loaded_openings == 1  # 1.5 A is above the idle current
    p = _closed(contactors='open_wait = "2 s"')
    p.board.ma = -50000
    p.step()
    t = p.board.clock.total_ms
    p.strings.open(p.now)
    p.steps(3000)
    assert p.board.history[-1][0] - t in range(2000, 2021)
    assert p.contactors.loaded_openings == 1


def test_open_without_current_is_at_once():
    p = _closed()
    p.strings.open(p.now)
    assert p.board.coils[:3] == [0, 0, 0]
    assert p.contactors.loaded_openings == 0


def test_a_trip_never_waits_below_the_breaking_current():
    for breaking in ("0 A", "60 A"):
        p = _closed(contactors=f'breaking_current = "{breaking}"')
        p.board.ma = -50000
        p.step()
        p.faults.set(F.CELL_HARD_LOW, 0, 1900)
        assert p.board.coils[:3] == [0, 0, 0]


def test_above_the_breaking_current_a_trip_waits_for_the_fuse_each_time():
    # lesson 7: bounded, and repeatable
    p = _closed(contactors='breaking_current = "300 A"; fuse_wait = "400 ms"; reclose = "0 ms"')
    for _ in range(3):
        p.board.ma = -350000
        p.step()
        t = p.board.clock.total_ms
        p.faults.set(F.CELL_HARD_LOW, 0, 1900)
        assert p.contactors.state == C.FUSE_WAIT
        p.steps(350)
        assert p.board.coils[:3] == [1000, 0, 1000]
        p.steps(100)
        assert p.board.coils[:3] == [0, 0, 0]
        assert 400 <= p.board.history[-1][0] - t <= 420
        p.board.ma = 0
        p.faults.clear(F.CELL_HARD_LOW, 0)
        p.faults.acknowledge()
        p.steps(100)
        assert p.strings.close(p.now) is None
        p.steps(1500)
        assert p.contactors.state == C.CLOSED
    # the fuse blows: no need to wait for the rest
    p.board.ma = -350000
    p.step()
    p.faults.set(F.CELL_HARD_LOW, 0, 1900)
    p.step()
    p.board.ma = 0
    p.step()
    assert p.board.coils[:3] == [0, 0, 0]


def test_an_unknown_current_holds_up_nothing():
    p = _closed(contactors='breaking_current = "300 A"')
    p.board.ma = -350000
    p.step()
    p.board.ma = None
    p.pass_ms(300)
    p.faults.set(F.CURRENT_LOST, 0, 300)
    assert p.board.coils[:3] == [0, 0, 0]


def test_the_first_contactor_to_open_follows_the_current():
    for ma, first, second in ((-50000, PLUS, MINUS), (50000, MINUS, PLUS)):
        p = _closed(contactors='opening_gap = "100 ms"')
        p.board.ma = ma
        p.step()
        p.faults.set(F.CELL_HARD_LOW, 0, 1900)
        assert p.contactors.state == C.OPENING
        p.faults.set(F.CELL_LOST, 0, 0)  # another trip meanwhile changes nothing
        p.steps(150)
        opened = p.board.history[-2:]
        assert [x[1] for x in opened] == [first, second]
        assert 100 <= opened[1][0] - opened[0][0] <= 110


def test_the_economiser_holds_with_less():
    p = _closed(contactors='coil_hold = "25 %"; coil_pull_in = "150 ms"')
    assert p.board.coils[:3] == [250, 0, 250]
    full = [x for x in p.board.history if x[1] == MINUS]
    assert [x[2] for x in full] == [1000, 250]
    assert 150 <= full[1][0] - full[0][0] <= 170
    p.faults.set(F.CELL_LOST, 0, 0)
    assert p.board.coils[:3] == [0, 0, 0]


def test_the_resistor_takes_no_more_than_its_energy():
    # a short behind it: 13 V over 1 ohm are 169 W; 20 J are there after 120 ms
    p = Parts(
        contactors='precharge_resistor = "1 ohm"; precharge_energy = "20 J"; precharge_tries = 1;'
        ' precharge_cool = "10 s"; reclose = "0 ms"'
    ).ready()
    p.board.link = 0
    assert p.strings.close(p.now) is None
    p.steps(1000)
    on, off = [x[0] for x in p.board.history if x[1] == PRECHARGE]
    assert 110 <= off - on <= 140
    assert p.tripped(F.PRECHARGE_FAILED)
    p.faults.acknowledge()
    assert p.strings.close(p.now) == b"the precharge resistor is hot: wait"
    p.steps(6000)
    assert p.strings.close(p.now) is None


def test_a_link_that_rises_with_minus_alone_is_a_weld():
    p = Parts(contactors="contactor_feedback = false").ready()
    p.board.pack_mv = sum(p.mv)
    assert p.strings.close(p.now) is None
    p.step()
    p.board.link = sum(p.mv) // 2  # plus or precharge is welded
    p.steps(400)
    assert p.board.coils[:3] == [0, 0, 0]
    assert p.tripped(F.LINK_RISE)
    assert not [x for x in p.board.history if x[1] == PLUS]


def test_a_false_weld_alarm_can_be_acknowledged():
    # lesson 16: the feedback of a contactor is stuck, a person has looked
    p = Parts().ready()
    p.board.pack_mv = sum(p.mv)
    p.board.stuck[PLUS] = 1
    p.steps(500)
    assert p.tripped(F.CONTACTOR_WELDED)
    assert p.faults.place[F.CONTACTOR_WELDED] == PLUS
    assert p.faults.acknowledge() == 1
    assert p.strings.ignore_feedback()
    assert p.faults.acknowledge() == 0
    assert p.active(F.FEEDBACK_IGNORED)
    assert p.strings.close(p.now) is None
    p.steps(1500)
    assert p.contactors.state == C.CLOSED
    # the other contacts are watched as before
    p.board.stuck[MINUS] = 0
    p.steps(500)
    assert p.tripped(F.CONTACTOR_FEEDBACK)


def test_nothing_is_ignored_where_all_is_well():
    p = _closed()
    assert not p.strings.ignore_feedback()
    assert p.names() == []


def test_the_board_s_own_cut_is_followed():
    p = _closed()
    p.board.ma = -50000
    p.step()
    p.board.guard(7)
    p.board.say(6)
    assert p.board.coils == [0] * 9
    p.strings.cut()
    assert p.contactors.state == C.OPEN
    assert p.contactors.loaded_openings == 1
    # coils stay off until the board is armed again
    p.board.coil(PLUS, 1000)
    assert p.board.coils == [0] * 9


def test_precharge_is_off_on_every_way_out():
    # lesson 15, on one string and on three
    for parallel in (1, 3):
        for way in ("open", "trip", "cut", "lost"):
            for at in range(0, 2200, extent(210, 70)):
                p = Parts(slaves=parallel, parallel=parallel).ready()
                p.board.pack_mv = 4 * 3300
                p.strings.close(p.now)
                p.steps(at)
                if way == "open":
                    p.strings.open(p.now)
                elif way == "trip":
                    p.faults.set(F.SELF_TEST, -1, 0)
                elif way == "cut":
                    p.board.guard(7)
                    p.board.say(5)
                    p.strings.cut()
                else:
                    p.board.stuck[MINUS] = 0
                p.steps(5000)
                for s in range(3):
                    assert p.board.coils[3 * s + PRECHARGE] == 0, (parallel, way, at)


def test_open_does_not_break_more_than_the_contacts_can():
    p = _closed(contactors='breaking_current = "150 A"; open_wait = "500 ms"; fuse_wait = "1 s"')
    p.board.ma = -190000
    p.step()
    p.strings.open(p.now)
    p.steps(600)
    assert p.contactors.state == C.FUSE_WAIT
    assert p.board.coils[:3] == [1000, 0, 1000]
    p.board.ma = -140000
    p.steps(20)
    assert p.board.coils[:3] == [0, 0, 0]


def test_a_second_fault_does_not_prolong_an_opening_in_steps():
    p = _closed(contactors='breaking_current = "150 A"; opening_gap = "50 ms"; fuse_wait = "5 s"')
    p.board.ma = -140000
    p.step()
    p.faults.set(F.CELL_HIGH, 0, 3700)
    assert p.contactors.state == C.OPENING
    p.board.ma = -190000
    p.pass_ms(1)
    p.current.sample(-190000, p.now)
    p.faults.set(F.CELL_HARD_HIGH, 0, 3800)
    assert p.contactors.state == C.OPENING
    p.steps(60)
    assert p.board.coils[:3] == [0, 0, 0]


def test_clear_welded_right_after_opening_does_not_ignore_good_feedback():
    p = _closed()
    p.strings.open(p.now)
    p.board.stuck[PLUS] = 1  # still on its way
    p.step()
    assert not p.strings.ignore_feedback()
    p.board.stuck[PLUS] = None
    p.steps(500)
    assert p.names() == []
    p.board.stuck[PLUS] = p.board.stuck[MINUS] = 1
    p.steps(1000)
    assert p.trips() == ["contactor_welded"]
    assert p.strings.ignore_feedback()
    p.faults.acknowledge()
    p.steps(3000)
    assert p.trips() == []  # both are ignored
