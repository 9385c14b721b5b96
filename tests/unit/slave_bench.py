"""A driver of any kind on a wire with a scripted board: real parts around it, time by the test.

Runs under CPython and MicroPython.
"""

import micropython

from bms.clock import Clock
from bms.config import pack_file
from bms.contactors.strings import Strings
from bms.pack import FRESH, Pack
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from bms.slaves import build as slaves_
from fakes import FakeBoard, check_ages, names_of

LOCKS = hasattr(micropython, "heap_lock")


def lines(kind, boards, port, slave="", link="", limits="", chemistry="NMC"):
    """A pack file; boards: (node, cells, temps), where it isn't the first the string behind;
    others: more lines with ;
    """
    cells = sum([one[1] for one in boards])
    out = ["[pack]", 'name = "bench"', f'chemistry = "{chemistry}"', f"cells = {cells}"]
    out += ['capacity = "100 Ah"', "[limits]", 'charge_max = "100 A"', 'discharge_max = "200 A"']
    out += ['current_hard_max = "400 A"']
    given = [row.split("=")[0].strip() for row in limits.split(";")]
    for row in ('cell_age = "30 s"', 'temp_age = "60 s"'):
        if row.split("=")[0].strip() not in given:
            out.append(row)
    out += [row.strip() for row in limits.split(";") if row.strip()]
    for one in boards:
        out += ["[[slave]]", f'kind = "{kind}"', f'link = "{port}"', f"node = {one[0]}"]
        out += [f"cells = {one[1]}", f"temps = {one[2]}", f"string = {(one + (1,))[3]}"]
        out += [row.strip() for row in slave.split(";") if row.strip()]
    if link:
        out += ["[[link]]", f'port = "{port}"'] + [row.strip() for row in link.split(";")]
    return out


