"""Driver of Daly boards on UART, RS-485 or CAN: up to 16 on a port, by the numbers set in them.

Source: the vendor's "UART/485 communications protocol" V1.2 and "CAN communications protocol" V1.0
as read in public, and captured frames. UART: 9600 8N1, 13 bytes `A5 address command 08 d0..d7 sum`,
the sum over all before it; board n is polled at 40 + n - 1 and answers as n. CAN: 250 kbit/s (some
of the vendor's adapters have 500: `rate` in [[link]]), the same d0..d7 in 29-bit frames, board n is
polled by 18`cc`nn40 and answers 18`cc`40nn. Big-endian. 20 ms between an answer and the next poll;
the document allows 0.5 s to answer, boards take 20 ms (`answer` in [[link]] gives them more). For
CAN no times are documented: the driver uses the same ones, and they can be set in the same way.
Units: cells mV; temperatures degC + 40; stack voltage 0.1 V; current 0.1 A around 30000. Cells come
three in a frame; captures number frames from 1, the document from 0: the driver knows which when it
has seen the first or the last number, until a number contradicts it. On UART a sum of 8 bits passes
one damaged frame in 256 or so: see `CommercialDriver.WEAK`. It has no temperature of its own: its
warmest sensor stands for it. It balances by itself, and no command for it is documented. Uncertain,
and so in the pack file: the current's sign (`reversed`), and whether 01 switches FETs on, as most
say (`fets_inverted`). Temperatures at which it only forbids charging warn: its open charge FET
limits the power.
"""

from array import array

from micropython import const

from bms.links.can import EXTENDED
from bms.pack import ALONE, FRESH
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word
from bms.slaves.fields import U16, U24, alarm_flags, read_fields
from bms.slaves.frames import SUM8, FrameLink
from bms.slaves.polled import COMMAND, PolledDriver
from bms.ticks import MASK

TOTAL = const(0x90)
FETS = const(0x93)
COUNTS = const(0x94)
CELLS = const(0x95)
TEMPS = const(0x96)
BALANCE = const(0x97)
ALARM = const(0x98)
DISCHARGE_FET = const(0xD9)
CHARGE_FET = const(0xDA)

FRAME = const(13)
_START = const(0xA5)
_HOST = const(0x40)
_UNKNOWN = const(255)
_LEAST_MV = const(500)
_NO_SENSOR = const(255)  # as 0

# CAN: priority 18, command, receiver, sender
ANSWER_ID = EXTENDED | 0x18004000
ANSWER_MASK = EXTENDED | 0x1F00FFE0
_REQUEST_ID = EXTENDED | 0x18000040

# the polls of a scan; the last one stands for one of _SELDOM, another in each scan
_POLLS = bytes((CELLS, TEMPS, TOTAL, ALARM, 0))
_SELDOM = bytes((COUNTS, FETS, BALANCE))


class DalyLink(FrameLink):
    """See `FrameLink`."""

    LONGEST = FRAME
    CHUNK = 160
    TABLE = bytes((_START, 0, 0, FRAME, 1, 2, 4, 1, SUM8, 0, 1, 1, 3, 8, 8))

    def send_poll(self, node, command, first):
        """Send a command with d0 = `first`."""
        out = self.out
        out[0] = _START
        out[1] = _HOST + node - 1
        out[2] = command
        out[3] = 8
        out[4] = first
        for i in range(5, 12):
            out[i] = 0
        return self.send_checked(FRAME)

    def is_echo(self, at, size):
        """A poll is addressed from 40 on."""
        return self._in[at + 1] >= _HOST


class DalyCan:
    """The same polls and answers on a CAN port: what the driver needs of `DalyLink`.

    data: d0..d7 of the last answer; rx: answers; the other counters are the port's.
    """

    def __init__(self, port):
        self.data = bytearray(8)
        self.rate = port.rate
        self.rx = 0
        self.rx_at = 0
        self._port = port
        self._out = bytearray(8)

    @property
    def tx(self):
        return self._port.tx

    @property
    def damaged(self):
        return self._port.damaged

    @property
    def dropped(self):
        return self._port.dropped

    def send_poll(self, node, command, first):
        """Send a command with d0 = `first`."""
        self._out[0] = first
        return self._port.send(_REQUEST_ID | command << 16 | node << 8, self._out, 8)

    def poll(self, sink, now):
        """Read what has arrived; the frames go to the driver's `sink`."""
        self._port.poll(sink.sink, now)

    def unsent(self):
        """The port has its own queue."""
        return False

    def forget(self):
        """Frames are complete: none waits for its rest."""

    def end(self, sink, now):
        """As `forget`."""


