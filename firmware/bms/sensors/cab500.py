"""LEM CAB 500-C, a fluxgate sensor with its own CAN node; CAB 300-C has the same protocol.

One message, 0x3C2, every 10 ms at 500 kbit/s, eight bytes (LEM data sheet CAB 500-C; foxBMS 2
v1.11, message CS_LemCab500String0; GEVCU, cab300.cpp):

    0..3  current + 0x80000000, most significant byte first: mA
    4     bit 0: error, the current is not valid; bits 1..7: which one
    5..7  name of the product, always the same

Errors: 0x41 data flash, 0x42 fluxgate too fast, 0x43 fluxgate doesn't oscillate, 0x44 fail-safe
mode, 0x46 signal not available, 0x47 bridge voltage protection. It has no counter and no
checksum, so the name's bytes are compared with those of the message before.

Uncertain: models made to order have other identifiers (`id` in the pack file), and the CAB 300
of a Mitsubishi Outlander is silent until it is woken by 0x6F0, which isn't done here.
"""

from micropython import const

from bms.sensors.base import CanSensor
from bms.ticks import MASK

_BYTES = const(8)


class Cab500(CanSensor):
    """See `Sensor`; a step of the current counts one message later, see MEDIAN."""

    ID = 0x3C2
    RANGE_MA = 550000  # 500 A and a margin

    def __init__(self, config):
        super().__init__(config)
        self._name = bytearray(3)

    def on_frame(self, ident, n, data, now):
        """One frame with its identifier."""
        if n != _BYTES:
            self.damaged = (self.damaged + 1) & MASK
            return
        name = self._name
        if data[5] != name[0] or data[6] != name[1] or data[7] != name[2]:
            # another node's frame, or damage: a new name must arrive twice
            name[0] = data[5]
            name[1] = data[6]
            name[2] = data[7]
            self.damaged = (self.damaged + 1) & MASK
            return
        if data[4] & 1:
            self.error = data[4] >> 1 or 1
            return
        value = data[0] - 0x80
        if not -64 <= value < 64:
            self.damaged = (self.damaged + 1) & MASK
            return
        value = value << 24 | data[1] << 16 | data[2] << 8 | data[3]
        if -self.range_ma <= value <= self.range_ma:
            self.error = 0
            self._take(value, now)
        else:
            self.damaged = (self.damaged + 1) & MASK
