"""What drivers of commercial boards share, polled or broadcasting: whether it is the board of the
pack file, its readings, its alarms, its FETs. Nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms.pack import BALANCING, FRESH, NEW, SEEN
from bms.protection import fault_ids as F
from bms.slaves.base import Driver
from bms.ticks import MASK

_JUMP_MV = const(100)
JUMP_DC = const(50)
_NOW = const(0x80)  # of a conflict: the running scan has a contradiction
BOTH_FETS = const(3)  # FETs: bit 0 charge, bit 1 discharge
NO_SENSOR_DC = const(-400)  # what an open sensor reads, or is taken for

# what the FETs of a board were commanded, until it reports that both conduct
OFF = const(1)
ON = const(2)
AGAIN = const(3)  # on, more than once


def word(data, at):
    """Two bytes, high byte first."""
    return data[at] << 8 | data[at + 1]


def word_le(data, at):
    """Two bytes, low byte first."""
    return data[at] | data[at + 1] << 8


class CommercialDriver(Driver):
    """Base of `PolledDriver` and `BroadcastDriver`; see `Driver` for its fields."""

    SLOW = True
    PARTS = 1  # bits of `fit` that must all be good before a board is known
    WEAK = False  # damage can pass its checksum: a jump beyond hard bounds needs a second answer
    CHEAP = False  # polling again costs little: any jump needs a second answer
    ALARM_MS = 0  # 0: two scans
    MOST_MV = 8000  # a cell that reads more is no reading
    MOST_DC = 1500  # a sensor that reads this much or more is none

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self._low_mv = limits.hard_low_mv
        self._high_mv = limits.hard_high_mv
        self._high_dc = limits.hard_high_dc
        self._want = array("H", [self.PARTS] * n)
        self._good = array("H", [0] * n)  # parts that matched
        self._misfit = array("H", [0] * n)  # parts that did not, once
        self._wrong = bytearray(n)
        self._conflict = bytearray(n)  # not 0: its readings are evaluated, and not stored
        self._contradictions = bytearray(n)  # scans in a row with contradictions, less clean ones
        self._chain = -1  # modules of a chain that answer, as `chain_counted` had it last
        self._listening = False
        self._rated = bytearray([config.slaves[i].fets for i in members])
        self._fets = bytearray([BOTH_FETS] * n)  # FETs that conduct, as the board reports
        self._opened = bytearray(n)  # it opened one by itself
        self._off = bytearray(n)  # 0, or what its FETs were commanded: OFF, ON, AGAIN

    def listen(self):
        """Take every answer from now on, whoever polled for it: for captures."""
        self._listening = True
        for slave in self.members:
            self.pack.known[slave] = 1

    def fit(self, m, part, fits, found):
        """Whether readings of member m may be stored: the board is the one of the pack file.

        part: a bit for what this answer shows; fits: it shows what the pack file says; found: the
        count that it shows. A misfit counts when it is seen twice. A board is known when it has
        shown all that is wanted, and nothing else.
        """
        slave = self.members[m]
        pack = self.pack
        known = pack.known[slave]
        if fits:
            self._misfit[m] &= ~part
            self._good[m] |= part & self._want[m]
            whole = self._good[m] == self._want[m] and not self._misfit[m]
            if whole and not known and self.confirmed(m):
                pack.known[slave] = 1
                self._wrong[m] = 0
                self.clear_if_last(F.SLAVE_MISMATCH, m, self._wrong)
            return known
        if self._misfit[m] & part:
            self._good[m] &= ~part
            pack.known[slave] = 0
            self._wrong[m] = 1
            self.faults.set(F.SLAVE_MISMATCH, slave, found)
        self._misfit[m] |= part
        return 0

    def chain_counted(self, found, missing):
        """Modules of a chain that answer; missing: the first member that does not, -1 = all do."""
        if found == self._chain:
            return
        self._chain = found
        for slave in self.members:
            self.faults.clear(F.CHAIN_INCOMPLETE, slave)
        if missing >= 0:
            self.faults.set(F.CHAIN_INCOMPLETE, self.members[missing], found)

    def lost_ms(self, need_ms):
        """ms that one lost answer may cost beyond two scans, of which each takes `need_ms`."""
        return need_ms

    def confirmed(self, m):
        """Whether what member m showed is enough to know it."""
        return True

    def cell(self, m, i, mv, now, balancing=False):
        """Store `mv` of cell i (from 0) of member m; beyond hard bounds it is evaluated at once."""
        pack = self.pack
        at = pack.first_cell[self.members[m]] + i
        out = mv < self._low_mv or mv > self._high_mv
        if self._conflict[m]:
            if out:
                self.limits.hard_cell(at, mv)
            return
        if (out and self.WEAK or self.CHEAP) and self._jumps(
            m, pack.cell_flags[at], mv - pack.cell_mv[at], _JUMP_MV
        ):
            return
        pack.cell_mv[at] = mv
        pack.cell_flags[at] = FRESH | SEEN | NEW | BALANCING if balancing else FRESH | SEEN | NEW
        pack.cell_at[at] = now
        if out:
            self.limits.hard_cell(at, mv)

    def temp(self, m, i, dc, now):
        """Store `dc` (0.1 degC) of sensor i (from 0) of member m; evaluated before this returns.

        True where it was stored.
        """
        pack = self.pack
        at = pack.first_temp[self.members[m]] + i
        out = dc > self._high_dc
        if self._conflict[m]:
            if out:
                self.limits.hard_temp(at, dc)
            return False
        if (out and self.WEAK or self.CHEAP) and self._jumps(
            m, pack.temp_flags[at], dc - pack.temp_dc[at], JUMP_DC
        ):
            return False
        pack.temp_dc[at] = dc
        pack.temp_flags[at] = FRESH | SEEN | NEW
        pack.temp_at[at] = now
        if out:
            self.limits.hard_temp(at, dc)
        return True

    def _jumps(self, m, flags, by, most):
        """Whether a reading is so far from the last one that a second answer must confirm it.

        Damage can leave a checksum unchanged: one such answer must not open contactors.
        """
        return flags & FRESH and not -most <= by <= most and self.suspects(m)

    def suspects(self, m):
        """Mark member m's answer as suspect: another must confirm it; False if it was so before."""
        raise NotImplementedError

    def contradicts(self, m):
        """Two boards seem to answer as member m: its readings are evaluated, and not stored.

        For the running scan; for the next one as well where the one before had a contradiction.
        """
        self.repeated = (self.repeated + 1) & MASK
        if not self._conflict[m] & _NOW:
            self._conflict[m] |= _NOW
            self.pack.invalidate(self.members[m])

    def settle(self, m):
        """A scan has ended: count scans in which two boards answered as member m."""
        self.count_contradiction(self._contradictions, m, self._conflict[m] & _NOW)
        # a single one may be a late answer: the next scan is stored
        self._conflict[m] = self._contradictions[m] > 1

    def board(self, m, mv, die_dc, now):
        """Member m's own measurement of its stack in mV, and its warmest part in 0.1 degC."""
        slave = self.members[m]
        pack = self.pack
        pack.stack_mv[slave] = mv
        pack.die_dc[slave] = die_dc
        pack.stack_at[slave] = now
        pack.stack_ok[slave] = 0 if self._conflict[m] else 1

    def alarms(self, m, trip, warn, now):
        """Member m reports alarms, bits of base.A_*: `trip` trips, `warn` only warns."""
        slave = self.members[m]
        self.pack.status_at[slave] = now
        new = trip & ~self.pack.slave_flags[slave]
        if new and self.WEAK and not self._listening and self.suspects(m):
            return  # a new trip needs a second answer, as a reading that jumps
        self.pack.slave_flags[slave] = warn << 8 | trip
        if trip:
            self.alarm_received(slave, trip, now)

    def switches(self, m, charge, discharge):
        """Whether member m's own charge and discharge FETs conduct."""
        fets = (1 if charge else 0) | (2 if discharge else 0)
        off = self._off[m]
        # a board that was commanded to close them needs a while
        opened = fets != BOTH_FETS and off != OFF and off != ON and not self._wants_open(m)
        if opened and not self._opened[m] and self.WEAK and not self._listening:
            if self.suspects(m):
                return  # as a new trip
        self._fets[m] = fets
        self._opened[m] = opened
        if fets == BOTH_FETS and off != OFF:
            self._off[m] = 0
        if opened:
            self.faults.set(F.SLAVE_SWITCH, self.members[m], fets)
        else:
            self.clear_if_last(F.SLAVE_SWITCH, m, self._opened)

    def energised(self, m):
        """Whether some contactor of member m's string is closed."""
        return self.pack.energised[self.pack.string_of_slave[self.members[m]]]

    def _wants_open(self, m):
        """Whether the master wants its FETs open: its string has tripped, contactors are open."""
        string = self.pack.string_of_slave[self.members[m]]
        return bool(self._rated[m] and self.faults.blocking(string) and not self.energised(m))
