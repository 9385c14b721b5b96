"""Whatever happens in whatever order: what a contactor must never do, on one string and three."""

import sys
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from extent import extent

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from bms.contactors.sequence import CLOSED, MINUS, OPEN, PLUS, PRECHARGE  # noqa: E402
from bms.protection import fault_ids as F
from bms.protection.inputs import Inputs  # noqa: E402
from fakes import Parts, check_ages  # noqa: E402

CONTACTORS = 'reclose = "0 ms"; fuse_wait = "100 ms"; breaking_current = "300 A"'
INPUTS = "interlock = true; emergency_stop = true; fault_line = true"


class Sequence(RuleBasedStateMachine):
    """All kinds of trouble: readings, faults, feedback, currents, loops, commands."""

    parallel = 1

    @initialize()
    def start(self) -> None:
        p: Any = Parts(
            slaves=self.parallel, parallel=self.parallel, contactors=CONTACTORS, inputs=INPUTS
        )
        self.p = p
        p.board.pack_mv = 4 * 3300
        p.ready()
        self.inputs = Inputs(p.config, p.board, p.faults, p.strings, p.limits)
        self.link = 0
        self.held: int | None = None
        self.proven = [False] * self.parallel
        self.latched = set[int]()
        self.acknowledged = False
        self.fuse_ms = 0

    def one(self) -> None:
        """Ten milliseconds of the whole."""
        p = self.p
        closed = [s for s in range(self.parallel) if self._conducts(s)]
        charging = [
            s
            for s in range(self.parallel)
            if p.board.coils[3 * s] and p.board.coils[3 * s + PRECHARGE]
        ]
        if closed:
            self.link = 4 * p.mv[4 * closed[0]] if p.mv[4 * closed[0]] else self.link
        elif charging:
            self.link += (4 * 3300 - self.link) // 6
        else:
            self.link -= self.link // 50
        if self.held is not None and not closed:
            self.link = self.held
        if p.board.has_link_sensor:
            p.board.link = self.link
        before = list(p.board.coils)
        p.step()
        self.inputs.check_cuts()
        self.inputs.step(p.now)
        check_ages(p.limits, p.now)
        for s in range(self.parallel):
            plus = 3 * s + PLUS
            if p.board.coils[plus] and not before[plus]:
                mv = p.pack.string_cell[s].total
                near = abs(mv - self.link) <= (1000 if closed else mv // 20)
                assert near, ("plus closed onto a difference", s, mv, self.link)
                for other in closed:
                    apart = abs(mv - p.pack.string_cell[other].total)
                    assert apart <= 1000, ("joined a string that is apart", s, other, apart)
                assert p.board.has_link_sensor, "plus closed though nobody measured the link"
                assert p.board.coils[3 * s + MINUS]

    def _conducts(self, string: int) -> bool:
        """Minus and plus of a string are on, or welded as their contacts report."""
        on = [
            self.p.board.coils[3 * string + which] or self.p.board.stuck[3 * string + which] == 1
            for which in (MINUS, PLUS)
        ]
        return all(on)

    @rule(held=st.sampled_from([None, None, 0, 13200, 13900, 17000]))
    def something_holds_the_link(self, held: int | None) -> None:
        self.held = held

    @rule(ms=st.integers(1, 60))
    def time(self, ms: int) -> None:
        for _ in range(ms):
            self.one()

    @rule()
    def close(self) -> None:
        self.p.strings.close(self.p.now)

    @rule()
    def close_and_wait(self) -> None:
        self.p.strings.close(self.p.now)
        self.time(180)

    @rule()
    def open(self) -> None:
        self.p.strings.open(self.p.now)

    @rule(
        fault=st.sampled_from(
            [F.CELL_HIGH, F.TEMP_LOST, F.CURRENT_HARD, F.SLAVE_ALARM, F.PACK_CHARGE]
        ),
        string=st.integers(0, 2),
    )
    def raise_fault(self, fault: int, string: int) -> None:
        s = string % self.parallel
        self.p.faults.set(fault, self._place(fault, s), 1)

    @rule(
        fault=st.sampled_from(
            [F.CELL_HIGH, F.TEMP_LOST, F.CURRENT_HARD, F.SLAVE_ALARM, F.PACK_CHARGE]
        ),
        string=st.integers(0, 2),
    )
    def withdraw_fault(self, fault: int, string: int) -> None:
        s = string % self.parallel
        self.p.faults.clear(fault, self._place(fault, s))

    def _place(self, fault: int, string: int) -> int:
        kind = self.p.faults.kind[fault]
        return {F.CELL: 4 * string, F.TEMP: 2 * string, F.NOWHERE: -1}.get(kind, string)

    @rule()
    def acknowledge(self) -> None:
        f = self.p.faults
        for i in list(self.latched):
            if not f.active[i]:
                self.latched.discard(i)
        f.acknowledge()

    @rule(ma=st.sampled_from([0, -1000, -50000, 50000, -350000, None]))
    def current(self, ma: int | None) -> None:
        self.p.board.ma = ma

    @rule(which=st.integers(0, 8), contact=st.sampled_from([None, None, 0, 1]))
    def feedback(self, which: int, contact: int | None) -> None:
        self.p.board.stuck[which % (3 * self.parallel)] = contact

    @rule(bits=st.sampled_from([7, 7, 7, 6, 5, 3]))
    def loops(self, bits: int) -> None:
        self.p.board.say(bits)

    @rule(cell=st.integers(0, 11), mv=st.sampled_from([3300, 3300, 3400, 3200, None]))
    def reading(self, cell: int, mv: int | None) -> None:
        self.p.mv[cell % len(self.p.mv)] = mv

    @rule(installed=st.booleans())
    def link_sensor(self, installed: bool) -> None:
        self.p.board.has_link_sensor = installed

    @invariant()
    def no_contactor_is_closed_with_a_tripping_fault(self) -> None:
        if not hasattr(self, "p"):
            return
        p = self.p
        for s in range(self.parallel):
            on = any(p.board.coils[3 * s : 3 * s + 3])
            if on and p.faults.blocking(s):
                # only for the fuse, and not for longer than it may
                state = p.strings.each[s].state
                assert state in (7, 8), ("closed with a fault", s, p.trips())
                # of what it has seen: a current that just ended is still the last sample
                assert p.currents[s].ma or p.board.ma is None

    @invariant()
    def a_fault_never_clears_itself(self) -> None:
        if not hasattr(self, "p"):
            return
        f = self.p.faults
        now = {i for i in range(len(f.latched)) if f.latched[i]}
        assert self.latched <= now, "a latch went without a person"
        self.latched = now

    @invariant()
    def what_is_counted_is_there(self) -> None:
        if not hasattr(self, "p"):
            return
        f = self.p.faults
        assert f.trips == sum(1 for x in f.latched if x)
        assert bool(f.trips) == bool(f.first)

    def teardown(self) -> None:
        if not hasattr(self, "p"):
            return
        # each wait ends: nothing stays between open and closed
        self.p.board.ma = 0
        for _ in range(2500):
            if all(c.state in (OPEN, CLOSED) for c in self.p.strings.each):
                break
            self.one()
        else:
            raise AssertionError("a wait does not end")
        # from anywhere: a trip opens all, at most the fuse's time later
        self.p.faults.set(F.EMERGENCY_STOP, -1, 0)
        for _ in range(15):
            self.one()
        assert not any(self.p.board.coils)


class Parallel(Sequence):
    parallel = 3


TestOneString = Sequence.TestCase
TestOneString.settings = settings(max_examples=extent(150, 600), stateful_step_count=40)
TestThreeStrings = Parallel.TestCase
TestThreeStrings.settings = settings(max_examples=extent(100, 400), stateful_step_count=40)
