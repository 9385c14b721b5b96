"""Cells keep charge, follow closed forms, and differ from each other."""

import numpy as np
import pytest

from bmssim.cells import CellArray, Spread
from bmssim.chemistry import CHEMISTRIES, LFP, NMC

EQUAL = Spread(0, 0, 0, 0, 0)


def make(chemistry=LFP, count=4, soc=0.5, spread=EQUAL) -> CellArray:
    return CellArray(chemistry, count, 50.0, soc, 25.0, np.random.default_rng(3), spread)


@pytest.mark.parametrize("name", ["LFP", "NMC"])
def test_ocv_rises_with_charge_and_stays_in_the_chemistry_s_window(name: str) -> None:
    chemistry = CHEMISTRIES[name]
    assert np.all(np.diff(chemistry.ocv_v) > 0)
    assert 2.3 < chemistry.ocv_v[0] < 2.7
    assert (3.5 if name == "LFP" else 4.1) < chemistry.ocv_v[-1] < (3.65 if name == "LFP" else 4.25)


def test_nmc_is_that_of_the_paper_at_both_ends() -> None:
    # Chen et al. 2020 give the fractions for exactly 2.5 V and 4.2 V
    assert NMC.ocv_v[0] == pytest.approx(2.5, abs=0.005)
    assert NMC.ocv_v[-1] == pytest.approx(4.2, abs=0.005)


def test_charge_is_conserved() -> None:
    cells = make()
    cells._leak_a[:] = 0
    for _ in range(100):
        cells.step(36.0, 5.0)  # 5 A for one hour in all
    assert cells.soc == pytest.approx(0.5 + 5.0 / 50.0)


def test_balancing_takes_charge_from_its_cell_only() -> None:
    cells = make()
    cells._leak_a[:] = 0
    cells.step(3600.0, 0.0, np.array([0.5, 0, 0, 0]))
    assert cells.soc == pytest.approx([0.49, 0.5, 0.5, 0.5])


def test_rc_pair_follows_its_closed_form_whatever_the_step() -> None:
    long, short = make(), make()
    long.step(10.0, 20.0)
    for _ in range(100):
        short.step(0.1, 20.0)
    assert long.voltage_v() == pytest.approx(short.voltage_v(), abs=1e-5)
    over = long.voltage_v() - long.ocv_v() - 20.0 * long.r0_ohm
    assert over == pytest.approx(20.0 * long.r1_ohm * (1 - np.exp(-10.0 / LFP.tau_s)))
    assert long.temp_c == pytest.approx(short.temp_c, abs=0.01)


def test_self_discharge_of_a_month() -> None:
    cells = make()
    for _ in range(30):
        cells.step(86400.0, 0.0)
    assert 0.5 - cells.soc == pytest.approx(LFP.self_discharge_per_month, rel=0.01)


def test_every_cell_has_its_own_spread_and_a_seed_repeats_it() -> None:
    one, same = make(count=64, spread=Spread()), make(count=64, spread=Spread())
    assert len(set(one.capacity_ah)) == 64
    assert len(set(one.r0_ohm)) == 64
    assert np.array_equal(one.voltage_v(), same.voltage_v())


def test_overrides_show_and_nothing_else_changes() -> None:
    cells = make()
    before = cells.voltage_v()
    cells.override_v[2] = 3.9
    cells.override_temp_c[1] = 80.0
    assert cells.voltage_v()[2] == 3.9
    assert cells.temp_c[1] == 80.0
    assert np.delete(cells.voltage_v(), 2) == pytest.approx(np.delete(before, 2))


def test_set_voltage_refuses_what_the_chemistry_cannot_reach() -> None:
    cells = make()
    cells.set_voltage(0, 3.4)
    assert cells.ocv_v()[0] == pytest.approx(3.4, abs=1e-6)
    with pytest.raises(ValueError, match="5"):
        cells.set_voltage(0, 5.0)
