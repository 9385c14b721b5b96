"""The master on a computer: MicroPython's unix port (or CPython) as a board.

The program that starts it hands over descriptors in a JSON argument:
{"stepped": bool, "io": [read, write], "console": fd, "pack": path,
 "ports": {"can0": {"medium": "can", "fd": n, "rate": bit/s or 0}, ..}}. `io` carries
the pins: 16 ints of 32 bits each way (`OUT_*`, `IN_*`). Stepped: the other side owns the time and
answers every wait; otherwise the firmware runs by the computer's clock. A CAN port is an slcan
adapter.
"""

import gc
import json
import select
import sys
import time
from array import array

from bms import ticks
from bms.links.slcan import Slcan
from fdio import ON_MICROPYTHON, FdStream, exactly

# to the other side; the last eight: bytes written to console, port 0..6
OUT_KIND, OUT_PINS, OUT_WAIT_MS, OUT_WRITTEN = 0, 1, 2, 8
WAITING, CHANGED = 1, 2
HEARTBEAT = 8  # pin bit; 0..2 are the coils minus, precharge, plus
# from the other side; the last eight: bytes pending on console, port 0..6
IN_KIND, IN_US, IN_MS, IN_FEEDBACK, IN_VALID, IN_MA, IN_LINK_MV, IN_PENDING = 0, 1, 2, 3, 4, 5, 6, 8
GO, QUIT = 1, 2
WIRED_SHIFT = 8  # feedback bits 0..2 closed, 8..10 wired
MA_VALID, LINK_VALID = 1, 2


if ON_MICROPYTHON:
    from time import ticks_diff, ticks_us  # pyright: ignore[reportAssignmentType]
else:

    def ticks_us():
        return time.monotonic_ns() // 1000  # pyright: ignore[reportAttributeAccessIssue]

    def ticks_diff(later, earlier):
        return later - earlier


class _RealClock:
    """Ticks of 29 bits from the port's own, whose period differs from port to port."""

    def __init__(self):
        self._last = ticks_us()
        self._us = self._part_us = self._ms = 0

    def us(self):
        now = ticks_us()
        passed = ticks_diff(now, self._last)
        self._last = now
        self._us = (self._us + passed) & ticks.MASK
        self._part_us += passed
        return self._us

    def ms(self):
        self.us()
        self._ms = (self._ms + self._part_us // 1000) & ticks.MASK
        self._part_us %= 1000
        return self._ms


class _SteppedClock:
    def __init__(self, frame):
        self._frame = frame

    def ms(self):
        return self._frame[IN_MS]

    def us(self):
        return self._frame[IN_US]


class Board:
    """The HAL contract of every board: clock, console, ports, coils, feedback, sensors, wait."""

    NAME = "HOST"
    # to look at the heap takes no time: there is a line of it every status_period
    HEAP_IS_CHEAP = ON_MICROPYTHON

    def __init__(self):
        args = json.loads(sys.argv[1])
        self._stepped = args["stepped"]
        self.pack_path = args["pack"]
        read, write = args["io"]
        self._from = open(read, "rb", buffering=0)
        self._from_fd = read
        self._to = open(write, "wb", buffering=0)
        self._in = array("i", [0] * 16)
        self._out = array("i", [0] * 16)
        self._pins = 0
        self._fresh_ma = False
        self.console = FdStream(args["console"], self._stepped)
        self._streams = [self.console]
        self.ports = {}
        self._by_port = {}
        self._rates = {}
        for name in sorted(args["ports"]):
            port = args["ports"][name]
            stream = FdStream(port["fd"], self._stepped)
            self._streams.append(stream)
            self._by_port[name] = stream
            self.ports[name] = port["medium"]
            self._rates[name] = port["rate"]
        if self._stepped:
            self.clock = _SteppedClock(self._in)
            self.wait(0)
        else:
            self.clock = _RealClock()
            self._poll = select.poll()
            self._poll.register(self._from, select.POLLIN)
            for stream in self._streams:
                # MicroPython polls objects, CPython descriptors: both take the file
                self._poll.register(stream._file, select.POLLIN)

    def open_can(self, name, rate, filters):
        """The slcan adapter on a CAN port; it lets everything through."""
        return Slcan(self._by_port[name], rate or self._rates[name])

    def open_uart(self, name, rate):
        """The stream of a UART; its speed was set by the program that opened it."""
        return self._by_port[name]

    def started(self):
        """Everything is built: free what building left, so that the heap stands still from here."""
        gc.collect()

    def self_test(self):
        """Nothing of its own to test: b"ok"."""
        return b"ok"

    def ended(self, restart):
        """The program has ended; exit code 3 asks for another start."""
        sys.exit(3 if restart else 0)

    def heap_used(self):
        """Bytes of heap in use, None where the runtime doesn't say."""
        return gc.mem_alloc() if ON_MICROPYTHON else None

    def heap_free(self):
        """Bytes of heap that are free, None where the runtime doesn't say."""
        return gc.mem_free() if ON_MICROPYTHON else None

    def coil(self, which, on):
        """Switch a coil now: 0 minus, 1 precharge, 2 plus."""
        pins = self._pins | 1 << which if on else self._pins & ~(1 << which)
        if pins != self._pins:
            self._pins = pins
            if not self._stepped:
                self._send(CHANGED, 0)

    def feedback(self, which):
        """1 where a contactor's auxiliary contact says closed, 0 open, None where not wired."""
        bits = self._in[IN_FEEDBACK]
        if not bits >> (which + WIRED_SHIFT) & 1:
            return None
        return bits >> which & 1

    def current_ma(self):
        """A new current sample in mA, + = charge; None where there is none since the last call."""
        if not self._fresh_ma:
            return None
        self._fresh_ma = False
        return self._in[IN_MA]

    def link_mv(self):
        """Voltage behind the contactors in mV, None where not measured."""
        return self._in[IN_LINK_MV] if self._in[IN_VALID] & LINK_VALID else None

    def feed(self):
        """Feed the watchdog: here, toggle the heartbeat."""
        self._pins ^= HEARTBEAT
        if not self._stepped:
            self._send(CHANGED, 0)

    def keep(self):
        """No watchdog here."""

    def safe(self):
        """All coils off, whatever the master believes."""
        was = self._pins
        for which in range(3):
            self.coil(which, 0)
        if self._stepped and self._pins != was:
            self._send(CHANGED, 0)

    def pending(self):
        """Bytes wait in the ports' own buffers, and are asked for in each step: False."""
        return False

    def wait(self, ms):
        """Until bytes come, an input changes or `ms` are over."""
        if self._stepped:
            self._send(WAITING, ms)
            self._receive()
            return
        gone = False
        for _file, event in self._poll.ipoll(ms) if ON_MICROPYTHON else self._poll.poll(ms):
            if event & ~select.POLLIN:
                gone = True
            if _file is self._from or _file == self._from_fd:
                self._receive()
        if gone:
            raise OSError("the other side is gone")

    def _send(self, kind, ms):
        out = self._out
        out[OUT_KIND] = kind
        out[OUT_PINS] = self._pins
        out[OUT_WAIT_MS] = ms
        for i in range(len(self._streams)):
            out[OUT_WRITTEN + i] = self._streams[i].written
            self._streams[i].written = 0
        self._to.write(out)

    def _receive(self):
        frame = self._in
        exactly(self._from, frame, 64)
        if frame[IN_KIND] == QUIT:
            raise SystemExit(0)
        self._fresh_ma = bool(frame[IN_VALID] & MA_VALID)
        for i in range(len(self._streams)):
            self._streams[i].pending += frame[IN_PENDING + i]
