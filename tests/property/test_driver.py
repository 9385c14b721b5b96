"""Whatever arrives on the bus: no exception, no wrong reading, no violation overlooked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bms.clock import Clock
from bms.config import pack_file
from bms.contactors.strings import Strings
from bms.links.slcan import Slcan
from bms.pack import FRESH, Pack
from bms.protection.fault_ids import CELL_HARD_HIGH, CELL_HARD_LOW, TEMP_HARD_HIGH
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from bms.slaves import build as slaves
from bmssim import protocol as p
from extent import extent

PACK = """
[pack]
name = "p"
chemistry = "LFP"
cells = 10
capacity = "10 Ah"
[limits]
charge_max = "10 A"
discharge_max = "10 A"
current_hard_max = "20 A"
[[slave]]
kind = "cell_link"
link = "can0"
node = "1-2"
cells = 5
temps = 3
"""
LOW, HIGH, HOT = 2000, 3750, 700
CONFIG = pack_file.parse(PACK.splitlines())


class Hal:
    ports = {"can0": "can", "uart0": "uart"}
    STRINGS = 1

    def __init__(self) -> None:
        self.coils = [0, 0, 0]

    def ms(self) -> int:
        return 1000

    def us(self) -> int:
        return 0

    def coil(self, which: int, on: int) -> None:
        self.coils[which] = on

    def feedback(self, which: int) -> int:
        return self.coils[which]

    def read(self, buf: bytearray) -> int:
        return 0

    def write(self, buf: bytes, start: int, n: int) -> int:
        return n

    def open_can(self, name: str, rate: int, filters: object) -> Slcan:
        return Slcan(self, rate)


class System:
    """A driver with two known boards of five cells and three sensors, scan 5 running."""

    def __init__(self) -> None:
        self.hal = hal = Hal()
        clock = Clock(hal)
        self.pack = Pack(CONFIG)
        self.faults = Faults(clock, self.pack)
        currents = [StringCurrent(CONFIG, 0)]
        self.strings = Strings(CONFIG, hal, self.faults, self.pack, currents, clock)
        self.faults.set_open_target(self.strings)
        limits = Limits(CONFIG, self.pack, currents, self.faults, self.strings, clock.now)
        self.driver = slaves.build(CONFIG, hal, self.pack, limits, self.faults)[0]
        for node in (1, 2):
            self.give(p.hello_frame(node, 5, 3, 0))
        self.driver.begin(5, 1000)

    def give(self, frame: p.Frame) -> None:
        data = bytearray(8)
        data[: len(frame.data)] = frame.data
        self.driver.on_frame(frame.ident, len(frame.data), data, 1000)


mv = st.one_of(st.none(), st.integers(0, 8190))
dc = st.one_of(st.none(), st.integers(-1000, 7190))
node = st.integers(0, 63)
seq = st.one_of(st.just(5), st.integers(0, 255))
good = st.one_of(
    st.builds(p.cells_frame, node, st.integers(0, 7), st.lists(mv, max_size=4), seq),
    st.builds(p.cells_frame, st.integers(1, 2), st.integers(0, 1), st.lists(mv, max_size=4), seq),
    st.builds(p.temps_frame, st.integers(1, 2), st.integers(0, 3), st.lists(dc, max_size=4), seq),
    st.builds(
        p.status_frame,
        node,
        st.integers(0, 655350),
        st.integers(0, 65535),
        st.integers(-40, 215),
        st.integers(0, 100),
        seq,
    ),
    st.builds(p.hello_frame, node, st.integers(0, 8), st.integers(0, 8), st.integers(0, 2**32 - 1)),
)
anything = st.builds(p.Frame, st.integers(0, 0x7FF), st.binary(max_size=8), st.just(False))


@st.composite
def damaged(draw: st.DrawFn) -> p.Frame:
    frame = draw(good)
    data = bytearray(frame.data)
    for bit in draw(st.lists(st.integers(0, 63), min_size=1, max_size=3)):
        data[bit >> 3] ^= 1 << (bit & 7)
    return p.Frame(frame.ident ^ draw(st.sampled_from([0, 0, 1, 64])), bytes(data))


def readings(frame: p.Frame) -> dict[tuple[str, int], int]:
    """What a frame may write where, by the protocol's layout alone."""
    if frame.node not in (1, 2) or len(frame.data) != 8 or not p.checksum_is_good(frame):
        return {}
    word = int.from_bytes(frame.data[:7], "little")
    if word >> 52 != 5:
        return {}
    out = {}
    for k in range(4):
        raw = word >> (13 * k) & 0x1FFF
        at = 4 * (frame.function & 7) + k
        if raw == 8191:
            continue
        if 8 <= frame.function < 16 and at < 5:
            out["cell", 5 * (frame.node - 1) + at] = raw
        if 16 <= frame.function < 20 and at < 3:
            out["temp", 3 * (frame.node - 1) + at] = raw - 1000
    return out


