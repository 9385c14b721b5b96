"""A charger and a load that follow the limits: full and empty without a trip; charge as it is."""

from pathlib import Path

import numpy as np
import pytest

from bms.config import pack_file, schema
from bms.energy.charge import OCV_MV
from bmssim import scenario
from bmssim.chemistry import CHEMISTRIES
from bmssim.setup import Setup
from bmssim.world import World
from extent import extent


def _world(tmp_path: Path, setup: Setup, **settings: str) -> World:
    pack = tmp_path / "pack.toml"
    pack.write_text(scenario.pack_text(setup, settings))
    c = pack_file.load(str(pack))
    world = World(setup, pack, (c.cell_hard_min_mv, c.cell_hard_max_mv, c.temp_hard_max_dc))
    world.boot()
    world.run(2_000_000)
    world.type("close")
    return world


def _tripped(world: World) -> list[str]:
    return [x["name"] for x in world.seen.lines if x["k"] == "event" and x["level"] == "trip"]


# 25 minutes each: the other two in the long run
FULL_AND_EMPTY = extent(
    [("LFP", "charge"), ("NMC", "discharge")],
    [(chemistry, way) for chemistry in ("LFP", "NMC") for way in ("charge", "discharge")],
)


@pytest.mark.long
@pytest.mark.parametrize(("chemistry", "way"), FULL_AND_EMPTY)
def test_who_follows_the_limits_never_meets_a_trip(
    tmp_path: Path, chemistry: str, way: str
) -> None:
    # small cells, so that an hour is enough; unequal ones
    setup = Setup(
        chemistry=chemistry,
        slaves=1,
        cells=8,
        capacity_ah=2.0,
        soc=0.85 if way == "charge" else 0.15,
        spread_mv=20.0 if chemistry == "NMC" else 0.0,
        seed=7,
    )
    world = _world(tmp_path, setup)
    sign = 1 if way == "charge" else -1
    seen: list[int] = []

    def follow(obj: dict, raw: bytes) -> None:
        if obj["k"] == "power":
            ma = obj["charge_ma" if sign > 0 else "discharge_ma"]
            seen.append(ma)
            world.load_a = sign * min(ma, 4000) / 1000  # at most 2 C

    world.on_line = follow
    world.run(1_500_000_000)
    try:
        assert _tripped(world) == []
        assert max(seen) > 3000
        late = seen[-30:]  # it swings, since the load follows it a second late
        assert sum(late) / len(late) < 0.25 * max(seen), "it never became less"
        volts = world.cells.ocv_v()
        warn = {"LFP": (2.8, 3.6), "NMC": (3.0, 4.21)}[chemistry]
        if sign > 0:
            assert np.max(volts) > warn[1] - 0.25
        else:
            assert np.min(volts) < warn[0] + 0.25
        mine = next(x for x in reversed(world.seen.lines) if x["k"] == "power")["soc_pm"]
        true = float(np.mean(world.cells.soc)) * 1000
        assert abs(mine - true) < 60, (mine, true)
    finally:
        world.close()


# with the default bounds, 2 C at most; the scenario `charger_lag` itself has a lag of 1.5 s
CHARGERS = extent(
    [("LFP", 0.0), ("LFP", 5.0), ("NMC", 5.0)],
    [(chemistry, lag_s) for chemistry in ("LFP", "NMC") for lag_s in (0.0, 0.5, 1.5, 3.0, 5.0)],
)


@pytest.mark.long
@pytest.mark.parametrize(("chemistry", "lag_s"), CHARGERS)
def test_a_charger_that_follows_the_limit_late_settles(
    tmp_path: Path, chemistry: str, lag_s: float
) -> None:
    chosen = scenario.load("charger_lag")
    setup = {**chosen.setup, "chemistry": chemistry, "slaves": 1, "cells": 8, "soc": 0.96}
    chosen.duration_s = 240
    if chemistry == "NMC":  # its voltage rises over the last tenth of the charge
        setup["soc"] = 0.9
        chosen.duration_s = 330
        chosen.expect["charge_ma"] = [1000, 40000]
        # it falls in steps as the cells get full: only where it comes up again does it swing
        chosen.expect["charge_rise_ma"] = chosen.expect.pop("charge_swing_ma")
    next(args for _us, name, args in chosen.actions if name == "charger")["lag_s"] = lag_s
    run = scenario.Run(chosen, Setup(**setup), tmp_path / "pack.toml")
    try:
        run.go()
        assert run.problems() == []
    finally:
        run.close()


def test_charge_is_counted_through_a_drive(tmp_path: Path) -> None:
    # a cycle of US06, or an hour of it; the sensor shows 0.5 % too much
    until_s = extent(614, 3600)
    share = (until_s - 14) / 3600
    setup = Setup(chemistry="NMC", slaves=1, cells=8, soc=0.9, load="us06", seed=3)
    world = _world(tmp_path, setup, rest_time="10 s")
    world.run(14_000_000)
    start = float(np.mean(world.cells.soc))
    first = next(x for x in reversed(world.seen.lines) if x["k"] == "power")["soc_pm"]
    for sensor in world.currents:
        sensor.gain = 1.005
    world.run(until_s * 1_000_000)
    try:
        assert _tripped(world) == []
        true = float(np.mean(world.cells.soc))
        assert start - true > 0.12 * share
        mine = next(x for x in reversed(world.seen.lines) if x["k"] == "power")["soc_pm"]
        assert abs((first - mine) / 1000 - (start - true)) < extent(0.01, 0.02)
    finally:
        world.close()


def test_what_the_charge_left_reads_before_any_cell_was_read_is_null(tmp_path: Path) -> None:
    setup = Setup(kind="diybms", link="uart", slaves=2, soc=0.6)
    world = _world(tmp_path, setup, cell_age="20 s", temp_age="30 s")
    world.run(40_000_000)
    world.close()
    lines = [x for x in world.seen.lines if x["k"] in ("status", "power")]
    read = next(i for i, x in enumerate(lines) if x.get("min_mv") is not None)
    before = [x["soc_pm"] for x in lines[:read] if x["k"] == "power"]
    assert before and before == [None] * len(before)
    assert lines[-1]["k"] == "power" and lines[-1]["soc_pm"] > 0


@pytest.mark.parametrize("name", ["LFP", "NMC"])
def test_the_tables_are_those_of_the_publications(name: str) -> None:
    chemistry = CHEMISTRIES[name]
    for i, mv in enumerate(OCV_MV[schema.CHEMISTRIES.index(name)]):
        soc = i / 20 if i <= 19 else 0.95 + (i - 19) / 100
        assert abs(np.interp(soc, chemistry.soc, chemistry.ocv_v) * 1000 - mv) < 1
