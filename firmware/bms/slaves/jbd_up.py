"""Driver of JBD-UP rack units (UP16S010, UP16S020, ..) on RS-485, by the addresses set in them.

Source: no vendor document; two public analyses of the vendor's tool, and captures of two units on
one line, agree but for what is named below. Big-endian. Question `address 78 1000 10A0 0000 crc`,
answer the same head with the length of its data, the data, and CRC-16/Modbus, low byte first.
Units: cells mV; temperatures 0.1 degC above -50 degC; stack voltage 10 mV; current 10 mA around
300000, + = charge; charge 10 mAh. The warmest of its own parts is the MOSFETs' sensor. A unit
balances by itself. Its FETs can be told by function 79 only after an unlocking that no source shows
whole: that is not built, so `fets` is refused. Uncertain: the rate (9600 by most, one says 19200:
`rate` in [[link]]); gap and answer time (`gap`, `answer`); which of the two words behind the
temperatures names the cells that are bled: any bit of either counts; the highest address.
Temperatures at which it only forbids charging warn: its open charge FET limits the power.
"""

from micropython import const

from bms.kernels import crc16_modbus
from bms.links.reply import ReplyLink
from bms.slaves import base
from bms.slaves.asked import Asked

# bits of the protection mask: name, what it is to us, whether it trips
PROTECTION = (
    ("cell_overvoltage", base.A_CELL_HIGH, True),
    ("cell_undervoltage", base.A_CELL_LOW, True),
    ("pack_overvoltage", base.A_CELL_HIGH, True),
    ("pack_undervoltage", base.A_CELL_LOW, True),
    ("charge_overcurrent_1", base.A_CURRENT, True),
    ("charge_overcurrent_2", base.A_CURRENT, True),
    ("discharge_overcurrent_1", base.A_CURRENT, True),
    ("discharge_overcurrent_2", base.A_CURRENT, True),
    ("charge_overtemperature", base.A_TEMP_HIGH, False),
    ("charge_undertemperature", base.A_TEMP_LOW, False),
    ("discharge_overtemperature", base.A_TEMP_HIGH, True),
    ("discharge_undertemperature", base.A_TEMP_LOW, True),
    ("mos_overtemperature", base.A_TEMP_HIGH, True),
    ("ambient_overtemperature", base.A_TEMP_HIGH, True),
    ("ambient_undertemperature", base.A_TEMP_LOW, True),
    ("cells_apart", base.A_OTHER, False),
    ("temps_apart", base.A_OTHER, False),
    ("soc_low", base.A_OTHER, False),
    ("short_circuit", base.A_SHORT, True),
    ("cell_offline", base.A_HARDWARE, True),
    ("temp_drop", base.A_HARDWARE, True),
    ("charge_mos", base.A_HARDWARE, True),
    ("discharge_mos", base.A_HARDWARE, True),
    ("current_limiter", base.A_HARDWARE, False),
    ("aerosol", base.A_OTHER, True),  # its fire suppression
    ("full", 0, False),  # charged to the end: `switches` tells what it did
    ("afe", base.A_HARDWARE, True),
)

HEAD = const(8)
_READ = const(0x78)
_LONGEST = const(320)
_CELLS_AT = const(66)
_ZERO_DC = const(500)
_NO_SENSOR_DC = const(-400)
_MOST_DC = const(1500)
_MOST_MV = const(8000)
_ZERO_CURRENT = const(300000)


class JbdUpLink(ReplyLink):
    """data: the bytes; an answer goes to `sink.on_reply(address, at, n, now)`, n data from `at`."""

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or JbdUp.UART_BPS, _LONGEST)
        self.data = self._in

    def ask(self, address):
        """Ask a unit for its status, registers 1000 to 10A0."""
        out = self.out
        out[0] = address
        out[1] = _READ
        out[2] = out[4] = 0x10
        out[3] = out[6] = out[7] = 0
        out[5] = 0xA0
        crc = crc16_modbus(out, 0, HEAD)
        out[HEAD] = crc & 0xFF
        out[HEAD + 1] = crc >> 8
        return self.send(HEAD + 2)

    def _size(self, at, filled):
        data = self._in
        left = filled - at
        if not 1 <= data[at] <= JbdUp.MOST or left > 1 and data[at + 1] != _READ:
            return 0
        if left > 2 and data[at + 2] != 0x10 or left > 3 and data[at + 3]:
            return 0
        if left > 4 and data[at + 4] != 0x10 or left > 5 and data[at + 5] != 0xA0:
            return 0
        if left < HEAD:
            return _LONGEST
        size = HEAD + 2 + (data[at + 6] << 8 | data[at + 7])
        return size if size <= _LONGEST else 0

    def _good(self, at, size):
        crc = crc16_modbus(self._in, at, at + size - 2)
        if self._in[at + size - 2] == crc & 0xFF and self._in[at + size - 1] == crc >> 8:
            return True
        self.fault = 2  # CHECKSUM
        return False

    def _hand_over(self, at, size, sink, now):
        if size == HEAD + 2:
            self.echoes = (self.echoes + 1) & 0x1FFFFFFF  # no data: our own question heard again
            return
        self.rx = (self.rx + 1) & 0x1FFFFFFF
        sink.on_reply(self._in[at], at + HEAD, size - HEAD - 2, now)