class Daly(PolledDriver):
    """All Daly boards of one port; see `PolledDriver`.

    Of the board that answered last: FIELDS; alarm_bits: the alarm frame; balance: 1 where any cell
    is balanced.
    """

    ABILITIES = base.OWN_FETS
    REPORTS = ALONE
    NODES = (1, 16)
    MOST = 16
    SEVERAL = True
    STEPS = 5
    SELDOM = True
    PARTS = 1
    WEAK = True
    GAP_MS = 20
    ANSWER_MS = 250
    TYPICAL_MS = 20
    LONGEST = 12 * FRAME
    UART_BPS = 9600
    CAN_BPS = 250000
    FILTERS = ((ANSWER_ID, ANSWER_MASK),)
    frame = DalyLink
    TOTAL_FIELDS = (("current_ma", 4, U16, 30000, 100), ("soc_pm", 6, U16, 0, 1))
    COUNTS_FIELDS = (("cycles", 5, U16, 0, 1),)
    FETS_FIELDS = (("remaining_mah", 5, U24, 0, 1),)
    FIELDS = TOTAL_FIELDS + COUNTS_FIELDS + FETS_FIELDS
    # bits of the first seven bytes of an answer to ALARM
    ALARMS = (
        b"h cell_high_1\n"
        b"H cell_high_2\n"
        b"l cell_low_1\n"
        b"L cell_low_2\n"
        b"h pack_high_1\n"
        b"H pack_high_2\n"
        b"l pack_low_1\n"
        b"L pack_low_2\n"
        b"t charge_hot_1\n"
        b"t charge_hot_2\n"
        b"f charge_cold_1\n"
        b"f charge_cold_2\n"
        b"t discharge_hot_1\n"
        b"T discharge_hot_2\n"
        b"f discharge_cold_1\n"
        b"F discharge_cold_2\n"
        b"c charge_current_1\n"
        b"C charge_current_2\n"
        b"c discharge_current_1\n"
        b"C discharge_current_2\n"
        b"o soc_high_1\n"
        b"o soc_high_2\n"
        b"o soc_low_1\n"
        b"o soc_low_2\n"
        b"o cells_apart_1\n"
        b"o cells_apart_2\n"
        b"o temps_apart_1\n"
        b"o temps_apart_2\n"
        b"o bit_28\n"
        b"o bit_29\n"
        b"o bit_30\n"
        b"o bit_31\n"
        b"T charge_mos_hot\n"
        b"T discharge_mos_hot\n"
        b"d charge_mos_sensor\n"
        b"d discharge_mos_sensor\n"
        b"D charge_mos_stuck\n"
        b"D discharge_mos_stuck\n"
        b"d charge_mos_open\n"
        b"d discharge_mos_open\n"
        b"D afe\n"
        b"D voltage_sensing\n"
        b"d temperature_sensor\n"
        b"d eeprom\n"
        b"o clock\n"
        b"o precharge\n"
        b"o communication\n"
        b"d internal_communication\n"
        b"D current_module\n"
        b"D voltage_module\n"
        b"S short_circuit\n"
        b"l too_low_to_charge\n"
    )

    def __init__(self, link, members, pack, limits, faults, config):
        if not isinstance(link, DalyLink):
            link = DalyCan(link)
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.balance = -1
        self.alarm_bits = bytearray(8)
        self._sign = bytearray([config.slaves[i].reversed for i in members])
        self._inverted = bytearray([config.slaves[i].fets_inverted for i in members])
        self._cell_base = bytearray([_UNKNOWN] * n)  # number of the first frame of cells
        self._temp_base = bytearray([_UNKNOWN] * n)
        self._is_balancing = bytearray(n)  # any cell is balanced
        self._seldom = bytearray([_UNKNOWN] * n)  # index in _SELDOM of the poll in this scan
        self._got = 0  # frames of this answer, a bit each
        self._words = array("H", [0] * 33)  # words of its cells

    def steps(self, m):
        """Four polls, and one for temperatures where the pack file has some."""
        return self.STEPS if self.pack.slave_temps[self.members[m]] else self.STEPS - 1

    def _which(self, m, step):
        """The index in _POLLS of poll `step` to member m; one that is left out comes last."""
        which = step + self.STEPS - self.steps(m) if step else 0
        return which if which < self.STEPS else 1

    def _frames(self, m, which):
        """Frames that answer a poll."""
        slave = self.members[m]
        if which == 0:
            return (self.pack.slave_cells[slave] + 2) // 3
        if which == 1:
            return (self.pack.slave_temps[slave] + 6) // 7
        return 1

    def size(self, m, step):
        """Bytes of a poll and its answer; a CAN frame has as many bits as one on UART."""
        return FRAME + FRAME * self._frames(m, self._which(m, step))

    def send_poll(self, m, step):
        """Cells, temperatures, total, alarms, and one of _SELDOM."""
        which = self._which(m, step)
        bases = self._temp_base if which else self._cell_base
        if self._tries < 2 or bases[m] == _UNKNOWN:
            self._got = 0  # else frames that arrive late, in two parts, are one answer
        if step == 0 and self._tries == 1 and not self._suspect[m]:
            # once a scan: a poll without an answer does not delay the others
            self._seldom[m] = self._seldom[m] + 1 if self._seldom[m] + 1 < len(_SELDOM) else 0
        seldom = self._seldom[m]
        command = _POLLS[which] or _SELDOM[seldom if seldom < _UNKNOWN else 0]
        return self.link.send_poll(self._node[m], command, 0)

    # --- commands ---

    def command_fets(self, m, on):
        """D9 for discharge and, with the next command, DA for charge."""
        first = 1 if on else 0
        if self._inverted[m]:
            first = 1 - first
        self.also(m, first)
        return self.link.send_poll(self._node[m], DISCHARGE_FET, first)

    def command_other_fet(self, m, value):
        """DA."""
        return self.link.send_poll(self._node[m], CHARGE_FET, value)

    # --- answers ---

    def on_frame(self, ident, n, data, now):
        """A frame of a CAN port."""
        if ident & ANSWER_MASK != ANSWER_ID:
            self.unexpected = (self.unexpected + 1) & MASK
        elif n < 8:
            self.damaged = (self.damaged + 1) & MASK
        else:
            link = self.link
            for i in range(8):
                link.data[i] = data[i]
            link.rx = (link.rx + 1) & MASK
            link.rx_at = now
            self.on_reply(ident & 0xFF, ident >> 16 & 0xFF, 0, 8, now)

    def on_reply(self, node, command, at, n, now):
        """One good frame of a board, d0 at `at` in `link.data`; evaluated before this returns."""
        m = self.member(node)
        which = COMMAND
        if command == CELLS:
            which = 0
        elif command == TEMPS:
            which = 1
        elif command == TOTAL:
            which = 2
        elif command == ALARM:
            which = 3
        elif command == COUNTS or command == FETS or command == BALANCE:
            which = 4
        awaited = m >= 0 and self._awaits(m, which)
        if awaited and which == 4 and not self._listening:
            awaited = command == _SELDOM[self._seldom[m]]
        if not awaited and which == 0 and m >= 0 and self.second_answer(m, 0):
            i = self.link.data[at] - self._cell_base[m]
            if 0 <= i < self._frames(m, 0) and self._differs(i, at):
                self._contradicted(m, i, at, now)
                return
        if not awaited:
            self.unexpected = (self.unexpected + 1) & MASK
            return
        if which == 0 or which == 1:
            if not self._part(m, which, at, now):
                return
        elif which == 2:
            self._take_total(m, at, now)
        elif which == 3:
            self._take_alarms(m, at, now)
        elif which == 4:
            self._take_seldom(m, command, at)
        self.answered(now)

    def _awaits(self, m, which):
        if which <= 0 or self._listening:
            return self.waits_for(m, which)
        absent = self.STEPS - self.steps(m)
        return which > absent and self.waits_for(m, which - absent)

    def _part(self, m, step, at, now):
        """One frame of several; True where the answer is complete."""
        count = self._frames(m, step)
        bases = self._temp_base if step else self._cell_base
        number = self.link.data[at]
        # a number that contradicts where frames were found to begin: look for that once more
        if number == 0:
            bases[m] = _UNKNOWN if bases[m] == 1 else 0
        elif (
            number == count and bases[m] != 1 and not self._got & 1 and self._has_reading(step, at)
        ):
            bases[m] = 1 if bases[m] == _UNKNOWN else _UNKNOWN
        first = bases[m]
        if first == _UNKNOWN and step and number == count:
            return True  # no sensor of these can be read: the answer is complete
        if first == _UNKNOWN:
            # its place is not known before the first or the last frame has arrived
            if number >= count:
                self.unexpected = (self.unexpected + 1) & MASK
                return False
            self._got |= 1 << number
            return False
        i = number - first
        if not 0 <= i < count:
            self.unexpected = (self.unexpected + 1) & MASK
            return False
        again = self._got >> number & 1
        self._got |= 1 << number
        if step:
            self._take_temps(m, i, at, now)
        elif again and self._tries == 1 and self._differs(i, at):
            self._contradicted(m, i, at, now)
        else:
            self._take_cells(m, i, at, now)
        if self._got >> first != (1 << count) - 1:
            return False
        self._got = 0
        return True

    def _has_reading(self, step, at):
        """Whether a frame has a reading: empty frames may follow the last one."""
        if step:
            for i in range(at + 1, at + 8):
                if 0 < self.link.data[i] < _NO_SENSOR:
                    return True
            return False
        return _LEAST_MV <= word(self.link.data, at + 1) <= self.MOST_MV

    def _differs(self, i, at):
        """Whether frame i (from 0) of this answer differs from the one received before."""
        for k in range(3):
            if self._words[3 * i + k] != word(self.link.data, at + 1 + 2 * k):
                return True
        return False

    def _contradicted(self, m, i, at, now):
        """Two boards answered, or damage made a number: evaluated only when it happens again."""
        before = self._conflict[m]
        self.contradicts(m)
        if before:
            self._take_cells(m, i, at, now)

    def _take_cells(self, m, i, at, now):
        data = self.link.data
        slave = self.members[m]
        for k in range(3):
            self._words[3 * i + k] = word(data, at + 1 + 2 * k)
        if not self.pack.known[slave]:
            return
        for k in range(3):
            cell = 3 * i + k
            mv = word(data, at + 1 + 2 * k)
            if cell < self.pack.slave_cells[slave] and mv <= self.MOST_MV:
                self.cell(m, cell, mv, now, self._is_balancing[m] != 0)

    def _take_temps(self, m, i, at, now):
        slave = self.members[m]
        if not self.pack.known[slave]:
            return
        for k in range(7):
            sensor = 7 * i + k
            raw = self.link.data[at + 1 + k]
            if sensor < self.pack.slave_temps[slave] and 0 < raw < _NO_SENSOR:
                self.temp(m, sensor, raw * 10 + NO_SENSOR_DC, now)

    def _take_total(self, m, at, now):
        slave = self.members[m]
        pack = self.pack
        read_fields(self, self.TOTAL_FIELDS, self.link.data, at)
        if self._sign[m]:
            self.current_ma = -self.current_ma
        if not pack.known[slave]:
            return
        hottest = NO_SENSOR_DC
        first = pack.first_temp[slave]
        for i in range(first, first + pack.slave_temps[slave]):
            if pack.temp_flags[i] & FRESH and pack.temp_dc[i] > hottest:
                hottest = pack.temp_dc[i]
        self.board(m, word(self.link.data, at) * 100, hottest, now)

    def _take_alarms(self, m, at, now):
        for i in range(8):
            self.alarm_bits[i] = self.link.data[at + i]
        flags = alarm_flags(self.ALARMS, self.link.data, at)
        self.alarms(m, flags & 0xFF, flags >> 8, now)

    def _take_seldom(self, m, command, at):
        data = self.link.data
        if command == COUNTS:
            read_fields(self, self.COUNTS_FIELDS, data, at)
            pack = self.pack
            slave = self.members[m]
            cells = data[at]
            fits = cells == pack.slave_cells[slave] and data[at + 1] >= pack.slave_temps[slave]
            self.fit(m, 1, fits, cells)
        elif command == FETS:
            read_fields(self, self.FETS_FIELDS, data, at)
            if self.pack.known[self.members[m]]:
                self.switches(m, data[at + 1], data[at + 2])
        else:
            self._is_balancing[m] = 0
            for i in range(6):
                if data[at + i]:
                    self._is_balancing[m] = 1
            self.balance = self._is_balancing[m]
