"""Every scenario on both links and both runtimes comes out as it states."""

import dataclasses
from pathlib import Path

import pytest
from shorter import shorten

from bmssim import scenario
from bmssim.setup import Setup
from extent import extent

KEYS = [
    "scenario",
    "ok",
    "evaluated",
    "runtime",
    "link",
    "slaves",
    "cells",
    "seed",
    "sim_s",
    "wall_s",
    "scans",
    "scan_ms",
    "frames",
    "trip",
    "alloc_bytes_per_cycle",
    "heap_peak_bytes",
    "log",
]


TEN_MINUTES_S = extent(135, 600)  # of scenarios that long; in 135 s a board restarts four times
CPYTHON_LINKS = extent(("can",), ("can", "uart"))
LONG = [name for name in scenario.names() if scenario.load(name).duration_s == 600]


def play(name: str, folder: Path, **setup) -> tuple[scenario.Run, dict]:
    chosen = scenario.load(name)
    shorten(chosen, TEN_MINUTES_S)
    run = scenario.Run(chosen, Setup(**{**chosen.setup, **setup}), folder / "pack.toml")
    try:
        run.go()
        return run, run.result(1.0, None)
    finally:
        run.close()


# what takes long runs under what boards run only; the other runtime in the short run on one link
RUNS = [
    pytest.param(
        name,
        link,
        runtime,
        marks=[pytest.mark.long] if name in LONG or runtime == "cpython" else [],
    )
    for name in scenario.names()
    for link in ("can", "uart")
    for runtime in ("micropython", "cpython")
    if runtime == "micropython" or scenario.load(name).duration_s < 60 and link in CPYTHON_LINKS
]


@pytest.mark.parametrize(("name", "link", "runtime"), RUNS)
def test_comes_out_as_stated(name: str, link: str, runtime: str, tmp_path: Path) -> None:
    run, result = play(name, tmp_path, link=link, runtime=runtime)
    assert result["problems"] == []
    assert result["ok"]
    assert set(KEYS) <= set(result)
    if runtime == "micropython":
        assert result["alloc_bytes_per_cycle"] == 0
        assert 0 < result["heap_peak_bytes"] < 384 * 1024
    if result["trip"] and "_hard_" in result["trip"]["code"]:
        assert 0 <= result["trip"]["reaction_ms"] <= 2
    assert result["bus_use"] is None or result["bus_use"] <= 1.16
    assert run.world.seen.checked_values > 500
    if name == "precharge_stuck":
        # tried three times, and the plus contactor never moved
        tries = [x for x in run.world.plant.history if x[1] == "minus" and x[2]]
        assert len(tries) == 3
        assert not any(x[1] == "plus" for x in run.world.plant.history)
    if run.world.plant.is_closed:
        assert run.world.plant.peak_inrush_a < 500  # closed onto a charged capacitor


def test_same_seed_same_run_on_both_runtimes(tmp_path: Path) -> None:
    said = []
    for runtime in ("micropython", "cpython", "micropython"):
        run, _result = play("overvoltage", tmp_path, runtime=runtime, damage=0.01)
        lines = [x for x in run.world.seen.lines if x["k"] != "mem"]
        # `native` says which kernels run, `crc` follows from it; the rest is the same to the bit
        said.append([{k: v for k, v in x.items() if k not in ("native", "crc")} for x in lines])
    assert len(said[0]) > 20
    assert said[0] == said[2]
    timeless = [[{k: v for k, v in x.items() if k != "t_ms"} for x in one] for one in said[:2]]
    # a `mem` line stands between the others under MicroPython only, so that times may be 1 ms apart
    assert timeless[0] == timeless[1]


def test_boards_of_a_slow_port_are_lost_after_its_own_age(tmp_path: Path) -> None:
    chosen = scenario.load("mixed_ages")
    for _us, name, args in chosen.actions:
        if name == "slave_silent":
            args["slave"] = 5
    chosen.expect["open_within_ms"] = 10_000
    run = scenario.Run(chosen, Setup(**chosen.setup), tmp_path / "pack.toml")
    try:
        run.go()
        result = run.result(1.0, None)
    finally:
        run.close()
    assert result["problems"] == []
    trip = result["trip"]
    assert (trip["code"], trip["cell"]) == ("cell_lost", 65)
    assert trip["t_open_ms"] - trip["t_injected_ms"] > 2000  # twice what a scan of its ring takes


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    cells = []
    for seed in (1, 2):
        run, _result = play("overvoltage", tmp_path, seed=seed)
        cells.append([x["cell_mv"] for x in run.world.seen.lines if x["k"] == "cells"])
    assert cells[0] != cells[1]


@pytest.mark.parametrize("link", ["can", "uart"])
@pytest.mark.parametrize(("slaves", "cells"), [(1, 1), (1, 32), (2, 15), (15, 4), (31, 4), (62, 3)])
def test_any_pack_size_is_read_whole(link: str, slaves: int, cells: int, tmp_path: Path) -> None:
    chosen = scenario.load("overvoltage")
    chosen.duration_s = 5.0
    chosen.settings = {"scan_period": "200 ms", "cell_age": "1 s"}
    chosen.actions = [
        (1_000_000, "type", {"command": "close"}),
        (3_000_000, "cell_voltage", {"cell": slaves * cells, "mv": 3900}),
    ]
    chosen.expect["index"] = slaves * cells
    chosen.expect["open_within_ms"] = 250
    setup = Setup(link=link, slaves=slaves, cells=cells, temps=2, soc=0.9)
    run = scenario.Run(chosen, setup, tmp_path / "pack.toml")
    try:
        run.go()
        assert run.problems() == []
    finally:
        run.close()


def test_a_scenario_that_does_not_come_out_fails(tmp_path: Path) -> None:
    chosen = scenario.load("overvoltage")
    chosen.expect = {"trip": "", "state": "closed", "reaction_ms": 0}
    run = scenario.Run(chosen, Setup(**chosen.setup), tmp_path / "pack.toml")
    try:
        run.go()
        problems = run.problems()
    finally:
        run.close()
    assert any(x.startswith("trip:") for x in problems)
    assert any(x.startswith("state:") for x in problems)


def test_every_setup_field_can_be_set() -> None:
    assert {f.name for f in dataclasses.fields(Setup)} >= {"link", "slaves", "cells", "seed"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1\n", "colour"),
        ("[setup]\nlinkk = 1\n", "linkk"),
        ('[[do]]\ntype = "open"\n', "at_s"),
        ('[[do]]\nat_s = 1\ninject = "earthquake"\n', "earthquake"),
        ("[expect]\nhappiness = 1\n", "happiness"),
        ("[[do]\n", "do"),
    ],
)
def test_a_malformed_scenario_is_refused_by_name(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(scenario.ScenarioError, match="bad.toml") as caught:
        scenario.load(str(path))
    assert named in str(caught.value) or named == "do"
