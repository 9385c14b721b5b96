"""Store in flash: totals, the last events, the last crash and freeze frames survive a power cut.

Totals, events and crash are one record, kept in RAM exactly as it is written: `totals`. Each write
goes to the next slot, with the next sequence number and a CRC. A power cut at any byte of a write
leaves the previous record valid, and all slots wear equally. Freeze frames are written in parts to
slots of their own in the same way. The recorder steps the store and hands over events and frames;
modules that count (as energy/charge) write their places in `totals` themselves. Only the storage
driver may allocate, with the heap unlocked.
"""

from array import array

from micropython import const

from bms import heap_lock, ticks
from bms.energy.totals import (
    BOOT,
    BYTES,
    CLOSED_S,
    CRASH,
    CRASH_BOOT,
    CRASH_BYTES,
    CRASH_N,
    CRASH_S,
    CRASHES,
    EVENT,
    EVENTS,
    KEPT,
    RING,
    SECONDS,
    SEQ,
    TAIL,
)
from bms.kernels.buffers import copy, put
from bms.kernels.checksums import crc16

_STRINGS = const(8)

_MAGIC = 0x534D42  # "BMS" and the version of this layout; places 72..79 are unused: 0
_BOOT_MASK = const(0xFFFFF)

# places in `tail`, the last PART_TAIL bytes of a part: "BMF"; sequence number of the write; number
# of the frame; part | parts << 8 | its bytes << 16; ms | boot << 10; uptime s;
# code | place + 1 << 8; CRC-16
F_MAGIC, F_SEQ, F_FRAME, F_PART, F_MS, F_S, F_CODE, F_CRC = range(8)
PART_TAIL = 32
PART_MAX = 1024
_FRAME_MAGIC = 0x464D42
_RETRY_MS = const(60000)  # wait after a failed write
_IDLE_MS = const(900000)  # between writes while open and without changes, if store_period is 0
_TRIES = const(3)  # failed writes of one frame until it is given up
_SAME_CRASH_S = const(60)


def _bytes(words):
    """The bytes of an array('i') as a buffer, not as a copy."""
    try:
        from uctypes import addressof, bytearray_at

        return bytearray_at(addressof(words), len(words) * 4)
    except ImportError:
        return memoryview(words).cast("B")  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]


