"""Driver of JK boards of the B series on their GPS port: a UART with one board, no bus address.

Source: the vendor's "RS485 communication protocol" V2.5 as read in public documents, and captured
frames. 115200 8N1, big-endian. `4E57 length(2) terminal(4) command source type fields.. record(4)
68 0000 sum(2)`: length = all bytes less 2, sum over all bytes before the last four. One poll
reads all fields, which some boards send as an answer to 03; each is a code and a value, whose
length depends on the code. A frame with an unknown code is refused. Units: cells mV; temperatures
degC, above 100 it is 100 - x; stack voltage 10 mV; current 10 mA, + = charge. Field 80 is the
board's own temperature, 81 and 82 are the sensors. Its checksum is a sum: see
`CommercialDriver.WEAK`. Balancing can be allowed or forbidden; before a command the driver sends
the factory's password. Uncertain: whether a board needs the password, and how long it stays valid.
If it was changed, the board refuses commands and keeps control of its FETs and of balancing.
"""

from micropython import const

from bms import ticks
from bms.links.reply import CHECKSUM
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word
from bms.slaves.fields import U8, U16, U32, alarm_flags, number
from bms.slaves.frames import NO_NODE, SUM16, Framed, FrameLink
from bms.slaves.polled import COMMAND
from bms.ticks import MASK

WRITE = const(0x02)
PASSWORD = const(0x05)
READ = const(0x03)
READ_ALL = const(0x06)

# codes of fields
_FIRST = const(0x79)
_CELLS = const(0x79)
_BOARD_TEMP = const(0x80)
_TEMP_1 = const(0x81)
_TEMP_2 = const(0x82)
_STACK = const(0x83)
_CURRENT = const(0x84)
_ALARM = const(0x8B)
_BALANCE = const(0x9D)
_CHARGE = const(0xAB)
_DISCHARGE = const(0xAC)
_PASSWORD_FIELD = const(0xB2)
_PROTOCOL = const(0xC0)  # 1: the current has another format
_LAST = const(0xC0)
# bits of field 8C
_CHARGE_FET = const(1)
_DISCHARGE_FET = const(2)
_BALANCING = const(4)  # it is allowed
# bytes of each field from 79 on; 0: none is documented
_IN_NEXT_BYTE = const(255)
_LENGTHS = bytes((_IN_NEXT_BYTE, 0, 0, 0, 0, 0, 0)) + bytes(
    # 80                                  88
    (2, 2, 2, 2, 2, 1, 1, 2, 0, 4, 2, 2, 2, 0, 2, 2)
    # 90                                  98
    + (2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2)
    # A0                                  A8
    + (2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 4, 1, 1, 2, 1, 1)
    # B0                                  B8
    + (2, 1, 10, 1, 8, 4, 4, 15, 1, 4, 24, 1, 1, 1, 2, 2)
    # C0
    + (1,)
)
_HEAD = const(11)  # bytes before the fields
_TAIL = const(9)  # and behind them
_END = const(0x68)
_FACTORY_PASSWORD = b"123456\0\0\0\0"
_PASSWORD_MS = const(150)
_CHARGING = const(0x8000)  # bit of the current in the other format
_REPLY = const(1)  # type of a frame from the board


class JkTtlLink(FrameLink):
    """See `FrameLink`; the data of a reply are its fields."""

    UART_BPS = 115200
    LONGEST = 400
    TABLE = bytes((0x4E, 2, 2, 2, NO_NODE, 8, _HEAD, _TAIL, SUM16, 0, 4, 2, 1, 0x57, 0x57))

    def request(self, command, n):
        """Send a frame whose n bytes of fields stand in `out` from byte 11."""
        out = self.out
        size = _HEAD + n + _TAIL
        for i in range(size):
            if not _HEAD <= i < _HEAD + n:
                out[i] = 0
        out[0] = 0x4E
        out[1] = 0x57
        out[3] = size - 2
        out[8] = command
        out[9] = 3 if command == READ_ALL else 2
        out[size - 5] = _END
        return self.send_checked(size)

    def is_echo(self, at, size):
        """A request has another type."""
        return self._in[at + 10] != _REPLY

    def _good(self, at, size):
        if self._in[at + size - 5] != _END:
            self.fault = CHECKSUM
            return False
        return FrameLink._good(self, at, size)


