"""Driver of JBD (Xiaoxiang) boards on a UART or RS-485 port: one board per port, no bus address.

Source: the vendor's UART protocol as read in public documents and open implementations. 9600 8N1,
big-endian. Request `DD A5 reg 00 ckH ckL 77`, reply `DD reg status len data ckH ckL 77`, checksum
0x10000 - sum of what stands between register (request) or status (reply) and the checksum.
Units: cells mV; temperatures 0.1 K in steps, given here in 0.1 degC; stack voltage 10 mV; current
10 mA, + = charge. Uncertain: the order of the balance bits (bit 0 = cell 1 by most accounts).
The board balances by itself and its FETs are its own: this version reads, and commands neither.
The first request after a sleep may go unanswered: each is repeated once in a scan.
"""

from micropython import const

from bms import faults as F
from bms import ticks
from bms.kernels import put, shift
from bms.pack import BLEEDING, FRESH, NEW, SEEN
from bms.slaves.base import BALANCE_ON_OFF, OWN_FETS, Driver

BASIC = const(0x03)
CELLS = const(0x04)
NAME = const(0x05)

# bits of the protection word
PROTECTION = (
    "cell_overvoltage",
    "cell_undervoltage",
    "pack_overvoltage",
    "pack_undervoltage",
    "charge_overtemperature",
    "charge_undertemperature",
    "discharge_overtemperature",
    "discharge_undertemperature",
    "charge_overcurrent",
    "discharge_overcurrent",
    "short_circuit",
    "afe_error",
    "fet_lock",
)
SEVERE = const(0x0FFF)  # all but the FET lock, which a person sets
STATUS_TEXT = {0x80: "no such command", 0x81: "operation error", 0x82: "checksum", 0x83: "password"}

# why the last piece was refused
NO_FAULT, TRUNCATED, CHECKSUM, END_BYTE = range(4)
REASONS = ("", "truncated", "wrong checksum", "no end byte 77")

_START = const(0xDD)
_END = const(0x77)
_READ = const(0xA5)
_WRITE = const(0x5A)
_LONGEST = const(262)
_QUIET_MS = const(300)  # without an answer for so long, the request is repeated
_GAP_MS = const(20)  # between an answer and the next request
_KELVIN_DC = const(2731)
_NO_SENSOR_DC = const(-400)  # what an open thermistor reads


class JbdLink:
    """Finds replies in a stream of bytes, wherever they begin; see `SerialLink` for the counters.

    reply: register, status, then data of the reply handed to the sink; fault: why the last piece
    was refused, an index of REASONS; echoes: own requests heard again.
    """

    polled = True

    def __init__(self, stream, rate=0):
        self.rate = rate or Jbd.UART_BPS
        self.rx = self.tx = self.damaged = self.dropped = self.echoes = 0
        self.fault = NO_FAULT
        self.reply = bytearray(_LONGEST)
        self._stream = stream
        self._chunk = bytearray(64)
        self._in = bytearray(_LONGEST + 64)
        self._filled = 0
        self._out = bytearray(7)

    def ask(self, register):
        """Send a read request; False (and counted) where the port did not take all of it."""
        out = self._out
        out[0] = _START
        out[1] = _READ
        out[2] = register
        out[3] = 0
        out[4] = 0xFF if register else 0
        out[5] = (0x100 - register) & 0xFF
        out[6] = _END
        self.tx += 1
        if self._stream.write(out, 0, 7) != 7:
            self.dropped += 1
            return False
        return True

    def poll(self, sink, now):
        """Take what has come; each good reply goes to `sink.on_reply(register, status, n, now)`."""
        for _ in range(8):
            got = self._stream.read(self._chunk)
            if not got:
                return
            if self._filled + got > len(self._in):
                self._drop(self._filled + got - len(self._in))
            self._filled = put(self._in, self._filled, self._chunk, got)
            self._search(sink, now)

    def end(self, sink, now):
        """Nothing more comes: what is left, and looked like the front of a reply, is damaged."""
        self._search(sink, now)
        at = 0
        while at < self._filled and self._in[at] != _START:
            at += 1
        if at < self._filled:
            self.damaged += 1
            if self.fault == NO_FAULT:
                self.fault = TRUNCATED
        self._filled = 0

    def _drop(self, n):
        self.damaged += 1
        self._filled = shift(self._in, n, self._filled)

    def _search(self, sink, now):
        """Hand over every whole reply; a front that may still become one is kept, and only that.

        A false start with a large length must not hide a reply behind it: all starts are tried.
        """
        data = self._in
        keep = -1
        at = 0
        filled = self._filled
        while at < filled:
            if data[at] != _START:
                at += 1
                continue
            total = data[at + 3] + 7 if at + 4 <= filled else _LONGEST
            if at + total > filled:
                if keep < 0:
                    keep = at
                at += 1
                continue
            if self._good(at, total):
                self._hand_over(at, total, sink, now)
                at += total
                keep = -1  # a front before a good reply was none
                continue
            if keep < 0:
                self.damaged += 1  # counted once, as it is dropped
            at += 1
        if keep < 0:
            self._filled = 0
        elif keep:
            self._filled = shift(data, keep, filled)

    def _good(self, at, total):
        data = self._in
        end = at + total
        if data[end - 1] != _END:
            self.fault = END_BYTE
            return False
        check = 0
        for i in range(at + 2, end - 3):
            check += data[i]
        if (0x10000 - check) & 0xFFFF != data[end - 3] << 8 | data[end - 2]:
            self.fault = CHECKSUM
            return False
        return True

    def _hand_over(self, at, total, sink, now):
        register = self._in[at + 1]
        if register == _READ or register == _WRITE:
            self.echoes += 1  # the adapter lets us hear ourselves
            return
        n = total - 7
        for i in range(n):
            self.reply[i] = self._in[at + 4 + i]
        self.rx += 1
        sink.on_reply(register, self._in[at + 2], n, now)


