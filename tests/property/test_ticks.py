"""Laws of the 29-bit ticks."""

from hypothesis import given
from hypothesis import strategies as st

from bms import ticks
from bms.clock import Clock

TOP = 1 << 29
HALF = 1 << 28
tick = st.integers(0, TOP - 1)
delta = st.integers(-HALF, HALF - 1)


@given(tick, delta)
def test_diff_undoes_add(t: int, d: int) -> None:
    later = ticks.add(t, d)
    assert 0 <= later < TOP
    assert ticks.diff(later, t) == d


@given(tick, tick)
def test_add_undoes_diff(a: int, b: int) -> None:
    assert ticks.add(a, ticks.diff(b, a)) == b
    if ticks.diff(b, a) != -HALF:
        assert ticks.diff(a, b) == -ticks.diff(b, a)


@given(tick, st.integers(-HALF // 2, HALF // 2 - 1), st.integers(-HALF // 2, HALF // 2 - 1))
def test_differences_add_up(t: int, a: int, b: int) -> None:
    middle = ticks.add(t, a)
    end = ticks.add(middle, b)
    assert ticks.diff(end, t) == ticks.diff(end, middle) + ticks.diff(middle, t)


@given(tick, st.integers(0, TOP - 1))
def test_no_step_leaves_a_small_int(a: int, b: int) -> None:
    assert abs(b - a + HALF) < 1 << 30


class Hal:
    def __init__(self, start: int) -> None:
        self.total = start

    def ms(self) -> int:
        return self.total % TOP

    def us(self) -> int:
        return 0


@given(tick, st.lists(st.integers(0, 20_000_000), max_size=20))
def test_uptime_is_the_sum_of_all_steps(start: int, steps: list[int]) -> None:
    hal = Hal(start)
    clock = Clock(hal)
    for step in steps:
        hal.total += step
        assert clock.tick() == hal.ms()
    assert clock.uptime_s * 1000 + clock.uptime_ms == sum(steps)
    assert 0 <= clock.uptime_ms < 1000
