"""Sends stored data over the serial port: commands `history`, `frames`, `pack`.

Lines are built in short pieces, one a step, while telemetry builds none. It waits for room instead
of dropping a line, and gives up where nobody reads the port for 2 s. Opening a file allocates: on a
board with a small heap, `frames` and `pack` start only while all coils are off. Nothing else here
allocates after start-up.
"""

from micropython import const

from bms import heap_lock, ticks
from bms.energy import totals
from bms.kernels.buffers import find
from bms.kernels.checksums import crc16
from bms.protection import fault_ids as F
from bms.storage import nvm_store as S

NOTHING, HISTORY, FRAMES, PACK = range(4)
NAMES = (b"", b"history", b"frames", b"pack")
_HEX = const(32)  # bytes in one piece
_TOTALS = const(6)  # last piece of the line of totals
_LINE = const(256)  # bytes in one line
_CRC = const(256)  # bytes checked in one piece
_GIVE_UP_MS = const(2000)  # longest wait for room


class History:
    """job: what is being sent; building: a line is begun, telemetry must not begin another one."""

    def __init__(self, config, master, tx_buffer):
        self._clock = master.clock
        self._faults = master.faults
        self._store = master.store
        self._strings = master.strings
        self._telemetry = master.telemetry
        self._board = master.board
        self._out = tx_buffer
        self.job = NOTHING
        self.building = False
        self._at = self._part = self._lines = self._crc = 0
        self._left = self._from = 0
        self._room_at = 0
        self._buf = bytearray(_HEX)
        self._config_crc = config.crc
        self._path = config.path
        self._file = None

    def close(self):
        """Close the pack file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def request(self, job):
        """Begin a job: HISTORY, FRAMES or PACK; None, or why it can't begin, as bytes."""
        if self.job != NOTHING:
            return b"busy sending something else"
        if job != HISTORY and self._strings.energised() and not self._board.HEAP_IS_CHEAP:
            return b"only while the contactors are open: a file takes memory"
        if job == PACK:
            if not self._path:
                return b"no pack file"
            locked = heap_lock.unlock()
            try:
                self._file = open(self._path, "rb")
            except (OSError, MemoryError):
                return b"no pack file"
            finally:
                heap_lock.restore(locked)
        self.job = job
        self._at = self._part = self._lines = self._left = self._from = 0
        self._room_at = self._clock.now
        if job == HISTORY:
            t = self._store.totals
            self._at = t[totals.EVENTS] - totals.KEPT if t[totals.EVENTS] > totals.KEPT else 0
        elif job == FRAMES:
            self._store.reader_active = True
        return None

    def step(self):
        """Build one piece."""
        if not self.building and not self._out.room():
            if ticks.diff(self._clock.now, self._room_at) > _GIVE_UP_MS:
                self._end()
            return
        self._room_at = self._clock.now
        if self.job == HISTORY:
            done = self._history()
        elif self.job == FRAMES:
            done = self._frames()
        else:
            done = self._pack()
        if done:
            self._begin(b"stored_end")
            self._out.text(b"what", NAMES[self.job])
            self._out.number(b"lines", self._lines - 1)
            self._finish()
            self._end()

    def _end(self):
        self.job = NOTHING
        self._store.reader_active = False
        self.close()

    def _begin(self, kind):
        self._out.begin(kind)
        self.building = True
        self._lines += 1

    def _finish(self):
        self._out.end()
        self.building = False

    # --- history ---

    def _history(self):
        """Send totals, the last crash, stored events from the oldest; True when all are sent."""
        t = self._store.totals
        part = self._part
        if part <= _TOTALS:
            self._totals(part)
            self._part += 1
        elif part == _TOTALS + 1:
            self._part += 1
            if t[totals.CRASH_N]:
                self._begin(b"crash")
                self._out.number(b"boot", t[totals.CRASH_BOOT])
                self._out.key(b"at_ms")
                self._out.uptime(t[totals.CRASH_S], 0)
                self._out.key(b"text")
                self._out.raw(b'"')
                self._out.part(self._store.raw, totals.CRASH * 4, t[totals.CRASH_N])
                self._out.raw(b'"')
                self._finish()
        elif self._at < t[totals.EVENTS]:
            i = totals.RING + self._at % totals.KEPT * totals.EVENT
            self._at += 1
            self._event(t, i)
        else:
            return True
        return False

    def _totals(self, part):
        out = self._out
        store = self._store
        t = store.totals
        if part == 0:
            self._begin(b"totals")
            out.number(b"boot", t[totals.BOOT])
            out.number(b"operation_s", t[totals.SECONDS])
            out.number(b"closed_s", t[totals.CLOSED_S])
            out.number(b"energy_in_wh", t[totals.ENERGY_IN])
            out.number(b"energy_out_wh", t[totals.ENERGY_OUT])
        elif part == 1:
            out.number(b"charge_in_ah", t[totals.CHARGE_IN])
            out.number(b"charge_out_ah", t[totals.CHARGE_OUT])
            out.number(b"cycles", t[totals.CYCLES])
            out.number(b"deep", t[totals.DEEP])
            out.number(b"crashes", t[totals.CRASHES])
        elif part == 2:
            self._each(b"closings", totals.CLOSINGS, 0)
        elif part == 3:
            self._each(b"loaded_openings", totals.LOADED, 0)
        elif part == 4:
            self._each(b"soc_pm", totals.SOC, 1)
        elif part == 5:
            self._each(b"offset_ma", totals.OFFSET, 0)
        else:
            out.number(b"writes", store.written)
            out.number(b"failed", store.failed)
            self._finish()

    def _each(self, name, place, less):
        """Append a list with a number for each string; with `less` 1, 0 = not known: null."""
        out = self._out
        t = self._store.totals
        out.key(name)
        for s in range(len(self._strings.each)):
            out.raw(b"," if s else b"[")
            value = t[place + s]
            out.value(None if less and not value else value - less)
        out.raw(b"]")

    def _event(self, t, i):
        faults = self._faults
        packed = t[i]
        string = (packed >> 10 & 15) - 1
        scope = faults.pack_scope if string < 0 else string
        self._begin(b"stored_event")
        self._out.text(b"what", F.CHANGES[packed >> 8 & 3])
        slot = faults.slot(self._fault(packed & 255), scope)
        self._telemetry.fault_name(slot)
        self._telemetry.fault_place(slot, (packed >> 14) - 1, t[i + 1])
        self._when(t[i + 2], t[i + 3])
        self._finish()

    def _fault(self, code):
        """Number of the fault with a code; 0 for a code that this firmware doesn't know."""
        at = find(self._faults.code, 1, len(self._faults.code), code)
        return at if at > 0 else 0

    def _when(self, s, ms):
        out = self._out
        out.key(b"at_ms")
        out.uptime(s, ms & 1023)
        out.number(b"boot", ms >> 10)

    # --- frames ---

    def _frames(self):
        """Send the valid parts of all frames from the oldest; True when all are sent."""
        store = self._store
        if self.building:
            self._hex(store.page)
        elif self._left:
            self._frame_line(store)
        elif self._from:  # a part is being checked
            end = self._from + _CRC
            last = store.size - 4
            self._crc = crc16(store.page, self._from, end if end < last else last, self._crc)
            self._from = end
            if end >= last:
                self._from = 0
                if store.evaluate(self._crc):
                    self._left = store.tail[S.F_PART] >> 16
        elif self._at >= store.slots:
            return True
        else:
            if store.get_part((store.next + self._at) % store.slots):
                self._crc = crc16(store.page, 0, 4, 0xFFFF)
                self._from = 4
            self._at += 1
        return False

    def _frame_line(self, store):
        out = self._out
        tail = store.tail
        fault = tail[S.F_CODE]
        part = tail[S.F_PART]
        self._begin(b"frame_part")
        out.number(b"frame", tail[S.F_FRAME])
        out.number(b"part", part & 255)
        out.number(b"parts", part >> 8 & 255)
        out.number(b"code", fault & 255)
        out.number(b"index", fault >> 8 if fault >> 8 else None)
        self._when(tail[S.F_S], tail[S.F_MS])
        self._start((part >> 16) - self._left, self._left)

    # --- both ---

    def _start(self, at, left):
        """Begin the hex digits of a line; `at`: offset of its first byte, left: bytes to send."""
        self._out.number(b"at", at)
        self._out.key(b"hex")
        self._out.raw(b'"')
        self._part = at
        self._from = at + (_LINE if left > _LINE else left)

    def _hex(self, data):
        """Append bytes of `data` from self._part on; end the line after its last byte."""
        n = self._from - self._part
        if n > _HEX:
            n = _HEX
        self._out.hex(data, self._part, n)
        self._part += n
        self._left -= n
        if self._part >= self._from:
            self._from = 0
            self._out.raw(b'"')
            self._finish()

    # --- the pack file ---

    def _pack(self):
        """Send the bytes of the pack file in use; True when all are sent."""
        buf = self._buf
        out = self._out
        try:
            n = self._file.readinto(buf) if self._file else 0
        except OSError:
            n = 0
        if not self.building:
            if not n:
                return True
            self._begin(b"pack_part")
            out.number(b"config_crc", self._config_crc)
            out.number(b"at", self._at)
            out.key(b"hex")
            out.raw(b'"')
            self._from = self._at + _LINE
        out.hex(buf, 0, n)
        self._at += n
        if n < _HEX or self._at >= self._from:
            out.raw(b'"')
            self._finish()
        return False
