"""Boards on one serial line that speak when they are asked, one after the other.

What their drivers share beyond `Boards`: who is asked next and how often, the gap that a board
needs between questions, boards that are silent, and commands between two scans. A subclass knows
the questions and reads the answers. Nothing here allocates.
"""

from array import array

from micropython import const

from bms import ticks
from bms.slaves.base import BALANCE_ON_OFF, CAN_BALANCE
from bms.slaves.boards import AGAIN, OFF, ON, Boards

_IDLE, _WAITING, _RESTING = range(3)
_TRIES = const(2)
_TELL_MS = const(5000)  # what a board was told is told again after it
_SHORT_MS = const(100)
_QUIET_MS = const(20)  # within an answer adapters and boards pause for less
_LOOK_MS = const(50)  # between two looks at who has to be told something
_OF_LATE = const(3)
_DEAD_ENDS = const(2)
_UNTOLD = const(2)
_UNHEARD = const(3)  # it did not answer: told again, but not at once
COMMAND = const(-1)
_NEVER = const(0x10000000)  # longer than `ticks.diff` can tell


class Asked(Boards):
    """Base of the drivers of boards that are asked; see `Driver` for its fields.

    late: scans that were to begin while the one before still ran.
    """

    STEPS = 1  # questions to each board in a scan
    SEVERAL = False  # frames in an answer
    IGNORED = ()
    GAP_MS = 0  # a board's own minimum from an answer to the next question on its line
    ANSWER_MS = 100  # from the end of a question to the begin of its answer, at most
    TYPICAL_MS = 5  # the same as it usually is
    LONGEST = 64  # bytes of the longest question and its answer
    ALARM_MS = _NEVER  # by time: an alarm ends as an answer lacks it
    SELDOM = False  # the last of a scan's questions is one that some boards may not know

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.late = 0
        port = config.link_of(config.slaves[members[0]].link)
        self._gap = port.gap_ms if port and port.gap_ms else self.GAP_MS
        self._answer = port.answer_ms if port and port.answer_ms else self.ANSWER_MS
        self._patience = self._answer + self.LONGEST * 10000 // link.rate + 5
        self._state = _IDLE
        self._m = -1  # member whose answer is awaited, or who is asked on
        self._step = 0
        self._tries = 0
        self._answerer = -1  # who answered last, to its first try
        self._answer_to = 0
        self._command = False  # what is awaited answers a command
        self._at = 0
        self._rx = 0  # answers that had come as it was asked
        self._node = bytearray([config.slaves[i].node for i in members])
        self._due = bytearray(n)
        self._silent = bytearray(n)  # times that it was asked in vain, up to _OF_LATE + 1
        self._turn = 0  # of the silent ones
        self._dead_ends = 0  # boards that stayed silent in this scan
        self._again = False  # a scan was to begin as one still ran
        self._spoke = False  # a command was sent since the last scan
        self._look_at = 0
        self._teller = 0  # member who may be told something next
        self._told = bytearray([_UNTOLD] * n)  # balancing: off, on
        self._told_at = array("i", [0] * n)
        self._doubt = bytearray(n)  # 1: something in this answer jumped, 2: the one before did
        self._fets_at = array("i", [0] * n)
        self._also = bytearray(n)  # the second switch waits: 1 + its value

    # --- what a subclass does ---

    def ask(self, m, step):
        """Send question `step` (0..STEPS-1) to member m; False where the port took not all."""
        raise NotImplementedError

    def size(self, m, step):
        """Bytes of that question and its answer."""
        raise NotImplementedError

    def steps(self, m) -> int:
        """Questions to member m in a scan."""
        return self.STEPS

    def tell_balance(self, m, on):
        """Send a board the word to balance, or not to; False where nothing was sent."""
        return False

    def tell_fets(self, m, on):
        """Send a board the word to close its FETs, or to open them; False: nothing was sent."""
        return False

    def tell_other_fet(self, m, value):
        """Send the second of two words for FETs; see `also`."""
        return False

    # --- what the master calls ---

    def scan_ms(self, config):
        """ms that a scan of all members takes at the least: bytes, answers and gaps."""
        number = questions = 0
        for m in range(len(self.members)):
            for step in range(self.steps(m)):
                number += self.size(m, step)
                questions += 1
        return number * 10000 // self.link.rate + questions * (self._gap + self.TYPICAL_MS) + 1

    def lost_ms(self, need_ms):
        """ms that an answer that is awaited in vain costs, and a word that nobody answers."""
        words = self.ABILITIES & CAN_BALANCE or max(self._rated)
        return (self._patience + self._gap) * (2 if words else 1)

    def begin(self, seq, now):
        """Start a scan; where the one before still runs, as soon as that ends."""
        if not self.done:
            self.late = (self.late + 1) & 0x1FFFFFFF
            self._again = True
            return
        self._open(now)

    def _open(self, now):
        self._again = self._spoke = False
        self.done = False
        self._dead_ends = 0
        for m in range(len(self._due)):
            self._due[m] = 1
            self.settle(m)
        if not self._command:
            self._m = -1

    def step(self, now):
        """Take what has come; ask on, or again; between scans tell boards what to do."""
        self.link.poll(self, now)
        if self._alarms:
            self.alarm_step(now)
        if self._state == _WAITING:
            self._look_late(now)
        # a tick may be nearly over as it is read: one more is sure to be enough
        if self._state == _RESTING and self._rests(now) > self._gap:
            self._state = _IDLE
        if self._state == _IDLE:
            self._next(now)

    def rest(self, now):
        """ms until `step` has something to do by time."""
        since = ticks.diff(now, self._at)
        if self.link.unsent():
            return 0
        if self._state == _RESTING:
            return self._gap + 1 - self._rests(now)
        if self._state == _WAITING:
            return self._patience - since
        return 1000 if self.done else 0

    # --- what a subclass calls ---

    def member(self, node):
        """The member with a node's number, -1 where none has it."""
        for m in range(len(self._node)):
            if self._node[m] == node:
                return m
        return -1

    def also(self, m, value):
        """`tell_other_fet` comes next, with this value (0..254)."""
        self._also[m] = 1 + value

    def waits_for(self, m, step):
        """True where member m's answer to question `step` is awaited; COMMAND: to a command."""
        if self._listening:
            return True
        awaited = COMMAND if self._command else self._step
        # between two tries a late answer is one as well
        waits = self._state == _WAITING or self._state == _RESTING and self._tries
        return bool(waits and self._m == m and awaited == step)

    def twin(self, m, step):
        """True where member m answered this question a moment ago, and was asked it only once."""
        return self._state == _RESTING and self._answerer == m and self._answer_to == step

    def answered(self, now):
        """The awaited answer has come whole."""
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
        if self._doubt[m] == 1:
            self._doubt[m] = 2
            return  # the same question again
        self._doubt[m] = 0
        self._step += 1
        if self._step >= self.steps(m):
            self._due[m] = 0
            self._m = -1

    def alarms(self, m, trip, warn, now):
        """As `Boards.alarms`; what was said stands until an answer lacks it, however late."""
        Boards.alarms(self, m, trip, warn, now)  # `super` with so many arguments allocates
        slave = self.members[m]
        over = self._alarm_flags[slave] and not self.pack.slave_flags[slave] & 0xFF
        if over and self.ALARM_MS == _NEVER:
            self.alarm_over(slave)

    def doubted(self, m):
        """True where what member m says now was not in doubt before: it is asked once more."""
        if self._doubt[m] == 2:
            return False
        self._doubt[m] = 1
        return True

    # --- who is asked ---

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
                self.ask(self._m, self._step)
                return
            self.done = True
        if self._again and self._spoke:
            self._open(now)  # a word between two scans, no more: readings must not get old
            return
        if ticks.since(now, self._look_at) >= _LOOK_MS:
            for _ in range(len(self._due)):
                m = self._teller
                if not self._silent[m] and self.pack.known[self.members[m]]:
                    self.link.forget()
                    if self.command(m, now):
                        self._m = m
                        self._command = self._spoke = True
                        self._tries = _TRIES
                        self._wait_from(now)
                        return
                self._next_teller()
            self._look_at = now  # nobody has to be told anything
        if self._again:
            self._open(now)

    def _next_teller(self):
        self._teller = self._teller + 1 if self._teller + 1 < len(self._due) else 0

    def _choose(self):
        """The next member to ask: those that answer; then those that are silent of late, least
        first, until two stay so; then the others in turn, until one stays silent.
        """
        n = len(self._due)
        late = -1
        for m in range(n):
            if self._due[m]:
                silent = self._silent[m]
                if not silent:
                    return m
                if silent <= _OF_LATE and (late < 0 or silent < self._silent[late]):
                    late = m
        if late >= 0 and self._dead_ends < _DEAD_ENDS:
            return late
        if not self._dead_ends:
            for _ in range(n):
                m = self._turn
                self._turn = m + 1 if m + 1 < n else 0
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
        """ms that the line rests: an answer may be longer than what is known of it."""
        since = ticks.diff(now, self._at)
        quiet = ticks.since(now, self.link.heard_at)
        return quiet if quiet < since < self._patience else since

    def _look_late(self, now):
        """Ask again, or give up, where no answer came in time; one that is coming is awaited."""
        since = ticks.diff(now, self._at)
        quiet = ticks.since(now, self.link.heard_at)
        # some frames of several came, and then no more
        short = self.SEVERAL and self.link.rx != self._rx and quiet >= _SHORT_MS
        if since < self._patience and not short:
            return
        if quiet < _QUIET_MS and since < 2 * self._patience:
            return
        self.link.end(self, now)
        if self._state != _WAITING:
            return  # what was left was the answer
        self._rest_from(now)
        if self._tries < _TRIES:
            return
        m = self._m
        self._m = -1
        self._tries = 0
        self._doubt[m] = 0
        self.missed = (self.missed + 1) & 0x1FFFFFFF
        if self._command:
            self._command = False
            self._told[m] = _UNHEARD
            self._next_teller()  # who doesn't answer must not keep the others from being told
            return
        self._due[m] = 0
        if self.SELDOM and self._step + 1 == self.steps(m):
            return
        self._told[m] = _UNTOLD  # it may start anew, and has forgotten
        if self._silent[m]:
            self._dead_ends += 1
        if self._silent[m] <= _OF_LATE:
            self._silent[m] += 1

    # --- what boards are told ---

    def command(self, m, now):
        """Tell member m something where that is due; True where its answer is to be awaited."""
        ours = self._ours(m)
        also = self._also[m]
        self._also[m] = 0
        if also and (self._off[m] == OFF) == ours:
            return self.tell_other_fet(m, also - 1)
        if self._rated[m] and self._wants_fets(m, ours, now):
            self._fets_at[m] = now
            if ours:
                self._off[m] = OFF
            elif self._off[m]:
                self._off[m] = ON if self._off[m] == OFF else AGAIN
            return self.tell_fets(m, not ours)
        if self.ABILITIES & BALANCE_ON_OFF:
            on = 1 if self.wants(self.members[m]) else 0
            told = self._told[m]
            due = ticks.since(now, self._told_at[m]) >= _TELL_MS
            if told != on and told != _UNHEARD or due and (on or told == _UNHEARD):
                self._told[m] = on
                self._told_at[m] = now
                return self.tell_balance(m, on)
        return False

    def _wants_fets(self, m, ours, now):
        """Whether member m is to be told its FETs: open, or closed again after such a word.

        Those that it opened by itself are told to close only while its contactors are open.
        """
        fets = self._fets[m]
        off = self._off[m]
        if off and ours != (off == OFF):
            return True  # it was told the opposite
        if ours:
            due = fets != 0
        else:
            due = fets != 3 and (off or not self.energised(m))
        return due and (not self._fets_at[m] or ticks.since(now, self._fets_at[m]) >= _TELL_MS)
