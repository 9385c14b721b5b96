"""The high-voltage side: parallel strings with their contactors, one DC link, load, supervisor.

Time is integer microseconds. SI units otherwise; currents + = charge of the cells. Between two
calls everything follows closed forms, piecewise from event to event. A string is a voltage source
(`emf_v`: its cells without current) behind a resistance; strings that are closed share the load
as Kirchhoff's laws say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

CLOSE_US = 20_000
OPEN_US = 10_000
HEARTBEAT_US = 300_000
PRECHARGE_OHM = 100.0
LINK_FARAD = 0.0015
LINK_DISCHARGE_OHM = 50_000.0
INRUSH_OHM = 0.05  # of cells, wires and capacitor, when a contactor closes onto a voltage
WIRE_OHM = 0.005  # busbars, fuse and contactors of a string
UNDER_LOAD_A = 1.0  # a contact that opens with more wears
NAMES = ("minus", "precharge", "plus")


@dataclass
class Contactor:
    """One contactor or relay; the flags are faults to inject.

    closings, openings, openings_under_load, worst_broken_a: its wear.
    """

    coil: bool = False
    closed: bool = False
    due_us: int | None = None  # when it arrives where its coil wants it
    stuck_open: bool = False
    welded: bool = False
    feedback_lost: bool = False
    feedback_stuck_closed: bool = False
    closings: int = 0
    openings: int = 0
    openings_under_load: int = 0
    worst_broken_a: float = 0.0

    def drive(self, now_us: int, coil: bool) -> None:
        """The coil's current changes."""
        if coil == self.coil:
            return
        self.coil = coil
        self.due_us = now_us + (CLOSE_US if coil else OPEN_US)

    def economise(self) -> None:
        """Its coil gets less than it needs to pull in: only a closed one stays closed."""
        if self.coil and not self.closed:
            self.due_us = None

    def arrive(self, now_us: int) -> None:
        """Move if its time has come."""
        if self.due_us is not None and now_us >= self.due_us:
            self.due_us = None
            self.closed = self.coil

    @property
    def conducts(self) -> bool:
        return (self.closed and not self.stuck_open) or self.welded

    @property
    def aux(self) -> bool:
        """What its auxiliary contact reports."""
        if self.feedback_lost:
            return False
        return self.feedback_stuck_closed or self.conducts


@dataclass
class String:
    """One string up to the DC link: contactors, precharge resistor, fuse.

    current_a: now. fuse_a: it melts when (I / fuse_a)^2 has lasted for fuse_s; None = no fuse.
    precharge_j: heat that its precharge resistor has taken.
    """

    contactors: dict[str, Contactor] = field(
        default_factory=lambda: {name: Contactor() for name in NAMES}
    )
    precharge_resistor_open: bool = False
    precharge_resistor_shorted: bool = False
    fuse_a: float | None = None
    fuse_s: float = 0.1
    fuse_blown: bool = False
    emf_v: float = 0.0
    ohm: float = WIRE_OHM
    current_a: float = 0.0
    precharge_j: float = 0.0
    melted_s: float = 0.0

    def __post_init__(self) -> None:
        self._minus, self._precharge, self._plus = (self.contactors[name] for name in NAMES)

    @property
    def is_closed(self) -> bool:
        """Minus and plus conduct, and the fuse is whole."""
        return self._minus.conducts and self._plus.conducts and not self.fuse_blown

    @property
    def is_precharging(self) -> bool:
        """Its resistor, and nothing better, joins it to the DC link."""
        return (
            self._minus.conducts
            and self._precharge.conducts
            and not self._plus.conducts
            and not self.precharge_resistor_open
            and not self.fuse_blown
        )

    @property
    def siemens(self) -> float:
        """Conductance between its cells and the DC link."""
        if not self._minus.conducts:
            return 0.0
        if self.is_closed:
            return 1 / self.ohm
        if not self.is_precharging:
            return 0.0
        return 1 / (self.ohm + (INRUSH_OHM if self.precharge_resistor_shorted else PRECHARGE_OHM))


