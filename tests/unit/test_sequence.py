"""The contactor sequence: every step at its time, every way out with all coils off."""

from bms.contactors.sequence import (
    CLOSED,
    CLOSING_MINUS,
    CLOSING_PLUS,
    MINUS,
    OPEN,
    PLUS,
    PRECHARGE,
    PRECHARGE_REST,
    PRECHARGING,
)
from bms.protection import fault_ids as F
from extent import extent
from fakes import Parts, warning

WRAP = 1 << 29
# each state long enough to sit in it
SLOW = (
    'contactor_settle = "2 s"; precharge_min = "2 s"; precharge_max = "5 s";'
    ' precharge_rest = "5 s"; feedback_delay = "100 ms"'
)


def _parts(ms=1000, **tables):
    p = Parts(ms=ms, **tables).ready()
    p.board.pack_mv = sum(p.mv)
    return p


def _close(p):
    assert p.strings.close(p.now) is None
    return p


def _to(state, **tables):
    """Parts whose contactors sit in a state."""
    tables.setdefault("contactors", SLOW)
    p = _parts(**tables)
    if state == OPEN:
        return p
    _close(p)
    if state == PRECHARGE_REST:
        p.board.link = 0
    for _ in range(4000):
        if p.contactors.state == state:
            return p
        p.step()
    raise AssertionError("state not reached")


def test_power_on_is_off():
    p = Parts()
    assert p.board.coils[:3] == [0, 0, 0]
    assert p.contactors.state == OPEN
    assert not p.contactors.energised()
    p.steps(1000)
    assert p.board.history == []


def test_the_sequence_and_its_times():
    for start in (1000, WRAP - 250, (1 << 28) - 250):
        p = _close(_parts(ms=start))
        t = p.board.clock.total_ms
        p.steps(1000)
        assert p.board.history == [
            (t, MINUS, 1000),
            (t + 200, PRECHARGE, 1000),
            (t + 400, PLUS, 1000),  # the link is up, the shortest precharge over
            (t + 600, PRECHARGE, 0),
        ]
        assert p.contactors.state == CLOSED
        assert p.contactors.closings == 1
        p.steps(5000)
        assert p.board.coils[:3] == [1000, 0, 1000]
        p.strings.open(p.now)
        assert p.board.coils[:3] == [0, 0, 0]
        assert p.contactors.state == OPEN


def test_closed_for_days_and_wraps():
    p = _to(CLOSED)
    for _ in range(10):
        p.pass_ms(86400000)
        p.step()
        assert p.contactors.state == CLOSED
    p.strings.open(p.now)
    assert p.contactors.refusal(p.now) == b"opened a moment ago: wait"
    for _ in range(10):
        p.pass_ms(86400000)
        p.step()
        assert p.contactors.refusal(p.now) is None


def test_precharge_waits_for_the_voltage():
    p = _close(_parts())
    total = sum(p.mv)
    p.steps(250)
    p.board.link = total * 950 // 1000 - 1
    p.steps(1500)
    assert p.contactors.state == PRECHARGING
    p.board.link = total * 950 // 1000
    p.step()
    assert p.contactors.state == CLOSING_PLUS


def test_precharge_of_a_pack_of_the_largest_size():
    p = _parts(slaves=62, cells=32, temps=0)
    p.mv = [4000] * len(p.mv)
    p.limits._faults = p.faults
    _close(p)
    p.steps(250)
    p.board.link = 4000 * 62 * 32 * 95 // 100 - 1000
    p.steps(1000)
    assert p.contactors.state == PRECHARGING
    p.board.link += 1000
    p.step()
    assert p.contactors.state == CLOSING_PLUS


def test_precharge_needs_every_cell():
    p = _close(_parts())
    p.steps(250)
    p.pack.cell_flags[0] = 0
    p.mv[0] = None
    p.steps(1500)
    assert p.contactors.state == PRECHARGING
    assert p.board.coils[:3] == [1000, 1000, 0]


def test_precharge_without_a_link_sensor_takes_all_its_time():
    p = _close(_parts(contactors="link_sensor = false; precharge_unproven = true"))
    p.board.has_link_sensor = False
    t = p.board.clock.total_ms
    p.steps(4000)
    assert p.board.history[2] == (t + 200 + 2000, PLUS, 1000)
    assert p.contactors.state == CLOSED


