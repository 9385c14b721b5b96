"""Contactors, precharge, parallel strings and the supervisor behave as their hardware does."""

import math

import pytest

from bmssim.plant import (
    CLOSE_US,
    HEARTBEAT_US,
    INRUSH_OHM,
    LINK_DISCHARGE_OHM,
    LINK_FARAD,
    OPEN_US,
    PRECHARGE_OHM,
    WIRE_OHM,
    Plant,
)

PACK_V = 200.0
R_OHM = 0.04  # of one string's cells
FULL = R_OHM + WIRE_OHM
CHARGE_OHM = PRECHARGE_OHM + FULL
END = PACK_V * LINK_DISCHARGE_OHM / (LINK_DISCHARGE_OHM + CHARGE_OHM)
TAU_S = LINK_FARAD * LINK_DISCHARGE_OHM * CHARGE_OHM / (LINK_DISCHARGE_OHM + CHARGE_OHM)
MINUS, PRECHARGE, PLUS = 1, 2, 4
CLOSED = MINUS | PLUS


def plant_of(*volts: float) -> Plant:
    plant = Plant(len(volts) or 1)
    plant.set_cells(volts or (PACK_V,), [R_OHM] * (len(volts) or 1))
    plant.heartbeat(0)
    return plant


def live(plant: Plant, until_us: int, from_us: int = 0) -> None:
    """Go on with a heartbeat every 50 ms."""
    for now in range(from_us, until_us + 1, 50_000):
        plant.advance(now)
        plant.heartbeat(now)


