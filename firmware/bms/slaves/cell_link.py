"""Driver of the project's own slave protocol, over CAN and over UART alike.

Frames: id = function << 6 | node; layout, scaling and CRC-8 (SAE J1850 over id high, id low and
the other payload bytes) are those of the protocol's page in the reference. Over CAN all boards
answer a SCAN to node 0; a board whose answer is missing is polled once more by its number. Over
UART boards are polled one after the other. Voltages mV, temperatures 0.1 degC.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.cell_link import (
    H_CELL,
    H_MISSING,
    H_NOW,
    H_ROW_OF,
    H_ROWS,
    H_RX_AT,
    H_SCAN,
    H_SEQ,
    H_STATUS,
    H_TEMP,
    R_CELL,
    R_CELLS,
    R_CRC,
    R_DUE,
    R_FLAGS,
    R_GOT,
    R_OPEN,
    R_SLAVE,
    R_TEMP,
    R_TEMPS,
    R_WANT,
    ROW,
    begin_rows,
    mcp_readings,
    store_status,
    take13,
    wait_readings,
)
from bms.kernels.checksums import crc8_frame
from bms.links.can import EXTENDED
from bms.pack import BALANCING, FRESH, NEW, SEEN, WITH_STACK
from bms.protection import fault_ids as F
from bms.slaves.base import BALANCE_MASK, Driver

VERSION = const(1)

# functions
ALARM = const(0x00)
SCAN = const(0x01)
BALANCE = const(0x02)
HELLO = const(0x03)
ASSIGN = const(0x04)
CELLS = const(0x08)
TEMPS = const(0x10)
STATUS = const(0x14)

ALL = const(0)
UNADDRESSED = const(63)
PAUSE_BALANCING = const(1)  # flag of SCAN

# fault bits of ALARM and STATUS: the low byte trips, the high byte informs
SEVERE = const(0xFF)

_TEMP_OFFSET_DC = const(-1000)
_STATUS_BIT = const(0x1000)  # in the mask of expected frames: CELLS 0-7, TEMPS 8-11, STATUS 12
_TAKEN = FRESH | SEEN | NEW  # flags of a reading
_QUIET_MS = const(20)  # without a frame for this time, missing parts are polled again
_IDLE_MS = const(10)  # between two balancing commands
_LOOK_MS = const(50)  # to the next check where no board needs one; another scan checks at once
_HELLO_MS = const(200)  # between two HELLOs to all
_BALANCE_S = const(5)  # a slave stops balancing by itself after this time
_BALANCE_AGAIN_MS = const(2000)
_MISFITS = const(2)


class CellLink(Driver):
    """All cell link boards of one port; see `Driver`."""

    ABILITIES = BALANCE_MASK
    REPORTS = WITH_STACK
    # ALARM, HELLO, CELLS, TEMPS, STATUS
    FILTERS = ((0x000, 0x7C0), (0x0C0, 0x7C0), (0x200, 0x600), (0x400, 0x700), (0x500, 0x7C0))
    UART_BPS = 1000000

    @staticmethod
    def frame(stream, rate=0):
        """The link over a UART; on CAN its code isn't loaded."""
        from bms.links.cobs import CobsLink

        return CobsLink(stream, rate)

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self._seq = 0
        # what the kernel that takes a frame reads and writes: see readings.H_*, R_*
        self._t = array("i", [0] * (H_ROWS + ROW * n))
        self._spare_t = array("i", [0] * (H_ROWS + ROW))
        self._member_of = bytearray(64)  # node -> member + 1
        self._node = bytearray(n)
        self._serial = array("i", [0] * n)
        self._polled = bytearray(n)  # polls to it in this scan
        self._conflict = bytearray(
            n
        )  # scans with contradictions, less clean ones; bit 7 = in this scan
        self._sent_balance = array("H", [0] * (2 * n))
        self._balance_at = array("i", [0] * n)
        self._balance_on = bytearray(n)
        self._balance_next = 0
        self._polling = -1  # member that may send now, on a polled bus
        # on a polled bus: 1 silent for a scan, 2 answers again, 3 did not answer the first poll
        # of this scan; 2 and 3 must answer a HELLO
        self._silent = bytearray(n)
        self._back = 0  # members with 2 or 3
        self._watched = False  # a member is silent or in conflict: look at all as a scan ends
        self._idle_at = 0
        self._hello_at = 0
        self._hello_next = 0
        self._hello_sent = False
        self._unknown = n
        self._misfits = bytearray(n)
        self._out = bytearray(8)
        # readings of a board in conflict: evaluated, and not stored
        self._spare = array("h", [0] * 32)
        self._spare_flags = bytearray(32)
        self._spare_at = array("i", [0] * 32)
        t = self._t
        t[H_CELL] = limits.hard_low_mv
        t[H_CELL + 1] = limits.hard_high_mv
        t[H_TEMP] = t[H_TEMP + 2] = _TEMP_OFFSET_DC
        t[H_TEMP + 1] = limits.hard_high_dc
        for m in range(n):
            slave = config.slaves[members[m]]
            self._node[m] = slave.node
            self._serial[m] = slave.serial
            self._member_of[slave.node] = m + 1
            cells = (slave.cells + 3) // 4
            temps = (slave.temps + 3) // 4
            row = H_ROWS + ROW * m
            t[H_ROW_OF + slave.node] = row
            t[row + R_WANT] = (1 << cells) - 1 | ((1 << temps) - 1) << 8 | _STATUS_BIT
            t[row + R_FLAGS] = _TAKEN
            t[row + R_CELL] = pack.first_cell[members[m]]
            t[row + R_CELLS] = slave.cells
            t[row + R_TEMP] = pack.first_temp[members[m]]
            t[row + R_TEMPS] = slave.temps
            t[row + R_SLAVE] = members[m]
        if hasattr(link, "take_readings"):
            link.take_readings = self._take_readings

    def scan_ms(self, config):
        """ms that a scan of all members takes on the wire at the least, rounded up.

        CAN: 8-byte frames of 111 bits and a tenth for stuffing. UART: 14 bytes of 10 bits each.
        """
        bits = 0
        for m in range(len(self.members)):
            frames = 0
            want = self._t[H_ROWS + ROW * m + R_WANT]
            while want:
                frames += want & 1
                want >>= 1
            bits += frames * (140 if self.link.polled else 122)
            if self.link.polled:
                bits += 80
        return bits // (self.link.rate // 1000) + 1

    def expects(self, ident):
        """True where one of the configured boards may send this identifier."""
        if self._member_of[ident & 63] == 0 or not super().expects(ident):
            return False
        function = ident >> 6
        if not CELLS <= function <= STATUS:
            return True
        row = self._t[H_ROW_OF + (ident & 63)]
        return bool(self._t[row + R_WANT] & 1 << (function - CELLS))

    def begin(self, seq, now):
        """Start a scan: all boards sample at this moment."""
        t = self._t
        if t[H_MISSING] or self._watched:
            self._end_scan()
        self._seq = seq
        self._idle_at = now
        t[H_SEQ] = seq & 15
        t[H_SCAN] = seq
        missing = t[H_MISSING] = begin_rows(
            t,
            len(self._node),
            self.pack.known,
            self._polled,
            self._conflict,
            0 if self.link.polled else 1,
        )
        t[H_RX_AT] = now
        self._send_scan(ALL)
        self._polling = -1
        self.done = not missing
        if self.link.polled:
            self._poll_next(now)

    def step(self, now):
        """Read what has arrived; poll for missing parts; between scans send HELLO and balancing."""
        t = self._t
        t[H_NOW] = now
        self.link.poll(self.sink, now)
        if t[H_STATUS]:
            t[H_STATUS] = 0
            pack = self.pack
            store_status(
                t,
                len(self._node),
                pack.stack_mv,
                pack.stack_at,
                pack.stack_ok,
                pack.slave_flags,
                pack.die_dc,
            )
        if self._alarms:
            self.alarm_step(now)
        if not self.done:
            if not t[H_MISSING]:
                self.done = True
                return  # the master ends the scan now: the rest comes in the next step
            elif self.link.polled:
                row = H_ROWS + ROW * self._polling
                if t[row + R_GOT] == t[row + R_WANT] or ticks.diff(now, t[H_RX_AT]) > _QUIET_MS:
                    self._poll_next(now)
            elif ticks.diff(now, t[H_RX_AT]) > _QUIET_MS:
                self._poll_next(now)
        if not self.done or self._unknown and self._greet(now):
            return
        if ticks.diff(now, self._idle_at) >= 0:
            self._idle_at = ticks.add(now, _IDLE_MS)
            if self._back:
                self._hello_again()
            elif not self._balance(now):
                self._idle_at = ticks.add(now, _LOOK_MS)

    def _hello_again(self):
        """Send HELLO to a board that was silent: it may be another one, or have restarted."""
        for m in range(len(self._node)):
            if self._silent[m] > 1:
                self.link.send(HELLO << 6 | self._node[m], self._out, 0)
                return

    def _open(self, m):
        """Set R_OPEN: whether the kernel may store the frames of member m.

        It must be known since the scan began, without conflict, and on a polled bus be polled.
        """
        t = self._t
        row = H_ROWS + ROW * m
        polled = self._polled[m] or not self.link.polled
        t[row + R_OPEN] = 1 if t[row + R_DUE] and polled and not self._conflict[m] else 0

    # --- scanning ---

    def _end_scan(self):
        # answers that never came, and boards that contradicted themselves in the scan that ends
        t = self._t
        self._watched = False
        for m in range(len(self._node)):
            row = H_ROWS + ROW * m
            if t[row + R_DUE] and t[row + R_GOT] != t[row + R_WANT]:
                self.missed = (self.missed + 1) & 0x1FFFFFFF
                if self.link.polled and not t[row + R_GOT]:
                    if self._silent[m] > 1:
                        self._back -= 1
                    self._silent[m] = 1
                    self._watched = True
            elif self._silent[m] == 1:
                self._silent[m] = 2
                self._back += 1
            state = self._conflict[m]
            if state:
                self._conflict[m] = state & 0x7F
                self.count_contradiction(self._conflict, m, state & 0x80)
                self._watched = self._watched or self._conflict[m] > 0

    def _poll_next(self, now):
        """Poll the next board whose answers are missing; each at most twice in a scan.

        Boards that were silent come last, so that waiting for them delays no other board.
        """
        t = self._t
        n = len(self._node)
        for times in range(3):
            m = self._seq % n if times else 0
            for _ in range(n):
                row = H_ROWS + ROW * m
                waiting = t[row + R_DUE] and t[row + R_GOT] != t[row + R_WANT]
                if times:
                    waiting = waiting and self._polled[m] < times
                else:
                    waiting = waiting and not self._polled[m] and self._silent[m] != 1
                if waiting:
                    self._polled[m] += 1
                    if self._polled[m] == 2 and self.link.polled:
                        if not t[row + R_GOT] and not self._silent[m]:
                            self._silent[m] = 3
                            self._back += 1
                    self._open(m)
                    self._polling = m
                    t[H_RX_AT] = now
                    if self.link.polled:
                        self.link.forget()
                    self._send_scan(self._node[m])
                    return
                m = m + 1 if m + 1 < n else 0
        self.done = True

    def _send_scan(self, node):
        out = self._out
        out[0] = self._seq
        out[1] = PAUSE_BALANCING
        self.link.send(SCAN << 6 | node, out, 2)

    # --- greeting ---

    def _greet(self, now):
        """Send HELLO to unknown boards; True while an answer may be coming.

        To one after the other, and to those without a number. Over CAN to all at once while no
        board is known: a known board that answers is taken for one that has restarted.
        """
        alone = self.link.polled or self._unknown < len(self._node)
        since = ticks.since(now, self._hello_at)
        if self._hello_sent and since < (_QUIET_MS if alone else _HELLO_MS):
            return self.link.polled
        node = self._next_unknown() if alone else ALL
        self._hello_sent = True
        self._hello_at = now
        self.link.send(HELLO << 6 | node, self._out, 0)
        return self.link.polled

    def _next_unknown(self):
        # the index after the last member stands for the boards that have no number yet
        n = len(self._node)
        while True:
            m = self._hello_next
            self._hello_next = m + 1 if m < n else 0
            if m == n:
                return UNADDRESSED
            if not self.pack.known[self.members[m]]:
                return self._node[m]

    # long: all outcomes of one answer
    def _hello(self, node, n, data):
        if n != 8:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        # 30 bits are enough to tell boards apart, and stay small ints
        serial = data[4] | data[5] << 8 | data[6] << 16 | (data[7] & 0x3F) << 24
        if node == UNADDRESSED:
            self._assign(serial, data)
            return
        m = self._member_of[node] - 1
        if m < 0:
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF
            return
        silent = 0
        if self.link.polled:
            self._hello_sent = False  # it was greeted alone and has answered: send the next HELLO
            silent = self._silent[m]
            if silent > 1:
                self._back -= 1
                self._silent[m] = 0
        slave = self.members[m]
        pack = self.pack
        fits = (
            data[0] == VERSION
            and data[1] == pack.slave_cells[slave]
            and data[2] >= pack.slave_temps[slave]
            and (not self._serial[m] or self._serial[m] == serial)
        )
        if not fits:
            # HELLO has no checksum of its own: a mismatch counts when it is sent twice
            self._misfits[m] += 1
            if self._misfits[m] < _MISFITS:
                self.link.send(HELLO << 6 | node, self._out, 0)
                return
            self._misfits[m] = 0
            if pack.known[slave]:
                pack.known[slave] = 0
                self._unknown += 1
            self.faults.set(F.SLAVE_MISMATCH, slave, data[1])
            return
        if pack.known[slave]:
            if self._misfits[m]:
                self._misfits[m] = 0  # the answer to our HELLO: the misfit was damage
            else:
                # a HELLO without a poll, or after silence: it has restarted and balances nothing
                self._balance_on[m] = 0
                self._t[H_ROWS + ROW * m + R_FLAGS] = _TAKEN
                self._sent_balance[2 * m] = self._sent_balance[2 * m + 1] = 0
                if silent != 3:  # one lost poll does not show a restart
                    self.faults.set(F.SLAVE_REBOOT, slave, 1)
                    self.faults.clear(F.SLAVE_REBOOT, slave)
            return
        self._misfits[m] = 0
        pack.known[slave] = 1
        self._unknown -= 1
        string = pack.string_of_slave[slave]
        for other in self.members:
            if not pack.known[other] and pack.string_of_slave[other] == string:
                return
        self.faults.clear(F.SLAVE_MISMATCH, slave)

    def _assign(self, serial, data):
        for m in range(len(self._node)):
            if self._serial[m] == serial and serial:
                out = self._out
                for i in range(4):
                    out[i] = data[4 + i]
                out[4] = self._node[m]
                self.link.send(ASSIGN << 6 | UNADDRESSED, out, 5)
                return
        self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF

    # --- answers ---

    # long: kernels take arrays one by one  # parameters: the signature that the links call
    def _take_readings(self, ring, at, last, data, until, ticks_ms, idle):
        """Take the readings in front of a link's ring, up to a frame that `on_frame` must see.

        One out of its hard bounds trips before the next is looked at. With `ticks_ms` and `idle`
        take those, too, that come up to the tick `until`, the end of the scan or a trip.
        """
        pack = self.pack
        t = self._t
        while True:
            if ticks_ms is None:
                found = mcp_readings(
                    ring,
                    at,
                    last,
                    data,
                    t,
                    pack.cell_mv,
                    pack.cell_flags,
                    pack.cell_at,
                    pack.temp_dc,
                    pack.temp_flags,
                    pack.temp_at,
                )
            else:
                found = wait_readings(
                    until,
                    ticks_ms,
                    idle,
                    ring,
                    at,
                    last,
                    data,
                    t,
                    pack.cell_mv,
                    pack.cell_flags,
                    pack.cell_at,
                    pack.temp_dc,
                    pack.temp_flags,
                    pack.temp_at,
                )
            if found <= 0:
                return
            self._hard(found >> 3, found & 7)
            if ticks_ms is not None:
                return

    def _hard(self, ident, k):
        """Reading k (from 1) of a frame is out of its hard bounds."""
        pack = self.pack
        row = self._t[H_ROW_OF + (ident & 63)]
        function = ident >> 6
        if function < TEMPS:
            i = self._t[row + R_CELL] + 4 * (function - CELLS) + k - 1
            self.limits.hard_cell(i, pack.cell_mv[i])
        else:
            i = self._t[row + R_TEMP] + 4 * (function - TEMPS) + k - 1
            self.limits.hard_temp(i, pack.temp_dc[i])

    # long: the checks of a frame in their order
    def on_frame(self, ident, n, data, now):
        """Take one frame from the link; a reading out of its hard bounds trips before this ends."""
        function = ident >> 6
        if n == 8 and CELLS <= function < STATUS and self._reading(ident, function, data) >= 0:
            return
        if ident & EXTENDED:
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF
            return
        node = ident & 63
        if function == ALARM and n == 7 and self._member_of[node]:  # first: it may have to trip
            if crc8_frame(ident, data, 6) == data[6]:
                self._alarm(self._member_of[node] - 1, data, now)
            else:
                self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        if function == HELLO:
            if n:  # an empty one is a poll: our own echo
                self._hello(node, n, data)
            return
        if SCAN <= function <= ASSIGN:
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF  # another master, or our own echo
            return
        m = self._member_of[node] - 1
        if m < 0:
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF
            return
        if n < 7 or crc8_frame(ident, data, n - 1) != data[n - 1]:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        if function == ALARM or n != 8:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        t = self._t
        row = H_ROWS + ROW * m
        if not t[row + R_DUE]:
            return  # not known as a board of this scan when it began
        if function == STATUS:
            seq = data[6]
        elif CELLS <= function < STATUS:
            seq = data[6] >> 4
        else:
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF
            return
        bit = 1 << (function - CELLS)
        if seq != (self._seq if function == STATUS else self._seq & 15):
            self.stale = (self.stale + 1) & 0x1FFFFFFF
            return
        if not bit & t[row + R_WANT]:
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF
            return
        if self.link.polled and not self._polled[m]:
            # it has not been polled in this scan: the answer of another board
            self.unexpected = (self.unexpected + 1) & 0x1FFFFFFF
            return
        t[H_RX_AT] = now
        if t[row + R_GOT] & bit:
            self._again(m, row + R_CRC + function - CELLS, data)
        elif function == STATUS or self._conflict[m]:
            t[row + R_GOT] |= bit
            t[row + R_CRC + function - CELLS] = data[7]
            if t[row + R_GOT] == t[row + R_WANT]:
                t[H_MISSING] -= 1
        if function == STATUS:
            self._status(m, self.members[m], data, now)
        elif self._conflict[m]:
            self._evaluate_only(row, ident, function, data)
        else:
            # a second answer to a second poll: the newer reading counts
            missing = t[H_MISSING]
            t[row + R_GOT] &= ~bit
            self._reading(ident, function, data)
            t[H_MISSING] = missing

    def _reading(self, ident, function, data):
        """Store and evaluate the values of a frame; -1 where the kernel did not take it."""
        pack = self.pack
        t = self._t
        if function < TEMPS:
            k = take13(ident, data, t, pack.cell_mv, pack.cell_flags, pack.cell_at)
        else:
            k = take13(ident, data, t, pack.temp_dc, pack.temp_flags, pack.temp_at)
        if k > 0:
            self._hard(ident, k)
        return k

    def _again(self, m, crc, data):
        """The same part of the same scan came once more."""
        self.repeated = (self.repeated + 1) & 0x1FFFFFFF
        polled_again = self._polled[m] > (1 if self.link.polled else 0)
        if self._t[crc] != data[7] and not polled_again and not self._conflict[m] & 0x80:
            # same scan, same number, other values: two boards seem to have one number
            self._conflict[m] |= 0x80
            self._watched = True
            self._open(m)
            self.pack.invalidate(self.members[m])

    def _evaluate_only(self, row, ident, function, data):
        """Evaluate the frame of a board in conflict by hard bounds only; nothing is stored."""
        t = self._t
        spare = self._spare_t
        for i in range(H_ROW_OF):
            spare[i] = t[i]
        for i in range(ROW):
            spare[H_ROWS + i] = t[row + i]
        spare[H_ROW_OF + (ident & 63)] = H_ROWS
        spare[H_ROWS + R_GOT] = 0
        spare[H_ROWS + R_OPEN] = 1
        first = 4 * (function - CELLS if function < TEMPS else function - TEMPS)
        spare[H_ROWS + R_CELL] = spare[H_ROWS + R_TEMP] = 0
        k = take13(ident, data, spare, self._spare, self._spare_flags, self._spare_at)
        spare[H_ROW_OF + (ident & 63)] = 0
        if k <= 0:
            return
        first += k - 1
        if function < TEMPS:
            self.limits.hard_cell(t[row + R_CELL] + first, self._spare[first])
        else:
            self.limits.hard_temp(t[row + R_TEMP] + first, self._spare[first])

    def _status(self, m, slave, data, now):
        pack = self.pack
        flags = data[2] | data[3] << 8
        pack.stack_mv[slave] = (data[0] | data[1] << 8) * 10
        pack.stack_at[slave] = now
        pack.stack_ok[slave] = 0 if self._conflict[m] else 1
        pack.slave_flags[slave] = flags
        pack.die_dc[slave] = (data[4] - 40) * 10
        if flags & SEVERE:
            self.alarm_received(slave, flags, now)

    def _alarm(self, m, data, now):
        slave = self.members[m]
        cell = data[2]
        if 1 <= cell <= self.pack.slave_cells[slave]:
            self.limits.hard_cell(self.pack.first_cell[slave] + cell - 1, data[3] | data[4] << 8)
        flags = data[0] | data[1] << 8
        if flags & SEVERE:
            self.alarm_received(slave, flags, now)

    # --- balancing ---

    def _balance(self, now):
        """Send the balancing plan to the next board whose plan changed or is about to expire.

        False where there is none.
        """
        members = self.members
        n = len(members)
        balance_mask = self.pack.balance_mask
        sent = self._sent_balance
        on = self._balance_on
        after = self._balance_next
        for _ in range(n):
            m = after
            after = m + 1 if m + 1 < n else 0
            i = 2 * members[m]
            low = balance_mask[i]
            high = balance_mask[i + 1]
            if low == sent[2 * m] and high == sent[2 * m + 1]:
                if not on[m] or ticks.diff(now, self._balance_at[m]) < _BALANCE_AGAIN_MS:
                    continue
            self._balance_next = after
            out = self._out
            out[0] = low & 0xFF
            out[1] = low >> 8
            out[2] = high & 0xFF
            out[3] = high >> 8
            out[4] = _BALANCE_S
            out[5] = self._seq
            out[6] = 0
            ident = BALANCE << 6 | self._node[m]
            out[7] = crc8_frame(ident, out, 7)
            if self.link.send(ident, out, 8):
                sent[2 * m] = low
                sent[2 * m + 1] = high
                self._balance_at[m] = now
                on[m] = 1 if low or high else 0
                flags = _TAKEN | BALANCING if on[m] else _TAKEN
                self._t[H_ROWS + ROW * m + R_FLAGS] = flags
            return True
        return False
