"""The SPI bus of RP2040 and RP2350 in machine code, with a hard interrupt.

`machine.SPI` and two pins take about 150 us per transfer here, direct access to registers takes
30 us; CAN frames may arrive every 0.23 ms.
"""

import sys
from array import array

import micropython
from machine import SPI, Pin

# datasheets RP2040 2.3.1.7, 4.4.4 and RP2350 3.1.11, 12.3.5: SPI0, GPIO_OUT_SET, GPIO_OUT_CLR
_RP2040 = (0x4003C000, 0xD0000014, 0xD0000018)
_RP2350 = (0x40080000, 0xD0000018, 0xD0000020)
_SPI1 = 0x4000  # from one SPI to the next on RP2040; 0x8000 on RP2350


@micropython.viper
def _exchange(where: ptr32, out: ptr8, inp: ptr8, n: int):
    spi = ptr32(where[0])
    high = ptr32(where[1])
    low = ptr32(where[2])
    cs = int(where[3])
    low[0] = cs
    sent = 0
    got = 0
    while got < n:
        status = int(spi[3])  # SSPSR: bit 1 room to send, bit 2 data received
        if sent < n and sent - got < 8 and status & 2:
            spi[2] = out[sent]
            sent += 1
        if status & 4:
            inp[got] = spi[2]
            got += 1
    high[0] = cs


@micropython.viper
def _take(where: ptr32, how: ptr8, ring: ptr8, at: ptr32):
    spi = ptr32(where[0])
    high = ptr32(where[1])
    low = ptr32(where[2])
    cs = int(where[3])
    both = int(how[1]) | int(how[3])
    last = int(how[6])
    while True:
        low[0] = cs
        spi[2] = how[0]
        spi[2] = 0
        got = 0
        full = 0
        while got < 2:
            if int(spi[3]) & 4:
                full = int(spi[2])
                got += 1
        high[0] = cs
        if full & both == 0:
            return
        i = 1
        while i < 5:
            if full & int(how[i]):
                n = int(how[5])
                head = int(at[0])
                after = (head + 1) & last
                slot = head << 4
                low[0] = cs
                spi[2] = how[i + 1]
                sent = 1
                got = 0
                while got < n:
                    status = int(spi[3])
                    if sent < n and sent - got < 8 and status & 2:
                        spi[2] = 0
                        sent += 1
                    if status & 4:
                        ring[slot + got] = spi[2]
                        got += 1
                high[0] = cs
                if after == int(at[1]):
                    at[2] = int(at[2]) + 1  # the ring is full: drop the frame, count it
                else:
                    at[0] = after
            i += 2


class SpiBus:
    """See `spi_bus`; `id` 0 or 1, pins by number."""

    # parameters: one for each pin of the bus
    def __init__(self, id, sck, mosi, miso, cs, irq, hz=10000000):
        SPI(id, baudrate=hz, polarity=0, phase=0, sck=Pin(sck), mosi=Pin(mosi), miso=Pin(miso))
        self._cs = Pin(cs, Pin.OUT, value=1)
        self._irq = Pin(irq, Pin.IN, Pin.PULL_UP)
        rp2350 = "RP2350" in sys.implementation._machine
        spi, high, low = _RP2350 if rp2350 else _RP2040
        step = 2 * _SPI1 if rp2350 else _SPI1
        self._where = array("I", (spi + id * step, high, low, 1 << cs))

    def transfer(self, out, inp, n):
        """Exchange n bytes: send from `out`, receive into `inp`."""
        _exchange(self._where, out, inp, n)

    def pending(self):
        """True while the interrupt line of the chip is low."""
        return not self._irq.value()

    def take(self, how, ring, at):
        """Read receive buffers into the ring until none is full."""
        _take(self._where, how, ring, at)

    def on_interrupt(self, how, ring, at):
        """Call `take` in an interrupt when the line falls and at[3] is 0. Returns True."""

        # locals, not attributes: half of the time. Must not raise: MicroPython disables a handler
        # that does
        def fell(_pin, take=_take, where=self._where, how=how, ring=ring, at=at):
            if not at[3]:
                take(where, how, ring, at)

        self._irq.irq(fell, Pin.IRQ_FALLING, hard=True)
        return True
