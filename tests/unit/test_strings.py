"""Parallel strings: who closes first, who joins when, what leaves alone, what opens all."""

from bms.contactors import sequence as C
from bms.protection import fault_ids as F
from fakes import Parts

LINK = 13200


def _three(mv=(3300, 3300, 3300), slaves=3, **tables):
    """Three strings of four cells each, ready; the link follows what is closed."""
    p = Parts(slaves=slaves, parallel=3, **tables)
    per = len(p.mv) // 3
    for s in range(3):
        for i in range(per):
            p.mv[s * per + i] = mv[s]
    p.board.pack_mv = per * max(mv)
    return p.ready()


def _closed(p):
    return [c.state == C.CLOSED for c in p.strings.each]


def _until_closed(p, most=10000):
    p.steps(most)
    return p


def test_all_join_one_behind_the_other():
    p = _three()
    assert p.strings.close(p.now) is None
    _until_closed(p, 3000)
    assert _closed(p) == [True] * 3
    assert p.strings.count_closed == 3
    plus = [(ms, which) for ms, which, pm in p.board.history if which % 3 == 2 and pm]
    assert [which for _, which in plus] == [2, 5, 8]
    assert plus[0][0] < plus[1][0] < plus[2][0]
    # precharge is off everywhere
    assert [p.board.coils[3 * s + C.PRECHARGE] for s in range(3)] == [0] * 3


def test_never_two_sequences_at_once():
    p = _three()
    p.strings.close(p.now)
    for _ in range(400):
        p.step()
        closing = [c for c in p.strings.each if c.closing()]
        assert len(closing) <= 1


def test_the_first_gives_most_and_with_a_charger_takes_most():
    for charger, first in ((False, 1), (True, 2)):
        p = _three(mv=(3300, 3310, 3290))
        p.strings.charger = charger
        p.strings.close(p.now)
        p.step()
        assert p.strings.each[first].state == C.CLOSING_MINUS
        assert [c.state for c in p.strings.each].count(C.OPEN) == 2


def test_a_string_joins_only_within_the_difference():
    # string 3 is 4 x 300 mV below: further than join_voltage
    p = _three(mv=(3300, 3300, 3000), strings='join_wait = "20 s"')
    p.strings.close(p.now)
    p.steps(5000)
    assert _closed(p) == [True, True, False]
    assert p.board.coils[6:] == [0, 0, 0]
    for i in range(8, 12):
        p.mv[i] = 3060  # 960 mV apart
    p.steps(2000)
    assert _closed(p) == [True] * 3


def test_a_string_that_stays_apart_is_given_up_and_said():
    p = _three(mv=(3300, 3300, 3000), strings='join_wait = "5 s"')
    p.strings.close(p.now)
    p.steps(12000)
    assert _closed(p) == [True, True, False]
    i = p.faults.slot(F.STRING_NOT_JOINED, 2)
    assert (p.faults.count[i], p.faults.value[i]) == (1, 1200)
    for i in range(8, 12):
        p.mv[i] = 3300
    p.steps(3000)
    assert _closed(p) == [True, True, False]  # a person has to ask again
    assert p.strings.close(p.now) is None
    p.steps(3000)
    assert _closed(p) == [True] * 3


def test_nothing_joins_above_the_current():
    p = _three(strings='join_current = "20 A"')
    p.strings.close(p.now)
    p.board.string_ma[0] = -21000
    p.steps(3000)
    assert p.strings.count_closed == 1
    p.board.string_ma[0] = -19000
    p.steps(3000)
    assert p.strings.count_closed == 3


def test_a_string_with_a_fault_leaves_alone():
    p = _three()
    p.strings.close(p.now)
    _until_closed(p, 3000)
    p.faults.set(F.CELL_HIGH, 5, 3700)  # a cell of string 2
    assert p.board.coils == [1000, 0, 1000, 0, 0, 0, 1000, 0, 1000]
    p.steps(5000)
    assert _closed(p) == [True, False, True]
    assert (p.faults.blocking(0), p.faults.blocking(1), p.faults.blocking(2)) == (0, 1, 0)
    # it does not come back by itself
    p.faults.clear(F.CELL_HIGH, 5)
    p.faults.acknowledge()
    p.steps(5000)
    assert _closed(p) == [True, False, True]
    assert p.strings.close(p.now) is None
    p.steps(3000)
    assert _closed(p) == [True] * 3


def test_a_fault_of_the_pack_opens_all():
    p = _three()
    p.strings.close(p.now)
    _until_closed(p, 3000)
    p.faults.set(F.EMERGENCY_STOP, -1, 0)
    assert p.board.coils == [0] * 9
    assert [p.faults.blocking(s) for s in range(3)] == [1, 1, 1]
    assert p.strings.close(p.now) is not None


