"""A TI INA228 on an I2C bus, written from its data sheet (SLYS021A): registers, conversions, flags.

It refuses what the chip refuses: other addresses, registers that aren't there, transfers of another
length, writes to what can only be read. Shares no code with the driver. Runs on both runtimes.
"""

CONFIG, ADC_CONFIG, SHUNT_CAL, SHUNT_TEMPCO, VSHUNT, VBUS = range(6)
DIETEMP, CURRENT, POWER, ENERGY, CHARGE, DIAG_ALRT = range(6, 12)
MANUFACTURER_ID, DEVICE_ID = 0x3E, 0x3F
BYTES = {
    CONFIG: 2, ADC_CONFIG: 2, SHUNT_CAL: 2, SHUNT_TEMPCO: 2, VSHUNT: 3, VBUS: 3, DIETEMP: 2,
    CURRENT: 3, POWER: 3, ENERGY: 5, CHARGE: 5, DIAG_ALRT: 2, 0x0C: 2, 0x0D: 2, 0x0E: 2, 0x0F: 2,
    0x10: 2, 0x11: 2, MANUFACTURER_ID: 2, DEVICE_ID: 2,
}  # fmt: skip
RESET = {
    CONFIG: 0, ADC_CONFIG: 0xFB68, SHUNT_CAL: 0x1000, SHUNT_TEMPCO: 0, DIAG_ALRT: 1,
    0x0C: 0x7FFF, 0x0D: 0x8000, 0x0E: 0x7FFF, 0x0F: 0, 0x10: 0x7FFF, 0x11: 0xFFFF,
}  # fmt: skip
WRITABLE = {
    CONFIG: 0xFFF0, ADC_CONFIG: 0xFFFF, SHUNT_CAL: 0x7FFF, SHUNT_TEMPCO: 0x3FFF, DIAG_ALRT: 0xF000,
    0x0C: 0xFFFF, 0x0D: 0xFFFF, 0x0E: 0x7FFF, 0x0F: 0x7FFF, 0x10: 0xFFFF, 0x11: 0xFFFF,
}  # fmt: skip
TIMES_US = (50, 84, 150, 280, 540, 1052, 2074, 4120)
AVERAGES = (1, 4, 16, 64, 128, 256, 512, 1024)
ALATCH, MATHOF, CNVRF, MEMSTAT = 0x8000, 0x0200, 2, 1
START_US = 300


class ConfigErrorMode(Exception):
    """The program asked for what the chip or the bus does not do."""


class Chip:
    """shunt_uv, bus_mv: at its inputs; us: its time, see `passes`; transfers: so far."""

    def __init__(self, address=0x40):
        self.address = address
        self.us = 0
        self.shunt_uv = 0.0
        self.bus_mv = 0.0
        self.there = True  # it answers
        self.maker = 0x5449
        self.device = 0x2281
        self.trim_good = True
        self.broken_transfers = 0  # so many that come fail
        self.transfers = 0
        self.power_up()

    def power_up(self):
        """All settings are those of the data sheet again, as after a dip of the supply."""
        self.registers = dict(RESET)
        self.results = {VSHUNT: 0, VBUS: 0, CURRENT: 0}
        self.flags = 0
        self._ready_at = self.us + START_US
        self._begin(self._ready_at)

    def _begin(self, us):
        adc = self.registers[ADC_CONFIG]
        mode = adc >> 12
        period = 0
        if mode & 8:
            if mode & 1:
                period += TIMES_US[adc >> 9 & 7]
            if mode & 2:
                period += TIMES_US[adc >> 6 & 7]
            if mode & 4:
                period += TIMES_US[adc >> 3 & 7]
        self._period = period * AVERAGES[adc & 7]
        self._done_at = us + self._period

    def passes(self, us):
        """Time goes by; conversions end."""
        self.us += us
        while self._period and self._done_at <= self.us:
            self._done_at += self._period
            self._convert()

    def _convert(self):
        small = self.registers[CONFIG] >> 4 & 1
        steps = int(self.shunt_uv * 1000 / (78.125 if small else 312.5))
        steps = min(max(steps, -(1 << 19)), (1 << 19) - 1)
        cal = self.registers[SHUNT_CAL]
        current = steps * cal // 4096
        if not -(1 << 19) <= current < 1 << 19:
            self.flags |= MATHOF
            current = min(max(current, -(1 << 19)), (1 << 19) - 1)
        self.results[VSHUNT] = steps
        self.results[CURRENT] = current
        self.results[VBUS] = min(int(self.bus_mv * 1000 / 195.3125), (1 << 19) - 1)
        self.flags |= CNVRF

    # --- the bus ---

    def _check(self, address, register, buf):
        if self.broken_transfers:
            self.broken_transfers -= 1
            raise OSError(110)
        if address != self.address or not self.there or self.us < self._ready_at:
            raise OSError(19)
        if not isinstance(buf, bytearray):
            raise ConfigErrorMode("a buffer that is made anew for each transfer")
        if register not in BYTES:
            raise ConfigErrorMode("no register 0x%02X" % register)
        if len(buf) != BYTES[register]:
            raise ConfigErrorMode("register 0x%02X has %d bytes" % (register, BYTES[register]))
        self.transfers += 1

    def readfrom_mem_into(self, address, register, buf):
        self._check(address, register, buf)
        if register in self.results:
            value = (self.results[register] & 0xFFFFF) << 4
        elif register == MANUFACTURER_ID:
            value = self.maker
        elif register == DEVICE_ID:
            value = self.device
        elif register == DIAG_ALRT:
            value = self.registers[DIAG_ALRT] & 0xF000 | self.flags
            value |= MEMSTAT if self.trim_good else 0
            if value & ALATCH:
                self.flags &= ~CNVRF
        elif register in self.registers:
            value = self.registers[register]
        else:
            raise ConfigErrorMode("register 0x%02X is not modelled" % register)
        for i in range(len(buf)):
            buf[i] = value >> 8 * (len(buf) - 1 - i) & 255

    def writeto_mem(self, address, register, buf):
        self._check(address, register, buf)
        if register not in WRITABLE:
            raise ConfigErrorMode("register 0x%02X can only be read" % register)
        value = buf[0] << 8 | buf[1]
        if value & ~WRITABLE[register]:
            raise ConfigErrorMode("reserved bits of register 0x%02X: 0x%04X" % (register, value))
        if register == CONFIG and value & 0x8000:
            self.power_up()
            return
        if register == CONFIG:
            value &= ~0x4000
        self.registers[register] = value
        if register == ADC_CONFIG:
            self.flags &= ~(CNVRF | MATHOF)
            self._begin(self.us)
