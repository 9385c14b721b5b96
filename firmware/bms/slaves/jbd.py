"""Driver of JBD (Xiaoxiang) boards on a UART or RS-485 port: one board per port, no bus address.

Source: the vendor's UART protocol as read in public documents and open implementations. 9600 8N1,
big-endian. Request `DD A5 reg 00 ckH ckL 77`, reply `DD reg status len data ckH ckL 77`, checksum
0x10000 - sum of what stands between register (request) or status (reply) and the checksum.
Units: cells mV; temperatures 0.1 K in steps, given here in 0.1 degC; stack voltage 10 mV; current
10 mA, + = charge. It measures no temperature of its own: its warmest sensor stands for it.
Uncertain: the order of the balance bits (bit 0 = cell 1 by most accounts); newer units may take
the FET command in another register, and say so by a status that is counted as refused.
The board balances by itself, and no word for it is documented. The first request after a sleep may
go unanswered: each is repeated once in a scan. Its checksum is a sum: see `Asked.WEAK`.
Temperatures at which it only forbids charging warn: its open charge FET limits the power.
"""

from micropython import const

from bms.links.reply import ReplyLink
from bms.slaves import base
from bms.slaves.asked import COMMAND, Asked

BASIC = const(0x03)
CELLS = const(0x04)
NAME = const(0x05)
FETS = const(0xE1)

# bits of the protection word: name, and what it is to us
PROTECTION = (
    ("cell_overvoltage", base.A_CELL_HIGH),
    ("cell_undervoltage", base.A_CELL_LOW),
    ("pack_overvoltage", base.A_CELL_HIGH),
    ("pack_undervoltage", base.A_CELL_LOW),
    ("charge_overtemperature", base.A_TEMP_HIGH),
    ("charge_undertemperature", base.A_TEMP_LOW),
    ("discharge_overtemperature", base.A_TEMP_HIGH),
    ("discharge_undertemperature", base.A_TEMP_LOW),
    ("charge_overcurrent", base.A_CURRENT),
    ("discharge_overcurrent", base.A_CURRENT),
    ("short_circuit", base.A_SHORT),
    ("afe_error", base.A_HARDWARE),
    ("fet_lock", 0),  # a person set it; `switches` tells the rest
)
_WARNINGS = const(0x30)  # those that only forbid charging
STATUS_TEXT = {0x80: "no such command", 0x81: "operation error", 0x82: "checksum", 0x83: "password"}

NO_END = const(3)  # behind the reasons of ReplyLink

_START = const(0xDD)
_END = const(0x77)
_READ = const(0xA5)
_WRITE = const(0x5A)
_LONGEST = const(262)
_KELVIN_DC = const(2731)
_NO_SENSOR_DC = const(-400)  # what an open thermistor reads


class JbdLink(ReplyLink):
    """reply: data of the reply handed to `sink.on_reply(register, status, n, now)`."""

    REASONS = ReplyLink.REASONS + ("no end byte 77",)

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or Jbd.UART_BPS, _LONGEST, _START)
        self.reply = bytearray(_LONGEST)

    def read(self, register):
        """Send a read request; False (and counted) where the port did not take all of it."""
        return self._request(_READ, register, 0)

    def write(self, register, low):
        """Send a write request of the two bytes 0 and `low`."""
        self.out[4] = 0
        self.out[5] = low
        return self._request(_WRITE, register, 2)

    def _request(self, how, register, n):
        out = self.out
        out[0] = _START
        out[1] = how
        out[2] = register
        out[3] = n
        check = -(register + n + (out[5] if n else 0)) & 0xFFFF
        out[4 + n] = check >> 8
        out[5 + n] = check & 0xFF
        out[6 + n] = _END
        return self.send(7 + n)

    def _size(self, at, filled):
        return self._in[at + 3] + 7 if at + 4 <= filled else _LONGEST

    def _good(self, at, size):
        data = self._in
        end = at + size
        if data[end - 1] != _END:
            self.fault = NO_END
            return False
        check = 0
        for i in range(at + 2, end - 3):
            check += data[i]
        if -check & 0xFFFF != data[end - 3] << 8 | data[end - 2]:
            self.fault = 2  # CHECKSUM
            return False
        return True

    def _hand_over(self, at, size, sink, now):
        register = self._in[at + 1]
        if register == _READ or register == _WRITE:
            self.echoes = (self.echoes + 1) & 0x1FFFFFFF  # the adapter lets us hear ourselves
            return
        n = size - 7
        for i in range(n):
            self.reply[i] = self._in[at + 4 + i]
        self.rx = (self.rx + 1) & 0x1FFFFFFF
        sink.on_reply(register, self._in[at + 2], n, now)


