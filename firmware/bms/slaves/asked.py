"""Boards on one serial line that speak when they are asked, one after the other.

What their drivers share: who is asked next and how often, the gap that a board needs between
questions, boards that are silent, boards that bring other cells than configured, and commands
between two scans. A subclass knows the questions and reads the answers. Nothing here allocates.
"""

from array import array

from micropython import const

from bms import faults as F
from bms import ticks
from bms.pack import BLEEDING, FRESH, NEW, SEEN
from bms.slaves.base import BALANCE_ON_OFF, Driver

_IDLE, _WAITING, _RESTING = range(3)
_TRIES = const(2)
_TELL_MS = const(5000)  # what a board was told is told again after it
_LOOK_MS = const(50)  # between two looks at who has to be told something
_UNTOLD = const(2)
_JUMP_MV = const(100)
_JUMP_DC = const(50)
COMMAND = const(-1)


class Asked(Driver):
    """Base of the drivers of boards that are asked; see `Driver` for its fields.

    late: scans that began while the one before still ran, and were left out.
    """

    SLOW = True
    STEPS = 1  # questions to each board in a scan
    PARTS = 1  # bits of `fit` that must all be good before a board is known
    GAP_MS = 0  # a board's own minimum from an answer to the next question on its line
    ANSWER_MS = 100  # from the end of a question to the begin of its answer, at most
    TYPICAL_MS = 5  # the same as it usually is
    WEAK = False  # its checksum is a sum: a jump out of the hard bounds is asked for once more
    LONGEST = 64  # bytes of the longest question and its answer
    ALARM_MS = 0  # 0: two scans

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.late = 0
        self._low_mv = config.cell_hard_min_mv
        self._high_mv = config.cell_hard_max_mv
        self._high_dc = config.temp_hard_max_dc
        port = config.link_of(config.slaves[members[0]].link)
        self._gap = port.gap_ms if port and port.gap_ms else self.GAP_MS
        self._answer = port.answer_ms if port and port.answer_ms else self.ANSWER_MS
        self._patience = self._answer + self.LONGEST * 10000 // link.rate + 5
        self._state = _IDLE
        self._m = -1  # member whose answer is awaited, or who is asked on
        self._step = 0
        self._tries = 0
        self._command = False  # what is awaited answers a command
        self._at = 0
        self._due = bytearray(n)
        self._silent = bytearray(n)
        self._turn = 0  # of the silent ones
        self._dead_end = False
        self._good = bytearray(n)  # parts that fitted
        self._misfit = bytearray(n)  # parts that did not, once
        self._wrong = bytearray(n)
        self._look_at = 0
        self._told = bytearray([_UNTOLD] * n)  # balancing: off, on
        self._told_at = array("i", [0] * n)
        self._doubt = bytearray(n)  # 1: something in this answer jumped, 2: the one before did
        self._listening = False
        self._rated = bytearray([config.slaves[i].fets for i in members])
        self._fets = bytearray([3] * n)  # bit 0 charge, bit 1 discharge is on, as the board says
        self._fets_at = array("i", [0] * n)

    # --- what a subclass does ---

    def ask(self, m, step):
        """Send question `step` (0..STEPS-1) to member m; False where the port took not all."""
        raise NotImplementedError

    def size(self, m, step):
        """Bytes of that question and its answer."""
        raise NotImplementedError

    def steps(self, m):
        """Questions to member m in a scan."""
        return self.STEPS

    def tell_balance(self, m, on):
        """Send a board the word to balance, or not to; False where nothing was sent."""
        return False

    def tell_fets(self, m, on):
        """Send a board the word to close its FETs, or to open them; False: nothing was sent."""
        return False

    def listen(self):
        """Take every answer from now on, whoever asked for it: for captures."""
        self._listening = True
        for slave in self.members:
            self.pack.known[slave] = 1

    # --- what the master calls ---

    def scan_ms(self, config):
        """ms that a scan of all members takes at the least: bytes, answers and gaps."""
        number = questions = 0
        for m in range(len(self.members)):
            for step in range(self.steps(m)):
                number += self.size(m, step)
                questions += 1
        return number * 10000 // self.link.rate + questions * (self._gap + self.TYPICAL_MS) + 1

    def begin(self, seq, now):
        """Start a scan, unless the one before still runs."""
        if not self.done:
            self.late = (self.late + 1) & 0x1FFFFFFF
            return
        self.done = False
        self._dead_end = False
        for m in range(len(self._due)):
            self._due[m] = 1
        if not self._command:
            self._m = -1

    def step(self, now):
        """Take what has come; ask on, or again; between scans tell boards what to do."""
        self.link.poll(self, now)
        if self._alarm_of >= 0:
            self.alarm_step(now)
        if self._state == _WAITING:
            self._look_late(now)
        # a tick may be nearly over as it is read: one more is sure to be enough
        if self._state == _RESTING and ticks.diff(now, self._at) > self._gap:
            self._state = _IDLE
        if self._state == _IDLE:
            self._next(now)

    def rest(self, now):
        """ms until `step` has something to do by time."""
        since = ticks.diff(now, self._at)
        if self._state == _RESTING:
            return self._gap + 1 - since
        if self._state == _WAITING:
            return self._patience - since
        return 1000 if self.done else 0

    # --- what a subclass calls ---

    def waits_for(self, m, step):
        """True where member m's answer to question `step` is awaited; COMMAND: to a command."""
        if self._listening:
            return True
        awaited = COMMAND if self._command else self._step
        return self._state == _WAITING and self._m == m and awaited == step

    def answered(self, now):
        """The awaited answer has come whole."""
        m = self._m
        if m < 0:
            return
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

    def fit(self, m, part, fits, found):
        """Whether readings of member m may be taken: it brings what the pack file says.

        part: a bit of PARTS that this answer shows; found: what it brings. A misfit is believed
        when it is said twice.
        """
        slave = self.members[m]
        pack = self.pack
        known = pack.known[slave]
        if fits:
            self._misfit[m] &= ~part
            self._good[m] |= part
            if self._good[m] == self.PARTS and not known:
                pack.known[slave] = 1
                self._wrong[m] = 0
                if not any(self._wrong):
                    self.none_has(F.SLAVE_MISMATCH)
            return known
        if self._misfit[m] & part:
            self._good[m] &= ~part
            pack.known[slave] = 0
            self._wrong[m] = 1
            self.faults.raised(F.SLAVE_MISMATCH, slave, found)
        self._misfit[m] |= part
        return 0

    def cell(self, m, i, mv, now, bleeding=False):
        """Cell i (from 0) of member m reads `mv`; judged before this ends."""
        pack = self.pack
        at = pack.first_cell[self.members[m]] + i
        out = mv < self._low_mv or mv > self._high_mv
        if (
            out
            and self.WEAK
            and self._jumps(m, pack.cell_flags[at], mv - pack.cell_mv[at], _JUMP_MV)
        ):
            return
        pack.cell_mv[at] = mv
        pack.cell_flags[at] = FRESH | SEEN | NEW | BLEEDING if bleeding else FRESH | SEEN | NEW
        pack.cell_at[at] = now
        if out:
            self.limits.hard_cell(at, mv)

    def temp(self, m, i, dc, now):
        """Sensor i (from 0) of member m reads `dc` in 0.1 degC; judged before this ends."""
        pack = self.pack
        at = pack.first_temp[self.members[m]] + i
        out = dc > self._high_dc
        if (
            out
            and self.WEAK
            and self._jumps(m, pack.temp_flags[at], dc - pack.temp_dc[at], _JUMP_DC)
        ):
            return
        pack.temp_dc[at] = dc
        pack.temp_flags[at] = FRESH | SEEN | NEW
        pack.temp_at[at] = now
        if out:
            self.limits.hard_temp(at, dc)

    def _jumps(self, m, flags, by, most):
        """Whether a reading beyond hard bounds is so far from the last that it must be said twice.

        Two flipped bits can leave a sum as it was: one such answer may not open contactors.
        """
        if self._doubt[m] == 2 or not flags & FRESH or -most <= by <= most:
            return False
        self._doubt[m] = 1
        return True

    def board(self, m, mv, die_dc, now):
        """Member m's own measurement of its stack, and the temperature of its warmest part."""
        slave = self.members[m]
        pack = self.pack
        pack.stack_mv[slave] = mv
        pack.die_dc[slave] = die_dc
        pack.stack_at[slave] = now
        pack.stack_ok[slave] = 1

    def alarms(self, m, trip, warn, now):
        """What member m says of itself, as bits of base.A_*: what trips, what only warns."""
        slave = self.members[m]
        self.pack.slave_flags[slave] = warn << 8 | trip
        if trip:
            self.alarmed(slave, trip, now)

    def switches(self, m, charge, discharge):
        """Whether member m's own charge and discharge FETs conduct."""
        self._fets[m] = (1 if charge else 0) | (2 if discharge else 0)
        slave = self.members[m]
        if self._fets[m] != 3 and not self._ours(m):
            self.faults.raised(F.SLAVE_SWITCH, slave, self._fets[m])
            return
        for other in range(len(self._fets)):
            if self._fets[other] != 3 and not self._ours(other):
                return
        self.none_has(F.SLAVE_SWITCH)

    # --- who is asked ---

    def _next(self, now):
        if not self.done:
            if self._m < 0:
                self._m = self._choose()
                self._step = 0
            if self._m >= 0:
                self._tries += 1
                self._wait_from(now)
                self.ask(self._m, self._step)
                return
            self.done = True
        if ticks.diff(now, self._look_at) < _LOOK_MS:
            return
        self._look_at = now
        for m in range(len(self._due)):
            if not self._silent[m] and self.pack.known[self.members[m]]:
                self.link.forget()
                if self.command(m, now):
                    self._m = m
                    self._command = True
                    self._tries = _TRIES
                    self._wait_from(now)
                    return

    def _choose(self):
        """The next member to ask; silent ones come last, and until one stays silent."""
        n = len(self._due)
        for m in range(n):
            if self._due[m] and not self._silent[m]:
                return m
        if not self._dead_end:
            for _ in range(n):
                m = self._turn
                self._turn = m + 1 if m + 1 < n else 0
                if self._due[m]:
                    return m
        return -1

    def _wait_from(self, now):
        self.link.forget()
        self._state = _WAITING
        self._at = now

    def _rest_from(self, now):
        self._at = now
        self._state = _RESTING if self._gap else _IDLE

    def _look_late(self, now):
        """Ask again, or give up, where no answer came in time; one that is coming is awaited."""
        since = ticks.diff(now, self._at)
        if since < self._patience:
            return
        if ticks.diff(now, self.link.heard_at) < 5 and since < 2 * self._patience:
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
        self.missed = (self.missed + 1) & 0x1FFFFFFF
        if self._command:
            self._command = False
            return
        self._due[m] = 0
        self._told[m] = _UNTOLD  # it may start anew, and has forgotten
        if self._silent[m]:
            self._dead_end = True
        self._silent[m] = 1

    # --- what boards are told ---

    def command(self, m, now):
        """Tell member m something where that is due; True where its answer is to be awaited."""
        if self._rated[m]:
            open_ = self._ours(m)
            if self._fets[m] != (0 if open_ else 3):
                if ticks.diff(now, self._fets_at[m]) >= _TELL_MS or not self._fets_at[m]:
                    self._fets_at[m] = now
                    return self.tell_fets(m, not open_)
        if self.ABILITIES & BALANCE_ON_OFF:
            on = 1 if self.wants(self.members[m]) else 0
            if on != self._told[m] or on and ticks.diff(now, self._told_at[m]) >= _TELL_MS:
                self._told[m] = on
                self._told_at[m] = now
                return self.tell_balance(m, on)
        return False

    def _ours(self, m):
        """Whether its FETs are to be open: its string has tripped, and its contactors are open."""
        string = self.pack.string_of_slave[self.members[m]]
        return self._rated[m] and self.faults.held(string) and not self.pack.energised[string]
