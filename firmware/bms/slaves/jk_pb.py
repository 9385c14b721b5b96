"""Driver of JK-PB boards on RS-485 in trigger mode: up to 15 on a line, addresses 1..15 by switch.

Source: the vendor's "BMS RS485 Modbus" documents as read in public, and captured frames. 115200
8N1. A Modbus write to a trigger register (function 10, 1620 status) is answered by a frame of 300
bytes, little-endian: `55AAEB90`, type, .., sum of all before it; then a byte 00; then the write's
acknowledgement with its CRC. Only the acknowledgement names the board: a frame without it is
refused. Address 0 makes a board the master of its line: never give a board this address. Plain
Modbus reads exist and are reported to fail half the time: they are not used.
Units: cells mV; temperatures 0.1 degC; stack voltage mV; current mA, + = charge. The board needs
100 ms between polls and answers after 35 to 50 ms: 15 boards take 2.5 s. The sum of 8 bits lets one
damaged frame in 256 pass: see `CommercialDriver.WEAK`. Register 1078 allows balancing, 1070 and
1074 switch the FETs. Uncertain: the driver takes the number of cells from the mask at byte 70,
which captures show and documents leave out; an open sensor reads below -40 degC.
"""

from micropython import const

from bms.kernels.slave_checksums import crc16_modbus, total
from bms.links.reply import CHECKSUM, NO_FAULT, ReplyLink
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word_le
from bms.slaves.fields import S16_LE, S24_LE, U8, U16_LE, alarm_flags, number, read_fields
from bms.slaves.polled import COMMAND, PolledDriver
from bms.ticks import MASK

STATUS = const(2)  # types of frames
SETTINGS = const(1)
TRIGGER_STATUS = const(0x20)  # low byte of the register 16xx

FRAME = const(300)
_WHOLE = const(309)  # with the 00 and the acknowledgement
_WRITE = const(0x10)
_START = const(0x55)
_CHARGE = const(0x70)  # low bytes of the registers 10xx
_DISCHARGE = const(0x74)
_BALANCE = const(0x78)
_TEMPS_AT = (162, 164, 256, 258)  # of sensors 1..4
_CELLS_AT = const(6)
_CELL_MASK_AT = const(70)
_MOS_AT = const(144)
_STACK_AT = const(150)
_ALARMS_AT = const(166)
_UNNAMED_AT = const(168)  # bits that no document names
_CHARGE_FET_AT = const(198)
_DISCHARGE_FET_AT = const(199)
_SETTINGS_PAGE = const(0x10)  # high bytes of registers
_TRIGGER_PAGE = const(0x16)


class JkPbLink(ReplyLink):
    """data: the bytes. Frames go to `sink.on_status(address, type, at, now)`, acknowledgements of
    commands to `sink.on_ack(address, page, register, now)`, the two bytes of the register.

    bare: frames without an acknowledgement are read, as address 0: for captures.
    """

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or JkPb.UART_BPS, _WHOLE)
        self.data = self._in
        self.bare = False

    def trigger(self, address, register):
        """Poll the frame of register 16xx."""
        out = self.out
        out[2] = _TRIGGER_PAGE
        out[4] = 0
        out[5] = 1
        out[6] = 2
        out[7] = out[8] = 0
        return self._request(address, register, 9)

    def write(self, address, register, value):
        """Write a byte to the 32 bits at register 10xx."""
        out = self.out
        out[2] = _SETTINGS_PAGE
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
        if left > 2 and data[at + 2] != _TRIGGER_PAGE and data[at + 2] != _SETTINGS_PAGE:
            return 0
        if left > 4 and data[at + 4] or left > 5 and not 1 <= data[at + 5] <= 2:
            return 0
        if left < 8 or self._crc_fits(at, 6):
            return 8
        n = 7 + 2 * data[at + 5]  # of one of our own requests
        return n + 2 if data[at + 6] == n - 7 else 0

    def _crc_fits(self, at, n):
        crc = crc16_modbus(self._in, at, at + n)
        end = at + n
        return self._in[end] == crc & 0xFF and self._in[end + 1] == crc >> 8

    def _good(self, at, size):
        data = self._in
        self.fault = CHECKSUM
        if size < FRAME:
            return self._crc_fits(at, size - 2)
        if total(data, at, at + 299) & 0xFF != data[at + 299]:
            return False
        if size == FRAME:
            return True
        ack = at + 301
        return (
            data[ack + 1] == _WRITE
            and data[ack + 2] == _TRIGGER_PAGE
            and data[ack + 4] == 0
            and data[ack + 5] == 1
            and self._crc_fits(ack, 6)
        )

    def _hand_over(self, at, size, sink, now):
        data = self._in
        self.fault = NO_FAULT
        if size >= FRAME:
            self.rx = (self.rx + 1) & MASK
            address = 0 if size == FRAME else data[at + 301]
            sink.on_status(address, data[at + 4], at, now)
        elif size > 8:
            self.echoes = (self.echoes + 1) & MASK  # our own, returned by the adapter
        else:
            self.rx = (self.rx + 1) & MASK
            sink.on_ack(data[at], data[at + 2], data[at + 3], now)


