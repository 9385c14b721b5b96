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
        self._suspect = False  # some contact disagrees, or did of late
        self._at = 0  # tick of the last look
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
        lost = weld = -1
        for i in range(3):
            closed = self._hal.feedback(self._first + i)
            if closed == self._coils[i] or closed is None or self.ignored >> i & 1:
                if self._suspect:
                    self._agrees(i, ms)
                continue
            self._suspect = True
            if self._disagrees(i, ms):
                if self._coils[i]:
                    lost = i
                else:
                    weld = i
                    self._welded |= 1 << i
        if not self._suspect and not self._lost and not self._welded:
            return
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
        elif self._welded and not self.closed_without_coil():
            self._welded = 0
            f.clear(faults.CONTACTOR_WELDED, self._first)
        left = self._differs_ms
        self._suspect = bool(self._differed or left[0] or left[1] or left[2])

    def _disagrees(self, i, ms):
        """A contact and its coil disagree; True where they did for `feedback_delay`."""
        if not self._differed >> i & 1:
            self._differed |= 1 << i  # it counts from here on
            return False
        if 0 <= ms <= _LONGEST_STEP_MS:
            self._differs_ms[i] += ms
        if self._differs_ms[i] < self._delay:
            return False
        self._differs_ms[i] = self._delay
        return True

    def _agrees(self, i, ms):
        """A contact follows its coil."""
        self._differed &= ~(1 << i)
        if 0 <= ms <= _LONGEST_STEP_MS:
            ms = self._differs_ms[i] - 2 * ms
            self._differs_ms[i] = ms if ms > 0 else 0

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
