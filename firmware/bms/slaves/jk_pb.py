"""Driver of JK-PB boards on RS-485 in trigger mode: up to 15 on a line, addresses 1..15 by switch.

Source: the vendor's "BMS RS485 Modbus" documents as read in public, captured frames, and for what
firmware does otherwise the pull requests 425 and 428 of venus-os_dbus-serialbattery. 115200 8N1. A
Modbus write to a trigger register (function 10, 1620 status) is answered by a frame of 300 bytes,
little-endian: `55AAEB90`, type, .., sum of all before it; and by the write's acknowledgement with
its CRC: behind the frame at once, behind a byte 00, or in front of it, by firmware. Only the
acknowledgement names the board: a frame without it is refused. Address 0 makes a board the master
of its line: never give a board this address. Plain Modbus reads exist and are reported to fail half
the time: they are not used. Firmware from 15.36 on answers 1620 only within 200 ms after another
poll: the second try polls the settings (161E) first, whatever comes of it, and where it is always
the second that is answered, the first does too. Units: cells mV; temperatures 0.1 degC; stack
voltage mV; current mA, + = charge. The board needs 100 ms between polls and answers after 35 to 50
ms: 15 boards take 2.5 s, with the other poll twice that. The sum of 8 bits lets one damaged frame
in 256 pass: see `CommercialDriver.WEAK`. Register 1078 allows balancing, 1070 and 1074 switch the
FETs. Uncertain: the driver takes the number of cells from the mask at byte 70, which captures show
and documents leave out; a sensor is absent where its bit in byte 214 is 0, unless all bits are, or
where it reads below -40 degC.
"""

from micropython import const

from bms import ticks
from bms.kernels.slave_checksums import crc16_modbus, total
from bms.links.reply import CHECKSUM, NO_FAULT, ReplyLink
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word_le
from bms.slaves.fields import S16_LE, S24_LE, U8, U16_LE, U24_LE, alarm_flags, number, read_fields
from bms.slaves.polled import COMMAND, PolledDriver
from bms.ticks import MASK

STATUS = const(2)  # types of frames
SETTINGS = const(1)
TRIGGER_STATUS = const(0x20)  # low bytes of the registers 16xx
TRIGGER_SETTINGS = const(0x1E)

FRAME = const(300)
_ACK = const(8)
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
_UNNAMED_AT = const(169)  # bits that no document names
_CHARGE_FET_AT = const(198)
_DISCHARGE_FET_AT = const(199)
_SENSOR_MASK_AT = const(214)
_SENSOR_BITS = (1, 2, 4, 5)  # of sensors 1..4 in that mask
_SETTINGS_PAGE = const(0x10)  # high bytes of registers
_TRIGGER_PAGE = const(0x16)

_WAKE_MS = const(180)  # from the other poll to that for the status, at most
_SPEAKS_MS = const(5)  # a board that is silent for so long has ended
_ALWAYS = const(3)  # so often only the second try was answered: the other poll goes first
_LOOK_AGAIN = const(64)  # scans until a board is polled without it once more


