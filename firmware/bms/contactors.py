"""The contactors of one string: closing with precharge, opening, feedback, every wait bounded.

The only writer of coil outputs. `trip` may be called from anywhere, at any moment, and opens all
coils before it returns. Feedback is supervised in every state. Nothing here allocates.
"""

from bms import faults, ticks

MINUS, PRECHARGE, PLUS = range(3)
NAMES = (b"minus", b"precharge", b"plus")

OPEN, REST, CLOSING_MINUS, PRECHARGING, CLOSING_PLUS, CLOSED = range(6)
STATES = (b"open", b"rest", b"closing_minus", b"precharge", b"closing_plus", b"closed")


class Contactors:
    """state: one of STATES; link_mv: last link voltage, None = not measured; closings, trips.

    has_feedback: auxiliary contacts are asked.
    """

    def __init__(self, config, hal, faults_, pack, current, clock):
        self._hal = hal
        self._faults = faults_
        self._pack = pack
        self._current = current
        self._current_age = config.current_age_ms
        self._clock = clock
        self._settle = config.contactor_settle_ms
        self.has_feedback = bool(config.contactor_feedback)
        self._feedback_delay = config.feedback_delay_ms
        self._min_ms = config.precharge_min_ms
        self._max_ms = config.precharge_max_ms
        self._ratio = config.precharge_ratio_pm
        self._tries = config.precharge_tries
        self._rest = config.precharge_rest_ms
        self._has_link = bool(config.link_sensor)
        self._reclose = config.reclose_ms
        self._coil = bytearray(3)
        self._differs = bytearray(3)
        self._differs_at = [0, 0, 0]
        self._since = 0
        self._tried = 0
        self._opened = False  # it was closed before, so `reclose` counts from _opened_at
        self._opened_at = 0
        self.state = OPEN
        self.link_mv = None
        self.locked = False  # the program is about to end: nothing closes any more
        self.closings = 0
        self.changes = 0  # of state, for telemetry
        self._all_off()

    def energised(self):
        """True while any coil is on: current may flow."""
        return bool(self._coil[MINUS] or self._coil[PRECHARGE] or self._coil[PLUS])

    def trip(self):
        """All coils off, now."""
        self._all_off()
        if self.state != OPEN:
            self._enter(OPEN, self._clock.now)

    def open(self):
        """Open on a person's word; the same as a trip in this version, but without a fault."""
        self.trip()

    def seen_closed(self):
        """The first contactor whose feedback says closed, -1 = none does."""
        if self.has_feedback:
            for i in range(3):
                if self._hal.feedback(i):
                    return i
        return -1

    def refusal(self, now):
        """Why the contactors may not close now, as bytes; None where they may."""
        pack = self._pack
        if self.locked:
            return b"the program is about to end"
        if self._faults.trips:
            return b"a fault is latched: see faults, then clear"
        if not pack.all_known():
            return b"not every slave has answered as the pack file says"
        if not pack.cell.complete:
            return b"not every cell has a fresh reading"
        if not pack.temp.complete:
            return b"not every temperature has a fresh reading"
        if self._has_link and self.link_mv is None:
            return b"the link voltage is not measured"
        if self.has_feedback and (
            self._hal.feedback(MINUS) is None or self._hal.feedback(PLUS) is None
        ):
            return b"the contactor feedback is not wired"
        if self._current.fitted and self._current.age(now) > self._current_age:
            return b"the current is not measured"
        if self.state != OPEN:
            return b"already closed or closing"
        if self._opened and ticks.diff(now, self._opened_at) < self._reclose:
            return b"opened a moment ago: wait"
        return None

    def close(self, now):
        """Begin to close; None, or the reason of the refusal as bytes."""
        why = self.refusal(now)
        if why is None:
            self._tried = 0
            self._enter(CLOSING_MINUS, now)
            self._set(MINUS, 1)
        return why

    def step(self, now):
        """Go on with the sequence; feedback is judged first, in every state."""
        self._supervise(now)
        if self._faults.trips and self.state != OPEN:
            self.trip()
        if self._opened and ticks.diff(now, self._opened_at) >= self._reclose:
            self._opened = False
        waited = ticks.diff(now, self._since)
        if self.state == CLOSING_MINUS:
            if waited >= self._settle and self._proven(MINUS):
                self._enter(PRECHARGING, now)
                self._set(PRECHARGE, 1)
        elif self.state == PRECHARGING:
            if waited >= self._min_ms and self._proven(MINUS) and self._precharged(waited):
                self._enter(CLOSING_PLUS, now)
                self._set(PLUS, 1)
            elif waited >= self._max_ms:
                self._precharge_failed(now)
        elif self.state == CLOSING_PLUS:
            if waited >= self._settle:
                self._set(PRECHARGE, 0)
                self._enter(CLOSED, now)
                self.closings += 1
        elif self.state == REST and waited >= self._rest:
            self._enter(CLOSING_MINUS, now)
            self._set(MINUS, 1)

    def _proven(self, which):
        """Its feedback says closed, or there is none to ask; `_supervise` bounds the wait."""
        return not self.has_feedback or self._hal.feedback(which) == 1

    def _precharged(self, waited):
        if not self._has_link:
            return waited >= self._max_ms  # proven by time: the whole of it
        cell = self._pack.cell
        if self.link_mv is None or not cell.complete:
            return False
        pack_mv = cell.total
        # split, so that the product stays below 2**30 for any pack
        enough = pack_mv // 1000 * self._ratio + pack_mv % 1000 * self._ratio // 1000
        return self.link_mv >= enough

    def _precharge_failed(self, now):
        self._all_off()
        self._tried += 1
        if self._tried >= self._tries:
            link = self.link_mv
            self._faults.raised(faults.PRECHARGE_FAILED, -1, -1 if link is None else link)
            self._faults.gone(faults.PRECHARGE_FAILED)  # latched: it stays until acknowledged
        else:
            self._enter(REST, now)

    def _supervise(self, now):
        if not self.has_feedback:
            return
        lost = welded = -1
        for i in range(3):
            closed = self._hal.feedback(i)
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
        if lost >= 0:
            f.raised(faults.CONTACTOR_FEEDBACK, lost, self._feedback_delay)
        elif not self.energised():
            # seen only while a coil is on; a new try shows whether it is mended
            f.gone(faults.CONTACTOR_FEEDBACK)
        if welded >= 0:
            f.raised(faults.CONTACTOR_WELDED, welded, self._feedback_delay)
        elif not self._differs[MINUS] and not self._differs[PRECHARGE] and not self._differs[PLUS]:
            f.gone(faults.CONTACTOR_WELDED)

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
        self._hal.coil(which, on)

    def _all_off(self):
        # the coil that carries the load first
        self._set(PLUS, 0)
        self._set(PRECHARGE, 0)
        self._set(MINUS, 0)