def test_precharge_fails_rests_and_gives_up():
    p = _close(_parts())
    p.board.link = 0
    t = p.board.clock.total_ms
    p.steps(20000)
    on = [x for x in p.board.history if x[1] == PRECHARGE]
    first = t + 200
    round_ms = 2000 + 3000 + 200
    assert on == [
        (first, PRECHARGE, 1000),
        (first + 2000, PRECHARGE, 0),
        (first + round_ms, PRECHARGE, 1000),
        (first + round_ms + 2000, PRECHARGE, 0),
        (first + 2 * round_ms, PRECHARGE, 1000),
        (first + 2 * round_ms + 2000, PRECHARGE, 0),
    ]
    assert [x for x in p.board.history if x[1] == PLUS] == []
    assert p.board.coils[:3] == [0, 0, 0]
    assert p.contactors.state == OPEN
    assert p.names() == ["precharge_failed"]
    assert p.strings.close(p.now) == b"a fault is latched: see faults, then clear"
    # a person may try again
    assert p.faults.acknowledge() == 0
    p.board.link = None
    _close(p)
    p.steps(1000)
    assert p.contactors.state == CLOSED


def test_a_later_try_may_succeed():
    p = _close(_parts())
    p.board.link = 0
    p.steps(3000)
    assert p.contactors.state == PRECHARGE_REST
    p.board.link = None
    p.steps(4000)
    assert p.contactors.state == CLOSED
    assert p.names() == []


def test_one_try():
    p = _close(_parts(contactors="precharge_tries = 1"))
    p.board.link = 0
    p.steps(2300)
    assert p.tripped(F.PRECHARGE_FAILED)
    assert p.board.coils[:3] == [0, 0, 0]


def test_the_link_sensor_dies_while_precharging():
    p = _to(PRECHARGING)
    p.board.has_link_sensor = False
    p.steps(6000)
    assert p.board.coils[:3] == [0, 0, 0]
    assert [x for x in p.board.history if x[1] == PLUS] == []


def test_a_link_of_less_than_nothing_is_measured():
    # an offset of the sensor at 0 V must not read as "not measured"
    from fakes import Rig

    r = Rig(slaves=1)
    r.board.link = -30
    r.run(1000)
    assert r.say("close")["ok"] is True


def test_refusals():
    p = _parts()
    p.pack.known[0] = 0
    assert p.strings.close(p.now) == b"slave 01 has not answered as the pack file says"
    p.pack.known[0] = 1
    q = Parts(slaves=4).ready()
    q.pack.known[1] = q.pack.known[3] = 0
    assert q.strings.close(q.now) == b"slave 02 has not answered as the pack file says"
    q = Parts(slaves=32).ready()
    for slave in (9, 10, 32):
        q.pack.known[slave - 1] = 0
        text = b"slave %02d has not answered as the pack file says" % slave
        assert q.strings.close(q.now) == text
        q.pack.known[slave - 1] = 1
    flags = p.pack.cell_flags[1]
    p.pack.cell_flags[1] = 0
    p.pack.update()
    assert p.strings.close(p.now) == b"slave 01: cell 02 has no fresh reading"
    p.pack.cell_flags[1] = flags
    p.pack.temp_flags[1] = 0
    p.pack.update()
    assert p.strings.close(p.now) == b"slave 01: temperature 02 has no fresh reading"
    p.pack.temp_flags[1] = flags
    p.pack.update()
    p.pack.link_mv = None
    assert p.strings.close(p.now) == b"the link voltage is not measured"
    p.pack.link_mv = 0
    p.faults.set(F.CELL_HIGH, 0, 3700)
    assert p.strings.close(p.now) == b"a fault is latched: see faults, then clear"
    p.faults.clear(F.CELL_HIGH)
    assert p.strings.close(p.now) == b"a fault is latched: see faults, then clear"
    p.faults.acknowledge()
    p.faults.set(warning(F.CELL_SPREAD), 0, 301)  # a warning does not stand in the way
    for which in (MINUS, PLUS):
        p.board.wired[which] = False
        assert b"feedback" in (p.strings.close(p.now) or b"")
        p.board.wired[which] = True
    assert p.board.history == []
    assert p.contactors.state == OPEN
    assert p.strings.close(p.now) is None
    for state in (CLOSING_MINUS, PRECHARGING, CLOSING_PLUS, CLOSED, PRECHARGE_REST):
        p = _to(state)
        assert p.strings.close(p.now) == b"already closed or closing"


