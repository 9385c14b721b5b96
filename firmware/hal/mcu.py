"""Common part of all microcontroller boards: coils, feedback, inputs, watchdog, waiting.

The file of a board names its pins and ports. Contactor outputs are low before anything else runs;
at reset the pins are inputs, and the pull-downs of the drivers keep the contactors open. To
"cut" is to switch all coils off in an interrupt of an input.
"""

import gc
import os
import sys
from time import ticks_diff, ticks_ms

import machine
import micropython
from machine import WDT, Pin, Timer, idle, reset
from micropython import const

from bms import heap_lock, start_modules
from hal.clock import Clock

WATCHDOG_MS = const(2000)
_AT_START = ("hal.slot_marker", "hal.spi_can")  # besides those of `bms`
STORE_SLOTS = const(12)  # six records; parts of one or two freeze frames
STORE_SIZE = const(2048)
_PWM_HZ = const(20000)  # above the audible range
_FULL = const(1000)
_SAFETY = const(3)  # of the inputs, the first three can cut
_TEST_MS = const(6)  # of the self-test in one call; its last step ends later
_I2C_US = const(1000)  # time-out of a bus that hangs
_CTRL_C = const(3)


def pack_path():
    """Path of the pack file: in the first folder of sys.path that has one, else "/pack.toml"."""
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

    coils, feedback: pins of minus, precharge, plus of each string; feedback contacts pull their
    pins to ground where the contactor is closed. inputs: pins of interlock, emergency stop, fault
    line, charger, ignition, high = good or present, None where the board has none. heartbeat:
    toggles each time the watchdog is fed. Pins of further strings are set up when they are first
    used; the contactors do so before any port is opened.
    """

    NAME = "?"
    HEAP_IS_CHEAP = False  # counting it takes 17 ms on an RP2040
    TIMER = -1  # id of a timer for `ended`, not used otherwise
    SHARED = ()  # UARTs whose pins the strings after the first may use instead
    ADCS = ()  # pins of the ADC's channels
    I2CS = {}  # by name: arguments of `machine.I2C`
    REFERENCE = (-1, 0, 0)  # an internal ADC channel, its lowest and highest good reading in mV

    def __init__(self, coils, feedback, inputs, heartbeat, console):
        self._coil_pins = coils
        self._feedback_pins = feedback
        self.STRINGS = len(coils) // 3
        self._coils = []
        self._feedback = []
        self._pwms = []
        self._switches = []  # of each coil: what takes 0 for off, looked up once
        self._next_string()
        self._inputs = [None if pin is None else Pin(pin, Pin.IN, Pin.PULL_DOWN) for pin in inputs]
        self._absent = 0  # bits of inputs that can cut but have no pin
        for i in range(_SAFETY):
            if inputs[i] is None:
                self._absent |= 1 << i
        self._guarded = 0
        self._off = False  # after a cut: no coil can be switched on
        self._cut_by = bytearray(_SAFETY)
        self._cut_new = False
        self._adcs = []  # made at first use
        for _ in self.ADCS:
            self._adcs.append(None)
        self._heartbeat = Pin(heartbeat, Pin.OUT, value=0)
        self._beat = 0
        self._watchdog = None
        self._timer = None
        self._links = []
        self._rings = []
        self._ring_link = None
        self.ring = None  # see `pending`
        self._sleep = idle  # until an interrupt, at most `_sleep_ms`; for a ring alone
        self._sleep_ms = 1
        self.pack_path = pack_path()
        self.clock = Clock()
        self.console = console
        self._storage = None
        self._check = None  # of the firmware's files, while it runs
        self.ports = {}

    def _next_string(self):
        first = len(self._coils)
        for pin in self._coil_pins[first : first + 3]:
            self._coils.append(Pin(pin, Pin.OUT, value=0))
            self._pwms.append(None)
            self._switches.append(self._coils[-1].value)
        for pin in self._feedback_pins[first : first + 3]:
            self._feedback.append(None if pin is None else Pin(pin, Pin.IN, Pin.PULL_UP))

    def linked(self, link):
        """Let `wait` return when this link has received something; returns the link."""
        at = getattr(link, "at", None)
        if at is not None and not link.polled:
            self._rings.append(at)  # filled by an interrupt: can be checked without a call
            self._ring_link = link
        else:
            self._links.append(link)
        self.ring = self._rings[0] if len(self._rings) == 1 and not self._links else None
        return link

    def taken(self, name):
        """Reserve the pins of a UART that is about to be opened; returns its name.

        Raises ValueError where contactors use its pins already.
        """
        if name in self.SHARED:
            if len(self._coils) > 3:
                raise ValueError("the second string's contactors have the pins of " + name)
            self.STRINGS = 1
        return name

    # --- contactors ---

    def coil(self, which, pm):
        """Switch a coil now: 3 * string + 0 minus, 1 precharge, 2 plus.

        pm: 0 off, 1000 (or 1) full voltage, between them PWM. After a cut it stays off.
        """
        while which >= len(self._coils) and len(self._coils) < 3 * self.STRINGS:
            self._next_string()
        pwm = self._pwms[which]
        if self._off:
            pm = 0
        if pwm is None and 1 < pm < _FULL:
            locked = heap_lock.unlock()  # esp32 allocates; other ports have a table
            pwm = self._pwms[which] = machine.PWM(self._coils[which], freq=_PWM_HZ, duty_u16=0)
            self._switches[which] = pwm.duty_u16
            heap_lock.restore(locked)
        if pwm is None:
            self._coils[which].value(pm)
        else:
            pwm.duty_u16(pm * 65535 // _FULL if 1 < pm < _FULL else 65535 if pm else 0)
        if self._off and pm:
            self.safe()  # the interrupt came after the check above

    def feedback(self, which):
        """Auxiliary contact of a contactor: 1 closed, 0 open, None not wired."""
        pin = self._feedback[which]
        if pin is None:
            return None
        return 0 if pin.value() else 1

    def safe(self):
        """Switch all coils off, in any state of the master. Interrupts call it too."""
        for switch in self._switches:
            switch(0)  # PWM: from the next period on, 50 us

    # --- inputs ---

    def inputs(self):
        """Bits, 1 = good or present: 1 interlock, 2 emergency stop, 4 fault line, 8 charger,
        16 ignition. Cuts where a guarded one is bad and its interrupt was missed.
        """
        bits = self._absent
        bit = 1
        for pin in self._inputs:
            if pin is not None and pin.value():
                bits |= bit
            bit <<= 1
        if self._guarded & ~bits and not self._off:
            self._cut(self._guarded & ~bits)
        return bits

    def guard(self, mask):
        """From now on inputs of `mask` (bits 1, 2, 4) cut in their interrupt when they go bad.

        One that is bad already cuts at once.
        """
        for i in range(_SAFETY):
            pin = self._inputs[i]
            if mask >> i & 1 and pin is not None:
                self._guarded |= 1 << i
                self._enable_interrupt(pin)
            elif self._guarded >> i & 1 and pin is not None:
                self._guarded &= ~(1 << i)
                pin.irq(None)
        self.inputs()

    def _enable_interrupt(self, pin):
        pin.irq(self._fell, Pin.IRQ_FALLING, hard=True)

    def _fell(self, pin):
        # interrupt: must not allocate or raise; MicroPython disables a handler that does
        if not self._guarded:
            return
        self._off = True  # before the pins: what `coil` switches on meanwhile it takes back
        self.safe()  # before all else: each us counts
        for i in range(_SAFETY):
            if self._inputs[i] is pin:
                self._cut_by[i] = 1
        self._cut_new = True

    def _cut(self, bits):
        self._off = True  # before the pins: then `coil` undoes what it has just switched on
        self.safe()
        for i in range(_SAFETY):
            if bits >> i & 1:
                self._cut_by[i] = 1
        self._cut_new = True

    def check_cuts(self):
        """Bits of the inputs that have cut since the last call, then 0."""
        if not self._cut_new:
            return 0
        self._cut_new = False  # before the loop: an interrupt from here on sets it again
        bits = 0
        for i in range(_SAFETY):
            if self._cut_by[i]:
                self._cut_by[i] = 0
                bits |= 1 << i
        return bits

    def rearm(self):
        """Allow coils to be switched on again; a guarded input that is still bad cuts again."""
        self._off = False
        if self._guarded:
            self.inputs()

    # --- sensors ---

    MEASURES = ()  # settings of the sensors that a board has by itself

    def current_ma(self, string=0):
        """No current sensor on this board: None."""
        return None

    def link_mv(self):
        """The voltage behind the contactors is not measured on this board: None."""
        return None

    def string_mv(self, string):
        """The voltage of a string is not measured on this board: None."""
        return None

    def isolation_kohm(self):
        """No isolation monitor on this board: None."""
        return None

    def adc_mv(self, channel):
        """Voltage at the pin of an ADC channel in mV, None where the board has none.

        The first call for a channel sets up its pin, and allocates.
        """
        if channel >= len(self._adcs):
            return None
        adc = self._adcs[channel]
        if adc is None:
            locked = heap_lock.unlock()
            adc = self._adcs[channel] = self._adc(Pin(self.ADCS[channel]))
            heap_lock.restore(locked)
        return self._mv(adc)

    def _adc(self, pin):
        return machine.ADC(pin)

    def _mv(self, adc):
        return adc.read_u16() * 3300 // 65535

    def open_i2c(self, name, hz):
        """An I2C bus: `readfrom_mem_into`, `writeto_mem`. Raises ValueError for an unknown name."""
        if name not in self.I2CS:
            raise ValueError("no " + name + " on this board")
        how = {}
        for key in self.I2CS[name]:
            value = self.I2CS[name][key]
            how[key] = value if key == "id" else Pin(value)
        return self._i2c(freq=hz, timeout=_I2C_US, **how)

    def _i2c(self, **how):
        return machine.I2C(how.pop("id"), **how)

    # --- life ---

    @property
    def storage(self):
        """`FileStorage` beside the folders of the firmware; None where it can't be made.

        During a write the flash can't be read: no interrupt runs, so no input cuts.
        """
        if self._storage is None:
            from hal.storage import FileStorage

            try:
                folder = os.getcwd().rstrip("/") + "/store"
                self._storage = FileStorage(folder, STORE_SLOTS, STORE_SIZE, keep=False)
            except OSError:
                pass
        return self._storage

    def reset_cause(self):
        """b"power_on" (on most chips a brown-out too), b"watchdog", b"reset", b"unknown"."""
        cause = machine.reset_cause()
        if cause == machine.WDT_RESET:
            return b"watchdog"
        if cause == machine.PWRON_RESET:
            return b"power_on"
        if cause == machine.HARD_RESET or cause == machine.SOFT_RESET:
            return b"reset"
        return b"unknown"

    def self_test(self):
        """b"ok", or what failed: a coil output that reads high, the ADC, the clock, a file.

        b"running" while files are checked: each call takes about 10 ms, and allocates.
        Outputs are read at their pins, so a short to the supply is found; they are not switched on
        for a test. Files in the folder of the firmware are checked if `bmsctl flash` wrote them; a
        frozen image, the switch and MicroPython itself are not.
        """
        if self._check is None:
            failed = self._test_pins()
            if failed:
                return failed
            from hal import slot_marker

            self._check = slot_marker.steps()
        start = ticks_ms()
        try:
            result = next(self._check)
            while result == b"running" and ticks_diff(ticks_ms(), start) < _TEST_MS:
                result = next(self._check)
        except Exception:  # whatever it is: the files are not proven to be whole
            result = b"a file of the firmware can't be read"
        if result != b"running":
            self._check = None
            gc.collect()  # nothing of the check stays
        return result

    def _test_pins(self):
        """What failed of outputs, ADC and clock, as bytes; None = nothing."""
        for which in range(len(self._coils)):
            if self._coils[which].value():
                return b"coil output %d is high" % (which + 1)
        channel, low, high = self.REFERENCE
        if channel >= 0 and not low <= self._mv(machine.ADC(channel)) <= high:
            return b"ADC reference"
        start = self.clock.us()
        for _ in range(1000):
            if self.clock.us() != start:
                return None
        return b"clock"

    def forget(self):
        """Free the modules that only the start needs, as far as they are loaded."""
        start_modules.free(_AT_START)

    def started(self):
        """Everything is built: start the watchdog; Ctrl-C becomes an ordinary byte."""
        micropython.kbd_intr(-1)
        from bms import constructors

        constructors.forget()
        self.forget()
        self._watchdog = WDT(timeout=WATCHDOG_MS)

    def feed(self):
        """Feed the watchdog and toggle the heartbeat."""
        self.keep()
        self._beat ^= 1
        self._heartbeat.value(self._beat)

    def keep(self):
        """Feed the watchdog without toggling the heartbeat."""
        if self._watchdog is not None:
            self._watchdog.feed()

    def ended(self, restart):
        """The program has ended with the contactors open: restart, or return to the REPL.

        The watchdog can't be stopped: a timer feeds it; the heartbeat no longer toggles.
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
        """True where a port has received something.

        With a `ring` the same as ring[0] != ring[1], without a call: that of the only link.
        """
        for at in self._rings:
            if at[0] != at[1]:
                return True
        for link in self._links:
            if link.ready():
                return True
        return False

    def wait(self, ms):
        """Wait until a port receives something, at most `ms`; the processor sleeps meanwhile."""
        if self.ring is not None:
            sleep = idle if ms < self._sleep_ms else self._sleep
            self._ring_link.wait(ms, ticks_ms, sleep)  # pyright: ignore[reportOptionalMemberAccess]
            return
        rings = self._rings
        links = self._links
        start = ticks_ms()
        while ticks_diff(ticks_ms(), start) < ms:
            # as `pending`, but without a call: this loop must be fast
            for at in rings:
                if at[0] != at[1]:
                    return
            for link in links:
                if link.ready():
                    return
            idle()  # 1 ms at most: such a link has no interrupt that would end a longer sleep