class Jbd(Asked):
    """One JBD board; see `Asked`.

    What it says of itself: current_ma, remaining_mah, nominal_mah, cycles, soc_pm, protection,
    balance_low and balance_high (bits of cells 1-16, 17-32), fets (bit 0 charge, 1 discharge),
    version (nibbles); -1 = not said yet. refused: replies with a status other than ok.
    """

    ABILITIES = base.OWN_FETS
    MOST = 1
    NODES = (1, 1)
    STEPS = 2  # CELLS, BASIC
    PARTS = 3
    WEAK = True
    GAP_MS = 20
    ANSWER_MS = 200
    TYPICAL_MS = 20
    LONGEST = 90
    UART_BPS = 9600
    frame = JbdLink

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.slave = members[0]
        self.refused = 0
        self.status = 0  # of the last reply
        self.current_ma = self.remaining_mah = self.nominal_mah = self.cycles = self.soc_pm = -1
        self.protection = self.balance_low = self.balance_high = self.fets = self.version = -1
        self._cells = pack.slave_cells[self.slave]
        self._temps = pack.slave_temps[self.slave]

    def size(self, m, step):
        """Bytes of a question and its answer."""
        return 14 + (23 + 2 * self._temps if step else 2 * self._cells)

    def ask(self, m, step):
        """Cells first, then everything else."""
        return self.link.read(BASIC if step else CELLS)

    def tell_fets(self, m, on):
        """Both FETs: bit 0 disables charge, bit 1 discharge."""
        return self.link.write(FETS, 0 if on else 3)

    def on_reply(self, register, status, n, now):
        """One good reply, its data in `link.reply`; cells are judged before this ends."""
        self.status = status
        known = register == CELLS or register == BASIC or register == FETS
        step = COMMAND if register == FETS else register == BASIC
        if not known or not self.waits_for(0, step):
            self.strange = (self.strange + 1) & 0x1FFFFFFF
            return
        if status:
            self.refused = (self.refused + 1) & 0x1FFFFFFF
            if step == COMMAND:
                self.answered(now)
            return
        if register == CELLS:
            self._take_cells(n, now)
        elif register == BASIC:
            if not self._take_basic(n, now):
                self.damaged = (self.damaged + 1) & 0x1FFFFFFF
                return
        self.answered(now)

    def _word(self, at):
        reply = self.link.reply
        return reply[at] << 8 | reply[at + 1]

    def _take_cells(self, n, now):
        if not self.fit(0, 1, n == 2 * self._cells, n // 2):
            return
        bleeding = self.balance_low > 0 or self.balance_high > 0
        for i in range(self._cells):
            mv = self._word(2 * i)
            if mv <= 0x7FFF:  # no cell has 32 V: not a reading, let it age
                self.cell(0, i, mv, now, bleeding)

    def _take_basic(self, n, now):
        reply = self.link.reply
        if n < 23 or n < 23 + 2 * reply[22]:
            return False
        current = self._word(2)
        self.current_ma = (current - 0x10000 if current & 0x8000 else current) * 10
        self.remaining_mah = self._word(4) * 10
        self.nominal_mah = self._word(6) * 10
        self.cycles = self._word(8)
        self.balance_low = self._word(12)
        self.balance_high = self._word(14)
        self.protection = self._word(16)
        self.version = reply[18]
        self.soc_pm = reply[19] * 10
        self.fets = reply[20]
        known = self.fit(0, 2, reply[22] >= self._temps and reply[21] == self._cells, reply[21])
        trip = warn = 0
        for bit in range(len(PROTECTION)):
            if self.protection >> bit & 1:
                if _WARNINGS >> bit & 1:
                    warn |= PROTECTION[bit][1]
                else:
                    trip |= PROTECTION[bit][1]
        self.alarms(0, trip, warn, now)
        if not known:
            return True
        self.switches(0, self.fets & 1, self.fets & 2)
        hottest = _NO_SENSOR_DC
        for i in range(self._temps):
            dc = self._word(23 + 2 * i) - _KELVIN_DC
            if dc <= _NO_SENSOR_DC or dc > 0x7000:
                continue  # an open sensor: let the last reading age
            self.temp(0, i, dc, now)
            if dc > hottest:
                hottest = dc
        self.board(0, self._word(0) * 10, hottest, now)
        return True
