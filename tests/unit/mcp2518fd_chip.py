"""A model of the MCP2518FD at its SPI pins, strict: it raises where the chip ignores or corrupts.

Sources: DS20006027 (registers, SPI), DS20005678 (modes, FIFOs), errata DS80000789 and DS80000792.
`transfer` is one selection of the chip. `receive` puts a frame on the bus, `transmit` lets the
oldest one out; `bus_off`, `underflow`, `brown_out` and the like do what they say. Payloads of 8
bytes, no time stamps, no transmit queue and no event FIFO. Identifiers of 29 bits have the
firmware's flag. Runs on both runtimes.
"""

from bms.links.can import EXTENDED

CON, NBTCFG, INT, TREC, BDIAG1 = 0x000, 0x004, 0x01C, 0x034, 0x03C
FIFO, FLTCON, FLTOBJ, FLT_END = 0x050, 0x1D0, 0x1F0, 0x2F0
OSC, IOCON, SFR_END = 0xE00, 0xE04, 0xE18
RAM, RAM_END = 0x400, 0xC00
CLASSIC, CONFIGURATION, RESTRICTED, LISTENING = 6, 4, 7, 3
# reset values that are not 0
DEFAULTS = (
    (CON, b"\x60\x07\x98\x04"),
    (NBTCFG, b"\x0f\x0f\x3e\x00"),
    (0x008, b"\x03\x03\x0e\x00"),
    (0x00C, b"\x00\x10\x02\x00"),
    (0x018, b"\x40\x00\x40\x40"),
    (TREC, b"\x00\x00\x20\x00"),
    (0x040, b"\x00\x04\x00\x00"),
)


def known(register):
    """True where a register begins or goes on."""
    return register < 0x04C or FIFO <= register < FLT_END or OSC <= register < SFR_END


def _word(r, at):
    """The lower 29 bits of C1FLTOBJ, C1MASK or a frame, EID and SID, as (SID, EID)."""
    return r[at] | (r[at + 1] & 7) << 8, r[at + 1] >> 3 | r[at + 2] << 5 | (r[at + 3] & 0x1F) << 13


class ChipError(Exception):
    """The program did what the chip does not do."""