class NvmStore:
    """totals: see `energy.totals`; raw: the same as bytes; written, failed: writes since boot.

    installed: there is storage that is large enough; lost: it held data, but no valid record;
    frame_pending: the frame of the last `frame` is not written completely; reader_active: `page` is
    in use by a reader; blocked: ms to wait after a failed write, else 0; frames: number of the last
    frame; cut: frames that were shortened, given up or refused.
    """

    def __init__(self, config, storage, clock):
        self._clock = clock
        self._period = config.store_period_ms
        self._soon = config.store_soon_ms
        self._rest = config.store_rest_ms
        self.totals = array("i", [0] * (TAIL + 2))
        self.raw = _bytes(self.totals)
        self.installed = bool(storage and storage.size >= BYTES and storage.slots >= 2)
        self._storage = storage
        slots = storage.slots if self.installed else 0
        self._first = (
            (slots + 1) // 2 if slots > 3 else slots
        )  # slots of records; the others hold frames
        self.slots = slots - self._first  # of frames
        self.size = 0
        if self.slots:
            self.size = storage.size if storage.size < PART_MAX else PART_MAX
        self.page = bytearray(self.size)
        self.tail = array("i", [0] * (PART_TAIL // 4))
        self._tail_raw = _bytes(self.tail)
        self.next = 0  # slot for the next part of a frame; it holds the oldest part
        self._at = self._newest = -1  # slot written last, slot of the newest valid record
        self.written = self.failed = self.frames = self.cut = 0
        self.lost = False
        self.reader_active = False
        self.frame_pending = False
        self._frame = None
        self._frame_n = self._part = self._parts = self._part_seq = self._tries = 0
        self._meta = array("i", [0] * 8)
        self._dirty = False
        self._was_closed = False
        now = clock.now
        self._second_at = self._dirty_at = self._wrote_at = now
        self.blocked = 0  # ms between the last write and the next one, at least

    # --- reading ---

    def load(self):
        """Read the newest valid record, or start with zeros; count this boot. Allocates."""
        t = self.totals
        best = -1
        seq = -1
        seen = False
        for slot in range(self._first):
            whole = self._read(slot)
            seen = seen or whole is not None
            if whole and t[SEQ] > seq:
                best = slot
                seq = t[SEQ]
        if best < 0 or not self._read(best):
            best = -1
            self.lost = seen
            for i in range(len(t)):
                t[i] = 0
            t[0] = _MAGIC
        self._at = self._newest = best
        t[BOOT] = (t[BOOT] + 1) & _BOOT_MASK
        self._find_frames()
        self._touch()

    def _find_frames(self):
        """Set `next` behind the newest complete frame, to overwrite parts of an incomplete one."""
        there = {}
        whole = -1
        for i in range(self.slots):
            if not self.read_part(i):
                continue
            tail = self.tail
            frame = tail[F_FRAME]
            if tail[F_SEQ] >= self._part_seq:
                self._part_seq = tail[F_SEQ] + 1
            if frame > self.frames:
                self.frames = frame
            there[frame] = there.get(frame, 0) + 1
            if there[frame] == tail[F_PART] >> 8 & 0xFF and frame > whole:
                whole = frame
        for i in range(self.slots):
            if self.read_part(i) and self.tail[F_FRAME] == whole:
                part = self.tail[F_PART] & 0xFF
                if part == (self.tail[F_PART] >> 8 & 0xFF) - 1:
                    self.next = (i + 1) % self.slots

    def _read(self, slot):
        """Read a record into `totals`: True if valid, False if not, None if the slot is empty."""
        t = self.totals
        locked = heap_lock.unlock()
        try:
            n = self._storage.read(slot, self.raw)
        except (OSError, MemoryError):
            self.failed += 1
            return False
        finally:
            heap_lock.restore(locked)
        if not n:
            return None
        return (
            n == BYTES
            and t[0] == _MAGIC
            and t[SEQ] == t[TAIL]
            and t[TAIL + 1] == crc16(self.raw, 0, BYTES - 4, 0xFFFF)
        )

    def get_part(self, i):
        """Read slot `i` of the frames into `page`, unchecked; False if it holds no part."""
        locked = heap_lock.unlock()
        try:
            return self._storage.read(self._first + i, self.page) == self.size
        except (OSError, MemoryError):
            self.failed += 1
            return False
        finally:
            heap_lock.restore(locked)

    def read_part(self, i):
        """Read and check slot `i` of the frames; True if it holds a valid part; see `tail`."""
        return self.get_part(i) and self.evaluate(crc16(self.page, 0, self.size - 4, 0xFFFF))

    def evaluate(self, crc):
        """True if `page` is a valid part; crc: CRC of all its bytes but the last four."""
        copy(self._tail_raw, self.page, self.size - PART_TAIL, PART_TAIL)
        tail = self.tail
        return tail[F_MAGIC] == _FRAME_MAGIC and tail[F_CRC] == crc

    # --- data to store ---

    # parameters: an object or a tuple for them would allocate in the cycle
    def event(self, change, code, string, place, value, s, ms):
        """Add a change of a fault (`faults.CHANGES`); -1 = no string, no place; s, ms: uptime."""
        t = self.totals
        i = RING + t[EVENTS] % KEPT * EVENT
        t[i] = code | change << 8 | (string + 1) << 10 | (place + 1) << 14
        t[i + 1] = value
        t[i + 2] = s
        t[i + 3] = ms | t[BOOT] << 10
        t[EVENTS] += 1
        self._touch()

    def frame(self, code, place, provider, n):
        """Begin to store `n` bytes of a freeze frame of the fault `code`, with the uptime of now.

        `provider.fill(buf, start, n)` copies n bytes of it from `start` into `buf`; it is called
        while `frame_pending`. False, and counted in `cut`, if a frame is pending or there are no
        slots for frames. A frame that needs more than half of the slots is shortened, so that the
        previous one stays.
        """
        room = self.size - PART_TAIL
        if self.frame_pending or self.slots < 2 or n < 1:
            self.cut += 1
            return False
        parts = (n + room - 1) // room
        most = self.slots // 2
        if parts > most:
            parts = most
            n = most * room
            self.cut += 1
        self._frame = provider
        self._frame_n = n
        self._tries = 0
        self._part = 0
        self._parts = parts
        self.frames += 1
        m = self._meta
        m[F_MAGIC] = _FRAME_MAGIC
        m[F_FRAME] = self.frames
        m[F_MS] = self._clock.uptime_ms | self.totals[BOOT] << 10
        m[F_S] = self._clock.uptime_s
        m[F_CODE] = code | (place + 1) << 8
        self.frame_pending = True
        return True

    def crash(self, text):
        """Store the text (bytes) of an uncaught exception at once: the contactors are open by now.

        The same text again within a minute after start is only counted, to save flash.
        """
        t = self.totals
        n = len(text) if len(text) < CRASH_BYTES else CRASH_BYTES
        same = n == t[CRASH_N]
        for i in range(n):
            c = text[i]
            if not 32 <= c < 127 or c == 34 or c == 92:
                c = 63  # "?": the text is sent inside quotes
            same = same and self.raw[CRASH * 4 + i] == c
            self.raw[CRASH * 4 + i] = c
        t[CRASH_N] = n
        t[CRASH_BOOT] = t[BOOT]
        t[CRASH_S] = self._clock.uptime_s
        t[CRASHES] += 1
        if not same or self._clock.uptime_s >= _SAME_CRASH_S:
            self.save(self._clock.now)

    def add(self, index, part, per):
        """Add `part` to the total at `index`; `per` parts are 1/1000 unit. part + per < 2**29."""
        t = self.totals
        part += t[index + 2]
        if part >= per:
            thousandths = t[index + 1] + part // per
            part %= per
            t[index] += thousandths // 1000
            t[index + 1] = thousandths % 1000
        t[index + 2] = part

    def _touch(self):
        if not self._dirty:
            self._dirty = True
            self._dirty_at = self._clock.now

    # --- writing ---

    def step(self, now, may_write, closed):
        """Count the time; write at most one slot, and only if `may_write`.

        may_write: no reading is near a limit; closed: a contactor is closed.
        """
        if ticks.diff(now, self._second_at) >= 1000:
            self._second_at = ticks.add(self._second_at, 1000)
            self.totals[SECONDS] += 1
            if closed:
                self.totals[CLOSED_S] += 1
        if self._was_closed and not closed:
            self._touch()
        self._was_closed = closed
        if may_write and self.due(now, closed):
            if self.frame_pending and not self._dirty:
                self._save_part(now)
            else:
                self.save(now)

    def due(self, now, closed):
        """True if a write is due, as soon as no reading is near a limit."""
        since = ticks.since(now, self._wrote_at)
        if not self.installed or since < self.blocked:
            return False
        if closed:
            return bool(self._period) and since >= self._period
        if self._dirty:
            return ticks.since(now, self._dirty_at) >= self._soon and since >= self._rest
        if self.frame_pending:
            return not self.reader_active and since >= self._soon
        return since >= (self._period if self._period else _IDLE_MS)

    def save(self, now):
        """Write the record now; True if that succeeded."""
        if not self.installed:
            return False
        t = self.totals
        slot = self._after()
        t[SEQ] += 1
        t[TAIL] = t[SEQ]
        t[TAIL + 1] = crc16(self.raw, 0, BYTES - 4, 0xFFFF)
        if not self._write(slot, self.raw, BYTES, now):
            self._at = slot
            return False
        self._at = self._newest = slot
        self._dirty = False
        return True

    def close(self):
        """Close the storage's files at the end of the program; no write follows."""
        self.installed = False
        close = getattr(self._storage, "close", None)
        if close is not None:
            close()

    def _after(self):
        """The slot to write: the next one, but never that of the newest valid record."""
        slot = (self._at + 1) % self._first
        if slot == self._newest:
            slot = (slot + 1) % self._first
        return slot

    def _save_part(self, now):
        if self.reader_active:
            return
        page = self.page
        room = self.size - PART_TAIL
        start = self._part * room
        n = self._frame_n - start
        if n > room:
            n = room
        self._frame.fill(page, start, n)  # pyright: ignore[reportOptionalMemberAccess]
        m = self._meta
        m[F_SEQ] = self._part_seq
        m[F_PART] = self._part | self._parts << 8 | n << 16
        tail = self.tail
        for i in range(8):
            tail[i] = m[i]
        put(page, room, self._tail_raw, PART_TAIL)
        tail[F_CRC] = crc16(page, 0, self.size - 4, 0xFFFF)
        put(page, room, self._tail_raw, PART_TAIL)
        if self._write(self._first + self.next, page, self.size, now):
            self._part_seq += 1
            self.next = (self.next + 1) % self.slots
            self._part += 1
            if self._part == self._parts:
                self.frame_pending = False
            return
        self._tries += 1
        if self._tries == _TRIES:
            # the frame is given up; the next one starts at the same slot
            self.next = (self.next + self.slots - self._part) % self.slots
            self.cut += 1
            self.frame_pending = False

    def _write(self, slot, buf, n, now):
        self._wrote_at = now
        locked = heap_lock.unlock()
        try:
            self._storage.write(slot, buf, n)
        except (OSError, MemoryError):  # neither may end what protects
            self.failed += 1
            self.blocked = _RETRY_MS
            return False
        finally:
            heap_lock.restore(locked)
        self.written += 1
        self.blocked = 0
        return True
