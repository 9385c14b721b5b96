"""Driver of Daly boards on UART, RS-485 or CAN: up to 16 on a port, by the numbers set in them.

Source: the vendor's "UART/485 communications protocol" V1.2 and "CAN communications protocol" V1.0
as read in public, and captured frames. UART: 9600 8N1, 13 bytes `A5 address command 08 d0..d7 sum`,
the sum over all before it; board n is asked at 40 + n - 1 and answers as n. CAN: 250 kbit/s (some
of the vendor's adapters have 500: `rate` in [[link]]), the same d0..d7 in 29-bit frames, board n is
asked by 18`cc`nn40 and answers 18`cc`40nn. Big-endian. 20 ms between an answer and the next
question; the document allows 0.5 s to answer, boards take 20 ms (`answer` in [[link]] gives them
more). For CAN no times are documented: they are the same, and can be set in the same way.
Units: cells mV; temperatures degC + 40; stack voltage 0.1 V; current 0.1 A around 30000. Cells come
three in a frame; captures number frames from 1, the document from 0: believed once the first or the
last number was seen, until one comes that can't be. On UART a sum of 8 bits passes one damaged
frame in 256 or so: see `Asked.WEAK`. It measures no temperature of its own: its warmest sensor
stands for it. It balances by itself, and no word for it is documented. Uncertain, and so in the
pack file: the current's sign (`reversed`), and whether 01 switches FETs on, as most say
(`fets_inverted`). Temperatures at which it only forbids charging warn: its open charge FET limits
the power.
"""

from array import array

from micropython import const

from bms.kernels import total
from bms.links.can import EXTENDED
from bms.links.reply import ReplyLink
from bms.slaves import base
from bms.slaves.asked import COMMAND, Asked

TOTAL = const(0x90)
FETS = const(0x93)
COUNTS = const(0x94)
CELLS = const(0x95)
TEMPS = const(0x96)
BALANCE = const(0x97)
ALARM = const(0x98)
DISCHARGE_FET = const(0xD9)
CHARGE_FET = const(0xDA)

# bits of the alarm frame's first seven bytes: name, what it is to us, whether it trips
_W, _T = False, True
ALARMS = (
    ("cell_high_1", base.A_CELL_HIGH, _W),
    ("cell_high_2", base.A_CELL_HIGH, _T),
    ("cell_low_1", base.A_CELL_LOW, _W),
    ("cell_low_2", base.A_CELL_LOW, _T),
    ("pack_high_1", base.A_CELL_HIGH, _W),
    ("pack_high_2", base.A_CELL_HIGH, _T),
    ("pack_low_1", base.A_CELL_LOW, _W),
    ("pack_low_2", base.A_CELL_LOW, _T),
    ("charge_hot_1", base.A_TEMP_HIGH, _W),
    ("charge_hot_2", base.A_TEMP_HIGH, _W),
    ("charge_cold_1", base.A_TEMP_LOW, _W),
    ("charge_cold_2", base.A_TEMP_LOW, _W),
    ("discharge_hot_1", base.A_TEMP_HIGH, _W),
    ("discharge_hot_2", base.A_TEMP_HIGH, _T),
    ("discharge_cold_1", base.A_TEMP_LOW, _W),
    ("discharge_cold_2", base.A_TEMP_LOW, _T),
    ("charge_current_1", base.A_CURRENT, _W),
    ("charge_current_2", base.A_CURRENT, _T),
    ("discharge_current_1", base.A_CURRENT, _W),
    ("discharge_current_2", base.A_CURRENT, _T),
    ("soc_high_1", base.A_OTHER, _W),
    ("soc_high_2", base.A_OTHER, _W),
    ("soc_low_1", base.A_OTHER, _W),
    ("soc_low_2", base.A_OTHER, _W),
    ("cells_apart_1", base.A_OTHER, _W),
    ("cells_apart_2", base.A_OTHER, _W),
    ("temps_apart_1", base.A_OTHER, _W),
    ("temps_apart_2", base.A_OTHER, _W),
    ("bit_28", base.A_OTHER, _W),
    ("bit_29", base.A_OTHER, _W),
    ("bit_30", base.A_OTHER, _W),
    ("bit_31", base.A_OTHER, _W),
    ("charge_mos_hot", base.A_TEMP_HIGH, _T),
    ("discharge_mos_hot", base.A_TEMP_HIGH, _T),
    ("charge_mos_sensor", base.A_HARDWARE, _W),
    ("discharge_mos_sensor", base.A_HARDWARE, _W),
    ("charge_mos_stuck", base.A_HARDWARE, _T),
    ("discharge_mos_stuck", base.A_HARDWARE, _T),
    ("charge_mos_open", base.A_HARDWARE, _W),
    ("discharge_mos_open", base.A_HARDWARE, _W),
    ("afe", base.A_HARDWARE, _T),
    ("voltage_sensing", base.A_HARDWARE, _T),
    ("temperature_sensor", base.A_HARDWARE, _W),
    ("eeprom", base.A_HARDWARE, _W),
    ("clock", base.A_OTHER, _W),
    ("precharge", base.A_OTHER, _W),
    ("communication", base.A_OTHER, _W),
    ("internal_communication", base.A_HARDWARE, _W),
    ("current_module", base.A_HARDWARE, _T),
    ("voltage_module", base.A_HARDWARE, _T),
    ("short_circuit", base.A_SHORT, _T),
    ("too_low_to_charge", base.A_CELL_LOW, _W),
)

