"""A bad pack file is refused on the board as on the host, by line and reason; nothing closes."""

from pathlib import Path

import pytest

from bmssim import scenario
from bmssim.process import HEARTBEAT
from bmssim.setup import Setup
from bmssim.world import World

BAD = {
    "unknown key": ("capacity =", "capacitty =", "capacitty", "unknown key"),
    "wrong unit": ('"50 Ah"', '"50 V"', "capacity", "wrong unit V"),
    "no unit": ('"50 Ah"', "50", "capacity", "number and its unit"),
    "out of range": ('"100 A"', '"9000 A"', "charge_max", "out of range"),
    "wrong order": ('"500 A"', '"50 A"', "current_hard_max", "must be below"),
    "more cells": ("cells = 64", "cells = 65", "cells", "the slaves bring 64"),
    "unknown kind": ('"cell_link"', '"tea_leaf"', "kind", "tea_leaf"),
    "no such port": ('"can0"', '"can7"', "link", "can7"),
    "missing": ('name = "simulated"\n', "", "name", "missing"),
}


def world(text: str, folder: Path, runtime: str) -> World:
    pack = folder / "pack.toml"
    pack.write_text(text)
    return World(Setup(runtime=runtime), pack, (0, 8191, 10000))


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
@pytest.mark.parametrize("case", BAD)
def test_refused_by_line_key_and_reason(case: str, runtime: str, tmp_path: Path) -> None:
    old, new, key, reason = BAD[case]
    good = scenario.pack_text(Setup(), {})
    assert old in good
    text = good.replace(old, new, 1)
    w = world(text, tmp_path, runtime)
    try:
        w.boot()
        w.run(500_000)
        w.type(" Clx\x7fose ")
        w.run(3_000_000)
    finally:
        w.close()
    said = [x for x in w.seen.lines if x["k"] == "config_error"]
    assert len(said) >= 2  # again every second
    assert said[0]["key"] == key
    assert reason in said[0]["reason"]
    if case != "missing":
        lines = text.splitlines()
        assert new.split("\n")[0] in lines[said[0]["line"] - 1] or case == "wrong order"
        assert said[0]["line"] > 0
    answer = next(x for x in w.seen.lines if x["k"] == "answer")
    assert answer["cmd"] == "close"
    assert answer["ok"] is False
    assert w.plant.history == []
    assert w._pins & HEARTBEAT == 0


def test_a_scan_that_takes_longer_than_its_period_is_refused(tmp_path: Path) -> None:
    setup = Setup(slaves=62, cells=32)
    pack = tmp_path / "pack.toml"
    pack.write_text(scenario.pack_text(setup, {}))
    w = World(setup, pack, (0, 8191, 10000))
    try:
        w.boot()
        w.run(100_000)
    finally:
        w.close()
    assert "longer than scan_period" in w.seen.lines[0]["reason"]


def test_a_missing_pack_file_is_said(tmp_path: Path) -> None:
    w = World(Setup(), tmp_path / "nowhere.toml", (0, 8191, 10000))
    try:
        w.boot()
        w.run(100_000)
    finally:
        w.close()
    assert w.seen.lines[0]["k"] == "config_error"
    assert "pack file" in w.seen.lines[0]["reason"]


def test_what_version_sends_follows_its_answer(tmp_path: Path) -> None:
    w = World(Setup(), tmp_path / "nowhere.toml", (0, 8191, 10000))
    try:
        w.boot()
        w.run(100_000)
        w.type("version")
        w.run(500_000)
    finally:
        w.close()
    # who reads the answer waits for what it announces
    assert [x["k"] for x in w.seen.lines if x["k"] != "config_error"] == ["answer", "boot"]
