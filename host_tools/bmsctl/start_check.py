"""Checks a pack file as a master does at its start: with the firmware's own code, on ports without
boards. What the firmware refuses is refused here, with line and key.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bms.clock import Clock
from bms.config import pack_file
from bms.config.errors import ConfigError
from bms.contactors.strings import Strings
from bms.links.slcan import Slcan
from bms.pack import Pack
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors import build as sensors
from bms.sensors.current import StringCurrent
from bms.slaves import build as slaves

from . import board_files
from .bridge import port_medium
from .errors import ToolError
from .idle_board import IdleHal


class PackRefused(ToolError):
    """A pack file that a master would refuse: `line` (0: the file as a whole), `key`, `reason`."""

    def __init__(self, path: Path, error: ConfigError) -> None:
        super().__init__(f"{path}: {error}")
        self.line: int = error.line
        self.key: str = error.key
        self.reason: str = error.reason


@dataclass(frozen=True)
class Port:
    """One port of slave boards.

    rate_bps: bit/s; scan_ms: shortest time for a scan of all its boards; every_ms: how often
    one begins; cell_age_ms, temp_age_ms: a board that sends nothing trips after it.
    """

    name: str
    kind: str
    boards: int
    cells: int
    rate_bps: int
    scan_ms: int
    every_ms: int
    cell_age_ms: int
    temp_age_ms: int


@dataclass(frozen=True)
class Plan:
    """A pack file that a master takes; config: as the firmware parsed it."""

    config: Any
    ports: tuple[Port, ...]
    cells: int
    temps: int
    strings: int


class _Nowhere(IdleHal):
    """A board whose ports lead nowhere."""

    def __init__(self, facts: board_files.Fittings) -> None:
        self.ports = facts.ports
        self.I2CS = facts.i2cs
        self.ADCS = facts.adcs
        self.STRINGS = facts.strings
        self.MEASURES = facts.measures
        self.rates: dict[str, int] = {}

    def read(self, buf: bytearray) -> int:
        return 0

    def write(self, buf: bytes, start: int, n: int) -> int:
        return n

    def adc_mv(self, channel: int) -> int:
        return 0

    def open_can(self, name: str, rate: int, filters: object) -> Slcan:
        self.rates[name] = rate or 500_000
        link = Slcan(self, 500_000)
        link.rate = self.rates[name]
        return link

    def open_uart(self, name: str, rate: int) -> "_Nowhere":
        self.rates[name] = rate
        return self

    def open_i2c(self, name: str, rate: int) -> "_Nowhere":
        return self


def _any_board(config: Any, strings: int) -> board_files.Fittings:
    """What some board has: the names of ports tell what they are."""
    ports = {}
    for entry in [*config.slaves, *config.links]:
        name = entry.link if hasattr(entry, "link") else entry.port
        medium = port_medium(name)
        if medium:
            ports[name] = medium
    for name in board_files.names():
        ports.update(board_files.fittings(name).ports)
    measures = ("current_sensor", "link_sensor", "voltage_sensor", "isolation_sensor")
    return board_files.Fittings(ports, ("i2c0", "i2c1"), ("0", "1", "2"), (), strings, measures)


def plan(path: Path, board: str = "") -> Plan:
    """What a master on a board of this name, or on some board, makes of a pack file.

    Raises PackRefused with line, key and reason, ToolError for a file that can't be read.
    """
    try:
        config = pack_file.load(str(path))
        strings = max(slave.string for slave in config.slaves)
        facts = board_files.fittings(board) if board else _any_board(config, strings)
        if board and strings > 1:
            facts = _without_shared(config, facts, board)
        return _planned(config, facts)
    except ConfigError as error:
        raise PackRefused(path, _with_line(path, error)) from None
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None


def _with_line(path: Path, error: ConfigError) -> ConfigError:
    """The error with the line of its key, where the firmware did not keep it."""
    if error.line or not error.key:
        return error
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if line.split("=")[0].strip() == error.key:
            return ConfigError(number, error.key, error.reason)
    return error


def _without_shared(config: Any, facts: board_files.Fittings, board: str) -> board_files.Fittings:
    for slave in config.slaves:
        if slave.link in facts.shared:
            raise ConfigError(
                slave.at["link"], "link", f"a second string has the pins of {slave.link} on {board}"
            )
    ports = {name: facts.ports[name] for name in facts.ports if name not in facts.shared}
    return dataclasses.replace(facts, ports=ports)


def _planned(config: Any, facts: board_files.Fittings) -> Plan:
    hal = _Nowhere(facts)
    clock = Clock(hal)
    pack = Pack(config)
    faults = Faults(clock, pack)
    currents = [StringCurrent(config, s) for s in range(pack.strings)]
    strings = Strings(config, hal, faults, pack, currents, clock)
    limits = Limits(config, pack, currents, faults, strings, clock.now)
    found = sensors.build(config, hal)
    sensors.check(config, found, currents, pack)
    drivers = slaves.build(config, hal, pack, limits, faults, found)
    sensors.open_rest(config, hal, found)
    ports = []
    for driver in drivers:
        first = driver.members[0]
        name = config.slaves[first].link
        ports.append(
            Port(
                name,
                config.slaves[first].kind,
                len(driver.members),
                sum(pack.slave_cells[i] for i in driver.members),
                hal.rates.get(name, 0) or driver.link.rate,
                driver.scan_ms(config),
                driver.every * config.scan_period_ms,
                pack.cell_age[first],
                pack.temp_age[first],
            )
        )
    return Plan(config, tuple(ports), pack.cells, pack.temps, pack.strings)