class SlaveBench:
    """One driver. `reply(request)` is the board's answer to bytes, or on CAN to (id, data): bytes,
    a list of frames, or None. requests: what the master sent, the newest last.
    """

    def __init__(self, kind, boards=((1, 4, 2),), port="uart0", ms=1000, reply=None, **more):
        self.config = pack_file.parse(lines(kind, boards, port, **more))
        self.board = FakeBoard(ms=ms)
        self.clock = Clock(self.board.clock)
        self.pack = Pack(self.config)
        self.faults = Faults(self.clock, self.pack)
        currents = self.currents = [StringCurrent(self.config, n) for n in range(self.pack.strings)]
        self.strings = Strings(
            self.config, self.board, self.faults, self.pack, currents, self.clock
        )
        self.faults.set_open_target(self.strings)
        self.limits = Limits(
            self.config, self.pack, currents, self.faults, self.strings, self.clock.now
        )
        self.driver = slaves_.build(self.config, self.board, self.pack, self.limits, self.faults)[0]
        self.wire = self.board.wires[port]
        self.reply = reply or (lambda request: None)
        self.requests = []
        self.seq = 0

    @property
    def now(self):
        return self.clock.now

    def give(self, data):
        """Bytes, or a list of frames, come to the master; it takes them."""
        if self.wire.medium == "can":
            self.wire.give_all(data)
        else:
            self.wire.stream.give(data)
        self.driver.step(self.now)

    def _sent(self):
        if self.wire.medium == "can":
            return self.wire.sent()
        data = self.wire.stream.took()
        return [data] if data else []

    def pass_ms(self, ms=1):
        """Time goes by, nothing else; days of it in parts, as the clock must be looked at."""
        while ms > 86400000:
            self.board.clock.pass_ms(86400000)
            self.clock.tick()
            ms -= 86400000
        self.board.clock.pass_ms(ms)
        self.clock.tick()

    def step(self, ms=1):
        """After `ms` a step of the driver, and the board's answers to what it sent."""
        self.pass_ms(ms)
        self.driver.step(self.now)
        for request in self._sent():
            self.requests = self.requests[-200:] + [request]
            answer = self.reply(request)
            if answer:
                if self.wire.medium == "can":
                    self.wire.give_all(answer)
                else:
                    self.wire.stream.give(answer)

    def run(self, ms, each=1):
        """Steps for `ms`."""
        for _ in range(ms // each):
            self.step(each)

    def begin(self):
        """A scan of the driver begins."""
        self.seq = (self.seq + 1) & 255
        self.driver.begin(self.seq, self.now)

    def scan(self, ms=30000):
        """A scan until it is done, `ms` at most, then evaluated; the ms that it took."""
        began = self.board.clock.total_ms
        self.begin()
        self.step(0)
        while not self.driver.done and self.board.clock.total_ms - began < ms:
            self.step()
        for current in self.currents:
            current.sample(0, self.now)
        check_ages(self.limits, self.now)
        self.limits.scan_finished(self.now)
        while self.limits.evaluating:
            self.limits.evaluate_next(self.now)
        return self.board.clock.total_ms - began

    def greet(self):
        """Scans until every board is known, then one more."""
        for _ in range(6):
            self.scan()
            if self.pack.all_known():
                break
        assert self.pack.all_known()
        self.scan()
        return self

    def mv(self):
        """Fresh cell readings in mV, None where there is none."""
        p = self.pack
        return [p.cell_mv[i] if p.cell_flags[i] & FRESH else None for i in range(p.cells)]

    def dc(self):
        """Fresh temperatures in 0.1 degC, None where there is none."""
        p = self.pack
        return [p.temp_dc[i] if p.temp_flags[i] & FRESH else None for i in range(p.temps)]

    def old(self):
        """Take validity from every reading, so that only new ones are seen."""
        for i in range(self.pack.cells):
            self.pack.cell_flags[i] = 0
        for i in range(self.pack.temps):
            self.pack.temp_flags[i] = 0

    def names(self):
        """Faults that are active or latched."""
        return names_of(self.faults)

    def scans_without_heap(self, answers, scans=20, ms=2):
        """Scans on a locked heap. answers: bytes in the order in which polls are sent, again
        and again; each comes at once. Returns how many were given.
        """
        port = Canned(answers)
        link = self.driver.link
        getattr(link, "_port", link)._stream = port  # a driver may have its own link on a CAN port
        driver = self.driver
        now = self.now
        if LOCKS:
            micropython.heap_lock()
        try:
            for i in range(scans):
                driver.begin(i & 255, now)
                for _ in range(100000):
                    now = (now + ms) & 0x1FFFFFFF
                    driver.step(now)
                    driver.rest(now)
                    if driver.done:
                        break
        finally:
            if LOCKS:
                micropython.heap_unlock()
        assert driver.done
        return port.given

    def broadcasts_without_heap(self, frames, scans=20, ms=5):
        """Scans on a locked heap; frames: bytes that boards broadcast in each."""
        port = Canned([frames])
        self.driver.link._stream = port
        driver = self.driver
        now = self.now
        if LOCKS:
            micropython.heap_lock()
        try:
            for i in range(scans):
                driver.begin(i & 255, now)
                port.at = 0
                for _ in range(20):
                    now = (now + ms) & 0x1FFFFFFF
                    driver.step(now)
                    driver.rest(now)
        finally:
            if LOCKS:
                micropython.heap_unlock()
        assert driver.done


class Canned:
    """A stream that gives the next answer, byte for byte, after each write; allocates nothing."""

    def __init__(self, answers):
        self.answers = answers
        self.next = 0
        self.at = -1
        self.given = 0

    def read(self, buf):
        if self.at < 0:
            return 0
        data = self.answers[self.next]
        n = 0
        while n < len(buf) and self.at < len(data):
            buf[n] = data[self.at]
            n += 1
            self.at += 1
        if self.at >= len(data):
            self.at = -1
            self.next += 1
            if self.next >= len(self.answers):
                self.next = 0
        return n

    def write(self, buf, start, n):
        self.at = 0
        self.given += 1
        return n
