"""Driver of a stack of TI BQ79616 monitors behind a BQ79600 bridge, on a UART at 1 Mbit/s, 8N1.

Sources: TI's data sheets of the two and "BQ79616 software design reference" for the sequences, read
in public; CRC-16 (poly A001, init FFFF), low byte first. One [[slave]] is one device, node 1 next
to the bridge. Half duplex: devices only answer; every device answers a stack read, the one at the
far end first. Units: cells in steps of 190.73 uV, temperatures at the GPIOs from the ratio of their
voltage (152.59 uV) to TSREF (169.54 uV): an NTC of 10 kohm below a resistor of 10 kohm, its beta in
the pack file (`beta`); die 0.025 degC. 8000 is no reading.
Start: the line held low for 2.75 ms or more wakes the bridge, which wakes the stack; then every
device gets its address. The driver starts the stack again when a device has reset (FAULT_SYS shows
it) or did not answer in two scans in a row; in each of these it reads the cells twice. Devices in
front of one that stays silent are still read after each start. One device more than in the pack
file is a mismatch, and none is read.
Balancing: timers of 30 s, sent again every 10 s while it lasts; the chip alternates odd and even
cells by itself. Writes aren't answered, so each change is sent three times; a device that loses its
master stops. FAULT_MSK2 masks the fault that settings differ from the chip's OTP. The chip's OV and
UV comparators are not used: the firmware evaluates. A chip can't tell how many cells are wired to
it. Latched faults are cleared every 10 s: those that still hold come back, and warn again.
Uncertain: the NTC and its resistor depend on the board; the order of the bits in FAULT_SYS (LFO 7,
GPIO 5, DRST 4, CTL 3, CTS 2, TSHUT 1, TWARN 0) is in no public text that was found: a device that
reset is found by its lost address in any case.
"""

from array import array
from math import exp

from micropython import const

from bms import ticks
from bms.kernels.slave_checksums import crc16_modbus
from bms.links.reply import CHECKSUM, ReplyLink
from bms.protection import fault_ids as F
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, CommercialDriver, word
from bms.slaves.fields import alarm_flags
from bms.ticks import MASK

# registers
ACTIVE_CELL = const(0x0003)
VCELL16 = const(0x0568)
TSREF = const(0x058C)  # then GPIO 1..8
DIE = const(0x05AE)
FAULT_SUMMARY = const(0x052D)
FAULT_SYS = const(0x0536)
_DIRECTION = const(0x0306)  # DIR0_ADDR
_COMM_CTRL = const(0x0308)
_CONTROL1 = const(0x0309)
_CONTROL2 = const(0x030A)
_ADC_CTRL1 = const(0x030D)
_CB_CELL16 = const(0x0318)
_BAL_CTRL2 = const(0x032F)
_FAULT_RST1 = const(0x0331)
_DLL_SYNC = const(0x0343)  # to 034A
_ECC_TEST = const(0x034C)
_FAULT_MSK2 = const(0x0017)
_GPIO_CONF = const(0x000E)  # four registers, two GPIOs in each

_READ_ONE = const(0x80)
_READ_STACK = const(0xA0)
_WRITE_ONE = const(0x90)
_WRITE_STACK = const(0xB0)
_WRITE_ALL = const(0xD0)
_NONE = const(-0x8000)  # not converted: an input that isn't set up, or no first conversion yet
_OVERHEAD = const(6)  # bytes of an answer beside its data

_SYSTEM = const(2)  # bit of FAULT_SUMMARY
# bits of FAULT_SYS
_RESET = const(0x10)  # DRST
_WARM = const(0x03)  # TSHUT, TWARN

# reads of a scan, in their order: register, bytes; the last one only if a summary asks for it
_READS = ((VCELL16, 32), (TSREF, 18), (DIE, 2), (FAULT_SUMMARY, 1), (FAULT_SYS, 1))
_USUAL = const(4)
_GAP_MS = const(1)  # after GO, until the cells are converted
_ANSWER_MS = const(4)  # behind an adapter up to _MOST_ANSWER_MS
_MOST_ANSWER_MS = const(32)
_WAKE_MS = const(8)  # the line low, then the bridge's own start
_DEVICE_MS = const(12)  # time that a wake tone needs through each device
_LOST_SCANS = const(2)
_LOOKS = const(3)  # reads of the addresses: one answer may be damaged
_SHORT_STARTS = const(8)  # in a row with a device missing: the next ones are rarer
_RARE_SCANS = const(2)
_PAUSE_MS = const(200)  # before the next try, where no device answers
_TIMER = const(2)  # 30 s
_AGAIN_MS = const(10000)
_BACK_MS = const(5000)  # a fault that was cleared and still holds is back within this time
_SENDS = const(3)
_WRITES = const(2)
_REPEAT_MS = const(200)
_STEPS = const(128)  # of the table of temperatures
_BETA = const(3435)


