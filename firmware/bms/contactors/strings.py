"""Parallel strings: the order of closing, the conditions for joining, what a fault opens.

The first string closes with precharge; another one joins only where its voltage is close to that of
the closed ones. A fault of a string opens that string; a fault of the pack opens all.
Nothing here allocates after start-up.
"""

from bms import ticks
from bms.config.errors import ConfigError
from bms.contactors import sequence as C
from bms.protection import fault_ids as faults


class Strings:
    """each: the `Sequence` of every string; count_closed: strings that are connected.

    steady: no string closes, opens or is to close. wants_power: False while a string waits for its
    current to fall, so that it may open.
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
        self._currents = currents
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
        self.count_closed = 0
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

    def trip(self, scope):
        """Open a string, or all of them where the scope is the pack."""
        self.steady = False
        if scope < len(self.each):
            self._close_wanted[scope] = 0
            self.each[scope].trip()
            return
        for s in range(len(self.each)):
            self._close_wanted[s] = 0
            self.each[s].trip()

    def cut(self):
        """The board has switched all coils off by itself: change the states to match."""
        self.steady = False
        for s in range(len(self.each)):
            self._close_wanted[s] = 0
            self.each[s].cut()

    def open(self, now):
        """Open all on command, each once its current is low."""
        self.steady = False
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
        self._board.rearm()
        self.steady = False
        self._wait_at = now
        self._next(now)
        return None

    def step(self, now):
        """Continue the sequences; start the next string when one is closed."""
        closed = 0
        wants = steady = True
        for c in self.each:
            c.step(now)
            state = c.state
            if state == C.CLOSED:
                closed += 1
            elif state != C.OPEN:
                steady = False
                if state == C.OPEN_REQUESTED:
                    closed += 1
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
        """Start to close the next string, one at a time."""
        waiting = False
        for s in range(len(self.each)):
            if self.each[s].closing():
                return
            waiting = waiting or self._close_wanted[s]
        if not waiting:
            return
        link = self._closed_mv()
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
        if link >= 0 and (least > self._join_mv or self._total_ma() > self._join_ma):
            if ticks.diff(now, self._wait_at) >= self._join_wait:
                self._close_wanted[best] = 0
                self._faults.set(faults.STRING_NOT_JOINED, best, least)
                self._faults.clear(faults.STRING_NOT_JOINED, best)
            return
        why = self.each[best].close(now, link)
        if why is None:
            self._close_wanted[best] = 0
            self._wait_at = now
        elif link < 0 or ticks.diff(now, self._wait_at) >= self._join_wait:
            self._close_wanted[best] = 0

    def _closed_mv(self):
        """Voltage of the link with closed strings in mV, -1 = none is closed."""
        for c in self.each:
            if c.closed():
                if self._has_link and self._pack.link_mv is not None:
                    return self._pack.link_mv
                return c.string_mv()
        return -1

    def _total_ma(self):
        total = 0
        for current in self._currents:
            total += current.ma
        return total if total >= 0 else -total
