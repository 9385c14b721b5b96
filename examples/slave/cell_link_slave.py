"""A slave board of the cell link in Python: the smallest one that a master accepts.

Runs under CPython and MicroPython, and does no input or output itself. Copy it, then:

1. Give `CellLinkSlave` a `measure` and a `balance` function for your hardware.
2. Pass each frame from the bus to `receive`, and send the frames that it returns, in order.
3. Call `tick` every 10 ms or so, and send what it returns as well.
4. On CAN, send what `boot` returns once after each start.

CAN carries (identifier, data) as they are. On a UART, `UartFramer` turns bytes into frames and
back. The protocol is described in docs/reference/cell-link.md.
"""

VERSION = 1

ALARM = 0x00
SCAN = 0x01
BALANCE = 0x02
HELLO = 0x03
ASSIGN = 0x04
CELLS = 0x08
TEMPS = 0x10
STATUS = 0x14

ALL = 0
UNADDRESSED = 63
NO_READING = 8191
CAN_BALANCE_BY_MASK = 1  # ability bit of HELLO
PAUSE_BALANCING = 1  # flag of SCAN
ALARM_PERIOD_MS = 100


def crc8(data):
    """CRC-8 SAE J1850 of some bytes: polynomial 0x1D, start 0xFF, final xor 0xFF."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ 0x11D if crc & 0x80 else crc << 1
    return crc ^ 0xFF


def crc16(data):
    """CRC-16/CCITT-FALSE of some bytes: polynomial 0x1021, start 0xFFFF."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x11021 if crc & 0x8000 else crc << 1
    return crc


def frame(function, node, payload):
    """(identifier, data) of a frame that ends with a CRC-8 over the identifier and its payload."""
    ident = function << 6 | node
    data = bytes(payload)
    return ident, data + bytes([crc8(bytes([ident >> 8, ident & 0xFF]) + data)])


def four_values(function, node, values, offset, seq):
    """CELLS or TEMPS: up to four values of 13 bits (None: no reading), the low 4 bits of seq."""
    word = (seq & 15) << 52
    for k in range(4):
        value = values[k] if k < len(values) else None
        raw = NO_READING if value is None else min(max(value + offset, 0), NO_READING - 1)
        word |= raw << (13 * k)
    return frame(function, node, [word >> (8 * i) & 0xFF for i in range(7)])


