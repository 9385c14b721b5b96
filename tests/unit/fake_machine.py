"""Strict stand-ins for `machine` and `pyb`: they refuse what the real ports refuse.

`load` puts them in the place of the real ones while a board's file is imported. The facts
are those of MicroPython 1.28: `ports/*/machine_uart.c`, `docs/library/machine.CAN.rst` and so on.
Runs on both runtimes.
"""

import sys

import micropython

from bms.links.can import EXTENDED

LOCKS = hasattr(micropython, "heap_lock")
# PWM of stm32 pins: timer, channel; the second of two, as the port chooses (`machine_pwm.c`)
TIMERS = {
    "C0": (1, 1),
    "C1": (1, 2),
    "C2": (20, 2),
    "C3": (1, 4),
    "B0": (3, 3),
    "B1": (3, 4),
    "E9": (1, 1),
    "E11": (1, 2),
    "E13": (1, 3),
    "C6": (8, 1),
    "C7": (8, 2),
    "C8": (8, 3),
    "C9": (8, 4),
    "B10": (2, 3),
    "B11": (2, 4),
    "X1": (5, 1),
    "X2": (5, 2),
    "X3": (5, 3),
    "Y11": (3, 3),
    "Y12": (3, 4),
    "Y7": (12, 1),
}
# what the Pyboard calls some of its chip's pins
CHIP = {"Y5": "B12", "Y6": "B13", "X11": "C4", "X12": "C5", "X22": "C3"}
ANALOG = ("A0", "A1", "A4", "A6", "C0", "C3", "X19", "X20", "X21")


class Refused(Exception):
    """The program asked for what the port does not do."""


class State:
    """What the fakes have done since `load`; `pins` by name, `ms` is the time."""

    def __init__(self, port):
        self.port = port
        self.pins = {}
        self.uarts = {}
        self.spis = {}
        self.cans = {}
        self.timers = {}
        self.watchdog = None
        self.vcp = None
        self.host = None
        self.feeds = 0
        self.resets = 0
        self.idles = 0
        self.ms = 1000
        self.interrupt_char = 3
        self.on_idle = None
        self.pwms = {}  # by slice or timer and channel
        self.lines = {}  # pins with an interrupt, by EXTI line (stm32)
        self.scheduled = []  # soft interrupts that wait
        self.deaf = False  # interrupts are lost
        self.locked = False  # within a hard interrupt
        self.before_write = None  # called as a program sets a pin
        self.mv = {}  # what the ADC sees, by pin or channel
        self.cause = 1
        self.memory = {}


now = State("")


class Pin:
    IN, OUT = 0, 1
    PULL_UP, PULL_DOWN = 1, 2
    IRQ_FALLING, IRQ_RISING = 4, 8

    def __init__(self, id, mode=-1, pull=-1, *, value=None):
        if not isinstance(id, (int if now.port != "stm32" else str)):
            raise Refused("a pin of %s called %r" % (now.port, id))
        if id in now.pins and mode >= 0:
            raise Refused("pin %s is used already" % id)
        self.id = id
        self.mode = mode
        self.pull = pull
        self.level = 1 if pull == Pin.PULL_UP else 0
        if mode == Pin.OUT:
            self.level = value or 0
        self.history = [self.level]
        self.handler = None
        self.hard = False
        self.trigger = 0
        self.pwm = None
        self.analog = False
        if id not in now.pins:
            now.pins[id] = self

    def value(self, level=None):
        if level is None:
            return 0 if self.analog else self.level
        if self.mode != Pin.OUT:
            raise Refused("pin %s is no output" % self.id)
        if self.pwm:
            if self.pwm.duty:
                raise Refused("PWM has pin %s: a level does nothing" % self.id)
            return
        if now.before_write and not now.locked:
            now.before_write()
        self.level = 1 if level else 0
        if not now.locked:
            self.history.append(self.level)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def irq(self, handler=None, trigger=0, hard=False):
        if hard and now.port == "esp32":
            raise TypeError("extra keyword arguments given")
        if self.mode != Pin.IN:
            raise Refused("an interrupt of an output")
        if now.port == "stm32":
            line = int(CHIP.get(self.id, self.id)[1:])
            if now.lines.get(line, self) is not self:
                raise ValueError("ExtInt vector %d is already in use" % line)
            now.lines[line] = self
        self.handler = handler
        self.trigger = trigger
        self.hard = hard

    def drive(self, level):
        """From outside."""
        if self.mode == Pin.OUT:
            raise Refused("two drive pin %s" % self.id)
        edge = Pin.IRQ_FALLING if self.level and not level else 0
        if level and not self.level:
            edge = Pin.IRQ_RISING
        self.level = level
        if not self.handler or not edge & self.trigger or now.deaf:
            return
        if not self.hard:
            now.scheduled.append(self)
            return
        # as the port calls it: nothing can be allocated, what is raised switches it off for good
        now.locked = True
        if LOCKS:
            micropython.heap_lock()
        try:
            self.handler(self)
        finally:
            if LOCKS:
                micropython.heap_unlock()
            now.locked = False