def _signed(value):
    """16 bits as a signed number."""
    return value - 0x10000 if value & 0x8000 else value


class BqLink(ReplyLink):
    """data: the bytes; an answer goes to `sink.on_answer(device, register, at, n, now)`."""

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or Bq796xx.UART_BPS, 64, -1, 256)
        self.data = self._in
        self.wanted = 0  # register that is being read, and how many bytes of it
        self.length = 0
        self.loose = False  # any register, any length: for captures

    def write(self, how, device, register, n):
        """Send a write of the n bytes in `out` from byte 8 on; device < 0: to many."""
        out = self.out
        at = self._head(how | n - 1, device, register)
        for i in range(n):
            out[at + i] = out[8 + i]
        return self._send_checked(at + n)

    def read(self, register, n, device=-1):
        """Read n bytes from a register of a device, or of the whole stack."""
        self.wanted = register
        self.length = n
        at = self._head(_READ_STACK if device < 0 else _READ_ONE, device, register)
        self.out[at] = n - 1
        return self._send_checked(at + 1)

    def _head(self, how, device, register):
        out = self.out
        out[0] = how
        at = 1
        if device >= 0:
            out[1] = device
            at = 2
        out[at] = register >> 8
        out[at + 1] = register & 0xFF
        return at + 2

    def _send_checked(self, n):
        crc = crc16_modbus(self.out, 0, n)
        self.out[n] = crc & 0xFF
        self.out[n + 1] = crc >> 8
        return self.send(n + 2)

    def low(self):
        """Hold the line low, for longer than any byte does; `usual` ends it."""
        self._stream.low()

    def usual(self):
        """The line is a UART again."""
        self._stream.usual()

    def _size(self, at, filled):
        # an answer's first byte is its length less 1: below 80; a command's is 80 or more
        data = self._in
        if self.loose:
            return data[at] + 1 + _OVERHEAD if data[at] < 48 else 0
        if data[at] != self.length - 1:
            return 0
        if at + 3 < filled and data[at + 2] << 8 | data[at + 3] != self.wanted:
            return 0
        return self.length + _OVERHEAD

    def _good(self, at, size):
        crc = crc16_modbus(self._in, at, at + size - 2)
        end = at + size
        if self._in[end - 2] | self._in[end - 1] << 8 == crc:
            return True
        self.fault = CHECKSUM
        return False

    def _hand_over(self, at, size, sink, now):
        data = self._in
        self.rx = (self.rx + 1) & MASK
        sink.on_answer(data[at + 1], data[at + 2] << 8 | data[at + 3], at + 4, size - 6, now)


