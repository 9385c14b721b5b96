"""TI INA228, a 20-bit shunt monitor on I2C.

Registers and their fields: TI data sheet INA228 (SLYS021A). Used here: CONFIG 0x00 (reset 15,
range 4), ADC_CONFIG 0x01 (mode 15..12, times of bus 11..9 and shunt 8..6, averages 2..0),
SHUNT_CAL 0x02, VBUS 0x05 and CURRENT 0x07 (24 bits: 20 of value, then four zeros), DIAG_ALRT 0x0B
(ALATCH 15, MATHOF 9, CNVRF 1, MEMSTAT 0), MANUFACTURER_ID 0x3E = 0x5449, DEVICE_ID 0x3F = 0x228x.

SHUNT_CAL is 13107.2e6 * (A per step of CURRENT) * ohm, times 4 in the small range. With 4096,
CURRENT counts the steps of the shunt's voltage themselves, 312.5 nV or 78.125 nV, and nothing is
rounded before the division by the shunt here. The small range (40.96 mV) is taken where the shunt
has no more at `range`.

ALATCH is set: CNVRF is cleared by reading then, so that each conversion counts once, and a chip
that lost its settings (a dip of its supply, after which the range is another one) shows by ALATCH
being 0. A current therefore counts only when DIAG_ALRT is good before and after it.
"""

from micropython import const

from bms import ticks
from bms.sensors.base import Sensor
from bms.ticks import MASK

_CONFIG = const(0x00)
_ADC_CONFIG = const(0x01)
_SHUNT_CAL = const(0x02)
_VBUS = const(0x05)
_CURRENT = const(0x07)
_DIAG = const(0x0B)
_MAKER = const(0x3E)
_DEVICE = const(0x3F)

_RESET = const(0x8000)
_SMALL_RANGE = const(0x0010)
# continuous, bus and shunt; bus 280 us, shunt 1052 us; mean of 4: a value each 5.3 ms
_ADC = const(0xB000 | 3 << 9 | 5 << 6 | 1)
_CAL = const(4096)
_LATCH = const(0x8000)
_OVERFLOW = const(0x0200)
_CONVERTED = const(0x0002)
_MEMORY_GOOD = const(0x0001)
_TI = const(0x5449)
_INA228 = const(0x228)

# steps: those of the start, one behind the other, then reading the state and the current
# alternately
(
    _ID_MAKER,
    _ID_DEVICE,
    _DO_RESET,
    _SET_RANGE,
    _SET_CAL,
    _SET_ADC,
    _SET_DIAG,
    _PROVE,
    _PROVE_CAL,
    _PROVE_ADC,
    _READ_STATE,
    _READ,
    _READ_BUS,
) = range(13)
_EVERY_MS = const(2)  # between two transfers: 54 bits of 400 kbit/s are 0.14 ms
_AGAIN_MS = const(100)  # after a failed start
_FAILURES = const(5)  # transfers, one behind the other, until it starts anew
_FULL = const(0x7FFFF)
_BUS_EACH = const(10)  # of so many currents there is one bus voltage

# of `error`
NO_ANSWER = const(1)
OTHER_CHIP = const(2)
SETTINGS = const(3)
MEMORY = const(4)
OVERFLOW = const(5)


