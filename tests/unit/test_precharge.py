"""Plus closes inside a window around the string's voltage, proven by voltage or by current."""

from bms.contactors import sequence as C
from bms.contactors.sequence import MINUS, PLUS, PRECHARGE
from bms.protection import fault_ids as F
from fakes import Parts, raises

OHM = 'precharge_resistor = "100 ohm"'
CURRENT = "link_sensor = false; precharge_tries = 1; " + OHM
CELLS = 4
STRING_MV = 3300 * CELLS
FIRST_MA = STRING_MV // 100


def _closing(contactors="", link=None, **more):
    """Parts that begin to close; link: mV that something holds it at."""
    p = Parts(contactors=contactors, **more).ready()
    p.board.pack_mv = sum(p.mv)
    p.board.link = link
    p.step()
    assert p.strings.close(p.now) is None
    return p


def _to_precharging(p):
    while p.contactors.state != C.PRECHARGING:
        p.step()
    return p


def _plus(p):
    return [ms for ms, which, pm in p.board.history if which == PLUS and pm]


# --- by voltage ---


def test_plus_never_closes_onto_a_link_above_the_window():
    for pm, closes in ((949, False), (950, True), (1049, True), (1050, False), (1300, False)):
        p = _closing("precharge_tries = 1", STRING_MV * pm // 1000 + (pm > 1000))
        p.steps(8000)
        assert bool(_plus(p)) == closes, pm
        fault = "precharge_link_high" if pm > 1000 else "precharge_failed"
        assert p.trips() == ([] if closes else [fault]), pm


def test_a_link_above_the_window_for_a_moment_only_delays_plus():
    p = _to_precharging(_closing())
    p.board.link = STRING_MV * 13 // 10
    p.steps(1000)
    assert p.contactors.state == C.PRECHARGING
    p.board.link = STRING_MV
    p.steps(500)
    assert p.contactors.state == C.CLOSED
    assert p.names() == []


def test_a_string_that_may_be_welded_does_not_widen_the_window():
    # 700 mV is within join_voltage, and beyond 5 % of 13.2 V
    for link, closes in ((STRING_MV + 700, False), (STRING_MV + 600, True), (STRING_MV, True)):
        p = Parts(contactors="precharge_tries = 1", slaves=2, parallel=2).ready()
        p.board.pack_mv = STRING_MV
        p.board.link = link
        p.faults.set(F.CONTACTOR_WELDED, 0, 1)
        p.step()
        p.strings.close(p.now)
        p.steps(8000)
        plus = [which for _ms, which, pm in p.board.history if which == 3 + PLUS and pm]
        assert bool(plus) == closes, link


def test_a_low_ratio_does_not_open_the_window_upwards():
    p = _closing('precharge_ratio = "70 %"; precharge_tries = 1', STRING_MV * 1101 // 1000)
    p.steps(8000)
    assert p.trips() == ["precharge_link_high"]
    assert not _plus(p)


def test_the_value_of_the_fault_is_the_voltage_of_the_link():
    p = _closing("precharge_tries = 1", 20000)
    p.steps(8000)
    assert p.faults.value[F.PRECHARGE_LINK_HIGH] == 20000


def test_a_shorted_precharge_resistor_is_found_and_not_tried_again():
    # 100 ohm and 2 mF: 63 % after 200 ms; here the link is there after 30 ms
    p = _to_precharging(_closing(OHM + '; link_capacitance = "2 mF"'))
    p.board.link = 0
    p.steps(20)
    assert p.contactors.state == C.PRECHARGING
    p.board.link = STRING_MV * 64 // 100
    p.step()
    assert p.trips() == ["precharge_fast"]
    assert p.board.coils[:3] == [0, 0, 0]
    p.steps(20000)
    assert not _plus(p)


def test_a_link_that_charges_as_it_should_is_no_shorted_resistor():
    for capacitance in ("2 mF", "1 uF"):  # the small one is charged before the first look
        p = _to_precharging(_closing(OHM + f'; link_capacitance = "{capacitance}"'))
        p.board.link = 0
        p.steps(20 if capacitance == "1 uF" else 130)
        p.board.link = STRING_MV
        p.steps(1000)
        assert p.contactors.state == C.CLOSED, capacitance
        assert p.names() == []


def test_a_link_that_was_charged_before_is_no_shorted_resistor():
    p = _closing(OHM + '; link_capacitance = "2 mF"', STRING_MV * 85 // 100)
    _to_precharging(p)
    p.board.link = STRING_MV
    p.steps(1000)
    assert p.contactors.state == C.CLOSED


# --- by current ---


def _decays(p, ma_of, ms=3000):
    """Steps in which the precharge current follows a function of ms since the coil went on."""
    since = None
    for _ in range(ms // 10):
        on = p.board.coils[PRECHARGE] and not p.board.coils[PLUS]
        since = (since or 0) + 10 if on else None
        p.board.ma = 0 if since is None else -ma_of(since)
        p.step()
    return p


def _capacitor(ms):
    """100 ohm and 1.5 mF."""
    return round(FIRST_MA * 2.718281828 ** (-ms / 150))


def test_a_current_that_has_decayed_proves_precharge():
    p = _decays(_closing(CURRENT), _capacitor)
    assert p.contactors.state == C.CLOSED
    on = [ms for ms, which, pm in p.board.history if which == PRECHARGE and pm]
    assert 420 <= _plus(p)[0] - on[0] <= 500  # 5 % of it are left after three time constants
    assert p.names() == []


def test_a_load_on_the_link_never_lets_plus_close():
    for load in (60, 1, 0):  # ohm
        p = _decays(_closing(CURRENT), lambda ms: STRING_MV // (100 + load))  # noqa: B023
        p.steps(3000)
        assert not _plus(p), load
        assert p.trips() == ["precharge_load"], load
        assert p.board.coils[:3] == [0, 0, 0]


def test_a_short_is_found_before_precharge_max():
    p = _decays(_closing(CURRENT), lambda ms: FIRST_MA, 700)
    assert p.trips() == ["precharge_load"]


def test_a_current_that_was_never_seen_proves_nothing():
    p = _decays(_closing(CURRENT), lambda ms: 0, 5000)
    assert not _plus(p)
    assert p.trips() == ["precharge_no_current"]


def test_a_current_beyond_what_the_resistor_passes_opens_at_once():
    p = _decays(_closing(CURRENT), lambda ms: 3 * FIRST_MA, 400)
    assert p.trips() == ["precharge_fast"]
    assert p.board.coils[:3] == [0, 0, 0]


def test_a_current_sensor_that_falls_silent_proves_nothing():
    p = _to_precharging(_closing(CURRENT))
    p.board.ma = -FIRST_MA
    p.steps(100)
    p.board.ma = None
    p.steps(5000)
    assert not _plus(p)
    assert p.board.coils[:3] == [0, 0, 0]


def test_without_proof_plus_closes_only_where_the_pack_file_accepts_it():
    from bms.config.errors import ConfigError

    for tables in (
        {"contactors": "link_sensor = false"},
        {
            "contactors": "link_sensor = false; " + OHM,
            "limits": "current_sensor = false",
        },
    ):
        error = raises(ConfigError, lambda tables=tables: Parts(**tables))
        assert "precharge_unproven" in str(error) and "link_sensor" in str(error)
        tables["contactors"] += "; precharge_unproven = true"
        Parts(**tables)


# --- plus itself, and the resistor's heat ---


def test_the_resistor_stays_on_until_plus_is_proven_closed():
    p = _closing('feedback_delay = "1 s"')
    p.board.stuck[PLUS] = 0
    while p.contactors.state != C.CLOSING_PLUS:
        p.step()
    p.steps(800)
    assert p.contactors.state == C.CLOSING_PLUS
    assert p.board.coils[PRECHARGE] and p.strings.count_closed == 0
    p.board.stuck[PLUS] = None
    p.steps(20)
    assert p.contactors.state == C.CLOSED
    p = _closing()
    p.board.stuck[PLUS] = 0
    p.steps(8000)
    assert p.trips() == ["contactor_feedback"]
    assert p.contactors.closings == 0


def test_a_retry_waits_until_the_resistor_has_cooled():
    # 4 cells of 3.3 V behind 10 ohm: 17 W, 34 J in a precharge of 2 s
    heat = 'precharge_resistor = "10 ohm"; precharge_energy = "40 J"; precharge_cool = "20 s"'
    p = _closing(heat + '; precharge_rest = "1 s"')
    p.board.link = 0
    _to_precharging(p)
    p.steps(2100)
    assert p.contactors.state == C.PRECHARGE_REST
    p.steps(4000)
    assert p.contactors.state == C.PRECHARGE_REST  # 34 J less 8 J: more than half of what it takes
    p.steps(4000)
    on = [ms for ms, which, pm in p.board.history if which == PRECHARGE and pm]
    assert len(on) == 2 and on[1] - on[0] > 8000


def test_the_current_heats_the_resistor_where_no_voltage_is_measured():
    p = _to_precharging(_closing('precharge_energy = "1 J"; ' + CURRENT))
    p.board.ma = -FIRST_MA * 8 // 10
    p.steps(2000)
    assert p.contactors._precharge.heat_mj >= 1000
    assert p.trips() == ["precharge_load"]
    assert not p.board.coils[MINUS]
