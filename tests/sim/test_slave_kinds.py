"""Every kind of slave board under the firmware: found, read, protected, balanced, on a bad line."""

from pathlib import Path
from typing import Any

import pytest
from shorter import shorten

from bmsctl.commands.bench import scan_of
from bmssim import scenario
from bmssim.boards.kinds import KINDS
from bmssim.layout import fit
from bmssim.setup import Setup
from extent import extent

# every kind and what it may be wired by
LINKS = [(kind, link) for kind, known in KINDS.items() for link in known.media]
OTHERS = [line for line in LINKS if line[0] != "cell_link"]


def play(
    name: str,
    kind: str,
    link: str,
    tmp_path: Path,
    slaves: int | None = None,
    seconds: float = 600,
) -> dict[str, Any]:
    """The result of a scenario with boards of a kind, of its first `seconds` where it is longer."""
    chosen = scenario.load(name)
    shorten(chosen, seconds)
    setup = Setup(**chosen.setup)
    setup.slaves = slaves or setup.slaves
    fit(setup, kind, link)
    scenario.give_time(chosen, setup)
    run = scenario.Run(chosen, setup, tmp_path / "pack.toml")
    try:
        run.go()
        result = run.result(1.0, None)
    finally:
        run.close()
    assert result["problems"] == []
    return result


@pytest.mark.parametrize(("kind", "link"), OTHERS)
@pytest.mark.parametrize("name", ["overvoltage", "undervoltage", "overtemperature", "slave_lost"])
def test_what_is_wrong_opens_in_time(name: str, kind: str, link: str, tmp_path: Path) -> None:
    assert play(name, kind, link, tmp_path)["trip"] is not None


@pytest.mark.parametrize(("kind", "link"), OTHERS)
def test_a_hostile_line(kind: str, link: str, tmp_path: Path) -> None:
    # in 135 s a board restarts four times
    result = play("hostile_line", kind, link, tmp_path, seconds=extent(135, 600))
    assert result["trip"] is None
    assert result["alloc_bytes_per_cycle"] == 0


@pytest.mark.parametrize(("kind", "link"), OTHERS)
def test_bad_habits_are_survived_and_counted(kind: str, link: str, tmp_path: Path) -> None:
    # the last of them lasts 20 s, or 60
    assert play("bad_habits", kind, link, tmp_path, seconds=extent(110, 150))["trip"] is None


def test_jk_pb_boards_of_every_firmware_on_one_line_are_read(tmp_path: Path) -> None:
    assert play("jk_pb_firmware", "jk_pb", "uart", tmp_path, 6, extent(40, 60))["trip"] is None


@pytest.mark.parametrize(("kind", "link"), [line for line in OTHERS if KINDS[line[0]].balances])
def test_boards_that_take_the_command_balance(kind: str, link: str, tmp_path: Path) -> None:
    # a longer ring needs longer than the scenario has, until all thresholds are known
    play("imbalance", kind, link, tmp_path, 1 if kind == "diybms" else None, extent(135, 600))


@pytest.mark.parametrize(("kind", "link"), LINKS)
def test_a_scan_takes_what_the_wire_and_the_boards_need(kind: str, link: str) -> None:
    row = scan_of(kind, link)
    assert row["problems"] == []
    assert row["alloc_bytes_per_cycle"] == 0
    if row["scan_use"] is not None:  # boards that speak by themselves are not asked
        assert row["scan_use"] <= 1.10


def test_kinds_that_cannot_do_a_scenario_say_so() -> None:
    chosen = scenario.load("imbalance")
    setup = Setup(**chosen.setup)
    with pytest.raises(ValueError, match="jbd speaks over uart"):
        fit(setup, "jbd", "can")
    fit(setup, "jbd")
    with pytest.raises(scenario.ScenarioError, match="take the command to balance"):
        scenario.give_time(chosen, setup)
