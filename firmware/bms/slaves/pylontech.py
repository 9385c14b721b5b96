"""Driver of Pylontech packs (US2000, US3000, ..) on RS-485: ASCII frames, addresses from 2.

Source: the vendor's "RS485-protocol-pylon-low-voltage" V3.3 as read in public. 115200 8N1, on older
packs 9600 (`rate` in [[link]]). `~ VER ADR 46 CID2 LENGTH INFO CHKSUM CR`, two ASCII digits a byte:
LENGTH carries a sum of its own nibbles, CHKSUM is the two's complement of the sum of all characters
before it. An answer has the same head, with a return code for CID2 (00 = good). A scan polls 44
(alarms), and 42 (all readings) if that was answered: a pack without alarms is not read. Units:
cells mV; temperatures 0.1 K; current 0.1 A, + = charge; stack voltage mV. The first temperature is
the board's, the others are the cells'. The checksum is a sum: see `CommercialDriver.WEAK`; the
document's own sample answer carries a wrong one, and is refused.
A pack has FETs and a balancer of its own; the driver commands neither. Uncertain: which
of two bits is which FET (either open one is reported); `ADR` in INFO differs between firmwares, and
only that of the head is looked at. INFO may go on behind what is documented. Other makers' frames
look alike and mean something else: they have another VER than 20, or another CID1 than 46, and are
refused. So are answers for several packs at once, which nobody here polls for.
"""

from micropython import const

from bms.links.reply import CHECKSUM, NO_FAULT, ReplyLink
from bms.pack import ALONE
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word
from bms.slaves.fields import S16, U16, U24, alarm_flags, read_fields, take_cells, take_temps
from bms.slaves.polled import PolledDriver
from bms.ticks import MASK

ANALOG = const(0x42)
ALARM = const(0x44)

# bits of the second status byte behind the alarms: which FETs conduct
_CHARGE_FET = const(2)
_DISCHARGE_FET = const(4)
# a reading's alarm: 00 normal, 01 below, 02 above, F0 other
_BELOW = const(1)
_ABOVE = const(2)
_OTHER = const(0xF0)

_START = const(0x7E)
_CR = const(13)
_LONGEST = const(300)
_HEAD = const(13)  # characters before INFO
_KELVIN_DC = const(2731)
_SHORT = const(2)  # a pack's charge in 16 bits, or 24 bits further behind
_LONG = const(4)
_NO_ALARMS_MV = const(1000)  # two bytes of alarms are less, or far more than a cell
_VERSION = const(0x20)
_BATTERY = const(0x46)  # CID1
FOREIGN = const(3)  # behind the reasons of ReplyLink
TOO_LONG = const(4)
_DIGITS = b"0123456789ABCDEF"


