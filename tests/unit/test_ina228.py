"""The INA228's driver against a strict model of the chip."""

import gc

import micropython

from bms.sensors import ina228
from bms.sensors.ina228 import Ina228
from fakes import raises
from ina228_chip import (
    ADC_CONFIG,
    ALATCH,
    CONFIG,
    CURRENT,
    DIAG_ALRT,
    SHUNT_CAL,
    Chip,
    ConfigErrorMode,
)

LOCKS = hasattr(micropython, "heap_lock")


class Entry:
    """A [[sensor]] of the pack file."""

    kind = "ina228"
    string = 1
    gain_ppm = 1000000
    reversed = 0
    address = 0x40

    def __init__(self, shunt_uohm=100, range_ma=500000, **more):
        self.shunt_uohm = shunt_uohm
        self.range_ma = range_ma
        for key in more:
            setattr(self, key, more[key])


class Bench:
    """A chip with a current in its shunt, and the driver stepped each ms."""

    def __init__(self, shunt_uohm=100, range_ma=500000, ms=1000, **more):
        self.chip = Chip()
        self.shunt_uohm = shunt_uohm
        self.now = ms
        self.sensor = Ina228(Entry(shunt_uohm, range_ma, **more), self.chip)

    def ma(self, ma):
        self.chip.shunt_uv = ma * self.shunt_uohm / 1000
        return self

    def run(self, ms, step=1):
        for _ in range(ms // step):
            self.now = (self.now + step) & 0x1FFFFFFF
            self.chip.passes(1000 * step)
            before = self.chip.transfers
            self.sensor.step(self.now)
            assert self.chip.transfers - before <= 1  # one short transfer a step
        return self


def _near(a, b, by):
    assert b - by <= a <= b + by, (a, b)


def test_it_starts_and_measures():
    b = Bench().ma(123456).run(100)
    assert b.sensor.fresh(b.now)
    assert b.sensor.error == 0
    _near(b.sensor.ma, 123456, 4)  # a step of 312.5 nV is 3.1 mA
    b.ma(-123456).run(60)
    _near(b.sensor.ma, -123456, 4)


def test_settings_of_the_chip():
    b = Bench().run(50)
    assert b.chip.registers[CONFIG] == 0
    assert b.chip.registers[SHUNT_CAL] == 4096
    assert b.chip.registers[ADC_CONFIG] >> 12 == 0xB
    assert b.chip.registers[DIAG_ALRT] & ALATCH
    # 40 mV at the range: the small one, four times finer
    b = Bench(range_ma=400000).ma(100).run(60)
    assert b.chip.registers[CONFIG] == 0x10
    _near(b.sensor.ma, 100, 1)


def test_every_shunt_and_range():
    for shunt in (1, 7, 25, 50, 100, 375, 1000, 5000, 10000):
        for range_ma in (1000, 20000, 100000, 999999, 4000000):
            if shunt * range_ma // 1000 > 163000:
                continue
            b = Bench(shunt, range_ma)
            for ma in (0, range_ma, -range_ma, range_ma // 3, -range_ma // 7, 1):
                b.ma(ma).run(60)
                step = 1 + 313 // shunt
                _near(b.sensor.ma, ma, step)
                assert b.sensor.saturated == (abs(b.sensor.ma) >= range_ma - range_ma // 32)


def test_beyond_the_range_is_at_least_the_range():
    b = Bench(range_ma=300000).ma(900000).run(60)
    assert b.sensor.ma == 300000
    assert b.sensor.saturated
    b.ma(-2000000).run(60)
    assert b.sensor.ma == -300000


def test_each_conversion_counts_once():
    b = Bench().ma(1000).run(100)
    before = b.sensor.samples
    b.run(1000)
    made = b.sensor.samples - before
    assert 100 <= made <= 1000000 // 5328 + 1, made
    # the converter stands: nothing new comes, and the last value grows old
    b.chip._period = 0
    b.run(10)
    before = b.sensor.samples
    b.run(150)
    assert b.sensor.samples == before
    assert not b.sensor.fresh(b.now)


def test_a_chip_that_forgot_its_settings_gives_no_wrong_current():
    b = Bench(range_ma=400000).ma(40000).run(100)
    restarts = 0
    for _ in range(50):
        b.chip.power_up()  # the range is the large one now: four times too little
        for _ in range(40):
            b.run(1)
            _near(b.sensor.ma, 40000, 4)
        b.run(200)
        restarts += 1
        assert b.sensor.restarts == restarts
        assert b.sensor.fresh(b.now)
        b.run(restarts % 7)


def test_another_chip_is_refused():
    for maker, device in ((0x5449, 0x2260), (0x1234, 0x2281), (0xFFFF, 0xFFFF), (0, 0)):
        b = Bench()
        b.chip.maker = maker
        b.chip.device = device
        b.run(500)
        assert b.sensor.error == ina228.OTHER_CHIP
        assert b.sensor.samples == 0
        b.chip.maker = 0x5449
        b.chip.device = 0x2281
        b.run(300)
        assert b.sensor.fresh(b.now)
        assert b.sensor.error == 0


def test_a_chip_that_is_silent():
    b = Bench().ma(5000)
    b.chip.there = False
    b.run(300)
    assert b.sensor.error == ina228.NO_ANSWER
    assert not b.sensor.fresh(b.now)
    b.chip.there = True
    b.run(300)
    assert b.sensor.fresh(b.now)
    b.chip.there = False
    b.run(20)
    b.chip.there = True
    b.run(200)
    assert b.sensor.fresh(b.now)


def test_a_transfer_that_fails_at_any_moment_skips_nothing():
    for at in range(60):
        b = Bench(range_ma=400000).ma(40000)
        b.run(at)
        b.chip.broken_transfers = 1 + at % 4
        b.run(120)
        assert b.chip.registers[CONFIG] == 0x10
        assert b.chip.registers[SHUNT_CAL] == 4096
        assert b.sensor.fresh(b.now)
        _near(b.sensor.ma, 40000, 4)
        assert b.sensor.damaged == 1 + at % 4


def test_flags_of_the_chip_itself():
    b = Bench().ma(5000).run(100)
    b.chip.trim_good = False
    b.run(50)
    assert b.sensor.error == ina228.MEMORY
    assert not b.sensor.fresh(b.now)
    b.chip.trim_good = True
    b.run(300)
    assert b.sensor.fresh(b.now)
    b.chip.flags |= 0x200
    b.run(10)
    assert b.sensor.error == ina228.OVERFLOW
    b.run(300)
    assert b.sensor.error == 0


def test_the_bus_voltage():
    b = Bench()
    b.chip.bus_mv = 51234
    assert b.sensor.bus_at == -1
    b.run(200)
    _near(b.sensor.bus_mv, 51234, 1)


def test_one_damaged_transfer_is_no_reading():
    b = Bench().ma(20000).run(100)
    real = b.chip.readfrom_mem_into
    strike = [0]

    def damaged(address, register, buf):
        real(address, register, buf)
        if register == CURRENT and strike[0]:
            strike[0] = 0
            buf[0] ^= 0x40

    b.chip.readfrom_mem_into = damaged
    for i in range(40):
        strike[0] = 1
        for _ in range(30 + i):
            b.run(1)
            _near(b.sensor.ma, 20000, 4)


def test_gain_and_sign():
    b = Bench(gain_ppm=1001500, reversed=1).ma(400000).run(100)
    _near(b.sensor.ma, -400600, 6)
    b = Bench(gain_ppm=800000).ma(-333333).run(100)
    _near(b.sensor.ma, -266667, 6)


def test_ticks_wrap():
    b = Bench(ms=(1 << 29) - 500).ma(7000)
    b.run(1000)
    assert b.sensor.fresh(b.now)
    _near(b.sensor.ma, 7000, 4)


def test_the_steady_state_never_allocates():
    b = Bench().ma(1000).run(100)
    chip = b.chip

    class Quiet:
        """The chip's answers without anything that allocates."""

        def __init__(self):
            self.k = 0
            self.bytes = bytearray(3)

        def readfrom_mem_into(self, address, register, buf):
            self.k = (self.k + 1) & 0xFF
            if len(buf) == 2:
                buf[0] = 0x80
                buf[1] = 3
            else:
                buf[0] = self.k >> 1
                buf[1] = self.k
                buf[2] = 0x50

        def writeto_mem(self, address, register, buf):
            raise ConfigErrorMode("nothing is to be written")

    assert chip
    sensor = b.sensor
    sensor._i2c = Quiet()
    now = b.now
    before = sensor.samples
    gc.collect()
    if LOCKS:
        micropython.heap_lock()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        for _ in range(3000):
            now = (now + 1) & 0x1FFFFFFF
            sensor.step(now)
            sensor.fresh(now)
            sensor.check_ages(now)
    finally:
        if LOCKS:
            micropython.heap_unlock()  # pyright: ignore[reportAttributeAccessIssue]
    assert sensor.samples - before > 500


def test_the_model_refuses_what_the_chip_refuses():
    chip = Chip()
    two = bytearray(2)
    raises(OSError, chip.readfrom_mem_into, 0x40, CONFIG, two)  # still starting
    chip.passes(1000)
    raises(OSError, chip.readfrom_mem_into, 0x41, CONFIG, two)
    raises(ConfigErrorMode, chip.readfrom_mem_into, 0x40, CURRENT, two)
    raises(ConfigErrorMode, chip.readfrom_mem_into, 0x40, 0x20, two)
    raises(ConfigErrorMode, chip.writeto_mem, 0x40, CURRENT, bytearray(3))
    raises(ConfigErrorMode, chip.writeto_mem, 0x40, SHUNT_CAL, bytearray(b"\xff\xff"))
    raises(ConfigErrorMode, chip.writeto_mem, 0x40, SHUNT_CAL, b"\x10\x00")
