"""The master's own sensors, with and without errors; what its inputs do to a run."""

import random

import pytest

from bmssim import scenario
from bmssim.process import ALL_GOOD, CAUSES, ESTOP, IGNITION, INTERLOCK, PLUS
from bmssim.sensors import HallRange, Sensor
from bmssim.setup import Setup

WIRED = {"interlock": True, "emergency_stop": True, "voltage_sensor": True}


def start(folder, settings=None, **setup) -> scenario.Run:
    chosen = scenario.load("overvoltage")
    chosen.actions = []
    chosen.settings = settings or {}
    return scenario.Run(chosen, Setup(**setup), folder / "pack.toml")


def test_a_good_sensor_says_what_is_true() -> None:
    rng = random.Random(1)
    sensor = Sensor()
    assert [sensor.read(x, rng) for x in (1.4, -2.6, 0.0)] == [1, -3, 0]


def test_errors_of_a_sensor() -> None:
    rng = random.Random(1)
    assert Sensor(gain=1.1, offset=-5.0).read(1000.0, rng) == 1095
    sensor = Sensor()
    assert sensor.read(7.0, rng) == 7
    sensor.frozen = True
    assert [sensor.read(x, rng) for x in (8.0, 900.0)] == [7, 7]
    sensor.stuck = -1
    assert sensor.read(8.0, rng) == -1
    sensor.ok = False
    assert sensor.read(8.0, rng) is None


def test_noise_has_its_deviation_and_no_mean() -> None:
    rng = random.Random(1)
    sensor = Sensor(noise=20.0)
    seen = [sensor.read(1000.0, rng) or 0 for _ in range(4000)]
    mean = sum(seen) / len(seen)
    assert mean == pytest.approx(1000.0, abs=2.0)
    assert (sum((x - mean) ** 2 for x in seen) / len(seen)) ** 0.5 == pytest.approx(20.0, rel=0.1)


def test_a_range_of_a_hall_sensor_ends_at_its_clamp() -> None:
    rng = random.Random(1)
    hall = HallRange(75.0)
    assert [hall.mv(a, rng) for a in (0.0, 37.5, -75.0, 400.0, -400.0)] == [
        1650,
        2310,
        330,
        2970,
        330,
    ]
    assert HallRange(75.0, clamp=0.99).mv(80.0, rng) == round(1650 + 0.99 * 1320)
    assert HallRange(75.0, gain=-1.0, zero_mv=2.0).mv(75.0, rng) == 332
    assert HallRange(75.0, broken_mv=0).mv(10.0, rng) == 0


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
def test_a_two_range_hall_sensor_is_read_in_both_ranges(tmp_path, runtime: str) -> None:
    run = start(tmp_path, runtime=runtime, hall=True, slaves=1, capacity_ah=50.0)
    try:
        run.go(1.0)
        run.world.type("close")
        run.go(3.0)
        for amps in (-20.0, -200.0, 60.0):
            run.world.set_load(amps)
            run.go(run.world.events.now_us / 1e6 + 2.0)
            status = [x for x in run.world.seen.lines if x["k"] == "status"][-1]
            assert status["i_ma"] == pytest.approx(amps * 1000, abs=600)
        assert run.trip() is None
    finally:
        run.close()


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
def test_a_guarded_input_cuts_in_no_time_and_stays_cut(tmp_path, runtime: str) -> None:
    run = start(tmp_path, WIRED, runtime=runtime)
    try:
        world = run.world
        run.go(1.0)
        world.type("close")
        run.go(3.0)
        assert world.plant.is_closed
        at = 3_000_000 + 7_300  # between two cycles
        world.events.at(at, lambda: world.set_lines(INTERLOCK, False))
        world.events.at(at + 500, lambda: world.set_lines(INTERLOCK, True))  # half a ms of it
        run.go(4.0)
        assert world.seen.coils[-1] == (at, 0)
        assert (run.trip() or {})["code"] == "interlock"
        world.type("close")
        run.go(6.0)
        assert world.seen.coils[-1] == (at, 0)  # nobody has cleared it
        world.type("clear")
        run.go(6.5)
        world.type("close")
        run.go(9.0)
        assert world.plant.is_closed
    finally:
        run.close()


def test_an_input_that_is_not_in_the_pack_file_does_nothing(tmp_path) -> None:
    run = start(tmp_path)
    try:
        run.go(1.0)
        run.world.type("close")
        run.go(3.0)
        run.world.set_lines(ALL_GOOD, False)
        run.go(4.0)
        assert run.world.plant.is_closed
        assert run.trip() is None
    finally:
        run.close()


def test_ignition_closes_and_opens(tmp_path) -> None:
    run = start(tmp_path, {"ignition": True})
    try:
        run.go(1.0)
        run.world.set_lines(IGNITION, True)
        run.go(3.0)
        assert run.world.plant.is_closed
        run.world.set_lines(IGNITION, False)
        run.go(4.0)
        assert not run.world.plant.is_closed
        assert run.trip() is None
    finally:
        run.close()


def test_the_firmware_knows_why_it_starts(tmp_path) -> None:
    run = start(tmp_path)
    try:
        run.go(1.0)
        run.world.type("reset yes")
        run.go(2.0)
        run.world.kill()
        run.world.cause = "watchdog"
        run.world.restart()
        run.go(3.0)
        boots = [x for x in run.world.seen.lines if x["k"] == "boot"]
        assert [x["reset"] for x in boots] == ["power_on", "reset", "watchdog"]
        assert CAUSES[0] == "power_on"
    finally:
        run.close()


def test_clocks_that_drift_do_no_harm(tmp_path) -> None:
    scans = []
    for ppm in (0.0, 20_000.0):
        run = start(tmp_path, drift_ppm=ppm, seed=4)
        try:
            run.go(30.0)
            assert run.trip() is None
            status = [x for x in run.world.seen.lines if x["k"] == "status"][-1]
            scans.append(status["scans"])
        finally:
            run.close()
    assert scans[0] == pytest.approx(290, abs=5)
    assert 1 < abs(scans[1] - scans[0]) <= 17  # 2 %, and a status line more or less


def test_coils_are_economised_after_they_pulled_in(tmp_path) -> None:
    run = start(tmp_path, {"coil_hold": "400 permille"})
    try:
        run.go(1.0)
        run.world.type("close")
        run.go(4.0)
        assert run.world.plant.is_closed
        assert run.world._held & PLUS
    finally:
        run.close()


def test_the_emergency_stop_of_three_strings_cuts_all(tmp_path) -> None:
    run = start(tmp_path, WIRED, strings=3, slaves=2)
    try:
        run.go(1.0)
        run.world.type("close")
        run.go(6.0)
        assert all(s.is_closed for s in run.world.plant.strings)
        run.world.set_lines(ESTOP, False)
        run.go(6.1)
        assert run.world.seen.coils[-1] == (6_000_000, 0)
    finally:
        run.close()
