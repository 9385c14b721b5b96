"""State of charge of each string: counts the current, and corrects the count by cell voltages.

Corrected when full (a cell at `full_cell` with a small charge current), when empty (a cell at
`empty_cell`), and by the open-circuit voltage after a rest. Also counts charge, energy and cycles
for the store. Stepped each tick; nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.energy import totals as S
from bms.protection import fault_ids as F

_STEP = const(50)  # permille from one entry of a table to the next
# open-circuit voltage of a cell in mV from 0 to 1000 permille. LFP: the cathode of Afshar et al.,
# arXiv:1709.03970, against the graphite of Chen et al.; flat in the middle, so only its ends are
# used. NMC: LG M50, Chen et al. 2020, doi:10.1149/1945-7111/ab9050.
OCV_MV = (
    (
        2494, 2897, 3053, 3152, 3177, 3196, 3223, 3246, 3258, 3263, 3265,
        3266, 3267, 3272, 3292, 3308, 3312, 3313, 3314, 3315, 3590,
    ),
    (
        2499, 3109, 3296, 3434, 3485, 3529, 3581, 3629, 3667, 3705, 3751,
        3798, 3841, 3890, 3948, 3994, 4042, 4081, 4097, 4124, 4200,
    ),
)  # fmt: skip


class Charge:
    """pm [strings]: state of charge in permille; sure [strings]: 1 = corrected by voltage once.

    pack_pm: that of the emptiest string. `pm` and `sure` are kept in the store.
    """

    def __init__(self, config, pack, currents, faults, store, now):
        self._pack = pack
        self._currents = currents
        self._faults = faults
        totals = self._totals = store.totals
        self._store = store
        self._capacity = config.capacity_mah
        self._efficiency = config.charge_efficiency_pm
        self._rest_ma = config.rest_current_ma or config.capacity_mah // 100
        self._rest_s = config.rest_time_ms // 1000
        self._full_mv = config.full_cell_mv
        self._full_ma = config.full_current_ma or config.capacity_mah // 20
        self._empty_mv = config.empty_cell_mv
        self._deep_mv = config.deep_cell_mv
        self._flat = config.chemistry == 0  # LFP
        self._ocv = array("h", OCV_MV[config.chemistry])
        n = pack.strings
        self._acc = array("i", [0] * n)  # not counted yet, in 4 mA ms
        self._mas = array("h", [0] * n)  # remainder of _mah: mA s, 0..3599
        self._mah = array("i", [0] * n)
        self._rested = array("i", [0] * n)  # seconds
        self.pm = array("h", [0] * n)
        self.sure = bytearray(n)
        self._known = bytearray(n)
        self._at = self._second_at = now
        self._cycle_mas = config.capacity_mah * n * 36 // 10  # mA s, 1/1000 of a full cycle
        self.pack_pm = 0
        for s in range(n):
            kept = totals[S.SOC + s] - 1
            if 0 <= kept <= 1000:
                self._set(s, kept)
                self.sure[s] = 1
            if totals[S.DEEP] >> s & 1:
                faults.set(F.DEEP_DISCHARGE, s, 0)

    def forget_deep(self):
        """Clear DEEP_DISCHARGE: by command, deeply discharged cells may be used again."""
        self._totals[S.DEEP] = 0
        for s in range(self._pack.strings):
            self._faults.clear(F.DEEP_DISCHARGE, s)

    def step(self, now):
        """Count the current since the last tick; do all other things once a second."""
        ms = ticks.diff(now, self._at)
        self._at = now
        if ms > 1000:
            ms = 1000  # a pause without measurements
        for current in self._currents:
            if current.valid:
                # split: a large current over a second is more than a small int
                self._acc[current.string] += (current.ma >> 2) * ms
        if ticks.diff(now, self._second_at) >= 1000:
            self._second_at = ticks.add(self._second_at, 1000)
            least = 1000
            for s in range(self._pack.strings):
                self._second(s)
                if self.pm[s] < least:
                    least = self.pm[s]
            self.pack_pm = least

    def _second(self, s):
        mas = self._acc[s] // 250
        self._acc[s] -= mas * 250
        cell = self._pack.string_cell[s]
        current = self._currents[s]
        self._count(mas, cell.total if cell.complete else 0)
        if mas > 0:
            mas -= mas * (1000 - self._efficiency) // 1000
        left = self._mas[s] + mas
        self._mas[s] = left % 3600
        mah = self._mah[s] + left // 3600
        self._mah[s] = 0 if mah < 0 else mah if mah < self._capacity else self._capacity
        if cell.complete:
            self._correct(s, cell, current)
        self.pm[s] = self._permille(self._mah[s])
        if self._known[s]:
            self._totals[S.SOC + s] = self.pm[s] + 1 if self.sure[s] else 0

    def _correct(self, s, cell, current):
        """Correct the count of string `s` if full, empty or rested; set DEEP_DISCHARGE."""
        ma = current.ma if current.installed else 0
        size = ma if ma >= 0 else -ma
        if cell.low < self._deep_mv and not self._totals[S.DEEP] >> s & 1:
            self._totals[S.DEEP] |= 1 << s
            self._faults.set(F.DEEP_DISCHARGE, s, cell.low)
        mean = cell.total // cell.count
        if not self._known[s]:
            # a first estimate, whatever current flows
            self._set(s, self._by_voltage(mean))
        if 0 < ma <= self._full_ma and cell.high >= self._full_mv:
            self._set(s, 1000)
            self.sure[s] = 1
        elif cell.low <= self._empty_mv and size <= self._capacity // 5:
            self._set(s, 0)
            self.sure[s] = 1
        if size > self._rest_ma:
            self._rested[s] = 0
            return
        if self._rested[s] < self._rest_s:
            self._rested[s] += 1
            return
        pm = self._by_voltage(mean)
        if not self._flat or pm <= 100 or pm >= 990:
            self._set(s, pm)
            self.sure[s] = 1
        self._rested[s] = 0

    def _by_voltage(self, mv):
        """State of charge in permille at an open-circuit voltage of a cell in mV."""
        table = self._ocv
        if mv <= table[0]:
            return 0
        for i in range(1, len(table)):
            if mv <= table[i]:
                span = table[i] - table[i - 1]
                return _STEP * (i - 1) + _STEP * (mv - table[i - 1]) // (span if span else 1)
        return 1000

    def _set(self, s, pm):
        self._known[s] = 1
        c = self._capacity
        self._mah[s] = c * pm // 1000 if c < 1000000 else c // 1000 * pm
        self._mas[s] = 0
        self.pm[s] = pm

    def _permille(self, mah):
        c = self._capacity
        return mah * 1000 // c if c < 1000000 else mah * 100 // (c // 10)

    def _count(self, mas, string_mv):
        """Add charge, energy and cycles of one string in one second to the store's totals."""
        if not mas:
            return
        size = mas if mas > 0 else -mas
        # V * mA = mW, over a second mWs; in units of 64 and bounded, so that it stays a small int
        part = string_mv // 1000 * (size >> 6)
        if part > 1 << 22:
            part = 1 << 22
        store = self._store
        store.add(S.CHARGE_IN if mas > 0 else S.CHARGE_OUT, size, 3600)
        store.add(S.ENERGY_IN if mas > 0 else S.ENERGY_OUT, part << 6, 3600)
        if mas < 0:
            store.add(S.CYCLES, size, self._cycle_mas)
