"""Shared by all tests: nothing here or in them asserts on wall-clock time."""

import os

import pytest
from hypothesis import settings

from extent import LONG, extent

# the short run is the same each time; the long one is repeated by its --hypothesis-seed
settings.register_profile(
    "project",
    deadline=None,
    derandomize=not LONG,
    database=None,
    max_examples=extent(100, 400),
)
settings.load_profile("project")


def pytest_xdist_auto_num_workers() -> int:
    """Two a CPU, as some tests wait for a board that they have switched off or for a silence."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure() -> None:
    """Each worker keeps to one CPU: a simulator and its firmware take turns, and wake faster so."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw") and hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[int(worker[2:]) % len(cpus)]})


def has_long_form(item: pytest.Item) -> bool:
    """It calls `extent`, is marked `long`, or searches at random."""
    code = getattr(getattr(item, "function", None), "__code__", None)
    return (
        "property" in item.path.parts
        or item.get_closest_marker("long") is not None
        or (code is not None and "extent" in code.co_names)
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long run takes only what has a long form."""
    if LONG:
        chosen = [item for item in items if has_long_form(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