class CellLinkSlave:
    """One board.

    node: 1..62, or 63 until the master assigns one. serial: 1..2**30-1, unique in the pack.
    measure(): (cell voltages in mV, temperatures in 0.1 degC), two lists, None = no valid reading.
    balance(mask): connect the balancing resistor of cell n+1 where bit n is set, all others off.
    uart: a UART bus, where a board sends only when it is polled.
    faults: 16 bits. The low byte trips the master (slave_alarm), the high byte warns.
    answer_delay_us: wait so long before the frames that `receive` returned last are sent.
    """

    def __init__(self, node, cells, temps, serial, measure, balance, uart=False):
        self.node = node
        self.cells = cells
        self.temps = temps
        self.serial = serial
        self.measure = measure
        self.balance = balance
        self.uart = uart
        self.faults = 0
        self.worst_cell = 0  # 1..cells: which one the alarm is about; 0: none
        self.board_degc = 25
        self.answer_delay_us = 0
        self._seq = -1
        self._mv = []
        self._dc = []
        self._mask = 0
        self._balance_until_ms = None
        self._alarm_at_ms = None

    def boot(self):
        """Frames to send once after a start; on a UART none."""
        return [] if self.uart else [self._hello()]

    def receive(self, ident, data, now_ms):
        """Frames to send in answer to one frame from the bus. now_ms: a clock that never stops."""
        function = ident >> 6
        node = ident & 63
        self.answer_delay_us = 0
        if node not in (ALL, self.node):
            return []
        if function == SCAN and len(data) == 2 and self.node != UNADDRESSED:
            return self._scan(node, data[0], data[1])
        if function == HELLO and not data:
            if self.node == UNADDRESSED:  # several boards may answer: spread them
                self.answer_delay_us = self.serial % 64 * 300
            return [self._hello()]
        if function == BALANCE and len(data) == 8:
            if crc8(bytes([ident >> 8, ident & 0xFF]) + data[:7]) == data[7]:
                self._set_balance(int.from_bytes(data[:4], "little"), data[4], now_ms)
            return []
        if function == ASSIGN and len(data) == 5 and 1 <= data[4] <= 62:
            if int.from_bytes(data[:4], "little") != self.serial:
                return []
            self.node = data[4]
            return [self._hello()]
        return []

    def tick(self, now_ms):
        """Stop balancing once its time is over; frames to send: an ALARM on CAN while it lasts."""
        if self._balance_until_ms is not None and now_ms >= self._balance_until_ms:
            self._set_balance(0, 0, now_ms)
        if self.uart or not self.faults & 0xFF:
            self._alarm_at_ms = None
            return []
        if self._alarm_at_ms is not None and now_ms - self._alarm_at_ms < ALARM_PERIOD_MS:
            return []
        self._alarm_at_ms = now_ms
        return [self._alarm()]

    def _scan(self, node, seq, flags):
        if node == ALL or seq != self._seq:  # sample once per scan, all boards at the same moment
            if flags & PAUSE_BALANCING and self._mask:
                self.balance(0)
            self._mv, self._dc = self.measure()
            self._seq = seq
            if self._mask:
                self.balance(self._mask)
        if self.uart and node == ALL:
            return []  # on a UART a board waits for its own SCAN
        return self._answers()

    def _answers(self):
        out = []
        if self.uart and self.faults & 0xFF:
            out.append(self._alarm())
        for k in range((self.cells + 3) // 4):
            four = self._mv[4 * k : 4 * k + 4]
            out.append(four_values(CELLS + k, self.node, four, 0, self._seq))
        for k in range((self.temps + 3) // 4):
            four = self._dc[4 * k : 4 * k + 4]
            out.append(four_values(TEMPS + k, self.node, four, 1000, self._seq))
        stack = sum([mv for mv in self._mv if mv is not None]) // 10
        payload = [stack & 0xFF, stack >> 8, self.faults & 0xFF, self.faults >> 8]
        payload += [self.board_degc + 40, 100 if self._mask else 0, self._seq]
        out.append(frame(STATUS, self.node, payload))
        return out

    def _hello(self):
        head = bytes([VERSION, self.cells, self.temps, CAN_BALANCE_BY_MASK])
        return HELLO << 6 | self.node, head + self.serial.to_bytes(4, "little")

    def _alarm(self):
        mv = self._mv[self.worst_cell - 1] if self.worst_cell and self._mv else None
        mv = 0 if mv is None else mv
        payload = [self.faults & 0xFF, self.faults >> 8, self.worst_cell if mv else 0]
        payload += [mv & 0xFF, mv >> 8, self._seq & 0xFF]
        return frame(ALARM, self.node, payload)

    def _set_balance(self, mask, seconds, now_ms):
        self._mask = mask & ((1 << self.cells) - 1) if seconds else 0
        self._balance_until_ms = now_ms + 1000 * seconds if self._mask else None
        self.balance(self._mask)


class UartFramer:
    """Frames in bytes of a UART: COBS around identifier, data and CRC-16, a 00 after each."""

    def __init__(self):
        self._piece = b""

    def feed(self, data):
        """Undamaged frames, as (identifier, data), that these bytes from the line complete."""
        pieces = (self._piece + data).split(b"\0")
        self._piece = pieces[-1][-32:]
        frames = [self._decode(piece) for piece in pieces[:-1] if piece]
        return [one for one in frames if one is not None]

    def encode(self, ident, data):
        """Bytes of one frame."""
        plain = bytes([ident & 0xFF, ident >> 8]) + data
        crc = crc16(plain)
        out = b""
        for block in (plain + bytes([crc & 0xFF, crc >> 8])).split(b"\0"):
            out += bytes([len(block) + 1]) + block
        return out + b"\0"

    def _decode(self, piece):
        plain = b""
        while piece:
            if piece[0] > len(piece):
                return None
            plain += piece[1 : piece[0]]
            piece = piece[piece[0] :]
            if piece:
                plain += b"\0"
        if len(plain) < 4 or crc16(plain[:-2]) != plain[-2] | plain[-1] << 8:
            return None
        return plain[0] | plain[1] << 8, plain[2:-2]
