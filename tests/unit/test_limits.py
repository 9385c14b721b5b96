"""Bounds: at once, after their delay, with hysteresis, on fresh samples only."""

from bms.config.errors import ConfigError
from bms.pack import FRESH, NEW, SEEN
from bms.protection import fault_ids as F
from fakes import Parts, raises, warning

PERIOD = 100  # ms of a scan here
WRAP = 1 << 29


def _scans_until(parts, code, most=60):
    for n in range(1, most + 1):
        parts.scan(PERIOD)
        if parts.active(code):
            return n
    raise AssertionError("never tripped")


def _near(parts, scans, delay):
    # the sample before the first one out of bound bounds the time from the other side
    assert delay // PERIOD <= scans <= delay // PERIOD + 1, scans


# (what is set, code, a value that is out, one that is back)
ROWS = (
    ("mv", F.CELL_HIGH, 3651, 3599),
    ("mv", F.CELL_LOW, 2499, 2551),
    ("mv", warning(F.CELL_HIGH), 3601, 3549),
    ("mv", warning(F.CELL_LOW), 2799, 2851),
    ("mv", warning(F.CELL_SPREAD), 3601, 3549),
    ("dc", F.TEMP_HIGH, 601, 579),
    ("dc", F.TEMP_LOW, -201, -179),
    ("dc", warning(F.TEMP_HIGH), 501, 479),
)


def _set(parts, kind, value):
    (parts.mv if kind == "mv" else parts.dc)[1] = value


def test_each_bound_trips_after_its_delay():
    for start in (1000, WRAP - 700, (1 << 28) - 700):
        for kind, code, out, _ in ROWS:
            p = Parts(ms=start).ready()
            p.scan()
            assert not p.active(code)
            _set(p, kind, out)
            _near(p, _scans_until(p, code), 1000)
            assert p.faults.place[code] == 1
            latches = p.faults.level[code] == F.TRIP
            assert bool(p.faults.latched[code]) == latches


def test_delays_are_those_of_the_pack_file():
    p = Parts(limits='cell_delay = "3 s"; temp_delay = "500 ms"').ready()
    p.scan()
    p.mv[0] = 3651
    _near(p, _scans_until(p, F.CELL_HIGH), 3000)
    p = Parts(limits='cell_delay = "3 s"; temp_delay = "500 ms"').ready()
    p.scan()
    p.dc[0] = 601
    _near(p, _scans_until(p, F.TEMP_HIGH), 500)


def test_the_bound_itself_is_inside():
    p = Parts().ready()
    p.mv = [3650, 3550, 3400, 3400]
    p.dc = [600, 600]
    for _ in range(40):
        p.scan()
    assert p.names() == [
        "cell_high_warning",
        "cell_high_derate",
        "temp_high_warning",
        "temp_high_derate",
    ]


def test_one_sample_trips_nothing():
    for kind, code, out, back in ROWS:
        p = Parts(limits='cell_delay = "400 ms"; temp_delay = "400 ms"').ready()
        for _ in range(10):
            _set(p, kind, out)
            p.scan()
            _set(p, kind, back)
            for _ in range(5):
                p.scan()
            assert not p.active(code), code


def test_the_first_sample_of_all_trips_nothing():
    # also after a pause of the sensor
    p = Parts()
    p.current.sample(0, p.now)
    p.sample(101000, 150)
    assert not p.active(F.CHARGE_CURRENT)
    p = Parts()
    p.sample(0)
    p.sample(101000, 190)
    assert not p.active(F.CHARGE_CURRENT)


def test_one_good_sample_forgives_nothing():
    for kind, code, out, back in ROWS:
        p = Parts().ready()
        p.scan()
        _set(p, kind, out)
        for _ in range(8):
            p.scan()
        assert not p.active(code)
        _set(p, kind, back)
        p.scan()
        _set(p, kind, out)
        assert _scans_until(p, code) <= 4, code


def test_two_bad_samples_in_three_trip_in_the_end():
    p = Parts().ready()
    for i in range(60):
        p.mv[1] = 3560 if i % 3 == 0 else 3651
        p.scan()
    assert p.tripped(F.CELL_HIGH)


def test_inside_the_hysteresis_it_stays():
    for kind, code, out, back in ROWS:
        p = Parts().ready()
        _set(p, kind, out)
        _scans_until(p, code)
        edge = back + (1 if out > back else -1)
        _set(p, kind, edge)
        for _ in range(60):
            p.scan()
        assert p.active(code), code
        _set(p, kind, back)
        p.scan()
        assert p.active(code), code  # one good sample does not clear
        for _ in range(30):
            p.scan()
        assert not p.active(code), code


def test_time_in_the_hysteresis_is_no_time_out_of_bound():
    p = Parts().ready()
    for _ in range(4):
        p.mv[1] = 3651
        p.scan()
    p.mv[1] = 3640
    for _ in range(100):
        p.scan()
    assert not p.active(F.CELL_HIGH)
    p.mv[1] = 3651
    assert 5 <= _scans_until(p, F.CELL_HIGH) <= 8  # nor is it time that forgives


