"""The contactors of one string: closing with precharge, opening, feedback, every wait bounded.

The only writer of coil outputs. `trip` may be called from anywhere, at any moment; it opens before
it returns, except above the contacts' breaking current: there it waits for the fuse, not longer
than the pack file says. Feedback and faults are judged in every state. Nothing here allocates.
"""

from array import array

from micropython import const

from bms import faults, ticks

MINUS, PRECHARGE, PLUS = range(3)
NAMES = (b"minus", b"precharge", b"plus")

OPEN, REST, CLOSING_MINUS, PRECHARGING, CLOSING_PLUS, CLOSED, EASING, FUSE, PARTING = range(9)
STATES = (
    b"open",
    b"rest",
    b"closing_minus",
    b"precharge",
    b"closing_plus",
    b"closed",
    b"easing",
    b"fuse",
    b"parting",
)
_FULL = const(1000)
_ROSE_PM = const(200)  # of the string's voltage: so much the link must not rise with minus alone


# the number of a slave is written into them: nothing allocates when `close` is refused
_SILENT = bytearray(b"slave 0 has not answered as the pack file says")
_SILENT_2 = bytearray(b"slave 00 has not answered as the pack file says")


def _not_answered(slave):
    """The refusal that names a slave, 1..99."""
    text = _SILENT
    if slave > 9:
        text = _SILENT_2
        text[7] = 48 + slave % 10
        slave //= 10
    text[6] = 48 + slave
    return text


