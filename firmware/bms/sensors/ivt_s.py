"""Isabellenhuette IVT-S, a shunt with its own CAN node, in its factory's settings.

Result message (data sheet IVT-S V1.02, chapter 8; the maker's DBC file IVT-S_12082020): six bytes

    0     kind of result: 0 current, 1 to 3 voltage U1 to U3, 4 temperature, ..
    1     low nibble: counter of this result's messages; high nibble: state
    2..5  value, 32 bits with sign, most significant byte first: mA, mV

State: 0x10 over-current signal; 0x20 this result is out of its range or its measurement failed;
0x40 some result's measurement failed; 0x80 system error: none of its values is reliable.
Identifiers 0x521 (current), 0x522..0x524 (voltages), every 20 ms (current; 60 ms voltages), at
500 kbit/s. It sends by itself once it has power; nothing is ever sent to it.

Uncertain: what was set in the sensor itself. Its identifiers and periods can be changed (`id` in
the pack file is that of the current, the voltages follow it), and so can the order of bytes:
little-endian ones give wild values here, which `range` refuses.
"""

from array import array

from micropython import const

from bms import ticks
from bms.sensors.base import STUCK, CanSensor
from bms.ticks import MASK

_BYTES = const(6)
_OWN_ERROR = const(0xA0)  # of this result, or of the whole sensor
_VOLTAGES = const(3)
_STUCK_AFTER = const(5)  # messages with one and the same counter
_MOST_MV = const(2000000)


class IvtS(CanSensor):
    """See `Sensor`. u_mv, u_at: voltages U1..U3 in mV and their ticks; u_ok: they are valid."""

    ID = 0x521
    LATER = _VOLTAGES
    RANGE_MA = 3000000  # largest model: 2500 A, and its short time range

    def __init__(self, config):
        super().__init__(config)
        self._counter = -1
        self._same = 0
        self.u_mv = array("i", [0] * _VOLTAGES)
        self.u_at = array("i", [0] * _VOLTAGES)
        self.u_ok = bytearray(_VOLTAGES)

    def on_frame(self, ident, n, data, now):
        """One frame with one of its identifiers."""
        kind = ident - self.ident
        if n != _BYTES or data[0] != kind:
            self.damaged = (self.damaged + 1) & MASK
            return
        value = data[2]
        if value & 0x80:
            value -= 0x100
        if not -64 <= value < 64:
            # more than 2**30, on its way to a heap that must not be touched
            self.damaged = (self.damaged + 1) & MASK
            return
        value = value << 24 | data[3] << 16 | data[4] << 8 | data[5]
        state = data[1]
        if kind:
            self.u_ok[kind - 1] = not state & _OWN_ERROR and -_MOST_MV <= value <= _MOST_MV
            self.u_mv[kind - 1] = value
            self.u_at[kind - 1] = now
            return
        counter = state & 15
        if counter == self._counter:
            # an old message, repeated by a gateway: no new reading
            self.repeated = (self.repeated + 1) & MASK
            self._same += 1
            if self._same >= _STUCK_AFTER:
                self.error = STUCK
            return
        if self._counter >= 0:
            self.missed = (self.missed + ((counter - self._counter - 1) & 15)) & MASK
        self._counter = counter
        self._same = 0
        self.error = state & _OWN_ERROR
        if self.error:
            return
        if -self.range_ma <= value <= self.range_ma:
            self._take(value, now)
        else:
            self.damaged = (self.damaged + 1) & MASK

    def voltage(self, which, now):
        """U1..U3 (which 0..2) in mV; None where it is not valid or older than 200 ms."""
        if self.u_ok[which] and 0 <= ticks.diff(now, self.u_at[which]) <= 200:
            return self.u_mv[which]
        return None