FRAME = const(13)
_START = const(0xA5)
_HOST = const(0x40)
_UNKNOWN = const(255)
_LEAST_MV = const(500)
_MOST_MV = const(8000)

# CAN: priority 18, command, to whom, from whom
ANSWER_ID = EXTENDED | 0x18004000
ANSWER_MASK = EXTENDED | 0x1F00FFE0
_REQUEST_ID = EXTENDED | 0x18000040

# what a scan asks; in the last place one of _SELDOM in turn
_ASKS = bytes((CELLS, TEMPS, TOTAL, ALARM, 0))
_SELDOM = bytes((COUNTS, FETS, BALANCE))


class DalyLink(ReplyLink):
    """data: the bytes; an answer goes to `sink.on_reply(node, command, at, now)`, d0 at `at`."""

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or Daly.UART_BPS, FRAME, _START, 160)
        self.data = self._in

    def ask(self, node, command, first):
        """Send a command with d0 = `first`."""
        out = self.out
        out[0] = _START
        out[1] = _HOST + node - 1
        out[2] = command
        out[3] = 8
        out[4] = first
        for i in range(5, 12):
            out[i] = 0
        out[12] = total(out, 0, 12) & 0xFF
        return self.send(FRAME)

    def _size(self, at, filled):
        return FRAME if at + 4 > filled or self._in[at + 3] == 8 else 0

    def _good(self, at, size):
        if total(self._in, at, at + 12) & 0xFF == self._in[at + 12]:
            return True
        self.fault = 2  # CHECKSUM
        return False

    def _hand_over(self, at, size, sink, now):
        node = self._in[at + 1]
        if node >= _HOST:
            self.echoes = (self.echoes + 1) & 0x1FFFFFFF  # the adapter lets us hear ourselves
            return
        self.rx = (self.rx + 1) & 0x1FFFFFFF
        sink.on_reply(node, self._in[at + 2], at + 4, now)


class DalyCan:
    """The same questions and answers on a CAN port: what the driver needs of `DalyLink`.

    data: d0..d7 of the last answer; rx: answers; the other counters are the port's.
    """

    def __init__(self, port):
        self.data = bytearray(8)
        self.rate = port.rate
        self.rx = 0
        self.heard_at = 0
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

    def ask(self, node, command, first):
        """Send a command with d0 = `first`."""
        self._out[0] = first
        return self._port.send(_REQUEST_ID | command << 16 | node << 8, self._out, 8)

    def poll(self, sink, now):
        """Take what has come: the driver, or who shares the port with it, gets the frames."""
        self._port.poll(sink.sink, now)

    def unsent(self):
        """The port has its own queue."""
        return False

    def forget(self):
        """Frames are whole: none waits for its rest."""

    def end(self, sink, now):
        """As `forget`."""


