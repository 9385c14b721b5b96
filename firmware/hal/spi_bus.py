"""An SPI bus with one chip on it, as the CAN links of `bms` are handed it.

A bus has `transfer(out, inp, n)`: n bytes out and in while the chip is selected; `pending()`: its
interrupt line is low; `take(how, ring, at)`: move the frames of a chip with two receive buffers
into a ring, see `links.mcp2515`; `on_interrupt(how, ring, at)`: do so whenever the line falls,
True where that is done at once, whatever runs. Nothing here allocates after start-up.
"""

from machine import SPI, Pin

from bms.kernels import copy

_LONGEST = 80  # bytes of one transfer


class SpiBus:
    """Any port: `machine.SPI` in mode 0. The line is asked only, never an interrupt.

    id: of the SPI; cs, irq: pins; pins: sck, mosi, miso, where the port lets one choose them.
    """

    def __init__(self, id, cs, irq, hz=10000000, **pins):
        self._spi = SPI(id, baudrate=hz, polarity=0, phase=0, **pins)
        self._cs = Pin(cs, Pin.OUT, value=1)
        self._irq = Pin(irq, Pin.IN, Pin.PULL_UP)
        # buffers of every length that a transfer may have: write_readinto takes whole ones
        self._out = bytearray(_LONGEST)
        self._in = bytearray(_LONGEST)
        self._out_of = [memoryview(self._out)[:n] for n in range(_LONGEST + 1)]
        self._in_of = [memoryview(self._in)[:n] for n in range(_LONGEST + 1)]

    def transfer(self, out, inp, n):
        """Exchange n (1..80) bytes: `out` goes out, what comes in is put into `inp`."""
        copy(self._out, out, 0, n)
        self._exchange(n)
        copy(inp, self._in, 0, n)

    def _exchange(self, n):
        self._cs.off()
        self._spi.write_readinto(self._out_of[n], self._in_of[n])
        self._cs.on()

    def pending(self):
        """True where the chip asks for attention."""
        return not self._irq.value()

    def take(self, how, ring, at):
        """Read buffers into the ring until the chip has none that is full."""
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
        """Not on this bus: the link looks at `pending` in each of its steps. False."""
        return False
