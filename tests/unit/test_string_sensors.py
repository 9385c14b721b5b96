"""The current of a string from its sensors: the zero, plausibility, two ranges, two sensors."""

import gc

import micropython

from bms.config import pack_file
from bms.config.errors import ConfigError
from bms.protection import fault_ids as F
from bms.sensors import build as sensors
from bms.sensors.base import Sensor
from bms.sensors.string_sensors import StringSensors
from fakes import FakeBoard, Parts, Random, pack_lines, raises

LOCKS = hasattr(micropython, "heap_lock")


class Entry:
    kind = "test"
    string = 1
    gain_ppm = 1000000
    reversed = 0
    range_ma = 500000


class Fake(Sensor):
    """A sensor that shows `shows`, None = nothing, every `every` ms."""

    MEDIAN = False

    def __init__(self, shows=0, range_ma=500000):
        entry = Entry()
        entry.range_ma = range_ma
        super().__init__(entry)
        self.shows = shows
        self.says = 0  # error
        self.every = 10
        self._at = -1

    def step(self, now):
        if self._at >= 0 and now - self._at < self.every:
            return
        self._at = now
        self.error = self.says
        if self.shows is None or self.says:
            return
        self._take(max(min(self.shows, self.range_ma), -self.range_ma), now)


class Bench:
    """A string with fake sensors; its contactors are as `closed` says."""

    def __init__(self, *fakes, frozen_ms=10000):
        self.parts = Parts(slaves=2, cells=4, temps=0).ready()
        p = self.parts
        p.config.current_frozen_ms = frozen_ms
        self.sensors = list(fakes) or [Fake()]
        self.source = StringSensors(
            p.config, self.sensors, p.current, p.strings, p.pack, p.faults, p.clock.now
        )
        self.cells = p.pack.cells
        self.samples = 0
        self.on = False
        p.contactors.energised = lambda: self.on
        p.contactors.closed = lambda: self.on

    def run(self, ms, step=10):
        p = self.parts
        end = p.clock.hal.total_ms + ms
        while p.clock.hal.total_ms < end:
            p.pass_ms(step)
            if self.source.step(p.now):
                self.samples += 1
            if p.clock.hal.total_ms // 10 % 2 == 0:
                self.source.tick(p.now)
        return self

    def cells_mv(self, mv):
        p = self.parts
        for i in range(p.pack.cells):
            p.mv[i] = mv
        p.read()
        p.pack.update()
        return self

    @property
    def ma(self):
        return self.parts.current.ma

    def names(self):
        return self.parts.names()

    def trips(self):
        return self.parts.trips()


def test_samples_reach_the_current():
    b = Bench(Fake(12345))
    b.on = True
    b.run(1000)
    assert b.ma == 12345
    assert b.samples == 100
    assert b.names() == []
    b.sensors[0].shows = None
    b.run(500)
    assert b.samples == 100
    assert b.parts.current.age(b.parts.now) >= 500


# --- current while open ---


def test_a_current_while_open_trips():
    b = Bench(Fake(0)).run(10000)
    assert b.names() == []
    b.sensors[0].shows = 600
    b.run(150)
    assert b.names() == []
    b.run(200)
    assert b.names() == ["current_while_open"]
    assert b.parts.faults.value[F.CURRENT_WHILE_OPEN] == 600
    b.sensors[0].shows = 0
    b.run(500)
    assert b.parts.active(F.CURRENT_WHILE_OPEN)  # not at once: it may flicker
    b.run(800)
    assert not b.parts.active(F.CURRENT_WHILE_OPEN)
    assert b.parts.tripped(F.CURRENT_WHILE_OPEN)


def test_no_current_while_open_where_a_coil_is_on_or_was_a_moment_ago():
    b = Bench(Fake(0)).run(5000)
    b.on = True
    b.sensors[0].shows = 90000
    b.run(5000)
    assert b.names() == []
    b.on = False  # contactors travel, an arc burns
    b.run(250)
    b.sensors[0].shows = 0
    b.run(3000)
    assert b.names() == []
    b.on = True
    b.sensors[0].shows = -90000
    b.run(1000)
    b.on = False
    b.run(700)
    assert b.names() == ["current_while_open"]