def test_a_sample_counts_once():
    # a reading that stays valid for long is evaluated when it is new, not again and again
    p = Parts(limits='cell_age = "30 s"; temp_age = "30 s"').ready()
    p.scan()
    p.mv[1] = 3651
    p.dc[1] = 601
    p.scan()
    p.mv = [None] * 4
    p.dc = [None] * 2
    for _ in range(100):
        p.scan()
    assert p.names() == []


def test_stale_samples_do_not_clear():
    p = Parts(limits='cell_age = "30 s"').ready()
    p.mv[1] = 3651
    _scans_until(p, F.CELL_HIGH)
    p.mv[1] = 3560
    p.scan()
    p.mv = [None] * 4
    for _ in range(100):
        p.scan()
    assert p.active(F.CELL_HIGH)


def test_a_cell_that_stopped_hides_no_other():
    # the highest cell is old, the next one is out of bound, too, and fresh
    p = Parts(limits='cell_age = "30 s"').ready()
    p.mv = [3700, 3690, 3450, 3450]
    p.scan()
    p.mv[0] = None
    assert _scans_until(p, F.CELL_HIGH) <= 12


def test_another_cell_goes_on_where_one_ends():
    # the pack's highest cell is out of bound all the time, though it is not always the same
    p = Parts().ready()
    for i in range(11):
        p.mv = [3450, 3651 + i % 2, 3652 - i % 2, 3450]
        p.scan()
    assert p.tripped(F.CELL_HIGH)


def test_a_cell_that_is_read_rarely_trips_all_the_same():
    # out of bound in every sample of its own; the good samples of the others don't heal it
    for every in (1, 2, 3, 4):
        p = Parts().ready()
        p.scan()
        for i in range(10 * every + 8):
            p.mv[1] = 3651 if i % every == 0 else None
            p.scan()
        assert p.trips()[0] == "cell_high", every
    for every in (2, 3, 4):
        p = Parts().ready()
        p.scan()
        for i in range(10 * every + 8):
            p.dc[1] = 601 if i % every == 0 else None
            p.scan()
        assert p.trips()[0] == "temp_high", every


