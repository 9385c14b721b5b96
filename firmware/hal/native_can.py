"""CAN controllers inside the microcontroller: `machine.CAN`, or `pyb.CAN` on older versions.

Their receive FIFOs hold 3 frames, 0.7 ms of a full bus at 500 kbit/s: an interrupt and each step
move frames into a ring. Nothing here allocates after start-up.
"""

from micropython import const

from bms import ticks
from bms.links.can import BITS, EXTENDED
from bms.ticks import MASK

DEFAULT_BPS = 500000
_RING = const(63)  # mask of the ring, 2^n - 1: so many frames, and one slot that stays empty
_LOOK_MS = const(50)


class _Ring:
    """Common part of both; see `links.mcp2515` for the fields of a link.

    lost: frames that found no room, in the ring or in the controller.
    """

    polled = False

    def __init__(self, rate, slot):
        self.rate = rate or DEFAULT_BPS
        self.rx = self.tx = self.damaged = self.dropped = self.lost = self.bus_off = 0
        self.failed = 0  # interrupts in which an exception was raised
        self.data = bytearray(8)
        self._out = bytearray(8)
        self._out_of = [memoryview(self._out)[:n] for n in range(9)]
        # each slot has a buffer and a view of all of it: the port shortens the view to the frame,
        # and always writes at the start of the buffer, even where the view has an offset
        self._bytes = [bytearray(8) for _ in range(_RING + 2)]
        self._slots = [slot(memoryview(b)) for b in self._bytes]
        self._n = bytearray(_RING + 2)
        self._head = self._tail = 0
        self._busy = False
        self._look_at = -1

    def _take(self, slot):
        """Put the next frame into a slot; True where there was one."""
        raise NotImplementedError

    def _length(self, slot):
        """Bytes of a slot's payload."""
        raise NotImplementedError

    def _frame(self, slot):
        """Identifier of the frame in a slot, -1 where it is not a data frame."""
        raise NotImplementedError

    def _queue(self, ident, n):
        """Send the first n bytes of `_out`; True where there was room."""
        raise NotImplementedError

    def _off(self):
        """Restart a controller that is bus-off; True where it was."""
        raise NotImplementedError

    def _received(self, _can, _why=0):
        """Interrupt. Must not raise: MicroPython disables a handler that does."""
        if self._busy:
            return  # `poll` moves the frames at present
        try:
            self._drain()
        except Exception:
            self.failed = (self.failed + 1) & MASK

    def _drain(self):
        while True:
            head = self._head
            after = (head + 1) & _RING
            full = after == self._tail
            i = _RING + 1 if full else head
            if not self._take(self._slots[i]):
                return
            if full:
                self.lost = (self.lost + 1) & MASK
            else:
                self._n[i] = self._length(self._slots[i])
                self._head = after

    def ready(self):
        """True where a frame waits."""
        return self._head != self._tail

    def poll(self, sink, now):
        """Pass each received frame to `sink.on_frame(ident, n, data, now)`."""
        self._busy = True
        try:
            self._drain()  # in case an interrupt was lost
        finally:
            self._busy = False
        if self._look_at < 0 or ticks.diff(now, self._look_at) >= 0:
            self._look_at = ticks.add(now, _LOOK_MS)
            if self._off():
                self.bus_off = (self.bus_off + 1) & MASK
        if self.lost:
            self.damaged = (self.damaged + self.lost) & MASK
            self.lost = 0
        while self._tail != self._head:
            i = self._tail
            ident = self._frame(self._slots[i])
            if ident < 0:
                self.damaged = (self.damaged + 1) & MASK
            else:
                data = self.data
                taken = self._bytes[i]
                for k in range(8):
                    data[k] = taken[k]
                self.rx = (self.rx + 1) & MASK
                sink.on_frame(ident, self._n[i], data, now)
            self._tail = (i + 1) & _RING

    def send(self, ident, data, n):
        """Queue one data frame; False, and counted in `dropped`, where there is no room."""
        out = self._out
        for i in range(n):
            out[i] = data[i]
        if self._queue(ident, n):
            self.tx = (self.tx + 1) & MASK
            return True
        self.dropped = (self.dropped + 1) & MASK
        return False


