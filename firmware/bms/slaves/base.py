"""The contract of a slave driver: what the master calls, what a driver must do, what it counts.

A driver serves all boards of one kind on one port. The master calls `begin` at the start of each
scan and `step` in every step of its cycle. The driver sends, reads what has arrived, writes
readings into its slices of the pack, and sends the balancing planned in `pack.balance_mask`. It
calls `limits` at once for a reading outside its hard bounds, while it parses the frame. It never
waits, and never allocates after start-up. It survives and counts answers of the wrong board,
echoes, truncated and stale frames; it never takes one of them as a reading.
"""

from array import array

from micropython import const

from bms import ticks
from bms.links.can import EXTENDED
from bms.pack import NO_STATUS
from bms.protection.fault_ids import SLAVE_ALARM, SLAVE_CONFLICT, SLAVE_UNREADABLE

# what a kind of board can do
BALANCE_MASK = const(1)  # balances the cells that it is commanded
BALANCE_TARGET = const(2)  # balances cells above a voltage that it is commanded
BALANCE_ON_OFF = const(4)  # chooses the cells itself; balancing can be allowed or forbidden
OWN_FETS = const(8)  # has FETs of its own that can be commanded
CAN_BALANCE = BALANCE_MASK | BALANCE_TARGET | BALANCE_ON_OFF

_CONFLICTS = const(3)  # scans in a row with contradicting answers
_UNREADABLE = const(20)  # scans in which bytes came, and for so long nothing that makes sense
_UNREADABLE_MS = const(10000)

# what a board's alarm means, the same bits for all kinds but the cell link
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

    members: indices in the pack of the slaves served; m in all drivers is an index of it.
    done: the running scan has all its answers, or has given up on the rest.
    Counters: stale (answers to an older scan), unexpected (frames of boards that are not
    configured, answers that nobody waits for), damaged (frames with a wrong check or length),
    repeated (the same answer twice), missed (answers that a scan ended without). link: its port,
    with its own counters; its frames go to `sink`.
    """

    ABILITIES = 0
    REPORTS = NO_STATUS  # how a board's alarms come; `pack` evaluates their age
    SLOW = False  # True: a scan may take longer than scan_period, and then begins in every n-th
    NODES = (1, 62)  # lowest and highest node
    MOST = 62  # boards on one port
    CELLS = 32  # cells, temperatures that one board can have
    TEMPS = 16
    UART_BPS = 9600  # usual rates
    CAN_BPS = 0  # 0: the link's own
    # (identifier, mask) of the frames that a CAN controller should let through; with an EXTENDED
    # identifier the mask is EXTENDED as well
    FILTERS: tuple = ()
    IGNORED: tuple = ("gap", "answer")  # keys of [[link]] that would have no effect
    ALARM_MS = 500  # an alarm that is not reported again within this time has ended

    def __init__(self, link, members, pack, limits, faults, config):
        self.link = link
        self.sink = self  # gets the link's frames; a FrameRouter where sensors share the port
        self.members = members
        self.pack = pack
        self.limits = limits
        self.faults = faults
        self.done = True
        self.every = 1  # its scan begins in every n-th scan of the master
        self._scans_to_skip = 0
        self._on_a_line = hasattr(link, "echoes")  # a line of bytes
        self._bytes_at = 0
        self._understood = 0  # frames
        self._understood_at = -1
        self._unread = 0  # scans since then in which bytes came
        self._alarms = 0  # slaves whose alarm is on
        self._alarm_flags = array("H", [0] * len(pack.slave_cells))
        self._alarm_at = array("i", [0] * len(pack.slave_cells))
        self.damaged = self.stale = self.unexpected = self.repeated = self.missed = 0

    def scan_started(self, seq, now):
        """A scan of the master begins; the driver's own begins in every n-th of them."""
        if self._on_a_line:
            self._look_readable(now)
        if self._scans_to_skip:
            self._scans_to_skip -= 1
            return
        self._scans_to_skip = self.every - 1
        self.begin(seq, now)

    def _look_readable(self, now):
        """Warn where bytes come, but nothing is understood: wrong rate, wrong kind, noise."""
        link = self.link
        slave = self.members[0]
        good = link.rx + link.echoes
        if good != self._understood or self._understood_at < 0:
            self._understood = good
            self._understood_at = now
            self._unread = 0
            self.faults.clear(SLAVE_UNREADABLE, slave)
        elif link.rx_at != self._bytes_at and self._unread < _UNREADABLE:
            self._unread += 1
        self._bytes_at = link.rx_at
        if self._unread == _UNREADABLE:
            wait = 2 * self.pack.poll_period_ms[slave]
            ms = ticks.since(now, self._understood_at)
            if ms >= _UNREADABLE_MS and ms >= wait:
                self.faults.set(SLAVE_UNREADABLE, slave, link.damaged)

    def begin(self, seq, now):
        """Start scan number `seq` (0..255)."""
        raise NotImplementedError

    def step(self, now):
        """Do what can be done now; sets `done`."""
        raise NotImplementedError

    def rest(self, now) -> int:
        """ms until `step` has something to do, if nothing arrives before."""
        return 1000

    def wants(self, slave):
        """True where the plan balances some cell of a slave."""
        balance_mask = self.pack.balance_mask
        return bool(balance_mask[2 * slave] or balance_mask[2 * slave + 1])

    def target_mv(self, slave):
        """mV down to which a slave's cells are balanced: the balancing target of its string."""
        pack = self.pack
        return pack.balance_target_mv(pack.string_of_slave[slave])

    def expects(self, ident):
        """True where one of its boards may send a CAN frame with this identifier."""
        for known, mask in self.FILTERS:
            if ident & (mask | EXTENDED) == known:
                return True
        return not self.FILTERS

    def clear_if_last(self, fault, m, those):
        """Clear a fault that member m no longer has, unless another member of its string has it.

        those: for each member, not 0 where it has the fault.
        """
        string_of = self.pack.string_of_slave
        slave = self.members[m]
        for i in range(len(those)):
            if those[i] and string_of[self.members[i]] == string_of[slave]:
                return
        self.faults.clear(fault, slave)

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
                self.faults.set(SLAVE_CONFLICT, self.members[m], self.repeated)
        elif count:
            counts[m] = count - 1
            if count == 1:
                self.clear_if_last(SLAVE_CONFLICT, m, counts)

    def alarm_received(self, slave, flags, now):
        """A board reports a state that trips; flags: which one, 16 bits, not 0."""
        if not self._alarm_flags[slave]:
            self._alarms += 1
        self._alarm_flags[slave] = flags
        self._alarm_at[slave] = now
        self.faults.set(SLAVE_ALARM, slave, flags)

    def alarm_over(self, slave):
        """A board's alarm has ended; `alarm_step` keeps the alarms of others in its string."""
        self._alarm_flags[slave] = 0
        self._alarms -= 1
        self.faults.clear(SLAVE_ALARM, slave)

    def alarm_step(self, now):
        """End alarms that are not reported any more; keep the others set, as a fault is cleared
        for a whole string.
        """
        if not self._alarms:
            return
        flags = self._alarm_flags
        for slave in self.members:
            if flags[slave] and ticks.diff(now, self._alarm_at[slave]) > self.ALARM_MS:
                self.alarm_over(slave)
        for slave in self.members:
            if flags[slave]:
                self.faults.set(SLAVE_ALARM, slave, flags[slave])