class Contactors:
    """state: one of STATES; closings, worn: openings under load, since boot; changes: of state.

    link_mv: last link voltage, None = not measured; string: its index; ignored: bits of contacts
    whose feedback a person has called wrong.
    """

    def __init__(self, config, hal, faults_, pack, current, clock, string):
        self._hal = hal
        self._faults = faults_
        self._pack = pack
        self._current = current
        self._current_age = config.current_age_ms
        self._clock = clock
        self.string = string
        self._first = 3 * string  # number of its minus contactor
        self._settle = config.contactor_settle_ms
        self.has_feedback = bool(config.contactor_feedback)
        self._feedback_delay = config.feedback_delay_ms
        self._min_ms = config.precharge_min_ms
        self._max_ms = config.precharge_max_ms
        self._ratio = config.precharge_ratio_pm
        self._tries = config.precharge_tries
        self._rest = config.precharge_rest_ms
        self._ohm = config.precharge_resistor_ohm
        self._energy_mj = config.precharge_energy_j * 1000
        self._cool_ms = config.precharge_cool_ms
        self._has_link = bool(config.link_sensor)
        self._reclose = config.reclose_ms
        self._join_mv = config.join_voltage_mv
        self._open_ma = config.open_current_ma
        self._open_wait = config.open_wait_ms
        self._breaking_ma = config.breaking_current_ma
        self._fuse_wait = config.fuse_wait_ms
        self._gap = config.opening_gap_ms
        self._hold = config.hold_pm
        self._pull_in = config.pull_in_ms
        self._idle_ma = config.current_idle_ma
        self._coil = bytearray(3)
        self._full = bytearray(3)  # the coil has its full voltage, not yet that to hold it
        self._on_at = array("i", [0] * 3)
        self._differs = bytearray(3)
        self._differs_at = array("i", [0] * 3)
        self.ignored = 0
        self._since = 0
        self._tried = 0
        self._joins = False  # others carry the link already
        self._others_mv = 0  # their voltage
        self._link_before = 0
        self._opened = False  # it was closed before, so `reclose` counts from _opened_at
        self._opened_at = 0
        self.heat_mj = 0  # in the precharge resistor
        self._heat_at = clock.now
        self.state = OPEN
        self.link_mv = None
        self.locked = False  # the program is about to end: nothing closes any more
        self.closings = self.worn = 0
        self.changes = 0
        self._all_off()

    def energised(self):
        """True while any coil is on: current may flow."""
        return bool(self._coil[MINUS] or self._coil[PRECHARGE] or self._coil[PLUS])

    def closing(self):
        """True from the first coil on to the last, and while the resistor rests between tries."""
        return OPEN < self.state < CLOSED

    def closed(self):
        """True where the string is connected."""
        return self.state == CLOSED or self.state == EASING

    def string_mv(self):
        """Sum of the string's cells."""
        return self._pack.string_cell[self.string].total

    # --- opening ---

    def trip(self):
        """Open now; above the breaking current once the fuse has had its time."""
        if self.state == FUSE:
            return
        if self._breaking_ma and self._coil[PLUS] and self._magnitude() > self._breaking_ma:
            self._enter(FUSE, self._clock.now)
            return
        self._part(self._clock.now)

    def cut(self):
        """The board has switched all coils off by itself: follow."""
        if self._coil[PLUS]:
            self._wear()
        self._all_off()
        if self.state != OPEN:
            self._enter(OPEN, self._clock.now)

    def open(self, now):
        """Open on a person's word: once the current is low, or after `open_wait`."""
        if self.state == CLOSED and self._magnitude() > self._open_ma:
            self._enter(EASING, now)
        elif self.state != EASING and self.state != FUSE:
            self._part(now)

    def _magnitude(self):
        """Size of the current in mA; 0 where it isn't known: opening must not wait then."""
        current = self._current
        if not current.fitted or current.age(self._clock.now) > self._current_age:
            return 0
        return current.ma if current.ma >= 0 else -current.ma

    def _wear(self):
        """Count an opening of plus where it was under load."""
        if self._magnitude() > self._idle_ma:
            self.worn += 1

    def _part(self, now):
        """Both main contactors off, the one first that the current's direction asks for."""
        if self.state == PARTING:
            return
        on = self._coil[PLUS]
        if self._gap and on and self._coil[MINUS]:
            # polarised contactors: each breaks best what flows through it forward
            self._set(MINUS if self._current.ma > 0 else PLUS, 0)
            self._set(PRECHARGE, 0)
            self._enter(PARTING, now)
        else:
            self._all_off()
            if self.state != OPEN:
                self._enter(OPEN, now)
        if on:
            self._wear()

    def seen_closed(self):
        """The first contactor whose feedback says closed, -1 = none does."""
        if self.has_feedback:
            for i in range(3):
                if self._hal.feedback(self._first + i):
                    return self._first + i
        return -1

    # --- closing ---

    def refusal(self, now):
        """Why the contactors may not close now, as bytes; None where they may."""
        pack = self._pack
        s = self.string
        if self.locked:
            return b"the program is about to end"
        if self._faults.held(s):
            return b"a fault is latched: see faults, then clear"
        for i in range(pack.slave_from[s], pack.slave_from[s + 1]):
            if not pack.known[i]:
                return _not_answered(i + 1)
        if not pack.string_cell[s].complete:
            return b"not every cell has a fresh reading"
        if not pack.string_temp[s].complete:
            return b"not every temperature has a fresh reading"
        if self._has_link and self.link_mv is None:
            return b"the link voltage is not measured"
        if self.has_feedback and (
            self._hal.feedback(self._first + MINUS) is None
            or self._hal.feedback(self._first + PLUS) is None
        ):
            return b"the contactor feedback is not wired"
        if self._current.fitted and self._current.age(now) > self._current_age:
            return b"the current is not measured"
        if self.state != OPEN:
            return b"already closed or closing"
        if self._opened and ticks.diff(now, self._opened_at) < self._reclose:
            return b"opened a moment ago: wait"
        if self._ohm and self.heat_mj > self._energy_mj >> 1:
            return b"the precharge resistor is hot: wait"
        return None

    def close(self, now, others_mv):
        """Begin to close, as the first string or where `others_mv` >= 0 carry the link already.

        None, or the reason of the refusal as bytes.
        """
        why = self.refusal(now)
        if why is None:
            self._tried = 0
            self._joins = others_mv >= 0
            self._others_mv = others_mv
            self._minus_on(now)
        return why

    def _minus_on(self, now):
        self._link_before = self.link_mv or 0
        self._enter(CLOSING_MINUS, now)
        self._set(MINUS, 1)

    def step(self, now):
        """Go on with the sequence; feedback and faults are judged first, in every state."""
        self._supervise(now)
        self._cool(now)
        state = self.state
        if state == OPEN:
            if self._opened and ticks.diff(now, self._opened_at) >= self._reclose:
                self._opened = False
            return
        if self._faults.held(self.string) and state < FUSE:
            self.trip()
            return
        waited = ticks.diff(now, self._since)
        if state == CLOSING_MINUS:
            if waited >= self._settle and self._proven(MINUS):
                if self._rose():
                    return
                self._enter(PRECHARGING, now)
                self._set(PRECHARGE, 1)
        elif state == PRECHARGING:
            if waited >= self._min_ms and self._proven(MINUS) and self._precharged(waited):
                self._enter(CLOSING_PLUS, now)
                self._set(PLUS, 1)
            elif waited >= self._max_ms or (self._ohm and self.heat_mj >= self._energy_mj):
                self._precharge_failed(now)
        elif state == CLOSING_PLUS:
            if waited >= self._settle:
                self._set(PRECHARGE, 0)
                self._enter(CLOSED, now)
                self.closings += 1
        elif state == REST:
            if waited >= self._rest:
                self._minus_on(now)
        elif state == EASING:
            if self._magnitude() <= self._open_ma or waited >= self._open_wait:
                self._part(now)
        elif state == FUSE:
            if self._magnitude() <= self._breaking_ma or waited >= self._fuse_wait:
                self._part(now)
        elif state == PARTING and waited >= self._gap:
            self._all_off()
            self._enter(OPEN, now)
        self._economise(now)

    def _proven(self, which):
        """Its feedback says closed, or there is none to ask; `_supervise` bounds the wait."""
        if not self.has_feedback or self.ignored >> which & 1:
            return True
        return self._hal.feedback(self._first + which) == 1

    def _rose(self):
        """Weld check: with minus alone the link stays where it was; True where it rose."""
        if not self._has_link or self._joins or self.link_mv is None:
            return False
        by = self.link_mv - self._link_before
        if by <= self.string_mv() // _FULL * _ROSE_PM:
            return False
        self._faults.raised(faults.LINK_ROSE, self.string, by)
        self._faults.gone(faults.LINK_ROSE, self.string)  # latched: it stays until acknowledged
        return True

    def _precharged(self, waited):
        cell = self._pack.string_cell[self.string]
        if not self._has_link and not self._joins:
            return waited >= self._max_ms  # proven by time: the whole of it
        link = self.link_mv if self._has_link else self._others_mv
        if link is None or not cell.complete:
            return False
        mv = cell.total
        if self._joins:
            return -self._join_mv <= mv - link <= self._join_mv
        # split, so that the product stays below 2**30 for any pack
        return link >= mv // 1000 * self._ratio + mv % 1000 * self._ratio // 1000

    def _precharge_failed(self, now):
        self._all_off()
        self._tried += 1
        if self._tried >= self._tries:
            link = self.link_mv
            self._faults.raised(faults.PRECHARGE_FAILED, self.string, -1 if link is None else link)
            # latched: it stays until acknowledged
            self._faults.gone(faults.PRECHARGE_FAILED, self.string)
        else:
            self._enter(REST, now)

    def _cool(self, now):
        """Heat of the precharge resistor: voltage squared over ohm while it carries, else less."""
        if not self._ohm:
            return
        ms = ticks.diff(now, self._heat_at)
        self._heat_at = now
        if ms > 1000:
            ms = 1000
        heat = self.heat_mj
        if self._coil[PRECHARGE] and self.link_mv is not None:
            volts = (self.string_mv() - self.link_mv) // 1000
            # W = V2 / ohm; mJ = W * ms; 1000 V and 1 s stay below 2**30
            heat += volts * volts * ms // self._ohm
        elif heat:
            heat -= self._energy_mj // (self._cool_ms // ms) if 0 < ms <= self._cool_ms else 0
        limit = 2 * self._energy_mj
        self.heat_mj = 0 if heat < 0 else heat if heat < limit else limit

    # --- feedback ---

    def _supervise(self, now):
        if not self.has_feedback:
            return
        lost = welded = -1
        for i in range(3):
            if self.ignored >> i & 1:
                continue
            closed = self._hal.feedback(self._first + i)
            if closed is None or closed == self._coil[i]:
                self._differs[i] = 0
                continue
            if not self._differs[i]:
                self._differs[i] = 1
                self._differs_at[i] = now
            elif ticks.diff(now, self._differs_at[i]) >= self._feedback_delay:
                if self._coil[i]:
                    lost = i
                else:
                    welded = i
        f = self._faults
        first = self._first
        if lost >= 0:
            f.raised(faults.CONTACTOR_FEEDBACK, first + lost, self._feedback_delay)
        elif not self.energised():
            # seen only while a coil is on; a new try shows whether it is mended
            f.gone(faults.CONTACTOR_FEEDBACK, first)
        if welded >= 0:
            f.raised(faults.CONTACTOR_WELDED, first + welded, self._feedback_delay)
        elif not self._differs[MINUS] and not self._differs[PRECHARGE] and not self._differs[PLUS]:
            f.gone(faults.CONTACTOR_WELDED, first)

    def ignore_feedback(self):
        """A person says that what looks welded is open: its feedback counts no more until reset.

        True where a feedback says closed that ought to be open.
        """
        found = False
        for i in range(3):
            if not self._coil[i] and self._differs[i]:
                self.ignored |= 1 << i
                self._differs[i] = 0
                self._faults.raised(faults.FEEDBACK_IGNORED, self._first + i, 0)
                found = True
        if found:
            self._faults.gone(faults.CONTACTOR_WELDED, self._first)
        return found

    # --- coils ---

    def _enter(self, state, now):
        if state == OPEN:
            self._opened = True
            self._opened_at = now
        self.state = state
        self._since = now
        self.changes += 1

    def _set(self, which, on):
        if self._coil[which] != on:
            self._coil[which] = on
            self._differs[which] = 0  # the contact has its full time for each change
            self._on_at[which] = self._clock.now
        self._full[which] = on
        self._hal.coil(self._first + which, _FULL if on else 0)

    def _economise(self, now):
        """Less voltage for coils that have pulled in."""
        if self._hold >= _FULL:
            return
        for i in range(3):
            if self._full[i] and ticks.diff(now, self._on_at[i]) >= self._pull_in:
                self._full[i] = 0
                self._hal.coil(self._first + i, self._hold)

    def _all_off(self):
        # the coil that carries the load first
        self._set(PLUS, 0)
        self._set(PRECHARGE, 0)
        self._set(MINUS, 0)
