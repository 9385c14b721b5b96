"""Driver of JBD (Xiaoxiang) boards on a UART or RS-485 port: one board per port, no bus address.

Source: the vendor's UART protocol as read in public documents and open implementations. 9600 8N1,
big-endian. Request `DD A5 reg 00 ckH ckL 77`, reply `DD reg status len data ckH ckL 77`, checksum
0x10000 - sum of what stands between register (request) or status (reply) and the checksum.
Units: cells mV; temperatures 0.1 K in steps, given here in 0.1 degC; stack voltage 10 mV; current
10 mA, + = charge. It measures no temperature of its own: its warmest sensor stands for it.
Uncertain: the order of the balance bits (bit 0 = cell 1 by most accounts); newer units may take
the FET command in another register, and answer with a status that is counted as refused.
The board balances by itself, and no command for it is documented. The first request after a sleep
may go unanswered: each is repeated once in a scan. Its checksum is a sum: see
`CommercialDriver.WEAK`. Temperatures at which it only forbids charging warn: its open charge FET
limits the power.
"""

from micropython import const

from bms.links.reply import ReplyLink
from bms.pack import ALONE
from bms.slaves import base
from bms.slaves.commercial import word
from bms.slaves.fields import S16, U8, U16, read_fields, take_cells, take_temps
from bms.slaves.frames import NEGATIVE_SUM16, NO_NODE, Framed, FrameLink
from bms.slaves.polled import COMMAND
from bms.ticks import MASK

BASIC = const(0x03)
CELLS = const(0x04)
NAME = const(0x05)
FETS = const(0xE1)

STATUS_TEXT = {0x80: "no such command", 0x81: "operation error", 0x82: "checksum", 0x83: "password"}

NO_END = const(3)  # behind the reasons of ReplyLink

_START = const(0xDD)
_END = const(0x77)
_READ = const(0xA5)
_WRITE = const(0x5A)
_FRAME = const(7)  # bytes of a frame beside its data
_CELLS_OF_BOARD = const(21)  # bytes of BASIC
_SENSORS = const(22)
_TEMPS_AT = const(23)
_CHARGE_FET = const(1)  # of BASIC; in a command the same bits switch them off
_DISCHARGE_FET = const(2)
_KELVIN_DC = const(2731)


class JbdLink(FrameLink):
    """See `FrameLink`; the status of a reply stands two bytes before its data."""

    REASONS = ReplyLink.REASONS + ("no end byte 77",)
    LONGEST = 262
    TABLE = bytes((_START, 3, 1, _FRAME, NO_NODE, 1, 4, 3, NEGATIVE_SUM16, 2, 3, 3))

    def request(self, how, register, n):
        """Send a read, or a write of the n bytes in `out` from byte 4."""
        out = self.out
        out[0] = _START
        out[1] = how
        out[2] = register
        out[3] = n
        out[6 + n] = _END
        return self.send_checked(_FRAME + n)

    def _good(self, at, size):
        if self._in[at + size - 1] != _END:
            self.fault = NO_END
            return False
        return FrameLink._good(self, at, size)

    def is_echo(self, at, size):
        """A request has its kind where a reply has the register."""
        return self._in[at + 1] == _READ or self._in[at + 1] == _WRITE