def _machine_slot(view):
    return [0, view, 0, 0]


class MachineCan(_Ring):
    """`machine.CAN` of MicroPython 1.28 and later (stm32, mimxrt, alif)."""

    def __init__(self, id, rate, filters):
        """filters: (identifier, mask) pairs, none for all standard frames.

        Raises ValueError for a bad rate, and for more filters than the controller has.
        """
        from machine import CAN

        super().__init__(rate, _machine_slot)
        self._can = CAN(id, self.rate)
        self._remote = CAN.FLAG_RTR
        self._extended = CAN.FLAG_EXT_ID
        self._overrun = CAN.RECV_ERR_OVERRUN
        self._left = CAN.STATE_BUS_OFF
        self._can.set_filters(
            [(i & BITS, mask & BITS, self._kind(i)) for i, mask in filters or ((0, 0),)]
        )
        self._can.irq(self._received, CAN.IRQ_RX, hard=True)

    def _kind(self, ident):
        return self._extended if ident & EXTENDED else 0

    def _take(self, slot):
        if self._can.recv(slot) is None:
            return False
        if slot[3] & self._overrun:
            self.lost = (self.lost + 1) & MASK
        return True

    def _length(self, slot):
        return len(slot[1])

    def _frame(self, slot):
        flags = slot[2]
        if flags & self._remote:
            return -1
        return slot[0] | EXTENDED if flags & self._extended else slot[0]

    def _queue(self, ident, n):
        try:
            # None: the queue is full, or a frame of the same identifier waits in it
            out = self._out_of[n]
            return self._can.send(ident & BITS, out, self._kind(ident)) is not None
        except OSError:
            return False  # bus-off

    def _off(self):
        if self._can.state() != self._left:
            return False
        self._can.restart()
        return True


def _pyb_slot(view):
    return [0, False, False, 0, view]


class PybCan(_Ring):
    """`pyb.CAN` on bxCAN (the Pyboard), for MicroPython before 1.28."""

    def __init__(self, id, rate, filters):
        """filters: (identifier, mask) pairs, none for all standard frames.

        Raises ValueError for a bad rate, and for more filters than the controller has. 11-bit
        filters also accept extended frames whose first bits match.
        """
        from pyb import CAN

        super().__init__(rate, _pyb_slot)
        # `baudrate` and `sample_point` exist since 1.13; the stubs lack them
        self._can = CAN(
            id,
            CAN.NORMAL,
            baudrate=self.rate,  # pyright: ignore[reportCallIssue]
            sample_point=75,  # pyright: ignore[reportCallIssue]
            auto_restart=False,
        )
        self._left = CAN.BUS_OFF
        bank = 0
        short = []
        for ident, mask in filters or ((0, 0),):
            if ident & EXTENDED:
                self._can.setfilter(bank, CAN.MASK32, 0, (ident & BITS, mask & BITS))
                bank += 1
            else:
                short.append((ident, mask))
        for k in range(0, len(short), 2):
            one = short[k]
            two = short[k + 1] if k + 1 < len(short) else one
            self._can.setfilter(bank, CAN.MASK16, 0, (one[0], one[1], two[0], two[1]))
            bank += 1
        self._can.rxcallback(0, self._received)

    def _take(self, slot):
        if not self._can.any(0):
            return False
        self._can.recv(0, slot, timeout=0)
        return True

    def _length(self, slot):
        return len(slot[4])

    def _frame(self, slot):
        if slot[2]:
            return -1
        return slot[0] | EXTENDED if slot[1] else slot[0]

    def _queue(self, ident, n):
        try:
            extended = ident & EXTENDED != 0
            self._can.send(self._out_of[n], ident & BITS, timeout=0, extframe=extended)
            return True
        except OSError:
            return False  # all three buffers are full, or the controller is bus-off

    def _off(self):
        if self._can.state() != self._left:
            return False
        self._can.restart()
        return True


def native_can(id, rate, filters):
    """CAN controller `id` of the chip: `MachineCan` if this MicroPython has it, else `PybCan`."""
    import machine

    if hasattr(machine, "CAN"):
        return MachineCan(id, rate, filters)
    return PybCan(id, rate, filters)