class PWM:
    """`duty`: of 65535; an output driven by it doesn't hear its pin."""

    def __init__(self, pin, *, freq, duty_u16):
        if pin.mode != Pin.OUT or now.pins[pin.id] is not pin:
            raise Refused("PWM of what is no output")
        if now.port == "stm32" and pin.id not in TIMERS:
            raise ValueError("Pin(%s) doesn't have PWM capabilities" % pin.id)
        where = pin.id
        if now.port == "stm32":
            where = TIMERS[pin.id]
        elif now.port == "rp2":
            where = (pin.id >> 1 & 7, pin.id & 1)
        if where in now.pwms:
            raise Refused("a second PWM of %s" % (where,))
        if not 15000 < freq < 30000:
            raise Refused("a coil that is heard")
        now.pwms[where] = self
        self.pin = pin
        self.duty = 0
        pin.pwm = self
        self.duty_u16(duty_u16)

    def duty_u16(self, duty):
        if not 0 <= duty <= 65535:
            raise Refused("a duty of %d" % duty)
        if now.before_write and not now.locked:
            now.before_write()
        self.duty = duty
        self.pin.level = 1 if duty else 0
        if not now.locked:
            self.pin.history.append(self.pin.level)


def _wire(pin):
    if not isinstance(pin, Pin) or now.pins[pin.id] is not pin or pin.mode >= 0:
        raise Refused("a pin that is used already")
    return pin.id


class I2C:
    """What is asked for when it is opened; no device is on it."""

    def __init__(self, id, *, freq, timeout, scl=None, sda=None):
        if timeout > 2000:
            raise Refused("a bus that hangs stops the cycle")
        if now.port == "stm32":
            if id not in (1, 2) or scl or sda:
                raise ValueError("I2C(%s) doesn't exist" % id)
        elif now.port == "rp2" and (_wire(scl) & 3 != 1 or _wire(sda) & 3 or id):
            raise ValueError("bad SCL pin")
        self.freq = freq


class SoftI2C:
    def __init__(self, *, freq, timeout, scl, sda):
        _wire(scl)
        _wire(sda)
        self.freq = freq


class ADC:
    ATTN_11DB = 3

    def __init__(self, source, atten=0):
        if isinstance(source, Pin):
            allowed = {"rp2": (26, 27, 28), "esp32": tuple(range(1, 11)), "stm32": ANALOG}[now.port]
            if source.id not in allowed:
                raise ValueError("Pin doesn't have ADC capabilities")
            now.pins[source.id].analog = True
            source = source.id
        elif source != {"rp2": 4, "stm32": 256}.get(now.port):
            raise ValueError("no such channel")
        if now.port == "esp32" and atten != ADC.ATTN_11DB:
            raise Refused("an input that ends at 950 mV")
        self.source = source

    def read_u16(self):
        if now.port == "esp32":
            raise Refused("what isn't calibrated")
        return now.mv.get(self.source, 0) * 65535 // 3300

    def read_uv(self):
        if now.port != "esp32":
            raise AttributeError("read_uv")
        return now.mv.get(self.source, 0) * 1000


class _Memory:
    def __getitem__(self, address):
        return now.memory.get(address, 0)


