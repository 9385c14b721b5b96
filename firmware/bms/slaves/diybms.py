"""Driver of diyBMS v4 cell modules: a one-way ring on an isolated UART, 8N1 at 2400, 5000, 9600 or
10000 bit/s (built into the modules). One [[slave]] is a block of 16 modules: node 1 has the modules
0-15, node 2 those from 16 on; only the last block may have fewer, one cell a module.

Source: the modules' published firmware, as run on a computer, and its protocol. A packet of 40
bytes, little-endian, CRC-16/XMODEM, runs through all modules and comes back: start byte AA, 88
escapes AA and 88. Each module adds one to `hops`, which so counts the modules; bit 7 of the command
shows that a module answered. Units: mV; degC + 40 in a byte, 0 = no sensor.
A module is powered by its cell: 0 mV is a lost calibration, no reading. The voltage does not change
while a module balances (14 s), and its bypass bit stays on a while longer: such readings count as
taken while balancing. An open internal thermistor makes a module balance at full power: it trips.
Over-temperature only warns: balancing modules regulate to the temperature at which they report it;
`board_temp` evaluates how hot they are.
Sensor n of a block is the external one of its module n. A poll takes (modules + 1) x 41 bytes: 16
modules need 3 s at 2400 bit/s, and one silent module silences all. Such a chain cannot trip within
a second. A ring is refused where a lost module would be noticed after more than 120 s: 33 modules
are possible at 2400 bit/s, 54 at 5000, 80 from 9600 on.
A packet with another number of modules than the pack file has is not read: a module added at the
front gives each the values of its neighbour.
Modules balance by themselves above a threshold in their EEPROM. The driver moves it to the plan's
target (at most every 10 minutes, by 20 mV or more), or at once up to `cell_max` where nothing is to
be balanced, and reads it back.
Uncertain: nothing that is used here.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.checksums import crc16
from bms.links.reply import CHECKSUM, ReplyLink
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word_le
from bms.slaves.polled import COMMAND, PolledDriver
from bms.ticks import MASK

VOLTAGE = const(1)
TEMPERATURE = const(3)
SETTINGS = const(5)
WRITE = const(6)
PACKET = const(40)
BLOCK = const(16)

_START = const(0xAA)
_ESCAPE = const(0x88)
_PROCESSED = const(0x80)
_LONGEST = const(81)  # bytes of a packet on the wire
_USUAL = const(41)
_WORDS = const(6)  # byte of the first of 16 words
_LOW_WORD = const(0x1F)  # of a voltage's high byte
_OVER_TEMPERATURE = const(0x40)
_BYPASS = const(0x80)
_BYPASS_TEMPERATURE = const(6)  # words of the settings
_THRESHOLD = const(7)
_WRITE_MS = const(600000)  # between two targets: each is written into EEPROMs
_STOP_MS = const(60000)  # until the end of balancing is written once more
_LOWERED = const(1)  # of `_written`: a target was written
_STOPPED = const(2)  # the end of balancing was written, and no target since
_WORTH_MV = const(20)
_LOOK_EVERY = const(5)  # scans between two reads of a module's settings, once all are known
_COMMAND = const(0x0F)  # bits of a packet's command


class DiybmsLink(ReplyLink):
    """packet: the 40 bytes handed to `sink.on_packet(now)`; `send_poll` sends `out_packet`."""

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or Diybms.UART_BPS, _LONGEST, _START)
        self.packet = bytearray(PACKET)
        self.out_packet = bytearray(PACKET)

    def send_poll(self):
        """Send `out_packet` with its CRC."""
        packet = self.out_packet
        crc = crc16(packet, 0, PACKET - 2, 0)
        packet[PACKET - 2] = crc & 0xFF
        packet[PACKET - 1] = crc >> 8
        out = self.out
        out[0] = _START
        at = 1
        for i in range(PACKET):
            byte = packet[i]
            if byte == _START or byte == _ESCAPE:
                out[at] = _ESCAPE
                at += 1
                byte &= 0x7F
            out[at] = byte
            at += 1
        return self.send(at)

    def _size(self, at, filled):
        """Walk over the 40 bytes and their escapes."""
        data = self._in
        i = at + 1
        for _ in range(PACKET):
            if i < filled and data[i] == _ESCAPE:
                i += 1
            if i >= filled:
                return _LONGEST
            if data[i] == _START:
                return 0  # another packet begins there
            i += 1
        return i - at

    def _good(self, at, size):
        data = self._in
        packet = self.packet
        i = at + 1
        for k in range(PACKET):
            if data[i] == _ESCAPE:
                i += 1
                packet[k] = data[i] | 0x80
            else:
                packet[k] = data[i]
            i += 1
        if crc16(packet, 0, PACKET - 2, 0) != packet[PACKET - 2] | packet[PACKET - 1] << 8:
            self.fault = CHECKSUM
            return False
        return True

    def _hand_over(self, at, size, sink, now):
        self.rx = (self.rx + 1) & MASK
        sink.on_packet(now)


class Diybms(PolledDriver):
    """All modules of one ring; see `PolledDriver`.

    modules: count in the last packet, -1 = no packet yet; unanswered: packets that came back
    without an answer; writes: of thresholds; threshold_mv [cells]: as read back, where
    threshold_read is 1.
    """

    ABILITIES = base.BALANCE_TARGET
    NODES = (1, 5)
    MOST = 5
    CELLS = BLOCK
    TEMPS = BLOCK
    STEPS = 2  # voltages, temperatures; now and then a module's settings
    PARTS = 1
    ANSWER_MS = 400
    TYPICAL_MS = 5
    LONGEST = _LONGEST
    UART_BPS = 2400
    frame = DiybmsLink

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        n = len(members)
        self._first = bytearray([(config.slaves[i].node - 1) * BLOCK for i in members])
        self._count = bytearray([config.slaves[i].cells for i in members])
        self._all = max([self._first[m] + self._count[m] for m in range(n)])
        # each module receives the whole packet before it sends it on
        self._timeout = self._answer + (self._all + 1) * (_USUAL + 4) * 10000 // link.rate
        self.modules = -1
        self.unanswered = self.writes = 0
        self.threshold_mv = array("H", [0] * (n * BLOCK))
        self.threshold_read = bytearray(n * BLOCK)
        self._stop_at_mv = config.cell_max_mv
        self._number = 0  # of the last packet sent
        self._look = bytearray(n)  # module whose settings are read next
        self._scans_left = bytearray(n)  # scans until then
        self._third = bytearray([1] * n)
        self._written_at = array("i", [0] * n)  # a target, the last one
        self._stopped_at = array("i", [0] * n)
        self._written = bytearray(n)  # _LOWERED, _STOPPED
        self._sum_mv = array("i", [0] * n)  # of a block in this scan, 0 = not all were read
        self._sensor_open = bytearray(n)

    def size(self, m, step):
        """Bytes on the wire of the whole ring, one behind the other."""
        return (self._all + 1) * _USUAL

    def steps(self, m):
        """Voltages, temperatures, and in some scans a module's settings."""
        return self.STEPS + self._third[m]

    def _open(self, now):
        """A scan begins: choose the module whose settings are read."""
        for m in range(len(self._third)):
            self._third[m] = self._wants_look(m)
        super()._open(now)

    def _wants_look(self, m):
        """1 where settings are read in this scan: of all modules at first, then of one at times."""
        for i in range(self._count[m]):
            if not self.threshold_read[m * BLOCK + i]:
                self._look[m] = i
                return 1
        if self._scans_left[m]:
            self._scans_left[m] -= 1
            return 0
        self._scans_left[m] = _LOOK_EVERY
        self._look[m] = self._look[m] + 1 if self._look[m] + 1 < self._count[m] else 0
        return 1

    def send_poll(self, m, step):
        """Voltages (0), temperatures (1), one module's settings (2)."""
        if step == 2:
            module = self._first[m] + self._look[m]
            return self._send(SETTINGS, module, module)
        command = TEMPERATURE if step else VOLTAGE
        return self._send(command, self._first[m], self._first[m] + self._count[m] - 1)

    def _send(self, command, start, end):
        packet = self.link.out_packet
        if command != WRITE:
            for i in range(_WORDS, PACKET):
                packet[i] = 0
        self._number = (self._number + 1) & 0xFFFF
        packet[0] = start
        packet[1] = end
        packet[2] = command
        packet[3] = 0
        packet[4] = self._number & 0xFF
        packet[5] = self._number >> 8
        return self.link.send_poll()

    # --- balancing ---

    def command(self, m, now):
        """Move the threshold of a block that is away from its target: rarely, but to its end, which
        comes at most once for each target, at once.
        """
        slave = self.members[m]
        written = self._written[m]
        if self.wants(slave):
            aim = self.target_mv(slave)
            if written & _LOWERED and ticks.since(now, self._written_at[m]) < _WRITE_MS:
                return False
        else:
            aim = self._stop_at_mv
            if written & _STOPPED and ticks.since(now, self._stopped_at[m]) < _STOP_MS:
                return False
        away = False
        for i in range(self._count[m]):
            if not self.threshold_read[m * BLOCK + i]:
                return False  # it may be right already
            by = self.threshold_mv[m * BLOCK + i] - aim
            away = away or not -_WORTH_MV < by < _WORTH_MV
        if not away:
            return False
        if self.wants(slave):
            self._written[m] = _LOWERED
            self._written_at[m] = now
        else:
            self._written[m] |= _STOPPED
            self._stopped_at[m] = now
        self.writes = (self.writes + 1) & MASK
        packet = self.link.out_packet
        for i in range(_WORDS, PACKET):
            packet[i] = 0xFF  # keeps calibration and everything else
        packet[_WORDS + 2 * _BYPASS_TEMPERATURE] = 0xFF  # 00FF keeps it, FFFF would set 255
        packet[_WORDS + 2 * _BYPASS_TEMPERATURE + 1] = 0
        packet[_WORDS + 2 * _THRESHOLD] = aim & 0xFF
        packet[_WORDS + 2 * _THRESHOLD + 1] = aim >> 8
        for i in range(self._count[m]):
            self.threshold_read[m * BLOCK + i] = 0
        return self._send(WRITE, self._first[m], self._first[m] + self._count[m] - 1)

    # --- answers ---

    def on_packet(self, now):
        """A good packet has come back, its bytes in `link.packet`."""
        packet = self.link.packet
        m = self._member_at(packet[0])
        command = packet[2] & _COMMAND
        step = COMMAND
        if command == VOLTAGE:
            step = 0
        elif command == TEMPERATURE:
            step = 1
        elif command == SETTINGS:
            step = 2
        number = word_le(packet, 4)
        if m < 0 or not self.waits_for(m, step):
            self.unexpected = (self.unexpected + 1) & MASK
            return
        if number != self._number and not self._listening:
            self.stale = (self.stale + 1) & MASK
            return
        if not packet[2] & _PROCESSED and not packet[3]:
            self.link.echoes = (self.link.echoes + 1) & MASK  # our own: no module has processed it
            return
        self.modules = packet[3]
        if not packet[2] & _PROCESSED:
            self.unanswered = (self.unanswered + 1) & MASK
            self.fit(m, 1, packet[3] >= self._all, packet[3])
            return  # polled again, then given up
        # with one module too many it is unknown which module has which value
        if self.fit(m, 1, self._listening or packet[3] == self._all, packet[3]):
            if step == 0:
                self._take_voltages(m, now)
            elif step == 1:
                self._take_temperatures(m, now)
            elif step == 2:
                word = _WORDS + 2 * _THRESHOLD
                i = m * BLOCK + packet[0] - self._first[m]
                self.threshold_mv[i] = word_le(packet, word)
                self.threshold_read[i] = 1
        self.answered(now)

    def _member_at(self, start):
        for m in range(len(self._first)):
            if self._first[m] <= start < self._first[m] + self._count[m]:
                return m
        return -1

    def _take_voltages(self, m, now):
        packet = self.link.packet
        warn = 0
        stack = 0
        whole = True
        for i in range(self._count[m]):
            high = packet[_WORDS + 2 * i + 1]
            mv = packet[_WORDS + 2 * i] | (high & _LOW_WORD) << 8
            if high & _OVER_TEMPERATURE:
                warn |= base.A_TEMP_HIGH
            stack += mv
            if mv:
                self.cell(m, i, mv, now, high & _BYPASS != 0)
            else:
                whole = False
        self._sum_mv[m] = stack if whole else 0
        # an open sensor stays an alarm until temperatures have been read
        self.alarms(m, base.A_HARDWARE if self._sensor_open[m] else 0, warn, now)

    def _take_temperatures(self, m, now):
        packet = self.link.packet
        slave = self.members[m]
        hottest = NO_SENSOR_DC
        for i in range(self._count[m]):
            inside = packet[_WORDS + 2 * i + 1]
            outside = packet[_WORDS + 2 * i]
            if not inside:
                # open: this module balances at full power, and its temperature is unknown
                self._sensor_open[m] = 1
                self.alarms(m, base.A_HARDWARE, 0, now)
                return
            dc = inside * 10 + NO_SENSOR_DC
            if dc > hottest:
                hottest = dc
            if outside and i < self.pack.slave_temps[slave]:
                self.temp(m, i, outside * 10 + NO_SENSOR_DC, now)
        self._sensor_open[m] = 0
        if self._sum_mv[m]:
            self.board(m, self._sum_mv[m], hottest, now)
            self._sum_mv[m] = 0
