"""The contract of a slave driver: what the master calls, what a driver must do, what it counts.

A driver serves all boards of one kind on one port. The master calls `begin` at the start of each
scan and `step` in every step of its cycle; the driver sends, takes what has come, writes readings
into its slices of the pack, calls `limits` for a reading outside its hard bounds in the moment
that it is parsed, and sends the bleeding planned in `pack.bleed`. It never waits and, once
running, never allocates. Wrong responders, echoes, truncated and stale frames are its to survive
and to count; none of them ever becomes a reading.
"""

from micropython import const

from bms import ticks
from bms.faults import SLAVE_ALARM

# what a kind of board can do
BALANCE_MASK = const(1)  # bleeds the cells that it is told
BALANCE_TARGET = const(2)  # bleeds what is above a voltage that it is told
BALANCE_ON_OFF = const(4)  # bleeds as it likes, and can be told not to
OWN_FETS = const(8)  # has switches of its own in the current's path
ADJACENT_APART = const(16)  # cannot bleed two neighbours at once


class Driver:
    """Base of all drivers.

    members: indices in the pack of the slaves served; done: the running scan has all its answers
    or gave up on the rest. Counters: stale (answers to an older scan), strange (boards or frames
    that are not configured, answers for somebody else), repeated (the same answer twice), missed
    (answers that a scan ended without); link: its port, with its own counters, polled for `sink`.
    """

    ABILITIES = 0
    FILTERS: tuple = ()  # (identifier, mask) of the frames that a CAN controller should let through
    ALARM_MS = 500  # an alarm that is not said again for so long has ended

    def __init__(self, link, members, pack, limits, faults, config):
        self.link = link
        self.sink = self  # who gets the link's frames: a router, where sensors share the port
        self.members = members
        self.pack = pack
        self.limits = limits
        self.faults = faults
        self.done = True
        self._alarm_of = -1  # slave whose alarm is on
        self._alarm_flags = 0
        self._alarm_at = 0
        self.damaged = self.stale = self.strange = self.repeated = self.missed = 0

    def begin(self, seq, now):
        """Start scan number `seq` (0..255)."""
        raise NotImplementedError

    def step(self, now):
        """Do what can be done now; sets `done`."""
        raise NotImplementedError

    def expects(self, ident):
        """True where a CAN frame with this identifier is one of its boards'."""
        for known, mask in self.FILTERS:
            if ident & mask == known:
                return True
        return not self.FILTERS

    def none_has(self, fault):
        """Withdraw a fault from every board of this driver."""
        for slave in self.members:
            self.faults.gone(fault, slave)

    def alarmed(self, slave, flags, now):
        """A board says that it is in a state that trips."""
        self._alarm_of = slave
        self._alarm_flags = flags
        self._alarm_at = now
        self.faults.raised(SLAVE_ALARM, slave, flags)

    def alarm_step(self, now):
        """End an alarm that is not said any more; hold one that is, whoever else ended his."""
        if self._alarm_of < 0:
            return
        if ticks.diff(now, self._alarm_at) > self.ALARM_MS:
            self.faults.gone(SLAVE_ALARM, self._alarm_of)
            self._alarm_of = -1
        else:
            self.faults.raised(SLAVE_ALARM, self._alarm_of, self._alarm_flags)
