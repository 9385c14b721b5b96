"""What the pack may give and take just now: currents and voltages for an inverter or a motor.

Each cause shrinks a limit in a straight line, from all of it where its quantity warns to nothing
where it derates, so it is zero before a trip would come. Limits move in ramps. Stepped every 40 ms,
one string at a time; nothing here allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.protection import limits as L
from bms.protection.faults import DERATE, WARN
from bms.protection.limits import share

# what holds a limit down most; the place in REASONS is told
NOTHING, OPEN, FAULT, CELL, TEMP, SPREAD, BOARD, LEFT, PEAK, DERATED, OPENING, READINGS = range(12)
REASONS = (
    b"none",
    b"open",
    b"fault",
    b"cell_voltage",
    b"temperature",
    b"spread",
    b"board_temp",
    b"state_of_charge",
    b"peak",
    b"derated",
    b"opening",
    b"no_reading",
)
CHARGE, DISCHARGE = range(2)
_TICKS_PER_STRING = const(
    3
)  # steps for one string, one side in each of two: readings don't come more often


class PowerLimits:
    """charge_ma, discharge_ma: limits, >= 0; charge_mv, discharge_mv: voltages to stay within.

    reason [2]: what holds each down, index in REASONS.
    """

    def __init__(self, config, pack, faults, strings, limits, soc, now):
        self._pack = pack
        self._faults = faults
        self._strings = strings
        self._limits = limits
        self._soc = soc
        self._base = array("i", [0, 0])
        self._base[CHARGE] = limits.bound(L.CHARGE, WARN)
        self._base[DISCHARGE] = limits.bound(L.DISCHARGE, WARN)
        self._continuous = array("i", [config.charge_continuous_ma, config.discharge_continuous_ma])
        n = pack.strings
        self._most = array("i", [0, 0])
        self._most[CHARGE] = limits.bound(L.PACK_CHARGE, WARN)
        self._most[DISCHARGE] = limits.bound(L.PACK_DISCHARGE, WARN)
        # from where a quantity warns, all of it is left, to where it derates, nothing is
        self._cell = _ranges(limits, L.CELL_MAX, L.CELL_MIN)
        self._temp = _ranges(limits, L.CHARGE_TEMP_MAX, L.CHARGE_TEMP_MIN, L.TEMP_MAX, L.TEMP_MIN)
        self._spread = _ranges(limits, L.SPREAD)
        self._board = _ranges(limits, L.BOARD)
        self._peak = _ranges(limits, L.CHARGE_PEAK)
        self._left = array("h", [config.soc_low_pm, config.soc_empty_pm])
        self._derate = config.derate_pm
        self._up = config.ramp_up_ms
        self._down = config.ramp_down_ms
        self._part = array("i", [0] * (2 * n))  # of each string: charge, discharge
        self._why = bytearray(2 * n)
        self._aim = array("i", [0, 0])
        self._string = self._turn = 0
        self._at = now
        self._ma = array("i", [0, 0])
        self.reason = bytearray(2)
        self.charge_mv = pack.string_cells[0] * config.cell_warn_max_mv
        self.discharge_mv = pack.string_cells[0] * config.cell_warn_min_mv

    @property
    def charge_ma(self):
        """What the pack takes at most, mA."""
        return self._ma[CHARGE]

    @property
    def discharge_ma(self):
        """What the pack gives at most, mA."""
        return self._ma[DISCHARGE]

    def step(self, now):
        """Find the limits of the next string in three steps; move towards those of all."""
        turn = self._turn
        self._turn = turn + 1 if turn + 1 < _TICKS_PER_STRING else 0
        s = self._string
        if turn == CHARGE or turn == DISCHARGE:
            self._one(s, turn)
        else:
            self._string = s + 1 if s + 1 < self._pack.strings else 0
        ms = ticks.diff(now, self._at)
        self._at = now
        if not 0 <= ms <= 100:
            ms = 100  # a ramp doesn't jump after a pause
        for side in range(2):
            self._all(side)
            self._ramp(side, ms)

    def _ramp(self, side, ms):
        ma = self._ma[side]
        aim = self._aim[side]
        if not self._strings.count_closed:
            self._ma[side] = 0  # nothing can flow any more
            return
        # split, so that the product stays below 2**30 for any pack
        by = (self._most[side] >> 2) * ms // (self._up if aim > ma else self._down) << 2
        if by < 4:
            by = 4
        if aim > ma:
            self._ma[side] = ma + by if ma + by < aim else aim
        elif aim < ma:
            self._ma[side] = ma - by if ma - by > aim else aim

    def _all(self, side):
        """All connected strings together: they share by themselves, so the weakest one decides."""
        least = -1
        count = 0
        why = OPEN
        for s in range(self._pack.strings):
            if not self._strings.closed(s):
                continue
            count += 1
            part = self._part[2 * s + side]
            if least < 0 or part < least:
                least = part
                why = self._why[2 * s + side]
        aim = least * count if count else 0
        if aim > self._most[side]:
            aim = self._most[side]
        if not self._strings.wants_power:
            aim = 0
            why = OPENING
        self._aim[side] = aim
        self.reason[side] = why

    def _one(self, s, side):
        """The limit of one string, and what holds it down."""
        i = 2 * s + side
        cell = self._pack.string_cell[s]
        temp = self._pack.string_temp[s]
        self._part[i] = 0
        if self._faults.blocking(s):
            self._why[i] = FAULT
            return
        if not cell.complete or not temp.complete:
            self._why[i] = READINGS
            return
        if side == CHARGE:
            pm = _falling(cell.high, self._cell[0], self._cell[1])
        else:
            pm = _rising(cell.low, self._cell[2], self._cell[3])
        why = CELL if pm < 1000 else NOTHING
        if temp.count:
            t = self._temp
            k = 0 if side == CHARGE else 4
            other = _falling(temp.high, t[k], t[k + 1])
            cold = _rising(temp.low, t[k + 2], t[k + 3])
            if cold < other:
                other = cold
            if other < pm:
                pm = other
                why = TEMP
        other = _falling(cell.high - cell.low, self._spread[0], self._spread[1])
        if other < pm:
            pm = other
            why = SPREAD
        other = _falling(self._limits.hottest_dc(s), self._board[0], self._board[1])
        if other < pm:
            pm = other
            why = BOARD
        if side == DISCHARGE and self._soc.sure[s]:
            other = _rising(self._soc.pm[s], self._left[0], self._left[1])
            if other < pm:
                pm = other
                why = LEFT
        if self._faults.derating(s) and self._derate < pm:
            pm = self._derate
            why = DERATED
        ma = self._base[side]
        steady = self._continuous[side]
        if 0 < steady < ma:
            # the peak goes back to what may flow without end before its budget is used up
            other = _falling(self._limits.peak_pm[i], self._peak[0], self._peak[1])
            if other < 1000:
                ma = steady + share(ma - steady, other)
                if pm == 1000:
                    why = PEAK
        self._part[i] = share(ma, pm)
        self._why[i] = why


def _ranges(limits, *quantities):
    """Bounds that warn and derate of each quantity, one behind the other. Allocates, at start."""
    out = array("h", [0] * (2 * len(quantities)))
    for i in range(len(quantities)):
        out[2 * i] = limits.bound(quantities[i], WARN)
        out[2 * i + 1] = limits.bound(quantities[i], DERATE)
    return out


def _falling(value, all_, none):
    """1000 up to `all_`, 0 from `none` on, a straight line between."""
    if value <= all_:
        return 1000
    if value >= none:
        return 0
    return (none - value) * 1000 // (none - all_)


def _rising(value, all_, none):
    """1000 from `all_` up, 0 down from `none`, a straight line between."""
    if value >= all_:
        return 1000
    if value <= none:
        return 0
    return (value - none) * 1000 // (all_ - none)