class Jbd(Driver):
    """One JBD board; see `Driver`.

    What it says of itself: current_ma, remaining_mah, nominal_mah, cycles, soc_pm, protection,
    balance_low and balance_high (bits of cells 1-16, 17-32), fets (bit 0 charge, 1 discharge),
    version (nibbles); -1 = not said yet. refused: replies with a status other than ok.
    """

    ABILITIES = BALANCE_ON_OFF | OWN_FETS
    ALARM_MS = 3000
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
        self._low_mv = config.cell_hard_min_mv
        self._high_mv = config.cell_hard_max_mv
        self._high_dc = config.temp_hard_max_dc
        self._asked = 0  # the register that may be answered now, 0 = none
        self._tries = 0
        self._at = 0
        self._waiting = False  # for the gap before the next request
        self._misfits = bytearray(2)  # replies in a row with other cells, other sensors
        self._fits = bytearray(2)

    def scan_ms(self, config):
        """ms that both requests and replies take on the wire at the least, and the gaps."""
        number = 14 + (7 + 2 * self._cells) + (7 + 23 + 2 * self._temps)
        return number * 10000 // self.link.rate + 2 * _GAP_MS + 1

    def begin(self, seq, now):
        """Start a scan: cells first, then everything else."""
        if not self.done:
            self.missed += 1
        self.done = False
        self._waiting = False
        self._tries = 0
        self._ask(CELLS, now)

    def step(self, now):
        """Take what has come; ask on, or again."""
        self.link.poll(self, now)
        since = ticks.diff(now, self._at)
        self.alarm_step(now)
        if self.done:
            return
        if self._waiting:
            if since >= _GAP_MS:
                self._waiting = False
                self._tries = 0
                self._ask(BASIC, now)
        elif since >= _QUIET_MS:
            if self._tries < 2:
                self._ask(self._asked, now)
            else:
                self._asked = 0
                self.missed += 1
                self.done = True

    def expect(self, register):
        """Say which register may be answered now."""
        self._asked = register

    def on_reply(self, register, status, n, now):
        """One good reply, its data in `link.reply`; cells are judged before this ends."""
        self.status = status
        if register != self._asked:
            self.strange += 1
            return
        if status:
            self.refused += 1
            return
        self._at = now
        if register == CELLS:
            self._take_cells(n, now)
            self._waiting = True
            self._asked = 0
        elif register == BASIC:
            self._take_basic(n, now)
            self._asked = 0
            self.done = True

    def _ask(self, register, now):
        self._tries += 1
        self.expect(register)
        self._at = now
        self.link.ask(register)

    def _word(self, at):
        reply = self.link.reply
        return reply[at] << 8 | reply[at + 1]

    def _fit(self, which, fits, found):
        """Cells (0) or sensors (1) are as configured; believed when it is said twice otherwise."""
        pack = self.pack
        if fits:
            self._misfits[which] = 0
            self._fits[which] = 1
            if self._fits[0] and self._fits[1] and not pack.known[self.slave]:
                pack.known[self.slave] = 1
                self.faults.gone(F.SLAVE_MISMATCH, self.slave)
            return
        self._misfits[which] += 1
        if self._misfits[which] >= 2:
            self._misfits[which] = 0
            self._fits[which] = 0
            pack.known[self.slave] = 0
            self.faults.raised(F.SLAVE_MISMATCH, self.slave, found)

    def _take_cells(self, n, now):
        pack = self.pack
        fits = n == 2 * self._cells
        known = pack.known[self.slave]
        self._fit(0, fits, n // 2)
        if not fits or not known:
            return
        base = pack.first_cell[self.slave]
        flags = FRESH | SEEN | NEW
        if self.balance_low > 0 or self.balance_high > 0:
            flags |= BLEEDING
        for i in range(self._cells):
            mv = self._word(2 * i)
            if mv > 0x7FFF:
                continue  # no cell has 32 V: not a reading, let it age
            pack.cell_mv[base + i] = mv
            pack.cell_flags[base + i] = flags
            pack.cell_at[base + i] = now
            if mv < self._low_mv or mv > self._high_mv:
                self.limits.hard_cell(base + i, mv)

    def _take_basic(self, n, now):
        reply = self.link.reply
        if n < 23 or n < 23 + 2 * reply[22]:
            self.damaged += 1
            return
        pack = self.pack
        slave = self.slave
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
        known = pack.known[slave]
        self._fit(1, reply[22] >= self._temps and reply[21] == self._cells, reply[21])
        if self.protection & SEVERE:
            self.alarmed(slave, self.protection, now)
        if not known or not pack.known[slave]:
            return
        pack.stack_mv[slave] = self._word(0) * 10
        pack.stack_at[slave] = now
        pack.stack_ok[slave] = 1
        pack.slave_flags[slave] = self.protection
        base = pack.first_temp[slave]
        for i in range(self._temps):
            dc = self._word(23 + 2 * i) - _KELVIN_DC
            if dc <= _NO_SENSOR_DC or dc > 0x7000:
                continue  # an open sensor: let the last reading age
            pack.temp_dc[base + i] = dc
            pack.temp_flags[base + i] = FRESH | SEEN | NEW
            pack.temp_at[base + i] = now
            if dc > self._high_dc:
                self.limits.hard_temp(base + i, dc)
