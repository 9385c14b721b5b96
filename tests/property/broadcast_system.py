"""A driver of any CAN kind on a wire under CPython, for the property tests."""

from typing import Any

from hypothesis import strategies as st

from bms.clock import Clock
from bms.config import pack_file
from bms.contactors.strings import Strings
from bms.links.slcan import Slcan
from bms.pack import FRESH, Pack
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from bms.slaves import build as slaves
from bmssim.protocol import Frame as BusFrame
from bmssim.slcan import to_line

Frame = tuple[int, bytes]


_NO_FRAME = bytes.maketrans(b"tT", b"uU")


class Hal:
    """A board whose clock stands still until a test moves it, and whose port is `inbox`."""

    ports = {"can0": "can"}
    STRINGS = 1

    def __init__(self) -> None:
        self.now = 1000
        self.inbox = b""
        self.sent = b""

    def ms(self) -> int:
        return self.now

    us = ms

    def coil(self, which: int, pm: int) -> None: ...

    def feedback(self, which: int) -> None: ...

    def read(self, buf: bytearray) -> int:
        part, self.inbox = self.inbox[: len(buf)], self.inbox[len(buf) :]
        buf[: len(part)] = part
        return len(part)

    def write(self, buf: bytes, start: int, n: int) -> int:
        self.sent += bytes(buf[start : start + n])
        return n

    def open_can(self, name: str, rate: int, filters: object) -> Slcan:
        return Slcan(self, rate)


class System:
    """A driver for some boards, as (node, cells, temps), of one port."""

    def __init__(self, kind: str, boards: list[tuple[int, int, int]], extra: str = "") -> None:
        cells = sum(board[1] for board in boards)
        text = f'[pack]\nname = "p"\nchemistry = "NMC"\ncells = {cells}\ncapacity = "10 Ah"\n'
        text += '[limits]\ncharge_max = "10 A"\ndischarge_max = "10 A"\n'
        text += 'current_hard_max = "20 A"\ncell_age = "10 s"\ntemp_age = "10 s"\n'
        for node, count, temps in boards:
            text += f'[[slave]]\nkind = "{kind}"\nlink = "can0"\nnode = {node}\n'
            text += f"cells = {count}\ntemps = {temps}\n{extra}\n"
        settings = pack_file.parse(text.splitlines())
        self.hal = hal = Hal()
        self.clock = Clock(hal)
        self.pack = Pack(settings)
        self.faults = Faults(self.clock, self.pack)
        currents = [StringCurrent(settings, 0)]
        strings = Strings(settings, hal, self.faults, self.pack, currents, self.clock)
        self.faults.set_open_target(strings)
        limits = Limits(settings, self.pack, currents, self.faults, strings, self.clock.now)
        self.driver: Any = slaves.build(settings, hal, self.pack, limits, self.faults)[0]
        self.seq = 0

    def begin(self) -> None:
        """A scan begins."""
        self.seq = self.seq + 1 & 255
        self.driver.begin(self.seq, self.clock.now)

    def pass_ms(self, ms: int) -> None:
        """Time goes by, with a step at its end."""
        self.hal.now += ms
        self.clock.tick()
        self.driver.step(self.clock.now)

    def give(self, data: bytes) -> None:
        """Bytes from the adapter."""
        self.hal.inbox += data
        while self.hal.inbox:
            self.driver.step(self.clock.now)

    def old(self) -> None:
        """No reading is valid any more."""
        for flags in (self.pack.cell_flags, self.pack.temp_flags):
            for i in range(len(flags)):
                flags[i] = 0

    def mv(self) -> list[int | None]:
        """Fresh cells in mV."""
        p = self.pack
        return [v if f & FRESH else None for v, f in zip(p.cell_mv, p.cell_flags, strict=True)]

    def dc(self) -> list[int | None]:
        """Fresh temperatures in 0.1 degC."""
        p = self.pack
        return [v if f & FRESH else None for v, f in zip(p.temp_dc, p.temp_flags, strict=True)]


def text(frame: Frame) -> bytes:
    """A frame as the adapter says it."""
    return to_line(BusFrame(*frame)) + b"\r"


def junk() -> st.SearchStrategy[bytes]:
    """Bytes that are no frame, with an end."""
    some = st.binary(max_size=30).map(lambda data: data.replace(b"\r", b"").translate(_NO_FRAME))
    return some.map(lambda data: data + b"\r")


def strangers(idents: range) -> st.SearchStrategy[Frame]:
    """Any frame outside some identifiers, or a short one inside."""
    outside = st.integers(0, 0x7FF).filter(lambda ident: ident not in idents)
    short = st.tuples(st.integers(idents.start, idents.stop - 1), st.binary(max_size=5))
    return st.tuples(outside, st.binary(max_size=8)) | short