@settings(max_examples=extent(400, 1600))
@given(st.lists(st.one_of(good, good, damaged(), anything), max_size=25))
def test_only_what_was_said_is_read_and_no_violation_is_lost(frames: list[p.Frame]) -> None:
    s = System()
    said: dict[tuple[str, int], set[int]] = {}
    for frame in frames:
        known = bytes(s.pack.known)
        s.give(frame)
        for place, value in readings(frame).items():
            said.setdefault(place, set()).add(value)
            if known[frame.node - 1]:
                # evaluated on arrival, whether it is taken or not
                latched = s.faults.latched
                if place[0] == "cell" and not LOW <= value <= HIGH:
                    assert latched[CELL_HARD_HIGH] or latched[CELL_HARD_LOW]
                if place[0] == "temp" and value > HOT:
                    assert latched[TEMP_HARD_HIGH]
    for i in range(10):
        if s.pack.cell_flags[i] & FRESH:
            assert s.pack.cell_mv[i] in said["cell", i]
    for i in range(6):
        if s.pack.temp_flags[i] & FRESH:
            assert s.pack.temp_dc[i] in said["temp", i]
    s.driver.step(1001)
    s.driver.begin(6, 1100)


@given(st.lists(mv, min_size=4, max_size=4), st.lists(dc, min_size=3, max_size=3))
def test_a_good_frame_is_read_to_the_bit(cells: list, temps: list) -> None:
    s = System()
    s.give(p.cells_frame(2, 0, cells, 5))
    s.give(p.temps_frame(2, 0, temps, 5))
    for i in range(4):
        assert bool(s.pack.cell_flags[5 + i] & FRESH) == (cells[i] is not None)
        assert s.pack.cell_mv[5 + i] == (cells[i] or 0)
    for i in range(3):
        assert bool(s.pack.temp_flags[3 + i] & FRESH) == (temps[i] is not None)
        assert s.pack.temp_dc[3 + i] == (temps[i] or 0)
    out = any(v is not None and not LOW <= v <= HIGH for v in cells)
    hot = any(v is not None and v > HOT for v in temps)
    latched = s.faults.latched
    assert bool(latched[CELL_HARD_HIGH] or latched[CELL_HARD_LOW]) == out
    assert bool(latched[TEMP_HARD_HIGH]) == hot


@settings(max_examples=extent(200, 800))
@given(st.lists(st.binary(max_size=30), max_size=20))
def test_any_bytes_on_the_wire(pieces: list[bytes]) -> None:
    s = System()
    waiting = [
        # some of them look like frames
        piece if i % 2 else b"t2011" + piece.hex().encode() + b"\r"
        for i, piece in enumerate(pieces)
    ]

    def read(buf: bytearray) -> int:
        piece = waiting.pop(0) if waiting else b""
        buf[: len(piece)] = piece
        return len(piece)

    s.hal.read = read  # type: ignore[method-assign]
    for i in range(len(pieces) + 2):
        s.driver.step(1000 + i)
    assert bytes(s.pack.cell_flags) == bytes(10)
