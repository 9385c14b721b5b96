"""Contactors, precharge and the supervisor behave as their hardware does."""

import math

import pytest

from bmssim.plant import (
    CLOSE_US,
    HEARTBEAT_US,
    INRUSH_OHM,
    LINK_BLEED_OHM,
    LINK_FARAD,
    OPEN_US,
    PRECHARGE_OHM,
    Plant,
)

PACK_V = 200.0
END = PACK_V * LINK_BLEED_OHM / (LINK_BLEED_OHM + PRECHARGE_OHM)
TAU_S = LINK_FARAD * LINK_BLEED_OHM * PRECHARGE_OHM / (LINK_BLEED_OHM + PRECHARGE_OHM)


def live(plant: Plant, until_us: int, from_us: int = 0) -> None:
    """Go on with a heartbeat every 50 ms."""
    for now in range(from_us, until_us + 1, 50_000):
        plant.advance(now, PACK_V)
        plant.heartbeat(now)


def test_precharge_is_the_closed_form_whatever_the_steps() -> None:
    coarse, fine = Plant(), Plant()
    for plant, steps in ((coarse, 1), (fine, 97)):
        plant.heartbeat(0)
        plant.set_coils(0, True, True, False)
        for i in range(1, steps + 1):
            plant.advance(250_000 * i // steps, PACK_V)
    dt_s = (250_000 - CLOSE_US) / 1e6
    assert coarse.link_v == pytest.approx(END * (1 - math.exp(-dt_s / TAU_S)))
    assert fine.link_v == pytest.approx(coarse.link_v)
    assert coarse.current_a == pytest.approx(-(PACK_V - coarse.link_v) / PRECHARGE_OHM)


def test_no_coil_has_current_before_the_first_heartbeat() -> None:
    plant = Plant()
    plant.set_coils(0, True, True, True)
    plant.advance(1_000_000, PACK_V)
    assert not plant.is_closed
    assert plant.history == []


def test_the_supervisor_drops_everything_when_the_heartbeat_stops() -> None:
    plant = Plant()
    live(plant, 100_000)
    plant.set_coils(100_000, True, False, True)
    live(plant, 500_000, 100_000)
    assert plant.is_closed
    plant.advance(500_000 + HEARTBEAT_US + OPEN_US - 1, PACK_V)
    assert plant.is_closed
    plant.advance(500_000 + HEARTBEAT_US + OPEN_US, PACK_V)
    assert not plant.is_closed
    assert plant.supervisor_drops == 1


def test_contactors_travel_and_say_so() -> None:
    plant = Plant()
    plant.heartbeat(0)
    plant.set_coils(0, True, False, False)
    plant.advance(CLOSE_US - 1, PACK_V)
    assert not plant.aux("minus")
    plant.advance(CLOSE_US, PACK_V)
    assert plant.aux("minus")
    plant.set_coils(100_000, False, False, False)
    plant.advance(100_000 + OPEN_US, PACK_V)
    assert [x[1:] for x in plant.history] == [("minus", True), ("minus", False)]


def test_inrush_is_what_ohm_says() -> None:
    plant = Plant()
    plant.heartbeat(0)
    plant.set_coils(0, True, False, True)
    plant.advance(CLOSE_US, PACK_V)
    assert plant.peak_inrush_a == pytest.approx(PACK_V / INRUSH_OHM)


@pytest.mark.parametrize(
    ("fault", "coil", "conducts", "aux"),
    [
        ("stuck_open", True, False, False),
        ("welded", False, True, True),
        ("feedback_lost", True, True, False),
        ("feedback_stuck_closed", False, False, True),
    ],
)
def test_faults_of_a_contactor(fault: str, coil: bool, conducts: bool, aux: bool) -> None:
    plant = Plant()
    setattr(plant.contactors["plus"], fault, True)
    plant.heartbeat(0)
    plant.set_coils(0, False, False, coil)
    plant.advance(100_000, PACK_V)
    assert plant.contactors["plus"].conducts is conducts
    assert plant.aux("plus") is aux


def test_a_burnt_precharge_resistor_and_a_short_leave_the_link_low() -> None:
    for fault in ("open", "short"):
        plant = Plant()
        plant.precharge_resistor_open = fault == "open"
        plant.link_short_ohm = 1.0 if fault == "short" else None
        live(plant, 0)
        plant.set_coils(0, True, True, False)
        live(plant, 2_000_000)
        assert plant.link_v < 0.05 * PACK_V


def test_load_flows_only_through_closed_contactors() -> None:
    plant = Plant()
    plant.set_load(0, -30.0)
    plant.heartbeat(0)
    plant.advance(10_000, PACK_V)
    assert plant.current_a == 0.0
    plant.set_coils(10_000, True, False, True)
    plant.advance(100_000, PACK_V)
    assert plant.current_a == pytest.approx(-30.0 - PACK_V / LINK_BLEED_OHM)