def test_precharge_is_the_closed_form_whatever_the_steps() -> None:
    coarse, fine = plant_of(), plant_of()
    for plant, steps in ((coarse, 1), (fine, 97)):
        plant.set_coils(0, MINUS | PRECHARGE)
        for i in range(1, steps + 1):
            plant.advance(250_000 * i // steps)
    dt_s = (250_000 - CLOSE_US) / 1e6
    assert coarse.link_v == pytest.approx(END * (1 - math.exp(-dt_s / TAU_S)))
    assert fine.link_v == pytest.approx(coarse.link_v)
    assert coarse.current_a == pytest.approx(-(PACK_V - coarse.link_v) / CHARGE_OHM)


def test_the_resistor_takes_as_much_heat_as_the_capacitor_has_energy() -> None:
    plant = plant_of()
    plant.set_coils(0, MINUS | PRECHARGE)
    for now in range(0, 1_500_000, 200):
        if now % 50_000 == 0:
            plant.heartbeat(now)
        plant.advance(now)
    # the bleeder's current flows through it besides
    assert plant.strings[0].precharge_j == pytest.approx(LINK_FARAD * PACK_V**2 / 2, rel=0.02)


def test_no_coil_has_current_before_the_first_heartbeat() -> None:
    plant = Plant()
    plant.set_coils(0, MINUS | PRECHARGE | PLUS)
    plant.advance(1_000_000)
    assert not plant.is_closed
    assert plant.history == []


def test_the_supervisor_drops_everything_when_the_heartbeat_stops() -> None:
    plant = plant_of()
    live(plant, 100_000)
    plant.set_coils(100_000, CLOSED)
    live(plant, 500_000, 100_000)
    assert plant.is_closed
    plant.advance(500_000 + HEARTBEAT_US + OPEN_US - 1)
    assert plant.is_closed
    plant.advance(500_000 + HEARTBEAT_US + OPEN_US)
    assert not plant.is_closed
    assert plant.supervisor_drops == 1


def test_contactors_travel_and_say_so() -> None:
    plant = plant_of()
    plant.set_coils(0, MINUS)
    plant.advance(CLOSE_US - 1)
    assert not plant.aux("minus")
    plant.advance(CLOSE_US)
    assert plant.aux("minus")
    plant.set_coils(100_000, 0)
    plant.advance(100_000 + OPEN_US)
    assert [x[1:] for x in plant.history] == [("minus", True, 0), ("minus", False, 0)]
    minus = plant.contactors["minus"]
    assert (minus.closings, minus.openings, minus.openings_under_load) == (1, 1, 0)


def test_a_coil_that_is_economised_too_early_never_pulls_in() -> None:
    early, late = plant_of(), plant_of()
    early.set_coils(0, MINUS, MINUS)
    late.set_coils(0, MINUS)
    late.advance(CLOSE_US)
    late.set_coils(CLOSE_US, MINUS, MINUS)
    for plant in (early, late):
        plant.advance(200_000)
    assert not early.aux("minus")
    assert late.aux("minus")


def test_inrush_is_what_ohm_says() -> None:
    plant = plant_of()
    plant.set_coils(0, CLOSED)
    plant.advance(CLOSE_US)
    assert plant.peak_inrush_a == pytest.approx(PACK_V / INRUSH_OHM)
    assert plant.joins == []


@pytest.mark.parametrize(
    ("fault", "coil", "conducts", "aux"),
    [
        ("stuck_open", True, False, False),
        ("welded", False, True, True),
        ("feedback_lost", True, True, False),
        ("feedback_stuck_closed", False, False, True),
    ],
)
@pytest.mark.parametrize("string", [0, 2])
def test_faults_of_a_contactor(
    fault: str, coil: bool, conducts: bool, aux: bool, string: int
) -> None:
    plant = plant_of(PACK_V, PACK_V, PACK_V)
    setattr(plant.strings[string].contactors["plus"], fault, True)
    plant.set_coils(0, coil * PLUS << 3 * string)
    plant.advance(100_000)
    assert plant.strings[string].contactors["plus"].conducts is conducts
    assert plant.aux("plus", string) is aux
    assert plant.feedback() == aux * PLUS << 3 * string


def test_a_burnt_precharge_resistor_and_a_short_leave_the_link_low() -> None:
    for fault in ("open", "short"):
        plant = plant_of()
        plant.strings[0].precharge_resistor_open = fault == "open"
        plant.link_short_ohm = 1.0 if fault == "short" else None
        live(plant, 0)
        plant.set_coils(0, MINUS | PRECHARGE)
        live(plant, 2_000_000)
        assert plant.link_v < 0.05 * PACK_V


def test_load_flows_only_through_closed_contactors() -> None:
    plant = plant_of()
    plant.set_load(0, -30.0)
    plant.advance(10_000)
    assert plant.current_a == 0.0
    plant.set_coils(10_000, CLOSED)
    plant.advance(100_000)
    assert plant.current_a == pytest.approx(-30.0 - plant.link_v / LINK_DISCHARGE_OHM)
    assert plant.link_v == pytest.approx(PACK_V + plant.current_a * FULL)
    assert plant.terminal_v(0) == pytest.approx(PACK_V + plant.current_a * R_OHM)


def test_strings_share_the_load_by_their_voltages_and_resistances() -> None:
    plant = plant_of(PACK_V, PACK_V + 1.0, PACK_V)
    plant.set_load(0, -90.0)
    plant.set_coils(0, CLOSED | CLOSED << 3 | CLOSED << 6)
    plant.advance(100_000)
    first, second, third = (s.current_a for s in plant.strings)
    assert first == third
    assert second - first == pytest.approx(-1.0 / FULL)  # the higher one gives more
    assert first + second + third == pytest.approx(-90.0 - plant.link_v / LINK_DISCHARGE_OHM)
    plant.set_coils(100_000, CLOSED | CLOSED << 6)
    plant.heartbeat(100_000)
    plant.advance(200_000)
    assert plant.strings[1].current_a == 0.0
    assert plant.strings[0].current_a == pytest.approx(plant.current_a / 2)
    assert plant.strings[1].contactors["minus"].openings_under_load == 1
    assert plant.strings[1].contactors["plus"].openings_under_load == 0  # nothing was left to break


def test_joining_with_a_difference_drives_a_current_between_the_strings() -> None:
    plant = plant_of(PACK_V, PACK_V + 5.0)
    plant.set_coils(0, CLOSED)
    live(plant, 100_000)
    plant.set_coils(100_000, CLOSED | CLOSED << 3)
    live(plant, 200_000, 100_000)
    assert plant.joins == [(100_000 + CLOSE_US, 1, pytest.approx(5.0, abs=0.01))]
    assert plant.strings[0].current_a == pytest.approx(5.0 / 2 / FULL, rel=0.01)
    assert plant.strings[1].current_a == pytest.approx(-5.0 / 2 / FULL, rel=0.01)
    assert abs(plant.current_a) < 0.01


def test_a_string_that_precharges_beside_a_closed_one_takes_little() -> None:
    plant = plant_of(PACK_V, PACK_V - 10.0)
    plant.set_coils(0, CLOSED | (MINUS | PRECHARGE) << 3)
    live(plant, 200_000)
    assert plant.strings[1].is_precharging
    assert plant.strings[1].current_a == pytest.approx(10.0 / CHARGE_OHM, rel=0.01)
    assert plant.link_v == pytest.approx(PACK_V, abs=0.01)


def test_what_is_more_than_a_contact_breaks_welds_it_and_a_fuse_ends_it() -> None:
    plant = plant_of()
    plant.breaking_a = 1000.0
    plant.set_coils(0, CLOSED)
    live(plant, 100_000)
    plant.link_short_ohm = 0.01
    plant.set_load(100_000, 0.0)
    assert plant.current_a == pytest.approx(-PACK_V / (FULL + 0.01), rel=0.01)
    fused = plant_of()
    fused.breaking_a = 1000.0
    fused.strings[0].fuse_a = 400.0
    fused.set_coils(0, CLOSED)
    live(fused, 100_000)
    fused.link_short_ohm = 0.01
    fused.set_load(100_000, 0.0)
    melts_us = 0.1 / (fused.current_a / 400.0) ** 2 * 1e6
    fused.advance(100_000 + int(melts_us) - 1)
    assert not fused.strings[0].fuse_blown
    fused.advance(100_000 + int(melts_us) + 1)
    assert fused.strings[0].fuse_blown
    assert fused.current_a == 0.0
    for one in (plant, fused):
        one.heartbeat(120_000)
        one.set_coils(120_000, 0)
        one.advance(200_000)
    assert plant.contactors["minus"].welded  # and the arc of plus doesn't go out either
    assert plant.is_closed
    assert not fused.contactors["minus"].welded
