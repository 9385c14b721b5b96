"""Who bleeds: towards the lowest cell of the whole pack, one slave planned per step, in rounds.

A cell starts above `balance_start` over the lowest cell, goes on down to `balance_stop`, and never
bleeds below `balance_floor`. Of one slave at most `balance_cells` bleed at once, the highest ones.
The plan stands in `pack.bleed`; drivers send it and each slave stops by itself when it expires.
Nothing here allocates.
"""

from array import array

from micropython import const

from bms import ticks

_OPEN_SENSOR_DC = const(-390)
_ROUND_MS = const(2000)  # between two plans of one slave, so that noise doesn't stir the masks


class Balancing:
    """wanted: a person's switch; cells: planned to bleed in the whole pack."""

    def __init__(self, config, pack, faults, now):
        self._pack = pack
        self._faults = faults
        self._start = config.balance_start_mv
        self._stop = config.balance_stop_mv
        self._floor = config.balance_floor_mv
        self._most = config.balance_cells
        self._hottest = config.balance_temp_max_dc
        self._next = 0
        self._round_at = now
        self._planned = bytearray(pack.slaves)
        self._over = array("h", [0] * 32)
        self.wanted = bool(config.balance)
        self.cells = 0

    def stop(self):
        """Plan nothing for anybody."""
        bleed = self._pack.bleed
        for i in range(len(bleed)):
            bleed[i] = 0
        for i in range(len(self._planned)):
            self._planned[i] = 0
        self.cells = 0

    def step(self, now):
        """Plan the next slave; stops everything while a fault trips or a cell is not read."""
        if not self.wanted or self._faults.trips or not self._pack.cell.complete:
            if self.cells:
                self.stop()
            self._next = 0
            self._round_at = now
            return
        slave = self._next
        if slave == 0:
            if ticks.diff(now, self._round_at) < _ROUND_MS:
                return
            self._round_at = now
        self._next = slave + 1 if slave + 1 < self._pack.slaves else 0
        self.cells -= self._planned[slave]
        self._planned[slave] = self._plan(slave)
        self.cells += self._planned[slave]

    def _plan(self, slave):
        """Choose the highest cells of one slave; how many."""
        pack = self._pack
        low = pack.bleed[2 * slave]
        high = pack.bleed[2 * slave + 1]
        first = pack.first_cell[slave]
        count = pack.slave_cells[slave]
        over = self._over
        lowest = pack.cell.low
        for i in range(count):
            mv = pack.cell_mv[first + i]
            was = (low >> i if i < 16 else high >> (i - 16)) & 1
            above = mv - lowest
            enough = above >= self._stop if was else above >= self._start
            over[i] = above if enough and mv >= self._floor else -1
        low = high = chosen = 0
        # no die temperature, or that of an open sensor: the board may be hot without our knowing
        if pack.stack_ok[slave] and _OPEN_SENSOR_DC < pack.die_dc[slave] < self._hottest:
            while chosen < self._most:
                best = -1
                most = 0
                for i in range(count):
                    if over[i] > most:
                        most = over[i]
                        best = i
                if best < 0:
                    break
                over[best] = -1
                if best < 16:
                    low |= 1 << best
                else:
                    high |= 1 << (best - 16)
                chosen += 1
        pack.bleed[2 * slave] = low
        pack.bleed[2 * slave + 1] = high
        return chosen
