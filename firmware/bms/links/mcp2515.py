"""CAN frames through a Microchip MCP2515 on SPI; instructions and registers: DS20001801.

The chip holds two received frames, and a full bus at 500 kbit/s brings one every 0.23 ms: where
the SPI bus has an interrupt, frames are read in it and wait in a ring; else boards are polled one
by one (`polled`). Each good frame is handed to a sink, everything else is counted.
Nothing here waits, and nothing allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.mcp2515 import mcp_frame, wait_for
from bms.links.can import BITS, EXTENDED
from bms.ticks import MASK

DEFAULT_BPS = 500000

_RESET = const(0xC0)
_READ = const(0x03)
_WRITE = const(0x02)
_BIT_MODIFY = const(0x05)
_READ_STATUS = const(0xA0)
_RX_STATUS = const(0xB0)
_READ_RX0 = const(0x90)
_READ_RX1 = const(0x94)
_LOAD_TX = const(0x40)  # | 2 * buffer
_SEND_TX = const(0x80)  # | 1 << buffer

_CANSTAT = const(0x0E)
_CANCTRL = const(0x0F)
_CNF3 = const(0x28)
_CANINTE = const(0x2B)
_EFLG = const(0x2D)
_RXB0CTRL = const(0x60)
_CONFIGURATION = const(0x80)
_MODE = const(0xE0)
_ROLL_OVER = const(0x04)  # of RXB0CTRL: a second frame goes to buffer 1
_RX_INTERRUPTS = const(0x03)

_OVERFLOW = const(0xC0)  # of EFLG
_BUS_OFF = const(0x20)
_EXIDE = const(0x08)  # of SIDL, where a frame or a filter has 29 bits
_FILTERS = b"\x00\x04\x08\x10\x14\x18"
_MASKS = b"\x20\x24"
_LOOK_MS = const(50)  # between two looks at the error flags
_RING = const(63)  # frames, and one slot that stays empty; a power of two less one

# For a bus' `take`: instruction that gives the status, its bit and the instruction to read of the
# first buffer, of the second, bytes of a frame with its instruction, mask of the ring's slots
_TAKE = bytes((_RX_STATUS, 0x40, _READ_RX0, 0x80, _READ_RX1, 14, _RING))
# and its array: slot to be written, slot to be read, frames lost for want of a slot, and whether
# the program uses the bus just now
_HEAD, _TAIL, _LOST, _BUSY = range(4)

# (crystal Hz, bit/s) -> CNF3, CNF2, CNF1; 16 or 8 quanta a bit, sampled at 75 %
TIMINGS = {
    (8000000, 125000): b"\x03\xac\x01",
    (8000000, 250000): b"\x03\xac\x00",
    (8000000, 500000): b"\x01\x91\x00",
    (16000000, 125000): b"\x03\xac\x03",
    (16000000, 250000): b"\x03\xac\x01",
    (16000000, 500000): b"\x03\xac\x00",
    (16000000, 1000000): b"\x01\x91\x00",
}


def _put(ident, out, at):
    """An identifier, or the bits of a mask, as SIDH, SIDL, EID8 and EID0 have it."""
    if ident & EXTENDED:
        out[at] = ident >> 21 & 0xFF
        out[at + 1] = ident >> 13 & 0xE0 | _EXIDE | ident >> 16 & 3
        out[at + 2] = ident >> 8 & 0xFF
        out[at + 3] = ident & 0xFF
    else:
        out[at] = ident >> 3
        out[at + 1] = (ident & 7) << 5
        out[at + 2] = 0
        out[at + 3] = 0


def acceptance(filters):
    """Registers of two filters and of their mask for (identifier, mask) pairs: 4 bytes each.

    A frame finds room in either buffer only where both have the same filters, and the first has
    two of one mask. It gets the bits that all pairs ask for, and none, so that all frames of the
    kinds wanted come in, where that leaves more than two. Bits beyond those of a standard pair stay
    0: the chip would compare them with the frame's data (4.5.1).
    """
    pairs = filters or ((0, 0),)
    mask = BITS
    for ident, bits in pairs:
        mask &= bits if ident & EXTENDED else bits << 18
    while True:
        wanted = []
        for ident, _ in pairs:
            ident &= mask | EXTENDED if ident & EXTENDED else mask >> 18
            if ident not in wanted:
                wanted.append(ident)
        if len(wanted) <= 2:
            break
        mask = 0
    out = bytearray(12)
    _put(wanted[0], out, 0)
    _put(wanted[-1], out, 4)
    _put(mask | EXTENDED, out, 8)
    out[9] &= 0xFF ^ _EXIDE  # a mask has no such bit
    return bytes(out[:4]), bytes(out[4:8]), bytes(out[8:])


class Mcp2515:
    """A CAN link over an MCP2515.

    data: payload of the frame being handed over. rx, tx: frames; dropped: frames to send for
    which there was no room; damaged: frames lost in the chip or the ring (`lost`) and frames that
    are no data frames; bus_off: times that the chip left the bus; restarts: times that it
    had forgotten its settings. at: the ring's slot to be written, and that to be read.
    """

    def __init__(self, bus, rate=0, crystal_hz=8000000, filters=()):
        """filters: (identifier, mask) pairs of what must come in, none for all standard frames.

        Raises ValueError for a rate that the crystal can't give, OSError without a chip.
        """
        self.rate = rate or DEFAULT_BPS
        timing = TIMINGS.get((crystal_hz, self.rate))
        if timing is None:
            raise ValueError("%d bit/s can't be made of %d Hz" % (self.rate, crystal_hz))
        self.rx = self.tx = self.damaged = self.dropped = self.lost = 0
        self.bus_off = self.restarts = 0
        self.data = bytearray(8)
        # a driver's `(ring, at, last, data, until, ticks_ms, idle)`: takes frames from the front of
        # the ring by itself, and waits for them where `ticks_ms` isn't None
        self.take_readings = None
        self._other = False  # the ring's front is a frame that `take_readings` does not take
        self._ident = array("i", (0,))  # of the frame being handed over
        self._timing = timing
        self._acceptance = acceptance(filters)
        self._bus = bus
        self._out = bytearray(16)
        self._in = bytearray(16)
        # frames taken: slots of 16 bytes, the instruction's echo and a buffer in each
        self._ring = bytearray(16 * (_RING + 1))
        self.at = array("i", (0, 0, 0, 1))  # see _HEAD ..
        self._look_at = -1  # before the first poll
        self._was_off = False
        self._start()
        if not self._answers():
            raise OSError("no MCP2515 answers on SPI")
        self.polled = not bus.on_interrupt(_TAKE, self._ring, self.at)
        self.at[_BUSY] = 0

    # --- registers ---

    def _write(self, register, values, n):
        out = self._out
        out[0] = _WRITE
        out[1] = register
        for i in range(n):
            out[2 + i] = values[i]
        self._bus.transfer(out, self._in, 2 + n)

    def _look(self, register, n):
        """Read n registers into _in[2:]."""
        self._out[0] = _READ
        self._out[1] = register
        self._bus.transfer(self._out, self._in, 2 + n)

    def _start(self):
        """Reset, set and begin; the chip joins the bus as soon as that is idle."""
        out = self._out
        out[0] = _RESET
        self._bus.transfer(out, self._in, 1)
        for _ in range(8):  # its oscillator needs 128 periods, 16 us
            self._look(_CANSTAT, 1)
        for i in range(len(_FILTERS)):
            self._write(_FILTERS[i], self._acceptance[i & 1], 4)
        for register in _MASKS:
            self._write(register, self._acceptance[2], 4)
        self._write(_CNF3, self._timing, 3)
        self._write(_CANINTE, b"\x03\x00\x00", 3)
        self._write(_RXB0CTRL, b"\x04", 1)
        self._write(_CANCTRL, b"\x00", 1)  # normal mode, no clock output

    def _answers(self):
        """True where the settings read back as they were written."""
        self._look(_CNF3, 4)
        got = self._in
        timing = self._timing
        return (
            got[2] == timing[0]
            and got[3] == timing[1]
            and got[4] == timing[2]
            and got[5] == _RX_INTERRUPTS
        )

    # --- receiving ---

    def _catch_up(self):
        """Take what came while the interrupt had to leave the bus alone, or without one."""
        at = self.at
        while self._bus.pending():
            at[_BUSY] = 1
            self._bus.take(_TAKE, self._ring, at)
            at[_BUSY] = 0

    def ready(self):
        """True where a frame waits."""
        at = self.at
        return at[_TAIL] != at[_HEAD] or self.polled and self._bus.pending()

    def wait(self, ms, ticks_ms, idle):
        """Call `idle` until there is something for `poll`, or `ms` are over.

        Readings that come meanwhile are taken where a driver knows how.
        """
        at = self.at
        if self.take_readings is None:
            wait_for(at, ms, ticks_ms, idle)
        else:
            tail = at[_TAIL]
            until = (ticks_ms() + ms) & MASK
            self.take_readings(self._ring, at, _RING, self.data, until, ticks_ms, idle)
            self.rx = (self.rx + ((at[_TAIL] - tail) & _RING)) & MASK
            self._other = at[_TAIL] != at[_HEAD]

    def poll(self, sink, now):
        """Hand each frame that has come to `sink.on_frame(ident, n, data, now)`."""
        at = self.at
        if self.polled:
            self._catch_up()
        while at[_TAIL] != at[_HEAD]:
            if self.take_readings is not None and not self._other:
                tail = at[_TAIL]
                self.take_readings(self._ring, at, _RING, self.data, 0, None, None)
                self.rx = (self.rx + ((at[_TAIL] - tail) & _RING)) & MASK
                if at[_TAIL] == at[_HEAD]:
                    break
            self._other = False
            tail = at[_TAIL]
            n = mcp_frame(self._ring, 16 * tail, self.data, self._ident)
            at[_TAIL] = (tail + 1) & _RING
            if n < 0:
                self.damaged = (self.damaged + 1) & MASK
            else:
                self.rx = (self.rx + 1) & MASK
                sink.on_frame(self._ident[0], n, self.data, now)
        # frames first: a look takes as long as four of them
        if self._look_at < 0 or ticks.diff(now, self._look_at) >= 0:
            self._look_at = ticks.add(now, _LOOK_MS)
            at[_BUSY] = 1
            self._check()
            at[_BUSY] = 0
            self._catch_up()

    def _check(self):
        """Look at the error flags; a chip that forgot its settings (a dip of its supply) starts."""
        self._look(_CANINTE, 3)
        got = self._in
        flags = got[4]
        if self.at[_LOST]:
            self.lost = (self.lost + self.at[_LOST]) & MASK
            self.damaged = (self.damaged + self.at[_LOST]) & MASK
            self.at[_LOST] = 0
        if got[2] != _RX_INTERRUPTS:
            self.restarts = (self.restarts + 1) & MASK
            self._start()
            return
        if flags & _OVERFLOW:
            self.lost = (self.lost + 1) & MASK
            self.damaged = (self.damaged + 1) & MASK
            out = self._out
            out[0] = _BIT_MODIFY
            out[1] = _EFLG
            out[2] = _OVERFLOW
            out[3] = 0
            self._bus.transfer(out, got, 4)
        off = flags & _BUS_OFF != 0  # it comes back by itself after 128 idle times
        if off and not self._was_off:
            self.bus_off = (self.bus_off + 1) & MASK
        self._was_off = off

    # --- sending ---

    def send(self, ident, data, n):
        """Give the chip one data frame; False (and counted) where it has no room."""
        self.at[_BUSY] = 1
        sent = self._send(ident, data, n)
        self.at[_BUSY] = 0
        self._catch_up()
        if sent:
            self.tx = (self.tx + 1) & MASK
        else:
            self.dropped = (self.dropped + 1) & MASK
        return sent

    def _send(self, ident, data, n):
        out = self._out
        out[0] = _READ_STATUS
        self._bus.transfer(out, self._in, 2)
        status = self._in[1]
        buffer = 0
        while status & 4:  # bits 2, 4, 6: a frame waits in transmit buffer 0, 1, 2
            status >>= 2
            buffer += 1
            if buffer == 3:
                return False
        out[0] = _LOAD_TX | buffer << 1
        _put(ident, out, 1)
        out[5] = n
        for i in range(n):
            out[6 + i] = data[i]
        self._bus.transfer(out, self._in, 6 + n)
        out[0] = _SEND_TX | 1 << buffer
        self._bus.transfer(out, self._in, 1)
        return True
