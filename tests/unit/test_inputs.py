"""Interlock, emergency stop, fault line, charger, ignition, isolation."""

from bms.protection import fault_ids as F
from bms.protection.inputs import Inputs
from fakes import Parts, Rig

ALL = "interlock = true; emergency_stop = true; fault_line = true"
NAMES = {1: "interlock", 2: "emergency_stop", 4: "fault_line"}


def _rig(**tables):
    r = Rig(**tables)
    r.run(1000)
    assert r.say("close")["ok"] is True
    r.run(2000)
    assert r.board.coils[:3] == [1000, 0, 1000]
    return r


def test_each_loop_cuts_at_once_and_latches():
    for bit in NAMES:
        r = _rig(inputs=ALL)
        r.board.say(7 & ~bit)
        assert r.board.coils == [0] * 9  # the board's interrupt, before the program knows
        r.run(30)
        assert r.trips() == [NAMES[bit]]
        assert r.say("clear")["ok"] is False  # it is still there
        r.board.say(7)
        r.run(100)
        assert r.say("close")["ok"] is False
        assert r.say("clear")["ok"] is True
        r.run(2500)
        assert r.board.coils == [0] * 9
        assert r.say("close")["ok"] is True
        r.run(2000)
        assert r.board.coils[:3] == [1000, 0, 1000]


def test_an_edge_of_a_moment_is_not_lost():
    r = _rig(inputs=ALL)
    r.board.say(6)
    r.board.say(7)
    r.run(30)
    assert r.trips() == ["interlock"]
    assert r.board.coils == [0] * 9


def test_a_level_is_evaluated_where_no_interrupt_came():
    r = _rig(inputs=ALL)
    r.board.bits = 5
    r.run(30)
    assert r.trips() == ["emergency_stop"]
    assert r.board.coils == [0] * 9


def test_an_input_that_is_not_configured_means_nothing():
    r = _rig(inputs="interlock = true")
    r.board.say(1)
    r.run(100)
    assert r.trips() == []
    assert r.board.coils[:3] == [1000, 0, 1000]


def test_a_loop_that_is_open_at_the_start_closes_nothing():
    class Open:
        bits = 6

    r = Rig(inputs=ALL)
    r.board.say(Open.bits)
    r.run(1000)
    assert r.say("close")["ok"] is False
    assert r.board.history == []


def test_ignition_closes_and_opens():
    r = Rig(inputs="ignition = true")
    r.board.bits = 7 | 16  # on at the start: nothing closes by itself
    r.run(2000)
    assert r.board.history == []
    r.board.bits = 7
    r.run(500)
    r.board.bits = 7 | 16
    r.run(2000)
    assert r.board.coils[:3] == [1000, 0, 1000]
    r.board.bits = 7
    r.run(200)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.trips() == []


def test_a_charger_is_passed_on():
    p = Parts(inputs="charger = true")
    inputs = Inputs(p.config, p.board, p.faults, p.strings, p.limits)
    p.board.bits = 7 | 8
    inputs.step(p.now)
    assert p.strings.charger
    p.board.bits = 7
    inputs.step(p.now)
    assert not p.strings.charger


def _isolation(kohm, ms=8000):
    p = Parts(limits="isolation_sensor = true")
    inputs = Inputs(p.config, p.board, p.faults, p.strings, p.limits)
    p.board.kohm = kohm
    for _ in range(ms // 20):
        p.pass_ms(20)
        inputs.step(p.now)
    return p


def test_isolation_at_three_levels():
    assert _isolation(750).names() == []
    assert _isolation(749).names() == ["isolation_low_warning"]
    assert _isolation(599).names() == ["isolation_low_warning", "isolation_low_derate"]
    p = _isolation(499)
    assert p.trips() == ["isolation_low"]
    assert p.faults.value[F.ISOLATION_LOW] == 499
    assert _isolation(499, 4900).trips() == []
    assert _isolation(None).names() == ["isolation_lost"]


def _ignition_on(alive=True, **tables):
    r = Rig(inputs="ignition = true", **tables)
    r.boards[0].alive = alive
    r.board.bits = 7
    r.run(2000)
    r.board.bits = 7 | 16
    return r


def test_an_ignition_that_is_low_for_a_moment_opens_nothing():
    r = _ignition_on()
    r.run(2000)
    r.board.ma = -100000
    r.run(50)
    for _ in range(5):
        r.board.bits = 7
        r.run(60)
        r.board.bits = 7 | 16
        r.run(60)
    assert r.board.coils[:3] == [1000, 0, 1000]
    r.board.ma = 0
    r.board.bits = 7
    r.run(300)
    assert r.board.coils[:3] == [0, 0, 0]


def test_an_ignition_that_is_high_for_a_moment_closes_nothing():
    r = _ignition_on()
    r.run(60)
    r.board.bits = 7
    r.run(2000)
    assert r.board.history == []


def test_an_ignition_that_was_refused_for_want_of_readings_tries_again():
    r = _ignition_on(alive=False)
    r.run(3000)
    assert r.board.history == []
    r.boards[0].alive = True
    r.run(3000)
    assert r.board.coils[:3] == [1000, 0, 1000]


def test_an_ignition_does_not_try_for_ever_nor_after_a_trip_or_open():
    r = _ignition_on()
    r.master.strings.lock(b"a test: wait")
    r.run(10500)
    r.master.strings.lock(None)
    r.run(5000)
    assert r.board.history == []  # 10 s are over
    for end in ("open", "trip"):
        r = _ignition_on()
        r.master.strings.lock(b"a test: wait")
        r.run(1000)
        if end == "open":
            r.say("open")
        else:
            r.master.faults.set(F.CELL_HIGH, 0, 3700)
            r.master.faults.clear(F.CELL_HIGH, 0)
            assert r.say("clear")["ok"] is True
        r.master.strings.lock(None)
        r.run(5000)
        assert r.board.history == [], end
