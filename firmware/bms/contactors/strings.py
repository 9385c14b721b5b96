"""Parallel strings: the order of closing, the conditions for joining, what a fault opens.

The first string closes with precharge; another one joins only where its voltage is close to that of
the closed ones. A fault of a string opens that string; a fault of the pack opens all.
Nothing here allocates after start-up.
"""

from bms import ticks
from bms.config.errors import ConfigError
from bms.contactors import sequence as C
from bms.contactors.precharge import NONE, UNKNOWN
from bms.protection import fault_ids as faults
from bms.ticks import MASK


class Strings:
    """each: the `Sequence` of every string; count_closed: strings that are connected.

    openings: trips, cuts and commands to open since boot. steady: no string closes, opens or is to
    close. wants_power: False while a string waits for its current to fall, so that it may open.
    charger: the input reports a charger. left_out: reason (bytes) why the last `close` left a
    string out, None = it left none out.
    """

    def __init__(self, config, board, faults_, pack, currents, clock):
        """Raises ConfigError where the board has outputs for fewer strings."""
        for slave in config.slaves:
            if slave.string > board.STRINGS:
                raise ConfigError(
                    slave.at["string"],
                    "string",
                    "this board has contactor outputs for %d of the %d strings"
                    % (board.STRINGS, pack.strings),
                )
        self._board = board
        self._faults = faults_
        self._pack = pack
        self._clock = clock
        self.each = [
            C.Sequence(config, board, faults_, pack, current, clock) for current in currents
        ]
        self._close_wanted = bytearray(pack.strings)  # 1 = commanded to close, not closed yet
        self._wait_at = clock.now
        self._join_mv = config.join_voltage_mv
        self._join_ma = config.join_current_ma
        self._join_wait = config.join_wait_ms
        self._has_link = bool(config.link_sensor)
        self.has_feedback = bool(config.contactor_feedback)
        self._joins = False  # `_others_mv` has found a string that is closed
        self.count_closed = 0
        self.openings = 0
        self.left_out = None
        self.wants_power = True
        self.steady = False
        self.charger = False

    # --- state ---

    @property
    def state(self):
        """CLOSED where a string is, else that of the first string not open; see sequence.STATES."""
        best = self.each[0].state
        for c in self.each:
            if c.state == C.CLOSED or best == C.OPEN:
                best = c.state
        return best

    @property
    def changes(self):
        """Number of changes of state in all strings, for telemetry."""
        n = 0
        for c in self.each:
            n += c.changes
        return n

    @property
    def closings(self):
        """Closings of all strings since boot."""
        n = 0
        for c in self.each:
            n += c.closings
        return n

    def energised(self):
        """True while any coil is on: current may flow."""
        for on in self._pack.energised:
            if on:
                return True
        return False

    def seen_closed(self):
        """Number of the first contactor whose feedback reports closed, -1 = none."""
        for c in self.each:
            which = c.seen_closed()
            if which >= 0:
                return which
        return -1

    def closed(self, string):
        """True where a string is connected."""
        return self.each[string].closed()

    def ignore_feedback(self):
        """Ignore feedback that shows a weld (command `clear welded`); True where there was one."""
        found = False
        for c in self.each:
            found = c.ignore_feedback() or found
        return found

    def lock(self, why):
        """Nothing closes from now on, for this reason (bytes); None: closing is allowed again."""
        for c in self.each:
            c.locked = why

    # --- opening ---

    def _opens(self):
        self.steady = False
        self.openings = (self.openings + 1) & MASK

    def trip(self, scope):
        """Open a string, or all of them where the scope is the pack."""
        if scope < len(self.each):
            self.each[scope].trip()  # before all else: each us counts
            self._close_wanted[scope] = 0
        else:
            for s in range(len(self.each)):
                self.each[s].trip()
                self._close_wanted[s] = 0
        self._opens()

    def cut(self):
        """The board has switched all coils off by itself: change the states to match."""
        self._opens()
        for s in range(len(self.each)):
            self._close_wanted[s] = 0
            self.each[s].cut()

    def open(self, now):
        """Open all on command, each once its current is low."""
        self._opens()
        for s in range(len(self.each)):
            self._close_wanted[s] = 0
            self.each[s].open(now)

    # --- closing ---

    def close(self, now):
        """Begin to close every string that may close; None, or the reason (bytes) why none may."""
        why = b"already closed or closing"
        self.left_out = None
        some = False
        for s in range(len(self.each)):
            c = self.each[s]
            if c.state == C.OPEN:
                no = c.refusal(now)
                if no is None:
                    some = True
                    self._close_wanted[s] = 1
                else:
                    why = self.left_out = no
        if not some:
            return why
        if self._held_apart():
            return b"a string that may be welded holds the link, at another or unknown voltage"
        self._board.rearm()
        self.steady = False
        self._wait_at = now
        self._next(now)
        return None

    def _held_apart(self):
        """True where a weld alone holds the link, too far from each string; none is to close then.

        Strings that are apart from closed ones wait to join; a weld does not go away by waiting.
        """
        link = self._others_mv(-1)
        if self._joins or link == NONE or self.energised():
            return False
        for s in range(len(self.each)):
            if self._close_wanted[s] and link >= 0:
                if abs(self.each[s].string_mv() - link) <= self._join_mv:
                    return False
        for s in range(len(self.each)):
            self._close_wanted[s] = 0
        return True

    def step(self, now):
        """Continue the sequences; start the next string when one is closed."""
        closed = 0
        wants = steady = True
        for c in self.each:
            if C.OPEN < c.state < C.CLOSED:
                self._look_at_others(c)
            c.step(now)
            state = c.state
            if state == C.CLOSED:
                closed += 1
            elif state != C.OPEN:
                steady = False
                if state == C.OPEN_REQUESTED:
                    closed += 1
                    wants = False
                elif state == C.FUSE_WAIT:
                    wants = False
        self.count_closed = closed
        self.wants_power = wants
        self.steady = steady
        for wanted in self._close_wanted:
            if wanted:
                self.steady = False
                self._next(now)
                return

    def _next(self, now):
        """Start to close the next string, one at a time, while no other one closes or opens."""
        waiting = False
        for s in range(len(self.each)):
            if self._pack.energised[s] and self.each[s].state != C.CLOSED or self.each[s].closing():
                return
            waiting = waiting or self._close_wanted[s]
        if not waiting:
            return
        link = self._others_mv(-1)
        best = -1
        least = 0
        for s in range(len(self.each)):
            c = self.each[s]
            if not self._close_wanted[s] or c.state != C.OPEN:
                continue
            if self._faults.blocking(s):
                self._close_wanted[s] = 0
                continue
            mv = c.string_mv()
            if link < 0:
                apart = (
                    mv if self.charger else -mv
                )  # the first: lowest with a charger, else highest
            else:
                apart = mv - link if mv >= link else link - mv
            if best < 0 or apart < least:
                best = s
                least = apart
        if best < 0:
            return
        late = ticks.diff(now, self._wait_at) >= self._join_wait
        if link == UNKNOWN or link >= 0 and (least > self._join_mv or self._too_much()):
            if late:
                self._close_wanted[best] = 0
                self._faults.set(faults.STRING_NOT_JOINED, best, least)
                self._faults.clear(faults.STRING_NOT_JOINED, best)
            return
        self.each[best].set_others(link, self._joins)
        if self.each[best].close(now) is None:
            self._close_wanted[best] = 0
            self._wait_at = now
        elif link < 0 or late:
            self._close_wanted[best] = 0

    def _look_at_others(self, c):
        """Give a string that closes what it must know of the others."""
        c.set_others(self._others_mv(c.string), self._joins)

    def _others_mv(self, but):
        """Voltage of the strings that hold the link without one of them; sets `_joins`.

        NONE where none does; UNKNOWN where it is not measured, or one closes or opens just now.
        """
        self._joins = False
        mv = NONE
        for c in self.each:
            if c.string == but or not c.holds_link():
                continue
            if c.state != C.OPEN and c.state != C.CLOSED:
                return UNKNOWN
            if c.state == C.CLOSED and not self._joins:
                self._joins = True
                mv = NONE  # what is closed goes before a string that may be welded
            if mv == NONE:
                mv = c.string_mv()
        if self._joins and self._has_link and self._pack.link_mv is not None:
            return self._pack.link_mv
        return mv

    def _too_much(self):
        """True where the strings on the link carry too much current for another one to join.

        Sizes are added: currents that circulate between strings would cancel.
        """
        total = 0
        for c in self.each:
            if c.holds_link():
                total += c.magnitude()
        return total > self._join_ma
