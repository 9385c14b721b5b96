"""Parallel strings: which one closes first, which joins when, what a fault opens.

The first string closes with precharge; another joins only near to the voltage of those that are
closed. A string with a fault leaves alone, a fault of the pack opens all. Nothing here allocates
after start-up.
"""

from bms import ticks
from bms.config.errors import ConfigError
from bms.contactors import sequence as C
from bms.protection import faults


class Strings:
    """each: the `Contactors` of every string; count_closed: strings that are connected.

    wants_power: False while a string waits for its current to fall, so that it may open.
    charger: a charger is there, as far as an input says so. left_out: why the last `close` could
    not close every string, as bytes, None = it could.
    """

    def __init__(self, config, board, faults_, pack, currents, clock):
        """Raises ConfigError: the board has outputs for fewer strings."""
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
        self._asked = bytearray(pack.strings)  # a person wants it closed
        self._wait_at = clock.now
        self._join_mv = config.join_voltage_mv
        self._join_ma = config.join_current_ma
        self._join_wait = config.join_wait_ms
        self._has_link = bool(config.link_sensor)
        self.has_feedback = bool(config.contactor_feedback)
        self.count_closed = 0
        self.left_out = None
        self.wants_power = True
        self.charger = False

    # --- what the others see ---

    @property
    def state(self):
        """State of the string that is furthest: one of contactors.STATES."""
        best = self.each[0].state
        for c in self.each:
            if c.state == C.CLOSED or best == C.OPEN:
                best = c.state
        return best

    @property
    def changes(self):
        """Of all states, for telemetry."""
        n = 0
        for c in self.each:
            n += c.changes
        return n

    @property
    def closings(self):
        """Times that a string closed, since boot."""
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
        """The first contactor whose feedback says closed, -1 = none does."""
        for c in self.each:
            which = c.seen_closed()
            if which >= 0:
                return which
        return -1

    def closed(self, string):
        """True where a string is connected."""
        return self.each[string].closed()

    def ignore_feedback(self):
        """A person says that what looks welded is open; True where something did."""
        found = False
        for c in self.each:
            found = c.ignore_feedback() or found
        return found

    def lock(self, locked):
        """Nothing closes any more, or it may again."""
        for c in self.each:
            c.locked = locked

    # --- opening ---

    def trip(self, scope):
        """Open a string, or all of them where the scope is the pack."""
        if scope < len(self.each):
            self._asked[scope] = 0
            self.each[scope].trip()
            return
        for s in range(len(self.each)):
            self._asked[s] = 0
            self.each[s].trip()

    def cut(self):
        """The board has switched all coils off by itself."""
        for s in range(len(self.each)):
            self._asked[s] = 0
            self.each[s].cut()

    def open(self, now):
        """Open all on a person's word, each once its current is low."""
        for s in range(len(self.each)):
            self._asked[s] = 0
            self.each[s].open(now)

    # --- closing ---

    def close(self, now):
        """Begin to close every string that may; None, or the reason why none may, as bytes."""
        why = b"already closed or closing"
        self.left_out = None
        some = False
        for s in range(len(self.each)):
            c = self.each[s]
            if c.state == C.OPEN:
                no = c.refusal(now)
                if no is None:
                    some = True
                    self._asked[s] = 1
                else:
                    why = self.left_out = no
        if not some:
            return why
        self._board.rearm()
        self._wait_at = now
        self._next(now)
        return None

    def step(self, now):
        """Go on with the sequences; the next string when one is done."""
        closed = 0
        wants = True
        for c in self.each:
            c.step(now)
            if c.closed():
                closed += 1
            if c.state == C.OPEN_REQUESTED:
                wants = False
        self.count_closed = closed
        self.wants_power = wants
        for asked in self._asked:
            if asked:
                self._next(now)
                return

    def _next(self, now):
        """Let the next string begin, one at a time."""
        waiting = False
        for s in range(len(self.each)):
            if self.each[s].closing():
                return
            waiting = waiting or self._asked[s]
        if not waiting:
            return
        link = self._closed_mv()
        best = -1
        least = 0
        for s in range(len(self.each)):
            c = self.each[s]
            if not self._asked[s] or c.state != C.OPEN:
                continue
            if self._faults.blocking(s):
                self._asked[s] = 0
                continue
            mv = c.string_mv()
            if link < 0:
                apart = mv if self.charger else -mv  # the first: what charges or gives most
            else:
                apart = mv - link if mv >= link else link - mv
            if best < 0 or apart < least:
                best = s
                least = apart
        if best < 0:
            return
        if link >= 0 and (least > self._join_mv or self._total_ma() > self._join_ma):
            if ticks.diff(now, self._wait_at) >= self._join_wait:
                self._asked[best] = 0
                self._faults.set(faults.STRING_NOT_JOINED, best, least)
                self._faults.clear(faults.STRING_NOT_JOINED, best)
            return
        why = self.each[best].close(now, link)
        if why is None:
            self._asked[best] = 0
            self._wait_at = now
        elif link < 0 or ticks.diff(now, self._wait_at) >= self._join_wait:
            self._asked[best] = 0

    def _closed_mv(self):
        """Voltage that closed strings hold the link at, -1 = none is closed."""
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
