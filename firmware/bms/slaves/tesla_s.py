"""Driver of Tesla Model S modules: a daisy chain on a UART at 612500 bit/s, 8N1, TTL, isolated.

Source: the modules' protocol as read in open implementations. A command is `address << 1 | write,
register, length or value`; a write has a CRC-8 (poly 07, init 0) behind it and is echoed, a read is
answered by `address << 1, register, length, data, CRC-8`. A module without an address answers with
bit 7 set, and its CRC is made without that bit. Nodes 1.. are the places in the chain, from the
master's end. Start: all modules are reset, then one after the other gets its address. If one is
lost later, all are reset and addressed again: only then the places are certain. With fewer modules
than in the pack file it is unknown which ones are missing, and none is read. One module more is a
mismatch as well. Adapters answer late, USB ones after 16 ms: a start that nobody answers is
followed by one that waits twice as long, 32 ms at most, and a chain that was found is polled so.
Each module needs six answers in a scan: behind such an adapter, say so by `answer` in [[link]].
Units: cells in steps of 6.25 V / 16383, the module 33.333 V / 16383; temperatures of two
thermistors by the formula of Steinhart and Hart, from a table made at start. Balancing by a mask of
six cells; it is stopped while a module measures, and ends by itself after a minute. A module has no
temperature of its own: its warmer sensor stands for it. A reading that jumps is polled once more.
Alerts are latches: the driver clears them at start, and at most every 5 s after it has evaluated
them; those that still hold come back, and an alarm ends 4 s after its last report. Uncertain: what
the alerts mean other than over-voltage, under-voltage and over-temperature; these only warn.
"""

from array import array
from math import log

from micropython import const

from bms import ticks
from bms.kernels.slave_checksums import crc8
from bms.links.reply import CHECKSUM, ReplyLink
from bms.pack import ALONE
from bms.protection import fault_ids as F
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word
from bms.slaves.polled import COMMAND, PolledDriver
from bms.ticks import MASK

# registers
SAMPLE = const(0x01)
STATUS = const(0x20)
_ALERTS = const(0x20)
_FAULTS = const(0x21)
_ADC = const(0x30)
_IO = const(0x31)
_BALANCE = const(0x32)
_TIMER = const(0x33)
_CONVERT = const(0x34)
_ADDRESS = const(0x3B)
_RESET = const(0x3C)

SAMPLE_BYTES = const(18)
STATUS_BYTES = const(4)
ALL = const(0x3F)

# bits of the alerts and of the faults
_HOT = const(0x0B)  # a thermistor or the chip is too warm
_ALERT_OTHERS = const(0x60)  # their meaning is not certain
_FAULT_OTHERS = const(0x20)

_WRITE = const(1)  # of the first byte of a command
_NO_ADDRESS = const(0x80)  # of the first byte of an answer
_ADDRESSED = const(0x80)  # of a value written to _ADDRESS
_ALL_CELLS = const(0x3F)
_MINUTE = const(0x81)
_START_MOST_MS = const(32)  # to wait for an answer at start
_START_TRIES = const(3)
_START_AGAIN_MS = const(50)  # between two starts that did not find all
_SHORT_STARTS = const(5)  # in a row until that is reported: with each wait for an answer once
_SKIPS = const(3)  # answers not evaluated while latches are being cleared
_ADC_MOST = const(0x3FFF)
_APART_MV = const(1000)  # a module's voltage and its cells: more is a wrong answer
_CLEAR_MS = const(5000)  # between two times that a module's latches are cleared
_STEP_SHIFT = const(6)  # of the table of temperatures, 0.01 degC: every 64 of the raw value
_TABLE = const(258)
_LEAST_RAW = const(200)  # an open thermistor is below, a shorted one above
_MOST_RAW = const(16300)

