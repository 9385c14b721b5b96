"""The firmware in the simulated world: console, clock, memory, what no scenario states."""

import os
from pathlib import Path
from typing import Any

import pytest

from bms.console import line_kinds
from bmssim import console_commands, scenario
from bmssim.process import FirmwareDied
from bmssim.setup import Setup


def start(folder: Path, settings: dict[str, Any] | None = None, **setup: Any) -> scenario.Run:
    chosen = scenario.load("overvoltage")
    chosen.actions = []
    chosen.settings = settings or {}
    chosen.duration_s = 60.0
    return scenario.Run(chosen, Setup(**setup), folder / "pack.toml")


def answers(run: scenario.Run) -> list[tuple[str, bool, str]]:
    lines = [x for x in run.world.seen.lines if x["k"] == "answer"]
    return [(x["cmd"], x["ok"], x["text"]) for x in lines]


@pytest.fixture
def run(tmp_path: Path):
    made = []

    def make(**setup: Any) -> scenario.Run:
        made.append(start(tmp_path, **setup))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_every_command_is_answered_and_lines_have_the_keys_of_the_reference(run) -> None:
    r = run()
    t = 1.0
    r.go(t)
    words = [w for w, _text in console_commands.rows() if w not in ("reset", "service")]
    for word in words:
        r.world.type(word)
        t += 2.0
        r.go(t)
    assert [a[0] for a in answers(r)] == words
    assert all(a[1] for a in answers(r))
    keys = {kind: text.split() for kind, text, _when in line_kinds.KINDS}
    seen = set()
    for line in r.world.seen.lines:
        if line["k"] == "help":
            continue
        assert list(line)[0] == "k" and list(line)[1] == "t_ms" and list(line)[-1] == "crc"
        assert list(line)[2:-1] == keys[line["k"]], line
        seen.add(line["k"])
    assert {"boot", "status", "cells", "contactor", "setting", "mem", "answer"} <= seen


@pytest.mark.parametrize(
    "words", ["", "nonsense", "closed", "clos", "close now", "reset", "\x07", "x" * 99]
)
def test_what_is_no_command_changes_nothing(run, words: str) -> None:
    r = run()
    r.go(1.0)
    r.world.type(words)
    r.go(2.0)
    assert r.world.plant.history == []
    assert r.world.seen.restarts == 0
    if words:
        assert len(answers(r)) == 1
        assert answers(r)[0][1] is False
    else:
        assert answers(r) == []


def test_closing_is_refused_until_every_slave_answered(run) -> None:
    r = run()
    r.world.boards[2].alive = False
    r.go(2.0)
    r.world.type("close")
    r.go(3.0)
    assert answers(r) == [("close", False, "slave 03 has not answered as the pack file says")]
    r.world.boards[2].restart()
    r.go(5.0)
    r.world.type("close")
    r.go(7.0)
    assert answers(r)[-1] == ("close", True, "")
    assert r.world.plant.is_closed


def test_a_trip_stays_latched_until_its_cause_is_gone_and_somebody_clears_it(run) -> None:
    r = run()
    r.go(1.0)
    r.world.type("close")
    r.go(3.0)
    r.world.cells.override_v[5] = 3.9
    r.go(4.0)
    for _ in range(2):
        r.world.type("clear")
        r.go(r.world.events.now_us / 1e6 + 0.5)
    r.world.type("close")
    r.go(6.0)
    assert [a[:2] for a in answers(r)[1:]] == [("clear", False), ("clear", False), ("close", False)]
    r.world.cells.override_v[5] = float("nan")
    r.go(9.0)
    r.world.type("close")
    r.go(10.0)
    assert answers(r)[-1][1] is False  # the cause is gone, nobody has acknowledged it
    r.world.type("clear")
    r.go(11.0)
    r.world.type("close")
    r.go(13.0)
    assert [a[:2] for a in answers(r)[-2:]] == [("clear", True), ("close", True)]
    assert r.world.plant.is_closed


def test_reset_opens_starts_again_and_stays_open(run) -> None:
    r = run()
    r.go(1.0)
    r.world.type("close")
    r.go(3.0)
    assert r.world.plant.is_closed
    r.world.type("reset yes")
    r.go(6.0)
    assert r.world.seen.restarts == 1
    assert len([x for x in r.world.seen.lines if x["k"] == "boot"]) == 2
    assert not r.world.plant.is_closed
    assert not r.world.seen.closed_after_restart


