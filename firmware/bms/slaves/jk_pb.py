"""Driver of JK-PB boards on RS-485 in trigger mode: up to 15 on a line, addresses 1..15 by switch.

Source: the vendor's "BMS RS485 Modbus" documents as read in public, and captured frames. 115200
8N1. A Modbus write to a trigger register (function 10, 1620 status) is answered by a frame of 300
bytes, little-endian: `55AAEB90`, type, .., sum of all before it; then a byte 00; then the write's
acknowledgement with its CRC. Only that names the board: a frame without it is nobody's. Address 0
makes a board the master of its line: never put one there, and none is asked. Plain Modbus reads
exist and are reported to fail half the time: they are not used.
Units: cells mV; temperatures 0.1 degC; stack voltage mV; current mA, + = charge. The board needs
100 ms between questions and answers after 35 to 50 ms: 15 boards take 2.5 s. The sum of 8 bits
lets one damaged frame in 256 pass: see `Asked.WEAK`. Balancing is allowed or not by register 1078,
FETs by 1070 and 1074. Uncertain: which cells there are is taken from the mask at byte 70, which
captures show and documents leave out; an open sensor reads below -40 degC.
"""

from micropython import const

from bms.kernels import crc16_modbus, total
from bms.links.reply import ReplyLink
from bms.slaves import base
from bms.slaves.asked import COMMAND, Asked

STATUS = const(2)  # types of frames
SETTINGS = const(1)
TRIGGER_STATUS = const(0x20)  # low byte of the register 16xx

# bits of the alarm word: name, what it is to us, whether it trips
ALARMS = (
    ("wire_resistance", base.A_HARDWARE, False),
    ("mos_overtemperature", base.A_TEMP_HIGH, True),
    ("cell_count", base.A_HARDWARE, True),
    ("current_sensor", base.A_HARDWARE, True),
    ("cell_overvoltage", base.A_CELL_HIGH, True),
    ("battery_overvoltage", base.A_CELL_HIGH, True),
    ("charge_overcurrent", base.A_CURRENT, True),
    ("charge_short_circuit", base.A_SHORT, True),
    # forbid charging only: the open charge FET limits the power
    ("charge_overtemperature", base.A_TEMP_HIGH, False),
    ("charge_undertemperature", base.A_TEMP_LOW, False),
    ("bit_10", base.A_OTHER, False),
    ("cell_undervoltage", base.A_CELL_LOW, True),
    ("battery_undervoltage", base.A_CELL_LOW, True),
    ("discharge_overcurrent", base.A_CURRENT, True),
    ("discharge_short_circuit", base.A_SHORT, True),
    ("discharge_overtemperature", base.A_TEMP_HIGH, True),
)

FRAME = const(300)
_WHOLE = const(309)  # with the 00 and the acknowledgement
_WRITE = const(0x10)
_START = const(0x55)
_CHARGE = const(0x70)  # low bytes of the registers 10xx
_DISCHARGE = const(0x74)
_BALANCE = const(0x78)
_TEMPS_AT = bytes((162, 164, 0, 2))  # of sensors 1..4; the last two from 256 on
_NO_SENSOR_DC = const(-400)
_MOST_DC = const(1500)
_MOST_MV = const(8000)


class JkPbLink(ReplyLink):
    """data: the bytes. Frames go to `sink.on_status(address, type, at, now)`, acknowledgements of
    words to `sink.on_ack(address, page, register, now)`, the two bytes of the register.

    bare: frames without an acknowledgement are taken, as address 0: for captures.
    """

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or JkPb.UART_BPS, _WHOLE)
        self.data = self._in
        self.bare = False

    def trigger(self, address, register):
        """Ask for the frame of register 16xx."""
        out = self.out
        out[2] = 0x16
        out[4] = 0
        out[5] = 1
        out[6] = 2
        out[7] = out[8] = 0
        return self._request(address, register, 9)

    def write(self, address, register, value):
        """Write a byte to the 32 bits at register 10xx."""
        out = self.out
        out[2] = 0x10
        out[4] = 0
        out[5] = 2
        out[6] = 4
        out[7] = out[8] = out[9] = 0
        out[10] = value
        return self._request(address, register, 11)

    def _request(self, address, register, n):
        out = self.out
        out[0] = address
        out[1] = _WRITE
        out[3] = register
        crc = crc16_modbus(out, 0, n)
        out[n] = crc & 0xFF
        out[n + 1] = crc >> 8
        return self.send(n + 2)

    def _size(self, at, filled):
        data = self._in
        first = data[at]
        left = filled - at
        if first == _START:
            if left > 1 and data[at + 1] != 0xAA or left > 2 and data[at + 2] != 0xEB:
                return 0
            if left > 3 and data[at + 3] != 0x90:
                return 0
            return FRAME if self.bare else _WHOLE
        if not 1 <= first <= 15 or left > 1 and data[at + 1] != _WRITE:
            return 0
        if left > 2 and data[at + 2] != 0x16 and data[at + 2] != 0x10:
            return 0
        if left > 4 and data[at + 4] or left > 5 and not 1 <= data[at + 5] <= 2:
            return 0
        if left < 8 or self._sealed(at, 6):
            return 8
        n = 7 + 2 * data[at + 5]  # what a request of ours looks like
        return n + 2 if data[at + 6] == n - 7 else 0

    def _sealed(self, at, n):
        crc = crc16_modbus(self._in, at, at + n)
        end = at + n
        return self._in[end] == crc & 0xFF and self._in[end + 1] == crc >> 8

    def _good(self, at, size):
        data = self._in
        self.fault = 2  # CHECKSUM
        if size < FRAME:
            return self._sealed(at, size - 2)
        if total(data, at, at + 299) & 0xFF != data[at + 299]:
            return False
        if size == FRAME:
            return True
        ack = at + 301
        return (
            data[ack + 1] == _WRITE
            and data[ack + 2] == 0x16
            and data[ack + 4] == 0
            and data[ack + 5] == 1
            and self._sealed(ack, 6)
        )

    def _hand_over(self, at, size, sink, now):
        data = self._in
        self.fault = 0
        if size >= FRAME:
            self.rx = (self.rx + 1) & 0x1FFFFFFF
            address = 0 if size == FRAME else data[at + 301]
            sink.on_status(address, data[at + 4], at, now)
        elif size > 8:
            self.echoes = (self.echoes + 1) & 0x1FFFFFFF  # the adapter lets us hear ourselves
        else:
            self.rx = (self.rx + 1) & 0x1FFFFFFF
            sink.on_ack(data[at], data[at + 2], data[at + 3], now)


