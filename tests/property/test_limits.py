"""Delayed bounds: no violation is forgotten, none is made up, and a trip stays."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bms import ticks
from bms.clock import Clock
from bms.config import pack_file
from bms.contactors.strings import Strings
from bms.pack import FRESH, NEW, SEEN, Pack
from bms.protection.fault_ids import CELL_HIGH, CHARGE_CURRENT
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from extent import extent

PACK = """
[pack]
name = "p"
chemistry = "LFP"
cells = 3
capacity = "10 Ah"
[limits]
charge_max = "10 A"
discharge_max = "10 A"
current_hard_max = "20 A"
cell_age = "2 s"
current_delay = "1 s"
current_age = "2 s"
[scan]
scan_period = "100 ms"
[[slave]]
kind = "cell_link"
link = "can0"
cells = 3
"""
CONFIG = pack_file.parse(PACK.splitlines())
DELAY = CONFIG.cell_delay_ms
OUT, HELD, BACK = 3651, 3640, 3500  # beyond the bound, inside the hysteresis, inside


class Hal:
    STRINGS = 1

    def __init__(self, start: int) -> None:
        self.now = start

    def ms(self) -> int:
        return self.now & ticks.MASK

    us = ms

    def coil(self, which: int, on: int) -> None:
        pass

    def feedback(self, which: int) -> int:
        return 0


class System:
    def __init__(self, start: int) -> None:
        self.hal = Hal(start)
        self.clock = Clock(self.hal)
        self.pack = Pack(CONFIG)
        self.faults = Faults(self.clock, self.pack)
        self.current = StringCurrent(CONFIG, 0)
        currents = [self.current]
        strings = Strings(CONFIG, self.hal, self.faults, self.pack, currents, self.clock)
        self.faults.set_open_target(strings)
        self.limits = Limits(CONFIG, self.pack, currents, self.faults, strings, self.clock.now)

    def scan(self, mv: list[int | None], ms: int) -> None:
        """After `ms`: readings, None = an invalid one; then they are evaluated."""
        self.hal.now += ms
        now = self.clock.tick()
        for i, value in enumerate(mv):
            if value is not None:
                self.pack.cell_mv[i] = value
                self.pack.cell_flags[i] = FRESH | SEEN | NEW
                self.pack.cell_at[i] = now
        self.limits.check_ages(now)
        self.limits.scan_finished(now)
        while self.limits.evaluating:
            self.limits.evaluate_next(now)

    def sample(self, ma: int, ms: int) -> None:
        self.hal.now += ms
        now = self.clock.tick()
        self.current.sample(ma, now)
        self.limits.current_sampled(0, now)


start = st.one_of(st.integers(0, ticks.MASK), st.integers(ticks.MASK - 3000, ticks.MASK))
value = st.sampled_from([OUT, OUT, HELD, BACK, None])
history = st.lists(st.tuples(value, st.sampled_from([50, 100, 100, 150])), max_size=40)


@settings(max_examples=extent(300, 1200))
@given(start, history, st.integers(0, 2))
def test_a_lasting_violation_trips_whatever_came_before(
    t: int, before: list[tuple[int | None, int]], cell: int
) -> None:
    s = System(t)
    others: list[int | None] = [3450] * 3
    for mv, ms in before:
        others[cell] = mv
        s.scan(list(others), ms)
    others[cell] = OUT
    for _ in range(DELAY // 100 + 1):
        s.scan(list(others), 100)
    assert s.faults.latched[CELL_HIGH]


@settings(max_examples=extent(200, 800))
@given(start, st.lists(st.integers(1, 4), min_size=20, max_size=20))
def test_a_cell_out_of_bound_in_every_reading_trips_however_rare_they_are(
    t: int, gaps: list[int]
) -> None:
    s = System(t)
    for gap in gaps:
        s.scan([3450, OUT, 3450], 100)
        for _ in range(gap - 1):
            s.scan([3450, None, 3450], 100)
    assert s.faults.latched[CELL_HIGH]


@settings(max_examples=extent(300, 1200))
@given(start, history)
def test_no_trip_before_the_time_out_of_bound_adds_up(
    t: int, samples: list[tuple[int | None, int]]
) -> None:
    s = System(t)
    out = since = gap = 0
    for mv, ms in samples:
        s.scan([3450, mv, 3450], ms)
        since += ms
        if mv is not None:
            # as docs/protection.md has it: at most twice the usual time between two readings
            if mv == OUT:
                out += min(since, 2 * max(gap, CONFIG.scan_period_ms))
            gap, since = since, 0
        if out < DELAY:
            assert not s.faults.active[CELL_HIGH]


def test_an_invalid_reading_between_two_counts_as_the_page_says() -> None:
    s = System(0)
    for ms in [50] * 7 + [100] * 2 + [150] * 2:
        s.scan([3450, OUT, 3450], ms)
    s.scan([3450, None, 3450], 100)
    assert not s.faults.active[CELL_HIGH]
    s.scan([3450, OUT, 3450], 100)  # 850 ms, and 200 since the last reading
    assert s.faults.latched[CELL_HIGH]


@settings(max_examples=extent(300, 1200))
@given(start, history)
def test_a_trip_stays_latched_and_active_while_it_lasts(
    t: int, after: list[tuple[int | None, int]]
) -> None:
    s = System(t)
    for _ in range(20):
        s.scan([OUT, 3450, 3450], 100)
    assert s.faults.latched[CELL_HIGH]
    back = 0
    for mv, ms in after:
        s.scan([mv, 3450, 3450], ms)
        if mv == BACK:
            back += ms
        # a cause that is not gone for good is not gone
        if back < DELAY:
            assert s.faults.active[CELL_HIGH]
            assert s.faults.acknowledge() >= 1
        assert s.faults.latched[CELL_HIGH] or not s.faults.active[CELL_HIGH]


@settings(max_examples=extent(200, 800))
@given(start, st.lists(st.tuples(st.integers(-9000, 9000), st.integers(1, 1900)), max_size=30))
def test_a_lasting_current_trips_in_time_at_any_rate_of_samples(
    t: int, before: list[tuple[int, int]]
) -> None:
    s = System(t)
    for ma, ms in before:
        s.sample(ma, ms)
        assert not s.faults.active[CHARGE_CURRENT]
    period = before[0][1] if before else 10
    passed = -period
    while passed < max(1000, 2 * period):  # and three samples
        s.sample(10_001, period)
        passed += period
    assert s.faults.active[CHARGE_CURRENT]


@given(start, st.integers(1, 14))
def test_a_pause_of_any_length_changes_nothing(t: int, half_days: int) -> None:
    s = System(t)
    s.scan([3450] * 3, 100)
    for i in range(3):
        s.pack.cell_flags[i] = 0
    for _ in range(half_days):
        s.hal.now += 43_200_000
        s.clock.tick()
    for i in range(DELAY // 100 + 1):
        assert not s.faults.active[CELL_HIGH], i
        s.scan([OUT] * 3, 100)
    assert s.faults.active[CELL_HIGH]
