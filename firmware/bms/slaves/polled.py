"""Boards on one line that answer polls, one after the other.

What their drivers share beyond `CommercialDriver`: which board is polled next and how often, the
gap that a board needs between polls, silent boards, and commands between two scans. A subclass
knows the polls and reads the answers. Nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.slaves.base import BALANCE_ON_OFF, CAN_BALANCE
from bms.slaves.commercial import AGAIN, BOTH_FETS, OFF, ON, CommercialDriver
from bms.ticks import MASK

_IDLE, _WAITING, _RESTING = range(3)
_TRIES = const(2)
_REPEAT_MS = const(5000)  # a command is repeated after this time
_SHORT_MS = const(100)
_QUIET_MS = const(20)  # adapters and boards pause for a shorter time within an answer
_LOOK_MS = const(50)  # between two checks which board needs a command
_RECENT = const(3)
_MOST_SILENT = const(2)
_UNCOMMANDED = const(2)
_UNACKNOWLEDGED = const(3)  # it did not answer: commanded again, but not at once
COMMAND = const(-1)
_NEVER = const(0x10000000)  # longer than `ticks.diff` can measure


class PolledDriver(CommercialDriver):
    """Base of the drivers of polled boards; see `Driver` for its fields.

    late: scans that were due while the one before still ran.
    """

    STEPS = 1  # polls to each board in a scan
    SEVERAL = False  # an answer may have several frames
    IGNORED = ()
    GAP_MS = 0  # minimum from an answer to the next poll on the line
    ANSWER_MS = 100  # from the end of a poll to the first byte of its answer, at most
    TYPICAL_MS = 5  # the same, as it usually is
    LONGEST = 64  # bytes of the longest poll and its answer
    ALARM_MS = _NEVER  # no time limit: an alarm ends when an answer lacks it
    FIELDS: tuple = ()  # what a board reports of itself; see `bms.slaves.fields`
    SELDOM = False  # the last poll of a scan is one that some boards may not know

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.late = 0
        port = config.link_of(config.slaves[members[0]].link)
        self._gap = port.gap_ms if port and port.gap_ms else self.GAP_MS
        self._answer = port.answer_ms if port and port.answer_ms else self.ANSWER_MS
        self._timeout = self._answer + self.LONGEST * 10000 // link.rate + 5
        self._state = _IDLE
        self._m = -1  # member whose answer is awaited, or that is polled next
        self._step = 0
        self._tries = 0
        self._answerer = -1  # member that answered last, to its first try
        self._answer_to = 0
        self._command = False  # the awaited answer is one to a command
        self._at = 0
        self._rx = 0  # answers received before this poll
        self._node = bytearray([config.slaves[i].node for i in members])
        self._due = bytearray(n)
        self._silent = bytearray(n)  # polls without an answer, up to _RECENT + 1
        self._next_silent = 0  # silent member that is polled next
        self._no_answers = 0  # boards that did not answer in this scan
        self._again = False  # a scan was due while one still ran
        self._command_sent = False  # a command was sent since the last scan
        self._look_at = 0
        self._next_member = 0  # member that is commanded next
        self._commanded = bytearray([_UNCOMMANDED] * n)  # balancing as commanded: off, on
        self._commanded_at = array("i", [0] * n)
        self._suspect = bytearray(n)  # 1: something in this answer jumped, 2: the one before did
        self._fets_at = array("i", [0] * n)
        self._also = bytearray(n)  # the second FET's command waits: 1 + its value
        for row in self.FIELDS:
            setattr(self, row[0], -1)

    # --- what a subclass does ---

    def send_poll(self, m, step):
        """Send poll `step` (from 0) to member m; False where the port took not all of it."""
        raise NotImplementedError

    def size(self, m, step):
        """Bytes of that poll and its answer."""
        raise NotImplementedError

    def steps(self, m) -> int:
        """Polls to member m in a scan."""
        return self.STEPS

    def command_balance(self, m, on):
        """Command a board to allow balancing, or to forbid it; False where nothing was sent."""
        return False

    def command_fets(self, m, on):
        """Command a board to close its FETs, or to open them; False where nothing was sent."""
        return False

    def command_other_fet(self, m, value):
        """Send the second of two FET commands; see `also`."""
        return False

    # --- what the master calls ---

    def scan_ms(self, config):
        """ms that a scan of all members takes at least: bytes, answer times and gaps."""
        number = polls = 0
        for m in range(len(self.members)):
            for step in range(self.steps(m)):
                number += self.size(m, step)
                polls += 1
        return number * 10000 // self.link.rate + polls * (self._gap + self.TYPICAL_MS) + 1

    def lost_ms(self, need_ms):
        """ms that a poll without an answer costs, and a command that nobody acknowledges."""
        words = self.ABILITIES & CAN_BALANCE or max(self._rated)
        return (self._timeout + self._gap) * (2 if words else 1)

    def begin(self, seq, now):
        """Start a scan; if the one before still runs, when that ends."""
        if not self.done:
            self.late = (self.late + 1) & MASK
            self._again = True
            return
        self._open(now)

    def _open(self, now):
        self._again = self._command_sent = False
        self.done = False
        self._no_answers = 0
        for m in range(len(self._due)):
            self._due[m] = 1
            self.settle(m)
        if not self._command:
            self._m = -1

    def step(self, now):
        """Read what has arrived; send the next poll, or repeat one; commands between scans."""
        self.link.poll(self, now)
        if self._alarms:
            self.alarm_step(now)
        if self._state == _WAITING:
            self._look_late(now)
        # the first tick may be nearly over: one more makes the gap long enough
        if self._state == _RESTING and self._rests(now) > self._gap:
            self._state = _IDLE
        if self._state == _IDLE:
            self._next(now)

    def rest(self, now):
        """ms until `step` has something to do, if nothing arrives before."""
        since = ticks.diff(now, self._at)
        if self.link.unsent():
            return 0
        if self._state == _RESTING:
            return self._gap + 1 - self._rests(now)
        if self._state == _WAITING:
            return self._timeout - since
        return 1000 if self.done else 0

    # --- what a subclass calls ---

    def member(self, node):
        """The member with a node's number, -1 where none has it."""
        for m in range(len(self._node)):
            if self._node[m] == node:
                return m
        return -1

    def also(self, m, value):
        """Send `command_other_fet` next, with this value (0..254)."""
        self._also[m] = 1 + value

    def waits_for(self, m, step):
        """True where member m's answer to poll `step` is awaited; COMMAND: to a command."""
        if self._listening:
            return True
        awaited = COMMAND if self._command else self._step
        # a late answer that arrives between two tries counts
        waits = self._state == _WAITING or self._state == _RESTING and self._tries
        return bool(waits and self._m == m and awaited == step)

    def second_answer(self, m, step):
        """True where member m has just answered this poll, which was sent only once."""
        return self._state == _RESTING and self._answerer == m and self._answer_to == step

    def answered(self, now):
        """The awaited answer is complete."""
        m = self._m
        if m < 0:
            return
        self._answerer = m if self._tries == 1 else -1
        self._answer_to = COMMAND if self._command else self._step
        self._silent[m] = 0
        self._tries = 0
        self._rest_from(now)
        if self._command:
            self._command = False
            self._m = -1
            return
        if self._suspect[m] == 1:
            self._suspect[m] = 2
            return  # the same poll again
        self._suspect[m] = 0
        self._step += 1
        if self._step >= self.steps(m):
            self._due[m] = 0
            self._m = -1

    def alarms(self, m, trip, warn, now):
        """As `CommercialDriver.alarms`; an alarm lasts until an answer lacks it, however late."""
        CommercialDriver.alarms(
            self, m, trip, warn, now
        )  # `super` with so many arguments allocates
        slave = self.members[m]
        over = self._alarm_flags[slave] and not self.pack.slave_flags[slave] & 0xFF
        if over and self.ALARM_MS == _NEVER:
            self.alarm_over(slave)

    def suspects(self, m):
        """Mark member m's answer as suspect: it is polled once more; False if it was so before."""
        if self._suspect[m] == 2:
            return False
        self._suspect[m] = 1
        return True

    # --- which board is polled ---

    def _next(self, now):
        if not self.done:
            if self._m < 0:
                self._m = self._choose()
                self._step = 0
            if self._m >= 0:
                self._tries += 1
                if self._tries == 1:
                    self.link.forget()
                self._wait_from(now)
                self.send_poll(self._m, self._step)
                return
            self.done = True
        if self._again and self._command_sent:
            self._open(now)  # one command between two scans, no more: readings must not get old
            return
        if ticks.since(now, self._look_at) >= _LOOK_MS:
            for _ in range(len(self._due)):
                m = self._next_member
                if not self._silent[m] and self.pack.known[self.members[m]]:
                    self.link.forget()
                    if self.command(m, now):
                        self._m = m
                        self._command = self._command_sent = True
                        self._tries = _TRIES
                        self._wait_from(now)
                        return
                self._advance()
            self._look_at = now  # no board needs a command
        if self._again:
            self._open(now)

    def _advance(self):
        self._next_member = self._next_member + 1 if self._next_member + 1 < len(self._due) else 0

    def _choose(self):
        """The next member to poll: those that answer; then those that became silent lately, the
        latest first, until two stay silent; then the others, one after the other, until one does.
        """
        n = len(self._due)
        late = -1
        for m in range(n):
            if self._due[m]:
                silent = self._silent[m]
                if not silent:
                    return m
                if silent <= _RECENT and (late < 0 or silent < self._silent[late]):
                    late = m
        if late >= 0 and self._no_answers < _MOST_SILENT:
            return late
        if not self._no_answers:
            for _ in range(n):
                m = self._next_silent
                self._next_silent = m + 1 if m + 1 < n else 0
                if self._due[m]:
                    return m
        return -1

    def _wait_from(self, now):
        self._state = _WAITING
        self._at = now
        self._rx = self.link.rx

    def _rest_from(self, now):
        self._at = now
        self._state = _RESTING if self._gap else _IDLE

    def _rests(self, now):
        """ms that the line has been quiet: an answer may go on behind what the driver reads."""
        since = ticks.diff(now, self._at)
        quiet = ticks.since(now, self.link.rx_at)
        return quiet if quiet < since < self._timeout else since

    def _look_late(self, now):
        """Poll again, or give up, where no answer came in time; one that is arriving is awaited."""
        since = ticks.diff(now, self._at)
        quiet = ticks.since(now, self.link.rx_at)
        # some frames of several arrived, and then no more
        short = self.SEVERAL and self.link.rx != self._rx and quiet >= _SHORT_MS
        if since < self._timeout and not short:
            return
        if quiet < _QUIET_MS and since < 2 * self._timeout:
            return
        self.link.end(self, now)
        if self._state != _WAITING:
            return  # the bytes that were left were the answer
        self._rest_from(now)
        if self._tries < _TRIES:
            return
        m = self._m
        self._m = -1
        self._tries = 0
        self._suspect[m] = 0
        self.missed = (self.missed + 1) & MASK
        if self._command:
            self._command = False
            self._commanded[m] = _UNACKNOWLEDGED
            self._advance()  # a board that doesn't answer must not delay the others
            return
        self._due[m] = 0
        if self.SELDOM and self._step + 1 == self.steps(m):
            return
        self._commanded[m] = _UNCOMMANDED  # it may have restarted, and lost its commands
        if self._silent[m]:
            self._no_answers += 1
        if self._silent[m] <= _RECENT:
            self._silent[m] += 1

    # --- commands ---

    def command(self, m, now):
        """Send member m a command that is due; True where its answer is to be awaited."""
        ours = self._wants_open(m)
        also = self._also[m]
        self._also[m] = 0
        if also and (self._off[m] == OFF) == ours:
            return self.command_other_fet(m, also - 1)
        if self._rated[m] and self._wants_fets(m, ours, now):
            self._fets_at[m] = now
            if ours:
                self._off[m] = OFF
            elif self._off[m]:
                self._off[m] = ON if self._off[m] == OFF else AGAIN
            return self.command_fets(m, not ours)
        if self.ABILITIES & BALANCE_ON_OFF:
            on = 1 if self.wants(self.members[m]) else 0
            commanded = self._commanded[m]
            due = ticks.since(now, self._commanded_at[m]) >= _REPEAT_MS
            if (
                commanded != on
                and commanded != _UNACKNOWLEDGED
                or due
                and (on or commanded == _UNACKNOWLEDGED)
            ):
                self._commanded[m] = on
                self._commanded_at[m] = now
                return self.command_balance(m, on)
        return False

    def _wants_fets(self, m, ours, now):
        """Whether member m's FETs need a command: to open, or to close again after such a command.

        FETs that the board opened by itself are commanded to close only while contactors are open.
        """
        fets = self._fets[m]
        off = self._off[m]
        if off and ours != (off == OFF):
            return True  # it was commanded the opposite
        if ours:
            due = fets != 0
        else:
            due = fets != BOTH_FETS and (off or not self.energised(m))
        return due and (not self._fets_at[m] or ticks.since(now, self._fets_at[m]) >= _REPEAT_MS)
