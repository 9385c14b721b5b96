"""Contactors of one string: the sequences of closing and opening; every wait has a limit.

The only writer of coil outputs. `trip` may be called from anywhere, at any moment; it opens before
it returns, except above the breaking current of the contacts: then it waits for the fuse, at most
`fuse_wait` of the pack file. Feedback and faults are evaluated in every state. Nothing allocates.
"""

from array import array

from micropython import const

from bms import ticks
from bms.contactors.feedback import MINUS, PLUS, PRECHARGE, Feedback
from bms.contactors.precharge import PROVEN, UNKNOWN, Precharge
from bms.pack import FRESH
from bms.protection import fault_ids as faults

(
    OPEN,
    PRECHARGE_REST,  # between two tries
    CLOSING_MINUS,
    PRECHARGING,
    CLOSING_PLUS,
    CLOSED,
    OPEN_REQUESTED,  # still closed: waits for a low current
    FUSE_WAIT,  # still closed: tripped above the breaking current, waits for the fuse
    OPENING,  # one main contactor is off, the other follows after opening_gap
) = range(9)
# their names, each with a space behind it
STATES = (
    b"open precharge_rest closing_minus precharge closing_plus closed open_requested fuse_wait"
    b" opening "
)
_FULL = const(1000)  # permille of a coil's voltage

# reasons of a refusal; numbers are written into them, so that nothing allocates
_NO_ANSWER = bytearray(b"slave 00 has not answered as the pack file says")
_NO_CELL = bytearray(b"slave 00: cell 00 has no fresh reading")
_NO_TEMP = bytearray(b"slave 00: temperature 00 has no fresh reading")
_SLAVE_AT, _CELL_AT, _TEMP_AT = 6, 15, 22  # of the numbers


def _put(text, at, number):
    """Write a number of 1..99 into a text, with two digits."""
    text[at] = 48 + number // 10
    text[at + 1] = 48 + number % 10
    return text


