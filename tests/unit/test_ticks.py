"""Time wraps around at 2**29 ticks; nothing may notice."""

from bms import ticks
from bms.clock import Clock
from fakes import FakeClock, Random

TOP = 1 << 29
HALF = 1 << 28


def test_diff_over_the_wrap():
    assert ticks.diff(5, 3) == 2
    assert ticks.diff(3, 5) == -2
    assert ticks.diff(2, TOP - 3) == 5
    assert ticks.diff(TOP - 3, 2) == -5
    assert ticks.diff(0, 0) == 0
    assert ticks.diff(HALF - 1, 0) == HALF - 1
    assert ticks.diff(HALF, 0) == -HALF


def test_add_stays_in_range():
    assert ticks.add(TOP - 1, 1) == 0
    assert ticks.add(0, -1) == TOP - 1
    assert ticks.add(TOP - 1, TOP - 1) == TOP - 2


def test_diff_undoes_add():
    random = Random(1)
    for _ in range(500):
        start = random.below(TOP)
        delta = random.between(-HALF, HALF - 1)
        assert ticks.diff(ticks.add(start, delta), start) == delta


def test_uptime_over_many_wraps():
    hal = FakeClock(TOP - 1500)
    clock = Clock(hal)
    passed = 0
    for _ in range(40):
        hal.pass_ms(86400123)
        passed += 86400123
        clock.tick()
        assert clock.uptime_s * 1000 + clock.uptime_ms == passed
        assert 0 <= clock.uptime_ms < 1000
        assert clock.now == hal.ms()
    assert passed > 6 * TOP


def test_uptime_of_small_steps():
    hal = FakeClock(TOP - 5)
    clock = Clock(hal)
    for _ in range(1234):
        hal.pass_ms(1)
        assert clock.tick() == clock.now == hal.ms()
    assert clock.uptime_s == 1
    assert clock.uptime_ms == 234


def test_what_is_too_long_ago_stays_so():
    assert ticks.since(5, 3) == 2
    assert ticks.since(2, TOP - 3) == 5
    assert ticks.since(7, 7) == 0
    for gone in (HALF - 1, HALF, HALF + 1, TOP - 1):
        for then in (0, 1, HALF, TOP - 1):
            assert ticks.since(ticks.add(then, gone), then) == HALF - 1
