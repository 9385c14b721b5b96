"""The pack files in examples/ are valid, and a master starts with them."""

from pathlib import Path

import pytest

from bmsctl.start_check import plan

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path) -> None:
    found = plan(path)
    assert sum(port.boards for port in found.ports) == len(found.config.slaves)
