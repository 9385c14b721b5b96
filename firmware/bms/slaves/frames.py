"""Polled boards whose frames a table describes: fixed bytes, a length, a check; and their polls.

Nothing here allocates after start-up.
"""

from micropython import const

from bms.kernels.slave_checksums import crc16_modbus, total
from bms.links.reply import CHECKSUM, ReplyLink
from bms.slaves.fields import alarm_flags
from bms.slaves.polled import COMMAND, PolledDriver
from bms.ticks import MASK

# checks
SUM8 = const(0)  # one byte: the sum
SUM16 = const(1)  # two bytes, high one first: the sum
NEGATIVE_SUM16 = const(2)  # its two's complement
CRC16_MODBUS = const(3)  # two bytes, low one first

# places in `FrameLink.TABLE`
_START = const(0)
_LENGTH_AT = const(1)
_LENGTH_BYTES = const(2)
_OVERHEAD = const(3)
_NODE_AT = const(4)
_COMMAND_AT = const(5)
_DATA_AT = const(6)
_DATA_TAIL = const(7)
_CHECK = const(8)
_CHECK_FROM = const(9)
_CHECK_END = const(10)
_CHECK_TAIL = const(11)
_HEAD = const(12)

NO_NODE = const(0xFF)
_UNKNOWN = const(-2)  # neither a poll nor `COMMAND`


class FrameLink(ReplyLink):
    """data: the bytes; a frame goes to `sink.on_reply(node, command, at, n, now)`, n data at `at`.

    TABLE of a subclass, in bytes, offsets from a frame's first byte:
        first byte (0: any);
        length field: offset, bytes; bytes of a frame that it does not count, or of every frame;
        offsets of node (NO_NODE: one board, node 1), command and data; bytes behind the data;
        check: its kind, the first byte that it covers, bytes at the end that it does not cover,
        bytes from where it stands to the end;
        then for each byte that is known: offset, lowest value, highest value.
    """

    UART_BPS = 9600
    LONGEST = 320  # bytes of a frame
    CHUNK = 64  # see `ReplyLink`
    TABLE = b""

    def __init__(self, stream, rate=0):
        start = self.TABLE[_START] or -1
        super().__init__(stream, rate or self.UART_BPS, self.LONGEST, start, self.CHUNK)
        self.data = self._in

    def send_checked(self, size):
        """Complete a frame of `size` bytes in `out` with its check, and send it."""
        self._check(self.out, 0, size, True)
        return self.send(size)

    def is_echo(self, at, size):
        """True where a good frame is our own poll, returned by the adapter: it has no data."""
        return size == self.TABLE[_OVERHEAD]

    def _check(self, data, at, size, write):
        """Write the check of a frame, or compare it: True where it is right."""
        table = self.TABLE
        how = table[_CHECK]
        start = at + table[_CHECK_FROM]
        end = at + size - table[_CHECK_END]
        if how == CRC16_MODBUS:
            check = crc16_modbus(data, start, end)
            check = (check & 0xFF) << 8 | check >> 8
        else:
            check = total(data, start, end)
            if how == NEGATIVE_SUM16:
                check = -check
        at += size - table[_CHECK_TAIL]
        if how == SUM8:
            check <<= 8
        elif write:
            data[at + 1] = check & 0xFF
        elif data[at + 1] != check & 0xFF:
            return False
        if write:
            data[at] = check >> 8 & 0xFF
        return data[at] == check >> 8 & 0xFF

    def _size(self, at, filled):
        data = self._in
        table = self.TABLE
        left = filled - at
        for i in range(_HEAD, len(table), 3):
            k = table[i]
            if left > k and not table[i + 1] <= data[at + k] <= table[i + 2]:
                return 0
        n = table[_LENGTH_BYTES]
        end = table[_LENGTH_AT] + n
        if left < end:
            return self.LONGEST
        size = table[_OVERHEAD]
        if n:
            size += data[at + end - 1]
            if n > 1:
                size += data[at + end - 2] << 8
        return size if table[_DATA_AT] + table[_DATA_TAIL] <= size <= self.LONGEST else 0

    def _good(self, at, size):
        if self._check(self._in, at, size, False):
            return True
        self.fault = CHECKSUM
        return False

    def _hand_over(self, at, size, sink, now):
        if self.is_echo(at, size):
            self.echoes = (self.echoes + 1) & MASK
            return
        self.rx = (self.rx + 1) & MASK
        data = self._in
        table = self.TABLE
        node = table[_NODE_AT]
        node = 1 if node == NO_NODE else data[at + node]
        n = size - table[_DATA_AT] - table[_DATA_TAIL]
        sink.on_reply(node, data[at + table[_COMMAND_AT]], at + table[_DATA_AT], n, now)


class Framed(PolledDriver):
    """Base of their drivers: one frame answers a poll; see `Asked`."""

    # the polls of a scan, in their order: (name, command, bytes of poll and answer without cells
    # and temperatures, bytes for each cell, bytes for each temperature); STEPS is their number. The
    # answer to the last one holds FIELDS and ALARMS
    POLLS: tuple = ()
    ALARMS = b""
    ALARMS_AT = 0  # offset of their first byte in an answer
    ALARMS_STEP = 1  # -1: the next bits stand in the byte before

    def size(self, m, step):
        """Bytes of a poll and its answer."""
        slave = self.members[m]
        row = self.POLLS[step]
        return (
            row[2] + row[3] * self.pack.slave_cells[slave] + row[4] * self.pack.slave_temps[slave]
        )

    def counts(self, command, at, n) -> int:
        """Cells | temperatures << 8 that an answer shows, its n bytes from `at` in `link.data`.

        0: it shows none; -1: its counts and its length disagree.
        """
        return 0

    def take(self, m, command, at, n, now) -> bool:
        """Read member m's answer to a poll; False where its counts and its length disagree."""
        raise NotImplementedError

    def poll_of(self, command):
        """The step of POLLS that a command answers, `COMMAND`, or below that: neither."""
        for step in range(len(self.POLLS)):
            if self.POLLS[step][1] == command:
                return step
        return _UNKNOWN

    def on_reply(self, node, command, at, n, now):
        """A good frame, n bytes of data from `at` in `link.data`; evaluated before this returns."""
        m = self.member(node)
        step = self.poll_of(command)
        if m < 0 or step < COMMAND or not self.waits_for(m, step):
            self.unexpected = (self.unexpected + 1) & MASK
        elif step == COMMAND or self.take(m, command, at, n, now):
            self.answered(now)
        else:
            self.damaged = (self.damaged + 1) & MASK

    def fit_counts(self, m, part, counts):
        """As `fit`: as many cells as the pack file says, at least its sensors.

        counts: cells | temps << 8.
        """
        slave = self.members[m]
        cells = counts & 0xFF
        enough = counts >> 8 >= self.pack.slave_temps[slave]
        return self.fit(m, part, enough and cells == self.pack.slave_cells[slave], cells)

    def take_alarms(self, m, at, now, warn=0):
        """The bits of ALARMS in an answer at `at` in `link.data`; warn: more bits of base.A_*."""
        flags = alarm_flags(self.ALARMS, self.link.data, at + self.ALARMS_AT, self.ALARMS_STEP)
        self.alarms(m, flags & 0xFF, flags >> 8 | warn, now)
