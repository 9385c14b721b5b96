"""What all microcontroller boards share: coils, feedback, watchdog, console, waiting.

A board's own file names its pins and ports. Contactor outputs are low before anything else runs;
at reset the pins are inputs, and the pull-downs of the drivers keep the contactors open.
"""

import gc
import os
import sys
from time import ticks_diff, ticks_ms

import micropython
from machine import WDT, Pin, Timer, idle, reset
from micropython import const

import bms
from hal.clock import Clock

WATCHDOG_MS = const(2000)
_AT_START = ("config", "self_test")  # modules that nothing needs once all is built
_CTRL_C = const(3)


def pack_path():
    """Path of the pack file: in the first folder of sys.path that has one; "/pack.toml" else."""
    for folder in sys.path:
        path = folder + "/pack.toml"
        try:
            os.stat(path)
            return path
        except OSError:
            pass
    return "/pack.toml"


class McuBoard:
    """The HAL contract of every board (see boards/HOST), but for its ports.

    coils, feedback: pins of minus, precharge, plus; feedback contacts pull their pins to ground
    where the contactor is closed. heartbeat: toggles each time the watchdog is fed.
    """

    NAME = "?"
    STRINGS = 1
    HEAP_IS_CHEAP = False  # 17 ms on an RP2040: the whole heap is walked through
    TIMER = -1  # id of a timer that nobody else uses

    def __init__(self, coils, feedback, heartbeat, console):
        self._coils = [Pin(pin, Pin.OUT, value=0) for pin in coils]
        self._feedback = [Pin(pin, Pin.IN, Pin.PULL_UP) for pin in feedback]
        self._heartbeat = Pin(heartbeat, Pin.OUT, value=0)
        self._beat = 0
        self._watchdog = None
        self._timer = None
        self._links = []
        self._rings = []
        self.pack_path = pack_path()
        self.clock = Clock()
        self.console = console
        self.ports = {}

    def linked(self, link):
        """Wake up from `wait` when this link has something; the link."""
        at = getattr(link, "at", None)
        if at is not None and not link.polled:
            self._rings.append(at)  # filled by an interrupt: a look at it costs no call
        else:
            self._links.append(link)
        return link

    # --- contactors ---

    def coil(self, which, pm):
        """Switch a coil now: 0 minus, 1 precharge, 2 plus."""
        self._coils[which].value(1 if pm else 0)

    def feedback(self, which):
        """1 where a contactor's auxiliary contact says closed, 0 open."""
        return 0 if self._feedback[which].value() else 1

    def safe(self):
        """All coils off, whatever the master believes."""
        for pin in self._coils:
            pin.value(0)

    # --- sensors ---

    def current_ma(self, string):
        """No current sensor on this board: None."""
        return None

    def link_mv(self):
        """The voltage behind the contactors is not measured on this board: None."""
        return None

    def string_mv(self, string):
        """Voltage of a string before its contactors in mV, None where not measured."""
        return None

    def isolation_kohm(self):
        """Isolation resistance, None where not measured."""
        return None

    def inputs(self):
        """No inputs: interlock closed, no stop, no fault."""
        return 7

    def guard(self, mask):
        """No inputs that could cut."""

    def cuts(self):
        """No input has cut: 0."""
        return 0

    def rearm(self):
        """Nothing was cut."""

    # --- life ---

    def self_test(self):
        """b"ok", or what failed: a coil output that isn't low, a clock that stands."""
        for which in range(len(self._coils)):
            if self._coils[which].value():
                return b"coil output %d is high" % (which + 1)
        start = self.clock.us()
        for _ in range(1000):
            if self.clock.us() != start:
                return b"ok"
        return b"clock"

    def started(self):
        """Everything is built: the watchdog runs from here, and Ctrl-C is a byte like others."""
        micropython.kbd_intr(-1)
        for name in _AT_START:
            if sys.modules.pop("bms." + name, None):
                delattr(bms, name)
        gc.collect()
        self._watchdog = WDT(timeout=WATCHDOG_MS)

    def feed(self):
        """Feed the watchdog and toggle the heartbeat."""
        self.keep()
        self._beat ^= 1
        self._heartbeat.value(self._beat)

    def keep(self):
        """Feed the watchdog, and leave the heartbeat as it is."""
        if self._watchdog is not None:
            self._watchdog.feed()

    def ended(self, restart):
        """The program has ended with the contactors open: start again, or give back the REPL.

        A watchdog can't be stopped; a timer feeds it, and the heartbeat stands still.
        """
        if restart:
            reset()
        micropython.kbd_intr(_CTRL_C)
        self._timer = Timer(self.TIMER, period=WATCHDOG_MS // 4, callback=self._keep)

    def _keep(self, _timer):
        self.keep()

    def heap_used(self):
        """Bytes of heap in use."""
        return gc.mem_alloc()

    def heap_free(self):
        """Bytes of heap that are free."""
        return gc.mem_free()

    def pending(self):
        """True where something has come on a port."""
        for at in self._rings:
            if at[0] != at[1]:
                return True
        for link in self._links:
            if link.ready():
                return True
        return False

    def wait(self, ms):
        """Until something came on a port, or `ms` are over; the processor sleeps meanwhile."""
        rings = self._rings
        links = self._links
        start = ticks_ms()
        while ticks_diff(ticks_ms(), start) < ms:
            # what `pending` does, without its call: the processor's time goes by here
            for at in rings:
                if at[0] != at[1]:
                    return
            for link in links:
                if link.ready():
                    return
            idle()
