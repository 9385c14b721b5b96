"""Chooses the cells to balance, towards the lowest cell of each string.

One slave is planned per step; a round plans all slaves. A cell starts `balance_start` above the
lowest cell and continues down to the target of its string, see `Pack.balance_target_mv`. Of each
slave at most `balance_cells` cells balance at once, the highest ones. The plan is in
`pack.balance_mask`; drivers send it, and a slave stops by itself when it expires. Nothing here
allocates after start-up.
"""

from array import array

from micropython import const

from bms import ticks
from bms.kernels.readings import (
    B_COUNT,
    B_FIRST,
    B_FLOOR,
    B_HIGH,
    B_LOW,
    B_LOWEST,
    B_MOST,
    B_START,
    choose,
)

_OPEN_SENSOR_DC = const(-390)
_ROUND_MS = const(2000)  # between two rounds, so that noise doesn't change the masks often


class Balancing:
    """wanted: switched on, by setting or command `balance`; cells: how many balance in the pack."""

    def __init__(self, config, pack, faults, now):
        self._pack = pack
        self._faults = faults
        self._p = array("i", [0] * 9)
        self._p[B_START] = config.balance_start_mv
        self._most = config.balance_cells
        self._hottest = config.balance_temp_max_dc
        self._next = 0
        self._round_at = now
        self._planned = bytearray(pack.slaves)
        self._changes = faults.changes
        self.wanted = bool(config.balance)
        self.cells = 0

    def stop(self):
        """Stop balancing of all cells."""
        balance_mask = self._pack.balance_mask
        for i in range(len(balance_mask)):
            balance_mask[i] = 0
        for i in range(len(self._planned)):
            self._planned[i] = 0
        self.cells = 0

    def step(self, now):
        """Plan the next slave; stop all if a fault has tripped or a cell has no fresh reading.

        A string without a latched fault continues with the next round.
        """
        tripped = self._changes != self._faults.changes
        if not self.wanted or tripped or not self._pack.cell.complete:
            self._changes = self._faults.changes
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
        """Choose the highest cells of one slave; returns how many."""
        pack = self._pack
        string = pack.string_of_slave[slave]
        most = 0
        # no die temperature, or that of an open sensor: the board may be too hot
        cool = pack.stack_ok[slave] and _OPEN_SENSOR_DC < pack.die_dc[slave] < self._hottest
        if cool and pack.can_balance[slave] and not self._faults.blocking(string):
            most = self._most
        p = self._p
        p[B_FIRST] = pack.first_cell[slave]
        p[B_COUNT] = pack.slave_cells[slave]
        p[B_LOWEST] = pack.string_cell[string].low
        p[B_FLOOR] = pack.balance_target_mv(string)  # below balance_start: B_STOP stays 0
        p[B_MOST] = most
        p[B_LOW] = pack.balance_mask[2 * slave]
        p[B_HIGH] = pack.balance_mask[2 * slave + 1]
        chosen = choose(pack.cell_mv, p)
        pack.balance_mask[2 * slave] = p[B_LOW]
        pack.balance_mask[2 * slave + 1] = p[B_HIGH]
        return chosen
