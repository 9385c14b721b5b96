"""Power limits: currents and voltages that an inverter or a motor may use at present.

Each quantity reduces a limit in a straight line: all of it at its warn bound, nothing at its derate
bound, so the limit is 0 before a trip. What only charging makes worse reduces only the charge
limit, and the other way round. Limits change in ramps. Stepped every 50 ms, one string at a time;
nothing here allocates after start-up.

Who follows a limit with a lag must settle. A cell's voltage falls by its resistance as the current
falls, so a limit that came back at once would swing. It comes back in proportion to the room that
cells have left, none close to the warn bound, as fast as cells of the usual resistance bear; and it
falls early, by where the voltage will be: see `_one`.
"""

from array import array

from micropython import const

from bms import ticks
from bms.protection import limits as L
from bms.protection.fault_ids import DERATE, WARN
from bms.protection.limits import share

# what reduces a limit most, as a number in REASONS
NOTHING, OPEN, FAULT, CELL, TEMP, SPREAD, BOARD, SOC, PEAK, DERATED, OPENING, READINGS, VOLTAGE = (
    range(13)
)
# each with a space behind it
REASONS = (
    b"none open fault cell_voltage temperature spread board_temp state_of_charge peak derated"
    b" opening no_reading string_voltage "
)
CHARGE, DISCHARGE = range(2)

_ROUND_MS = const(200)  # from one calculation of a string's limit to the next, with one string
_OHM_AH = const(55)  # resistance of a cell x its capacity, mohm Ah: 0.5..1 mohm at 50 to 100 Ah
_RISE_S = const(25)  # a limit takes so long to use the room of such a cell; 4 times the lag of 5 s
_ROOM_MV = const(500)  # more room does not count
_TREND_S = const(5)  # the trend is that of a voltage against its mean over so long; 7.5 s ahead
_LEAD = const(40 << 8)  # 1/256 mV: a larger trend does not count
_STEP = const(100 << 8)  # that is no trend: a load was switched on


