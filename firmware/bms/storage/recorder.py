"""Records events and freeze frames; allows flash writes only while no reading is near a limit.

The master steps it every 50 ms; it looks every 200 ms while nothing happens. Nothing here allocates
after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.contactors import sequence as C
from bms.energy import totals as S
from bms.protection import fault_ids as F

_LOOK_MS = const(200)  # between two steps while nothing has happened
_CHANGES = const(2)  # most events that one step hands to the store


class Recorder:
    """Copies events, freeze frames and counts of contactor operations of a master to its store."""

    def __init__(self, master, config, store):
        self._faults = master.faults
        self._freeze_frame = master.freeze_frame
        self._strings = master.strings
        self._limits = master.limits
        self._drivers = master.drivers
        self._store = store
        self._followed = 0  # number of events that the store has
        self._look_at = master.clock.now
        self._given = False  # the store has the frame that is ready now
        self._seen = array("i", [0] * (2 * master.pack.strings))  # closings, openings under load
        self._failed = 0
        # an erase of flash stops the interrupts that guard the inputs
        self._guarded = master.inputs.guarding and not config.store_while_closed
        store.load()
        if store.lost:
            master.faults.set(F.STORE_LOST, -1, 0)
        t = store.totals
        crashed = t[S.CRASH_N] and t[S.CRASH_BOOT] == t[S.BOOT] - 1
        if crashed or master.board.reset_cause() == b"watchdog":
            # the firmware crashed: somebody must acknowledge that before contactors close
            master.faults.set(F.FIRMWARE_CRASH, -1, t[S.CRASHES])
            master.faults.clear(F.FIRMWARE_CRASH)

    def step(self, now):
        """Hand over what is new, then step the store."""
        store = self._store
        faults = self._faults
        news = self._followed != faults.events or self._freeze_frame.ready and not self._given
        if not news and not store.frame_pending and ticks.diff(now, self._look_at) < 0:
            return
        for _ in range(_CHANGES):
            if self._followed != faults.events:
                self._follow(faults)
        self._take_frame(faults)
        self._count()
        closed = self._any_on()
        store.step(now, self._writable(now, closed), closed)
        # a write that is due waits for a calm moment, which a look each 200 ms could always miss
        self._look_at = now if store.due(now, closed) else ticks.add(now, _LOOK_MS)
        if store.failed != self._failed:
            self._failed = store.failed
            faults.set(F.STORE_FAILED, -1, store.failed)
        elif store.written and not store.blocked:
            faults.clear(F.STORE_FAILED)

    def _take_frame(self, faults):
        """Hand a freeze frame to the store, once, when the store has room for it."""
        freeze = self._freeze_frame
        store = self._store
        freeze.blocking = store.frame_pending
        if not freeze.ready:
            self._given = False
        elif not self._given and not store.frame_pending:
            self._given = True
            place = faults.place[faults.first_slot]
            freeze.blocking = store.frame(faults.code[freeze.fault], place, freeze, freeze.bytes)

    def _count(self):
        """Add new closings and openings under load to the totals of each string."""
        t = self._store.totals
        seen = self._seen
        for c in self._strings.each:
            s = c.string
            if seen[2 * s] != c.closings:
                t[S.CLOSINGS + s] += c.closings - seen[2 * s]
                seen[2 * s] = c.closings
            if seen[2 * s + 1] != c.loaded_openings:
                t[S.LOADED + s] += c.loaded_openings - seen[2 * s + 1]
                seen[2 * s + 1] = c.loaded_openings

    def _any_on(self):
        """True if a coil is on, or a string is not in state OPEN."""
        for c in self._strings.each:
            if c.state != C.OPEN or c.energised():
                return True
        return False

    def _writable(self, now, closed):
        """True if flash may be written: no reading is near a limit, no sequence or scan runs."""
        strings = self._strings
        if self._limits.evaluating or self._freeze_frame.recording():
            return False
        if self._guarded and strings.energised():
            return False
        for c in strings.each:
            if c.state != C.CLOSED and (c.state != C.OPEN or c.energised()):
                return False
        # checked in detail only if a write is due: it takes time
        if closed and self._store.due(now, True):
            for c in strings.each:
                # a string that is open is no reason to wait
                if c.state == C.CLOSED and (
                    self._faults.blocking(c.string) or not self._limits.within_bounds(c.string)
                ):
                    return False
            for driver in self._drivers:
                if not driver.done:
                    return False
        return True

    def _follow(self, faults):
        """Hand one event to the store."""
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