class Plant:
    """`count` strings in parallel on a capacitor, with a load across it.

    link_v: now. link_short_ohm, link_source (V, ohm): across the link, None = none. history: (us,
    name, conducts, string). peak_inrush_a: the worst closing onto a voltage difference. joins: (us,
    string, difference in V) of strings that closed onto others. supervisor_drops: times that a
    missing heartbeat took the coils' supply; beat_us: the last one. breaking_a: a contact that
    opens with more welds; None = breaks any.
    """

    def __init__(self, count: int = 1, heartbeat_timeout_us: int = HEARTBEAT_US) -> None:
        self.strings = [String() for _ in range(count)]
        self._contactors = [c for s in self.strings for c in s.contactors.values()]
        self.link_short_ohm: float | None = None
        self.link_source: tuple[float, float] | None = None
        self.breaking_a: float | None = None
        self.link_v = 0.0
        self.peak_inrush_a = 0.0
        self.joins: list[tuple[int, int, float]] = []
        self.history: list[tuple[int, str, bool, int]] = []
        self.supervisor_drops = 0
        self._timeout_us = heartbeat_timeout_us
        self.beat_us: int | None = None
        self._powered = False
        self._wanted = 0
        self._held = 0
        self._load_a = 0.0
        self._now_us = 0
        self._was = [{name: False for name in NAMES} for _ in self.strings]

    # --- what the firmware and its user do ---

    def heartbeat(self, now_us: int) -> None:
        """The firmware's heartbeat pin toggled: the coils may have current."""
        self.beat_us = now_us
        self._powered = True
        self._drive(now_us)

    def set_coils(self, now_us: int, coils: int, economised: int = 0) -> None:
        """The firmware's coil outputs, bit 3 * string + (0 minus, 1 precharge, 2 plus)."""
        self._wanted = coils
        self._held = economised
        self._drive(now_us)

    def _drive(self, now_us: int) -> None:
        for i, contactor in enumerate(self._contactors):
            contactor.drive(now_us, self._powered and bool(self._wanted >> i & 1))
            if self._held >> i & 1:
                contactor.economise()

    def set_load(self, now_us: int, current_a: float) -> None:
        """Current that load and charger want; it flows only through closed contactors."""
        self._load_a = current_a
        if self.is_closed:
            self._share()

    def set_cells(self, emf_v: Sequence[float], ohm: Sequence[float]) -> None:
        """Voltage without current and resistance of each string's cells."""
        for string, volt, ohms in zip(self.strings, emf_v, ohm, strict=True):
            string.emf_v = volt
            string.ohm = ohms + WIRE_OHM

    # --- what can be seen ---

    @property
    def contactors(self) -> dict[str, Contactor]:
        """Contactors of the first string."""
        return self.strings[0].contactors

    @property
    def current_a(self) -> float:
        """Current of all strings together."""
        return sum(s.current_a for s in self.strings)

    @property
    def is_closed(self) -> bool:
        """At least one string is on the DC link."""
        for string in self.strings:  # noqa: SIM110  a generator takes twice as long
            if string.is_closed:
                return True
        return False

    def aux(self, name: str, string: int = 0) -> bool:
        """Auxiliary contact of a contactor."""
        return self.strings[string].contactors[name].aux

    def feedback(self) -> int:
        """All auxiliary contacts, bits as the coils'."""
        bits = 0
        for i, contactor in enumerate(self._contactors):
            if contactor.aux:
                bits |= 1 << i
        return bits

    def terminal_v(self, string: int) -> float:
        """Voltage of a string before its contactors."""
        s = self.strings[string]
        return s.emf_v + s.current_a * (s.ohm - WIRE_OHM)

    def next_change_us(self) -> int | None:
        """When a contactor arrives, a fuse melts or the supervisor drops, if nothing else does."""
        times = [c.due_us for c in self._contactors if c.due_us is not None]
        if self._powered and self.beat_us is not None:
            times.append(self.beat_us + self._timeout_us)
        for s in self.strings:
            if s.fuse_a is not None and (t := self._melts_us(s)) is not None:
                times.append(t)
        return min(times) if times else None

    # --- time ---

    def advance(self, now_us: int) -> None:
        """Go on to `now_us`."""
        while True:
            due = self.next_change_us()
            if due is None or due > now_us:
                break
            self._flow(max(due, self._now_us))
            self._happen(max(due, self._now_us))
        self._flow(now_us)

    def _melts_us(self, string: String) -> int | None:
        if string.fuse_a is None or string.fuse_blown or abs(string.current_a) <= string.fuse_a:
            return None
        rate = (string.current_a / string.fuse_a) ** 2
        return self._now_us + max(math.ceil((string.fuse_s - string.melted_s) / rate * 1e6), 1)

    def _happen(self, now_us: int) -> None:
        if self._powered and self.beat_us is not None and now_us >= self.beat_us + self._timeout_us:
            self._powered = False
            if self._wanted:
                self.supervisor_drops += 1
            self._drive(now_us)
        for string in self.strings:
            if string.melted_s >= string.fuse_s and not string.fuse_blown:
                string.fuse_blown = True
                string.current_a = 0.0
        for n, string in enumerate(self.strings):
            was_closed = string.is_closed
            onto_others = any(s.is_closed for s in self.strings if s is not string)
            for contactor in string.contactors.values():
                self._move(contactor, string, now_us)
            if string.is_closed and not was_closed:
                difference = string.emf_v - self.link_v
                self.peak_inrush_a = max(self.peak_inrush_a, abs(difference) / INRUSH_OHM)
                if onto_others:
                    self.joins.append((now_us, n, difference))
            for name, contactor in string.contactors.items():
                if contactor.conducts != self._was[n][name]:
                    self._was[n][name] = contactor.conducts
                    self.history.append((now_us, name, contactor.conducts, n))
        self._share()

    def _move(self, contactor: Contactor, string: String, now_us: int) -> None:
        did = contactor.conducts
        contactor.arrive(now_us)
        if contactor.conducts == did:
            return
        if contactor.conducts:
            contactor.closings += 1
            return
        contactor.openings += 1
        broken_a = abs(string.current_a)
        contactor.worst_broken_a = max(contactor.worst_broken_a, broken_a)
        if broken_a > UNDER_LOAD_A:
            contactor.openings_under_load += 1
        if self.breaking_a is not None and broken_a > self.breaking_a:
            contactor.welded = True  # the arc doesn't go out
        else:
            string.current_a = 0.0  # the first contact that opens breaks it

    def _flow(self, now_us: int) -> None:
        """Closed form of the DC link from the last moment to `now_us`, nothing switching."""
        dt_s = (now_us - self._now_us) / 1e6
        self._now_us = now_us
        for s in self.strings:
            if s.fuse_a is not None and abs(s.current_a) > s.fuse_a:
                s.melted_s += (s.current_a / s.fuse_a) ** 2 * dt_s
            elif s.melted_s and not s.fuse_blown:
                s.melted_s = 0.0
            if s.is_precharging:
                s.precharge_j += s.current_a * s.current_a * PRECHARGE_OHM * dt_s
        closed = self.is_closed
        each = [s.siemens for s in self.strings]
        if not closed:
            siemens = self._balance_siemens() + sum(each)
            # resistors and bleeder are a divider: its voltage is the end, all in parallel the rate
            end_v = (self._source_a() + self._driven(each)) / siemens
            self.link_v = end_v + (self.link_v - end_v) * math.exp(-dt_s * siemens / LINK_FARAD)
        self._share_by(closed, each)

    def _driven(self, siemens: list[float]) -> float:
        return sum([s.emf_v * g for s, g in zip(self.strings, siemens, strict=True)])

    def _balance_siemens(self) -> float:
        short = 0.0 if self.link_short_ohm is None else 1 / self.link_short_ohm
        source = 0.0 if self.link_source is None else 1 / self.link_source[1]
        return 1 / LINK_DISCHARGE_OHM + short + source

    def _source_a(self) -> float:
        return 0.0 if self.link_source is None else self.link_source[0] / self.link_source[1]

    def _share(self) -> None:
        """Currents of the strings now; while one is closed, they set the voltage of the link."""
        self._share_by(self.is_closed, [s.siemens for s in self.strings])

    def _share_by(self, closed: bool, siemens: list[float]) -> None:
        if closed:
            all_siemens = self._balance_siemens() + sum(siemens)
            driven_a = self._load_a + self._source_a() + self._driven(siemens)
            self.link_v = driven_a / all_siemens
        for s, g in zip(self.strings, siemens, strict=True):
            s.current_a = (self.link_v - s.emf_v) * g if g else 0.0