class JkPbLink(ReplyLink):
    """data: the bytes. Frames go to `sink.on_status(address, type, at, now)`, acknowledgements of
    commands to `sink.on_ack(address, page, register, now)`, the two bytes of the register.

    For captures: bare: frames without an acknowledgement are read, as address 0; before: an
    acknowledgement may stand in front of its frame.
    """

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or JkPb.UART_BPS, _WHOLE)
        self.data = self._in
        self.bare = False
        self.before = True
        self._acked = 0  # board that has acknowledged the last request, and sent no frame yet

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
        self._acked = 0
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
            if self.bare or self._acked:
                return FRAME
            at_once = left >= FRAME + _ACK and self._is_ack(at + FRAME)
            return FRAME + _ACK if at_once else _WHOLE
        if not 1 <= first <= 15 or left > 1 and data[at + 1] != _WRITE:
            return 0
        if left > 2 and data[at + 2] != _TRIGGER_PAGE and data[at + 2] != _SETTINGS_PAGE:
            return 0
        if left > 4 and data[at + 4] or left > 5 and not 1 <= data[at + 5] <= 2:
            return 0
        if left < _ACK or self._crc_fits(at, 6):
            return _ACK
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
        return size < _WHOLE or self._is_ack(at + FRAME + 1)

    def _is_ack(self, at):
        """Whether the acknowledgement of a poll is there."""
        data = self._in
        return (
            1 <= data[at] <= 15
            and data[at + 1] == _WRITE
            and data[at + 2] == _TRIGGER_PAGE
            and data[at + 4] == 0
            and data[at + 5] == 1
            and self._crc_fits(at, 6)
        )

    def _hand_over(self, at, size, sink, now):
        data = self._in
        self.fault = NO_FAULT
        address = data[at]
        if size >= FRAME:
            self.rx = (self.rx + 1) & MASK
            address = self._acked if size == FRAME else data[at + size - _ACK]
            self._acked = 0
            sink.on_status(address, data[at + 4], at, now)
        elif size > _ACK:
            self.echoes = (self.echoes + 1) & MASK  # our own, returned by the adapter
            if address != self._acked:
                self._acked = 0
        else:
            self.rx = (self.rx + 1) & MASK
            if self.before and data[at + 2] == _TRIGGER_PAGE:
                self._acked = address
            sink.on_ack(address, data[at + 2], data[at + 3], now)


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
        ("alarm_bits", 166, U24_LE, 0, 1),
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
        b"o cpu_communication\n"
        b"L cell_undervoltage\n"
        b"L battery_undervoltage\n"
        b"C discharge_overcurrent\n"
        b"S discharge_short_circuit\n"
        b"T discharge_overtemperature\n"
        b"d charge_mosfet\n"
        b"d discharge_mosfet\n"
        b"- gps_lost\n"
        b"- password_unchanged\n"
        b"o discharge_not_possible\n"
        b"T battery_overtemperature\n"
        b"d temperature_sensor\n"
        b"o plc_module\n"
    )

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self._waking = False  # the other poll was sent, that for the status comes next
        self._woken = False  # the other poll was answered
        self.wakes = bytearray(n)  # so often only the second try was answered, up to _ALWAYS
        # scans with the other poll first, in a row; not all look again in the same one
        self._scans = bytearray([4 * m for m in range(n)])

    def size(self, m, step):
        """Bytes of the poll and its answer."""
        return 11 + _WHOLE

    def scan_ms(self, config):
        """ms that a scan of all members takes at least: bytes, answer times and gaps."""
        ms = PolledDriver.scan_ms(self, config)
        for m in range(len(self.members)):
            if self.wakes[m] == _ALWAYS:
                ms += _WAKE_MS
        return ms

    def send_poll(self, m, step):
        """The status frame: it holds everything; see `wake`."""
        first = self._tries <= 1
        if self.wakes[m] == _ALWAYS:
            if first:
                self._scans[m] = self._scans[m] + 1 & _LOOK_AGAIN - 1
            first = first and not self._scans[m]
        if first:
            return self.link.trigger(self._node[m], TRIGGER_STATUS)
        return self.wake(m)

    def wake_always(self, m):
        """Member m is known to answer the status only behind the other poll."""
        self.wakes[m] = _ALWAYS

    def wake(self, m):
        """The other poll; that for the status must follow within 200 ms."""
        self._waking = True
        self._woken = False
        return self.link.trigger(self._node[m], TRIGGER_SETTINGS)

    def _look_late(self, now):
        if not self._waking:
            PolledDriver._look_late(self, now)
        elif self._until_awake(now) <= 0:
            self._waking = False
            self._wait_from(now)
            self.link.trigger(self._node[self._m], TRIGGER_STATUS)

    def _until_awake(self, now):
        """ms until the poll for the status: the gap behind the answer to the other one."""
        quiet = ticks.since(now, self.link.rx_at)
        ms = _WAKE_MS - ticks.diff(now, self._at)
        if self._woken and self._gap + 1 - quiet < ms:
            return self._gap + 1 - quiet
        return ms if ms > 0 or quiet > _SPEAKS_MS else 1

    def rest(self, now):
        """ms until `step` has something to do, if nothing arrives before."""
        if self._waking and not self.link.unsent():
            return self._until_awake(now)
        return PolledDriver.rest(self, now)

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
        """A board acknowledges a command; that of a status frame does not count by itself."""
        m = self._member(address)
        if page == _TRIGGER_PAGE and m >= 0 and self.waits_for(m, 0):
            return
        expected = page == _SETTINGS_PAGE and (register == self.link.out[3] or self._listening)
        if expected and m >= 0 and self.waits_for(m, COMMAND):
            self.answered(now)
        else:
            self.unexpected = (self.unexpected + 1) & MASK

    def on_status(self, address, kind, at, now):
        """A good frame of a board, its bytes from `at` in `link.data`."""
        m = self._member(address)
        waited = m >= 0 and self.waits_for(m, 0)
        if waited and self._waking and kind != STATUS:
            self._woken = True  # some firmware answers with device information
            return
        if not waited or kind != STATUS:
            self.unexpected = (self.unexpected + 1) & MASK
            return
        self._waking = False
        self._learn(m)
        self._take(m, at, now)
        self.answered(now)

    def _learn(self, m):
        """Whether member m answers the status only behind the other poll."""
        wakes = self.wakes[m]
        if self._tries == 1:
            if wakes < _ALWAYS or not self._scans[m]:
                self.wakes[m] = 0
        elif wakes < _ALWAYS and self._tries:
            self.wakes[m] = wakes + 1

    def _take(self, m, at, now):
        data = self.link.data
        count = 0
        while count < 32 and data[at + _CELL_MASK_AT + (count >> 3)] >> (count & 7) & 1:
            count += 1
        slave = self.members[m]
        known = self.fit(m, 1, count == self.pack.slave_cells[slave], count)
        read_fields(self, self.FIELDS, data, at)
        flags = alarm_flags(self.ALARMS, data, at + _ALARMS_AT)
        others = base.A_OTHER if data[at + _UNNAMED_AT] else 0
        self.alarms(m, flags & 0xFF, flags >> 8 | others, now)
        if not known:
            return
        self.switches(m, data[at + _CHARGE_FET_AT], data[at + _DISCHARGE_FET_AT])
        for i in range(count):
            mv = word_le(data, at + _CELLS_AT + 2 * i)
            if mv <= self.MOST_MV:
                self.cell(m, i, mv, now, self.balancing != 0)
        sensors = data[at + _SENSOR_MASK_AT]
        for i in range(self.pack.slave_temps[slave]):
            if sensors and not sensors >> _SENSOR_BITS[i] & 1:
                continue
            dc = number(data, at + _TEMPS_AT[i], S16_LE)
            if NO_SENSOR_DC < dc < self.MOST_DC:
                self.temp(m, i, dc, now)
        die_dc = number(data, at + _MOS_AT, S16_LE)
        if NO_SENSOR_DC < die_dc < self.MOST_DC:
            self.board(m, number(data, at + _STACK_AT, S24_LE), die_dc, now)