# what is written to all modules once they have their addresses: register, value; the first
# commands clear latches, and are repeated to a module whose status shows some
_CLEARS = const(4)
_SETTLE = bytes((_ALERTS, 0xFF, _ALERTS, 0x00, _FAULTS, 0xFF, _FAULTS, 0x00, _BALANCE, 0x00))
# the commands of a scan: register, value; the last two are reads: register, length
_COMMANDS = bytes((_BALANCE, 0, _ADC, 0x3D, _IO, 3, _CONVERT, 1, SAMPLE, 18, STATUS, 4))


def celsius(raw):
    """Temperature in degC of the first thermistor, by the formula; floats."""
    ohm = (1.78 / ((raw + 2) / 33046) - 3.57) * 1000
    ln = log(ohm)
    return 1 / (7.610373573e-4 + 2.728524832e-4 * ln + 1.022822735e-7 * ln * ln * ln) - 273.15


class TeslaLink(ReplyLink):
    """data: the bytes. The awaited answer goes to `sink.on_reply(register, at, n, now)`, its n
    bytes of data (a write: 0) from `at`.

    echoing: the adapter returns what was sent: of two equal commands the first is our own.
    """

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or TeslaS.UART_BPS, 32)
        self.data = self._in
        self.echoing = 0
        self._head = bytearray(3)  # of the answer that is awaited
        self._bytes = 0  # of its data, 0 = it is a write's
        self._copies = 0

    def read(self, address, register, n):
        """Poll n bytes from a register."""
        out = self.out
        out[0] = address << 1
        out[1] = register
        out[2] = n
        head = self._head
        head[0] = out[0] if address else _NO_ADDRESS
        head[1] = register
        head[2] = n
        self._bytes = n
        self._copies = 0
        return self.send(3)

    def write(self, address, register, value):
        """Write a byte to a register."""
        out = self.out
        out[0] = address << 1 | _WRITE
        out[1] = register
        out[2] = value
        out[3] = crc8(out, 0, 3)
        for i in range(3):
            self._head[i] = out[i]
        self._bytes = 0
        self._copies = 0
        return self.send(4)

    def _size(self, at, filled):
        data = self._in
        head = self._head
        left = filled - at
        if data[at] != head[0] and not (data[at] == 0x81 and head[0] == 1):
            return 0
        if left > 1 and data[at + 1] != head[1] or left > 2 and data[at + 2] != head[2]:
            return 0
        if self.echoing and not self._copies and self._bytes and head[0] < _NO_ADDRESS:
            return 3  # our own poll: the answer begins with the same bytes
        return 4 + self._bytes

    def _good(self, at, size):
        data = self._in
        if size == 3:
            return True
        first = data[at]
        data[at] = first & ~_NO_ADDRESS  # the CRC was made without it
        good = crc8(data, at, at + size - 1) == data[at + size - 1]
        data[at] = first
        if not good:
            self.fault = CHECKSUM
        return good

    def _hand_over(self, at, size, sink, now):
        self._copies += 1
        if size == 3 or not self._bytes and self._copies <= self.echoing:
            self.echoes = (self.echoes + 1) & MASK
            return
        self.rx = (self.rx + 1) & MASK
        sink.on_reply(self._in[at + 1], at + 3, self._bytes, now)