class JbdUp(Asked):
    """All JBD-UP units of one line; see `Asked`.

    What the unit that answered last says of itself: current_ma, soc_pm, remaining_mah, nominal_mah,
    cycles, health_pm, protection (its low 16 bits), balance (any cell is bled); -1 = not said yet.
    """

    NODES = (1, 16)
    MOST = 16
    STEPS = 1
    PARTS = 1
    GAP_MS = 50
    ANSWER_MS = 300
    TYPICAL_MS = 50
    LONGEST = 260
    UART_BPS = 9600
    frame = JbdUpLink

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.current_ma = self.soc_pm = self.remaining_mah = self.nominal_mah = self.cycles = -1
        self.health_pm = self.protection = self.balance = -1

    def size(self, m, step):
        """Bytes of a question and its answer."""
        slave = self.members[m]
        fixed = 2 * (HEAD + 2) + _CELLS_AT + 54
        return fixed + 2 * (self.pack.slave_cells[slave] + self.pack.slave_temps[slave])

    def ask(self, m, step):
        """The status: it holds everything."""
        return self.link.ask(self._node[m])

    def on_reply(self, address, at, n, now):
        """One good answer, its n bytes of data from `at` in `link.data`; judged at once."""
        m = self.member(address)
        if m < 0 or not self.waits_for(m, 0):
            self.strange = (self.strange + 1) & 0x1FFFFFFF
            return
        if not self._take(m, at, n, now):
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
            return
        self.answered(now)

    def _word(self, at):
        data = self.link.data
        return data[at] << 8 | data[at + 1]

    def _dc(self, at):
        return self._word(at) - _ZERO_DC

    def _take(self, m, at, n, now):
        """False where counts and length disagree."""
        data = self.link.data
        if n < _CELLS_AT + 4:
            return False
        cells = self._word(at + _CELLS_AT)
        temps_at = _CELLS_AT + 2 + 2 * cells
        if temps_at + 2 > n:
            return False
        temps = self._word(at + temps_at)
        behind = temps_at + 2 + 2 * temps
        if behind + 4 > n:
            return False
        self._take_status(m, at, now)
        self.balance = 1 if self._word(at + behind) or self._word(at + behind + 2) else 0
        pack = self.pack
        slave = self.members[m]
        fits = cells == pack.slave_cells[slave] and temps >= pack.slave_temps[slave]
        if not self.fit(m, 1, fits, cells):
            return True
        self.switches(m, data[at + 33] & 2, data[at + 33] & 1)
        for i in range(cells):
            mv = self._word(at + _CELLS_AT + 2 + 2 * i)
            if mv <= _MOST_MV:
                self.cell(m, i, mv, now, self.balance != 0)
        for i in range(pack.slave_temps[slave]):
            dc = self._dc(at + temps_at + 2 + 2 * i)
            if _NO_SENSOR_DC < dc < _MOST_DC:
                self.temp(m, i, dc, now)
        mos_dc = self._dc(at + 16)
        if _NO_SENSOR_DC < mos_dc < _MOST_DC:
            self.board(m, self._word(at) * 10, mos_dc, now)
        return True

    def _take_status(self, m, at, now):
        data = self.link.data
        if not data[at + 4]:  # more than 160 kA is none
            raw = data[at + 5] << 16 | self._word(at + 6)
            self.current_ma = (raw - _ZERO_CURRENT) * 10
        self.soc_pm = self._word(at + 8) // 10
        self.remaining_mah = self._word(at + 10) * 10
        self.nominal_mah = self._word(at + 12) * 10
        self.health_pm = self._word(at + 22) * 10
        self.protection = self._word(at + 26)
        self.cycles = self._word(at + 36)
        trip = warn = 0
        for bit in range(len(PROTECTION)):
            if data[at + 27 - (bit >> 3)] >> (bit & 7) & 1:
                if PROTECTION[bit][2]:
                    trip |= PROTECTION[bit][1]
                else:
                    warn |= PROTECTION[bit][1]
        if self._word(at + 28) or self._word(at + 30):
            warn |= base.A_OTHER  # what it warns of by itself
        self.alarms(m, trip, warn, now)