class SPI:
    """`chip` (with select, exchange, deselect) is put on it; `cs` tells when it is selected."""

    def __init__(
        self, id, baudrate=1000000, *, polarity=0, phase=0, sck=None, mosi=None, miso=None
    ):
        if (polarity, phase) != (0, 0):
            raise Refused("the chips take mode 0")
        if now.port == "stm32" and (sck is not None or mosi is not None):
            raise TypeError("extra keyword arguments given")
        self.chip = None
        now.spis[id] = self

    def write_readinto(self, out, inp):
        if len(out) != len(inp):
            raise ValueError("buffers must be the same length")
        for i in range(len(out)):
            inp[i] = self.chip.exchange(out[i])


class UART:
    """`got`: bytes to be read; `sent`: bytes written; `idle`: the last bit is out."""

    def __init__(self, id, baudrate=9600, **kw):
        allowed = ["rxbuf", "timeout", "timeout_char", "bits", "parity", "stop"]
        if now.port != "stm32":
            allowed += ["tx", "rx", "txbuf"]
        for key in kw:
            if key not in allowed:
                raise TypeError("extra keyword arguments given")
        if kw.get("timeout", 0):
            raise Refused("a read that waits")
        if kw.get("rxbuf", 0) < 256:
            raise Refused("a receive buffer of the default size loses bytes")
        if baudrate < 300:
            raise ValueError("invalid baudrate")
        self.baudrate = baudrate
        self.got = b""
        self.sent = b""
        self.writes = []
        self.idle = True
        self.room = kw.get("txbuf", 0)
        now.uarts[id] = self

    def any(self):
        return len(self.got)

    def readinto(self, buf, n=None):
        if not self.got:
            return None
        n = min(len(buf) if n is None else n, len(self.got))
        if n > len(buf):
            raise Refused("more than the buffer holds")
        buf[:n] = self.got[:n]
        self.got = self.got[n:]
        return n

    def write(self, buf, start, n):
        if start < 0 or start + n > len(buf) or n <= 0:
            raise Refused("a write beside the buffer")
        data = bytes(buf[start : start + n])
        self.sent += data
        self.writes.append(len(data))
        self.idle = False
        return len(data)

    def txdone(self):
        return self.idle


class WDT:
    def __init__(self, id=0, timeout=5000):
        if id != 0 or not 100 <= timeout <= 8388:
            raise ValueError("timeout exceeds 8388")
        now.watchdog = timeout

    def feed(self):
        now.feeds += 1


class Timer:
    ONE_SHOT, PERIODIC = range(2)

    def __init__(self, id=-1, *, mode=PERIODIC, period=0, callback=None, hard=False, **kw):
        if hard and now.port != "rp2":
            raise Refused("hard is no argument of this port")
        if (id == -1) == (now.port == "esp32"):
            raise ValueError("invalid Timer number")
        if not callable(callback) or period <= 0 or kw:
            raise Refused("a timer without period or callback")
        self.period = period
        self.callback = callback
        now.timers[id] = self


