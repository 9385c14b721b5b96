"""A model of the MCP2515 at its SPI pins (DS20001801), strict: it raises where the chip ignores.

`select`, `exchange` byte by byte, `deselect`; `receive` a frame from the bus; `send` is called
with a frame to be sent and must call `sent` when it is out. Identifiers of 29 bits have the
firmware's flag. Runs on both runtimes.
"""

from bms.links.can import BITS, EXTENDED

RESET, READ, WRITE, BIT_MODIFY, READ_STATUS, RX_STATUS = 0xC0, 0x03, 0x02, 0x05, 0xA0, 0xB0
CANSTAT, CANCTRL, CNF3, CNF1, CANINTE, CANINTF, EFLG = 0x0E, 0x0F, 0x28, 0x2A, 0x2B, 0x2C, 0x2D
NOT_MINE = 0x3E  # an MCP2518FD is asked so; to this chip it is nothing
TXB0CTRL, RXB0CTRL, RXB1CTRL = 0x30, 0x60, 0x70
NORMAL, CONFIGURATION = 0x00, 0x80
# of registers SIDL: a frame or a filter of 29 bits (registers 3-4, 4-5, 4-11); what isn't there
IDE, NOT_IN_SIDL, NOT_IN_A_MASK = 0x08, 0x14, 0x1C
# registers that BIT MODIFY may touch (table 11-1)
MODIFIABLE = (0x0C, 0x0D, 0x0F, 0x28, 0x29, 0x2A, 0x2B, 0x2C, 0x2D, 0x30, 0x40, 0x50, 0x60, 0x70)


class ChipError(Exception):
    """The program did what the chip does not do."""


