"""Auxiliary contacts of one string: does each contactor follow its coil?

A contact that stays open while its coil is on is the fault `contactor_feedback`, one that stays
closed while its coil is off is `contactor_welded`; both after `feedback_delay`. Nothing here
allocates.
"""

from array import array

from bms import ticks
from bms.protection import fault_ids as faults

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
        self._differs = bytearray(3)  # 1 = contact and coil disagree
        self._differs_at = array("i", [0] * 3)
        self._lost = self._welded = False  # whether the fault of that name is set

    def coil_changed(self, which):
        """A coil was just switched: the delay of its contact starts again."""
        self._differs[which] = 0

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

    def step(self, now, energised):
        """Compare contacts with coils; set and clear faults. energised: a coil is on."""
        if not self.wired:
            return
        hal = self._hal
        first = self._first
        coils = self._coils
        differs = self._differs
        lost = welded = -1
        none = True
        for i in range(3):
            closed = hal.feedback(first + i)
            if closed is None or closed == coils[i] or self.ignored >> i & 1:
                differs[i] = 0
                continue
            none = False
            if not differs[i]:
                differs[i] = 1
                self._differs_at[i] = now
            elif ticks.diff(now, self._differs_at[i]) >= self._delay:
                if coils[i]:
                    lost = i
                else:
                    welded = i
        f = self._faults
        if lost >= 0:
            self._lost = True
            f.set(faults.CONTACTOR_FEEDBACK, first + lost, self._delay)
        elif self._lost and not energised:
            # visible only while a coil is on; the next closing shows whether it works again
            self._lost = False
            f.clear(faults.CONTACTOR_FEEDBACK, first)
        if welded >= 0:
            self._welded = True
            f.set(faults.CONTACTOR_WELDED, first + welded, self._delay)
        elif self._welded and none:
            self._welded = False
            f.clear(faults.CONTACTOR_WELDED, first)

    def ignore_welded(self):
        """Ignore contacts that report closed with their coil off, until the next start.

        For the command `clear welded`: somebody has checked that the contactors are open. True
        where there was such a contact.
        """
        found = False
        for i in range(3):
            if not self._coils[i] and self._differs[i]:
                self.ignored |= 1 << i
                self._differs[i] = 0
                self._faults.set(faults.FEEDBACK_IGNORED, self._first + i, 0)
                found = True
        if found:
            self._welded = False
            self._faults.clear(faults.CONTACTOR_WELDED, self._first)
        return found
