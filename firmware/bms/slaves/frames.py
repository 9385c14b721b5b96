"""Polled boards whose frames a table describes: fixed bytes, a length, a check; and their polls.

Nothing here allocates after start-up.
"""

from micropython import const

from bms.kernels import crc16_modbus, total
from bms.links.reply import CHECKSUM, ReplyLink
from bms.slaves.asked import COMMAND, Asked
from bms.ticks import MASK

_UNKNOWN = const(-2)  # neither a poll nor `COMMAND`

# checks
SUM8 = const(0)  # one byte: the sum
SUM16 = const(1)  # two bytes, high one first: the sum
NEGATIVE_SUM16 = const(2)  # its two's complement
CRC16_MODBUS = const(3)  # two bytes, low one first


def check_of(how, data, start, end):
    """The check over data[start:end], as its bytes stand in a frame, the first one high."""
    if how == CRC16_MODBUS:
        crc = crc16_modbus(data, start, end)
        return (crc & 0xFF) << 8 | crc >> 8
    value = total(data, start, end)
    if how == NEGATIVE_SUM16:
        value = -value
    return value & 0xFF if how == SUM8 else value & 0xFFFF


class FrameLink(ReplyLink):
    """data: the bytes; a frame goes to `sink.on_reply(node, command, at, n, now)`, n data at `at`.

    A subclass fills the table of its frames and says which ones are echoes. Offsets count from a
    frame's first byte; what is named END or TAIL counts from its end.
    """

    UART_BPS = 9600
    START = -1  # the first byte of a frame; -1: any
    LONGEST = 320  # bytes of a frame
    CHUNK = 64  # see `ReplyLink`
    HEAD = b""  # offset, lowest, highest value of each byte that is known
    LENGTH_AT = LENGTH_BYTES = 0  # of the length field; 0 bytes: all frames have OVERHEAD bytes
    OVERHEAD = 0  # bytes that the length field does not count
    NODE_AT = -1  # -1: one board, node 1
    COMMAND_AT = 0
    DATA_AT = 0
    DATA_TAIL = 0  # bytes behind the data
    CHECK = SUM8
    CHECK_FROM = 0  # the first byte that is checked
    CHECK_END = 1  # bytes at the end that are not checked
    CHECK_TAIL = 1  # where the check begins

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or self.UART_BPS, self.LONGEST, self.START, self.CHUNK)
        self.data = self._in

    def put(self, question):
        """Copy a question to `out`, to be completed there; `send_checked` sends it."""
        for i in range(len(question)):
            self.out[i] = question[i]

    def send_checked(self, size):
        """Complete a frame of `size` bytes in `out` with its check, and send it."""
        out = self.out
        check = check_of(self.CHECK, out, self.CHECK_FROM, size - self.CHECK_END)
        at = size - self.CHECK_TAIL
        if self.CHECK != SUM8:
            out[at] = check >> 8
            at += 1
        out[at] = check & 0xFF
        return self.send(size)

    def is_echo(self, at, size):
        """True where a good frame is a poll of ours, heard through the adapter: it has no data."""
        return size == self.OVERHEAD

    def _size(self, at, filled):
        data = self._in
        head = self.HEAD
        left = filled - at
        for i in range(0, len(head), 3):
            if left > head[i] and not head[i + 1] <= data[at + head[i]] <= head[i + 2]:
                return 0
        n = self.LENGTH_BYTES
        end = self.LENGTH_AT + n
        if left < end:
            return self._longest
        size = self.OVERHEAD
        if n:
            size += data[at + end - 1]
            if n > 1:
                size += data[at + end - 2] << 8
        return size if self.DATA_AT + self.DATA_TAIL <= size <= self._longest else 0

    def _good(self, at, size):
        data = self._in
        end = at + size
        check = check_of(self.CHECK, data, at + self.CHECK_FROM, end - self.CHECK_END)
        end -= self.CHECK_TAIL
        said = data[end] if self.CHECK == SUM8 else data[end] << 8 | data[end + 1]
        if check == said:
            return True
        self.fault = CHECKSUM
        return False

    def _hand_over(self, at, size, sink, now):
        if self.is_echo(at, size):
            self.echoes = (self.echoes + 1) & MASK
            return
        self.rx = (self.rx + 1) & MASK
        data = self._in
        node = 1 if self.NODE_AT < 0 else data[at + self.NODE_AT]
        n = size - self.DATA_AT - self.DATA_TAIL
        sink.on_reply(node, data[at + self.COMMAND_AT], at + self.DATA_AT, n, now)


class Framed(Asked):
    """Base of their drivers: one frame answers a poll; see `Asked`."""

    # the polls of a scan, in their order: (name, command, bytes of poll and answer without cells
    # and temperatures, bytes for each cell, bytes for each temperature); the answer to the last one
    # holds FIELDS and ALARMS
    POLLS: tuple = ()

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.STEPS = len(self.POLLS)

    def size(self, m, step):
        """Bytes of a poll and its answer."""
        slave = self.members[m]
        row = self.POLLS[step]
        return (
            row[2] + row[3] * self.pack.slave_cells[slave] + row[4] * self.pack.slave_temps[slave]
        )

    def counts(self, command, at, n):
        """Cells | temperatures << 8 that an answer shows, its n bytes from `at` in `link.data`.

        0: it shows none; -1: its counts and its length disagree.
        """
        return 0

    def take(self, m, command, at, n, now):
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
            self.strange = (self.strange + 1) & MASK
        elif step == COMMAND or self.take(m, command, at, n, now):
            self.answered(now)
        else:
            self.damaged = (self.damaged + 1) & MASK
