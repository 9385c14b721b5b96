"""An SPI bus with one chip on it, as the CAN links of `bms` use it.

A bus has `transfer(out, inp, n)`: n bytes out and in while the chip is selected; `pending()`: its
interrupt line is low; `take(how, ring, at)`: move the frames of a chip with two receive buffers
into a ring, see `links.mcp2515`; `on_interrupt(how, ring, at)`: call `take` in an interrupt when
the line falls; False where the bus has no interrupt. Nothing here allocates after start-up.
"""

from machine import SPI, Pin

from bms.kernels.buffers import copy

_LONGEST = 80  # bytes of one transfer


class SpiBus:
    """Any port: `machine.SPI` in mode 0. The interrupt line is polled only.

    id: of the SPI; cs, irq: pins; pins: sck, mosi, miso, where the port allows a choice.
    """

    def __init__(self, id, cs, irq, hz=10000000, **pins):
        self._spi = SPI(id, baudrate=hz, polarity=0, phase=0, **pins)
        self._cs = Pin(cs, Pin.OUT, value=1)
        self._irq = Pin(irq, Pin.IN, Pin.PULL_UP)
        # views of every length of a transfer: write_readinto takes whole buffers only
        self._out = bytearray(_LONGEST)
        self._in = bytearray(_LONGEST)
        self._out_of = [memoryview(self._out)[:n] for n in range(_LONGEST + 1)]
        self._in_of = [memoryview(self._in)[:n] for n in range(_LONGEST + 1)]

    def transfer(self, out, inp, n):
        """Exchange n (1..80) bytes: send from `out`, receive into `inp`."""
        copy(self._out, out, 0, n)
        self._exchange(n)
        copy(inp, self._in, 0, n)

    def _exchange(self, n):
        self._cs.off()
        self._spi.write_readinto(self._out_of[n], self._in_of[n])
        self._cs.on()

    def pending(self):
        """True while the interrupt line of the chip is low."""
        return not self._irq.value()

    def take(self, how, ring, at):
        """Read receive buffers into the ring until none is full."""
        out = self._out
        got = self._in
        while True:
            out[0] = how[0]
            out[1] = 0
            self._exchange(2)
            full = got[1]
            if not full & (how[1] | how[3]):
                return
            for i in range(1, 5, 2):
                if full & how[i]:
                    out[0] = how[i + 1]
                    self._exchange(how[5])
                    head = at[0]
                    after = (head + 1) & how[6]
                    if after == at[1]:
                        at[2] += 1
                    else:
                        for k in range(how[5]):
                            ring[16 * head + k] = got[k]
                        at[0] = after

    def on_interrupt(self, how, ring, at):
        """Return False: no interrupt on this bus; the link polls `pending` in each step."""
        return False
