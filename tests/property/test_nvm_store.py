"""The store under random sequences of changes, writes, failing writes and power cuts.

A model keeps what was complete: after each cut, all of it must be there, and nothing else.
"""

import sys
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bms.clock import Clock
from bms.config import pack_file
from bms.energy import totals
from bms.storage import nvm_store as S
from bms.storage.nvm_store import NvmStore
from extent import extent

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from fake_storage import PowerCut, Slots  # noqa: E402
from fakes import FakeClock, pack_lines  # noqa: E402

CONFIG = pack_file.parse(pack_lines())
PLACES = [
    totals.DEEP,
    totals.SOC,
    totals.SOC + 7,
    totals.CLOSINGS,
    totals.LOADED + 3,
    totals.OFFSET,
    totals.CONFIG_CRC,
]
SMALL = st.integers(-(2**30) + 1, 2**30 - 1)


class Picture:
    """Stands for what the freezer holds."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def fill(self, buf: bytearray, start: int, n: int) -> None:
        buf[:n] = self.data[start : start + n]


def torn(fill: bytes, shorter: bool):
    """What a cut leaves in a slot: the new beginning, then some bytes, or nothing more."""

    def make(new: bytes, old: bytes, k: int) -> bytes:
        rest = b"" if shorter else (fill * len(new))[: len(new) - k] if fill else old[k:]
        return new[:k] + rest

    return make


class PowerLimits(RuleBasedStateMachine):
    """totals, events: as they are now; the same with `kept_`: as they were last written whole."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = Slots(10, totals.BYTES)
        self.totals = dict.fromkeys(PLACES, 0)
        self.events: list[tuple[int, int]] = []
        self.kept = (dict(self.totals), [])
        self.frames: dict[int, bytes] = {}  # complete, by number
        self.frame: bytes | None = None
        self.start()

    def start(self) -> None:
        """Power comes."""
        self.storage.cut_at = -1
        self.storage.broken = 0
        self.clock = Clock(FakeClock())
        self.store = NvmStore(CONFIG, self.storage, self.clock)
        self.store.load()
        self.totals, self.events = dict(self.kept[0]), list(self.kept[1])
        self.frame = None

    def there(self) -> tuple[dict[int, int], list[tuple[int, int]]]:
        """What the store holds."""
        t = self.store.totals
        events = []
        for k in range(max(0, t[totals.EVENTS] - totals.KEPT), t[totals.EVENTS]):
            i = totals.RING + k % totals.KEPT * totals.EVENT
            events.append((t[i] & 255, t[i + 1]))
        return {p: t[p] for p in PLACES}, events

    @rule(place=st.sampled_from(PLACES), value=SMALL)
    def total(self, place: int, value: int) -> None:
        self.store.totals[place] = self.totals[place] = value

    @rule(code=st.integers(1, 119), value=SMALL, times=st.integers(1, 60))
    def event(self, code: int, value: int, times: int) -> None:
        for _ in range(times):
            self.store.event(0, code, 7, -1, value, 1, 2)
        self.events = (self.events + [(code, value)] * times)[-totals.KEPT :]

    @rule(n=st.integers(1, 2 * totals.BYTES), seed=st.integers(0, 255))
    def picture(self, n: int, seed: int) -> None:
        while self.store.frame_pending:
            self.write()
        data = bytes((i * 7 + seed) & 255 for i in range(n))
        if self.store.frame(9, 4, Picture(data), len(data)):
            self.frame = data[: self.store.slots // 2 * (self.store.size - S.PART_TAIL)]

    def write(self) -> None:
        """One step that writes something; the model follows what came to its end."""
        frames = not self.store._dirty and self.store.frame_pending
        written, cut = self.store.written, self.store.cut
        self.clock.hal.pass_ms(70000)
        try:
            self.store._second_at = self.clock.tick()
            self.store.step(self.clock.now, True, False)
        except PowerCut:
            if self.storage.whole:
                self.wrote(frames, cut=True)
            raise
        if self.store.written > written:
            self.wrote(frames)
        elif self.store.cut > cut:
            self.frame = None

    def wrote(self, frame: bool, cut: bool = False) -> None:
        """A write came to its end; `cut`: the store didn't see that any more."""
        if not frame:
            self.kept = (dict(self.totals), list(self.events))
            return
        last = self.store._part + 1 == self.store._parts if cut else not self.store.frame_pending
        if last:
            assert self.frame is not None
            self.frames[self.store.frames] = self.frame
            self.frame = None

    @rule(times=st.integers(1, 6))
    def writes(self, times: int) -> None:
        for _ in range(times):
            self.store._touch()
            self.write()
            self.write()

    @rule(times=st.integers(1, 3))
    def fails(self, times: int) -> None:
        self.storage.broken = times
        while self.storage.broken:
            if not self.store.frame_pending:
                self.store._touch()
            self.write()

    @rule(
        after=st.integers(0, 2 * totals.BYTES) | st.integers(totals.BYTES - 9, totals.BYTES),
        fill=st.sampled_from([b"", b"\xff", b"\x00", b"\xa5"]),
        shorter=st.booleans(),
    )
    def cut(self, after: int, fill: bytes, shorter: bool) -> None:
        self.storage.torn = torn(fill, shorter)
        self.storage.cut_at = after
        try:
            while True:
                if not self.store.frame_pending:
                    self.store._touch()
                self.write()
        except PowerCut:
            pass
        self.start()
        assert self.there() == self.kept
        self.last_frame()

    @rule()
    def off(self) -> None:
        self.start()
        assert self.there() == self.kept
        self.last_frame()

    def last_frame(self) -> None:
        """The newest complete frame is there as it was; no other one passes for complete."""
        parts: dict[int, dict[int, bytes]] = {}
        of: dict[int, int] = {}
        for i in range(self.store.slots):
            if self.store.read_part(i):
                part = self.store.tail[S.F_PART]
                number = self.store.tail[S.F_FRAME]
                of[number] = part >> 8 & 255
                parts.setdefault(number, {})[part & 255] = bytes(self.store.page[: part >> 16])
        whole = {
            n: b"".join(parts[n][k] for k in range(of[n])) for n in parts if len(parts[n]) == of[n]
        }
        if self.frames:
            assert max(self.frames) in whole
        for number, data in whole.items():
            assert self.frames[number] == data

    @invariant()
    def as_reported(self) -> None:
        assert self.there() == (self.totals, self.events)


TestPower = PowerLimits.TestCase
TestPower.settings = settings(max_examples=extent(60, 240), stateful_step_count=30)