def test_the_same_fault_in_two_strings_is_two():
    p = _three()
    p.faults.set(F.CELL_HIGH, 1, 3700)
    p.faults.set(F.CELL_HIGH, 9, 3710)
    assert p.faults.trips == 2
    p.faults.clear(F.CELL_HIGH, 1)
    assert p.faults.acknowledge() == 1
    assert [p.faults.blocking(s) for s in range(3)] == [0, 0, 1]
    i = p.faults.slot(F.CELL_HIGH, 2)
    assert (p.faults.place[i], p.faults.value[i]) == (9, 3710)


def test_every_string_is_evaluated_for_itself():
    p = _three()
    for s in range(3):
        p.mv[4 * s + 1] = 3700
        for _ in range(13):
            p.scan()
        assert [bool(p.faults.blocking(x)) for x in range(3)] == [x <= s for x in range(3)]
    assert [p.faults.place[p.faults.slot(F.CELL_HIGH, s)] for s in range(3)] == [1, 5, 9]


def test_a_spread_is_that_of_one_string():
    p = _three(mv=(3500, 3300, 3000))
    for _ in range(30):
        p.scan()
    assert p.names() == []


def test_currents_are_evaluated_for_a_string_and_for_all():
    p = _three(limits='pack_discharge_max = "450 A"')
    for _ in range(30):
        for s in range(3):
            p.sample(-160000, 4, s)
    assert p.trips() == ["pack_discharge"]
    p = _three(limits='pack_discharge_max = "700 A"')
    for _ in range(30):
        p.sample(-210000, 4, 1)
        p.sample(-10000, 4, 2)
    assert p.trips() == ["discharge_current"]
    assert p.faults.blocking(1) and not p.faults.blocking(0) and not p.faults.blocking(2)


def test_a_trip_while_joining_leaves_the_others_closed():
    # lesson 6: faults are evaluated in every state of the sequence
    for state in (C.CLOSING_MINUS, C.PRECHARGING, C.CLOSING_PLUS):
        p = _three()
        p.strings.close(p.now)
        while not (p.strings.count_closed == 1 and p.strings.each[1].state == state):
            p.step()
        p.faults.set(F.CELL_LOW, 6, 2400)
        assert p.board.coils[:6] == [1000, 0, 1000, 0, 0, 0]
        p.steps(4000)
        assert _closed(p) == [True, False, True]


def test_open_opens_every_string_and_nothing_joins_later():
    p = _three()
    p.strings.close(p.now)
    while p.strings.count_closed < 2:
        p.step()
    p.strings.open(p.now)
    p.steps(5000)
    assert p.board.coils == [0] * 9
    assert p.strings.count_closed == 0


def test_why_none_may_close():
    p = _three()
    p.faults.set(F.EMERGENCY_STOP, -1, 0)
    assert b"latched" in (p.strings.close(p.now) or b"")
    p = _three()
    p.faults.set(F.CELL_HIGH, 0, 3700)
    assert p.strings.close(p.now) is None  # the other two may
    assert b"latched" in (p.strings.left_out or b"")
    p.steps(3000)
    assert _closed(p) == [False, True, True]


# --- who holds the link is taken from what is, not from what was commanded ---


def _welded(p, string):
    for which in (C.MINUS, C.PLUS):
        p.board.stuck[3 * string + which] = 1


def _closings(p):
    return [c.closings for c in p.strings.each]


def test_no_string_closes_as_the_first_onto_one_that_is_welded():
    # string 1 welds as it opens; the others are 4 V apart
    p = _three(mv=(3300, 2300, 2300))
    for s in (1, 2):
        p.pack.known[s] = 0
    assert p.strings.close(p.now) is None
    p.steps(2000)
    assert _closed(p) == [True, False, False]
    _welded(p, 0)
    p.strings.open(p.now)
    p.steps(3000)
    assert p.trips() == ["contactor_welded"]
    for s in (1, 2):
        p.pack.known[s] = 1
    assert b"welded" in (p.strings.close(p.now) or b"")
    p.board.stuck[C.MINUS] = p.board.stuck[C.PLUS] = 0  # it says open now: the fault is latched
    p.steps(3000)
    assert b"welded" in (p.strings.close(p.now) or b"")
    _welded(p, 0)
    p.mv[0] = None  # its voltage is not known
    p.pack.cell_flags[0] = 0
    p.step()
    assert b"welded" in (p.strings.close(p.now) or b"")
    p.steps(20000)
    assert _closings(p) == [1, 0, 0]
    assert p.board.coils == [0] * 9


def test_a_string_may_join_one_that_is_welded_at_its_own_voltage():
    p = _three()
    p.strings.close(p.now)
    p.steps(3000)
    _welded(p, 0)
    p.strings.open(p.now)
    p.steps(3000)
    assert p.trips() == ["contactor_welded"]
    assert p.strings.close(p.now) is None
    p.steps(4000)
    assert _closed(p) == [False, True, True]