class PylonLink(ReplyLink):
    """data: an answer's INFO as bytes; it goes to `sink.on_reply(address, code, n, now)`."""

    REASONS = ReplyLink.REASONS + (
        "another protocol: VER is not 20, or CID1 not 46",
        "an answer of more than 300 characters, as several packs together give it",
    )

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or Pylontech.UART_BPS, _LONGEST, _START)
        self.data = bytearray(_LONGEST // 2)

    def send_poll(self, address, command):
        """Poll a pack with CID2 `command`."""
        out = self.out
        out[0] = _START
        at = self._put(1, _VERSION)
        at = self._put(at, address)
        at = self._put(at, _BATTERY)
        at = self._put(at, command)
        at = self._put(at, 0xE0)  # LENGTH of two characters, and its own sum
        at = self._put(at, 0x02)
        at = self._put(at, address)
        check = 0
        for i in range(1, at):
            check += out[i]
        check = -check & 0xFFFF
        at = self._put(at, check >> 8)
        at = self._put(at, check & 0xFF)
        out[at] = _CR
        return self.send(at + 1)

    def _put(self, at, value):
        self.out[at] = _DIGITS[value >> 4]
        self.out[at + 1] = _DIGITS[value & 15]
        return at + 2

    def _size(self, at, filled):
        """Head 13 characters, INFO as its length says, checksum 4, CR."""
        if at + _HEAD > filled:
            return 18
        length = self._length(at)
        if length < 0:
            return 0
        return 18 + length if length <= _LONGEST - 18 else _HEAD

    def _length(self, at):
        """Characters of INFO; -1 where the length's own sum is wrong."""
        high = self._byte(at + 9)
        low = self._byte(at + 11)
        if high < 0 or low < 0:
            return -1
        total = (high & 15) + (low >> 4) + (low & 15) + (high >> 4)
        if total & 15:
            return -1
        return (high & 15) << 8 | low

    def _byte(self, at):
        """Two characters as a byte; -1 where they are none."""
        high = _digit(self._in[at])
        low = _digit(self._in[at + 1])
        return -1 if high < 0 or low < 0 else high << 4 | low

    def _good(self, at, size):
        data = self._in
        if size == _HEAD:
            self.fault = TOO_LONG
            return False
        self.fault = CHECKSUM
        end = at + size
        if data[end - 1] != _CR:
            return False
        check = 0
        for i in range(at + 1, end - 5):
            check += data[i]
        high = self._byte(end - 5)
        low = self._byte(end - 3)
        if high < 0 or low < 0 or -check & 0xFFFF != high << 8 | low:
            return False
        if self._byte(at + 1) != _VERSION or self._byte(at + 5) != _BATTERY:
            self.fault = FOREIGN
            return False
        n = size - 18 >> 1
        for i in range(n):
            byte = self._byte(at + _HEAD + 2 * i)
            if byte < 0:
                return False
            self.data[i] = byte
        self.fault = NO_FAULT
        return True

    def _hand_over(self, at, size, sink, now):
        code = self._byte(at + 7)
        if code == ANALOG or code == ALARM:
            # a command in the place of the return code: our own poll
            self.echoes = (self.echoes + 1) & MASK
            return
        self.rx = (self.rx + 1) & MASK
        sink.on_reply(self._byte(at + 3), code, size - 18 >> 1, now)


def _digit(c):
    """Value of an upper-case hex digit, -1 for anything else."""
    if 48 <= c <= 57:
        return c - 48
    if 65 <= c <= 70:
        return c - 55
    return -1


class Pylontech(PolledDriver):
    """All packs of one line; see `PolledDriver`.

    FIELDS: of the pack that answered last, offsets from the current on. refused: answers with
    another return code than 00; code: the last one.
    """

    REPORTS = ALONE
    NODES = (2, 16)
    MOST = 15
    TEMPS = 15
    STEPS = 2
    PARTS = 3
    WEAK = True
    GAP_MS = 10
    ANSWER_MS = 300
    TYPICAL_MS = 30
    LONGEST = 190
    UART_BPS = 115200
    frame = PylonLink
    FIELDS = (
        ("current_ma", 0, S16, 0, 100),
        ("remaining_mah", 4, U16, 0, 1),
        ("nominal_mah", 7, U16, 0, 1),
        ("cycles", 9, U16, 0, 1),
    )
    LONG_FIELDS = (("remaining_mah", 11, U24, 0, 1), ("nominal_mah", 14, U24, 0, 1))
    ALARMS = (  # bits of the first status byte
        b"H pack_overvoltage\n"
        b"L cell_undervoltage\n"
        b"C charge_overcurrent\n"
        b"- not_used\n"
        b"C discharge_overcurrent\n"
        b"T discharge_overtemperature\n"
        b"t charge_overtemperature\n"  # the open charge FET limits the power
        b"L pack_undervoltage\n"
    )

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.refused = self.code = 0

    def size(self, m, step):
        """Bytes of a poll and its answer."""
        slave = self.members[m]
        cells = self.pack.slave_cells[slave]
        temps = self.pack.slave_temps[slave] + 1
        if step:
            return 20 + 18 + 2 * (20 + 2 * cells + 2 * temps)
        return 20 + 18 + 2 * (10 + cells + temps)

    def send_poll(self, m, step):
        """Alarms, then readings."""
        return self.link.send_poll(self._node[m], ANALOG if step else ALARM)

    # FETs and balancing: the pack's own

    def on_reply(self, address, code, n, now):
        """One good answer, its INFO in `link.data`; its place shows which poll it answers."""
        m = self.member(address)
        step = self._step
        if m < 0 or not self.waits_for(m, step):
            self.unexpected = (self.unexpected + 1) & MASK
            return
        self.code = code
        if code:
            self.refused = (self.refused + 1) & MASK
            return
        if self._listening:
            step = 1 if self.is_analog(n) else 0
        elif not step and self.is_analog(n):
            # late: read as alarms, some voltages would be false ones
            self.unexpected = (self.unexpected + 1) & MASK
            return
        done = self._take_readings(m, n, now) if step else self._take_alarms(m, n, now)
        if done:
            self.answered(now)
        else:
            self.unexpected = (self.unexpected + 1) & MASK

    def is_analog(self, n):
        """Whether n bytes of INFO are readings: their counts and the length fit.

        Where it is longer than they say, no cell may read as a pair of alarm bytes does.
        """
        data = self.link.data
        if n < 4:
            return False
        at = 3 + 2 * data[2]
        if at >= n:
            return False
        at += 1 + 2 * data[at]
        # current, voltage, remaining, a count of 2 or 4, total, cycles, and what 4 has more
        if at + 11 > n or data[at + 6] != _SHORT and data[at + 6] != _LONG:
            return False
        at += 11 + (6 if data[at + 6] == _LONG else 0)
        if n > at:
            for i in range(data[2]):
                if not _NO_ALARMS_MV <= word(data, 3 + 2 * i) <= self.MOST_MV:
                    return False
        return n >= at

    def _take_readings(self, m, n, now):
        if not self.is_analog(n):
            return False
        data = self.link.data
        pack = self.pack
        slave = self.members[m]
        cells = data[2]
        temps_at = 3 + 2 * cells
        temps = data[temps_at] - 1  # the first one is the board's
        at = temps_at + 1 + 2 * data[temps_at]
        read_fields(self, self.FIELDS, data, at)
        if data[at + 6] == _LONG:
            read_fields(self, self.LONG_FIELDS, data, at)
        fits = cells == pack.slave_cells[slave] and temps >= pack.slave_temps[slave]
        if not self.fit(m, 1, fits, cells):
            return True
        take_cells(self, m, 3, cells, now)
        take_temps(self, m, temps_at + 3, _KELVIN_DC, now)
        die_dc = word(data, temps_at + 1) - _KELVIN_DC
        if NO_SENSOR_DC < die_dc < self.MOST_DC:
            self.board(m, word(data, at + 2), die_dc, now)
        return True

    def _take_alarms(self, m, n, now):
        """A byte for each cell and temperature, charge current, voltage, discharge current, then
        five status bytes: protections, FETs, what isn't used here, and cells that failed (two).
        """
        data = self.link.data
        cells = data[2] if n > 3 else 0
        temps_at = 3 + cells
        if n < temps_at + 1:
            return False
        at = temps_at + 1 + data[temps_at]
        if n < at + 8 or n > at + 8 and not self._are_alarms(at):
            return False
        flags = alarm_flags(self.ALARMS, data, at + 3)
        trip = flags & 0xFF
        for i in range(cells):
            trip |= _alarm(data[3 + i], base.A_CELL_LOW, base.A_CELL_HIGH)
        for i in range(data[temps_at]):
            trip |= _alarm(data[temps_at + 1 + i], base.A_TEMP_LOW, base.A_TEMP_HIGH)
        trip |= _alarm(data[at], base.A_CURRENT, base.A_CURRENT)
        trip |= _alarm(data[at + 1], base.A_CELL_LOW, base.A_CELL_HIGH)
        trip |= _alarm(data[at + 2], base.A_CURRENT, base.A_CURRENT)
        if data[at + 6] or data[at + 7]:
            trip |= base.A_HARDWARE
        self.alarms(m, trip, flags >> 8, now)
        if self.fit(m, 2, cells == self.pack.slave_cells[self.members[m]], cells):
            status = data[at + 4]
            self.switches(m, status & _CHARGE_FET, status & _DISCHARGE_FET)
        return True

    def _are_alarms(self, at):
        """Whether the bytes before `at` are alarms: their count stands among those of the cells."""
        data = self.link.data
        counted = 3 + data[2]
        for i in range(3, at):
            if i != counted and data[i] > _ABOVE and data[i] != _OTHER:
                return False
        return True


def _alarm(value, below, above):
    if value == _BELOW:
        return below
    if value == _ABOVE:
        return above
    return base.A_OTHER if value else 0
