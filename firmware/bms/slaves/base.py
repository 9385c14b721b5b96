"""The contract of a slave driver: what the master calls, what a driver must do, what it counts.

A driver serves all boards of one kind on one port. The master calls `begin` at the start of each
scan and `step` in every step of its cycle; the driver sends, takes what has come, writes readings
into its slices of the pack, calls `limits` for a reading outside its hard bounds in the moment
that it is parsed, and sends the bleeding planned in `pack.bleed`. It never waits and, once
running, never allocates. Wrong responders, echoes, truncated and stale frames are its to survive
and to count; none of them ever becomes a reading.
"""

from array import array

from micropython import const

from bms import ticks
from bms.faults import SLAVE_ALARM, SLAVE_CONFLICT
from bms.links.can import EXTENDED

# what a kind of board can do
BALANCE_MASK = const(1)  # bleeds the cells that it is told
BALANCE_TARGET = const(2)  # bleeds what is above a voltage that it is told
BALANCE_ON_OFF = const(4)  # bleeds as it likes, and can be told not to
OWN_FETS = const(8)  # has switches of its own that can be told
CAN_BALANCE = BALANCE_MASK | BALANCE_TARGET | BALANCE_ON_OFF

_CONFLICTS = const(3)  # scans with contradicting answers, one behind the other

# what a board says of itself, the same bits for all kinds but the cell link
A_CELL_HIGH = const(1)
A_CELL_LOW = const(2)
A_TEMP_HIGH = const(4)
A_TEMP_LOW = const(8)
A_CURRENT = const(16)
A_SHORT = const(32)
A_HARDWARE = const(64)
A_OTHER = const(128)
ALARMS = (
    "cell_high",
    "cell_low",
    "temp_high",
    "temp_low",
    "current",
    "short_circuit",
    "hardware",
    "other",
)


class Driver:
    """Base of all drivers.

    members: indices in the pack of the slaves served; done: the running scan has all its answers
    or gave up on the rest. Counters: stale (answers to an older scan), strange (boards or frames
    that are not configured, answers for somebody else), repeated (the same answer twice), missed
    (answers that a scan ended without); link: its port, with its own counters, polled for `sink`.
    """

    ABILITIES = 0
    SLOW = False  # its scan may take longer than scan_period: then it begins in every n-th
    NODES = (1, 62)  # lowest and highest node
    MOST = 62  # boards on one port
    CELLS = 32  # cells, temperatures that one board can have
    TEMPS = 16
    UART_BPS = 9600  # usual rates
    CAN_BPS = 0  # 0: that of the link
    # (identifier, mask) of the frames that a CAN controller should let through; where the
    # identifier is EXTENDED, the mask is so as well
    FILTERS: tuple = ()
    IGNORED: tuple = ("gap", "answer")  # keys of [[link]] that would have no effect
    ALARM_MS = 500  # an alarm that is not said again for so long has ended

    def __init__(self, link, members, pack, limits, faults, config):
        self.link = link
        self.sink = self  # who gets the link's frames: a router, where sensors share the port
        self.members = members
        self.pack = pack
        self.limits = limits
        self.faults = faults
        self.done = True
        self.every = 1  # a scan of it begins in every so many of the master's
        self._turn_in = 0
        self._alarms = 0  # slaves whose alarm is on
        self._alarm_flags = array("H", [0] * len(pack.slave_cells))
        self._alarm_at = array("i", [0] * len(pack.slave_cells))
        self.damaged = self.stale = self.strange = self.repeated = self.missed = 0

    def turn(self, seq, now):
        """A scan of the master begins; one of this driver does where it is its turn."""
        if self._turn_in:
            self._turn_in -= 1
            return
        self._turn_in = self.every - 1
        self.begin(seq, now)

    def begin(self, seq, now):
        """Start scan number `seq` (0..255)."""
        raise NotImplementedError

    def step(self, now):
        """Do what can be done now; sets `done`."""
        raise NotImplementedError

    def rest(self, now) -> int:
        """ms until `step` has something to do by time, whatever comes on the wire."""
        return 1000

    def wants(self, slave):
        """True where some cell of a slave is planned to bleed."""
        bleed = self.pack.bleed
        return bool(bleed[2 * slave] or bleed[2 * slave + 1])

    def target_mv(self, slave):
        """Voltage down to which a slave's cells are to be balanced: that of its string."""
        pack = self.pack
        return pack.balance_target_mv(pack.string_of_slave[slave])

    def expects(self, ident):
        """True where a CAN frame with this identifier is one of its boards'."""
        for known, mask in self.FILTERS:
            if ident & (mask | EXTENDED) == known:
                return True
        return not self.FILTERS

    def eased(self, fault, m, those):
        """Member m has a fault no more: it ends in m's string, unless another one there has it.

        those: of each member, not 0 where it has the fault.
        """
        string_of = self.pack.string_of_slave
        slave = self.members[m]
        for i in range(len(those)):
            if those[i] and string_of[self.members[i]] == string_of[slave]:
                return
        self.faults.gone(fault, slave)

    def count_contradiction(self, counts, m, contradicted):
        """A scan has ended in which two boards seemed to answer for member m, or not.

        counts: of each member, such scans less clean ones, 0.._CONFLICTS; the fault holds from
        _CONFLICTS on until it is 0 again.
        """
        count = counts[m]
        if contradicted:
            if count < _CONFLICTS:
                counts[m] = count = count + 1
            if count == _CONFLICTS:
                self.faults.raised(SLAVE_CONFLICT, self.members[m], self.repeated)
        elif count:
            counts[m] = count - 1
            if count == 1:
                self.eased(SLAVE_CONFLICT, m, counts)

    def alarmed(self, slave, flags, now):
        """A board says that it is in a state that trips; flags (not 0) say which, in 16 bits."""
        if not self._alarm_flags[slave]:
            self._alarms += 1
        self._alarm_flags[slave] = flags
        self._alarm_at[slave] = now
        self.faults.raised(SLAVE_ALARM, slave, flags)

    def alarm_over(self, slave):
        """A board's alarm has ended; `alarm_step` holds those of others in its string."""
        self._alarm_flags[slave] = 0
        self._alarms -= 1
        self.faults.gone(SLAVE_ALARM, slave)

    def alarm_step(self, now):
        """End alarms that are not said any more; hold those that are, whoever else ended his."""
        if not self._alarms:
            return
        flags = self._alarm_flags
        for slave in self.members:
            if flags[slave] and ticks.diff(now, self._alarm_at[slave]) > self.ALARM_MS:
                self.alarm_over(slave)
        for slave in self.members:
            if flags[slave]:
                self.faults.raised(SLAVE_ALARM, slave, flags[slave])
