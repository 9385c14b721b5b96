"""The master on a computer: MicroPython's unix port (or CPython) as a board.

The program that starts it hands over descriptors in JSON, cut into as many arguments as it needs:
{"stepped": bool, "io": [read, write], "console": fd, "pack": path,
 "ports": {"can0": {"medium": "can", "fd": n, "rate": bit/s or 0}, ..}, "store": folder or null,
"adcs": channels that the simulator gives, 0 without it}.
`io` carries the pins: 48 ints of 32 bits each way (`OUT_*`, `IN_*`). Stepped: the other side owns
the time and answers every wait, and the bytes of the streams follow the ints, so that a step is one
write and one answer: to the firmware the console's first, from it as `Outgoing` has them. Otherwise
the firmware runs by the computer's clock, and each stream is a descriptor. A CAN port is an slcan
adapter.
"""

import gc
import json
import select
import sys
import time
from array import array

import bytecode_kernels  # noqa: F401  (before whatever imports the kernels)
from bms import start_modules, ticks
from bms.links.slcan import Slcan
from fdio import IN_ROOM, ON_MICROPYTHON, FdStream, Outgoing, SteppedStream, exactly, splice

# to the other side: kind, coils and heartbeat, ms to wait, coils that are economised (bits as the
# coils'), lines to be held low (bits: 1 console, 2 port 0, ..), bytes of the streams that follow
OUT_KIND, OUT_PINS, OUT_WAIT_MS, OUT_HELD, OUT_LOW, OUT_FOLLOW = 0, 1, 2, 3, 4, 5
WAITING, CHANGED = 1, 2
# pin bits: coil 3 * string + (0 minus, 1 precharge, 2 plus)
COILS = 0xFFFFFF
HEARTBEAT = 1 << 24
# from the other side: kind, time, auxiliary contacts and which are wired (bits as the coils'),
# what is valid, inputs, link voltage, 8..15 bytes that follow for console, port 0..6, isolation,
# reset cause, 24..31 currents, 32..39 voltages of the strings, 40..46 ADC channels, two in each
IN_KIND, IN_US, IN_MS, IN_FEEDBACK, IN_WIRED, IN_VALID, IN_INPUTS, IN_LINK_MV = range(8)
IN_PENDING, IN_KOHM, IN_CAUSE, IN_MA, IN_STRING_MV, IN_ADC = 8, 16, 17, 24, 32, 40
GO, QUIT = 1, 2
LINK_VALID, KOHM_VALID = 1, 2
FIRST_MA_VALID, FIRST_MV_VALID = 8, 16
GOOD = 7  # input bits of interlock, emergency stop and fault line
CAUSES = (b"power_on", b"watchdog", b"reset", b"brown_out", b"unknown")
WORDS = 48
STORE_SLOTS, STORE_SIZE = 16, 4096
OUT_ROOM = 4096  # bytes that the streams take in a step

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
    STRINGS = 8
    # to look at the heap takes no time: there is a line of it every status_period
    HEAP_IS_CHEAP = ON_MICROPYTHON
    ring = None  # `pending` must be called

    def __init__(self):
        args = json.loads("".join(sys.argv[1:]))
        self._stepped = args["stepped"]
        self.pack_path = args["pack"]
        self.ADCS = tuple(range(args.get("adcs", 0)))  # a computer has none of its own
        read, write = args["io"]
        self._from = open(read, "rb", buffering=0)
        self._from_fd = read
        self._to = open(write, "wb", buffering=0)
        self._in = array("i", [0] * WORDS)
        self._in[IN_INPUTS] = GOOD
        self._pins = 0
        self._held = 0
        self._fresh_ma = 0  # a bit a string
        self._guarded = 0
        self._cut = False
        self._cuts = 0
        self.storage = None
        if args.get("store"):
            from hal.storage import FileStorage  # pyright: ignore[reportMissingImports]

            self.storage = FileStorage(args["store"], STORE_SLOTS, STORE_SIZE)
        self._out = array("i", [0] * WORDS)
        # viper takes ints as bytes
        self._out_bytes = self._out if ON_MICROPYTHON else memoryview(self._out).cast("B")
        room = 4 * WORDS + (OUT_ROOM if self._stepped else 0)
        self._outgoing = Outgoing(bytearray(room), 4 * WORDS, room)
        self._spare = bytearray(IN_ROOM if self._stepped else 0)
        self._streams = []
        self.console = self._stream(args["console"])
        self.ports = {}
        self._by_port = {}
        self._rates = {}
        for name in sorted(args["ports"]):
            port = args["ports"][name]
            stream = self._stream(port["fd"])
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
            if ON_MICROPYTHON:
                for _ in self._poll.ipoll(0):  # the first call allocates
                    break

    def _stream(self, fd):
        if self._stepped:
            stream = SteppedStream(len(self._streams), self._outgoing, self._spare)
        else:
            stream = FdStream(fd)
        self._streams.append(stream)
        return stream

    def open_can(self, name, rate, filters):
        """The slcan adapter on a CAN port; it lets everything through."""
        return Slcan(self._by_port[name], self._rates[name] or rate)

    def open_uart(self, name, rate):
        """The stream of a UART; its speed was set by the program that opened it."""
        return self._by_port[name]

    def forget(self):
        """Free the modules that only the start needs, as the boards do (hal/mcu.py)."""
        if ON_MICROPYTHON:  # CPython's tests share the modules
            start_modules.free()

    def started(self):
        """Everything is built: free what building left, so that the heap stands still from here."""
        if ON_MICROPYTHON:
            from bms import constructors

            constructors.forget()
        self.forget()

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

    def reset_cause(self):
        """Why the program starts: one of CAUSES."""
        return CAUSES[self._in[IN_CAUSE]]

    def coil(self, which, pm):
        """Switch a coil now: 3 * string + (0 minus, 1 precharge, 2 plus).

        pm: permille of its voltage; 0 off, 1 (a plain `on`) or 1000 full.
        """
        if self._cut:
            return
        bit = 1 << which
        pins = self._pins | bit if pm else self._pins & ~bit
        held = self._held | bit if 1 < pm < 1000 else self._held & ~bit
        if pins != self._pins or held != self._held:
            self._pins = pins
            self._held = held
            if not self._stepped:
                self._send(CHANGED, 0)

    def feedback(self, which):
        """1 where a contactor's auxiliary contact says closed, 0 open, None where not wired."""
        if not self._in[IN_WIRED] >> which & 1:
            return None
        return self._in[IN_FEEDBACK] >> which & 1

    MEASURES = ("current_sensor", "link_sensor", "voltage_sensor", "isolation_sensor")

    def current_ma(self, string=0):
        """A new sample of a string in mA, + = charge; None where there is none since the last."""
        bit = 1 << string
        if not self._fresh_ma & bit:
            return None
        self._fresh_ma &= ~bit
        return self._in[IN_MA + string]

    def link_mv(self):
        """Voltage behind the contactors in mV, None where not measured."""
        return self._in[IN_LINK_MV] if self._in[IN_VALID] & LINK_VALID else None

    def string_mv(self, string):
        """Voltage of a string before its contactors in mV, None where not measured."""
        if not self._in[IN_VALID] >> (FIRST_MV_VALID + string) & 1:
            return None
        return self._in[IN_STRING_MV + string]

    def isolation_kohm(self):
        """Isolation resistance of the high voltage, None where not measured."""
        return self._in[IN_KOHM] if self._in[IN_VALID] & KOHM_VALID else None

    def adc_mv(self, channel):
        """Voltage at an ADC channel in mV."""
        return self._in[IN_ADC + channel // 2] >> channel % 2 * 16 & 0xFFFF

    def inputs(self):
        """Bits, 1 = good or there: 1 interlock, 2 emergency stop, 4 fault line, 8 charger,
        16 ignition."""
        return self._in[IN_INPUTS]

    def guard(self, mask):
        """From now on all coils go off as soon as an input in `mask` goes bad, until `rearm`."""
        self._guarded = mask & GOOD
        self._look()

    def check_cuts(self):
        """Bits of the inputs that have cut the coils since the last call."""
        cuts = self._cuts
        self._cuts = 0
        return cuts

    def rearm(self):
        """Coils may be switched again, unless a guarded input is still bad."""
        self._cut = False
        self._look()

    def _look(self):
        """What a pin's interrupt does on a microcontroller."""
        bad = self._guarded & ~self._in[IN_INPUTS]
        if bad:
            self._cuts |= bad
            self._cut = True
            if self._pins & COILS:
                self._pins &= ~COILS
                self._held = 0
                self._send(CHANGED, 0)

    def feed(self):
        """Feed the watchdog: here, toggle the heartbeat."""
        self._pins ^= HEARTBEAT
        if not self._stepped:
            self._send(CHANGED, 0)

    def keep(self):
        """No watchdog here."""

    def safe(self):
        """All coils off, whatever the master believes."""
        if self._pins & COILS:
            self._pins &= ~COILS
            self._held = 0
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
        out[OUT_HELD] = self._held
        out[OUT_LOW] = 0
        i = 0
        for stream in self._streams:
            if stream.lows:
                stream.lows = 0
                out[OUT_LOW] |= 1 << i
            i += 1
        outgoing = self._outgoing
        n = outgoing.end
        outgoing.end = outgoing.start
        out[OUT_FOLLOW] = n - outgoing.start
        splice(outgoing.data, 0, self._out_bytes, 0, outgoing.start)
        if ON_MICROPYTHON:
            self._to.write(outgoing.data, 0, n)
        else:
            self._to.write(memoryview(outgoing.data)[:n])

    def _receive(self):
        frame = self._in
        exactly(self._from, frame, 4 * WORDS)
        if frame[IN_KIND] == QUIT:
            raise SystemExit(0)
        i = IN_PENDING
        for stream in self._streams:
            if frame[i]:
                stream.take(self._from, frame[i])
            i += 1
        self._fresh_ma = frame[IN_VALID] >> FIRST_MA_VALID & 0xFF
        if self._guarded & ~frame[IN_INPUTS]:
            self._look()