class CAN:
    """`machine.CAN` on FDCAN: a receive FIFO of 3, a queue of 3 to send.

    Sources: extmod/machine_can.c, ports/stm32/machine_can.c. 28 filters of 11 bits, 8 of 29.
    """

    MODE_NORMAL = 0
    FLAG_RTR, FLAG_EXT_ID, FLAG_UNORDERED = 1, 2, 4
    RECV_ERR_FULL, RECV_ERR_OVERRUN = 1, 2
    IRQ_RX, IRQ_TX, IRQ_STATE = 1, 2, 4
    STATE_STOPPED, STATE_ACTIVE, STATE_WARNING, STATE_PASSIVE, STATE_BUS_OFF = range(5)

    def __init__(self, id, bitrate):
        if bitrate not in (125000, 250000, 500000, 1000000):
            raise ValueError("unable to calculate BRS timing parameters")
        self.filters = ()
        self.fifo = []
        self.queue = []
        self.handler = None
        self.now_state = CAN.STATE_ACTIVE
        self.restarts = 0
        self.overrun = False
        self.fail = False
        now.cans[id] = self

    def set_filters(self, filters):
        for row in filters:
            if len(row) != 3:
                raise ValueError("filter items must have length 3")
            self._check(row[0], row[2])
            self._check(row[1], row[2])
            if row[2] & ~CAN.FLAG_EXT_ID:
                raise ValueError("flags")
        extended = sum([1 for row in filters if row[2]])
        if extended > 8 or len(filters) - extended > 28:
            raise ValueError("too many filters for this ID type")
        self.filters = filters

    def _check(self, ident, flags):
        if not 0 <= ident <= (0x1FFFFFFF if flags & CAN.FLAG_EXT_ID else 0x7FF):
            raise ValueError("invalid id")

    def irq(self, handler=None, trigger=0, hard=False):
        if trigger != CAN.IRQ_RX or not hard:
            raise Refused("reception is to be taken at once")
        self.handler = handler

    def recv(self, arg=None):
        if self.fail:
            raise OSError(5)
        if arg is None or len(arg) < 4:
            raise Refused("a list that allocates")
        if not self.fifo:
            return None
        ident, data, flags = self.fifo.pop(0)
        arg[0] = ident
        if arg[1].whole is not True:
            raise Refused("a view that is not of a whole buffer")
        arg[1].put(data)
        arg[2] = flags
        arg[3] = CAN.RECV_ERR_OVERRUN if self.overrun else 0
        self.overrun = False
        return arg

    def send(self, ident, data, flags=0):
        if self.now_state == CAN.STATE_BUS_OFF:
            raise OSError(19)
        self._check(ident, flags)
        # "considers a Standard and an Extended ID with the same numeric value to be the same ID"
        if len(self.queue) == 3 or any(x[0] & 0x1FFFFFFF == ident for x in self.queue):
            return None
        flag = EXTENDED if flags & CAN.FLAG_EXT_ID else 0
        self.queue.append((ident | flag, bytes(data)))
        return len(self.queue) - 1

    def state(self):
        return self.now_state

    def restart(self):
        self.restarts += 1
        self.now_state = CAN.STATE_ACTIVE

    def arrive(self, ident, data, flags=0, interrupt=True):
        """A frame from the bus."""
        if ident & EXTENDED:
            ident ^= EXTENDED
            flags |= CAN.FLAG_EXT_ID
        for wanted, mask, kind in self.filters:
            if (ident ^ wanted) & mask == 0 and kind == flags & CAN.FLAG_EXT_ID:
                break
        else:
            return
        if len(self.fifo) == 3:
            self.overrun = True
            return
        self.fifo.append((ident, data, flags))
        if interrupt and self.handler:
            self.handler(self)