class Jbd(Framed):
    """One JBD board; see `Framed`.

    balance_low, balance_high: bits of cells 1-16, 17-32; fets: bit 0 charge, 1 discharge; version:
    two digits of 4 bits. refused: replies with a status other than ok; status: of the last reply.
    """

    ABILITIES = base.OWN_FETS
    REPORTS = ALONE
    MOST = 1
    NODES = (1, 1)
    PARTS = 3
    WEAK = True
    GAP_MS = 20
    ANSWER_MS = 200
    TYPICAL_MS = 20
    LONGEST = 90
    frame = JbdLink
    # values of FIELDS that the driver uses
    balance_low: int
    balance_high: int
    fets: int
    POLLS = (("cells", CELLS, 14, 2, 0), ("basic", BASIC, 37, 0, 2))
    STEPS = len(POLLS)
    FIELDS = (
        ("current_ma", 2, S16, 0, 10),
        ("remaining_mah", 4, U16, 0, 10),
        ("nominal_mah", 6, U16, 0, 10),
        ("cycles", 8, U16, 0, 1),
        ("balance_low", 12, U16, 0, 1),
        ("balance_high", 14, U16, 0, 1),
        ("protection", 16, U16, 0, 1),
        ("version", 18, U8, 0, 1),
        ("soc_pm", 19, U8, 0, 10),
        ("fets", 20, U8, 0, 1),
    )
    ALARMS_AT = 17
    ALARMS_STEP = -1
    ALARMS = (
        b"H cell_overvoltage\n"
        b"L cell_undervoltage\n"
        b"H pack_overvoltage\n"
        b"L pack_undervoltage\n"
        b"t charge_overtemperature\n"
        b"f charge_undertemperature\n"
        b"T discharge_overtemperature\n"
        b"F discharge_undertemperature\n"
        b"C charge_overcurrent\n"
        b"C discharge_overcurrent\n"
        b"S short_circuit\n"
        b"D afe_error\n"
        b"- fet_lock\n"  # set by a user; `switches` reports the rest
    )

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.refused = self.status = 0

    def send_poll(self, m, step):
        """Cells first, then everything else."""
        return self.link.request(_READ, self.POLLS[step][1], 0)

    def command_fets(self, m, on):
        """Both FETs: the command's bits switch them off."""
        self.link.out[4] = 0
        self.link.out[5] = 0 if on else _CHARGE_FET | _DISCHARGE_FET
        return self.link.request(_WRITE, FETS, 2)

    def poll_of(self, command):
        """As `Framed.poll_of`; the reply to a FET command."""
        return COMMAND if command == FETS else Framed.poll_of(self, command)

    def on_reply(self, node, command, at, n, now):
        """As `Framed.on_reply`; a reply with a bad status is counted, and has no data."""
        self.status = self.link.data[at - 2]
        step = self.poll_of(command)
        awaited = step >= COMMAND and self.waits_for(0, step)
        if awaited and self.status:
            self.refused = (self.refused + 1) & MASK
            if step == COMMAND:
                self.answered(now)
        else:
            Framed.on_reply(self, node, command, at, n, now)

    def counts(self, command, at, n):
        """See `Framed.counts`."""
        data = self.link.data
        if command == CELLS:
            return n // 2
        if command != BASIC:
            return 0
        if n < _TEMPS_AT or n < _TEMPS_AT + 2 * data[at + _SENSORS]:
            return -1
        return data[at + _CELLS_OF_BOARD] | data[at + _SENSORS] << 8

    def _cells_read(self, at, n):
        """Whether n bytes are cells: no check covers the register, so it may be another reply."""
        for i in range(at, at + n, 2):
            if word(self.link.data, i) <= self.MOST_MV:
                return not n & 1
        return not n

    def take(self, m, command, at, n, now):
        """See `Framed.take`."""
        counts = self.counts(command, at, n)
        if counts < 0:
            return False
        if command == CELLS:
            if not self._cells_read(at, n):
                return False
            if self.fit(m, 1, n == 2 * self.pack.slave_cells[self.members[m]], counts):
                balancing = self.balance_low > 0 or self.balance_high > 0
                take_cells(self, m, at, counts, now, balancing)
            return True
        data = self.link.data
        read_fields(self, self.FIELDS, data, at)
        known = self.fit_counts(m, 2, counts)
        self.take_alarms(m, at, now)
        if known:
            self.switches(m, self.fets & _CHARGE_FET, self.fets & _DISCHARGE_FET)
            warmest = take_temps(self, m, at + _TEMPS_AT, _KELVIN_DC, now)
            self.board(m, word(data, at) * 10, warmest, now)
        return True