class JkPb(PolledDriver):
    """All JK-PB boards of one line; see `PolledDriver`.

    FIELDS: of the board that answered last; of 32-bit ones the low 24 bits, as more would not fit
    into a small int. balancing: 0, 1 charging, 2 discharging a cell.
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
    balancing: int  # of FIELDS
    FIELDS = (
        ("current_ma", 158, S24_LE, 0, 1),
        ("alarm_bits", 166, U16_LE, 0, 1),
        ("balancing", 172, U8, 0, 1),
        ("soc_pm", 173, U8, 0, 10),
        ("remaining_mah", 174, S24_LE, 0, 1),
        ("nominal_mah", 178, S24_LE, 0, 1),
        ("cycles", 182, U16_LE, 0, 1),
        ("health_pm", 190, U8, 0, 10),
    )
    ALARMS = (
        b"d wire_resistance\n"
        b"T mos_overtemperature\n"
        b"D cell_count\n"
        b"D current_sensor\n"
        b"H cell_overvoltage\n"
        b"H battery_overvoltage\n"
        b"C charge_overcurrent\n"
        b"S charge_short_circuit\n"
        # forbid charging only: the open charge FET limits the power
        b"t charge_overtemperature\n"
        b"f charge_undertemperature\n"
        b"o bit_10\n"
        b"L cell_undervoltage\n"
        b"L battery_undervoltage\n"
        b"C discharge_overcurrent\n"
        b"S discharge_short_circuit\n"
        b"T discharge_overtemperature\n"
    )

    def size(self, m, step):
        """Bytes of the poll and its answer."""
        return 11 + _WHOLE

    def send_poll(self, m, step):
        """The status frame: it holds everything."""
        return self.link.trigger(self._node[m], TRIGGER_STATUS)

    # --- commands ---

    def command_balance(self, m, on):
        """Register 1078."""
        return self.link.write(self._node[m], _BALANCE, on)

    def command_fets(self, m, on):
        """Registers 1070 and, with the next command, 1074."""
        self.also(m, 1 if on else 0)
        return self.link.write(self._node[m], _CHARGE, 1 if on else 0)

    def command_other_fet(self, m, value):
        """Register 1074."""
        return self.link.write(self._node[m], _DISCHARGE, value)

    # --- answers ---

    def _member(self, address):
        return 0 if not address and self._listening else self.member(address)

    def on_ack(self, address, page, register, now):
        """A board acknowledges a command; that of a damaged status frame does not count."""
        m = self._member(address)
        expected = page == _SETTINGS_PAGE and (register == self.link.out[3] or self._listening)
        if expected and m >= 0 and self.waits_for(m, COMMAND):
            self.answered(now)
        else:
            self.unexpected = (self.unexpected + 1) & MASK

    def on_status(self, address, kind, at, now):
        """A good frame of a board, its bytes from `at` in `link.data`."""
        m = self._member(address)
        if m < 0 or kind != STATUS or not self.waits_for(m, 0):
            self.unexpected = (self.unexpected + 1) & MASK
            return
        self._take(m, at, now)
        self.answered(now)

    def _take(self, m, at, now):
        data = self.link.data
        count = 0
        while count < 32 and data[at + _CELL_MASK_AT + (count >> 3)] >> (count & 7) & 1:
            count += 1
        slave = self.members[m]
        known = self.fit(m, 1, count == self.pack.slave_cells[slave], count)
        read_fields(self, self.FIELDS, data, at)
        flags = alarm_flags(self.ALARMS, data, at + _ALARMS_AT)
        others = base.A_OTHER if word_le(data, at + _UNNAMED_AT) else 0
        self.alarms(m, flags & 0xFF, flags >> 8 | others, now)
        if not known:
            return
        self.switches(m, data[at + _CHARGE_FET_AT], data[at + _DISCHARGE_FET_AT])
        for i in range(count):
            mv = word_le(data, at + _CELLS_AT + 2 * i)
            if mv <= self.MOST_MV:
                self.cell(m, i, mv, now, self.balancing != 0)
        for i in range(self.pack.slave_temps[slave]):
            dc = number(data, at + _TEMPS_AT[i], S16_LE)
            if NO_SENSOR_DC < dc < self.MOST_DC:
                self.temp(m, i, dc, now)
        die_dc = number(data, at + _MOS_AT, S16_LE)
        if NO_SENSOR_DC < die_dc < self.MOST_DC:
            self.board(m, number(data, at + _STACK_AT, S24_LE), die_dc, now)