def _mixed(poll_periods, **settings):
    """Boards with a poll period each, in ms: `each_mv`, `each_dc`, `board_dc`, `scan_due`."""
    p = Parts(slaves=len(poll_periods), **settings).ready()
    for i in range(len(poll_periods)):
        p.pack.poll_period_ms[i] = poll_periods[i]
    p.limits.set_poll_periods()
    p.each_mv = [[3300] * 4 for _ in poll_periods]
    p.each_dc = [[250] * 2 for _ in poll_periods]
    p.board_dc = [300] * len(poll_periods)
    p.silent = ()
    p.went_ms = 0

    def scan_due():
        """A scan later: those that are due are read; True where board 1 is."""
        p.pass_ms(PERIOD)
        p.went_ms += PERIOD
        for i in range(len(poll_periods)):
            due = p.went_ms % poll_periods[i] == 0 and i not in p.silent
            p.mv[4 * i : 4 * i + 4] = p.each_mv[i] if due else [None] * 4
            p.dc[2 * i : 2 * i + 2] = p.each_dc[i] if due else [None] * 2
            if due:
                p.pack.stack_ok[i] = 1
                p.pack.stack_at[i] = p.now
                p.pack.die_dc[i] = p.board_dc[i]
                p.pack.stack_mv[i] = sum(p.each_mv[i])
        p.scan(0)
        return p.went_ms % poll_periods[-1] == 0

    p.scan_due = scan_due
    for _ in range(4 * max(poll_periods) // PERIOD):
        scan_due()
    assert p.names() == []
    return p


SLOW_AGES = 'cell_age = "40 s"; temp_age = "60 s"'


def test_a_slow_board_beside_a_fast_one_trips_by_its_own_readings():
    for every in (2, 6, 25):
        for kind, code, out, _ in ROWS[:4] + ROWS[5:7]:
            p = _mixed((PERIOD, every * PERIOD), limits=SLOW_AGES)
            while not p.scan_due():
                pass
            (p.each_mv if kind == "mv" else p.each_dc)[1][1] = out
            n = 0
            while not p.active(code):
                p.scan_due()
                n += 1
                # its next reading, then two more, or the delay, whichever is later
                assert n <= max(3 * every, 10 + 2 * every), (every, code)
            assert n >= 10, (every, code)


def test_what_flickers_on_a_fast_board_is_timed_by_that_board():
    p = _mixed((PERIOD, 2500), limits=SLOW_AGES)
    for i in range(55):  # back within the hysteresis: each time counts for 100 ms of 1 s
        p.each_mv[0][1] = 3651 if i % 6 == 0 else 3620
        p.scan_due()
        assert not p.tripped(F.CELL_HIGH), i


def _once(p, glitch):
    """Everything is as it was, but for one reading of the last board."""
    mv, dc, board = list(p.each_mv[-1]), list(p.each_dc[-1]), p.board_dc[-1]
    glitch(p)
    while not p.scan_due():
        pass
    p.each_mv[-1], p.each_dc[-1], p.board_dc[-1] = mv, dc, board


def _glitches():
    def low(p):
        p.each_mv[-1][1] = 2600

    def warm(p):
        p.each_dc[-1][1] = 550

    def hot(p):
        p.board_dc[-1] = 1000

    def wire(p):
        p.each_mv[-1][1] += 340
        p.each_mv[-1][2] -= 340

    def high(p):
        p.each_mv[-1] = [3740] * 4

    def empty(p):
        p.each_mv[-1] = [2001] * 4

    return (
        (3300, low, "cell_spread"),
        (3300, warm, "temp_spread"),
        (3300, hot, "board_temp"),
        (3300, wire, "open_wire"),
        (3620, high, "voltage_high"),
        (2900, empty, "voltage_low"),
    )


def test_one_reading_of_a_slow_board_counts_once():
    for poll_periods in ((PERIOD, 200), (PERIOD, 2500), (PERIOD, 3000, 8000)):
        for mv, glitch, name in _glitches():
            p = _mixed(poll_periods, limits=SLOW_AGES)
            p.each_mv = [[mv] * 4 for _ in poll_periods]
            for _ in range(2 * poll_periods[-1] // PERIOD):
                p.scan_due()
            before = p.names()
            _once(p, glitch)
            for _ in range(4 * poll_periods[-1] // PERIOD):
                p.scan_due()
                assert p.trips() == [], (poll_periods, name)
                assert p.names() == before or "warning" in p.names()[0], (
                    poll_periods,
                    name,
                    p.names(),
                )
            # what stays so trips, all the same
            glitch(p)
            for _ in range(6 * poll_periods[-1] // PERIOD + 20):
                p.scan_due()
            assert name in p.names() or name + "_derate" in p.names(), (
                poll_periods,
                name,
                p.names(),
            )


def test_what_one_board_began_no_other_ends():
    # a fast board rests in the hysteresis, after two readings beyond, long apart
    for samples in (1, 2, 3):
        p = _mixed((PERIOD, 8000), limits=SLOW_AGES + f"; cell_samples = {samples}")
        p.each_mv[0] = [3620] * 4
        for _ in range(2):
            p.each_mv[0][0] = 3651
            p.scan_due()
            p.each_mv[0][0] = 3620
            for _ in range(30):
                p.scan_due()

        def high(p):
            p.each_mv[1][2] = 3660

        _once(p, high)
        for _ in range(100):
            p.scan_due()
        assert not p.trips(), samples


def test_a_flicker_of_a_fast_board_delays_no_slow_one():
    for delay_s in (1, 10, 60):
        for flicker_ms in (1000, 4000, 8000):
            p = _mixed((PERIOD, 8000), limits=SLOW_AGES + f'; cell_delay = "{delay_s} s"')
            p.each_mv[1][2] = 3660
            n = 0
            while not p.tripped(F.CELL_HIGH):
                # in the scan before the slow board is read
                p.each_mv[0][0] = 3652 if (p.went_ms + 200) % flicker_ms == 0 else 3400
                p.scan_due()
                n += 1
                assert n * PERIOD <= max(24000, delay_s * 1000 + 16000), (delay_s, flicker_ms)
            assert n * PERIOD >= delay_s * 1000


def test_a_slow_board_is_charged_while_its_string_is():
    for poll_periods in ((100, 100), (8000, 8000), (100, 8000)):
        for pause_ms in (0, 2000, 8000):  # one scan without current in so many ms
            for charged in (True, False):
                p = _mixed(poll_periods, limits=SLOW_AGES)
                p.each_dc[1][0] = -50
                for n in range(500):
                    phase = p.went_ms % 8000
                    pause = pause_ms and phase % pause_ms == pause_ms - 100
                    # a pulse of 1 s each 8 s is no charging that lasts
                    flows = not pause if charged else phase < 1000 and poll_periods[0] == 8000
                    p.sample(20000 if flows else 0, 0)
                    p.scan_due()
                    if p.tripped(F.TEMP_CHARGE_LOW):
                        assert charged and n * PERIOD <= 3 * poll_periods[1] + 1500, (
                            poll_periods,
                            pause_ms,
                            n,
                        )
                        break
                else:
                    assert not charged, (poll_periods, pause_ms)


def test_readings_that_come_to_be_the_extremes_again_are_not_new():
    for name in ("board_temp", "temp_spread"):
        p = _mixed((8000, 3000, PERIOD), limits=SLOW_AGES)
        while p.went_ms % 24000 != 24000 - PERIOD:
            p.scan_due()
        for board, dc in ((0, 580), (1, 590)):  # each once
            while p.went_ms % (24000, 3000)[board] != (24000, 3000)[board] - PERIOD:
                p.scan_due()
            if name == "board_temp":
                p.board_dc[board] = 2 * dc
            else:
                p.each_dc[board][0] = dc
            p.scan_due()
            p.board_dc[board] = 300
            p.each_dc[board][0] = 250
        for _ in range(120):
            p.scan_due()
            assert not p.trips(), name


def test_a_hot_board_is_not_hidden_behind_a_hotter_one_that_is_old():
    p = _mixed((9000, PERIOD), limits=SLOW_AGES)
    while p.went_ms % 9000 != 9000 - PERIOD:
        p.scan_due()
    p.board_dc[0] = 1200
    p.scan_due()
    p.board_dc = [300, 1000]
    for n in range(20):
        p.scan_due()
        if "board_temp" in p.trips():
            break
    assert 10 <= n <= 13


def test_what_is_out_goes_by_readings_only():
    # not while its board is invalid, nor when it is lost
    p = _mixed((PERIOD, 8000), limits=SLOW_AGES)
    p.each_mv[1][2] = 3700
    while not p.tripped(F.CELL_HIGH):
        p.scan_due()
    p.pack.invalidate(1)
    p.silent = (1,)
    for _ in range(600):
        p.scan_due()
        assert p.active(F.CELL_HIGH) and p.active(F.CELL_HIGH - 1)
    p.faults.acknowledge()
    assert p.tripped(F.CELL_HIGH)
    p.silent = ()
    p.each_mv[1][2] = 3300
    for _ in range(250):
        p.scan_due()
    p.faults.acknowledge()
    assert p.names() == []


def test_an_open_wire_stays_while_another_board_is_invalid():
    p = _mixed((PERIOD, PERIOD))
    p.each_mv[1] = [3300, 3640, 2960, 3300]
    for _ in range(20):
        p.scan_due()
    assert p.active(F.OPEN_WIRE)
    p.pack.invalidate(0)
    p.silent = (0,)
    p.scan_due()
    assert p.active(F.OPEN_WIRE)
    p.silent = ()
    p.each_mv[1] = [3300] * 4
    p.scan_due()
    assert not p.active(F.OPEN_WIRE)


def test_a_string_without_temperatures_withdraws_nothing_of_another():
    second = '[[slave]]; kind = "cell_link"; link = "can0"; node = 2; cells = 4; temps = 2'
    p = Parts(temps=0, behind=second + "; string = 2", pack="cells = 8").ready()
    p.dc = [710, 250]
    p.limits.hard_temp(0, 710)
    for _ in range(3):
        p.scan()
        assert p.faults.active[p.faults.slot(F.TEMP_HARD_HIGH, 1)]
    p.dc = [None, None]
    for _ in range(80):
        p.scan()
        lost = p.faults.active[p.faults.slot(F.TEMP_LOST, 1)]
    assert lost


def test_a_scan_that_ends_in_the_evaluation_of_another_loses_no_reading():
    p = Parts().ready()
    p.scan()
    for _ in range(14):
        p.pass_ms(PERIOD)
        for i in range(4):
            p.pack.cell_mv[i] = 3700 if i == 1 else 3300
            p.pack.cell_flags[i] = FRESH | SEEN | NEW
            p.pack.cell_at[i] = p.now
        p.limits.scan_finished(p.now)
        p.limits.scan_finished(p.now)  # as where the last answer comes at the very begin of a scan
        while p.limits.evaluating:
            p.limits.evaluate_next(p.now)
    assert p.tripped(F.CELL_HIGH)


def test_two_of_three_readings_beyond_trip_however_rare_they_are():
    for poll_period in (100, 1000, 3000, 8000):
        p = _mixed((poll_period, poll_period), limits=SLOW_AGES)
        n = 0
        for _ in range(60 * poll_period // PERIOD):
            if p.scan_due():
                n += 1
                p.each_mv[1][1] = 3300 if n % 3 == 0 else 3651
        assert p.tripped(F.CELL_HIGH), poll_period


def _parts(poll_period, gap, parts=2, cells=8, temps=4, period=PERIOD, **settings):
    """A board whose answer comes in parts, `gap` ms between them: a scan ends in its middle."""
    p = Parts(slaves=1, cells=cells, temps=temps, **settings).ready()
    p.pack.poll_period_ms[0] = poll_period
    p.limits.set_poll_periods()
    p.all_mv = [3300] * cells
    p.all_dc = [250] * temps
    p.went_ms = 0

    def scan_part():
        """A scan later; the number of the part that came in it, or None."""
        p.pass_ms(period)
        p.went_ms += period
        at = p.went_ms % poll_period
        part = at // gap if at % gap == 0 and at // gap < parts else None
        for values, all_ in ((p.mv, p.all_mv), (p.dc, p.all_dc)):
            size = len(all_) // parts
            for i in range(len(all_)):
                values[i] = all_[i] if part is not None and i // size == part else None
        p.scan(0)
        return part

    p.scan_part = scan_part
    for _ in range(4 * poll_period // period):
        scan_part()
    assert p.names() == []
    return p


def test_an_answer_in_parts_is_evaluated_as_one():
    for poll_period, gap in ((8000, 100), (8000, 4000), (1000, 100), (500, 100)):
        for delay_s in (1, 10):
            for part in range(2):
                for kind, code, out in (("mv", F.CELL_HIGH, 3660), ("dc", F.TEMP_HIGH, 610)):
                    delays = f'; cell_delay = "{delay_s} s"; temp_delay = "{delay_s} s"'
                    p = _parts(poll_period, gap, limits=SLOW_AGES + delays)
                    (p.all_mv if kind == "mv" else p.all_dc)[-1 if part else 0] = out
                    n = 0
                    while not p.active(code):
                        p.scan_part()
                        n += 1
                        most = max(delay_s * 1000, 2 * poll_period) + 2 * poll_period + gap
                        assert n * PERIOD <= most, (poll_period, gap, delay_s, part, code)


def test_parts_of_an_answer_are_one_sample():
    # two wrong answers in a row are none of three
    for poll_period, gap in ((8000, 100), (8000, 500), (1000, 100)):
        p = _parts(poll_period, gap, limits=SLOW_AGES)
        # where its first part was evaluated by itself, once
        p.all_mv[4:] = [None] * 4
        for _ in range(3 * poll_period // PERIOD):
            p.scan_part()
        p.all_mv[4:] = [3300] * 4
        for _ in range(4 * poll_period // PERIOD):
            p.scan_part()
        while p.scan_part() != 1:
            pass
        p.all_mv = [3700] * 8
        for _ in range(2 * poll_period // PERIOD):
            p.scan_part()
        p.all_mv = [3300] * 8
        for _ in range(4 * poll_period // PERIOD):
            p.scan_part()
            assert not p.trips(), (poll_period, gap)
    # nor is one that takes eight scans
    p = _parts(
        8000,
        20,
        8,
        temps=8,
        period=20,
        limits=SLOW_AGES + '; cell_delay = "100 ms"',
        scan='scan_period = "20 ms"',
    )
    while p.scan_part() != 7:
        pass
    p.all_mv = [3700] * 8
    while p.scan_part() != 7:
        pass
    p.all_mv = [3300] * 8
    for _ in range(1000):
        p.scan_part()
        assert not p.trips()


def test_a_good_answer_forgives_the_same_in_parts():
    for gap in (100, 1000, 4000):
        p = _parts(8000, gap, limits=SLOW_AGES)
        n = 0
        for _ in range(60 * 80):
            if p.scan_part() == 1:
                n += 1
                p.all_mv[6] = 3300 if n % 3 == 0 else 3651
        assert p.tripped(F.CELL_HIGH), gap


def test_a_part_that_does_not_come_any_more_holds_up_nothing():
    p = _parts(1000, 100, limits='cell_age = "9 s"; temp_age = "20 s"')
    for _ in range(100):
        p.scan_part()
    while p.scan_part() != 1:
        pass
    p.all_mv[4:] = [None] * 4
    p.all_mv[1] = 3660
    n = 0
    while not p.tripped(F.CELL_HIGH):
        p.scan_part()
        n += 1
        assert n * PERIOD <= 6000


def test_what_is_read_rarely_trips_in_its_time():
    # every n-th scan only, though its board is read in each
    for every in (3, 10, 30):
        p = Parts(slaves=2, limits=SLOW_AGES + '; temp_delay = "5 s"; cell_delay = "5 s"').ready()
        names = {}
        for i in range(30 * every + 200):
            due = i % every == 0
            hot = i >= 10 * every
            p.pass_ms(PERIOD)
            p.dc = [(610 if hot else 250) if due else None] * 2 + [250, 250]
            # a spread stands; one other cell is read rarely
            p.mv = [3570, 2500 if hot else 3500] + [3300 if due else None] + [3300] * 5
            if due:
                p.pack.stack_ok[0] = 1
                p.pack.stack_at[0] = p.now
                p.pack.stack_mv[0] = sum([x or 3300 for x in p.mv[:4]])
                p.pack.die_dc[0] = 1000 if hot else 300
            p.scan(0)
            for name in p.trips():
                names.setdefault(name, (i - 10 * every) * PERIOD)
        for name in ("temp_high", "board_temp", "cell_spread"):
            most = max(5000, 2 * every * PERIOD) + 2 * every * PERIOD + 500
            assert names[name] <= most, (every, name, names)


def test_a_starved_evaluation_still_counts_what_is_charged():
    p = _mixed((PERIOD, 8000), limits=SLOW_AGES)
    p.each_dc[1][0] = -50
    n = 0
    while not p.tripped(F.TEMP_CHARGE_LOW):
        n += 1
        assert n < 40
        p.pass_ms(700)  # the evaluation before took so long
        p.went_ms += 700
        p.sample(20000, 0)
        p.scan_due()


def test_a_slow_string_leaves_the_window_of_another_as_it_is():
    p = Parts(slaves=2, parallel=2).ready()
    p.pack.poll_period_ms[1] = 5000
    p.limits.set_poll_periods()
    for i in range(1300):
        for string in range(2):
            p.currents[string].sample(30000 * (i % 2), p.now)
            p.limits.current_sampled(string, p.now)
        for cell in range(len(p.mv)):
            if cell != 1:
                p.mv[cell] = 3300 + 5 * (i % 2)
        p.scan()
    assert p.trips() == ["cell_stuck"]


def test_no_readings_are_neither_high_nor_low():
    p = Parts().ready()
    p.mv[1] = 3651
    for _ in range(5):
        p.scan()
    before = list(p.limits._own)
    for i in range(4):
        p.pack.cell_flags[i] &= 0xFF - FRESH
    p.mv = [None] * 4
    for _ in range(3):
        p.scan()
    assert list(p.limits._own) == before and any(before)


def test_a_long_silence_leaves_no_trace():
    # half the range of the ticks and more: a difference over it is negative
    for days in (2, 4, 5, 7):
        for kind, code, out, _ in ROWS:
            p = Parts(ms=WRAP - 5000).ready()
            p.scan()
            for i in range(4):
                p.pack.cell_flags[i] = 0
            for i in range(2):
                p.pack.temp_flags[i] = 0
            p.pass_ms(days * 86400000)
            _set(p, kind, out)
            assert _scans_until(p, code) <= 12, (days, code)
        p = Parts()
        p.sample(0)
        p.pass_ms(days * 86400000)
        for _ in range(14):
            p.sample(101000)
        assert p.active(F.CHARGE_CURRENT)


def test_a_long_silence_in_the_middle_of_a_violation():
    for days in (2, 4, 5, 7):
        for back in (False, True):
            p = Parts().ready()
            p.scan()
            p.mv[1] = 3651
            for _ in range(6):
                p.scan()
            for i in range(4):
                p.pack.cell_flags[i] = 0
            p.pass_ms(days * 86400000)
            if back:
                p.mv[1] = 3500
                p.scan()
                p.mv[1] = 3651
            assert not p.active(F.CELL_HIGH)
            assert 1 < _scans_until(p, F.CELL_HIGH) <= 12, (days, back)


def test_hard_cell_bounds_at_once():
    for mv, code in ((3751, F.CELL_HARD_HIGH), (1999, F.CELL_HARD_LOW), (0, F.CELL_HARD_LOW)):
        p = Parts().ready()
        assert p.strings.close(p.now) is None
        assert p.board.coils[:3] == [1000, 0, 0]
        p.limits.hard_cell(2, mv)
        assert p.board.coils[:3] == [0, 0, 0]
        assert p.tripped(code)
        assert (p.faults.place[code], p.faults.value[code]) == (2, mv)
    for mv in (3750, 2000):
        p = Parts().ready()
        p.limits.hard_cell(2, mv)
        assert p.names() == []


def test_hard_temperature_at_once():
    p = Parts().ready()
    p.limits.hard_temp(1, 700)
    assert p.names() == []
    assert p.strings.close(p.now) is None
    p.limits.hard_temp(1, 701)
    assert p.board.coils[:3] == [0, 0, 0]
    assert p.tripped(F.TEMP_HARD_HIGH)


def test_a_hard_cause_goes_with_hysteresis_and_all_readings():
    p = Parts().ready()
    p.mv[2] = 3760
    p.limits.hard_cell(2, 3760)
    p.scan()
    p.mv[2] = 3701
    p.scan()
    assert p.active(F.CELL_HARD_HIGH)
    p.mv[2] = 3700
    p.pack.cell_flags[0] = 0
    p.mv[0] = None
    p.scan()
    assert p.active(F.CELL_HARD_HIGH)
    p.mv[0] = 3600
    p.scan()
    assert not p.active(F.CELL_HARD_HIGH)
    assert p.tripped(F.CELL_HARD_HIGH)
    p.mv[1] = 1990
    p.limits.hard_cell(1, 1990)
    p.mv[1] = 2049
    p.scan()
    assert p.active(F.CELL_HARD_LOW)
    p.mv[1] = 2050
    p.scan()
    assert not p.active(F.CELL_HARD_LOW)


def test_a_measured_zero_trips_low():
    p = Parts().ready()
    p.scan()
    p.mv[3] = 0
    _near(p, _scans_until(p, F.CELL_LOW), 1000)
    assert (p.faults.place[F.CELL_LOW], p.faults.value[F.CELL_LOW]) == (3, 0)


def test_a_reading_that_ends_is_lost_after_its_age():
    p = Parts().ready()
    p.scan()
    p.mv[2] = None
    for _ in range(5):
        p.scan()
        assert p.trips() == []
    p.scan()
    assert p.trips() == ["cell_lost"]
    assert (p.faults.place[F.CELL_LOST], p.faults.value[F.CELL_LOST]) == (2, 3300)
    assert not p.pack.cell.complete
    p.mv[2] = 3300
    p.scan()
    assert not p.active(F.CELL_LOST)
    assert p.tripped(F.CELL_LOST)


def test_a_lost_reading_stays_lost_over_wraps():
    p = Parts().ready()
    p.mv[2] = None
    for _ in range(8):
        p.scan()
    for _ in range(15):
        p.pass_ms(86400000)
        p.scan()
        assert p.active(F.CELL_LOST)
        assert not p.pack.cell.complete


def test_a_temperature_that_ends_is_lost():
    p = Parts(limits='temp_age = "300 ms"').ready()
    p.dc[0] = None
    for _ in range(3):
        p.scan()
        assert p.trips() == []
    p.scan()
    assert p.trips() == ["temp_lost"]
    assert not p.pack.temp.complete


SLOW_PORT = (
    '[[slave]]; kind = "cell_link"; link = "uart0"; cells = 4; temps = 2%s;'
    ' [[link]]; port = "uart0"; cell_age = "5 s"; temp_age = "20 s"'
)


def test_a_port_has_ages_of_its_own():
    for string in ("", "; string = 2"):
        p = Parts(pack="cells = 8", behind=SLOW_PORT % string).ready()
        for i in range(2):
            p.pack.stack_ok[i] = 1
            p.pack.stack_at[i] = p.now
            p.pack.stack_mv[i] = 4 * 3300
        p.scan(0)
        p.mv[4:] = [None] * 4
        p.dc[2:] = [None] * 2
        for k in range(50):
            assert p.trips() == [], (string, k)
            p.scan()
            assert [p.pack.stack_ok[0], p.pack.stack_ok[1]] == [1 if k < 5 else 0, 1]
        p.scan()
        assert p.faults.first == F.CELL_LOST, string
        s = p.pack.string_of_slave[1]
        assert p.faults.place[p.faults.slot(F.CELL_LOST, s)] == 4
        assert s == 0 or not p.faults.active[F.CELL_LOST]
        for _ in range(200):
            p.scan()
        assert p.faults.place[p.faults.slot(F.TEMP_LOST, s)] == 2 and "temp_lost" in p.trips()
        # the others are as quick as ever
        p = Parts(pack="cells = 8", behind=SLOW_PORT % string).ready()
        p.scan()
        p.mv[1] = p.dc[1] = None
        for _ in range(5):
            p.scan()
            assert p.trips() == []
        p.scan()
        assert p.trips() == ["cell_lost"] and p.faults.place[F.CELL_LOST] == 1
        for _ in range(46):
            p.scan()
        assert p.faults.place[F.TEMP_LOST] == 1


def test_the_age_of_a_slow_port_warns_at_its_own_bounds():
    p = Parts(pack="cells = 8", behind=SLOW_PORT % "").ready()
    p.scan()
    p.mv[4:] = [None] * 4
    for _ in range(30):
        p.scan()
        assert p.names() == []
    p.scan()  # 60 % of 5 s
    assert p.names() == ["slave_age_warning"]
    warning, derate = F.SLAVE_AGE - 2, F.SLAVE_AGE - 1
    assert (p.faults.place[warning], p.faults.value[warning]) == (1, 3100)
    for _ in range(10):
        p.scan()
    assert p.names() == ["slave_age_warning", "slave_age_derate"]
    assert p.faults.value[derate] == 4100
    # both late: the one that used up more of its own is said
    p.mv[0] = None
    for _ in range(4):
        p.scan()
    assert (p.faults.place[warning], p.faults.place[derate]) == (1, 1)


def test_a_reading_that_never_was_is_not_lost_but_missing():
    p = Parts()
    p.mv[1] = None
    for _ in range(30):
        p.scan()
    assert p.trips() == []
    assert not p.pack.cell.complete


def test_spread():
    p = Parts().ready()
    p.mv = [3300, 3300, 3300, 3600]
    for _ in range(15):
        p.scan()
    assert p.names() == []
    p.mv[0] = 3299
    _scans_until(p, warning(F.CELL_SPREAD))
    assert p.names() == ["cell_spread_warning"]
    assert p.faults.value[warning(F.CELL_SPREAD)] == 301
    assert p.faults.trips == 0


def _stack(parts, by):
    parts.pass_ms(0)
    parts.pack.stack_ok[0] = 1
    parts.pack.stack_at[0] = parts.now
    parts.pack.stack_mv[0] = sum(parts.mv) + by


def test_stack_voltage_against_its_cells():
    for by in (2010, -2010):
        p = Parts().ready()
        for _ in range(2):
            _stack(p, by)
            p.scan()
            assert p.trips() == []
        _stack(p, by)
        p.scan()
        assert p.trips() == ["stack_voltage"]
        assert p.faults.value[F.STACK_VOLTAGE] == by
        for _ in range(6):
            _stack(p, 0)
            p.scan()
        assert not p.active(F.STACK_VOLTAGE)
        assert p.tripped(F.STACK_VOLTAGE)
    p = Parts().ready()
    for _ in range(30):
        _stack(p, 2000)
        p.scan()
    assert p.trips() == []


def test_stack_voltage_that_comes_and_goes_trips():
    # lesson 3: one good sample forgives nothing
    p = Parts().ready()
    for i in range(40):
        _stack(p, 0 if i % 3 == 2 else 5000)
        p.scan()
    assert p.tripped(F.STACK_VOLTAGE)


def test_an_old_stack_voltage_is_not_evaluated():
    p = Parts().ready()
    _stack(p, 5000)
    p.scan()
    for _ in range(10):
        p.scan()
    assert p.names() == []
    assert not p.pack.stack_ok[0]


def test_charging_temperatures_only_while_charging():
    for dc, code in ((460, F.TEMP_CHARGE_HIGH), (-10, F.TEMP_CHARGE_LOW)):
        for ma in (0, 500, -50000):
            p = Parts().ready()
            p.dc[0] = dc
            for _ in range(30):
                p.current.sample(ma, p.now)
                p.scan()
            assert p.trips() == [], (dc, ma)
        p.current.sample(501, p.now)
        _near(p, _scans_until(p, code), 1000)
        # the cause goes when charging ends
        p.current.sample(0, p.now)
        for _ in range(30):
            p.scan()
        assert not p.active(code)
        assert p.tripped(code)


def test_currents_after_their_delay():
    for ma, code, bound in (
        (100001, F.CHARGE_CURRENT, 100000),
        (-200001, F.DISCHARGE_CURRENT, -200000),
    ):
        for start in (1000, WRAP - 50):
            p = Parts(ms=start)
            p.sample(bound)
            for _ in range(9):
                p.sample(ma)
                assert p.trips() == []
            p.sample(ma)
            p.sample(ma)
            assert p.active(code)
            p.sample(bound - (500 if bound > 0 else -500))
            assert p.active(code)
            for _ in range(30):
                p.sample(0)
            assert not p.active(code)
            assert p.tripped(code)
    p = Parts()
    for _ in range(100):
        p.sample(100000)
        p.sample(-200000)
    assert p.trips() == []


def test_a_slow_sensor_trips_in_time():
    # time between two samples counts in full as long as the sensor is not late
    p = Parts(limits='current_age = "2 s"; current_delay = "2 s"')
    p.sample(0, 500)
    for _ in range(5):
        p.sample(150000, 500)
    assert p.active(F.CHARGE_CURRENT)


def test_hard_current_at_once():
    for ma in (400001, -400001):
        p = Parts().ready()
        assert p.strings.close(p.now) is None
        p.sample(ma)
        assert p.tripped(F.CURRENT_HARD)
        assert p.board.coils[:3] == [0, 0, 0]
        p.sample(399500 if ma > 0 else -399500)
        assert p.active(F.CURRENT_HARD)
        p.sample(399499 if ma > 0 else -399499)
        assert not p.active(F.CURRENT_HARD)
    p = Parts()
    p.sample(400000)
    p.sample(-400000)
    assert not p.active(F.CURRENT_HARD)


def test_a_silent_current_sensor_trips_only_while_current_may_flow():
    p = Parts().ready()
    for _ in range(30):
        p.scan()
    assert p.trips() == []
    p.sample(0)
    assert p.strings.close(p.now) is None
    p.scan(200)
    assert p.trips() == []
    p.scan(1)
    assert p.trips() == ["current_lost"]
    assert p.board.coils[:3] == [0, 0, 0]
    p.scan()
    assert p.active(F.CURRENT_LOST)
    p.sample(0)
    p.scan(10)
    assert not p.active(F.CURRENT_LOST)


def test_the_age_of_a_current_over_wraps():
    p = Parts()
    assert p.current.age(p.now) > 1 << 20
    p.sample(5)
    assert p.current.age(p.now) == 0
    for _ in range(20):
        p.pass_ms(86400000 // 2)
        assert p.current.age(p.now) > 60000
        assert not p.current.valid


def test_without_a_sensor_no_current_is_evaluated():
    p = Parts(limits="current_sensor = false").ready()
    assert p.strings.close(p.now) is None
    for _ in range(30):
        p.scan()
    assert p.names() == []


# --- what falls silent ---


def test_a_voltage_that_nobody_measures_is_reported_and_the_sum_evaluated():
    p = Parts(limits="voltage_sensor = true").ready()
    for _ in range(15):
        p.scan()
        p.limits.string_measured(0, None, p.now)
    assert p.names() == ["voltage_lost"]
    assert p.trips() == []
    p.mv = [3640] * 4  # above voltage_warn_max, by their sum
    for _ in range(15):
        p.scan()
        p.limits.string_measured(0, None, p.now)
    assert "voltage_high_warning" in p.names()
    for _ in range(40):
        p.pass_ms(25)
        p.limits.string_measured(0, 13200, p.now)
    assert "voltage_lost" not in p.names()


def test_the_last_current_of_a_string_that_left_is_not_in_the_pack_s_sum():
    p = Parts(slaves=2, parallel=2, limits='pack_discharge_max = "250 A"').ready()
    p.sample(-100000, 10, 0)
    p.sample(-100000, 10, 1)
    assert p.limits.pack_ma == -200000
    for _ in range(100):
        p.sample(-160000, 10, 0)  # the other sensor is silent
    assert p.limits.pack_ma == -160000
    assert p.trips() == []


# --- sensors that are left out ---


def test_a_thermistor_that_the_pack_file_leaves_out_is_not_needed_and_trips_nothing():
    for broken in (None, 1200):
        p = Parts(temps=4, slave="temps_left_out = 2")
        p.dc[1] = broken
        p.ready()
        for _ in range(100):
            p.scan()
            if broken:
                p.limits.hard_temp(1, broken)  # as a driver does while it parses the frame
        assert p.names() == []
        p.sample(0)
        assert p.strings.close(p.now) is None
        p.dc[2] = 700  # the others count
        for _ in range(30):
            p.scan()
        assert "temp_high" in p.trips()


def test_the_sensor_whose_value_stands_for_a_broken_one_may_not_be_lost():
    p = Parts(temps=2, slave="temps_left_out = 1").ready()
    p.dc[1] = None
    for _ in range(80):
        p.scan()
    assert p.trips() == ["temp_lost"]


def test_what_is_left_out_must_be_there_and_leave_one():
    for left_out, good in (("2", True), ('"2-4"', True), ("5", False), ('"1-4"', False)):
        tables = {"temps": 4, "slave": "temps_left_out = " + left_out}
        if good:
            Parts(**tables)
        else:
            assert "temps_left_out" in str(raises(ConfigError, lambda t=tables: Parts(**t)))