class Mcp2518fdChip:
    """lag: transfers (or `wait`) until a mode is taken or the clock runs; overflowed: frames lost.

    busy: something is on the bus for ever, so that no mode can be left; index_errors: what is added
    to the FIFO index in the next answers (erratum 789 item 6); selections: transfers so far.
    """

    def __init__(self, crystal_hz=40000000, lag=3):
        self.crystal_hz = crystal_hz
        self.lag = lag
        self.sent = []
        self.overflowed = 0
        self.selections = 0
        self.busy = False
        self.dead = False
        self.index_errors = []
        self.r = bytearray(FLT_END)
        self.high = bytearray(SFR_END - OSC)
        self.ram = bytearray(RAM_END - RAM)
        for i in range(len(self.ram)):
            self.ram[i] = (0x5A + 7 * i) & 0xFF  # comes up with anything
        self._mode = CLASSIC  # as another program may have left it
        self._reset()
        self._mode = self._requested_mode = CLASSIC
        self._ready_in = 0
        self.asleep = False

    def _reset(self):
        for i in range(FLT_END):
            self.r[i] = 0
        self.high[0] = 0x60  # OSC
        self.high[4] = self.high[7] = 0x03  # IOCON
        for register, value in DEFAULTS:
            self._put(register, value)
        for m in range(32):
            self._put(FIFO + 12 * m, b"\x80\x04\x60\x00" if m == 0 else b"\x00\x04\x60\x00")
        self._mode = self._requested_mode = CONFIGURATION
        self._mode_in = 0
        self._ready_in = self.lag
        self._forgot = False
        self._flags = 0  # of CiINT, those that the program clears
        self._base = [0] * 33
        self._empty_fifos()

    def _empty_fifos(self):
        self._head = [0] * 32
        self._tail = [0] * 32
        self._count = [0] * 32
        self._overflow = [False] * 32
        self._requested = [False] * 32

    def brown_out(self):
        """The supply dips: everything is forgotten."""
        self._reset()
        self._forgot = True  # the program can't know that yet

    def _put(self, register, value):
        for i in range(len(value)):
            self.r[register + i] = value[i]

    # --- registers ---

    def _depth(self, m):
        return (self.r[FIFO + 12 * m + 3] & 31) + 1

    def _is_tx(self, m):
        return bool(self.r[FIFO + 12 * m] & 0x80)

    def _status(self, m):
        """The first byte of CiFIFOSTA."""
        count = self._count[m]
        depth = self._depth(m)
        if self._is_tx(m):
            return (count < depth) | (2 * count <= depth) << 1 | (count == 0) << 2
        full = (count == depth) << 2 | self._overflow[m] << 3
        return (count > 0) | (2 * count >= depth) << 1 | full

    def _flag_bits(self):
        flags = self._flags
        for m in range(1, 32):
            enabled = self.r[FIFO + 12 * m]
            if enabled & self._status(m) & 0x0F:
                flags |= 1 if enabled & 0x80 else 2
            if enabled & 8 and self._overflow[m]:
                flags |= 0x0800
        return flags

    @property
    def interrupt(self):
        """The INT pin is low."""
        if self.dead or self._ready_in:
            return False
        enabled = self.r[INT + 2] | self.r[INT + 3] << 8
        return bool(enabled & self._flag_bits())

    @property
    def mode(self):
        return self._mode

    def bit_rate(self):
        """bit/s that the settings give."""
        sjw, second, first, prescaler = self.r[NBTCFG : NBTCFG + 4]
        return self.crystal_hz / (prescaler + 1) / (1 + first + 1 + second + 1)

    def _byte(self, register):
        """What is read at an address."""
        if self._ready_in and register < OSC:
            return 0
        if register >= RAM:
            if register < RAM_END:
                return self.ram[register - RAM]
            if register == OSC + 1:
                return 0 if self._ready_in else 0x04
            return self.high[register - OSC]
        if register == CON + 2:
            return self.r[register] & 0x1F | self._mode << 5
        if INT <= register < INT + 2:
            return self._flag_bits() >> 8 * (register - INT) & 0xFF
        if FIFO <= register < FLTCON:
            m, part = divmod(register - FIFO, 12)
            if part == 1:
                return (self._mode == CONFIGURATION) << 2 | self._requested[m] << 1
            if part == 4:
                return self._status(m)
            if part == 5:
                return self._index[m]
            if part in (8, 9):
                if self._mode == CONFIGURATION:
                    return 0xE7  # "not ensured to read correctly in Configuration mode"
                at = self._base[m] + 16 * (self._head[m] if self._is_tx(m) else self._tail[m])
                return at >> 8 * (part - 8) & 0xFF
            if part in (6, 7, 10, 11):
                return 0
        return self.r[register]

    def _latch(self, register):
        """The FIFO indices of an answer; the erratum is one of receive FIFOs."""
        self._index = [self._tail[m] if self._is_tx(m) else self._head[m] for m in range(32)]
        m, part = divmod(register - FIFO, 12)
        if FIFO <= register < FLTCON and part == 4 and not self._is_tx(m) and self.index_errors:
            self._index[m] = (self._index[m] + self.index_errors.pop(0)) % self._depth(m)

    # --- SPI ---

    def transfer(self, out, n):
        """One selection of n bytes; what comes back."""
        self.selections += 1
        answer = bytearray(n)
        if self.dead:
            return answer
        if n < 2:
            raise ChipError("an instruction has two bytes")
        instruction = out[0] >> 4
        register = (out[0] & 15) << 8 | out[1]
        if instruction == 0:
            if register or n != 2:
                raise ChipError("a reset is two zeros")
            if self.asleep or self._ready_in:
                raise ChipError("a reset while the clock stands")
            if self._mode != CONFIGURATION:
                raise ChipError("a reset outside Configuration mode")
            self._reset()
            return answer
        if instruction not in (2, 3):
            raise ChipError("unknown instruction %X" % instruction)
        n -= 2
        self._allow(register, n)
        if self.asleep:
            if register == OSC and instruction == 2 and not out[2] & 4:
                self.asleep = False
                self._ready_in = self.lag
                self._mode = self._requested_mode = CONFIGURATION
            return answer
        if instruction == 3:
            self._latch(register)
            for i in range(n):
                answer[2 + i] = self._byte(register + i)
        elif self._ready_in and register < OSC:
            pass  # nothing takes it
        elif RAM <= register < RAM_END:
            if self._mode == CONFIGURATION and not self._forgot:
                raise ChipError("the RAM is written while the FIFOs are held empty")
            for i in range(n):
                self.ram[register - RAM + i] = out[2 + i]
        else:
            for i in range(n):
                self._write(register + i, out[2 + i])
        self.wait()
        return answer

    def _allow(self, register, n):
        if n < 1:
            raise ChipError("an instruction without data")
        if RAM <= register < RAM_END:
            if register & 3 or n & 3:
                raise ChipError("the RAM is accessed in whole words")
            if register + n > RAM_END:
                raise ChipError("beyond the RAM")
            return
        if not known(register):
            raise ChipError("no register at %03X" % register)
        if register + n > (FLT_END if register < RAM else SFR_END):
            raise ChipError("beyond the registers")

    def _config_only(self, register, value, mask):
        """These bits may change in Configuration mode alone."""
        if (self.r[register] ^ value) & mask and self._mode != CONFIGURATION:
            raise ChipError("register %03X outside Configuration mode" % register)

    def _write(self, register, value):
        if not known(register):
            raise ChipError("no register at %03X" % register)
        if register < NBTCFG:
            self._write_control(register, value)
        elif register < 0x010:
            self._config_only(register, value, 0xFF)
            self.r[register] = value
        elif INT <= register < INT + 4:
            if register < INT + 2:
                if value:
                    raise ChipError("flags are cleared with 0, and a 1 sets them")
                self._flags &= ~(0xFF << 8 * (register - INT))
            else:
                self.r[register] = value
        elif BDIAG1 <= register < BDIAG1 + 4:
            if value:
                raise ChipError("flags are cleared with 0, and a 1 sets them")
            self.r[register] = 0
        elif FIFO <= register < FLTCON:
            m, part = divmod(register - FIFO, 12)
            if m == 0:
                raise ChipError("no transmit queue here")
            self._write_fifo(m, part, register, value)
        elif FLTCON <= register < FLTOBJ:
            if value & 0x80 and not 1 <= value & 0x1F <= 31:
                raise ChipError("a filter has a FIFO of 1..31")
            self.r[register] = value
        elif FLTOBJ <= register < FLT_END:
            if register & 3 == 3 and value & 0xA0:
                raise ChipError("SID11 and bit 31 are for CAN FD and for nothing")
            if self.r[FLTCON + (register - FLTOBJ) // 8] & 0x80:
                raise ChipError("a filter is changed while it is on")
            self.r[register] = value
        elif register >= OSC:
            if register >= IOCON:
                raise ChipError("IOCON and others are not for the program (789 item 5)")
            if register == OSC:
                if value & 0x01 or value & 0x10:
                    raise ChipError("another clock than the crystal's")
                self.high[0] = value
        else:
            raise ChipError("register %03X can't be written" % register)

    def _write_control(self, register, value):
        self._forgot = False
        if register == CON + 3:
            if value & 0xF0:
                raise ChipError("bandwidth sharing")
            if value & 8:
                self.r[register] |= 8
                for m in range(32):
                    self._requested[m] = False
            self.r[register] = self.r[register] & 8 | value & 7
            if value & 7 != self._requested_mode:
                self._request_mode(value & 7)
            return
        self._config_only(register, value, (0x60, 0x01, 0x1F)[register])
        self.r[register] = value & (0xFF if register != CON + 2 else 0x1F)

    def _write_fifo(self, m, part, register, value):
        if part == 0:
            self._config_only(register, value, 0xA0)
            if value & 0x20:
                raise ChipError("no time stamps here")
            self.r[register] = value
        elif part == 1:
            self._step(m, value)
        elif part in (2, 3):
            self._config_only(register, value, 0xFF if part == 3 else 0)
            if part == 3 and value & 0xE0:
                raise ChipError("8 bytes of payload are enough")
            self.r[register] = value
        elif part == 4:
            if value & 8 and not self._overflow[m]:
                raise ChipError("a 1 sets the flag")
            self._overflow[m] = self._overflow[m] and bool(value & 8)
        else:
            raise ChipError("register %03X can't be written" % register)

    def _step(self, m, value):
        if value & ~7:
            raise ChipError("no such bits")
        if value & 4:
            raise ChipError("FRESET needs a wait")
        if self._mode == CONFIGURATION:
            if value & 3 and not self._forgot:
                raise ChipError("a FIFO is stepped while it is held empty")
            return
        if value & 1:
            if self._is_tx(m):
                if self._count[m] == self._depth(m):
                    raise ChipError("UINC of a full FIFO")
                self._head[m] = (self._head[m] + 1) % self._depth(m)
                self._count[m] += 1
            else:
                if not self._count[m]:
                    raise ChipError("UINC of an empty FIFO")
                self._tail[m] = (self._tail[m] + 1) % self._depth(m)
                self._count[m] -= 1
        if value & 2:
            if not self._is_tx(m):
                raise ChipError("TXREQ of a receive FIFO")
            self._requested[m] = True
        elif self._is_tx(m) and self._requested[m]:
            raise ChipError("an append without TXREQ asks for an abort")

    # --- modes ---

    def _request_mode(self, mode):
        self._requested_mode = mode
        normal = (0, CLASSIC)
        if mode != CONFIGURATION and self._mode != CONFIGURATION:
            if not (mode in normal and self._mode in (RESTRICTED, LISTENING) or mode == self._mode):
                raise ChipError("from mode %d to %d" % (self._mode, mode))
        self._mode_in = self.lag

    def wait(self):
        """Time passes, as it does with each transfer."""
        if self._ready_in:
            self._ready_in -= 1
            return
        if self.r[CON + 3] & 8 and True not in self._requested:
            self.r[CON + 3] &= ~8
        if self._mode == self._requested_mode or self.busy:
            return
        if self._mode_in:
            self._mode_in -= 1
            return
        if self._requested_mode == CONFIGURATION and True in self._requested:
            return  # it sends first
        self._enter(self._requested_mode)

    def _enter(self, mode):
        if mode == CONFIGURATION:
            self._empty_fifos()
            self._put(TREC, b"\x00\x00\x20\x00")
        elif self._mode == CONFIGURATION:
            self._lay_out()
            self._put(TREC, bytes(4))
            self._put(BDIAG1, bytes(4))
        self._mode = mode
        self._flags |= 0x0008

    def _lay_out(self):
        if self.r[CON + 2] & 0x18:
            raise ChipError("RAM is wasted for transmit queue or event FIFO")
        at = 0
        for m in range(1, 32):
            self._base[m] = at
            at += 16 * self._depth(m)
        if at > RAM_END - RAM:
            raise ChipError("more objects than RAM")

    # --- bus ---

    def receive(self, ident, data, remote=False):
        """A frame from the bus."""
        extended = bool(ident & EXTENDED)
        if self._mode not in (CLASSIC, RESTRICTED) or self.dead or self.off:
            return
        for k in range(32):
            control = self.r[FLTCON + k]
            if not control & 0x80:
                continue
            at = FLTOBJ + 8 * k
            wanted, wanted_rest = _word(self.r, at)
            mask, mask_rest = _word(self.r, at + 4)
            # MIDE: only frames of the kind that EXIDE says
            if self.r[at + 7] & 0x40 and bool(self.r[at + 3] & 0x40) != extended:
                continue
            sid, eid = (ident >> 18 & 0x7FF, ident & 0x3FFFF) if extended else (ident, 0)
            if (sid ^ wanted) & mask or extended and (eid ^ wanted_rest) & mask_rest:
                continue
            self._store(control & 0x1F, k, sid, eid, data, extended << 4 | remote << 5)
            return

    def _store(self, m, hit, sid, eid, data, flags):
        if self._is_tx(m):
            raise ChipError("a filter leads to a transmit FIFO")
        if self._count[m] == self._depth(m):
            self._overflow[m] = True
            self.overflowed += 1
            return
        at = self._base[m] + 16 * self._head[m]
        ident = (sid & 0xFF, sid >> 8 | (eid & 0x1F) << 3, eid >> 5 & 0xFF, eid >> 13)
        head = ident + (flags | len(data), hit << 3, 0, 0)
        for i in range(8):
            self.ram[at + i] = head[i]
        for i in range(len(data)):
            self.ram[at + 8 + i] = data[i]
        self._head[m] = (self._head[m] + 1) % self._depth(m)
        self._count[m] += 1

    def waits(self):
        """Frames in the transmit FIFOs."""
        return sum([self._count[m] for m in range(32) if self._is_tx(m)])

    def transmit(self):
        """The oldest frame of the transmit FIFO goes out and is acknowledged; it, or None."""
        for m in range(1, 32):
            if self._is_tx(m) and self._requested[m] and self._mode == CLASSIC and not self.off:
                at = self._base[m] + 16 * self._tail[m]
                t = self.ram[at : at + 16]
                ident, rest = _word(t, 0)
                n = t[4] & ~0x10  # IDE
                if t[3] & 0xE0 or rest and n == t[4] or n > 8 or t[5] or t[6] or t[7]:
                    raise ChipError("no data frame")
                if n != t[4]:
                    ident = EXTENDED | ident << 18 | rest
                self._tail[m] = (self._tail[m] + 1) % self._depth(m)
                self._count[m] -= 1
                if not self._count[m]:
                    self._requested[m] = False
                frame = (ident, bytes(t[8 : 8 + n]))
                self.sent.append(frame)
                return frame
        return None

    @property
    def off(self):
        """Bus-off: not on the bus for want of acknowledged frames."""
        return self._mode != CONFIGURATION and bool(self.r[TREC + 2] & 0x20)

    def bus_off(self):
        """The transmit error counter passes 255."""
        self._put(TREC, b"\x00\xf8\x35\x00")
        self.r[BDIAG1 + 2] |= 0x80
        self._flags |= 0x2000
        for m in range(32):
            self._requested[m] = False

    def recover(self):
        """128 times 11 recessive bits later."""
        self._put(TREC, bytes(4))

    def underflow(self, mode=RESTRICTED):
        """SPI held the RAM while a frame was being sent (792 item 1)."""
        self._mode = mode
        self._requested_mode = mode
        self._flags |= 0x9008

    def overrun(self):
        """SPI held the RAM while a frame came (792 item 1): that is lost."""
        self._flags |= 0x1000