def test_spikes_while_open_do_not_trip():
    b = Bench(Fake(0)).run(10000)
    for _ in range(50):
        b.sensors[0].shows = 3000
        b.run(20)
        b.sensors[0].shows = 0
        b.run(30)
    assert b.names() == []


def test_one_old_sample_is_not_counted_again():
    b = Bench(Fake(0)).run(10000)
    b.sensors[0].shows = 3000
    b.run(10)
    b.sensors[0].shows = None
    b.run(2000)
    assert b.names() == []


# --- zero ---


def test_the_zero_is_found_while_open():
    r = Random(3)
    for zero in (1500, -1500, 300, -1, 0, 1999):
        b = Bench(Fake(zero))
        for _ in range(300):
            b.sensors[0].shows = zero + r.between(-40, 40)
            b.run(100)
        assert abs(b.sensors[0].offset_ma - zero) <= 12, (zero, b.sensors[0].offset_ma)
        assert abs(b.ma) <= 52
        assert b.names() == []
        # it stays while a current flows
        held = b.sensors[0].offset_ma
        b.on = True
        b.sensors[0].shows = 80000
        b.run(60000, 20)
        assert b.sensors[0].offset_ma == held


def test_a_zero_beyond_its_bound_is_a_fault():
    for zero in (2300, -2300):
        b = Bench(Fake(zero)).run(20000)
        assert "current_offset" in b.names()
        b.run(5000)
        assert b.parts.active(F.CURRENT_OFFSET)
        assert abs(b.sensors[0].offset_ma) <= 2000
        b.sensors[0].shows = 0
        b.run(30000)
        assert not b.parts.active(F.CURRENT_OFFSET)


def test_a_real_current_is_not_taken_for_a_zero():
    # known zero, then the string feeds something although it is open
    b = Bench(Fake(100)).run(30000)
    b.sensors[0].shows = 1100
    b.run(1000)
    assert b.names() == ["current_while_open"]
    # a contact that is seen closed: nothing is learnt
    b = Bench(Fake(1500))
    b.parts.board.stuck[2] = 1
    b.run(30000)
    assert b.sensors[0].offset_ma == 0


def test_before_the_zero_is_known_the_bound_is_wider():
    b = Bench(Fake(1900)).run(4000)
    assert b.names() == []
    b.run(30000)
    assert b.names() == []
    assert abs(b.ma) <= 3
    b = Bench(Fake(2600)).run(2000)
    assert b.names() == ["current_while_open"]


def test_a_stored_zero_is_taken_up():
    b = Bench(Fake(1500))
    b.sensors[0].offset_ma = 1480
    b.run(1000)
    assert b.ma == 20
    b.run(6000)
    assert abs(b.ma) <= 20
    b.run(60000, 20)
    assert abs(b.ma) <= 3


# --- errors ---


def test_an_error_of_the_sensor_trips_when_it_lasts():
    b = Bench()
    b.on = True
    b.run(1000)
    b.sensors[0].says = 0x80
    b.run(60)
    b.sensors[0].says = 0
    b.run(1000)
    assert b.names() == []
    b.sensors[0].says = 0x80
    b.run(300)
    assert b.names() == ["current_sensor_error"]
    assert b.parts.faults.value[F.CURRENT_SENSOR_ERROR] == 0x80
    b.sensors[0].says = 0
    b.run(500)
    assert b.parts.active(F.CURRENT_SENSOR_ERROR)
    b.run(700)
    assert not b.parts.active(F.CURRENT_SENSOR_ERROR)


def test_one_of_two_lost_is_said_and_the_other_counts():
    b = Bench(Fake(5000), Fake(5100))
    b.on = True
    b.run(1000)
    assert b.ma == 5000
    b.sensors[0].says = 7
    b.run(300)
    assert b.ma == 5100
    samples = b.samples
    b.run(1500)
    assert b.samples - samples >= 149
    assert b.names() == ["current_sensor_lost"]
    assert b.parts.faults.value[F.CURRENT_SENSOR_LOST] == 1
    b.sensors[0].says = 0
    b.run(2000)
    assert b.ma == 5000
    assert b.names() == []
    b.sensors[0].shows = None  # silent, without a word
    b.run(2000)
    assert b.names() == ["current_sensor_lost"]
    b.sensors[1].says = 9
    b.run(2000)
    assert "current_sensor_error" in b.names()