class PowerLimits:
    """charge_ma, discharge_ma: limits of the pack in mA, >= 0.

    charge_mv, discharge_mv: highest and lowest pack voltage in mV. reason [2]: what reduces the
    charge and the discharge limit most, see REASONS.
    """

    # parameters: each is a part of the master that it reads
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
        # pairs (warn bound, derate bound): the limit falls from all to nothing between them
        self._cell = _ranges(limits, L.CELL_MAX, L.CELL_MIN)
        self._voltage = _ranges(limits, L.VOLTAGE_MAX, L.VOLTAGE_MIN)
        for i in (2, 3):  # of a discharge: with a negative sign all bounds are exceeded above
            self._cell[i] = -self._cell[i]
            self._voltage[i] = -self._voltage[i]
        self._mean = array("i", [0] * (2 * n))  # of the cell nearest to its bound, in 1/256 mV
        # a limit's rise in each calculation, in 1/64 mA for each mV of room
        self._rise = config.capacity_mah * n * 64 * _ROUND_MS // (1000 * _OHM_AH * _RISE_S) + 1
        self._temp = _ranges(limits, L.CHARGE_TEMP_MAX, L.CHARGE_TEMP_MIN, L.TEMP_MAX, L.TEMP_MIN)
        self._spread = _ranges(limits, L.SPREAD)
        self._board = _ranges(limits, L.BOARD)
        self._peak = _ranges(limits, L.CHARGE_PEAK)
        self._soc_range = array("h", [config.soc_low_pm, config.soc_empty_pm])
        self._derate = config.derate_pm
        self._up = config.ramp_up_ms
        self._down = config.ramp_down_ms
        self._part = array("i", [0] * (2 * n))  # of each string: charge, discharge
        self._why = bytearray(2 * n)
        self._aim = array("i", [0, 0])
        self._string = 0
        self._side = CHARGE  # calculated next
        self._ramps = False
        self._at = array("i", [now, now])
        self._ma = array("i", [0, 0])
        self.reason = bytearray(2)
        n = pack.string_cells[0]
        self.charge_mv = min(n * config.cell_warn_max_mv, self._voltage[0])
        self.discharge_mv = max(n * config.cell_warn_min_mv, -self._voltage[2])

    @property
    def charge_ma(self):
        """Highest charge current of the pack, mA."""
        return self._ma[CHARGE]

    @property
    def discharge_ma(self):
        """Highest discharge current of the pack, mA."""
        return self._ma[DISCHARGE]

    def step(self, now):
        """Calculate one limit of the next string, or move a ramp of the pack: a fourth of all."""
        if not self._strings.count_closed:
            self._ma[CHARGE] = self._ma[DISCHARGE] = 0  # no current can flow any more
        side = self._side
        self._ramps = not self._ramps
        if not self._ramps:
            self._one(self._string, side)
            return
        self._side = DISCHARGE - side
        if side == DISCHARGE:
            self._string = self._string + 1 if self._string + 1 < self._pack.strings else 0
        ms = ticks.diff(now, self._at[side])
        self._at[side] = now
        if not 0 <= ms <= 400:
            ms = 400  # a ramp doesn't jump after a pause
        self._all(side)
        self._ramp(side, ms)

    def _ramp(self, side, ms):
        ma = self._ma[side]
        aim = self._aim[side]
        if not self._strings.count_closed:
            return
        time = self._up if aim > ma else self._down
        by = self._most[side]
        # split, so that the product stays below 2**30 for any pack
        by = by * ms // time + 1 if by < 1 << 20 else ((by >> 9) * ms // time << 9) + 512
        if aim > ma:
            self._ma[side] = ma + by if ma + by < aim else aim
        elif aim < ma:
            self._ma[side] = ma - by if ma - by > aim else aim

    def _all(self, side):
        """The limit of all closed strings: they share the current, so the lowest limit decides."""
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

    # long: one quantity after the other; each reads what those before have left
    def _one(self, s, side):
        """Calculate the limit of one string, and what reduces it most."""
        i = 2 * s + side
        cell = self._pack.string_cell[s]
        temp = self._pack.string_temp[s]
        was = self._part[i]
        self._part[i] = 0
        if self._faults.blocking(s):
            self._why[i] = FAULT
            return
        if not cell.complete or not temp.complete:
            self._why[i] = READINGS
            return
        x = cell.high
        mv = self._limits.string_mv[s] or cell.total
        far = x - cell.total // cell.count
        if side == DISCHARGE:
            x = -cell.low
            mv = -mv
            far = cell.total // cell.count + x
        ahead = self._trend(i, x)
        x += ahead
        mv += ahead * cell.count
        k = 2 * side
        pm = _falling(x, self._cell[k], self._cell[k + 1])
        room = self._cell[k] - x
        room = min(room, (self._voltage[k] - mv) // cell.count)
        room -= (self._cell[k + 1] - self._cell[k]) >> 2
        other = _falling(mv, self._voltage[k], self._voltage[k + 1])
        why = CELL if pm < 1000 else NOTHING
        if other < pm:
            pm = other
            why = VOLTAGE
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
        # all of the spread on the side of the cell that is further from the mean, nothing of it
        # where the mean is a third away or less
        spread = cell.high - cell.low
        far = min(6 * far - 2 * spread, spread)
        other = _falling(far, self._spread[0], self._spread[1])
        if other < pm:
            pm = other
            why = SPREAD
        other = _falling(self._limits.hottest_dc(s), self._board[0], self._board[1])
        if other < pm:
            pm = other
            why = BOARD
        if side == DISCHARGE and self._soc.sure[s]:
            other = _rising(self._soc.pm[s], self._soc_range[0], self._soc_range[1])
            if other < pm:
                pm = other
                why = SOC
        if self._faults.derating(s, side) and self._derate < pm:
            pm = self._derate
            why = DERATED
        ma = self._base[side]
        steady = self._continuous[side]
        if 0 < steady < ma:
            # falls from the peak to the continuous current before the I2t budget is used up
            other = _falling(self._limits.peak_pm[i], self._peak[0], self._peak[1])
            if other < 1000:
                ma = steady + share(ma - steady, other)
                if pm == 1000:
                    why = PEAK
        ma = share(ma, pm)
        room = min(max(room, 0), _ROOM_MV)
        most = was + (room * self._rise + 63 >> 6)
        if side == CHARGE and not self._strings.closed(s):
            # no current yet: half of what cells of the usual resistance would take
            most = min(most, room * self._rise // self._pack.strings)
        if ma > most:
            ma = most
            if why == NOTHING:
                why = CELL
        self._part[i] = ma
        self._why[i] = why

    def _trend(self, i, x):
        """mV that a voltage will have risen by in 7.5 s if it goes on as in the last 5 s; >= 0."""
        over = (x << 8) - self._mean[i]
        if over > _STEP or over < -_LEAD:
            over = 0
        elif over > _LEAD:
            over = _LEAD
        ms = _ROUND_MS * self._pack.strings
        self._mean[i] = (x << 8) - over + over * ms // (1000 * _TREND_S)
        return over * 3 >> 9 if over > 0 else 0


def _ranges(limits, *quantities):
    """(warn bound, derate bound) of each quantity, in one array('i'). Allocates, at start."""
    out = array("i", [0] * (2 * len(quantities)))
    for i in range(len(quantities)):
        out[2 * i] = limits.bound(quantities[i], WARN)
        out[2 * i + 1] = limits.bound(quantities[i], DERATE)
    return out


def _falling(value, all_, none):
    """Permille: 1000 at or below `all_`, 0 at or above `none`, a straight line between."""
    if value <= all_:
        return 1000
    if value >= none:
        return 0
    return (none - value) * 1000 // (none - all_)


def _rising(value, all_, none):
    """Permille: 1000 at or above `all_`, 0 at or below `none`, a straight line between."""
    if value >= all_:
        return 1000
    if value <= none:
        return 0
    return (value - none) * 1000 // (all_ - none)