class TeslaS(PolledDriver):
    """A whole chain; see `PolledDriver`.

    starts: times that all modules were reset and addressed; found: modules found then.
    """

    ABILITIES = base.BALANCE_MASK
    REPORTS = ALONE
    CELLS = 6
    TEMPS = 2
    WEAK = CHEAP = True  # a CRC of 8 bits; another poll reads the same conversion
    ALARM_MS = 4000  # an alarm that lasts comes back within the module's own delay, 3.1 s at most
    ANSWER_MS = 4
    TYPICAL_MS = 1  # a cycle of the master's
    LONGEST = 32
    UART_BPS = 612500
    frame = TeslaLink

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.starts = self.found = 0
        self._top = max(self._node)
        self._stage = _RESETTING
        self._count = 0
        self._answers = 0  # answers to the last command of the start
        self._due_at = 0
        self._first = True
        self._least_wait = self._wait = self._answer  # ms for an answer, at start
        if self._answer != self.ANSWER_MS:
            self.TYPICAL_MS = self._answer  # as long as the adapter's
        self._tries_left = _START_TRIES
        self._echoing = 0
        self._more = 0  # starts in a row with one module too many
        self._short = 0  # and with one missing
        self._paused = bytearray([1] * n)  # it may have been balancing when this scan began
        self._mask = bytearray(n)  # cells that it may be balancing
        self._uncommanded = bytearray(n)  # it still needs 2: timer and mask, 1: the mask
        self._uncleared = bytearray(n)  # commands that clear latches, still to be sent
        self._cleared_at = array("i", [0] * n)
        self._skips = bytearray(n)  # its latches are being cleared: so many answers say nothing
        self._table = array("h", [0] * _TABLE)
        for k in range(_TABLE):
            raw = k << _STEP_SHIFT
            if _LEAST_RAW - 64 <= raw <= _MOST_RAW + 64:
                self._table[k] = round(100 * celsius(raw))

    def size(self, m, step):
        """Bytes of a command and its answer."""
        s = step + 1 - self._paused[m]
        if s < 4:
            return 8
        return 7 + _COMMANDS[2 * s + 1]

    def steps(self, m):
        """Three commands, the sample, the status; a command before them stops balancing."""
        return 5 + self._paused[m]

    def send_poll(self, m, step):
        """Send command `step` of the scan, one of _COMMANDS, to member m."""
        s = step + 1 - self._paused[m]
        if s < 4:
            return self.link.write(self._node[m], _COMMANDS[2 * s], _COMMANDS[2 * s + 1])
        return self.link.read(self._node[m], _COMMANDS[2 * s], _COMMANDS[2 * s + 1])

    # --- what the master calls ---

    def begin(self, seq, now):
        """A scan, once all have their addresses."""
        if self._stage == RUN:
            super().begin(seq, now)

    def _open(self, now):
        """A scan begins; or, where a module is lost, all get their addresses again."""
        for m in range(len(self._silent)):
            if self._silent[m]:
                self._restart(now)
                return
        for m in range(len(self._paused)):
            self._paused[m] = 1 if self._mask[m] else 0
        super()._open(now)

    def step(self, now):
        """As `PolledDriver.step`, once all have their addresses."""
        if self._stage == RUN:
            super().step(now)
            return
        if self._first:
            self._first = False
            self._due_at = now
        self.link.poll(self, now)
        if ticks.diff(now, self._due_at) >= 0 and not self.link.unsent():
            self._start(now)

    def rest(self, now):
        """ms until `step` has something to do, if nothing arrives before."""
        if self._stage == RUN:
            return super().rest(now)
        rest = ticks.diff(self._due_at, now)
        return rest if rest > 0 else 0

    # --- starting ---

    def _restart(self, now):
        self._stage = _RESETTING
        self._due_at = now
        self.done = True
        self._again = False
        for slave in self.members:
            self.pack.known[slave] = 0

    # long: the steps of the start in their order
    def _start(self, now):
        """Send the next command; `_answers` counts the answers to the last one."""
        link = self.link
        stage = self._stage
        answers = self._answers
        self._answers = 0
        self._due_at = ticks.add(now, self._wait)
        if stage == _RESETTING:
            self.starts = (self.starts + 1) & MASK
            self._count = 0
            self._echoing = 0
            self._tries_left = _START_TRIES
            self._reset_all(now)
            return
        if stage == _RESET_SENT:
            # two answers: the adapter returns what was sent; any damage hides it
            if answers > 1:
                self._echoing = 1
            self._tries_left -= 1
            if self._tries_left:
                self._reset_all(now)
                return
            link.echoing = self._echoing
            self._tries_left = _START_TRIES
        elif stage == _PROBED:
            if answers and self._count < self._top:
                link.forget()
                link.write(0, _ADDRESS, _ADDRESSED | self._count + 1)
                self._stage = _GIVEN
                return
            self._tries_left -= 1
            if answers or not self._tries_left:
                self._addressed(answers, now)
                return
        elif stage == _GIVEN:
            self._tries_left = _START_TRIES
            self._check()
            return
        elif stage == _CHECKED:
            if not answers:
                self._tries_left -= 1
                if self._tries_left:
                    self._check()
                else:
                    self._failed(now)  # the modules' places are not certain any more
                return
            self._tries_left = _START_TRIES
            self._count += 1
        elif stage >= _SETTLING:
            i = stage - _SETTLING
            if 2 * i == len(_SETTLE):
                self._stage = RUN
                self._state = 0
                self._timeout += self._wait - self._answer
                self._answer = self._wait
                for m in range(len(self._silent)):
                    self._silent[m] = self._mask[m] = self._uncommanded[m] = 0
                    self._cleared_at[m] = now
                return
            link.forget()
            link.write(ALL, _SETTLE[2 * i], _SETTLE[2 * i + 1])
            self._stage = stage + 1
            return
        link.forget()
        link.read(0, 0, 1)  # a module without an address answers
        self._stage = _PROBED

    def _reset_all(self, now):
        self.link.echoing = 0
        self.link.forget()
        self.link.write(ALL, _RESET, 0xA5)
        self._stage = _RESET_SENT
        self._due_at = ticks.add(now, self._wait)

    def _check(self):
        """Poll the module that has just got an address by that address."""
        self.link.forget()
        self.link.read(self._count + 1, 0, 1)
        self._stage = _CHECKED

    def _failed(self, now):
        """Start again."""
        self._short += 1
        if self._short == _SHORT_STARTS:
            self._short = 0
            self.chain_counted(self._count, max(self.member(self._count + 1), 0))
        self._restart(now)

    def _addressed(self, more, now):
        """No further module gets an address; more: there is one."""
        self.found = self._count + (1 if more else 0)
        if self.found == self._top:
            self._more = self._short = 0
            self.chain_counted(self.found, -1)
            self._stage = _SETTLING
            self._due_at = now
            return
        # fewer: their readings become stale; more: counts when it is seen twice
        self._more = self._more + 1 if more and self._more < 2 else self._more
        if self._more == 2:
            self.faults.set(F.SLAVE_MISMATCH, self.members[0], self.found)
            for m in range(len(self.members)):
                self._wrong[m] = 1
        if more:
            self._short = 0
            self._restart(now)
        else:
            if not self._count:  # nobody answered: more time, behind the longest the least
                more_ms = 2 * self._wait
                self._wait = more_ms if more_ms <= _START_MOST_MS else self._least_wait
            self._failed(now)
        self._due_at = ticks.add(now, _START_AGAIN_MS)

    # --- commands ---

    def command(self, m, now):
        """A timer, then the mask: after each scan, as measuring has stopped it; then the commands
        that clear latches.
        """
        mask = self.pack.balance_mask[2 * self.members[m]] & _ALL_CELLS
        if self._uncommanded[m] == 1:
            self._uncommanded[m] = 0
            self._mask[m] |= mask  # until it answers, it may balance both
            return self.link.write(self._node[m], _BALANCE, mask)
        if self._uncommanded[m] == 2 and mask:
            self._uncommanded[m] = 1
            return self.link.write(self._node[m], _TIMER, _MINUTE)
        if not mask and self._mask[m]:
            return self.link.write(self._node[m], _BALANCE, 0)
        if mask and mask != self._mask[m]:
            self._uncommanded[m] = 1
            return self.link.write(self._node[m], _TIMER, _MINUTE)
        if self._uncleared[m]:
            i = 2 * (_CLEARS - self._uncleared[m])
            if _SETTLE[i + 1]:
                self._skips[m] = _SKIPS
                self._uncleared[m] -= 1  # not repeated: it would hide alerts that come back
            return self.link.write(self._node[m], _SETTLE[i], _SETTLE[i + 1])
        return False

    # --- answers ---

    def on_reply(self, register, at, n, now):
        """The awaited answer, its data from `at` in `link.data`."""
        if self._stage != RUN:
            self._answers += 1
            if self._stage != _RESET_SENT:
                self._due_at = now
            return
        m = self._m
        step = COMMAND if self._command else self._step
        if m < 0 or not self.waits_for(m, step):
            self.unexpected = (self.unexpected + 1) & MASK
            return
        if self._command:
            if register == _BALANCE:
                self._mask[m] = self.link.out[2]
            elif (register == _ALERTS or register == _FAULTS) and not self.link.out[2]:
                self._uncleared[m] -= 1
                self._skips[m] = 0
        else:
            if register == SAMPLE and n == SAMPLE_BYTES:
                self.take_sample(m, at, now)
            elif register == STATUS and n == STATUS_BYTES:
                self.take_status(m, at, now)
        self.answered(now)

    def _mv(self, at):
        """Of a cell."""
        return (word(self.link.data, at) * 6250 + 8191) // _ADC_MOST

    def take_sample(self, m, at, now):
        """Module, six cells, two temperatures, from `at` in `link.data`."""
        slave = self.members[m]
        self.fit(m, 1, True, self.found)  # all are there, and each has confirmed its address
        # a CRC of 8 bits passes one damaged answer in 256: all values must fit into 14 bits, and
        # the module's voltage must fit its cells
        for i in range(7):
            if word(self.link.data, at + 2 * i) > _ADC_MOST:
                self.damaged = (self.damaged + 1) & MASK
                return
        total = 0
        for i in range(6):
            total += self._mv(at + 2 + 2 * i)
        module = (word(self.link.data, at) * 33333 + 8191) // _ADC_MOST
        if not -_APART_MV < module - total < _APART_MV:
            self.damaged = (self.damaged + 1) & MASK
            return
        balancing = self._paused[m] != 0
        for i in range(self.pack.slave_cells[slave]):
            self.cell(m, i, self._mv(at + 2 + 2 * i), now, balancing)
        hottest = NO_SENSOR_DC
        for i in range(2):
            raw = word(self.link.data, at + 14 + 2 * i)
            if i:
                # the second thermistor's constants, as the first one's
                raw = (raw + 9) * 33046 // 33068 - 2 if raw <= _MOST_RAW else raw
            if not _LEAST_RAW <= raw <= _MOST_RAW:
                continue
            k = raw >> _STEP_SHIFT
            low = self._table[k]
            dc = (low + ((self._table[k + 1] - low) * (raw & 63) >> _STEP_SHIFT)) // 10
            if dc > hottest:
                hottest = dc
            if i < self.pack.slave_temps[slave]:
                self.temp(m, i, dc, now)
        self._uncommanded[m] = 2 if self._mask[m] else 0
        if self._mask[m]:
            self._mask[m] = 0  # it was stopped, and is commanded again
        if self._suspect[m] != 1:
            self.board(m, module, hottest, now)

    def take_status(self, m, at, now):
        """Alerts, faults, cells above and below the module's own bounds."""
        if self._skips[m]:
            self._skips[m] -= 1  # between the two words the latches may show what was written
            return
        data = self.link.data
        trip = warn = 0
        if data[at] & _HOT:
            trip |= base.A_TEMP_HIGH
        if data[at] & _ALERT_OTHERS or data[at + 1] & _FAULT_OTHERS:
            warn |= base.A_HARDWARE
        if data[at + 2]:
            trip |= base.A_CELL_HIGH
        if data[at + 3]:
            trip |= base.A_CELL_LOW
        self.alarms(m, trip, warn, now)
        latched = data[at] or data[at + 1] or data[at + 2] or data[at + 3]
        if latched and self._suspect[m] != 1:
            # evaluated: latches are cleared, alerts that still hold come back
            if ticks.since(now, self._cleared_at[m]) >= _CLEAR_MS:
                self._uncleared[m] = _CLEARS
                self._cleared_at[m] = now


# the steps of the start; from _SETTLING on one command of _SETTLE each
_RESETTING, _RESET_SENT, _PROBED, _GIVEN, _CHECKED, RUN, _SETTLING = range(7)