class JkPb(Asked):
    """All JK-PB boards of one line; see `Asked`.

    What the board that answered last says of itself: current_ma, soc_pm, remaining_mah,
    nominal_mah, cycles, health_pm, alarm_bits (16), balancing (0, 1 charging, 2 discharging a
    cell); -1 = not said yet.
    """

    ABILITIES = base.BALANCE_ON_OFF | base.OWN_FETS
    NODES = (1, 15)
    MOST = 15
    TEMPS = 4
    WEAK = True
    GAP_MS = 100
    ANSWER_MS = 150
    TYPICAL_MS = 45
    LONGEST = _WHOLE + 11
    UART_BPS = 115200
    frame = JkPbLink

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.current_ma = self.soc_pm = self.remaining_mah = self.nominal_mah = self.cycles = -1
        self.health_pm = self.alarm_bits = self.balancing = -1

    def size(self, m, step):
        """Bytes of the question and its answer."""
        return 11 + _WHOLE

    def ask(self, m, step):
        """The status frame: it holds everything."""
        return self.link.trigger(self._node[m], TRIGGER_STATUS)

    # --- words ---

    def tell_balance(self, m, on):
        """Register 1078."""
        return self.link.write(self._node[m], _BALANCE, on)

    def tell_fets(self, m, on):
        """Registers 1070 and, with the next word, 1074."""
        self.also(m, 1 if on else 0)
        return self.link.write(self._node[m], _CHARGE, 1 if on else 0)

    def tell_other_fet(self, m, value):
        """Register 1074."""
        return self.link.write(self._node[m], _DISCHARGE, value)

    # --- answers ---

    def _member(self, address):
        return 0 if not address and self._listening else self.member(address)

    def on_ack(self, address, page, register, now):
        """A board has taken a word; one that belongs to a damaged frame is nothing."""
        m = self._member(address)
        said = page == 0x10 and (register == self.link.out[3] or self._listening)
        if said and m >= 0 and self.waits_for(m, COMMAND):
            self.answered(now)
        else:
            self.strange = (self.strange + 1) & 0x1FFFFFFF

    def on_status(self, address, kind, at, now):
        """A good frame of a board, its bytes from `at` in `link.data`."""
        m = self._member(address)
        if m < 0 or kind != STATUS or not self.waits_for(m, 0):
            self.strange = (self.strange + 1) & 0x1FFFFFFF
            return
        self._take(m, at, now)
        self.answered(now)

    def _word(self, at):
        data = self.link.data
        return data[at] | data[at + 1] << 8

    def _signed(self, at):
        value = self._word(at)
        return value - 0x10000 if value & 0x8000 else value

    def _three(self, at):
        """24 bits of a field of 32, signed: more would not fit into a small int."""
        value = self._word(at) | self.link.data[at + 2] << 16
        return value - 0x1000000 if value & 0x800000 else value

    def _take(self, m, at, now):
        data = self.link.data
        count = 0
        while count < 32 and data[at + 70 + (count >> 3)] >> (count & 7) & 1:
            count += 1
        slave = self.members[m]
        known = self.fit(m, 1, count == self.pack.slave_cells[slave], count)
        self.current_ma = self._three(at + 158)
        self.soc_pm = data[at + 173] * 10
        self.remaining_mah = self._three(at + 174)
        self.nominal_mah = self._three(at + 178)
        self.cycles = self._word(at + 182)
        self.health_pm = data[at + 190] * 10
        self.alarm_bits = self._word(at + 166)
        self.balancing = data[at + 172]
        trip = warn = 0
        for bit in range(len(ALARMS)):
            if self.alarm_bits >> bit & 1:
                if ALARMS[bit][2]:
                    trip |= ALARMS[bit][1]
                else:
                    warn |= ALARMS[bit][1]
        if self._word(at + 168):
            warn |= base.A_OTHER  # bits that no document names
        self.alarms(m, trip, warn, now)
        if not known:
            return
        self.switches(m, data[at + 198], data[at + 199])
        for i in range(count):
            mv = self._word(at + 6 + 2 * i)
            if mv <= _MOST_MV:
                self.cell(m, i, mv, now, self.balancing != 0)
        for i in range(self.pack.slave_temps[slave]):
            where = _TEMPS_AT[i] if i < 2 else 256 + _TEMPS_AT[i]
            dc = self._signed(at + where)
            if _NO_SENSOR_DC < dc < _MOST_DC:
                self.temp(m, i, dc, now)
        die_dc = self._signed(at + 144)
        if _NO_SENSOR_DC < die_dc < _MOST_DC:
            self.board(m, self._three(at + 150), die_dc, now)
