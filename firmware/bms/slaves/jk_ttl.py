"""Driver of JK boards of the B series on their GPS port: a UART with one board, no bus address.

Source: the vendor's "RS485 communication protocol" V2.5 as read in public documents, and captured
frames. 115200 8N1, big-endian. `4E57 length(2) terminal(4) command source type fields.. record(4)
68 0000 sum(2)`: length = all bytes less 2, sum over all bytes before the last four. All fields are
read by one question, each is a code and a value of a length that belongs to the code; a frame with
an unknown code is not read beyond it. Units: cells mV; temperatures degC, above 100 it is 100 - x;
stack voltage 10 mV; current 10 mA, + = charge. Field 80 is the board's own temperature, 81 and 82
are the sensors. Its checksum is a sum: see `Asked.WEAK`. Balancing can be allowed or not; a word is
sent behind the password, which is the one that boards leave the factory with. Uncertain: whether a
board wants it at all, and how long it takes it. Where it was changed, words are refused and FETs
and balancing stay as the board likes.
"""

from micropython import const

from bms import ticks
from bms.kernels import total
from bms.links.reply import ReplyLink
from bms.slaves import base
from bms.slaves.asked import COMMAND, Asked

WRITE = const(0x02)
PASSWORD = const(0x05)
READ_ALL = const(0x06)

# bits of field 8B: name, what it is to us, whether it trips
ALARMS = (
    ("low_capacity", base.A_OTHER, False),
    ("mos_overtemperature", base.A_TEMP_HIGH, True),
    ("charge_overvoltage", base.A_CELL_HIGH, True),
    ("discharge_undervoltage", base.A_CELL_LOW, True),
    ("battery_overtemperature", base.A_TEMP_HIGH, True),
    ("charge_overcurrent", base.A_CURRENT, True),
    ("discharge_overcurrent", base.A_CURRENT, True),
    ("cell_difference", base.A_OTHER, False),
    ("box_overtemperature", base.A_TEMP_HIGH, True),
    ("low_temperature", base.A_TEMP_LOW, True),
    ("cell_overvoltage", base.A_CELL_HIGH, True),
    ("cell_undervoltage", base.A_CELL_LOW, True),
    ("309_a", base.A_HARDWARE, True),
    ("309_b", base.A_HARDWARE, True),
)

_CELLS = const(0x79)
_FIRST = const(0x79)
_LAST = const(0xC0)
_BALANCE = const(0x9D)
_CHARGE = const(0xAB)
_DISCHARGE = const(0xAC)
# bytes of each field from 79 on; 0: none is documented, 255: the next byte says
_LENGTHS = bytes((255, 0, 0, 0, 0, 0, 0)) + bytes(
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
_SHORTEST = const(20)
_LONGEST = const(400)
_FACTORY_PASSWORD = b"123456\0\0\0\0"
_PASSWORD_MS = const(150)
_REPLY = const(1)  # type of a frame from the board
_MOST_MV = const(8000)  # no cell has more: not a reading


class JkTtlLink(ReplyLink):
    """data: the bytes; a reply goes to `sink.on_reply(command, at, end, now)`, fields from `at`."""

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or JkTtl.UART_BPS, _LONGEST, 0x4E)
        self.data = self._in

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
        out[size - 5] = 0x68
        check = total(out, 0, size - 4)
        out[size - 2] = check >> 8
        out[size - 1] = check & 0xFF
        return self.send(size)

    def _size(self, at, filled):
        data = self._in
        if at + 1 < filled and data[at + 1] != 0x57:
            return 0
        if at + 4 > filled:
            return _SHORTEST
        size = (data[at + 2] << 8 | data[at + 3]) + 2
        return size if _SHORTEST <= size <= _LONGEST else 0

    def _good(self, at, size):
        data = self._in
        end = at + size
        check = total(data, at, end - 4) & 0xFFFF
        if data[end - 5] != 0x68 or check != data[end - 2] << 8 | data[end - 1]:
            self.fault = 2  # CHECKSUM
            return False
        return True

    def _hand_over(self, at, size, sink, now):
        if self._in[at + 10] != _REPLY:
            # a request: the adapter lets us hear ourselves
            self.echoes = (self.echoes + 1) & 0x1FFFFFFF
            return
        self.rx = (self.rx + 1) & 0x1FFFFFFF
        sink.on_reply(self._in[at + 8], at + _HEAD, at + size - _TAIL, now)