class Sequence:
    """state: one of STATES; since boot: closings, loaded_openings (under load); changes: of state.

    string: its index; locked: reason (bytes) why nothing closes for now, None = there is none.
    """

    def __init__(self, config, hal, faults_, pack, current, clock):
        self._hal = hal
        self._faults = faults_
        self._pack = pack
        self._current = current
        self._clock = clock
        self.string = current.string
        self._first = 3 * self.string  # number of its minus contactor
        self._coils = bytearray(3)  # 1 = on
        self._full = bytearray(3)  # 1 = the coil has its full voltage, not yet the holding voltage
        self._on_at = array("i", [0] * 3)
        self._feedback = Feedback(config, hal, faults_, self._coils, self.string)
        self._precharge = Precharge(config, pack, current, clock.now)
        self._has_link = bool(config.link_sensor)
        self._current_age = config.current_age_ms
        self._settle = config.contactor_settle_ms
        self._rest = config.precharge_rest_ms
        self._reclose = config.reclose_ms
        self._open_ma = config.open_current_ma
        self._open_wait = config.open_wait_ms
        self._breaking_ma = config.breaking_current_ma
        self._fuse_wait = config.fuse_wait_ms
        self._gap = config.opening_gap_ms
        self._hold = config.coil_hold_pm
        self._pull_in = config.coil_pull_in_ms
        self._idle_ma = config.current_idle_ma
        self.state = OPEN
        self._since = 0  # tick of the last change of state
        self._opened = False  # it has been closed: `reclose` counts from _opened_at
        self._opened_at = 0
        self.locked = None
        self.closings = self.loaded_openings = 0
        self.changes = 0
        self._all_off()

    def energised(self):
        """True while any coil is on: current may flow."""
        return bool(self._pack.energised[self.string])

    def closing(self):
        """True from the first coil to the last, and during PRECHARGE_REST."""
        return OPEN < self.state < CLOSED

    def closed(self):
        """True where the string is connected."""
        return self.state == CLOSED or self.state == OPEN_REQUESTED

    def holds_link(self):
        """True where the string may be on the link: by its coils, its contacts, or a weld."""
        faults_ = self._faults
        return (
            self._pack.energised[self.string]
            or self._feedback.closed_without_coil()
            or faults_.is_latched(faults.CONTACTOR_WELDED, self.string)
            or faults_.is_latched(faults.LINK_RISE, self.string)
        )

    def string_mv(self):
        """Sum of the string's cells; UNKNOWN where a cell has no fresh reading."""
        cell = self._pack.string_cell[self.string]
        return cell.total if cell.complete else UNKNOWN

    def set_others(self, mv, joins):
        """See `Precharge`."""
        self._precharge.set_others(mv, joins)

    def seen_closed(self):
        """Number of the first contactor whose feedback reports closed, -1 = none."""
        return self._feedback.first_closed()

    def ignore_feedback(self):
        """Ignore feedback that shows a weld (command `clear welded`); True where there was one."""
        return self._feedback.ignore_welded()

    # --- opening ---

    def trip(self):
        """Open now; above the breaking current only after `fuse_wait`, or once it is lower."""
        if self.state == FUSE_WAIT or self.state == OPENING:
            return
        if self._breaking_ma and self._unbreakable():
            self._enter(FUSE_WAIT, self._clock.now)
            return
        if not self._gap:
            self._hal.coil(self._first + PLUS, 0)  # at once; `_open_now` does the rest
        self._open_now(self._clock.now)

    def cut(self):
        """The board has switched all coils off by itself: change the state to match."""
        if self._coils[PLUS]:
            self._count_load()
        self._all_off()
        if self.state != OPEN:
            self._enter(OPEN, self._clock.now)

    def open(self, now):
        """Open on command: once the current is low, or after `open_wait`."""
        if self.state == CLOSED and self.magnitude() > self._open_ma:
            self._enter(OPEN_REQUESTED, now)
        elif self.state != OPEN_REQUESTED:
            self.trip()

    def _unbreakable(self):
        """True where plus is on and carries more than the contacts can break."""
        return self._coils[PLUS] and self.magnitude() > self._breaking_ma

    def magnitude(self):
        """Size of the current in mA; 0 where it isn't known: opening must not wait then."""
        current = self._current
        if not current.installed or current.age(self._clock.now) > self._current_age:
            return 0
        return current.ma if current.ma >= 0 else -current.ma

    def _count_load(self):
        """Count an opening of plus under load."""
        if self.magnitude() > self._idle_ma:
            self.loaded_openings += 1

    def _open_now(self, now):
        """Switch both main contactors off; the direction of the current decides which one first."""
        on = self._coils[PLUS]
        if self._gap and on and self._coils[MINUS]:
            # polarised contactors: each breaks its forward current best
            self._set(MINUS if self._current.ma > 0 else PLUS, 0)
            self._set(PRECHARGE, 0)
            self._enter(OPENING, now)
        else:
            self._all_off()
            if self.state != OPEN:
                self._enter(OPEN, now)
        if on:
            self._count_load()

    # --- closing ---

    def refusal(self, now):
        """Why the contactors may not close now, as bytes; None where they may."""
        pack = self._pack
        s = self.string
        if self.locked:
            return self.locked
        if self._faults.blocking(s):
            return b"a fault is latched: see faults, then clear"
        for i in range(pack.slave_from[s], pack.slave_from[s + 1]):
            if not pack.known[i]:
                return _put(_NO_ANSWER, _SLAVE_AT, i + 1)
        if not pack.string_cell[s].complete:
            return self._missing(_NO_CELL, _CELL_AT, pack.cell_flags, pack.first_cell)
        if not pack.string_temp[s].complete:
            return self._missing(_NO_TEMP, _TEMP_AT, pack.temp_flags, pack.first_temp)
        if self._has_link and pack.link_mv is None:
            return b"the link voltage is not measured"
        if self._feedback.unreadable():
            return b"the contactor feedback is not wired"
        if self._current.installed and self._current.age(now) > self._current_age:
            return b"the current is not measured"
        if self.state != OPEN:
            return b"already closed or closing"
        if self._feedback.closed_without_coil():
            return b"the feedback of a contactor says closed"
        if self._opened and ticks.diff(now, self._opened_at) < self._reclose:
            return b"opened a moment ago: wait"
        if self._precharge.hot():
            return b"the precharge resistor is hot: wait"
        return None

    def _missing(self, text, at, flags, first):
        """Name the first reading of the string that is not fresh; first: of each slave."""
        pack = self._pack
        i = pack.slave_from[self.string]
        last = pack.slave_from[self.string + 1] - 1
        k = first[i]
        while k < len(flags) - 1 and flags[k] & FRESH:
            k += 1
        while i < last and first[i + 1] <= k:
            i += 1
        _put(text, _SLAVE_AT, i + 1)
        return _put(text, at, k - first[i] + 1)

    def close(self, now):
        """Begin to close; None, or the reason of the refusal as bytes. See `set_others`."""
        why = self.refusal(now)
        if why is None:
            self._precharge.begin()
            self._close_minus(now)
        return why

    def _close_minus(self, now):
        self._precharge.before_minus()
        self._enter(CLOSING_MINUS, now)
        self._set(MINUS, 1)

    # --- each tick ---

    def step(self, now):
        """Continue the sequence; feedback and faults are evaluated first, in every state."""
        self._feedback.step(now, self._pack.energised[self.string])
        self._precharge.step(now, self._coils[PRECHARGE])
        state = self.state
        if state == OPEN:
            if self._opened and ticks.diff(now, self._opened_at) >= self._reclose:
                self._opened = False
            return
        if self._faults.blocking(self.string) and state < FUSE_WAIT:
            self.trip()
            return
        waited = ticks.diff(now, self._since)
        if state < CLOSED:
            if self._step_closing(state, waited, now):
                return
        elif state > CLOSED:
            self._step_opening(state, waited, now)
        if self._hold < _FULL:
            self._reduce_coils(now)

    def _step_closing(self, state, waited, now):
        """One state of the closing sequence; True where a weld has ended it."""
        if state == CLOSING_MINUS:
            if waited >= self._settle and self._feedback.proven_closed(MINUS):
                if self._welded():
                    return True
                self._enter(PRECHARGING, now)
                self._set(PRECHARGE, 1)
        elif state == PRECHARGING:
            result = self._precharge.evaluate(waited)
            if result > PROVEN:
                self._precharge_failed(result, now)
            elif result == PROVEN and self._feedback.proven_closed(MINUS):
                self._enter(CLOSING_PLUS, now)
                self._set(PLUS, 1)
        elif state == CLOSING_PLUS:
            # a contact that stays open ends the wait as `contactor_feedback`
            if waited >= self._settle and self._feedback.proven_closed(PLUS):
                self._set(PRECHARGE, 0)
                self._enter(CLOSED, now)
                self.closings += 1
        elif state == PRECHARGE_REST and waited >= self._rest and not self._precharge.hot():
            self._close_minus(now)
        return False

    def _step_opening(self, state, waited, now):
        """One state of opening: waits for a lower current, or for the second contactor."""
        if state == OPEN_REQUESTED:
            if self.magnitude() <= self._open_ma or waited >= self._open_wait:
                self.trip()
        elif state == FUSE_WAIT:
            if self.magnitude() <= self._breaking_ma or waited >= self._fuse_wait:
                self._open_now(now)
        elif state == OPENING and waited >= self._gap:
            self._all_off()
            self._enter(OPEN, now)

    def _welded(self):
        """Trip where the link voltage rose with minus alone; True where it did."""
        rise = self._precharge.link_rise_mv()
        if rise:
            self._latch(faults.LINK_RISE, rise)
        return bool(rise)

    def _precharge_failed(self, fault, now):
        self._all_off()
        if self._precharge.fail(fault):
            self._enter(PRECHARGE_REST, now)
        else:
            self._latch(fault, self._precharge.value)

    def _latch(self, fault, value):
        """Trip by a fault that is active for a moment only; it stays latched until acknowledged."""
        self._faults.set(fault, self.string, value)
        self._faults.clear(fault, self.string)

    def _enter(self, state, now):
        if state == OPEN:
            self._opened = True
            self._opened_at = now
        self.state = state
        self._since = now
        self.changes += 1

    # --- coils ---

    def _set(self, which, on):
        self._hal.coil(self._first + which, _FULL if on else 0)
        self._full[which] = on
        coils = self._coils
        if coils[which] != on:
            coils[which] = on
            self._on_at[which] = self._clock.now
            self._feedback.coil_changed(which)
            self._pack.energised[self.string] = coils[MINUS] | coils[PRECHARGE] | coils[PLUS]

    def _reduce_coils(self, now):
        """Switch coils that have pulled in to their holding voltage."""
        for i in range(3):
            if self._full[i] and ticks.diff(now, self._on_at[i]) >= self._pull_in:
                self._full[i] = 0
                self._hal.coil(self._first + i, self._hold)

    def _all_off(self):
        # the coil that carries the load first
        self._set(PLUS, 0)
        self._set(PRECHARGE, 0)
        self._set(MINUS, 0)
