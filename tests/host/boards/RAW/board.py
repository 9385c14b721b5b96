"""A board whose console is the REPL's, as on a microcontroller; nothing else is wired."""

import gc
import sys
from time import sleep_ms, ticks_diff, ticks_ms

import machine
import micropython

from hal.clock import Clock
from hal.console import UsbConsole
from hal.storage import FileStorage

COILS = (0, 1, 2)
TEST_MS = 300  # of the self-test


class _Silence:
    """A CAN bus without slaves."""

    polled = False
    rate = 500000
    rx = tx = damaged = dropped = 0

    def poll(self, sink, now):
        pass

    def send(self, ident, data, n):
        return True


class Board:
    NAME = "RAW"
    STRINGS = len(COILS) // 3
    HEAP_IS_CHEAP = False
    MEASURES = ()
    ring = None

    def __init__(self):
        self.pack_path = sys.path[0] + "/pack.toml"
        self.clock = Clock()
        self.console = UsbConsole()
        self.ports = {"can0": "can"}
        self.storage = FileStorage("store", 8, 1280)
        self.welded = machine.welded()
        self._started_at = ticks_ms()

    def open_can(self, name, rate, filters):
        return _Silence()

    def coil(self, which, pm):
        pass

    def feedback(self, which):
        return 1 if self.welded and which == 0 else 0

    def safe(self):
        pass

    def current_ma(self, string):
        return None

    def string_mv(self, string):
        return None

    def isolation_kohm(self):
        return None

    def inputs(self):
        return 7

    def guard(self, mask):
        pass

    def check_cuts(self):
        return 0

    def rearm(self):
        pass

    def reset_cause(self):
        return b"power_on"

    def forget(self):
        gc.collect()

    def link_mv(self):
        return None

    def self_test(self):
        return b"running" if ticks_diff(ticks_ms(), self._started_at) < TEST_MS else b"ok"

    def started(self):
        micropython.kbd_intr(-1)
        gc.collect()

    def feed(self):
        pass

    def pending(self):
        return False

    def keep(self):
        pass

    def heap_used(self):
        return gc.mem_alloc()

    def heap_free(self):
        return gc.mem_free()

    def wait(self, ms):
        sleep_ms(ms if ms else 1)

    def ended(self, restart):
        if restart:
            machine.reset()
        micropython.kbd_intr(3)