def test_a_string_that_welds_as_it_trips_lets_no_other_begin_in_that_tick():
    p = _three(mv=(3300, 2700, 2700), strings='join_wait = "20 s"')
    p.strings.close(p.now)
    p.steps(3000)
    assert _closed(p) == [True, False, False]  # the others wait to join
    _welded(p, 0)
    p.faults.set(F.CELL_HIGH, 1, 3700)
    before = len(p.board.history)
    p.steps(30000)
    assert _closings(p) == [1, 0, 0]
    # not a coil goes on, not even before the weld is evaluated
    assert not any(pm for _ms, _which, pm in p.board.history[before:])


def test_nobody_begins_while_another_one_waits_for_its_fuse_or_opens_in_steps():
    for contactors, ma in (
        ('breaking_current = "100 A"; fuse_wait = "2 s"', -200000),
        ('opening_gap = "1 s"', 0),
    ):
        p = _three(mv=(3300, 2700, 2700), contactors=contactors, strings='join_wait = "20 s"')
        p.strings.close(p.now)
        p.steps(3000)
        p.board.string_ma[0] = ma
        p.step()
        p.faults.set(F.CELL_HIGH, 1, 3700)
        for _ in range(2000):
            p.step()
            if p.pack.energised[0]:
                assert not p.pack.energised[1] and not p.pack.energised[2]
        assert p.pack.energised[1] or p.pack.energised[2], contactors  # then it is their turn


def _joining(state, **tables):
    """String 2 joins string 1 and is in a state."""
    p = _three(mv=(3300, 3300, 2000), **tables)
    p.strings.close(p.now)
    for _ in range(1000):
        for s in range(3):  # a precharge current, for a moment
            on = p.board.coils[3 * s + C.PRECHARGE] and p.strings.each[s].state == C.PRECHARGING
            p.board.string_ma[s] = -132 if on and p.strings.count_closed == 0 else 0
            if p.board.history and p.board.clock.total_ms - p.board.history[-1][0] > 100:
                p.board.string_ma[s] = 0
        p.step()
        if p.strings.each[0].state == C.CLOSED and p.strings.each[1].state == state:
            return p
        if p.strings.each[1].state == C.CLOSED and p.strings.each[0].state == state:
            return p
    raise AssertionError("state not reached")


def test_a_string_whose_partner_trips_meanwhile_precharges_the_link_in_full():
    slow = 'precharge_min = "500 ms"; contactor_settle = "300 ms"'
    for link_sensor in (True, False):
        more = "; precharge_tries = 1"
        if not link_sensor:
            more += '; link_sensor = false; precharge_resistor = "100 ohm"'
        p = _joining(C.PRECHARGING, contactors=slow + more)
        joins = [c for c in p.strings.each if c.closing()][0]
        first = [c for c in p.strings.each if c.closed()][0]
        p.board.link = 0  # the link goes down with a load
        p.faults.set(F.CELL_HIGH, 4 * first.string, 3700)
        p.steps(10000)
        assert joins.closings == 0, link_sensor
        assert not p.pack.energised[joins.string]
        expected = "precharge_failed" if link_sensor else "precharge_no_current"
        assert expected in p.trips()


def test_nobody_joins_a_string_that_is_opening():
    p = _joining(C.PRECHARGING, contactors='precharge_min = "500 ms"; open_wait = "20 s"')
    first = [c for c in p.strings.each if c.closed()][0]
    joins = [c for c in p.strings.each if c.closing()][0]
    p.board.string_ma[first.string] = -50000
    p.step()
    first.open(p.now)
    p.steps(1500)
    assert first.state == C.OPEN_REQUESTED
    assert joins.closings == 0


def test_an_incomplete_sum_of_the_others_is_no_sum():
    tables = {
        "contactors": 'precharge_min = "500 ms"; link_sensor = false; precharge_unproven = true'
    }
    p = _joining(C.PRECHARGING, **tables)
    first = [c for c in p.strings.each if c.closed()][0]
    joins = [c for c in p.strings.each if c.closing()][0]
    p.mv[4 * first.string] = None  # a doubled answer: this reading is not fresh
    p.pack.cell_flags[4 * first.string] = 0
    p.steps(1500)
    assert joins.closings == 0


def test_currents_that_circulate_between_strings_do_not_cancel():
    p = _three(mv=(3300, 3300, 3000), strings='join_current = "20 A"; join_wait = "100 s"')
    p.strings.close(p.now)
    p.steps(4000)
    assert _closed(p) == [True, True, False]
    p.board.string_ma = {0: -30000, 1: 30000, 2: 0}
    p.step()
    for i in range(8, 12):
        p.mv[i] = 3300
    p.steps(4000)
    assert _closed(p) == [True, True, False]
    p.board.string_ma = {}
    p.steps(4000)
    assert _closed(p) == [True, True, True]