# --- two of them ---


def test_two_that_disagree_trip():
    b = Bench(Fake(50000), Fake(57000))
    b.on = True
    b.run(5000)
    assert b.names() == []  # 5 A and 5 %
    b.sensors[1].shows = 58000
    b.run(900)
    assert b.names() == []
    b.run(400)
    assert b.names() == ["current_disagree"]
    assert b.parts.faults.value[F.CURRENT_DISAGREE] == 8000
    b = Bench(Fake(50000), Fake(-50000))
    b.on = True
    b.run(1500)
    assert b.names() == ["current_disagree"]


def test_short_differences_are_not_disagreement():
    b = Bench(Fake(0), Fake(0))
    b.on = True
    for i in range(200):
        b.sensors[0].shows = 100000 * (i & 1)
        b.run(20)
        b.sensors[1].shows = b.sensors[0].shows
        b.run(100)
    assert b.names() == []


def test_two_ranges():
    small, large = Fake(0, 30000), Fake(0)
    b = Bench(small, large)
    b.on = True
    for ma in (0, 29000, 31000, 300000, 31000, 29000, -29000, -31000, -400000, 10):
        small.shows = ma
        large.shows = ma + 400
        b.run(2000)
        assert b.ma == (ma if abs(ma) < 30000 else ma + 400), ma
        assert b.names() == []
    # the last one saturates too: at least so much flows
    small.shows = large.shows = 900000
    b.run(500)
    assert b.ma == 500000
    # the small one shows less than it should: it isn't saturated
    small.shows = 10000
    large.shows = 100000
    b.run(2000)
    assert b.names() == ["current_disagree"]


def test_a_lost_large_range_is_not_hidden_by_a_small_one_that_saturates():
    small, large = Fake(20000, 50000), Fake(20000)
    b = Bench(small, large)
    b.on = True
    b.run(2000)
    large.shows = None
    b.run(2000)
    assert b.ma == 20000
    assert b.names() == ["current_sensor_lost"]  # a warning: the small one measures
    small.shows = 390000
    b.run(500)
    # nobody knows the current: not 50 A, but none
    assert b.parts.current.age(b.parts.now) >= 400
    small.shows = 20000
    b.run(500)
    assert b.parts.current.age(b.parts.now) <= 20


def test_a_small_range_that_clamps_early_is_no_disagreement():
    small, large = Fake(0, 30000), Fake(0)
    b = Bench(small, large)
    b.on = True
    small.shows = 29775  # 0.75 % below its range
    large.shows = 200000
    b.run(3000)
    assert b.ma == 200000
    assert b.names() == []


# --- the sign ---