def test_service_opens_and_leaves(run) -> None:
    r = run()
    r.go(1.0)
    r.world.type("close")
    r.go(3.0)
    r.world.type("service yes")
    r.go(5.0)
    assert r.world.firmware is None
    assert not r.world.plant.is_closed


def test_telemetry_time_does_not_wrap_with_the_ticks(run) -> None:
    # the firmware's ms ticks wrap 20 s after the start, its us ticks after 5 s
    r = run()
    r.go(30.0)
    times = [x["t_ms"] for x in r.world.seen.lines]
    assert times == sorted(times)
    assert times[-1] > 29_000
    scans = [x["scans"] for x in r.world.seen.lines if x["k"] == "status"]
    assert scans[-1] == pytest.approx(290, abs=3)


@pytest.mark.parametrize("link", ["can", "uart"])
def test_a_board_without_a_number_gets_it_by_its_serial(run, link: str, tmp_path: Path) -> None:
    r = run(link=link, slaves=1)
    text = r.world.pack_file.read_text() + "serial = 4711\n"
    r.world.pack_file.write_text(text)
    r.world.boards[0].serial = 4711
    r.world.boards[0].node = 63
    r.go(2.0)
    assert r.world.boards[0].node == 1
    status = [x for x in r.world.seen.lines if x["k"] == "status"][-1]
    assert status["known"] == 1
    assert status["min_mv"] is not None


@pytest.mark.parametrize("link", ["can", "uart"])
def test_a_slave_s_own_alarm_trips(run, link: str) -> None:
    r = run(link=link)
    r.world.boards[1].alarm_high_mv = 3500
    r.go(1.0)
    r.world.type("close")
    r.go(3.0)
    r.world.cells.override_v[20] = 3.6
    r.go(3.5)
    trip = r.trip()
    assert trip is not None
    assert (trip["code"], trip["cell"]) == ("slave_alarm", 2)
    assert not r.world.plant.contactors["plus"].closed


def test_an_open_thermistor_trips_by_age_and_a_board_that_restarts_is_said(run) -> None:
    r = run()
    r.go(1.0)
    r.world.type("close")
    r.go(3.0)
    r.world.boards[0].restart()
    r.go(5.0)
    assert r.trip() is None
    assert any(x["k"] == "event" and x["name"] == "slave_reboot" for x in r.world.seen.lines)
    r.world.boards[3].open_temps.add(1)
    r.go(9.5)
    assert r.trip() is None
    r.go(11.0)
    trip = r.trip()
    assert trip is not None
    assert (trip["code"], trip["cell"]) == ("temp_lost", 14)


def test_a_silent_current_sensor_trips_only_while_closed(run) -> None:
    r = run()
    r.world.sensor_ok = False
    r.go(2.0)
    assert r.trip() is None
    r.world.sensor_ok = True
    r.world.type("close")
    r.go(4.0)
    r.world.sensor_ok = False
    r.go(4.5)
    trip = r.trip()
    assert trip is not None
    assert trip["code"] == "current_lost"


def test_a_welded_contactor_blocks_closing(run) -> None:
    r = run()
    r.world.plant.contactors["plus"].welded = True
    r.go(2.0)
    r.world.type("close")
    r.go(3.0)
    trip = r.trip()
    assert trip is not None
    assert (trip["code"], trip["cell"]) == ("contactor_welded", 3)
    assert answers(r)[-1][1] is False


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
def test_an_exception_in_the_cycle_drops_the_coils(run, runtime: str) -> None:
    r = run(runtime=runtime)
    r.go(1.0)
    r.world.type("close")
    r.go(3.0)
    assert r.world.plant.is_closed
    # the world's end of the pins breaks: the firmware's next exchange raises
    firmware = r.world.firmware
    assert firmware is not None
    pins = [firmware.request().pins]
    assert pins[0] & 7
    os.write(firmware._to_fw, bytes(10))
    os.close(firmware._to_fw)
    firmware._to_fw = os.open(os.devnull, os.O_WRONLY)
    with pytest.raises(FirmwareDied, match="the other side is gone") as death:
        while True:
            pins.append(firmware.request().pins)
    assert death.value.code == 1
    assert len(pins) == 2
    assert pins[1] & 7 == 0
