"""Auxiliary contacts of one string: does each contactor follow its coil?

A contact that stays open while its coil is on is the fault `contactor_feedback`, one that stays
closed while its coil is off is `contactor_welded`; both after `feedback_delay`. A contact that
flickers counts as well: time in which it follows its coil takes back twice as much, no more.
Nothing here allocates.
"""

from array import array

from micropython import const

from bms import ticks
from bms.protection import fault_ids as faults

_LONGEST_STEP_MS = const(1000)

MINUS, PRECHARGE, PLUS = range(3)  # contactors of a string, as coils and feedback number them


class Feedback:
    """wired: the pack file says that auxiliary contacts are there.

    ignored: bits of contacts that no longer count, after the command `clear welded`.
    """

    def __init__(self, config, hal, faults_, coils, string):
        """coils: bytearray(3) that the sequence writes, 1 = the coil is on."""
        self._hal = hal
        self._faults = faults_
        self._coils = coils
        self._first = 3 * string  # number of its minus contactor
        self.wired = bool(config.contactor_feedback)
        self.ignored = 0
        self._delay = config.feedback_delay_ms
        self._differs_ms = array("h", [0] * 3)  # for how long contact and coil disagree
        self._differed = 0  # bits of contacts that disagreed at the last look
        self._at = 0  # tick of that look
        self._lost = False  # whether the fault of that name is set
        self._welded = 0  # bits of contacts with the other fault

    def coil_changed(self, which):
        """A coil was just switched: the delay of its contact starts again."""
        self._differs_ms[which] = 0
        self._differed &= ~(1 << which)

    def unreadable(self):
        """True where contacts are configured, but the board reads none of a main contactor."""
        hal = self._hal
        return self.wired and (
            hal.feedback(self._first + MINUS) is None or hal.feedback(self._first + PLUS) is None
        )

    def proven_closed(self, which):
        """True where the contact is closed, or none is in use; `step` limits the wait for it."""
        if not self.wired or self.ignored >> which & 1:
            return True
        return self._hal.feedback(self._first + which) == 1

    def first_closed(self):
        """Number of the first contactor whose contact is closed, -1 = none is."""
        if self.wired:
            for i in range(3):
                if self._hal.feedback(self._first + i):
                    return self._first + i
        return -1

    def closed_without_coil(self):
        """True where a contact reports closed, or did of late, while its coil is off: a weld?"""
        if self.wired:
            for i in range(3):
                if not self._coils[i] and not self.ignored >> i & 1:
                    if self._differs_ms[i] or self._hal.feedback(self._first + i):
                        return True
        return False

    def step(self, now, energised):
        """Compare contacts with coils; set and clear faults. energised: a coil is on."""
        if not self.wired:
            return
        ms = ticks.diff(now, self._at)
        self._at = now
        if not 0 <= ms <= _LONGEST_STEP_MS:
            ms = 0  # the first look, or one after a long time: no tick to count from
        hal = self._hal
        coils = self._coils
        lost = weld = -1
        off = True  # each contact of a coil that is off has reported open for long enough
        for i in range(3):
            closed = hal.feedback(self._first + i)
            differs_ms = self._differs_ms[i]
            if closed is None or closed == coils[i] or self.ignored >> i & 1:
                self._differed &= ~(1 << i)
                differs_ms -= 2 * ms
                self._differs_ms[i] = differs_ms if differs_ms > 0 else 0
            elif self._differed >> i & 1:
                differs_ms += ms
                if differs_ms >= self._delay:
                    differs_ms = self._delay
                    if coils[i]:
                        lost = i
                    else:
                        weld = i
                        self._welded |= 1 << i
                self._differs_ms[i] = differs_ms
            else:
                self._differed |= 1 << i
            if not coils[i] and (self._differs_ms[i] or self._differed >> i & 1):
                off = False
        f = self._faults
        if lost >= 0:
            self._lost = True
            f.set(faults.CONTACTOR_FEEDBACK, self._first + lost, self._delay)
        elif self._lost and not energised:
            # visible only while a coil is on; the next closing shows whether it works again
            self._lost = False
            f.clear(faults.CONTACTOR_FEEDBACK, self._first)
        if weld >= 0:
            f.set(faults.CONTACTOR_WELDED, self._first + weld, self._delay)
        elif self._welded and off:
            self._welded = 0
            f.clear(faults.CONTACTOR_WELDED, self._first)

    def ignore_welded(self):
        """Ignore contacts that are found welded, until the next start.

        For the command `clear welded`: somebody has checked that the contactors are open. True
        where there was such a contact.
        """
        found = False
        for i in range(3):
            if self._welded >> i & 1:
                self.ignored |= 1 << i
                self._differs_ms[i] = 0
                self._differed &= ~(1 << i)
                self._faults.set(faults.FEEDBACK_IGNORED, self._first + i, 0)
                found = True
        if found:
            self._welded = 0
            self._faults.clear(faults.CONTACTOR_WELDED, self._first)
        return found
