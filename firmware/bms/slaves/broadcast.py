"""Boards on a CAN bus that broadcast: they send all their values again and again, without polls.

What their drivers share beyond `CommercialDriver`: when a scan has all boards, silent boards, two
boards with one number. A subclass gets the frames: it finds the member, calls `received`, then
`fit`, then `cell`, `temp`, `board`. Nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.pack import FRESH
from bms.slaves.commercial import JUMP_DC, NO_SENSOR_DC, CommercialDriver, word, word_le
from bms.ticks import MASK

LEAST_MV = const(500)  # below it there is no cell, or none has been measured yet

_SILENT = const(2)  # scans in a row without all wanted parts: scans do not wait for it any more
_SWING_MV = const(50)
_SWINGS = const(8)  # more in a row cannot be a load that changes
_MANY = const(100)  # the same, where no other module could show a load in step with a scan
_UP = const(1)
_DOWN = const(2)


class BroadcastDriver(CommercialDriver):
    """Base of the drivers of boards that broadcast; see `Driver` for its fields.

    A scan is done when every board that was not silent lately has sent all its parts since the scan
    began, or when the next one begins. `answer` in [[link]] is the time within which a board sends
    everything again, 0: PERIOD_MS.
    """

    PERIOD_MS = 100
    IGNORED = ("gap",)
    SLOTS = 1  # for `swings`, of each member
    WORDS = 4  # cells in a frame
    LITTLE = False  # they come with the low byte first
    NO_CELL = -1  # what a cell that is not there reads

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        port = config.link_of(config.slaves[members[0]].link)
        self._period = port.answer_ms if port and port.answer_ms else self.PERIOD_MS
        self._member = bytearray(64)  # node -> member + 1
        for m in range(n):
            self._member[config.slaves[members[m]].node] = m + 1
            pack.die_dc[members[m]] = NO_SENSOR_DC
        self._got = array("H", [0] * n)  # parts received in the running scan
        self._due = bytearray(n)  # the running scan waits for it
        self._lack = bytearray(n)  # scans in a row that ended without all its parts
        self._whole = bytearray(n)  # it has sent all wanted parts, and no other, for a scan
        self._warm_at = array("i", [0] * n)  # when its temperatures arrived
        self._missing = 0
        self._part = 0  # of the frame that is read now
        self._read = 0  # words in it that read as cells
        self._blank = array("H", [0] * n)  # parts in which no word read as a cell
        self._suspect = array("H", [0] * n)  # parts with a jump that was not stored
        self._second = 0  # this part was suspect when it arrived before
        self._value = array("H", [0] * (n * self.SLOTS))
        self._before = array("H", [0] * (n * self.SLOTS))
        self._swings = bytearray(n * self.SLOTS)
        self._steps = bytearray(n)  # _UP, _DOWN: steps in the running scan
        self._stepped = bytearray(n)  # in the one before

    # --- what a subclass may do ---

    def send_due(self, now):
        """Send what is due: commands, in every step."""

    # --- what the master calls ---

    def scan_ms(self, config):
        """ms within which every member sends everything."""
        return self._period

    def begin(self, seq, now):
        """Start a scan; the parts that the one before still waits for are missed."""
        self._end_scan()
        missing = 0
        for m in range(len(self._due)):
            self._got[m] = 0
            self._due[m] = self.pack.known[self.members[m]] and self._lack[m] < _SILENT
            missing += self._due[m]
        self._missing = missing
        self.done = not missing

    def step(self, now):
        """Read what has arrived, and send what is due."""
        self.link.poll(self.sink, now)
        if self._alarms:
            self.alarm_step(now)
        self.send_due(now)

    # --- what a subclass calls ---

    def member(self, node):
        """The member with a node's number; -1, and counted, where none has it."""
        m = self._member[node] - 1 if 0 <= node < 64 else -1
        if m < 0:
            self.unexpected = (self.unexpected + 1) & MASK
        return m

    def received(self, m, part):
        """A part of member m has arrived: the bit of one that is wanted, or should not be there."""
        self._part = part
        self._second = self._suspect[m] & part
        self._suspect[m] &= ~part
        self._got[m] |= part
        if self._due[m] and self._got[m] & self._want[m] == self._want[m]:
            self._due[m] = 0
            self._missing -= 1
            if not self._missing:
                self.done = True

    def confirmed(self, m):
        """Whether member m has sent all wanted parts, and no other, for a whole scan."""
        return self._whole[m]

    def suspects(self, m):
        """Mark the part as suspect, it must arrive again; False where it was suspect before."""
        if self._second:
            return False
        self._suspect[m] |= self._part
        return True

    # parameters: counts of one frame; a tuple would allocate
    def may_store(self, m, part, first, want, good, more, none):
        """Whether cells may be stored from a frame of member m, the first of which is `first`.

        want: configured cells in it; good: those of them that read as cells; none: those that read
        as not there; more: other words that read as cells. A board that has restarted may send
        zeros until it has measured: a zero is a reading only next to cells that read.
        """
        if want <= 0 and not more:
            self._misfit[m] &= ~part
            return 0
        self._blank[m] &= ~part
        if want > 0 and not good and not more and self.pack.known[self.members[m]]:
            self._blank[m] |= part
            if want > 1 or self._blank[m] != part:
                return 0  # the old readings age
        whole = good >= want or self.pack.known[self.members[m]]
        if not whole and not none and not more:
            return 0  # it has just started, and has not measured all cells
        return self.fit(m, part, whole and not more, first + good + more)

    def cells_of(self, m, part, first, data):
        """How many cells may be stored from a frame of words in mV; first: index of the first."""
        read = word_le if self.LITTLE else word
        want = self.pack.slave_cells[self.members[m]] - first
        good = more = none = 0
        for i in range(self.WORDS):
            mv = read(data, 2 * i)
            cell = LEAST_MV <= mv <= self.MOST_MV
            if i < want:
                good += cell
                none += mv == self.NO_CELL
            else:
                more += cell
        self._read = good + more
        if want > self.WORDS:
            want = self.WORDS
        return want if self.may_store(m, part, first, want, good, more, none) else 0

    def take_cells(self, m, first, n, data, now, balanced=0):
        """Store n cells of a frame from cell `first` on; balanced: a bit for each."""
        read = word_le if self.LITTLE else word
        for i in range(n):
            mv = read(data, 2 * i)
            if mv <= self.MOST_MV:  # else no reading: the last one ages
                self.cell(m, first + i, mv, now, balanced >> i & 1 != 0)

    def sensor(self, m, i, dc, warmest, now):
        """Store sensor i of member m; the warmest so far of those that stand for the board.

        Sensors that are not configured count only where none is.
        """
        temps = self.pack.slave_temps[self.members[m]]
        counts = self.temp(m, i, dc, now) if i < temps else not temps
        return dc if counts and dc > warmest else warmest

    def take_warmest(self, m, dc, now):
        """Store `dc` (0.1 degC), the warmest sensor, as member m's board temperature; True if
        stored.

        Where no sensor is configured, `temp` has checked none: a jump must arrive twice.
        """
        slave = self.members[m]
        if (
            not (self.pack.slave_temps[slave] or self._listening)
            and not -JUMP_DC <= dc - self.pack.die_dc[slave] <= JUMP_DC
            and self.suspects(m)
        ):
            return False
        self.pack.die_dc[slave] = dc
        self._warm_at[m] = now
        return True

    def temps_fresh(self, m, now):
        """Whether member m has sent its temperatures lately."""
        return ticks.since(now, self._warm_at[m]) <= 2 * self._period

    def sum_cells(self, m, now):
        """Store the sum of member m's cells as its stack voltage: the board measures none."""
        pack = self.pack
        slave = self.members[m]
        total = 0
        first = pack.first_cell[slave]
        for i in range(first, first + pack.slave_cells[slave]):
            if not pack.cell_flags[i] & FRESH:
                return
            total += pack.cell_mv[i]
        self.board(m, total, pack.die_dc[slave], now)

    def swings(self, m, slot, mv):
        """Detect two boards with one number, by a voltage in mV of each frame of member m.

        Where it jumps between two values from frame to frame, two boards send it, or the load
        pulses: then others of the port step as well, and all in one direction in a scan.
        """
        at = m * self.SLOTS + slot
        step = mv - self._value[at]
        back = mv - self._before[at]
        self._before[at] = self._value[at]
        self._value[at] = mv
        far = step if step > 0 else -step
        if 2 * far >= _SWING_MV:
            self._steps[m] |= _UP if step > 0 else _DOWN
        if far < _SWING_MV or 4 * (back if back > 0 else -back) > far:
            self._swings[at] = 0
        elif self._swings[at] < (_SWINGS if self._distinct(m) else _MANY):
            self._swings[at] += 1
        elif not self._pulses(m):
            self.contradicts(m)

    def _distinct(self, m):
        """Whether swings of member m can be distinguished from a load that pulses."""
        return len(self._stepped) > 1 or self._stepped[m] == _UP | _DOWN

    def _pulses(self, m):
        """Whether another member steps as under a load that pulses."""
        for i in range(len(self._stepped)):
            if i != m and (self._stepped[i] == _UP or self._stepped[i] == _DOWN):
                return True
        return False

    def _end_scan(self):
        for m in range(len(self._due)):
            self._stepped[m] = self._steps[m]
            self._steps[m] = 0
            want = self._want[m]
            self._whole[m] = self._good[m] == want and not self._misfit[m]
            if self._got[m] & want == want:
                self._lack[m] = 0
                # a part too many that does not arrive again was damage
                self._misfit[m] &= want | self._got[m]
            elif self._lack[m] < _SILENT - 1:
                self._lack[m] += 1  # a scan as short as their period may fall between two frames
            else:
                self._lack[m] = _SILENT
                if self.pack.known[self.members[m]]:
                    self.missed = (self.missed + 1) & MASK
            self.settle(m)
