"""`--image` or BMS_DEVICE_IMAGE: MicroPython's .uf2 for RPI_PICO, which the project can't bring."""

import os
import sys
from pathlib import Path

import pytest

# the chip's model, which the unit tests share with both runtimes
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--image", help="MicroPython image of RPI_PICO for tests/device")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the same board run in one process (`--dist loadgroup`): it starts once."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.path.parent != Path(__file__).parent:
            continue
        if "pico" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("pico"))
        elif "guarded" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.callspec.params["guarded"]))


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Path:
    """The image, where there is one."""
    given = request.config.getoption("--image") or os.environ.get("BMS_DEVICE_IMAGE")
    if not given:
        pytest.skip("no MicroPython image: see --image in tests/device/README.md")
    path = Path(given)
    if not path.is_file():
        pytest.fail(f"no such image: {path}")
    return path
