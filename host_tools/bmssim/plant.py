"""The high-voltage side of one string: contactors, precharge, DC link, load, supervisor.

Time is integer microseconds. SI units otherwise; currents + = charge of the cells. Between two
calls everything follows closed forms, piecewise from event to event.
"""

import math
from dataclasses import dataclass

CLOSE_US = 20_000
OPEN_US = 10_000
HEARTBEAT_US = 300_000
PRECHARGE_OHM = 100.0
LINK_FARAD = 0.0015
LINK_BLEED_OHM = 50_000.0
INRUSH_OHM = 0.05  # of cells, wires and capacitor, when a contactor closes onto a voltage
NAMES = ("minus", "precharge", "plus")


@dataclass
class Contactor:
    """One contactor or relay; the flags are faults to inject."""

    coil: bool = False
    closed: bool = False
    due_us: int | None = None  # when it arrives where its coil wants it
    stuck_open: bool = False
    welded: bool = False
    feedback_lost: bool = False
    feedback_stuck_closed: bool = False

    def drive(self, now_us: int, coil: bool) -> None:
        """The coil's current changes."""
        if coil == self.coil:
            return
        self.coil = coil
        self.due_us = now_us + (CLOSE_US if coil else OPEN_US)

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
        """What its auxiliary contact says."""
        if self.feedback_lost:
            return False
        return self.feedback_stuck_closed or self.conducts


class Plant:
    """Contactors minus, precharge, plus; a capacitor behind them; a load across it.

    link_v, current_a: now. history: (us, name, conducts). peak_inrush_a: the worst closing onto a
    voltage difference. supervisor_drops: times that a missing heartbeat took the coils' supply.
    """

    def __init__(self, heartbeat_timeout_us: int = HEARTBEAT_US) -> None:
        self.contactors = {name: Contactor() for name in NAMES}
        self.precharge_resistor_open = False
        self.link_short_ohm: float | None = None
        self.link_v = 0.0
        self.current_a = 0.0
        self.peak_inrush_a = 0.0
        self.history: list[tuple[int, str, bool]] = []
        self.supervisor_drops = 0
        self._timeout_us = heartbeat_timeout_us
        self._beat_us: int | None = None
        self._powered = False
        self._wanted = {name: False for name in NAMES}
        self._load_a = 0.0
        self._now_us = 0
        self._was = {name: False for name in NAMES}

    def heartbeat(self, now_us: int) -> None:
        """The firmware's heartbeat pin toggled: the coils may have current."""
        self._beat_us = now_us
        self._powered = True
        self._drive(now_us)

    def set_coils(self, now_us: int, minus: bool, precharge: bool, plus: bool) -> None:
        """The firmware's coil outputs."""
        self._wanted = {"minus": minus, "precharge": precharge, "plus": plus}
        self._drive(now_us)

    def _drive(self, now_us: int) -> None:
        for name, contactor in self.contactors.items():
            contactor.drive(now_us, self._wanted[name] and self._powered)

    def set_load(self, now_us: int, current_a: float) -> None:
        """Current that load and charger want; it flows only through closed contactors."""
        self._load_a = current_a
        if self.is_closed:
            self.current_a = current_a

    def aux(self, name: str) -> bool:
        """Auxiliary contact of a contactor."""
        return self.contactors[name].aux

    @property
    def is_closed(self) -> bool:
        """Minus and plus conduct."""
        return self.contactors["minus"].conducts and self.contactors["plus"].conducts

    def next_change_us(self) -> int | None:
        """When a contactor arrives or the supervisor drops, if nothing else happens before."""
        times = [c.due_us for c in self.contactors.values() if c.due_us is not None]
        if self._powered and self._beat_us is not None:
            times.append(self._beat_us + self._timeout_us)
        return min(times) if times else None

    def advance(self, now_us: int, pack_v: float) -> None:
        """Go on to `now_us` with cells of `pack_v` together."""
        while True:
            due = self.next_change_us()
            if due is None or due > now_us:
                break
            self._flow(max(due, self._now_us), pack_v)
            self._happen(due, pack_v)
        self._flow(now_us, pack_v)

    def _happen(self, now_us: int, pack_v: float) -> None:
        if (
            self._powered
            and self._beat_us is not None
            and now_us >= self._beat_us + self._timeout_us
        ):
            self._powered = False
            if any(self._wanted.values()):
                self.supervisor_drops += 1
            self._drive(now_us)
        was_closed = self.is_closed
        for contactor in self.contactors.values():
            contactor.arrive(now_us)
        if self.is_closed and not was_closed:
            self.peak_inrush_a = max(self.peak_inrush_a, abs(pack_v - self.link_v) / INRUSH_OHM)
        for name, contactor in self.contactors.items():
            if contactor.conducts != self._was[name]:
                self._was[name] = contactor.conducts
                self.history.append((now_us, name, contactor.conducts))

    def _flow(self, now_us: int, pack_v: float) -> None:
        """Closed form of the DC link from the last moment to `now_us`, nothing switching."""
        dt_s = (now_us - self._now_us) / 1e6
        self._now_us = now_us
        bleed_ohm = LINK_BLEED_OHM
        if self.link_short_ohm is not None:
            bleed_ohm = 1 / (1 / LINK_BLEED_OHM + 1 / self.link_short_ohm)
        if self.is_closed:
            self.link_v = pack_v
            self.current_a = self._load_a - (pack_v / bleed_ohm)
            return
        charging = (
            self.contactors["minus"].conducts
            and self.contactors["precharge"].conducts
            and not self.precharge_resistor_open
        )
        if charging:
            # resistor and bleeder are a divider: its voltage is the end, both in parallel the rate
            end_v = pack_v * bleed_ohm / (bleed_ohm + PRECHARGE_OHM)
            ohm = bleed_ohm * PRECHARGE_OHM / (bleed_ohm + PRECHARGE_OHM)
        else:
            end_v = 0.0
            ohm = bleed_ohm
        self.link_v = end_v + (self.link_v - end_v) * math.exp(-dt_s / (ohm * LINK_FARAD))
        self.current_a = -(pack_v - self.link_v) / PRECHARGE_OHM if charging else 0.0
