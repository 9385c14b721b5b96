"""Scenarios of ten minutes in two: all that happens in them still happens, fewer times."""

from bmssim.scenario import Scenario

# expectations that grow with time; the spread falls from what the setup begins with
COUNTS = ("damaged_at_least",)


def shorten(scenario: Scenario, seconds: float) -> None:
    """Let it end after `seconds`; what it expects of the time that is left out goes in proportion.

    Before `scenario.give_time`. Fails where an action would not happen any more.
    """
    share = seconds / scenario.duration_s
    if share >= 1:
        return
    names = {name for _us, name, _args in scenario.actions}
    scenario.duration_s = seconds
    scenario.actions = [x for x in scenario.actions if x[0] < seconds * 1e6]
    assert {name for _us, name, _args in scenario.actions} == names
    for key in COUNTS:
        if key in scenario.expect:
            scenario.expect[key] = round(scenario.expect[key] * share)
    if "spread_at_most_mv" in scenario.expect:
        first = scenario.setup["spread_mv"]
        fall = first - scenario.expect["spread_at_most_mv"]
        scenario.expect["spread_at_most_mv"] = first - fall * share
