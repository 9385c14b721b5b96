"""Builds the JSON lines for the serial port, in short pieces, one piece a step.

A piece is at most a few fields or sixteen cells. A job builds one line or one round of lines; it is
requested by time, by an event or by a command. Nothing here allocates after start-up.
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
        self._changes = array("h", [-1] * len(master.currents))
        self._answer = b""
        self._answer_cmd = -1
        self._answer_ok = False
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
        """Build one piece; False where nothing is to be built."""
        if self._job == _IDLE:
            if not self._due:
                return False
            for job in range(_JOBS):
                if self._pending[job]:
                    self._pending[job] = 0
                    self._job = job
                    self._at = self._part = self._name_at = 0
                    break
            else:
                self._due = False
                return False
        if self._piece(self._job):
            self._job = _IDLE
        return True

    def _piece(self, job):
        """Build one piece of a job; True when the job is done."""
        if job == STATUS:
            return self._status()
        if job == CELLS:
            return self._cells()
        if job == POWER:
            return self._power()
        if job == STRINGS:
            return self._strings()
        if job == CONTACTOR:
            return self._contactor()
        if job == EVENT:
            return self._event()
        if job == FAULTS:
            return self._faults()
        if job == PAST:
            return self._past()
        if job == SETTING:
            return self._settings()
        if job == HELP:
            return self._help()
        out = self._out
        if job == ANSWER:
            if not self._part:
                self._part = 1
                return not out.begin(b"answer")
            self._answered()
            out.key(b"ok")
            out.raw(b"true" if self._answer_ok else b"false")
            out.text(b"text", self._answer)
            out.end()
        elif job == BOOT:
            self._look_at_heap()
            if out.begin(b"boot"):
                out.text(b"version", self._version)
                out.text(b"board", self._board_name)
                out.number(b"config_crc", self._config_crc)
                out.number(b"native", 1 if self._m.native else 0)
                out.number(b"slaves", self._m.pack.slaves)
                out.number(b"cells", self._m.pack.cells)
                out.number(b"temps", self._m.pack.temps)
                out.text(b"self_test", self._m.self_test)
                out.text(b"reset", self._board.reset_cause())
                out.end()
        elif out.begin(b"mem"):
            self._look_at_heap()
            out.number(b"heap_used", self._heap_used)
            out.number(b"heap_free", self._heap_free)
            out.number(b"cycles", self._m.cycles)
            out.end()
        return True

    def _answered(self):
        """Append the name of the answered command."""
        if self._answer_cmd < 0:
            self._out.text(b"cmd", b"?")
            return
        at = nth(COMMANDS, self._answer_cmd, LINE_END)
        self._quote(b"cmd", COMMANDS, at, find(COMMANDS, at, len(COMMANDS), TAB))

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

    def _status(self):
        out = self._out
        m = self._m
        cell = m.pack.cell
        part = self._part
        self._part += 1
        if part == 0:
            if not out.begin(b"status"):
                return True
            strings = m.strings
            self._one_of(b"state", C.STATES, strings.state)
            out.number(b"closed", strings.count_closed)
            out.number(b"pack_mv", self._pack_mv())
            out.number(b"link_mv", m.pack.link_mv)
            out.number(b"i_ma", m.limits.pack_ma if self._current_known() else None)
        elif part == 1:
            out.number(b"min_mv", cell.low if cell.complete else None)
            out.number(b"min_cell", cell.low_at + 1 if cell.complete else None)
            out.number(b"max_mv", cell.high if cell.complete else None)
            out.number(b"max_cell", cell.high_at + 1 if cell.complete else None)
        elif part == 2:
            temp = m.pack.temp
            known = temp.complete and temp.count
            out.number(b"min_dc", temp.low if known else None)
            out.number(b"max_dc", temp.high if known else None)
            out.number(b"scans", m.scans)
            n = 0
            for i in range(m.pack.slaves):
                n += m.pack.known[i]
            out.number(b"known", n)
        elif part == 3:
            out.number(b"trips", m.faults.trips)
            self._fault_name(b"first", m.faults.first)
            out.number(b"balancing", m.balancing.cells)
            out.number(b"inputs", m.inputs.bits())
        else:
            rx = tx = damaged = stale = unexpected = missed = dropped = 0
            for d in m.drivers:
                rx = (rx + d.link.rx) & ticks.MASK
                tx = (tx + d.link.tx) & ticks.MASK
                damaged = (damaged + d.link.damaged) & ticks.MASK
                damaged = (damaged + d.damaged) & ticks.MASK
                stale = (stale + d.stale) & ticks.MASK
                unexpected = (unexpected + d.unexpected) & ticks.MASK
                missed = (missed + d.missed) & ticks.MASK
                dropped = (dropped + d.link.dropped) & ticks.MASK
            out.number(b"rx", rx)
            out.number(b"tx", tx)
            out.number(b"damaged", damaged)
            out.number(b"stale", stale)
            out.number(b"unexpected", unexpected)
            out.number(b"missed", missed)
            out.number(b"dropped", (dropped + out.dropped) & ticks.MASK)
            out.end()
            return True
        return False

    def _power(self):
        out = self._out
        m = self._m
        if self._part == 0:
            self._part = 1
            if not out.begin(b"power"):
                return True
            out.number(b"soc_pm", m.soc.pack_pm)
            sure = True
            for s in m.soc.sure:
                sure = sure and bool(s)
            out.number(b"soc_sure", 1 if sure else 0)
            return False
        if self._part == 1:
            self._part = 2
            out.number(b"charge_ma", m.power.charge_ma)
            out.number(b"discharge_ma", m.power.discharge_ma)
            return False
        out.number(b"charge_mv", m.power.charge_mv)
        out.number(b"discharge_mv", m.power.discharge_mv)
        self._one_of(b"charge_by", REASONS, m.power.reason[CHARGE])
        self._one_of(b"discharge_by", REASONS, m.power.reason[DISCHARGE])
        out.end()
        return True

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

    def _contactor(self):
        """A line for each string whose contactor sequence changed its state."""
        c = self._m.strings.each[self._at]
        if self._changes[self._at] != c.changes & 0x7FFF and self._out.begin(b"contactor"):
            self._changes[self._at] = c.changes & 0x7FFF
            self._out.number(b"string", c.string + 1)
            self._one_of(b"state", C.STATES, c.state)
            self._out.number(b"closings", c.closings)
            self._out.end()
        self._at += 1
        return self._at >= self._m.pack.strings

    def _strings(self):
        """A line for each string, in two pieces."""
        out = self._out
        m = self._m
        s = self._at
        cell = m.pack.string_cell[s]
        if self._part == 0:
            if not out.begin(b"string"):
                return True
            self._part = 1
            out.number(b"string", s + 1)
            self._one_of(b"state", C.STATES, m.strings.each[s].state)
            out.number(b"string_mv", cell.total if cell.complete else None)
            current = m.currents[s]
            fresh = current.age(m.clock.now) <= self._current_age
            out.number(b"i_ma", current.ma if fresh else None)
            return False
        self._part = 0
        out.number(b"min_mv", cell.low if cell.complete else None)
        out.number(b"max_mv", cell.high if cell.complete else None)
        out.number(b"trips", m.faults.blocking(s))
        out.number(b"closings", m.strings.each[s].closings)
        out.number(b"loaded_openings", m.strings.each[s].loaded_openings)
        out.end()
        self._at = s + 1
        return self._at >= m.pack.strings

    def _cells(self):
        out = self._out
        pack = self._m.pack
        slave = self._at
        part = self._part
        if part == 0:
            if not out.begin(b"cells"):
                return True
            out.number(b"slave", slave + 1)
            out.number(b"first_cell", pack.first_cell[slave] + 1)
            out.raw(b',"cell_mv":[')
            self._part = 1
            return False
        part = (part - 1) * _PER_STEP
        cells = pack.slave_cells[slave]
        if part < cells:
            self._values(pack.cell_mv, pack.cell_flags, pack.first_cell[slave], part, cells)
            return False
        if part - (cells + _PER_STEP - 1) // _PER_STEP * _PER_STEP == 0:
            out.raw(b'],"temp_dc":[')
        part -= (cells + _PER_STEP - 1) // _PER_STEP * _PER_STEP
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
        self._part = 0
        self._at = slave + 1
        return self._at >= pack.slaves

    def _values(self, values, flags, base, start, count):
        end = start + _PER_STEP
        if end > count:
            end = count
        self._out.values(values, flags, base + start, base + end, base)
        self._part += 1

    def _event(self):
        faults = self._m.faults
        if faults.read < faults.events:
            i = faults.read % len(faults.event_slot)
            faults.read += 1
            if self._out.begin(b"event"):
                self._one_event(i)
        return faults.read >= faults.events

    def _past(self):
        faults = self._m.faults
        size = len(faults.event_slot)
        if self._part == 0:
            self._part = 1
            self._at = faults.events - size if faults.events > size else 0
        if self._at < faults.events:
            if self._out.begin(b"past_event"):
                self._one_event(self._at % size)
            self._at += 1
        return self._at >= faults.events

    def _one_event(self, i):
        faults = self._m.faults
        self._out.text(b"what", F.CHANGES[faults.event_change[i]])
        self.fault_fields(faults.event_slot[i], faults.event_place[i], faults.event_value[i])
        self._out.key(b"at_ms")
        self._out.uptime(faults.event_at_s[i], faults.event_at_ms[i])
        self._out.end()

    def fault_fields(self, slot, place, value):
        """Append a fault's name, code, level, string, place, index and value."""
        out = self._out
        faults = self._m.faults
        fault = slot % faults.rows
        scope = slot // faults.rows
        self._fault_name(b"name", fault)
        out.number(b"code", faults.code[fault])
        self._one_of(b"level", _LEVELS, faults.level[fault])
        out.number(b"string", scope + 1 if scope < self._m.pack.strings else None)
        self._one_of(b"place", F.PLACES, faults.kind[fault])
        out.number(b"index", place + 1 if place >= 0 else None)
        out.number(b"value", value)

    def _fault_name(self, key, fault):
        faults = self._m.faults
        names = faults.names
        at = faults.name_at[fault]
        self._quote(key, names, at, find(names, at, len(names), _SPACE), faults.suffix(fault))

    def _faults(self):
        faults = self._m.faults
        n = len(faults.active)
        end = self._at + 16  # slots looked at in one piece
        while self._at < n and self._at < end:
            i = self._at
            self._at += 1
            # the first cause stays in the list until all others are acknowledged, too
            if faults.active[i] or faults.latched[i] or i and i == faults.first_slot:
                out = self._out
                if out.begin(b"fault"):
                    self.fault_fields(i, faults.place[i], faults.value[i])
                    out.number(b"active", faults.active[i])
                    out.number(b"latched", faults.latched[i])
                    out.number(b"first", 1 if faults.first_slot == i else 0)
                    out.key(b"at_ms")
                    out.uptime(faults.at_s[i], faults.at_ms[i])
                    out.number(b"count", faults.count[i])
                    out.end()
                break
        return self._at >= n

    def _settings(self):
        name = self._name_at
        end = find(NAMES, name, len(NAMES), _SPACE)
        if end < 0:
            end = len(NAMES)
        if self._out.begin(b"setting"):
            self._quote(b"name", NAMES, name, end)
            self._out.number(b"value", self._values_of[self._at])
            self._out.end()
        self._at += 1
        self._name_at = end + 1
        return self._at >= (len(self._values_of) if self._all_settings else LIMITS)

    def _help(self):
        start = self._at
        tab = find(COMMANDS, start, len(COMMANDS), TAB)
        end = find(COMMANDS, tab, len(COMMANDS), LINE_END)
        self._at = end + 1
        if self._out.begin(b"help"):
            self._quote(b"cmd", COMMANDS, start, tab)
            self._quote(b"text", COMMANDS, tab + 1, end)
            self._out.end()
        return self._at >= len(COMMANDS)