def test_a_refusal_names_slave_and_sensor():
    p = Parts(slaves=12, cells=4, temps=2).ready()
    p.pack.temp_flags[23] = 0
    p.pack.update()
    assert p.strings.close(p.now) == b"slave 12: temperature 02 has no fresh reading"
    p.pack.cell_flags[4] = 0
    p.pack.update()
    assert p.strings.close(p.now) == b"slave 02: cell 01 has no fresh reading"


def test_refused_while_the_current_is_not_measured():
    p = Parts()
    p.pack.known[0] = 1
    p.pack.link_mv = 0
    p.scan()
    assert p.strings.close(p.now) == b"the current is not measured"
    p.sample(0)
    p.pass_ms(201)
    assert p.strings.close(p.now) == b"the current is not measured"
    p.sample(0)
    assert p.strings.close(p.now) is None


def test_the_reclose_guard():
    p = _to(CLOSED, contactors='reclose = "2 s"')
    p.strings.open(p.now)
    for _ in range(199):
        p.step()
        assert p.strings.close(p.now) == b"opened a moment ago: wait"
    p.step()
    assert p.strings.close(p.now) is None
    # after a trip, too
    p.steps(1000)
    p.faults.set(F.CELL_HIGH, 0, 0)
    p.faults.clear(F.CELL_HIGH)
    assert p.faults.acknowledge() == 0
    assert p.strings.close(p.now) == b"opened a moment ago: wait"


def test_a_trip_in_every_state_opens_before_it_returns():
    for state in (CLOSING_MINUS, PRECHARGING, CLOSING_PLUS, CLOSED, PRECHARGE_REST):
        p = _to(state)
        assert state == PRECHARGE_REST or p.contactors.energised()
        p.faults.set(F.CELL_HARD_HIGH, 3, 3800)
        assert p.board.coils[:3] == [0, 0, 0]
        assert p.contactors.state == OPEN
        p.steps(8000)
        assert p.board.coils[:3] == [0, 0, 0]
        p.faults.clear(F.CELL_HARD_HIGH)
        p.steps(8000)
        assert p.board.coils[:3] == [0, 0, 0]  # it never closes by itself


def test_opening_in_every_state():
    for state in (OPEN, CLOSING_MINUS, PRECHARGING, CLOSING_PLUS, CLOSED, PRECHARGE_REST):
        p = _to(state)
        p.strings.open(p.now)
        assert p.board.coils[:3] == [0, 0, 0]
        p.steps(12000)
        assert p.board.coils[:3] == [0, 0, 0]
        assert p.names() == []


def test_a_latched_fault_opens_even_if_nobody_said_trip():
    p = _to(CLOSED)
    p.faults.set_open_target(None)
    p.faults.set(F.CELL_HIGH, 0, 0)
    p.step()
    assert p.board.coils[:3] == [0, 0, 0]


def test_feedback_lost_in_every_state():
    for state, which in (
        (CLOSING_MINUS, MINUS),
        (PRECHARGING, MINUS),
        (PRECHARGING, PRECHARGE),
        (CLOSING_PLUS, MINUS),
        (CLOSING_PLUS, PRECHARGE),
        (CLOSING_PLUS, PLUS),
        (CLOSED, MINUS),
        (CLOSED, PLUS),
    ):
        p = _to(state)
        p.board.stuck[which] = 0
        p.steps(100)
        assert p.contactors.state == state
        assert p.names() == []
        p.step()
        assert p.names() == ["contactor_feedback"], (state, which)
        assert p.faults.place[F.CONTACTOR_FEEDBACK] == which
        assert p.board.coils[:3] == [0, 0, 0]
        p.steps(500)
        assert p.names() == ["contactor_feedback"]
        # a new try shows whether it is mended
        assert p.faults.acknowledge() == 0


