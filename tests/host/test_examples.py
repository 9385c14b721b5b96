"""The pack files in examples/ are valid, and the master starts with them."""

from pathlib import Path

import pytest

from bms import config, slaves
from bms.clock import Clock
from bms.current import Current
from bms.faults import Faults
from bms.limits import Limits
from bms.links.slcan import Slcan
from bms.pack import Pack
from bms.strings import Strings

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


class Hal:
    """A board with many ports, whose clock stands still."""

    ports = {"can0": "can", "uart0": "uart", "uart1": "uart"}

    def ms(self) -> int:
        return 0

    us = ms

    def coil(self, which: int, pm: int) -> None: ...

    def feedback(self, which: int) -> None: ...

    def read(self, buf: bytearray) -> int:
        return 0

    def write(self, buf: bytes, start: int, n: int) -> int:
        return n

    def open_can(self, name: str, rate: int, filters: object) -> Slcan:
        return Slcan(self, rate)

    def open_uart(self, name: str, rate: int) -> "Hal":
        return self


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path) -> None:
    settings = config.load(str(path))
    hal = Hal()
    clock = Clock(hal)
    pack = Pack(settings)
    faults = Faults(clock, pack)
    currents = [Current(settings, s) for s in range(pack.strings)]
    strings = Strings(settings, hal, faults, pack, currents, clock)
    limits = Limits(settings, pack, currents, faults, strings, clock.now)
    drivers = slaves.build(settings, hal, pack, limits, faults)
    assert sum(len(driver.members) for driver in drivers) == len(settings.slaves)