class JkTtl(Asked):
    """One JK board; see `Asked`.

    What it says of itself: current_ma, soc_pm, cycles, alarm_bits, state_bits (0 charge FET, 1
    discharge FET, 2 balancing is allowed), capacity_ah; -1 = not said yet.
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

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.current_ma = self.soc_pm = self.cycles = self.capacity_ah = -1
        self.alarm_bits = self.state_bits = -1
        self._cells = pack.slave_cells[members[0]]
        self._temps = pack.slave_temps[members[0]]
        self._words = bytearray(4)  # codes and values that wait to be sent
        self._waiting = 0
        self._unlocked = False  # the password was taken, for one word
        self._word_at = 0
        self._missed = 0  # `missed` as the words were given
        self._known = 0

    def size(self, m, step):
        """Bytes of the question and its answer."""
        return 21 + 241 + 3 * self._cells

    def ask(self, m, step):
        """Everything at once."""
        self.link.out[_HEAD] = 0
        return self.link.request(READ_ALL, 1)

    # --- words ---

    def command(self, m, now):
        """As `Asked.command`; words that wait come first, each behind the password."""
        if self._missed != self.missed:
            self._waiting = 0  # a word or its password was not heard, or is of long ago
        if not self._waiting:
            return super().command(m, now)
        if ticks.since(now, self._word_at) < _PASSWORD_MS:
            return False
        if not self._unlocked:
            return self._unlock()
        self._unlocked = False
        out = self.link.out
        words = self._words
        out[_HEAD] = words[0]
        out[_HEAD + 1] = words[1]
        words[0] = words[2]
        words[1] = words[3]
        self._waiting -= 1
        self._word_at = now
        return self.link.request(WRITE, 2)

    def tell_balance(self, m, on):
        """Field 9D."""
        return self._tell(_BALANCE, on, 0)

    def tell_fets(self, m, on):
        """Both switches."""
        return self._tell(_CHARGE, 1 if on else 0, _DISCHARGE)

    def _tell(self, code, value, also):
        words = self._words
        words[0] = code
        words[2] = also
        words[1] = words[3] = value
        self._waiting = 2 if also else 1
        self._missed = self.missed
        return self._unlock()

    def _unlock(self):
        """The password: some boards want it before each word."""
        self._unlocked = False
        out = self.link.out
        out[_HEAD] = 0xB2
        for i in range(10):
            out[_HEAD + 1 + i] = _FACTORY_PASSWORD[i]
        return self.link.request(PASSWORD, 11)

    # --- answers ---

    def on_reply(self, command, at, end, now):
        """One good frame of the board, its fields at..end-1 of `link.data`."""
        if command == WRITE or command == PASSWORD:
            if not self.waits_for(0, COMMAND) or self.link.out[8] != command:
                self.strange = (self.strange + 1) & 0x1FFFFFFF
                return
            self._unlocked = command == PASSWORD
            self._word_at = now
            self.answered(now)
        elif command != READ_ALL or not self.waits_for(0, 0):
            self.strange = (self.strange + 1) & 0x1FFFFFFF
        elif self._take(at, end, now):
            self.answered(now)
        else:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF

    def _word(self, at):
        data = self.link.data
        return data[at] << 8 | data[at + 1]

    def _take(self, at, end, now):
        """All fields; False where their lengths and that of the frame disagree."""
        if not self._walk(at, end, False, now):
            return False
        return self._walk(at, end, True, now)

    def _walk(self, at, end, take, now):
        """Go from field to field: to see whether they fill the frame, then to take them."""
        data = self.link.data
        die_dc = -400
        stack_mv = current = -1
        newer = False
        while at < end:
            code = data[at]
            if not _FIRST <= code <= _LAST:
                return False
            n = _LENGTHS[code - _FIRST]
            at += 1
            if n == 255:
                n = data[at]
                at += 1
            if not n or at + n > end or code == _CELLS and n % 3:
                return False
            if take:
                if code == _CELLS:
                    self._take_cells(at, n // 3, now)
                elif code == 0x80:
                    die_dc = _degrees(self._word(at))
                elif code == 0x81 or code == 0x82:
                    self._take_temp(code - 0x81, _degrees(self._word(at)), now)
                elif code == 0x83:
                    stack_mv = self._word(at) * 10
                elif code == 0x84:
                    current = self._word(at)
                elif code == 0x85:
                    self.soc_pm = data[at] * 10
                elif code == 0x87:
                    self.cycles = self._word(at)
                elif code == 0x8B:
                    self.alarm_bits = self._word(at)
                elif code == 0x8C:
                    self.state_bits = self._word(at)
                elif code == 0xAA:
                    self.capacity_ah = data[at + 1] << 16 | self._word(at + 2)
                elif code == 0xC0:
                    newer = data[at] == 1
            at += n
        if take:
            if current >= 0:
                self.current_ma = _current(current, newer)
            self._take_state(stack_mv, die_dc, now)
        return True

    def _take_cells(self, at, count, now):
        data = self.link.data
        fits = count == self._cells
        for i in range(count):
            fits = fits and data[at + 3 * i] == i + 1
        self._known = self.fit(0, 1, fits, count)
        if not self._known:
            return
        bleeding = self.state_bits > 0 and self.state_bits & 4 != 0 and self._told[0] == 1
        for i in range(count):
            mv = self._word(at + 3 * i + 1)
            if mv <= _MOST_MV:
                self.cell(0, i, mv, now, bleeding)

    def _take_temp(self, i, dc, now):
        if self._known and i < self._temps and dc > -400:
            self.temp(0, i, dc, now)

    def _take_state(self, stack_mv, die_dc, now):
        trip = warn = 0
        for bit in range(len(ALARMS)):
            if self.alarm_bits > 0 and self.alarm_bits >> bit & 1:
                if ALARMS[bit][2]:
                    trip |= ALARMS[bit][1]
                else:
                    warn |= ALARMS[bit][1]
        self.alarms(0, trip, warn, now)
        if self._known:
            if self.state_bits >= 0:
                self.switches(0, self.state_bits & 1, self.state_bits & 2)
            if stack_mv >= 0:
                self.board(0, stack_mv, die_dc, now)


def _degrees(raw):
    """Field 80, 81, 82 in 0.1 degC; -4000 where it can't be."""
    if raw > 140:
        return -4000
    return raw * 10 if raw <= 100 else (100 - raw) * 10


def _current(raw, newer):
    """Field 84 in mA, + = charge; newer: field C0 says 1."""
    if newer:
        return (raw & 0x7FFF) * 10 if raw & 0x8000 else -raw * 10
    return (10000 - raw) * 10
