"""The serial console of a microcontroller: streams that never wait.

A stream has `read(buf) -> n` and `write(buf, start, n) -> n`, as the links of `bms` use them.
MicroPython's own `write` takes a start and a count too (`py/stream.c`), which its stubs omit.
Nothing here allocates after start-up.
"""

import select
import sys
from time import ticks_diff, ticks_ms

from micropython import const

from bms.kernels.buffers import copy

_BLOCK = const(64)
_BLANK = b" " * 63 + b"\n"


class UsbConsole:
    """The USB console of ports with TinyUSB (rp2, and esp32 with native USB).

    The port reports only whether its queue has room for one byte, and a write to a full queue
    blocks for half a second (`shared/tinyusb/mp_usbd_cdc.c`). The queue is a multiple of 64 bytes,
    and only blocks of 64 are written: so room for one byte is room for a block. A shorter last
    block is filled with spaces before its line end.
    """

    def __init__(self):
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._out_poll = select.poll()
        self._out_poll.register(sys.stdout, select.POLLOUT)
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        for poll in (self._poll, self._out_poll):
            for _ in poll.ipoll(0):  # the first call of each allocates
                break
        self._byte = bytearray(1)
        self._block = bytearray(_BLOCK)

    def read(self, buf):
        """Read into `buf`, at most 8 bytes (each takes 0.1 ms on an RP2040); returns the count."""
        n = 0
        while n < len(buf) and n < 8:
            for _ in self._poll.ipoll(0):
                break
            else:
                break
            self._in.readinto(self._byte)  # pyright: ignore[reportAttributeAccessIssue]
            buf[n] = self._byte[0]
            n += 1
        return n

    def write(self, buf, start, n):
        """Write from buf[start:start + n], which ends with a line end; returns 64, n, or 0."""
        for _ in self._out_poll.ipoll(0):
            break
        else:
            return 0
        if n >= _BLOCK:
            self._out.write(buf, start, _BLOCK)  # pyright: ignore[reportCallIssue]
            return _BLOCK
        block = self._block
        copy(block, _BLANK, 0, _BLOCK)
        copy(block, buf, start, n - 1)
        self._out.write(block)
        return n


class UartConsole(UsbConsole):
    """The UART of the REPL (ST-LINK port of a Nucleo), which has no transmit queue.

    A write blocks until its bytes are sent: so 8 bytes (0.7 ms at 115200 bit/s) once in 2 ms.
    """

    def __init__(self):
        super().__init__()
        self._wrote_at = ticks_ms()

    def write(self, buf, start, n):
        """Write from buf[start:start + n]; returns the number of bytes taken."""
        now = ticks_ms()
        if ticks_diff(now, self._wrote_at) < 2:
            return 0
        self._wrote_at = now
        n = n if n < 8 else 8
        self._out.write(buf, start, n)  # pyright: ignore[reportCallIssue]
        return n
