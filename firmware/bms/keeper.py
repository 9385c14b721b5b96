"""Brings what happens to the store, and says when nothing can need to open, so that it may write.

Stepped every 40 ms by the master; nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import contactors as C
from bms import faults as F
from bms import store as S

_CHANGES = const(2)  # of faults that one step hands over


class Keeper:
    """Follows faults, freeze frames and contactors of a master into its store."""

    def __init__(self, master, config, store):
        self._m = master
        self._store = store
        self._followed = 0
        self._given = False  # the frame that is ready now
        self._seen = array("i", [0] * (2 * master.pack.strings))
        self._failed = 0
        self._sighted = master.inputs.guarding and not config.store_blind
        store.load()
        if store.lost:
            master.faults.raised(F.STORE_LOST, -1, 0)
        t = store.totals
        t[S.CONFIG_CRC] = config.crc
        crashed = t[S.CRASH_N] and t[S.CRASH_BOOT] == t[S.BOOT] - 1
        if crashed or master.board.reset_cause() == b"watchdog":
            # it ended by itself: a person shall know before anything closes again
            master.faults.raised(F.FIRMWARE, -1, t[S.CRASHES])
            master.faults.gone(F.FIRMWARE)

    def step(self, now):
        """Look at everything once."""
        m = self._m
        store = self._store
        faults = m.faults
        for _ in range(_CHANGES):
            if self._followed != faults.events:
                self._follow(faults)
        freeze = m.freeze
        freeze.held = store.framing
        if not freeze.ready:
            self._given = False
        elif not self._given and not store.framing:
            self._given = True
            place = faults.place[faults.first_slot]
            freeze.held = store.frame(faults.code[freeze.fault], place, freeze, freeze.bytes)
        quiet = not m.limits.judging and not freeze.recording()
        if self._sighted and m.strings.energised():
            quiet = False  # an erase of flash stops the interrupts that guard the loops
        closed = False
        t = store.totals
        seen = self._seen
        for c in m.strings.each:
            s = c.string
            if c.state == C.CLOSED:
                closed = True
            elif c.state != C.OPEN or c.energised():
                closed = True
                quiet = False
            if seen[2 * s] != c.closings:
                t[S.CLOSINGS + s] += c.closings - seen[2 * s]
                seen[2 * s] = c.closings
            if seen[2 * s + 1] != c.worn:
                t[S.LOADED + s] += c.worn - seen[2 * s + 1]
                seen[2 * s + 1] = c.worn
        # looked at closely only where there is something to write
        if closed and quiet and store.due(now, True):
            for c in m.strings.each:
                # a string that has left is no reason to wait
                if c.state == C.CLOSED:
                    quiet = quiet and not faults.held(c.string) and m.limits.still(c.string)
            for driver in m.drivers:
                quiet = quiet and driver.done
        store.step(now, quiet, closed)
        if store.failed != self._failed:
            self._failed = store.failed
            faults.raised(F.STORE_FAILED, -1, store.failed)
        elif store.written and not store.blocked:
            faults.gone(F.STORE_FAILED)

    def _follow(self, faults):
        """Hand over one change of a fault."""
        size = len(faults.event_slot)
        if faults.events - self._followed > size:
            self._followed = faults.events - size
        i = self._followed % size
        self._followed += 1
        slot = faults.event_slot[i]
        string = slot // faults.rows
        self._store.event(
            faults.event_change[i],
            faults.code[slot % faults.rows],
            -1 if string == faults.pack_scope else string,
            faults.event_place[i],
            faults.event_value[i],
            faults.event_at_s[i],
            faults.event_at_ms[i],
        )
