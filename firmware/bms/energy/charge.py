"""State of charge of each string: counts the current, and corrects the count by cell voltages.

Corrected when full (a cell at `full_cell` with a small current), when empty (a cell at
`empty_cell`), by the voltage after a charge that reached `full_cell`, and by the open-circuit
voltage after a rest; never before the voltage has settled. Between corrections the count drifts by
what sensors don't see, until it is no longer sure. Also counts charge, energy and cycles for the
store. Stepped each tick; nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.energy import totals as S
from bms.protection import fault_ids as F

_STEP = const(50)  # permille from one entry of a table to the next, up to entry _FINE
_FINE = const(19)
_FINE_STEP = const(10)  # behind it, where the voltage of LFP bends
_SETTLE_S = const(30)  # a small current lasts so long before a voltage counts: RC time of a cell
_LARGE, _SMALL, _FULL, _EMPTY = range(4)
_SURE_PM = const(100)  # largest drift with which a state of charge is sure
_LOST_PM = const(1000)  # drift of one that was never corrected
_START_PM = const(10)  # drift of each start: nobody knows how long the master was off
# unseen current: self-discharge, and what the slave boards draw beside the sensor, as capacity / h;
# error of the counted charge: 1 / 128
_IDLE_H = const(500)
_GAIN_SHIFT = const(7)
# open-circuit voltage of a cell in mV from 0 to 1000 permille. LFP: the cathode of Afshar et al.,
# arXiv:1709.03970, against the graphite of Chen et al.; flat in the middle, so only its ends are
# used. NMC: LG M50, Chen et al. 2020, doi:10.1149/1945-7111/ab9050.
OCV_MV = (
    (
        2494, 2897, 3053, 3152, 3177, 3196, 3223, 3246, 3258, 3263, 3265,
        3266, 3267, 3272, 3292, 3308, 3312, 3313, 3314, 3315,
        3316, 3319, 3333, 3385, 3590,
    ),
    (
        2499, 3109, 3296, 3434, 3485, 3529, 3581, 3629, 3667, 3705, 3751,
        3798, 3841, 3890, 3948, 3994, 4042, 4081, 4097, 4124,
        4135, 4149, 4165, 4182, 4200,
    ),
)  # fmt: skip


class Charge:
    """pm [strings]: state of charge in permille; sure [strings]: 1 = it has drifted by at most 10 %
    since a voltage corrected it.

    A state of charge that was corrected once is kept in the store, with its drift.
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
        self._at_end = bytearray(n)  # _LARGE or what a small current shows
        self._held_s = bytearray(n)  # seconds of the same
        self._reached = bytearray(n)  # 1 = a cell was at full_cell as it was charged last
        self._drift_pm = array("h", [_LOST_PM] * n)  # possible error since the last correction
        self._unseen = array("i", [0] * n)  # not yet in the drift, in mA s
        self._current_age = config.current_age_ms
        self.pm = array("h", [0] * n)
        self.sure = bytearray(n)
        self._known = bytearray(n)
        self._at = self._second_at = now
        self._cycle_mas = config.capacity_mah * n * 36 // 10  # mA s, 1/1000 of a full cycle
        changed = totals[S.CONFIG_CRC] != config.crc
        totals[S.CONFIG_CRC] = config.crc
        for s in range(n):
            kept = totals[S.SOC + s] - 1
            drift = totals[S.DRIFT + s] + _START_PM
            if changed:
                drift = max(drift, _SURE_PM + 1)  # another pack, perhaps
            if 0 <= kept <= 1000 and 0 < drift < _LOST_PM:
                self._set(s, kept)
                self._drift_pm[s] = totals[S.DRIFT + s] = drift
                self.sure[s] = drift <= _SURE_PM
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
            if current.age(now) <= self._current_age:
                # split: a large current over a second is more than a small int
                self._acc[current.string] += (current.ma >> 2) * ms
        if ticks.diff(now, self._second_at) >= 1000:
            self._second_at = ticks.add(self._second_at, 1000)
            for s in range(self._pack.strings):
                self._second(s, now)

    @property
    def pack_pm(self):
        """State of charge of the emptiest string, permille; None = not known of each."""
        return min(self.pm) if all(self._known) else None

    def _second(self, s, now):
        mas = self._acc[s] // 250
        self._acc[s] -= mas * 250
        cell = self._pack.string_cell[s]
        current = self._currents[s]
        self._count(mas, cell.total if cell.complete else 0)
        self._drift(s, mas)
        if mas > 0:
            mas -= mas * (1000 - self._efficiency) // 1000
        left = self._mas[s] + mas
        self._mas[s] = left % 3600
        mah = self._mah[s] + left // 3600
        self._mah[s] = 0 if mah < 0 else mah if mah < self._capacity else self._capacity
        if cell.complete:
            self._correct(s, cell, current, now)
        self.pm[s] = self._permille(self._mah[s])
        drift = self._drift_pm[s]
        self.sure[s] = drift <= _SURE_PM
        if self._known[s]:
            kept = drift < _LOST_PM
            self._totals[S.SOC + s] = self.pm[s] + 1 if kept else 0
            self._totals[S.DRIFT + s] = drift if kept else 0

    def _drift(self, s, mas):
        """Add what a second may have changed unseen, `mas` counted, to the drift of a string."""
        unseen = self._unseen[s] + self._capacity // _IDLE_H + (abs(mas) >> _GAIN_SHIFT) + 1
        permille = self._capacity * 36 // 10
        if unseen >= permille:
            unseen -= permille
            if self._drift_pm[s] < _LOST_PM:
                self._drift_pm[s] += 1
        self._unseen[s] = unseen

    def _correct(self, s, cell, current, now):
        """Correct the count of string `s` if full, empty or rested; set DEEP_DISCHARGE."""
        if cell.low < self._deep_mv and not self._totals[S.DEEP] >> s & 1:
            self._totals[S.DEEP] |= 1 << s
            self._faults.set(F.DEEP_DISCHARGE, s, cell.low)
        mean = cell.total // cell.count
        if not self._known[s]:
            # a first estimate, whatever current flows
            self._set(s, self._by_voltage(mean))
        ma = 0
        if current.age(now) <= self._current_age:
            ma = current.ma
        elif self._pack.energised[s]:  # any current may flow
            self._held_s[s] = self._reached[s] = self._rested[s] = 0
            return
        size = ma if ma >= 0 else -ma
        if ma > self._full_ma:
            self._reached[s] = cell.high >= self._full_mv
        elif -ma > self._full_ma:
            self._reached[s] = 0
        at = _SMALL
        if cell.low <= self._empty_mv and size <= self._capacity // 5:
            at = _EMPTY
        elif size > self._full_ma:
            at = _LARGE
        elif cell.high >= self._full_mv:
            at = _FULL
        if at != self._at_end[s] or at == _LARGE:
            self._at_end[s] = at
            self._held_s[s] = 0
        elif self._held_s[s] < _SETTLE_S:
            self._held_s[s] += 1
        elif at != _SMALL:
            self._sure(s, 1000 if at == _FULL else 0)
        elif self._reached[s]:  # the charger has stopped: no small current came first
            self._reached[s] = 0
            # of an LFP string the first full cell: the mean of unequal ones is flat
            self._settled(s, cell.high if self._flat else mean, -1)
        if size > self._rest_ma:
            self._rested[s] = 0
            return
        if self._rested[s] < self._rest_s:
            self._rested[s] += 1
            return
        self._settled(s, mean, 150)
        self._rested[s] = 0

    def _settled(self, s, mv, low):
        """Correct by a voltage without current; LFP: only at or below `low`, or at the full end."""
        pm = self._by_voltage(mv)
        if not self._flat or pm <= low or pm >= 990:
            self._sure(s, pm)

    def _sure(self, s, pm):
        self._set(s, pm)
        self.sure[s] = 1
        self._drift_pm[s] = 0
        self._unseen[s] = self._reached[s] = 0

    def _by_voltage(self, mv):
        """State of charge in permille at an open-circuit voltage of a cell in mV."""
        table = self._ocv
        if mv <= table[0]:
            return 0
        for i in range(1, len(table)):
            if mv <= table[i]:
                step = _STEP if i <= _FINE else _FINE_STEP
                first = _STEP * (i - 1) if i <= _FINE else _STEP * _FINE + step * (i - 1 - _FINE)
                return first + step * (mv - table[i - 1]) // (table[i] - table[i - 1])
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