class Mcp2515Chip:
    """overflowed: frames lost for want of a buffer; interrupt: the INT pin is low.

    data_compared: a filter looked at the data of a standard frame (4.5.1).
    """

    def __init__(self, send=None, changed=None):
        self.send = send or (lambda ident, data: None)
        self.changed = changed or (lambda low: None)
        self.overflowed = 0
        self.received = 0
        self.interrupt = False
        self.selected = False
        self.dead = False
        self.data_compared = False
        self._dipped = False  # the program can't know yet that the settings are gone
        self._reset()

    def _reset(self):
        self.r = bytearray(128)
        for i in range(0x20):
            self.r[i] = 0xA5  # filters come up with anything
        self.r[CANSTAT] = CONFIGURATION
        self.r[CANCTRL] = 0x87
        self._sending = [False] * 3
        self._bytes = []
        self._lines()

    def brown_out(self):
        """The supply dips: everything is forgotten."""
        self._reset()
        self._dipped = True

    @property
    def mode(self):
        return self.r[CANSTAT] & 0xE0

    # --- SPI ---

    def select(self):
        if self.selected:
            raise ChipError("selected twice")
        self.selected = True
        self._bytes = []

    def deselect(self):
        self.selected = False
        if not self._bytes:
            return
        first = self._bytes[0]
        if first == RESET:
            self._dipped = False
            self._reset()
            return
        if first & 0xF9 == 0x90:
            self.r[CANINTF] &= ~(1 << (first >> 2 & 1))
        elif first & 0xF8 == 0x80 and first & 7:
            for k in range(3):
                if first >> k & 1:
                    self._request(k)
        elif first == WRITE and len(self._bytes) < 3:
            raise ChipError("a write without data")
        elif first == BIT_MODIFY and len(self._bytes) != 4:
            raise ChipError("bit modify takes register, mask, value")
        self._lines()

    def exchange(self, out):
        """One byte each way."""
        if self.dead:
            return 0xFF
        if not self.selected:
            raise ChipError("a byte while not selected")
        at = len(self._bytes)
        self._bytes.append(out)
        first = self._bytes[0]
        if at == 0:
            known = (RESET, READ, WRITE, BIT_MODIFY, READ_STATUS, RX_STATUS, NOT_MINE)
            if not (first in known or first & 0xF9 == 0x90 or first & 0xF8 in (0x40, 0x80)):
                raise ChipError("unknown instruction %02X" % first)
            return 0
        if first == READ:
            return self.r[(self._bytes[1] + at - 2) & 0x7F] if at >= 2 else 0
        if first == WRITE:
            if at >= 2:
                self._write((self._bytes[1] + at - 2) & 0x7F, out)
            return 0
        if first == BIT_MODIFY:
            if at == 3:
                register, mask = self._bytes[1], self._bytes[2]
                if register not in MODIFIABLE:
                    raise ChipError("register %02X has no bit modify" % register)
                self._write(register, self.r[register] & ~mask & 0xFF | out & mask)
            return 0
        if first == READ_STATUS:
            status = self.r[CANINTF] & 3
            for k in range(3):
                status |= (self.r[TXB0CTRL + 16 * k] >> 3 & 1) << (2 + 2 * k)
                status |= (self.r[CANINTF] >> (2 + k) & 1) << (3 + 2 * k)
            return status
        if first == RX_STATUS:
            return (self.r[CANINTF] & 3) << 6
        if first & 0xF9 == 0x90:
            base = (0x61 if first & 4 == 0 else 0x71) + (5 if first & 2 else 0)
            return self.r[base + at - 1] if base + at - 1 <= (base & 0x70 | 0x0D) else 0
        if first & 0xF8 == 0x40:
            k = (first & 7) >> 1
            base = 0x31 + 16 * k + (5 if first & 1 else 0)
            if self.r[TXB0CTRL + 16 * k] & 8:
                raise ChipError("transmit buffer %d is being sent" % k)
            self._write(base + at - 1, out)
        return 0

    def _write(self, register, value):
        settings = register < 0x0C or 0x10 <= register < 0x1C or 0x20 <= register < 0x2B
        if settings and self.mode != CONFIGURATION:
            raise ChipError("register %02X outside configuration mode" % register)
        if register < 0x28 and register & 3 == 1:
            if value & (NOT_IN_A_MASK if register >= 0x20 else NOT_IN_SIDL):
                raise ChipError("no such bits in register %02X" % register)
        if register & 0x0F == 0x0E:
            raise ChipError("CANSTAT can't be written")
        if register & 0x0F == 0x0F:
            self.r[CANCTRL] = value
            self.r[CANSTAT] = value & 0xE0
        elif register == EFLG:
            self.r[EFLG] = self.r[EFLG] & 0x3F | value & 0xC0
        else:
            self.r[register] = value

    def _lines(self):
        low = bool(self.r[CANINTE] & self.r[CANINTF])
        if low != self.interrupt:
            self.interrupt = low
            self.changed(low)

    # --- bus ---

    def bit_rate(self, crystal_hz):
        """bit/s that the settings give."""
        quantum = 2 * ((self.r[CNF1] & 0x3F) + 1)
        bits = 1 + (self.r[0x29] & 7) + 1 + (self.r[0x29] >> 3 & 7) + 1 + (self.r[CNF3] & 7) + 1
        return crystal_hz / quantum / bits

    def _request(self, k):
        base = TXB0CTRL + 16 * k
        if self._dipped:
            self.r[base] |= 8  # register 3-1: pending; nothing is sent outside normal mode
            return
        if self.mode != NORMAL:
            raise ChipError("sending outside normal mode")
        n = self.r[base + 5] & 15
        if n > 8 or self.r[base + 5] & 0x40 or self.r[base + 2] & NOT_IN_SIDL:
            raise ChipError("no data frame")
        self.r[base] |= 8
        self._sending[k] = True
        self.send(self._ident(base + 1), bytes(self.r[base + 6 : base + 6 + n]))

    def sent(self):
        """The oldest frame given to `send` is on the bus and was acknowledged."""
        for k in range(3):
            if self._sending[k]:
                self._sending[k] = False
                self.r[TXB0CTRL + 16 * k] &= ~8 & 0xFF
                self.r[CANINTF] |= 4 << k
                self._lines()
                return

    def _ident(self, base):
        """The identifier in registers SIDH, SIDL, EID8 and EID0."""
        high, low, eid8, eid0 = self.r[base : base + 4]
        ident = high << 3 | low >> 5
        if low & IDE:
            ident = EXTENDED | ident << 18 | (low & 3) << 16 | eid8 << 8 | eid0
        return ident

    def _accepts(self, filters, mask, ident, data):
        r = self.r
        for register in filters:
            if bool(r[register + 1] & IDE) != bool(ident & EXTENDED):
                continue
            # 11 bits, EID17:16, and EID15:0 or the first two bytes of data (figure 4-4)
            wanted = r[register] << 3 | r[register + 1] >> 5
            bits = r[mask] << 3 | r[mask + 1] >> 5
            if ident & EXTENDED:
                rest = (r[register + 1] & 3) << 16 | r[register + 2] << 8 | r[register + 3]
                rest_bits = (r[mask + 1] & 3) << 16 | r[mask + 2] << 8 | r[mask + 3]
                if (ident ^ (wanted << 18 | rest)) & (bits << 18 | rest_bits) & BITS == 0:
                    return True
                continue
            if r[mask + 2] or r[mask + 3]:
                self.data_compared = True
                two = (bytes(data) + bytes(2))[:2]
                if (two[0] ^ r[register + 2]) & r[mask + 2]:
                    continue
                if (two[1] ^ r[register + 3]) & r[mask + 3]:
                    continue
            if (ident ^ wanted) & bits == 0:
                return True
        return False

    def receive(self, ident, data):
        """A data frame from the bus."""
        if self.mode != NORMAL or self.dead:
            return
        first = self._accepts((0x00, 0x04), 0x20, ident, data)
        second = self._accepts((0x08, 0x10, 0x14, 0x18), 0x24, ident, data)
        full = self.r[CANINTF]
        roll = self.r[RXB0CTRL] & 4
        if first and not full & 1:
            base = 0x61
            self.r[CANINTF] |= 1
        elif (second or first and roll) and not full & 2:
            base = 0x71
            self.r[CANINTF] |= 2
        elif first or second:
            self.overflowed += 1
            self.r[EFLG] |= 0x80 if roll or not first else 0x40
            return
        else:
            return
        self.received += 1
        if ident & EXTENDED:
            top = ident >> 18 & 0x7FF
            self.r[base] = top >> 3
            # SRR "is valid only if IDE = 0": on the bus it is recessive here
            self.r[base + 1] = (top & 7) << 5 | 0x10 | IDE | ident >> 16 & 3
            self.r[base + 2] = ident >> 8 & 0xFF
            self.r[base + 3] = ident & 0xFF
        else:
            self.r[base] = ident >> 3
            self.r[base + 1] = (ident & 7) << 5
        self.r[base + 4] = len(data)
        for i in range(len(data)):
            self.r[base + 5 + i] = data[i]
        self._lines()