class JkTtl(Framed):
    """One JK board; see `Framed`. In FIELDS the code of a field stands in place of its offset.

    state_bits: _CHARGE_FET, _DISCHARGE_FET, _BALANCING.
    """

    ABILITIES = base.BALANCE_ON_OFF | base.OWN_FETS
    MOST = 1
    NODES = (1, 1)
    TEMPS = 2
    WEAK = True
    GAP_MS = 100
    ANSWER_MS = 200
    TYPICAL_MS = 20
    LONGEST = 320
    UART_BPS = 115200
    frame = JkTtlLink
    state_bits: int  # of FIELDS
    POLLS = (("all", READ_ALL, 262, 3, 0),)
    STEPS = len(POLLS)
    FIELDS = (
        ("soc_pm", 0x85, U8, 0, 10),
        ("cycles", 0x87, U16, 0, 1),
        ("alarm_bits", _ALARM, U16, 0, 1),
        ("state_bits", 0x8C, U16, 0, 1),
        ("capacity_ah", 0xAA, U32, 0, 1),
    )
    ALARMS = (
        b"o low_capacity\n"
        b"T mos_overtemperature\n"
        b"H charge_overvoltage\n"
        b"L discharge_undervoltage\n"
        b"T battery_overtemperature\n"
        b"C charge_overcurrent\n"
        b"C discharge_overcurrent\n"
        b"o cell_difference\n"
        b"T box_overtemperature\n"
        b"F low_temperature\n"
        b"H cell_overvoltage\n"
        b"L cell_undervoltage\n"
        b"D 309_a\n"
        b"D 309_b\n"
    )

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.current_ma = -1
        self._flags = 0  # alarms, as `alarm_flags` gives them
        self._queue = bytearray(4)  # codes and values of commands that wait to be sent
        self._waiting = 0
        self._unlocked = False  # the password was taken, for one command
        self._last_at = 0
        self._missed = 0  # `missed` when the commands were given
        self._known = 0

    def send_poll(self, m, step):
        """Everything at once."""
        self.link.out[_HEAD] = 0
        return self.link.request(READ_ALL, 1)

    # --- commands ---

    def command(self, m, now):
        """As `PolledDriver.command`; queued commands come first, each after the password."""
        if self._missed != self.missed:
            self._waiting = 0  # no answer to a command or its password, or it is old
        if not self._waiting:
            return super().command(m, now)
        if ticks.since(now, self._last_at) < _PASSWORD_MS:
            return False
        if not self._unlocked:
            return self._unlock()
        self._unlocked = False
        out = self.link.out
        queue = self._queue
        out[_HEAD] = queue[0]
        out[_HEAD + 1] = queue[1]
        queue[0] = queue[2]
        queue[1] = queue[3]
        self._waiting -= 1
        self._last_at = now
        return self.link.request(WRITE, 2)

    def command_balance(self, m, on):
        """Field 9D."""
        return self._queue_command(_BALANCE, on, 0)

    def command_fets(self, m, on):
        """Both FETs."""
        return self._queue_command(_CHARGE, 1 if on else 0, _DISCHARGE)

    def _queue_command(self, code, value, also):
        queue = self._queue
        queue[0] = code
        queue[2] = also
        queue[1] = queue[3] = value
        self._waiting = 2 if also else 1
        self._missed = self.missed
        return self._unlock()

    def _unlock(self):
        """The password: some boards want it before each command."""
        self._unlocked = False
        out = self.link.out
        out[_HEAD] = _PASSWORD_FIELD
        for i in range(10):
            out[_HEAD + 1 + i] = _FACTORY_PASSWORD[i]
        return self.link.request(PASSWORD, 11)

    # --- answers ---

    def on_reply(self, node, command, at, n, now):
        """As `Framed.on_reply`; the answer to a command, or to its password."""
        if command == READ and n and self.link.data[at] == _CELLS:
            command = READ_ALL  # all of them begin with the cells
        if command != WRITE and command != PASSWORD:
            Framed.on_reply(self, node, command, at, n, now)
        elif not self.waits_for(0, COMMAND) or self.link.out[8] != command:
            self.unexpected = (self.unexpected + 1) & MASK
        else:
            self._unlocked = command == PASSWORD
            self._last_at = now
            self.answered(now)

    def counts(self, command, at, n):
        """See `Framed.counts`: the cells come first, and a frame has both sensors."""
        data = self.link.data
        return (data[at + 1] // 3 if n > 1 and data[at] == _CELLS else 0) | self.TEMPS << 8

    def take(self, m, command, at, n, now):
        """All fields; False where their lengths and that of the frame disagree."""
        return self._walk(at, at + n, False, now) and self._walk(at, at + n, True, now)

    def _walk(self, at, end, take, now):
        """Go from field to field: to see whether they fill the frame, then to read them."""
        data = self.link.data
        die_dc = NO_SENSOR_DC
        stack_mv = current = -1
        newer = False
        while at < end:
            code = data[at]
            if not _FIRST <= code <= _LAST:
                return False
            n = _LENGTHS[code - _FIRST]
            at += 1
            if n == _IN_NEXT_BYTE:
                n = data[at]
                at += 1
            if not n or at + n > end or code == _CELLS and n % 3:
                return False
            if take:
                if code == _CELLS:
                    self._cells(at, n // 3, now)
                elif code == _BOARD_TEMP:
                    die_dc = _degrees(word(data, at))
                elif code == _TEMP_1 or code == _TEMP_2:
                    self._temp(code - _TEMP_1, _degrees(word(data, at)), now)
                elif code == _STACK:
                    stack_mv = word(data, at) * 10
                elif code == _CURRENT:
                    current = word(data, at)
                elif code == _PROTOCOL:
                    newer = data[at] == 1
                else:
                    self._field(code, at)
            at += n
        if take:
            if current >= 0:
                self.current_ma = _current(current, newer)
            self.alarms(0, self._flags & 0xFF, self._flags >> 8, now)
            if self._known and self.state_bits >= 0:
                self.switches(0, self.state_bits & _CHARGE_FET, self.state_bits & _DISCHARGE_FET)
            if self._known and stack_mv >= 0:
                self.board(0, stack_mv, die_dc, now)
        return True

    def _field(self, code, at):
        data = self.link.data
        if code == _ALARM:
            self._flags = alarm_flags(self.ALARMS, data, at + 1, -1)
        for name, known, form, zero, scale in self.FIELDS:
            if known == code:
                setattr(self, name, (number(data, at, form) - zero) * scale)

    def _cells(self, at, count, now):
        data = self.link.data
        fits = count == self.pack.slave_cells[self.members[0]]
        for i in range(count):
            fits = fits and data[at + 3 * i] == i + 1
        self._known = self.fit(0, 1, fits, count)
        if not self._known:
            return
        balancing = (
            self.state_bits > 0 and self.state_bits & _BALANCING != 0 and self._commanded[0] == 1
        )
        for i in range(count):
            mv = word(data, at + 3 * i + 1)
            if mv <= self.MOST_MV:
                self.cell(0, i, mv, now, balancing)

    def _temp(self, i, dc, now):
        if self._known and i < self.pack.slave_temps[self.members[0]] and dc > NO_SENSOR_DC:
            self.temp(0, i, dc, now)


def _degrees(raw):
    """Field 80, 81, 82 in 0.1 degC; -4000 where it can't be."""
    if raw > 140:
        return -4000
    return raw * 10 if raw <= 100 else (100 - raw) * 10


def _current(raw, newer):
    """Field 84 in mA, + = charge; newer: field C0 is 1."""
    if newer:
        return (raw & ~_CHARGING) * 10 if raw & _CHARGING else -raw * 10
    return (10000 - raw) * 10