def test_welded_in_every_state():
    for state, which in (
        (OPEN, MINUS),
        (OPEN, PRECHARGE),
        (OPEN, PLUS),
        (PRECHARGE_REST, MINUS),
        (PRECHARGE_REST, PLUS),
        (CLOSING_MINUS, PRECHARGE),
        (CLOSING_MINUS, PLUS),
        (PRECHARGING, PLUS),
        (CLOSED, PRECHARGE),
    ):
        p = _to(state)
        p.board.stuck[which] = 1
        p.steps(100)
        assert p.names() == []
        p.step()
        assert p.names() == ["contactor_welded"], (state, which)
        assert p.faults.place[F.CONTACTOR_WELDED] == which
        assert p.board.coils[:3] == [0, 0, 0]
        p.steps(1000)
        assert p.faults.acknowledge() == 1
        assert p.strings.close(p.now) is not None
        p.board.stuck[which] = None
        p.steps(50)
        assert p.faults.acknowledge() == 0


def test_feedback_that_differs_for_a_moment():
    p = _to(CLOSED)
    for _ in range(30):
        p.board.stuck[PLUS] = 0
        p.steps(90)
        p.board.stuck[PLUS] = None
        p.steps(50)
    assert p.names() == []
    assert p.contactors.state == CLOSED


def test_a_contact_that_flickers_is_found_all_the_same():
    # closed without its coil, but for one look in ten
    p = _to(OPEN)
    for i in range(60):
        p.board.stuck[PLUS] = None if i % 10 == 9 else 1
        p.step()
        assert p.contactors.refusal(p.now) is not None
    assert p.trips() == ["contactor_welded"]
    # and it does not clear while it flickers
    for i in range(100):
        p.board.stuck[PLUS] = None if i % 10 == 9 else 1
        p.step()
    assert p.faults.acknowledge() == 1
    # open with its coil on, but for one look in ten
    p = _to(CLOSED)
    for i in range(60):
        p.board.stuck[MINUS] = None if i % 10 == 9 else 0
        p.step()
    assert p.trips() == ["contactor_feedback"]
    assert p.board.coils[:3] == [0, 0, 0]


def test_a_slow_contact_is_neither_lost_nor_welded():
    # the contact follows its coil 80 ms late, to and fro, with a delay of 100 ms
    p = _parts(contactors='feedback_delay = "100 ms"; reclose = "0 ms"')
    late = []
    for i in range(300):
        late.append(list(p.board.coils))
        was = late[-9] if len(late) > 8 else [0] * 9
        p.board.stuck = [1 if level else 0 for level in was]
        p.step()
        if i % 60 == 0:
            p.strings.close(p.now)
        if i % 60 == 40:
            p.strings.open(p.now)
    assert p.names() == []
    assert p.board.history


def test_without_feedback_nothing_is_supervised():
    p = _parts(contactors="contactor_feedback = false")
    p.board.wired = [False, False, False]
    _close(p)
    p.steps(1000)
    assert p.contactors.state == CLOSED
    assert p.names() == []


def test_welded_for_days():
    p = _parts()
    p.board.stuck[PLUS] = 1
    p.steps(500)
    for _ in range(15):
        p.pass_ms(86400000 // 2)
        p.step()
        assert p.active(F.CONTACTOR_WELDED)
        assert p.faults.acknowledge() == 1


def test_precharge_is_never_left_on():
    # every way out of the sequence, at every moment of it
    for way in ("open", "trip", "lost", "link"):
        for at in range(0, 700, extent(100, 50)):
            p = _close(_parts())
            p.steps(at)
            if way == "open":
                p.strings.open(p.now)
            elif way == "trip":
                p.faults.set(F.CELL_LOST, 0, 0)
            elif way == "lost":
                p.board.stuck[MINUS] = 0
            else:
                p.board.link = 0
            p.steps(30000)
            assert p.board.coils[PRECHARGE] == 0, (way, at)
            assert p.board.coils[:3] in ([0, 0, 0], [1000, 0, 1000])
            assert way == "link" or p.board.coils[:3] == [0, 0, 0]
            # never longer than it may
            on = None
            for ms, which, level in p.board.history:
                if which == PRECHARGE:
                    if level:
                        on = ms
                    else:
                        assert ms - on <= 2200