def _drive(b, sign, steps=20, ms=1500):
    """Currents of 20 A and back, the cells' voltage with them, or against them."""
    b.on = True
    for i in range(steps):
        ma = 20000 * (i & 1) - 10000
        b.sensors[0].shows = sign * ma
        b.cells_mv(3300 + ma // 500)
        b.run(ms)
    return b


def test_a_current_sensor_that_is_mounted_the_wrong_way_round_is_found():
    assert _drive(Bench(Fake(0), frozen_ms=0), 1).names() == []
    assert _drive(Bench(Fake(0), frozen_ms=0), -1).trips() == ["current_reversed"]


def test_cells_that_step_for_other_reasons_reverse_no_sensor():
    b = Bench(Fake(0), frozen_ms=0)
    b.on = True
    for i in range(40):  # no current steps
        b.cells_mv(3300 + 40 * (i & 1))
        b.run(1500)
    assert b.names() == []
    r = Random(1)
    for i in range(60):  # a current that never rests
        b.sensors[0].shows = r.between(-50000, 50000)
        b.cells_mv(3300 + 40 * (i & 1))
        b.run(150)
    assert b.names() == []
    mv = 3300
    for i in range(40):  # one step in four with the current
        ma = 20000 * (i & 1) - 10000
        b.sensors[0].shows = ma
        mv += ma // 250 if i % 4 == 0 else -ma // 250
        b.cells_mv(mv)
        b.run(1500)
    assert b.names() == []


# --- standing still ---


def test_a_reading_that_stands_while_the_cells_move():
    b = Bench(Fake(20000))
    b.on = True
    for i in range(20):
        b.cells_mv(3300 - 40 * (i & 1))
        b.run(1000)
        if i < 9:
            assert b.names() == []
    assert b.names() == ["current_frozen"]
    b.sensors[0].shows = 20001
    b.cells_mv(3300)
    b.run(300)
    assert not b.parts.active(F.CURRENT_FROZEN)


def test_a_reading_may_stand_while_the_cells_do():
    b = Bench(Fake(20000))
    b.on = True
    mv = 3300
    for _ in range(100):
        mv += 2  # charging steadily: far from a step
        b.cells_mv(mv)
        b.run(1000)
    assert b.names() == []


def test_a_reading_that_moves_by_a_bit_does_not_stand():
    b = Bench(Fake(20000))
    b.on = True
    for i in range(100):
        b.sensors[0].shows = 20000 + (i // 4 & 1)
        b.cells_mv(3300 - 40 * (i & 1))
        b.run(1000)
    assert b.names() == []


def test_steps_before_it_moved_do_not_count():
    b = Bench(Fake(20000))
    b.on = True
    for i in range(6):
        b.cells_mv(3300 - 40 * (i & 1))
        b.run(1000)
    b.sensors[0].shows = 20001
    b.run(12000)
    b.cells_mv(3300)
    b.run(1000)
    assert b.names() == []


def test_nothing_is_frozen_while_open_or_while_cells_balance():
    b = Bench(Fake(0))
    for i in range(30):
        b.cells_mv(3300 - 40 * (i & 1))
        b.run(1000)
    assert b.names() == []
    b.on = True
    b.parts.pack.balance_mask[0] = 5
    for i in range(30):
        b.cells_mv(3300 - 40 * (i & 1))
        b.run(1000)
    assert b.names() == []


def test_it_never_follows_the_zero_where_it_is_switched_off():
    b = Bench(Fake(0), frozen_ms=0)
    b.on = True
    for i in range(30):
        b.cells_mv(3300 - 40 * (i & 1))
        b.run(1000)
    assert b.names() == []


def test_days_pass():
    b = Bench(Fake(100), Fake(100))
    b.parts.board.clock.total_ms = (1 << 29) - 20000
    b.parts.clock.tick()
    b.run(20000)
    for _ in range(9):
        for on in (False, True):
            b.on = on
            end = b.parts.board.clock.total_ms + (1 << 26)
            while b.parts.board.clock.total_ms < end:
                # as the master does, but with time in large pieces
                b.parts.pass_ms(29999)
                b.sensors[0]._at = b.sensors[1]._at = -1
                b.source.step(b.parts.now)
                b.source.tick(b.parts.now)
            b.run(3000)
            assert b.names() == [], on
            assert abs(b.ma) <= 1


# --- hall ---


HALL = 'kind = "hall"; channel = %d; range = "%d A"; zero = "1650 mV"; span = "1320 mV"'


def hall(*tables):
    board = FakeBoard()
    lines = pack_lines()
    for table in tables:
        lines += ["[[sensor]]"] + [row.strip() for row in table.split(";")]
    return board, sensors.build(pack_file.parse(lines), board)


def _steps(found, now, ms):
    for _ in range(ms):
        now += 1
        for sensor in found:
            sensor.step(now)
    return now


def test_hall_shows_the_current():
    board, found = hall(HALL % (1, 500))
    now = 0
    for mv, ma in (
        (1650, 0),
        (2970, 500000),
        (330, -500000),
        (1782, 50000),
        (1651, 378),
        (1649, -379),
    ):
        board.mv[1] = mv
        now = _steps(found, now, 40)
        assert found[0].ma == ma
        assert found[0].fresh(now)
        assert found[0].saturated == (abs(ma) == 500000)
    board.mv[1] = 3100
    now = _steps(found, now, 40)
    assert found[0].ma == 500000
    assert found[0].saturated
    assert found[0].samples >= 200 // 8
    assert board.adc_reads <= now // 2 + 3


def test_hall_with_every_range_and_span():
    for amps in (1, 30, 350, 4000):
        for span in (50, 666, 1320, 1500):
            board, found = hall(
                'kind = "hall"; channel = 0; range = "%d A"; zero = "1600 mV"; span = "%d mV"'
                % (amps, span)
            )
            for mv in (1600, 1601, 1600 + span // 3, 1600 - span // 7, 1600 - span, 1600 + span):
                board.mv[0] = mv
                _steps(found, 0, 60)
                exact = (mv - 1600) * amps * 1000 // span
                assert abs(found[0].ma - exact) <= 1, (amps, span, mv)


def test_hall_with_a_broken_wire():
    board, found = hall(HALL % (0, 500))
    now = _steps(found, 0, 100)
    for mv in (0, 20, 3290):
        board.mv[0] = mv
        before = found[0].ma
        now = _steps(found, now, 4)
        board.mv[0] = 1700
        now = _steps(found, now, 20)
        assert found[0].error == 0  # a single spike
        board.mv[0] = mv
        now = _steps(found, now, 20)
        assert found[0].error == (mv or 1)
        assert not found[0].fresh(now)
        board.mv[0] = 1650
        now = _steps(found, now, 100)
        assert found[0].error == 0
        assert found[0].fresh(now)
        assert before >= 0
    board.mv[0] = None  # the ADC gives nothing
    samples = found[0].samples
    now = _steps(found, now, 200)
    assert found[0].samples == samples
    assert not found[0].fresh(now)


def test_hall_of_two_ranges():
    board, found = hall(HALL % (0, 30), HALL % (1, 500))
    p = Parts().ready()
    source = StringSensors(p.config, found, p.current, p.strings, p.pack, p.faults, p.now)
    p.contactors.energised = lambda: True
    for ma in (0, 5000, 29000, 60000, 400000, -29000, -31000, -499000):
        for channel, most in ((0, 30), (1, 500)):
            mv = 1650 + ma * 1320 // (most * 1000)
            board.mv[channel] = max(min(mv, 3100), 150)
        for _ in range(2000):
            p.pass_ms(1)
            source.step(p.now)
            source.tick(p.now)
        assert abs(p.current.ma - ma) <= (25 if abs(ma) < 30000 else 400), (ma, p.current.ma)
        assert source.used == (0 if abs(ma) < 30000 else 1)
        assert p.names() == []


def test_hall_refuses_by_line():
    for table, key in (
        (HALL % (3, 30), "channel"),
        ('kind = "hall"; channel = 0; range = "9 A"; zero = "1650 mV"', "span"),
        ('kind = "hall"; channel = 0; zero = "1650 mV"; span = "1320 mV"', "range"),
        (HALL % (0, 30) + '; low = "400 mV"', "span"),
        (HALL % (0, 30) + '; high = "2900 mV"', "span"),
        (HALL % (0, 30) + '; link = "can0"', "link"),
    ):
        error = raises(ConfigError, hall, table)
        assert error.key == key, (table, error)


def test_the_board_s_own_sensor():
    board = FakeBoard()
    found = sensors.build(pack_file.parse(pack_lines(slaves=2, parallel=2)), board)
    assert [s.kind for s in found] == ["board", "board"]
    assert [s.string for s in found] == [0, 1]
    board.string_ma = {0: 5, 1: -7000}
    for s in found:
        s.step(1)
    assert [s.ma for s in found] == [5, -7000]
    assert sensors.build(pack_file.parse(pack_lines(limits="current_sensor = false")), board) == []


def test_a_source_never_allocates():
    b = Bench(Fake(0, 30000), Fake(100))
    b.run(7000)
    p = b.parts
    now = p.now
    gc.collect()
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        k = 0
        while k < 1500:
            now = (now + 10) & 0x1FFFFFFF
            b.on = k >= 800
            b.sensors[0].shows = (k * 37) % 900 if k < 700 else 1000 * (k & 63)
            b.sensors[1].shows = b.sensors[0].shows + 90
            if k > 1200:
                b.sensors[0].says = 3
            p.pack.string_cell[0].total = 26400 + 300 * (k >> 5 & 1)
            b.source.step(now)
            b.source.tick(now)
            k += 1
    finally:
        if LOCKS:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    assert p.current.ma
