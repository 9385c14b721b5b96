"""Builds the JSON lines for the serial port, in short pieces, one piece a step.

A piece is at most a few fields or sixteen cells: a frame that comes meanwhile waits for it. A job
builds one line or one round of lines; it is requested by time, by an event or by a command.
Nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.config.setting_names import LIMITS, NAMES
from bms.contactors import sequence as C
from bms.energy.power import CHARGE, DISCHARGE, REASONS
from bms.kernels.buffers import find, nth
from bms.protection import fault_ids as F
from bms.version import VERSION

# jobs; of those that are pending, the lowest number runs first
ANSWER, EVENT, CONTACTOR, BOOT, STATUS, POWER, STRINGS, CELLS = range(8)
FAULTS, PAST, SETTING, HELP, MEM = range(8, 13)
_JOBS = const(13)
_IDLE = const(-1)
_LEVELS = b" warn derate trip "  # each with a space behind it
_PER_STEP = const(16)  # readings in one piece

# commands of the console: lines of a name, a tab and its help text, in the order of the numbers in
# `commands`; one text, since each object takes room on a board
COMMANDS = (
    b"help\tlist all commands\n"
    b"status\tsend a status line now\n"
    b"cells\tsend every cell and temperature now\n"
    b"strings\tsend state, voltage, current and closings of each string\n"
    b"faults\tlist faults that are active or latched\n"
    b"events\tlist the last 32 changes of faults since the start\n"
    b"history\tsend stored totals, last crash, changes of faults of all starts\n"
    b"frames\tsend stored freeze frames as bytes: see bmsctl events\n"
    b"pack\tsend the pack file in use as bytes: see bmsctl config pull\n"
    b"clear\tacknowledge faults whose cause has ended; clear welded: ignore wrong feedback;"
    b" clear deep: use cells that were discharged too deeply\n"
    b"close\tprecharge and close the contactors\n"
    b"open\topen the contactors when the current is low, or after open_wait\n"
    b"balance\tbalance on, balance off: switch it; balance: show it\n"
    b"limits\tlist the settings of [limits]\n"
    b"config\tlist all settings\n"
    b"reset\treset yes: open the contactors and restart; reset anyway: even if one is welded\n"
    b"version\tsend version, board and checksum of the pack file\n"
    b"service\tservice yes: open the contactors, end the firmware; service anyway: even if welded\n"
)
TAB = const(9)
LINE_END = const(10)
_SPACE = const(32)


class Telemetry:
    """Builds lines about the master's parts into a TxBuffer."""

    def __init__(self, config, board, master, tx_buffer):
        self._board = board
        self._m = master
        self._out = tx_buffer
        self._current_age = config.current_age_ms
        self._status_ms = config.status_period_ms
        self._cells_ms = config.cells_period_ms
        self._status_at = master.clock.now
        self._cells_at = master.clock.now
        self._pending = bytearray(_JOBS)
        self._job = _IDLE
        self._at = 0
        self._part = 0
        self._taken = array("i", [0] * 6)  # an event: slot, change, place, value, uptime s and ms
        self._changes = array("h", [-1] * len(master.currents))
        self._answer = self._text = b""
        self._answer_cmd = self._cmd = -1  # the second of each: of the line that is being built
        self._answer_ok = self._ok = False
        self._all_settings = False
        self._heap_used = self._heap_free = None  # as last measured
        self._version = VERSION.encode()
        self._board_name = board.NAME.encode()
        self._config_crc = config.crc
        self._values_of = config.values
        self._name_at = 0  # where the name of the next setting stands
        self._due = True  # a job may be pending
        self._pending[BOOT] = 1

    def request(self, job):
        """Request a job: its lines follow as soon as possible."""
        self._pending[job] = 1
        self._due = True

    def request_settings(self, every):
        """Request the settings: those of [limits], or with `every` all."""
        self._all_settings = every
        self.request(SETTING)

    def answer(self, cmd, ok, text):
        """Answer a command, given by its number; -1: what is none."""
        self._answer_cmd = cmd
        self._answer_ok = ok
        self._answer = text
        self.request(ANSWER)

    def answering(self):
        """True while an answer waits to be built: the next command must wait."""
        return bool(self._pending[ANSWER])

    def busy(self):
        """True while a line is being built or a job is pending."""
        return self._due or self._job != _IDLE

    def look(self, now):
        """Request the lines that are due: by time, by new events, by changed contactors."""
        if ticks.diff(now, self._status_at) >= self._status_ms:
            self._status_at = now
            self.request(STATUS)
            self.request(POWER)
            if self._m.pack.strings > 1:
                self.request(STRINGS)
            if self._board.HEAP_IS_CHEAP:
                self.request(MEM)
        if ticks.diff(now, self._cells_at) >= self._cells_ms:
            self._cells_at = now
            self.request(CELLS)
        faults = self._m.faults
        if faults.read < faults.events:
            self.request(EVENT)
        for c in self._m.strings.each:
            if self._changes[c.string] != c.changes & 0x7FFF:
                self.request(CONTACTOR)

    def step(self):
        """Choose a job, or build one piece of it; False where nothing is to be built."""
        job = self._job
        if job == _IDLE:
            if not self._due:
                return False
            for job in range(_JOBS):
                if self._pending[job]:
                    self._pending[job] = 0
                    self._job = job
                    self._at = self._part = self._name_at = 0
                    if job == ANSWER:  # another one may follow before its line is complete
                        self._ok = self._answer_ok
                        self._text = self._answer
                        self._cmd = self._answer_cmd
                    return True
            self._due = False
            return False
        part = self._part
        self._part = part + 1
        if self._piece(job, part):
            self._job = _IDLE
        return True

    def _piece(self, job, part):
        """Build piece `part` of a line of a job; True when the job is done.

        A job of several lines sets `_part` to 0 with the last piece of each.
        """
        if job == STATUS:
            return self._status(part)
        if job == CELLS:
            return self._cells(part)
        if job == POWER:
            return self._power(part)
        if job == STRINGS:
            return self._strings(part)
        if job == CONTACTOR:
            return self._contactor(part)
        if job == EVENT:
            return self._event(part)
        if job == FAULTS:
            return self._faults(part)
        if job == PAST:
            return self._past(part)
        if job == SETTING:
            return self._settings(part)
        if job == HELP:
            return self._help(part)
        if job == ANSWER:
            return self._answered(part)
        if job == BOOT:
            return self._boot(part)
        out = self._out
        if out.begin(b"mem"):
            self._look_at_heap()
            out.number(b"heap_used", self._heap_used)
            out.number(b"heap_free", self._heap_free)
            out.number(b"cycles", self._m.cycles)
            out.end()
        return True

    def _answered(self, part):
        out = self._out
        if part == 0:
            return not out.begin(b"answer")
        if part == 1:
            if self._cmd < 0:
                out.text(b"cmd", b"?")
            else:
                at = nth(COMMANDS, self._cmd, LINE_END)
                self._quote(b"cmd", COMMANDS, at, find(COMMANDS, at, len(COMMANDS), TAB))
            return False
        out.key(b"ok")
        out.raw(b"true" if self._ok else b"false")
        out.text(b"text", self._text)
        out.end()
        return True

    def _boot(self, part):
        out = self._out
        if part == 0:
            self._look_at_heap()
            return not out.begin(b"boot")
        if part == 1:
            out.text(b"version", self._version)
            out.text(b"board", self._board_name)
            out.number(b"config_crc", self._config_crc)
            out.number(b"native", 1 if self._m.native else 0)
            return False
        out.number(b"slaves", self._m.pack.slaves)
        out.number(b"cells", self._m.pack.cells)
        out.number(b"temps", self._m.pack.temps)
        out.text(b"self_test", self._m.self_test)
        out.text(b"reset", self._board.reset_cause())
        out.end()
        return True

    def _quote(self, key, text, start, end, more=b""):
        """Append a key and a text: `text[start:end] + more`."""
        out = self._out
        out.key(key)
        out.raw(b'"')
        out.part(text, start, end - start)
        out.raw(more)
        out.raw(b'"')

    def _one_of(self, key, texts, n):
        """Append a key and the n-th of texts that a space ends each."""
        at = nth(texts, n, _SPACE)
        self._quote(key, texts, at, find(texts, at, len(texts), _SPACE))

    def _look_at_heap(self):
        if self._board.HEAP_IS_CHEAP or not self._m.strings.energised():
            self._heap_used = self._board.heap_used()
            self._heap_free = self._board.heap_free()

    # long: a branch for each piece
    def _status(self, part):
        out = self._out
        m = self._m
        if part == 0:
            if not out.begin(b"status"):
                return True
            self._one_of(b"state", C.STATES, m.strings.state)
        elif part == 1:
            out.number(b"closed", m.strings.count_closed)
            out.number(b"pack_mv", self._pack_mv())
            out.number(b"link_mv", m.pack.link_mv)
            out.number(b"i_ma", m.limits.pack_ma if self._current_known() else None)
        elif part == 2:
            cell = m.pack.cell
            out.number(b"min_mv", cell.low if cell.complete else None)
            out.number(b"min_cell", cell.low_at + 1 if cell.complete else None)
            out.number(b"max_mv", cell.high if cell.complete else None)
            out.number(b"max_cell", cell.high_at + 1 if cell.complete else None)
        elif part == 3:
            temp = m.pack.temp
            known = temp.complete and temp.count
            out.number(b"min_dc", temp.low if known else None)
            out.number(b"max_dc", temp.high if known else None)
            out.number(b"scans", m.scans)
            n = 0
            for known in m.pack.known:
                n += known
            out.number(b"known", n)
        elif part == 4:
            out.number(b"trips", m.faults.trips)
            self._fault_name(b"first", m.faults.first)
            out.number(b"balancing", m.balancing.cells)
        elif part == 5:
            out.number(b"inputs", m.inputs.bits())
            rx = tx = damaged = 0
            for d in m.drivers:
                rx = (rx + d.link.rx) & ticks.MASK
                tx = (tx + d.link.tx) & ticks.MASK
                damaged = (damaged + d.link.damaged) & ticks.MASK
                damaged = (damaged + d.damaged) & ticks.MASK
            out.number(b"rx", rx)
            out.number(b"tx", tx)
            out.number(b"damaged", damaged)
        else:
            stale = unexpected = missed = 0
            dropped = out.dropped
            for d in m.drivers:
                stale = (stale + d.stale) & ticks.MASK
                unexpected = (unexpected + d.unexpected) & ticks.MASK
                missed = (missed + d.missed) & ticks.MASK
                dropped = (dropped + d.link.dropped) & ticks.MASK
            out.number(b"stale", stale)
            out.number(b"unexpected", unexpected)
            out.number(b"missed", missed)
            out.number(b"dropped", dropped)
            out.end()
            return True
        return False

    def _power(self, part):
        out = self._out
        m = self._m
        if part == 0:
            if not out.begin(b"power"):
                return True
            out.number(b"soc_pm", m.soc.pack_pm)
            sure = True
            for s in m.soc.sure:
                sure = sure and bool(s)
            out.number(b"soc_sure", 1 if sure else 0)
        elif part == 1:
            out.number(b"charge_ma", m.power.charge_ma)
            out.number(b"discharge_ma", m.power.discharge_ma)
            out.number(b"charge_mv", m.power.charge_mv)
            out.number(b"discharge_mv", m.power.discharge_mv)
        elif part == 2:
            self._one_of(b"charge_by", REASONS, m.power.reason[CHARGE])
        else:
            self._one_of(b"discharge_by", REASONS, m.power.reason[DISCHARGE])
            out.end()
            return True
        return False

    def _pack_mv(self):
        """Mean voltage of the strings; None where a reading is missing."""
        pack = self._m.pack
        if not pack.cell.complete:
            return None
        total = 0
        for cell in pack.string_cell:
            total += cell.total
        return total // pack.strings

    def _current_known(self):
        for current in self._m.currents:
            if current.age(self._m.clock.now) > self._current_age:
                return False
        return True

    def _contactor(self, part):
        """A line for each string whose contactor sequence changed its state."""
        out = self._out
        c = self._m.strings.each[self._at]
        if part:
            out.number(b"closings", c.closings)
            out.end()
        elif self._changes[self._at] != c.changes & 0x7FFF and out.begin(b"contactor"):
            self._changes[self._at] = c.changes & 0x7FFF
            out.number(b"string", c.string + 1)
            self._one_of(b"state", C.STATES, c.state)
            return False
        return self._next(self._m.pack.strings)

    def _next(self, count):
        """Go to the next of `count` lines; True where there is none."""
        self._part = 0
        self._at += 1
        return self._at >= count

    def _strings(self, part):
        """A line for each string."""
        out = self._out
        m = self._m
        s = self._at
        cell = m.pack.string_cell[s]
        if part == 0:
            if not out.begin(b"string"):
                return True
            out.number(b"string", s + 1)
            self._one_of(b"state", C.STATES, m.strings.each[s].state)
            return False
        if part == 1:
            out.number(b"string_mv", cell.total if cell.complete else None)
            current = m.currents[s]
            fresh = current.age(m.clock.now) <= self._current_age
            out.number(b"i_ma", current.ma if fresh else None)
            out.number(b"min_mv", cell.low if cell.complete else None)
            out.number(b"max_mv", cell.high if cell.complete else None)
            return False
        out.number(b"trips", m.faults.blocking(s))
        out.number(b"closings", m.strings.each[s].closings)
        out.number(b"loaded_openings", m.strings.each[s].loaded_openings)
        out.end()
        return self._next(m.pack.strings)

    def _cells(self, part):
        out = self._out
        pack = self._m.pack
        slave = self._at
        if part == 0:
            if not out.begin(b"cells"):
                return True
            out.number(b"slave", slave + 1)
            out.number(b"first_cell", pack.first_cell[slave] + 1)
            out.raw(b',"cell_mv":[')
            return False
        part = (part - 1) * _PER_STEP
        cells = pack.slave_cells[slave]
        if part < cells:
            self._values(pack.cell_mv, pack.cell_flags, pack.first_cell[slave], part, cells)
            return False
        part -= (cells + _PER_STEP - 1) // _PER_STEP * _PER_STEP
        if part == 0:
            out.raw(b'],"temp_dc":[')
        temps = pack.slave_temps[slave]
        if part < temps:
            self._values(pack.temp_dc, pack.temp_flags, pack.first_temp[slave], part, temps)
            return False
        out.raw(b"]")
        out.number(b"stack_mv", pack.stack_mv[slave] if pack.stack_ok[slave] else None)
        out.raw(b',"balance_mask":[')
        out.value(pack.balance_mask[2 * slave])
        out.raw(b",")
        out.value(pack.balance_mask[2 * slave + 1])
        out.raw(b"]")
        out.end()
        return self._next(pack.slaves)

    def _values(self, values, flags, base, start, count):
        end = start + _PER_STEP
        if end > count:
            end = count
        self._out.values(values, flags, base + start, base + end, base)

    def _event(self, part):
        faults = self._m.faults
        if part:
            return self._one_event(part) and faults.read >= faults.events
        if faults.read < faults.events:
            i = faults.read % len(faults.event_slot)
            faults.read += 1
            if self._out.begin(b"event"):
                self._take_event(i)
                return False
        self._part = 0
        return faults.read >= faults.events

    def _past(self, part):
        faults = self._m.faults
        if part:
            return self._one_event(part) and self._next(faults.events)
        size = len(faults.event_slot)
        if self._at < faults.events - size:
            self._at = faults.events - size
        if self._at < faults.events and self._out.begin(b"past_event"):
            self._take_event(self._at % size)
            return False
        return self._next(faults.events)

    def _take_event(self, i):
        """Copy an event, since others may overwrite it before its line is complete."""
        faults = self._m.faults
        e = self._taken
        e[0] = faults.event_slot[i]
        e[1] = faults.event_change[i]
        e[2] = faults.event_place[i]
        e[3] = faults.event_value[i]
        e[4] = faults.event_at_s[i]
        e[5] = faults.event_at_ms[i]

    def _one_event(self, part):
        """Pieces 1 to 3 of the line of the event that was taken; True where it is complete."""
        e = self._taken
        if part == 1:
            self._out.text(b"what", F.CHANGES[e[1]])
            self.fault_name(e[0])
        elif part == 2:
            self.fault_place(e[0], e[2], e[3])
        else:
            self._at_ms(e[4], e[5])
            self._out.end()
            self._part = 0
        return part > 2

    def _at_ms(self, seconds, ms):
        self._out.key(b"at_ms")
        self._out.uptime(seconds, ms)

    def fault_name(self, slot):
        """Append a fault's name, code and level."""
        faults = self._m.faults
        fault = slot % faults.rows
        self._fault_name(b"name", fault)
        self._out.number(b"code", faults.code[fault])
        self._one_of(b"level", _LEVELS, faults.level[fault])

    def fault_place(self, slot, place, value):
        """Append a fault's string, place, index and value."""
        faults = self._m.faults
        out = self._out
        scope = slot // faults.rows
        out.number(b"string", scope + 1 if scope < self._m.pack.strings else None)
        self._one_of(b"place", F.PLACES, faults.kind[slot % faults.rows])
        out.number(b"index", place + 1 if place >= 0 else None)
        out.number(b"value", value)

    def _fault_name(self, key, fault):
        faults = self._m.faults
        names = faults.names
        at = faults.name_at[fault]
        self._quote(key, names, at, find(names, at, len(names), _SPACE), faults.suffix(fault))

    def _faults(self, part):
        faults = self._m.faults
        out = self._out
        i = self._at
        if part == 0:
            self._part = 0
            n = len(faults.active)
            end = i + 16  # slots looked at in one piece
            while i < n and i < end:
                # the first cause stays in the list until all others are acknowledged, too
                if faults.active[i] or faults.latched[i] or i and i == faults.first_slot:
                    self._at = i
                    if out.begin(b"fault"):
                        self._part = 1
                        return False
                i += 1
            self._at = i
            return i >= n
        if part == 1:
            self.fault_name(i)
        elif part == 2:
            self.fault_place(i, faults.place[i], faults.value[i])
        elif part == 3:
            out.number(b"active", faults.active[i])
            out.number(b"latched", faults.latched[i])
            out.number(b"first", 1 if faults.first_slot == i else 0)
        else:
            self._at_ms(faults.at_s[i], faults.at_ms[i])
            out.number(b"count", faults.count[i])
            out.end()
            return self._next(len(faults.active))
        return False

    def _settings(self, part):
        if part == 0 and self._out.begin(b"setting"):
            return False
        name = self._name_at
        end = find(NAMES, name, len(NAMES), _SPACE)
        if end < 0:
            end = len(NAMES)
        if part:
            self._quote(b"name", NAMES, name, end)
            self._out.number(b"value", self._values_of[self._at])
            self._out.end()
        self._name_at = end + 1
        return self._next(len(self._values_of) if self._all_settings else LIMITS)

    def _help(self, part):
        start = self._at
        tab = find(COMMANDS, start, len(COMMANDS), TAB)
        end = find(COMMANDS, tab, len(COMMANDS), LINE_END)
        if part == 0:
            if self._out.begin(b"help"):
                self._quote(b"cmd", COMMANDS, start, tab)
                return False
        else:
            self._quote(b"text", COMMANDS, tab + 1, end)
            self._out.end()
        self._at = end
        return self._next(len(COMMANDS))
