"""Power limits never exceed the table, never jump up, and are zero where a trip is near."""

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from extent import extent

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from test_power import Pack  # noqa: E402

moment = st.tuples(
    st.integers(2300, 3800),  # lowest cell
    st.integers(0, 900),  # the highest above it
    st.integers(-300, 700),  # temperature
    st.integers(0, 1000),  # I2t used
    st.integers(0, 1000),  # charge left
    st.integers(1, 150),  # ticks that it lasts
)


@settings(max_examples=extent(60, 240))
@given(st.lists(moment, min_size=1, max_size=6), st.sampled_from([1, 3]))
def test_limits(moments: list[tuple[int, ...]], parallel: int) -> None:
    p = Pack(
        slaves=parallel,
        parallel=parallel,
        limits='charge_continuous = "50 A"; discharge_continuous = "100 A"; open_wire = "4000 mV"',
    ).closed()
    c = p.config
    for low, above, dc, used, left, ticks in moments:
        p.mv = [low] * len(p.mv)
        p.mv[-1] = low + above
        p.dc = [dc] * len(p.dc)
        p.limits.peak_pm[0] = p.limits.peak_pm[1] = used
        for _ in range(ticks):
            before = p.both()
            p.tick()
            p.soc._sure(0, left)
            charge, discharge = p.both()
            closed = p.strings.count_closed
            assert 0 <= charge <= closed * c.charge_max_ma * c.current_warn_pm // 1000
            assert 0 <= discharge <= closed * c.discharge_max_ma * c.current_warn_pm // 1000
            # never up in a step
            # each side moves in every fourth step of 20 ms
            assert charge - before[0] <= parallel * c.charge_max_ma * 80 // c.ramp_up_ms + 4
            assert discharge - before[1] <= parallel * c.discharge_max_ma * 80 // c.ramp_up_ms + 4
        for _ in range(30 * parallel + 60):
            p.tick()
        charge, discharge = p.both()
        # the spread comes from one high cell
        high = low + above >= c.cell_derate_max_mv or above >= c.spread_derate_mv
        if high or not 25 < dc < 430:
            assert charge == 0
        if low <= c.cell_derate_min_mv or not -150 < dc < 550:
            assert discharge == 0
        if left <= c.soc_empty_pm:
            assert discharge == 0