class PybCAN:
    """`pyb.CAN` on bxCAN: FIFO 0 of 3, three frames to send.

    Sources: docs/library/pyb.CAN.rst, ports/stm32/pyb_can.c. Of a bank with MASK16 the mask holds
    no IDE: the first 11 bits of an extended identifier pass it as those of a standard one do.
    """

    NORMAL, MASK16, MASK32, BUS_OFF, ERROR_ACTIVE = 0, 1, 3, 4, 1

    def __init__(self, id, mode, *, baudrate, sample_point, auto_restart):
        if baudrate not in (125000, 250000, 500000, 1000000):
            raise ValueError("baudrate")
        if auto_restart or mode != PybCAN.NORMAL:
            raise Refused("a bus-off is to be seen")
        self.banks = {}
        self.fifo = []
        self.queue = []
        self.handler = None
        self.now_state = PybCAN.ERROR_ACTIVE
        self.restarts = 0
        self.fail = False
        now.cans[id] = self

    def setfilter(self, bank, mode, fifo, params):
        if mode not in (PybCAN.MASK16, PybCAN.MASK32) or fifo or not 0 <= bank < 14:
            raise ValueError("CAN filter parameter error")
        wide = mode == PybCAN.MASK32
        if len(params) != (2 if wide else 4):
            raise ValueError("CAN filter parameter error")
        if any(not 0 <= x <= (0x1FFFFFFF if wide else 0x7FF) for x in params):
            raise Refused("bits that no identifier has")
        self.banks[bank] = (mode, params)

    def rxcallback(self, fifo, handler):
        self.handler = handler

    def any(self, fifo):
        if self.fail:
            raise OSError(5)
        return bool(self.fifo)

    def recv(self, fifo, arg, *, timeout=5000):
        if timeout or len(arg) < 5:
            raise Refused("a reception that waits or allocates")
        if not self.fifo:
            raise OSError(110)
        ident, data, flags = self.fifo.pop(0)
        if arg[4].whole is not True:
            raise Refused("a view that is not of a whole buffer")
        arg[0] = ident
        arg[1] = bool(flags & CAN.FLAG_EXT_ID)
        arg[2] = bool(flags & CAN.FLAG_RTR)
        arg[4].put(data)
        return arg

    def send(self, data, ident, *, timeout=0, extframe=False):
        if timeout:
            raise Refused("a send that waits")
        if not 0 <= ident <= (0x1FFFFFFF if extframe else 0x7FF):
            raise Refused("bits of an identifier that it cuts off")
        if len(self.queue) == 3 or self.now_state == PybCAN.BUS_OFF:
            raise OSError(110)
        self.queue.append((ident | EXTENDED if extframe else ident, bytes(data)))

    def state(self):
        return self.now_state

    def restart(self):
        self.restarts += 1
        self.now_state = PybCAN.ERROR_ACTIVE

    def arrive(self, ident, data, flags=0, interrupt=True):
        """A frame from the bus."""
        first = ident
        if ident & EXTENDED:
            ident ^= EXTENDED
            first = ident >> 18
            flags |= CAN.FLAG_EXT_ID
        wanted = False
        for mode, p in self.banks.values():
            if mode == PybCAN.MASK32:
                wanted |= flags & CAN.FLAG_EXT_ID and (ident ^ p[0]) & p[1] == 0
            else:
                wanted |= (first ^ p[0]) & p[1] == 0 or (first ^ p[2]) & p[3] == 0
        if not wanted or len(self.fifo) == 3:
            return
        self.fifo.append((ident, data, flags))
        if interrupt and self.handler and len(self.fifo) == 1:
            self.handler(self, 0)


class View:
    """What a memoryview is to `CAN`: `recv` cuts one of a whole buffer to the frame, in place."""

    def __init__(self, buf, n=None):
        self.buf = buf
        self.n = len(buf) if n is None else n
        self.whole = n is None

    def put(self, data):
        for i in range(len(data)):
            self.buf[i] = data[i]
        self.n = len(data)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if isinstance(i, slice):
            return View(self.buf, i.stop)
        if i >= self.n:
            raise IndexError
        return self.buf[i]


def idle():
    now.idles += 1
    now.ms += 1
    while now.scheduled:
        pin = now.scheduled.pop(0)
        pin.handler(pin)
    if now.on_idle:
        now.on_idle()


def reset():
    now.resets += 1


class _Module:
    pass


class _Clock:
    """`time` of a 32-bit port; each look at the microseconds takes 7 of them."""

    us = 0

    def ticks_ms(self):
        return now.ms & 0x3FFFFFFF

    def ticks_us(self):
        self.us += 7
        return (now.ms * 1000 + self.us) & 0x3FFFFFFF

    def ticks_diff(self, a, b):
        return ((a - b + 0x20000000) & 0x3FFFFFFF) - 0x20000000


class _Vcp:
    """`pyb.USB_VCP`: takes what it has room for; `got`: bytes to be read."""

    RTS, CTS = 1, 2

    def __init__(self):
        self.got = b""
        self.sent = b""
        self.room = 64
        self.flow = -1
        now.vcp = self

    def init(self, *, flow=-1):
        self.flow = flow

    def any(self):
        return bool(self.got)

    def readinto(self, buf):
        n = min(len(buf), len(self.got))
        buf[:n] = self.got[:n]
        self.got = self.got[n:]
        return n or None

    def write(self, buf, start, n):
        if self.flow != _Vcp.CTS:
            raise Refused("without flow control what is not read is overwritten")
        n = min(n, self.room)
        self.room -= n
        self.sent += bytes(buf[start : start + n])
        return n or None


class _Micropython:
    def const(self, value):
        return value

    def kbd_intr(self, char):
        now.interrupt_char = char