class Daly(Asked):
    """All Daly boards of one port; see `Asked`.

    What the board that answered last says of itself: current_ma, soc_pm, remaining_mah, cycles,
    alarm_bits (of ALARMS, as a bytearray of 8), balance (any cell is bled); -1 = not said yet.
    """

    ABILITIES = base.OWN_FETS
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

    def __init__(self, link, members, pack, limits, faults, config):
        if not isinstance(link, DalyLink):
            link = DalyCan(link)
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.current_ma = self.soc_pm = self.remaining_mah = self.cycles = self.balance = -1
        self.alarm_bits = bytearray(8)
        self._sign = bytearray([config.slaves[i].reversed for i in members])
        self._inverted = bytearray([config.slaves[i].fets_inverted for i in members])
        self._cell_base = bytearray([_UNKNOWN] * n)  # number of the first frame of cells
        self._temp_base = bytearray([_UNKNOWN] * n)
        self._bleeds = bytearray(n)
        self._seldom = bytearray([_UNKNOWN] * n)  # place in _SELDOM of what is asked in this scan
        self._got = 0  # frames of this answer, a bit each
        self._said = array("H", [0] * 33)  # words of its cells

    def steps(self, m):
        """Four questions, and one for temperatures where the pack file has some."""
        return self.STEPS if self.pack.slave_temps[self.members[m]] else self.STEPS - 1

    def _which(self, m, step):
        """The place in _ASKS of question `step` to member m; one that is left out comes last."""
        which = step + self.STEPS - self.steps(m) if step else 0
        return which if which < self.STEPS else 1

    def _frames(self, m, which):
        """Frames that answer a question."""
        slave = self.members[m]
        if which == 0:
            return (self.pack.slave_cells[slave] + 2) // 3
        if which == 1:
            return (self.pack.slave_temps[slave] + 6) // 7
        return 1

    def size(self, m, step):
        """Bytes of a question and its answer; a CAN frame has as many bits as one on UART."""
        return FRAME + FRAME * self._frames(m, self._which(m, step))

    def ask(self, m, step):
        """Cells, temperatures, total, alarms, and one of the rest in turn."""
        which = self._which(m, step)
        bases = self._temp_base if which else self._cell_base
        if self._tries < 2 or bases[m] == _UNKNOWN:
            self._got = 0  # frames that come late, in two parts, are one answer
        if step == 0 and self._tries == 1 and not self._doubt[m]:
            # at the begin of a scan: one that isn't answered does not keep the next from its turn
            self._seldom[m] = self._seldom[m] + 1 if self._seldom[m] + 1 < len(_SELDOM) else 0
        seldom = self._seldom[m]
        command = _ASKS[which] or _SELDOM[seldom if seldom < _UNKNOWN else 0]
        return self.link.ask(self._node[m], command, 0)

    # --- words ---

    def tell_fets(self, m, on):
        """D9 for discharge and, with the next word, DA for charge."""
        first = 1 if on else 0
        if self._inverted[m]:
            first = 1 - first
        self.also(m, first)
        return self.link.ask(self._node[m], DISCHARGE_FET, first)

    def tell_other_fet(self, m, value):
        """DA."""
        return self.link.ask(self._node[m], CHARGE_FET, value)

    # --- answers ---

    def on_frame(self, ident, n, data, now):
        """A frame of a CAN port."""
        if ident & ANSWER_MASK != ANSWER_ID:
            self.strange = (self.strange + 1) & 0x1FFFFFFF
        elif n < 8:
            self.damaged = (self.damaged + 1) & 0x1FFFFFFF
        else:
            link = self.link
            for i in range(8):
                link.data[i] = data[i]
            link.rx = (link.rx + 1) & 0x1FFFFFFF
            link.heard_at = now
            self.on_reply(ident & 0xFF, ident >> 16 & 0xFF, 0, now)

    def on_reply(self, node, command, at, now):
        """One good frame of a board, d0 at `at` in `link.data`; cells are judged at once."""
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
        if not awaited and which == 0 and m >= 0 and self.twin(m, 0):
            i = self.link.data[at] - self._cell_base[m]
            if 0 <= i < self._frames(m, 0) and self._differs(i, at):
                self._contradicted(m, i, at, now)
                return
        if not awaited:
            self.strange = (self.strange + 1) & 0x1FFFFFFF
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

    def _word(self, at):
        data = self.link.data
        return data[at] << 8 | data[at + 1]

    def _part(self, m, step, at, now):
        """One frame of several; True where all are there."""
        count = self._frames(m, step)
        bases = self._temp_base if step else self._cell_base
        number = self.link.data[at]
        # a number that can't be where frames begin as believed: that is to be shown once more
        if number == 0:
            bases[m] = _UNKNOWN if bases[m] == 1 else 0
        elif number == count and bases[m] != 1 and not self._got & 1 and self._brings(step, at):
            bases[m] = 1 if bases[m] == _UNKNOWN else _UNKNOWN
        first = bases[m]
        if first == _UNKNOWN and step and number == count:
            return True  # no sensor of these can be read: that is the answer
        if first == _UNKNOWN:
            # which one it is isn't known before the first or the last has come
            if number >= count:
                self.strange = (self.strange + 1) & 0x1FFFFFFF
                return False
            self._got |= 1 << number
            return False
        i = number - first
        if not 0 <= i < count:
            self.strange = (self.strange + 1) & 0x1FFFFFFF
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

    def _brings(self, step, at):
        """Whether a frame brings a reading: an answer may go on after the last one, with none."""
        if step:
            for i in range(at + 1, at + 8):
                if 0 < self.link.data[i] < 255:
                    return True
            return False
        return _LEAST_MV <= self._word(at + 1) <= _MOST_MV

    def _differs(self, i, at):
        """Whether frame i (from 0) of this answer was another one as it came before."""
        for k in range(3):
            if self._said[3 * i + k] != self._word(at + 1 + 2 * k):
                return True
        return False

    def _contradicted(self, m, i, at, now):
        """Two boards answered, or damage made a number: only what comes again is judged."""
        before = self._conflict[m]
        self.contradicts(m)
        if before:
            self._take_cells(m, i, at, now)

    def _take_cells(self, m, i, at, now):
        slave = self.members[m]
        for k in range(3):
            self._said[3 * i + k] = self._word(at + 1 + 2 * k)
        if not self.pack.known[slave]:
            return
        for k in range(3):
            cell = 3 * i + k
            mv = self._word(at + 1 + 2 * k)
            if cell < self.pack.slave_cells[slave] and mv <= _MOST_MV:
                self.cell(m, cell, mv, now, self._bleeds[m] != 0)

    def _take_temps(self, m, i, at, now):
        slave = self.members[m]
        if not self.pack.known[slave]:
            return
        for k in range(7):
            sensor = 7 * i + k
            raw = self.link.data[at + 1 + k]
            if sensor < self.pack.slave_temps[slave] and 0 < raw < 255:
                self.temp(m, sensor, raw * 10 - 400, now)

    def _take_total(self, m, at, now):
        slave = self.members[m]
        pack = self.pack
        ma = (self._word(at + 4) - 30000) * 100
        self.current_ma = -ma if self._sign[m] else ma
        self.soc_pm = self._word(at + 6)
        if not pack.known[slave]:
            return
        hottest = -400
        first = pack.first_temp[slave]
        for i in range(first, first + pack.slave_temps[slave]):
            if pack.temp_flags[i] & 1 and pack.temp_dc[i] > hottest:
                hottest = pack.temp_dc[i]
        self.board(m, self._word(at) * 100, hottest, now)

    def _take_alarms(self, m, at, now):
        data = self.link.data
        trip = warn = 0
        for i in range(8):
            self.alarm_bits[i] = data[at + i]
        for bit in range(len(ALARMS)):
            if data[at + (bit >> 3)] >> (bit & 7) & 1:
                if ALARMS[bit][2]:
                    trip |= ALARMS[bit][1]
                else:
                    warn |= ALARMS[bit][1]
        self.alarms(m, trip, warn, now)

    def _take_seldom(self, m, command, at):
        data = self.link.data
        slave = self.members[m]
        pack = self.pack
        if command == COUNTS:
            self.cycles = self._word(at + 5)
            cells = data[at]
            fits = cells == pack.slave_cells[slave] and data[at + 1] >= pack.slave_temps[slave]
            self.fit(m, 1, fits, cells)
        elif command == FETS:
            self.remaining_mah = data[at + 5] << 16 | self._word(at + 6)
            if pack.known[slave]:
                self.switches(m, data[at + 1], data[at + 2])
        else:
            self._bleeds[m] = 0
            for i in range(6):
                if data[at + i]:
                    self._bleeds[m] = 1
            self.balance = self._bleeds[m]