class Ina228(Sensor):
    """See `Sensor`. bus_mv: VBUS in mV, bus_at: its tick, -1 = none yet; restarts: of the chip."""

    EVERY_MS = _EVERY_MS
    I2C_HZ = 400000

    def __init__(self, config, i2c):
        super().__init__(config)
        self._i2c = i2c
        self._address = config.address
        shunt = config.shunt_uohm
        # uV at the range's end, while building: large numbers may live on the heap
        small = self.range_ma * shunt // 1000 <= 40960
        self._config = _SMALL_RANGE if small else 0
        # mA of one step: 78.125 nV = 625 / 8, or 312.5 nV = 3125 / 10, over the shunt in uohm
        self._times = 625 if small else 3125
        self._over = shunt * (8 if small else 10)
        self._two = bytearray(2)
        self._three = bytearray(3)
        self._do = _ID_MAKER
        self._due = -1
        self._failures = 0
        self._waiting = False  # a current has been read, and DIAG_ALRT not after it
        self._reading = 0
        self._reads = 0
        self.bus_mv = 0
        self.bus_at = -1
        self.restarts = 0

    def step(self, now):
        """One transfer, where one is due."""
        if self._due >= 0 and ticks.diff(now, self._due) < 0:
            return
        self._due = ticks.add(now, _EVERY_MS)
        do = self._do
        try:
            if self._do >= _READ_STATE:
                self._measure(now)
            else:
                self._begin()
            self._failures = 0
        except OSError:
            # no answer, or lost in the middle
            self.damaged = (self.damaged + 1) & MASK
            self._do = do
            self._waiting = False
            self._failures += 1
            if self._failures >= _FAILURES:
                self._failures = 0
                self._fail(NO_ANSWER)

    def _fail(self, why):
        self.error = why
        self._do = _ID_MAKER
        self._waiting = False
        self._forget()
        self._due = ticks.add(self._due, _AGAIN_MS)

    def _get(self, register):
        """A register of 16 bits."""
        self._i2c.readfrom_mem_into(self._address, register, self._two)
        return self._two[0] << 8 | self._two[1]

    def _put(self, register, value):
        self._two[0] = value >> 8
        self._two[1] = value & 0xFF
        self._i2c.writeto_mem(self._address, register, self._two)

    def _begin(self):
        """One step of the start."""
        do = self._do
        self._do = do + 1
        if do == _ID_MAKER:
            if self._get(_MAKER) != _TI:
                self._fail(OTHER_CHIP)
        elif do == _ID_DEVICE:
            if self._get(_DEVICE) >> 4 != _INA228:
                self._fail(OTHER_CHIP)
        elif do == _DO_RESET:
            self._put(_CONFIG, _RESET)
        elif do == _SET_RANGE:
            self._put(_CONFIG, self._config)
        elif do == _SET_CAL:
            self._put(_SHUNT_CAL, _CAL)
        elif do == _SET_ADC:
            self._put(_ADC_CONFIG, _ADC)
        elif do == _SET_DIAG:
            self._put(_DIAG, _LATCH)
        elif do == _PROVE:
            if self._get(_CONFIG) != self._config:
                self._fail(SETTINGS)
        elif do == _PROVE_CAL:
            if self._get(_SHUNT_CAL) != _CAL:
                self._fail(SETTINGS)
        elif self._get(_ADC_CONFIG) != _ADC:
            self._fail(SETTINGS)

    def _measure(self, now):
        i2c = self._i2c
        if self._do == _READ:
            i2c.readfrom_mem_into(self._address, _CURRENT, self._three)
            self._reading = self._signed()
            self._waiting = True
            self._do = _READ_STATE
            self._reads += 1
            if self._reads >= _BUS_EACH:
                self._reads = 0
                self._do = _READ_BUS
            return
        if self._do == _READ_BUS:
            i2c.readfrom_mem_into(self._address, _VBUS, self._three)
            # 195.3125 uV a step
            self.bus_mv = (self._signed() & _FULL) * 25 // 128
            self.bus_at = now
            self._do = _READ_STATE
            return
        state = self._get(_DIAG)
        waiting = self._waiting
        self._waiting = False
        if not state & _LATCH:
            self.restarts = (self.restarts + 1) & MASK
            self._fail(SETTINGS)
            return
        if not state & _MEMORY_GOOD:
            self._fail(MEMORY)
            return
        if state & _OVERFLOW:
            self._fail(OVERFLOW)
            return
        self.error = 0
        if waiting:
            self._take(self._in_ma(self._reading), now)
        if state & _CONVERTED:
            self._do = _READ

    def _signed(self):
        """The 20 bits in `_three`, as a number with sign."""
        b = self._three
        value = b[0] << 12 | b[1] << 4 | b[2] >> 4
        return value - 0x100000 if value & 0x80000 else value

    def _in_ma(self, steps):
        """Steps of the shunt's voltage as mA; at most the range."""
        over = self._over
        limit = self.range_ma
        if steps >= _FULL:
            return limit
        if steps <= -_FULL:
            return -limit
        # whole part and remainder, so that no product reaches 2**30
        ma = steps // over * self._times + steps % over * self._times // over
        if ma > limit:
            return limit
        return -limit if ma < -limit else ma