class _Host:
    """A USB host at the console. `queue`: bytes that it has not taken, 256 at most.

    A write for which there is no room waits half a second for it, as the port does: refused here.
    `typed`: bytes to be read; claims: `poll` always says that there is room (esp32).
    """

    def __init__(self):
        self.queue = b""
        self.typed = b""
        self.connected = True
        self.waits = 0

    def take(self):
        """Everything up to now."""
        data, self.queue = self.queue, b""
        return data

    def write(self, buf, start=0, n=None):
        data = bytes(buf[start : len(buf) if n is None else start + n])
        if len(self.queue) + len(data) > 256:
            self.waits += 1
            now.ms += 500
            data = data[: 256 - len(self.queue)]
        self.queue += data
        return len(data)

    def readinto(self, buf):
        if not self.typed:
            raise Refused("a read that waits")
        buf[0] = self.typed[0]
        self.typed = self.typed[1:]
        return 1


class _Poll:
    def __init__(self):
        self.file = None

    def register(self, file, flags):
        self.file = file
        self.flags = flags

    def ipoll(self, ms):
        if ms:
            raise Refused("a poll that waits")
        host = now.host
        if self.flags == _Select.POLLIN:
            return [(self.file, 1)] if host.typed else []
        return [(self.file, 4)] if len(host.queue) < 256 or now.port == "esp32" else []


class _Select:
    POLLIN, POLLOUT = 1, 4

    def poll(self):
        return _Poll()


class _Stream:
    def __init__(self, host):
        self.buffer = host


class _Sys:
    """What the firmware uses of `sys`."""

    def __init__(self, host):
        self.path = [""]
        self.modules = sys.modules
        self.stdin = _Stream(host)
        self.stdout = _Stream(host)
        self.implementation = _Module()
        self.implementation._machine = "Raspberry Pi Pico with RP2040"


class _NoRegisters:
    """In the place of `hal.rp2_spi`, which knows nothing but registers: the emulator's job."""

    def __init__(self, *args, **kw):
        raise Refused("registers")


_BOARDS = __file__.replace("\\", "/").rsplit("/", 3)[0] + "/boards"


def load(name, port, with_can=False):
    """(state, board module) of boards/NAME, with fresh fakes under it.

    with_can: the port has `machine.CAN`.
    """
    global now
    now = State(port)
    machine = _Module()
    for thing in (Pin, SPI, UART, WDT, Timer, PWM, I2C, SoftI2C, ADC):
        setattr(machine, thing.__name__, thing)
    machine.idle = idle
    machine.reset = reset
    machine.reset_cause = lambda: now.cause
    machine.PWRON_RESET = 1
    machine.WDT_RESET = 3
    if port != "rp2":
        machine.HARD_RESET = 2
        machine.DEEPSLEEP_RESET = 4
        machine.SOFT_RESET = 5 if port == "esp32" else 0
    machine.mem32 = _Memory()
    now.mv[4 if port == "rp2" else 256] = 706 if port == "rp2" else 1212  # inside the chip
    if with_can:
        machine.CAN = CAN
    pyb = _Module()
    pyb.USB_VCP = _Vcp
    pyb.CAN = PybCAN
    now.host = _Host()
    fakes = {
        "machine": machine,
        "pyb": pyb,
        "time": _Clock(),
        "micropython": _Micropython(),
        "select": _Select(),
        "sys": _Sys(now.host),
    }
    real = {}
    for module in list(sys.modules):
        if module == "hal" or module.startswith("hal.") or module == "pico":
            del sys.modules[module]
    for module in fakes:
        real[module] = sys.modules.get(module)
        sys.modules[module] = fakes[module]
    others = sys.modules.pop("board", None)  # another test's
    if port == "rp2":
        registers = _Module()
        registers.SpiBus = _NoRegisters
        sys.modules["hal.rp2_spi"] = registers
    sys.path.insert(0, _BOARDS)
    sys.path.insert(0, _BOARDS + "/" + name)
    try:
        import board
    finally:
        sys.path.pop(0)
        sys.path.pop(0)
        sys.modules.pop("board", None)
        if others is not None:
            sys.modules["board"] = others
        for module in fakes:
            if module in ("machine", "pyb"):
                continue  # nobody else has them, and a link imports them later
            if real[module] is None:
                del sys.modules[module]
            else:
                sys.modules[module] = real[module]
    return now, board
