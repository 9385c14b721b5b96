"""CAN 2.0 frames through a Microchip MCP2518FD or MCP2517FD on SPI.

Sources: data sheets DS20006027 (MCP2518FD) and DS20005688 (MCP2517FD), family reference manual
DS20005678, errata DS80000789 (MCP2518FD) and DS80000792 (MCP2517FD).

The chip holds 32 received frames, 7 ms of a full bus at 500 kbit/s, so all boards may send at once.
SPI is read without its CRC: that costs 5 bytes and a checksum in Python for each transfer, and the
cell link's frames carry their own CRC-8. What can be checked without it is checked. SCK may be
0.85 / 2 of the crystal at most (17 MHz, 8.5 MHz), else single bits are lost (errata 792 item 5, 789
item 4). Nothing here waits, and nothing allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.buffers import copy
from bms.links.can import EXTENDED
from bms.ticks import MASK

DEFAULT_BPS = 500000
CRYSTALS_HZ = (20000000, 40000000)
# (identifier, mask): what boards send, functions 0x00, 0x03, 0x08..0x0F and 0x10..0x17
FROM_BOARDS = ((0x000, 0x7C0), (0x0C0, 0x7C0), (0x200, 0x600), (0x400, 0x600))
_FILTERS = const(32)

# first byte of a transfer: instruction, then address bits 8..11
_WRITE = const(0x20)
_READ = const(0x30)

_CON = const(0x000)
_CON_MODE = const(0x003)  # the byte that requests a mode
_INT = const(0x01C)
_TREC = const(0x034)
_BDIAG1_BUS_OFF = const(0x03E)  # the byte of TXBOERR
_TX = const(0x05C)  # FIFO 1: CiFIFOCON, CiFIFOSTA, CiFIFOUA, 4 bytes each
_TX_STEP = const(0x05D)
_TX_STATUS = const(0x060)
_RX = const(0x068)  # FIFO 2
_RX_STEP = const(0x069)
_RX_STATUS = const(0x06C)
_FILTER_CONTROL = const(0x1D0)  # a byte for each filter
_FILTER_OBJECT = const(0x1F0)  # 8 bytes for each filter: CiFLTOBJ, CiMASK
_OSC = const(0xE00)

_CLASSIC = const(6)  # OPMOD, REQOP: Normal CAN 2.0 mode
_CONFIGURATION = const(4)
_RESTRICTED = const(7)
_LISTENING = const(3)
_ABORT = const(8)  # ABAT beside REQOP: forget what waits to be sent
_CLOCK = const(0x60)  # OSC after a reset: no PLL, no divisor, clock output / 10
_CLOCK_READY = const(0x04)  # OSCRDY
_MODE_FLAG = const(0x08)  # MODIF of CiINT's first byte
_SYSTEM_ERROR = const(0x10)  # SERRIF of its second byte
_BUS_OFF = const(0x20)  # TXBO of CiTREC's third byte
_BUS_OFF_SEEN = const(0x80)  # TXBOERR

# bits of a FIFO's status: frames to read or room to write, at least half of that, all of that
_SOME = const(1)
_HALF = const(2)
_ALL = const(4)
_OVERFLOW = const(8)
_UINC = const(1)
_SEND = const(3)  # UINC and TXREQ in one write

_TX_DEPTH = const(8)
_RX_DEPTH = const(32)
_OBJECT = const(16)  # bytes: identifier, flags, 8 of data; no time stamp
_RX_BYTES = const(512)
_RAM = const(0x400)
_RX_AT = const(0x080)  # behind the 8 objects of FIFO 1; relative to _RAM, as CiFIFOUA is
_BURST = const(4)  # frames read in one transfer: 66 bytes, a bus need not carry more

# CiCON: Configuration mode, neither transmit queue nor transmit event FIFO
_CONTROL = b"\x60\x07\x00\x04"
_TX_SETTINGS = b"\x80\x00\x60\x07"  # a transmit FIFO of 8, attempts without limit
_RX_SETTINGS = b"\x01\x00\x60\x1f"  # a receive FIFO of 32, interrupt while not empty
_INTERRUPTS = b"\x00\x00\x0a\x10"  # of receive FIFOs, mode changes, system errors
_ZEROS = bytes(4)

_LOOK_MS = const(50)  # between two looks at the whole state; see `_leave`
_STUCK = const(2)  # looks without a frame out before what waits is too old to be sent
_EXIDE = const(0x40)  # of a filter's fourth byte; the same bit of its mask is MIDE
_IDE = const(0x10)  # of a frame's fifth byte
_PATIENCE = const(400)  # reads at start-up: the oscillator needs up to 3 ms


def bit_timing(crystal_hz, rate):
    """The bytes of CiNBTCFG for `rate` bit/s: exact, sampled at 80 to 87.5 %; None where none is.

    Register holds, from its lowest byte: SJW, TSEG2, TSEG1, BRP, each less one.
    """
    if crystal_hz not in CRYSTALS_HZ or rate > 1000000 or crystal_hz % rate:
        return None
    quanta = crystal_hz // rate
    for prescaler in range(1, 257):
        bit = quanta // prescaler
        if quanta % prescaler == 0 and bit <= 200:
            after = (3 * bit + 10) // 20
            return bytes((after - 1, after - 1, bit - after - 2, prescaler - 1))
    return None


def _put(ident, out, at):
    """An identifier, or the bits of a mask, as frames and filters have it: SID, then EID."""
    base = ident
    rest = 0
    if ident & EXTENDED:
        base = ident >> 18
        rest = ident & 0x3FFFF
    out[at] = base & 0xFF
    out[at + 1] = base >> 8 & 7 | (rest & 0x1F) << 3
    out[at + 2] = rest >> 5 & 0xFF
    out[at + 3] = rest >> 13


class Mcp2518fd:
    """A CAN link over an MCP2518FD.

    data: payload of the frame being handed over. rx, tx: frames; dropped: frames to send for
    which there was no room; damaged: answers and frames that can't be right, with `lost`: times
    that the chip reports lost frames, its FIFO was full; bus_off: times that it left the bus and
    was brought back; upsets: times that it stopped sending by itself (MCP2517FD, erratum 792 item
    1); restarts: times that it had forgotten its settings.

    The bus that is handed in: see `hal.spi_bus`; of its methods `transfer` and `pending` are used.
    """

    polled = False  # many boards may send at once: the FIFO holds their frames

    def __init__(self, bus, rate=0, crystal_hz=40000000, filters=FROM_BOARDS):
        """filters: (identifier, mask) pairs of what comes in, none for all standard frames.

        Raises ValueError for a rate that the crystal can't give, OSError without a chip.
        """
        self.rate = rate or DEFAULT_BPS
        timing = bit_timing(crystal_hz, self.rate)
        if timing is None:
            raise ValueError("%d bit/s can't be made of %d Hz" % (self.rate, crystal_hz))
        if len(filters) > _FILTERS:
            raise ValueError("MCP2518FD has no more than %d filters" % _FILTERS)
        pairs = tuple(filters) or ((0, 0),)
        self._ident = array("i", [pair[0] for pair in pairs])
        self._mask = array("i", [pair[1] for pair in pairs])
        self.rx = self.tx = self.damaged = self.dropped = self.lost = 0
        self.bus_off = self.upsets = self.restarts = 0
        self.data = bytearray(8)
        self._bus = bus
        self._timing = timing
        self._out = bytearray(2 + _OBJECT * _BURST)
        self._in = bytearray(2 + _OBJECT * _BURST)
        self._objects = bytearray(2 + _OBJECT * _BURST)
        self._look_at = -1  # before the first poll
        self._suspected = 0  # looks in a row that found other settings
        self._on = False  # on the bus
        self._left = False  # it was commanded off the bus; back at the next look
        self._head = self._tail = self._room = 0
        self._tail_read = -1  # the chip's tail, where it differs from ours
        self._stuck = 0
        self._sending = -1  # index of the frame being sent at the last look
        self._start()
        for _ in range(_PATIENCE):
            self._read(_CON, 8)
            if not self._as_set():
                raise OSError("no MCP2518FD answers on SPI")
            if self._in[4] >> 5 == _CLASSIC:
                self._on = True
                break  # a bus that is disturbed keeps it waiting: that is no error here

    # --- registers ---

    def _read(self, register, n):
        """Read n bytes into _in[2:]."""
        self._out[0] = _READ | register >> 8
        self._out[1] = register & 0xFF
        self._bus.transfer(self._out, self._in, 2 + n)

    def _write(self, register, values, n):
        out = self._out
        out[0] = _WRITE | register >> 8
        out[1] = register & 0xFF
        for i in range(n):
            out[2 + i] = values[i]
        self._bus.transfer(out, self._in, 2 + n)

    def _set(self, register, value):
        """Write one byte."""
        out = self._out
        out[0] = _WRITE | register >> 8
        out[1] = register & 0xFF
        out[2] = value
        self._bus.transfer(out, self._in, 3)

    def _start(self):
        """Reset, set and begin; what isn't ready in time is written all the same."""
        self._set(_OSC, _CLOCK)  # wakes it where it was left asleep
        self._set(_CON_MODE, _ABORT | _CONFIGURATION)  # a reset is for this mode only
        for _ in range(_PATIENCE):
            self._read(_CON, 4)
            if self._in[4] >> 5 == _CONFIGURATION:
                break
        self._out[0] = self._out[1] = 0
        self._bus.transfer(self._out, self._in, 2)
        for _ in range(_PATIENCE):
            self._read(_OSC, 2)
            if self._in[2] == _CLOCK and self._in[3] & _CLOCK_READY:
                break
        self._configure()

    def _configure(self):
        """All settings; in Configuration mode."""
        self._write(_CON, _CONTROL, 4)
        self._write(_CON + 4, self._timing, 4)
        self._write(_TX, _TX_SETTINGS, 4)
        self._write(_RX, _RX_SETTINGS, 4)
        out = self._out
        for i in range(len(self._ident)):
            self._set(_FILTER_CONTROL + i, 0)
            register = _FILTER_OBJECT + 8 * i
            out[0] = _WRITE | register >> 8
            out[1] = register & 0xFF
            _put(self._ident[i], out, 2)
            _put(self._mask[i], out, 6)
            out[9] |= _EXIDE  # of either kind of frames only those of the filter's own
            if self._ident[i] & EXTENDED:
                out[5] |= _EXIDE
            self._bus.transfer(out, self._in, 10)
            self._set(_FILTER_CONTROL + i, 0x82)  # on, into FIFO 2
        self._write(_INT, _INTERRUPTS, 4)
        self._join()

    def _as_set(self):
        """True where bytes 6..9 of an answer that began at CiCON are the bit timing."""
        got = self._in
        timing = self._timing
        return (
            got[6] == timing[0]
            and got[7] == timing[1]
            and got[8] == timing[2]
            and got[9] == timing[3]
        )

    def _join(self):
        """Leave Configuration mode, in which its FIFOs are empty (DS20005678 4.14)."""
        self._head = self._tail = 0
        self._tail_read = self._sending = -1
        self._room = _TX_DEPTH
        self._stuck = 0
        self._left = False
        self._set(_CON_MODE, _CLASSIC)

    def _leave(self):
        """Go to Configuration mode until the next look: what waits to be sent is forgotten.

        50 ms are longer than the 128 times 11 bits that a node has to stay off the bus (ISO
        11898-1), and old commands must not come out when the bus is back.
        """
        self._on = False
        self._left = True
        self._set(_CON_MODE, _ABORT | _CONFIGURATION)

    # --- state ---

    def _check(self, whole):
        """Look at mode and errors, and put right what can be; `whole`: at the end of 50 ms."""
        got = self._in
        self._read(_CON, 32)
        if not self._as_set():
            self._suspect(whole)
            return
        self._suspected = 0
        mode = got[4] >> 5
        flags = got[30]
        error = got[31] & _SYSTEM_ERROR
        if self._on and mode != _CLASSIC:
            self._read(_CON, 4)
            if got[4] >> 5 != mode:
                # one wrong answer must not set our indices back
                self.damaged = (self.damaged + 1) & MASK
                return
        if flags & _MODE_FLAG or error:
            # before a mode is asked for, so that the next change is seen
            self._write(_INT, _ZEROS, 2)
        if self._left:
            if whole and mode == _CONFIGURATION:
                self._join()
            return
        if mode == _CLASSIC:
            self._on = True
            if error:
                self._lose()  # a frame came while SPI held the RAM (erratum 792 item 1)
            if whole:
                self._check_buffers()
        elif mode == _RESTRICTED or mode == _LISTENING:
            # after a system error; then it sends again what it was sending
            self.upsets = (self.upsets + 1) & MASK
            self._set(_CON_MODE, _CLASSIC)
        elif mode != _CONFIGURATION:
            self._leave()  # one must not go from mode to mode but by this one
        else:
            self._join()  # or it is waiting for a bus that is idle, and is told once more

    def _suspect(self, whole):
        """Other settings than ours: one wrong answer, or a dip of the chip's supply."""
        if not whole:
            return
        self._suspected += 1
        if self._suspected == 1:
            self.damaged = (self.damaged + 1) & MASK
            return
        self._on = False
        if self._in[4] >> 5 == _CONFIGURATION:
            self.restarts = (self.restarts + 1) & MASK
            self._configure()
        else:
            self._set(_CON_MODE, _ABORT | _CONFIGURATION)

    def _check_buffers(self):
        """Bus-off, the transmit FIFO's step, and frames in it that don't get out."""
        got = self._in
        self._read(_TREC, 64)
        off = got[4] & _BUS_OFF
        was_off = got[12] & _BUS_OFF_SEEN
        empty = got[46] & _ALL
        index = got[47]
        head = self._head_of(50)
        if off:
            self._read(_TREC, 4)
            off = got[4] & _BUS_OFF  # one wrong answer must not take it off the bus
        if off or was_off:
            self.bus_off = (self.bus_off + 1) & MASK
            self._set(_BDIAG1_BUS_OFF, 0)
        if head != self._head:
            self._read(_TX_STATUS, 8)
            if self._head_of(6) == head and head < _TX_DEPTH:  # read twice: a step was lost on SPI
                self._head = head
                self._room = 0
            self.damaged = (self.damaged + 1) & MASK
        if empty or index != self._sending:
            self._stuck = 0
            self._sending = -1 if empty else index
        else:
            self._stuck += 1
        if off or self._stuck >= _STUCK:
            if not empty:
                lost = (self._head - index) & (_TX_DEPTH - 1) or _TX_DEPTH
                self.dropped = (self.dropped + lost) & MASK
            self._leave()

    def _head_of(self, at):
        """Index of the object that is written next, from CiFIFOUA at _in[at]."""
        return (self._in[at] | self._in[at + 1] << 8) >> 4

    def _lose(self):
        self.lost = (self.lost + 1) & MASK
        self.damaged = (self.damaged + 1) & MASK

    def ready(self):
        """True where the chip's interrupt is pending."""
        return self._bus.pending()

    # --- receiving ---

    def _waiting(self):
        """Frames that the receive FIFO reports; 0 where its answer can't be right."""
        got = self._in
        self._read(_RX_STATUS, 8)
        offset = (got[6] | got[7] << 8) - _RX_AT
        if got[3] >= _RX_DEPTH or got[4] or got[5] or offset & 15 or not 0 <= offset < _RX_BYTES:
            self.damaged = (self.damaged + 1) & MASK
            return 0
        tail = offset >> 4
        status = got[2]
        index = got[3]
        if tail != self._tail:
            # a step was lost or doubled on SPI: it counts when it is read twice
            if tail == self._tail_read:
                self._tail = tail
                tail = -1
                self.damaged = (self.damaged + 1) & MASK
            self._tail_read = tail
            return 0
        self._tail_read = -1
        if status & _OVERFLOW:
            self._lose()
            self._set(_RX_STATUS, 0)
        if not status & _SOME:
            return 0
        if status & _ALL:
            return _RX_DEPTH
        return (index - tail) & (_RX_DEPTH - 1)

    def poll(self, sink, now):
        """Hand each frame that has come to `sink.on_frame(ident, n, data, now)`."""
        due = self._look_at < 0 or ticks.diff(now, self._look_at) >= 0
        if due:
            self._look_at = ticks.add(now, _LOOK_MS)
            self._check(True)
        elif not self._bus.pending():
            return
        n = self._waiting() if self._on else 0
        if n > 1:
            # a status that is read while a frame comes may count too many, and the last one may
            # not be complete (errata 789 item 6, 792 item 7): read it again
            again = self._waiting()
            if again < n:
                n = again
        if n == 0 and not due:
            self._check(False)
        while n > 0:
            k = _RX_DEPTH - self._tail
            if k > _BURST:
                k = _BURST
            if k > n:
                k = n
            self._take(k, sink, now)
            n -= k

    def _take(self, n, sink, now):
        """Read n frames that stand behind each other in the RAM, free them, hand them over."""
        objects = self._objects
        address = _RAM + _RX_AT + _OBJECT * self._tail
        self._out[0] = _READ | address >> 8
        self._out[1] = address & 0xFF
        self._bus.transfer(self._out, objects, 2 + _OBJECT * n)
        for _ in range(n):
            self._set(_RX_STEP, _UINC)
        self._tail = (self._tail + n) & (_RX_DEPTH - 1)
        data = self.data
        for at in range(2, 2 + _OBJECT * n, _OBJECT):
            ident = objects[at] | (objects[at + 1] & 7) << 8
            length = objects[at + 4]  # and the flags of all that is no standard data frame
            if length & _IDE:
                length ^= _IDE
                ident = EXTENDED | ident << 18 | (objects[at + 3] & 0x1F) << 13
                ident |= objects[at + 2] << 5 | objects[at + 1] >> 3
            hit = objects[at + 5] >> 3
            if (
                length > 8
                or hit >= len(self._ident)
                or (ident ^ self._ident[hit]) & (self._mask[hit] | EXTENDED)
            ):
                self.damaged = (self.damaged + 1) & MASK
                continue
            copy(data, objects, at + 8, 8)
            self.rx = (self.rx + 1) & MASK
            sink.on_frame(ident, length, data, now)

    # --- sending ---

    def _read_room(self):
        """How many frames the transmit FIFO takes at least; nothing where its step isn't ours."""
        self._read(_TX_STATUS, 8)
        status = self._in[2]
        if self._head_of(6) != self._head:
            return
        if status & _ALL:
            self._room = _TX_DEPTH
        elif status & _HALF:
            self._room = _TX_DEPTH // 2
        elif status & _SOME:
            self._room = 1

    def send(self, ident, data, n):
        """Give the chip one data frame; False (and counted) where it has no room."""
        if self._on and not self._room:
            self._read_room()
        if not self._on or not self._room:
            self.dropped = (self.dropped + 1) & MASK
            return False
        out = self._out
        address = _RAM + _OBJECT * self._head
        out[0] = _WRITE | address >> 8
        out[1] = address & 0xFF
        _put(ident, out, 2)
        out[6] = n | _IDE if ident & EXTENDED else n
        out[7] = 0
        out[8] = 0
        out[9] = 0
        for i in range(n):
            out[10 + i] = data[i]
        self._bus.transfer(out, self._in, 10 + (n + 3 & 0x0C))  # RAM is written in words
        self._set(_TX_STEP, _SEND)
        self._head = (self._head + 1) & (_TX_DEPTH - 1)
        self._room -= 1
        self.tx = (self.tx + 1) & MASK
        return True
