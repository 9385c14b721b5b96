"""A slice of the campaign, and that it would say so if the firmware missed something."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from bmssim import campaign
from bmssim.campaign_faults import BY_NAME, KINDS, STAGES
from bmssim.fault_run import MOMENTS, Case, Verdict
from extent import extent

RUNS = extent(len(KINDS), 200)  # each kind once, or more
TWINS = extent(2, 1)  # of so many faultless runs one
SLICES = 4  # so that the workers of the test run share them


@pytest.mark.long
@pytest.mark.parametrize("part", range(SLICES))
def test_a_slice_of_the_campaign(part: int) -> None:
    todo = list(itertools.islice(campaign.cases(1), RUNS))[part::SLICES]
    done = [campaign.play(case) for case in todo]
    done += [campaign.play(case, faultless=True) for case in todo[::TWINS]]
    assert [v for v in done if not v.good] == []


def test_the_slice_has_every_kind_link_count_of_strings_and_moment() -> None:
    todo = list(itertools.islice(campaign.cases(1), RUNS))
    assert {c.kind for c in todo} == {k.name for k in KINDS}
    assert {c.link for c in todo} == {"can", "uart"}
    assert {c.strings for c in todo} == {1, 3}
    assert {c.moment for c in todo} == set(MOMENTS)


def test_the_whole_matrix_comes_in_a_campaign() -> None:
    todo = list(itertools.islice(campaign.cases(1), 2000))
    wanted = {
        (k.name, m, link, n)
        for k in KINDS
        for m in k.moments
        for link in k.links
        for n in k.strings
    }
    assert {(c.kind, c.moment, c.link, c.strings) for c in todo} == wanted
    assert len(set(todo)) == 2000
    assert min(Counter(c.kind for c in todo).values()) >= 2000 // len(KINDS)
    assert list(itertools.islice(campaign.cases(1), 2000)) == todo
    assert list(itertools.islice(campaign.cases(2), 2000)) != todo


def test_a_kind_without_a_fault_counts_among_faultless_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(campaign, "_pair", lambda case: (verdict(case, False), verdict(case, True)))

    def verdict(case: Case, faultless: bool) -> Verdict:
        nothing = BY_NAME[case.kind].outcome == "nothing"
        return Verdict(case, faultless or nothing, injected=True, good=not nothing)

    monkeypatch.setattr(campaign, "ProcessPoolExecutor", _Here)
    result = campaign.run(len(KINDS), jobs=1)
    assert result["runs"] == len(KINDS)
    assert result["faultless_runs"] == len(KINDS) + 2
    assert (result["missed"], result["false"]) == (0, 2)
    assert result["kinds"]["charger_lag"]["faultless"] == result["kinds"]["charger_lag"]["false"]
    assert campaign.run(3, kinds=("charger_lag",), jobs=1)["faultless_runs"] == 6


class _Here:
    """A pool of this process."""

    def __init__(self, *args: object) -> None: ...

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *args: object) -> None: ...

    def map(self, what: Callable, todo: list, chunksize: int) -> list:
        return [what(x) for x in todo]


def test_a_case_is_played_again_by_its_name() -> None:
    case = Case("interlock", "discharge", "uart", 3, 5)
    assert Case.parse(case.name) == case
    one, two = campaign.play(case), campaign.play(case)
    assert one == two
    assert one.good
    for name in ("interlock", "interlock/never/can/1/1", "interlock/closed/i2c/1/1", ""):
        with pytest.raises(ValueError, match="expected KIND"):
            Case.parse(name)


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        # the firmware is told not to look, or to look too late
        ("interlock", {"interlock": False}, "it stays closed"),
        ("voltage_differs", {"voltage_sensor": False}, "it stays closed"),
        ("cell_high", {"cell_delay": "10 s"}, "it stays closed"),
        ("slave_silent", {"cell_age": "5 s", "cell_age_warn": "1 s"}, "it stays closed"),
        ("feedback_lost", {"contactor_feedback": False}, "it stays closed"),
        ("discharge_peak", {"discharge_continuous": "149 A"}, "it stays closed"),
        ("status_lost", {"temp_age": "20 s"}, "it stays closed"),
        ("current_reversed", {"current_frozen_step": "200 mV"}, "it stays closed"),
    ],
)
def test_what_the_firmware_misses_is_missed(
    kind: str, settings: dict, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BY_NAME[kind]
    # the allowed time stays that of the right settings
    allowed = 700.0
    worse = replace(real, settings=settings, allowed_ms=lambda t: allowed)
    monkeypatch.setitem(BY_NAME, kind, worse)
    verdict = campaign.play(Case(kind, "discharge", "can", 1, 1))
    assert verdict.injected
    assert not verdict.good
    assert why in verdict.why
    result = campaign.summary([(verdict, verdict)], 1, 1.0)
    assert not result["ok"]
    assert result["missed"] == 2
    assert result["kinds"][kind]["missed"] == 1


def test_a_trip_in_a_faultless_run_is_false(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = replace(BY_NAME["cell_spread"], setup={"temp_c": 61.0})
    monkeypatch.setitem(BY_NAME, "cell_spread", warm)
    verdict = campaign.play(Case("cell_spread", "closed", "can", 1, 1), faultless=True)
    assert not verdict.good
    assert verdict.why == "tripped: temp_high"
    result = campaign.summary([(Verdict(verdict.case, False, good=True), verdict)], 1, 1.0)
    assert not result["ok"]
    assert (result["missed"], result["false"]) == (0, 1)
    assert result["kinds"]["cell_spread"]["false"] == 1


def test_a_string_that_closes_onto_another_one_apart_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    careless = replace(
        BY_NAME["welded_string"], settings={"join_voltage": "50 V", "precharge_ratio": "90 %"}
    )
    monkeypatch.setitem(BY_NAME, "welded_string", careless)
    verdict = campaign.play(Case("welded_string", "before", "can", 3, 1))
    assert not verdict.good
    assert "is closed onto string" in verdict.why


def test_a_charger_that_is_far_too_late_is_false(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # nobody could make up for so late a charger
    late = replace(
        BY_NAME["charger_lag"],
        prepare=lambda t: t.charge_late(100.0, 30.0),
        varied=lambda rng: {"soc": 0.985},
        twin_us=30_000_000,
    )
    monkeypatch.setitem(BY_NAME, "charger_lag", late)
    verdict = campaign.play(Case("charger_lag", "closed", "can", 1, 1))
    assert verdict.faultless
    assert not verdict.good
    assert verdict.why == "tripped: charge_peak"


def test_a_kind_that_cannot_be_injected_is_missed() -> None:
    verdict = Verdict(Case("hang", "closed", "can", 1, 1), False)
    result = campaign.summary([(verdict, Verdict(verdict.case, True, good=True))], 1, 1.0)
    assert result["kinds"]["hang"] == {
        "meaning": BY_NAME["hang"].meaning,
        "injected": 0,
        "detected": 0,
        "missed": 1,
        "faultless": 1,
        "false": 0,
        "ms_p50": None,
        "ms_max": None,
        "ms_allowed": None,
    }
    assert result["failed"][0]["case"] == "hang/closed/can/1/1"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("what", ["exception", "hang"])
def test_each_stage_that_fails_opens(
    what: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {
        "what": "raise" if what == "exception" else "hang",
        "stage": stage,
        "error": "ValueError",
    }
    monkeypatch.setitem(BY_NAME, what, replace(BY_NAME[what], broken=lambda t: how))
    verdict = campaign.play(Case(what, "discharge", "can", 1, 1))
    assert verdict.why == ""
    assert verdict.injected