class Bq796xx(CommercialDriver):
    """A whole stack; see `CommercialDriver`.

    starts: times that the stack was woken and addressed; summary: FAULT_SUMMARY by member.
    """

    ABILITIES = base.BALANCE_MASK
    CELLS = 16
    TEMPS = 8
    UART_BPS = 1000000
    frame = BqLink
    ALARMS = (  # bits of FAULT_SUMMARY
        b"d power\n"
        b"- system\n"  # FAULT_SYS is read then
        b"- ovuv\n"  # comparators that are not used
        b"- otut\n"
        b"- communication\n"  # counted by the driver itself
        b"d otp\n"
        b"d comparator_adc\n"
        b"d protector\n"
    )

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self.starts = 0
        self._answer = _ANSWER_MS  # ms until an answer begins
        self.summary = bytearray(n)
        self._member = bytearray(64)
        self._top = 0
        for m in range(n):
            node = config.slaves[members[m]].node
            self._member[node] = m + 1
            if node > self._top:
                self._top = node
        self._node = bytearray([config.slaves[i].node for i in members])
        self._phase = _WAKE  # of starting, then RUN
        self._index = 0
        self._due_at = 0
        self._read = -1  # index of _READS that is awaited, -1 = none
        self._first = True
        self._got = bytearray(n)
        self._second = False  # the cells are being read a second time in this scan
        self._count = 0
        self._there = bytearray(64)  # addresses that were read back at the start
        self._highest = 0  # of those
        self._whole = False  # all devices were there at the last start
        self._short = 0  # starts in a row at which one was missing
        self._more = 0  # starts in a row with one device too many
        self._absent = bytearray(n)  # scans in a row without its cells
        self._lost = 0  # the most of those
        self._reset_seen = False
        self._system = False  # FAULT_SYS is to be read
        self._latched = False  # some summary is not 0
        self._cleared_at = 0
        self._unset = False  # a device has lost one of its settings
        tables = {}  # one of each beta
        for i in members:
            beta = config.slaves[i].beta or _BETA
            if beta not in tables:
                tables[beta] = self._temperatures(beta)
        self._dc = [tables[config.slaves[i].beta or _BETA] for i in members]
        self._die = array("h", [NO_SENSOR_DC] * n)
        self._stack = array("i", [0] * n)
        self._sent = array("H", [0] * n)  # mask as commanded
        self._sent_at = array("i", [0] * n)
        self._balancing_cells = bytearray(n)  # it may be balancing
        self._commanded = bytearray(n)
        self._left = bytearray(n)  # repetitions that remain
        self._sending = -1  # member whose timers are being sent
        self._part = 0

    @staticmethod
    def _temperatures(beta):
        """0.1 degC at each of 129 ratios of the NTC's voltage to TSREF; floats, at start only."""
        out = array("h", [-32768] * (_STEPS + 1))
        for k in range(1, _STEPS):
            ratio = k / _STEPS
            # R / R25 where a resistor of R25 is above it; 1/T = 1/T25 + ln(R/R25) / B, solved for T
            low, high = -60.0, 180.0
            for _ in range(30):
                middle = (low + high) / 2
                r = exp(beta * (1 / (middle + 273.15) - 1 / 298.15))
                if r / (1 + r) > ratio:
                    low = middle
                else:
                    high = middle
            out[k] = round(10 * low)
        return out

    # --- what the master calls ---

    def scan_ms(self, config):
        """ms of all answers on the wire, and of the waits between them."""
        number = 0
        for i in range(_USUAL):
            number += 6 + self._top * (_READS[i][1] + _OVERHEAD)
        return number * 10000 // self.link.rate + 4 * 2 + _GAP_MS + 1

    def begin(self, seq, now):
        """Convert all cells at this moment, then read them; or go on with the start."""
        if not self.done or self._phase != RUN:
            return
        self.done = False
        self._sending = -1
        self._system = self._latched = self._second = False
        out = self.link.out
        out[8] = 0x06
        self.link.write(_WRITE_STACK, -1, _ADC_CTRL1, 1)
        self._read = -1
        self._index = 0
        self._due_at = ticks.add(now, _GAP_MS)  # until then the old values are there

    def step(self, now):
        """Read what has arrived; send the next read, start the stack, or command balancing."""
        self.link.poll(self, now)
        if self._alarms:
            self.alarm_step(now)
        if self._first:
            self._first = False
            self._due_at = now
        # a second read ends when all have had their time: the first answer may complete the set
        if self._read >= 0 and self._count == len(self.members) and not self._second:
            self._next_read(now)
        if ticks.diff(now, self._due_at) < 0 or self.link.unsent():
            return
        if self._phase != RUN:
            self._start(now)
        elif self._read >= 0:
            self.link.end(self, now)
            if self._read >= 0:
                self._next_read(now)
        elif not self.done:
            self._begin(now)
        else:
            self._balance(now)

    def rest(self, now):
        """ms until `step` has something to do by time."""
        if self.link.unsent():
            return 0
        if self._phase == RUN and self.done and self._sending < 0:
            return 1000
        rest = ticks.diff(self._due_at, now)
        return rest if rest > 0 else 0

    # --- starting ---

    # long: the steps of the start in their order
    def _start(self, now):
        """The next command of waking and addressing."""
        link = self.link
        out = link.out
        phase = self._phase
        wait = 0
        if phase == _WAKE:
            self.starts = (self.starts + 1) & MASK
            for slave in self.members:
                self.pack.known[slave] = 0
            self._count = self._highest = 0
            for i in range(len(self._there)):
                self._there[i] = 0
            for m in range(len(self._absent)):
                self._absent[m] = 0
            link.low()
            wait = _WAKE_MS
        elif phase == _TONE:
            link.usual()
            out[8] = 0x20  # SEND_WAKE
            link.write(_WRITE_ONE, 0, _CONTROL1, 1)
            wait = _DEVICE_MS * (self._top + 1)
        elif phase == _SYNC:
            # writes that only let the delay-locked loops settle
            out[8] = 0
            if not self._index:
                link.write(_WRITE_ALL, -1, _ECC_TEST, 1)
            else:
                link.write(_WRITE_STACK, -1, _DLL_SYNC - 1 + self._index, 1)
            self._index += 1
            if self._index <= 8:
                return
            self._index = 0
        elif phase == _ENABLE:
            out[8] = 0x01
            link.write(_WRITE_ALL, -1, _CONTROL1, 1)
        elif phase == _ADDRESS:
            out[8] = self._index
            link.write(_WRITE_ALL, -1, _DIRECTION, 1)
            self._index += 1
            if self._index <= self._top + 1:  # one more, for a device too many
                return
            self._index = 0
        elif phase == _STACK:
            out[8] = 0x02
            link.write(_WRITE_ALL, -1, _COMM_CTRL, 1)
        elif phase == _BASE:
            out[8] = 0x00
            link.write(_WRITE_ONE, 0, _COMM_CTRL, 1)
        elif phase == _BEYOND:
            # a device too many: looked for before the stack has a top, which hides it
            if not self._there[self._top + 1] and self._index < _LOOKS:
                self._index += 1
                link.forget()
                link.read(_DIRECTION, 1, self._top + 1)
                self._due_at = ticks.add(now, self._wait_ms(0) + 1)
                return
            self._index = 0
        elif phase == _TOP:
            out[8] = 0x03
            link.write(_WRITE_ONE, self._top, _COMM_CTRL, 1)
        elif phase == _SYNC_BACK:
            # reads that do the same for answers; their values are not used
            link.forget()
            link.read(_DLL_SYNC + self._index, 1)
            wait = self._wait_ms(1)
            self._index += 1
            if self._index < 8:
                self._due_at = ticks.add(now, wait + 1)
                return
            self._index = 0
        elif phase == _VERIFY:
            # a command that was lost has shifted all devices behind it by one place
            link.forget()
            link.read(_DIRECTION, 1)
            wait = self._wait_ms(1)
        elif phase == _EVALUATE:
            link.end(self, now)
            self._index += 1
            if not self._count:
                # nobody in time: an adapter may hold answers back, USB ones for 16 ms
                most = 2 * self._answer > _MOST_ANSWER_MS
                self._answer = _ANSWER_MS if most else 2 * self._answer
            elif self._count < max(self._top, self._highest) and self._index < _LOOKS:
                self._phase = _VERIFY
                return
            self._index = 0
            if not self._fits(now):
                return
        elif phase == _MASKS:
            out[8] = 0x40  # MSK_OTP_CRC, before what follows changes it
            link.write(_WRITE_STACK, -1, _FAULT_MSK2, 1)
        elif phase == _CELLS:
            out[8] = self._most_cells() - 6
            link.write(_WRITE_STACK, -1, ACTIVE_CELL, 1)
        elif phase == _PINS:
            # two GPIOs in each: measured, nothing else
            for i in range(4):
                out[8 + i] = 0x12
            link.write(_WRITE_STACK, -1, _GPIO_CONF, 4)
        elif phase == _TSREF_ON:
            out[8] = 0x01
            link.write(_WRITE_STACK, -1, _CONTROL2, 1)  # TSREF_EN
        elif phase == _CLEAR:
            self._clear(now)
            self._index += 1
            if self._index < _WRITES:  # writes aren't answered: each setting is written twice
                self._phase = _MASKS
                return
            self._index = 0
            wait = 3
        self._phase = phase + 1
        if wait:
            self._due_at = ticks.add(now, wait + 1)
        if self._phase == RUN:
            self._reset_seen = False
            for m in range(len(self._commanded)):
                self._commanded[m] = 0

    def _fits(self, now):
        """Whether the devices that confirmed their addresses can be read; else start again."""
        self._whole = self._count == self._top
        self._short = 0 if self._count >= self._top else min(self._short + 1, _SHORT_STARTS)
        if self._whole:
            self.chain_counted(self._count, -1)
        elif self._short == _SHORT_STARTS:
            self.chain_counted(self._count, min(self._count, len(self.members) - 1))
        if not self._count or self._count != self._highest:
            self._again(ticks.add(now, 0 if self._count else _PAUSE_MS))
            return False
        if self._count <= self._top:
            self._more = 0
            return True
        # counts when it is seen twice
        self._more = min(self._more + 1, 2)
        if self._more == 2:
            m = self._member[self._top] - 1
            self._wrong[m] = 1
            self.faults.set(F.SLAVE_MISMATCH, self.members[m], self._count)
        self._again(ticks.add(now, _PAUSE_MS))
        return False

    def _wait_ms(self, n):
        """ms until the whole stack has answered n bytes each."""
        answer = self._answer
        if answer > _ANSWER_MS:
            answer += answer >> 1  # an adapter's time varies
        return answer + (8 + self._top * (n + _OVERHEAD)) * 10000 // self.link.rate

    def _most_cells(self):
        most = 6
        for slave in self.members:
            if self.pack.slave_cells[slave] > most:
                most = self.pack.slave_cells[slave]
        return most

    def _again(self, at):
        """Wake and address the stack once more, at the tick `at`."""
        self._phase = _WAKE
        self._index = 0
        self._read = -1
        self.done = True
        self._due_at = at

    # --- scanning ---

    def _begin(self, now):
        """The next read of a scan."""
        self._count = 0
        for m in range(len(self._got)):
            self._got[m] = 0
        self._read = self._index
        self._query(now)

    def _query(self, now):
        register, n = _READS[self._read]
        self.link.forget()
        self.link.read(register, n)
        self._due_at = ticks.add(now, self._wait_ms(n))

    def _next_read(self, now):
        """One read is over; begin the next one, or end the scan."""
        if self._read == 0:
            if not self._second and self._lacks():
                self._second = True
                self._query(now)
                return
            self._second = False
            self._note_missed()
        self._read = -1
        self._index += 1
        self._due_at = now
        if self._index < _USUAL or self._system and self._index == _USUAL:
            return
        self.done = True
        most = _LOST_SCANS
        if not self._whole:  # a device was missing at the start as well
            most = 1 if self._short < _SHORT_STARTS else _RARE_SCANS
        if self._lost >= most or self._reset_seen:
            self._again(now)
        elif self._unset:
            self._unset = False
            self._index = 0
            self._phase = _MASKS  # its settings once more, its address is right
        elif (
            self._latched
            and self._count == len(self.members)  # a reset is not cleared before it was seen
            and ticks.since(now, self._cleared_at) >= _AGAIN_MS
        ):
            self._clear(now)

    def _clear(self, now):
        """Clear all latched faults of the devices."""
        self._cleared_at = now
        self.link.out[8] = self.link.out[9] = 0xFF
        self.link.write(_WRITE_STACK, -1, _FAULT_RST1, 2)

    def _lacks(self):
        """Whether a device that was there at the start has not answered."""
        for m in range(len(self._got)):
            if self._there[self._node[m]] and not self._got[m]:
                return True
        return False

    def _note_missed(self):
        """Count for each device the scans in a row without its cells."""
        self._lost = 0
        for m in range(len(self._got)):
            if self._got[m]:
                self._absent[m] = 0
                continue
            self.missed = (self.missed + 1) & MASK
            self._absent[m] += 1
            if self._absent[m] > self._lost:
                self._lost = self._absent[m]

    # --- answers ---

    def on_answer(self, device, register, at, n, now):
        """A good answer of a device, n bytes from `at` in `link.data`."""
        m = self._member[device] - 1 if device < 64 else -1
        if self._phase != RUN and not self._listening:
            if register == _DIRECTION and self.link.data[at] == device and 0 < device < 64:
                self._count += 1 - self._there[device]
                self._there[device] = 1
                if device > self._highest:
                    self._highest = device
            return
        if not self._listening and (self._read < 0 or register != _READS[self._read][0]):
            self.unexpected = (self.unexpected + 1) & MASK
            return
        if m < 0:
            self.unexpected = (self.unexpected + 1) & MASK
            return
        if self._got[m] and not self._listening:
            self.repeated = (self.repeated + (0 if self._second else 1)) & MASK
            return
        self._got[m] = 1
        self._count += 1
        if register == VCELL16:
            self._take_cells(m, at, now)
        elif register == TSREF:
            self._take_temps(m, at, now)
        elif register == DIE:
            self._die[m] = _signed(word(self.link.data, at)) >> 2
            if self.pack.known[self.members[m]]:
                self.board(m, self._stack[m], self._die[m], now)
        elif register == FAULT_SUMMARY:
            self._take_faults(m, self.link.data[at], now)
        elif register == FAULT_SYS:
            self._take_system(m, self.link.data[at], now)

    def _take_cells(self, m, at, now):
        data = self.link.data
        cells = self.pack.slave_cells[self.members[m]]
        self.fit(m, 1, True, cells)  # its address was read back at the start
        stack = 0
        for i in range(cells):
            raw = _signed(word(data, at + 2 * (15 - i)))
            if raw == _NONE:
                self._unset = True
                continue
            # 190.73 uV; a product of 30 bits at most
            mv = (raw * 19073 + 50000) // 100000
            stack += mv
            self.cell(m, i, mv, now, self._balancing_cells[m] != 0)
        self._stack[m] = stack

    def _take_temps(self, m, at, now):
        data = self.link.data
        slave = self.members[m]
        table = self._dc[m]
        tsref = _signed(word(data, at)) * 16954 >> 12
        if tsref <= 0:
            self._unset = True
            return
        if not self.pack.known[slave]:
            return
        for i in range(self.pack.slave_temps[slave]):
            raw = _signed(word(data, at + 2 + 2 * i))
            if raw == _NONE:
                self._unset = True
            if raw <= 0:
                continue
            ratio = ((raw * 15259 >> 12) << 12) // tsref
            k = ratio >> 5
            if not 2 <= k < _STEPS - 2:
                continue  # an open or a shorted sensor
            low = table[k]
            dc = low + ((table[k + 1] - low) * (ratio & 31) >> 5)
            self.temp(m, i, dc, now)

    def _take_faults(self, m, bits, now):
        self.summary[m] = bits
        if bits:
            self._latched = True
        if bits & _SYSTEM:
            self._system = True
        else:
            self._warn(m, self._warns(m), now)

    def _warns(self, m):
        return alarm_flags(self.ALARMS, self.summary, m) >> 8

    def _take_system(self, m, bits, now):
        if bits & _RESET:
            self._reset_seen = True
        warn = self._warns(m)
        if bits & _WARM:
            warn |= base.A_TEMP_HIGH
        if bits & ~(_RESET | _WARM):
            warn |= base.A_HARDWARE
        self._warn(m, warn, now)

    def _warn(self, m, warn, now):
        if warn or ticks.since(now, self._cleared_at) >= _BACK_MS:
            self.alarms(m, 0, warn, now)

    # --- balancing ---

    def _balance(self, now):
        """Timers of one device: two writes, then GO; repeated while it balances."""
        m = self._sending
        if m < 0:
            m = self._sending = self._next_to_send(now)
            self._part = 0
            if m < 0:
                self._due_at = ticks.add(now, 50)
                return
        out = self.link.out
        part = self._part
        self._part += 1
        if not part:
            # all three writes are of one plan, even if it changes meanwhile
            mask = self.pack.balance_mask[2 * self.members[m]]
            if not self._commanded[m] or mask != self._sent[m]:
                self._left[m] = _SENDS
            self._commanded[m] = 0
            self._sent[m] = mask
            if mask:
                self._balancing_cells[m] = 1
        if part < 2:
            for i in range(8):
                cell = 15 - 8 * part - i  # cell 16 first
                out[8 + i] = _TIMER if self._sent[m] >> cell & 1 else 0
            self.link.write(_WRITE_ONE, self._node[m], _CB_CELL16 + 8 * part, 8)
        else:
            out[8] = 0x03  # AUTO, GO
            self.link.write(_WRITE_ONE, self._node[m], _BAL_CTRL2, 1)
            self._sending = -1
            self._commanded[m] = 1
            self._sent_at[m] = now
            if self._left[m]:
                self._left[m] -= 1
            if not self._sent[m] and not self._left[m]:
                self._balancing_cells[m] = 0
        self._due_at = ticks.add(now, 1)

    def _next_to_send(self, now):
        """A member whose plan has changed, or whose timers run out; -1 = none."""
        for m in range(len(self.members)):
            slave = self.members[m]
            if not self.pack.known[slave]:
                continue
            if not self._commanded[m] or self.pack.balance_mask[2 * slave] != self._sent[m]:
                return m
            each = _REPEAT_MS if self._left[m] else _AGAIN_MS
            if (
                self._balancing_cells[m] | self._left[m]
                and ticks.since(now, self._sent_at[m]) >= each
            ):
                return m
        return -1


# the steps of the start, in this order
(
    _WAKE,
    _TONE,
    _SYNC,
    _ENABLE,
    _ADDRESS,
    _STACK,
    _BASE,
    _BEYOND,
    _TOP,
    _SYNC_BACK,
    _VERIFY,
    _EVALUATE,
    _MASKS,
    _CELLS,
    _PINS,
    _TSREF_ON,
    _CLEAR,
    RUN,
) = range(18)
