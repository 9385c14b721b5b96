"""Which cells balance: towards the lowest cell, and none without fresh readings."""

from bms.energy.balancing import Balancing
from bms.protection import fault_ids as F
from fakes import Parts, warning


class Bal(Parts):
    def __init__(self, **settings):
        Parts.__init__(self, **settings)
        self.balancing = Balancing(self.config, self.pack, self.faults, self.now)
        self.mv = [3400] * self.pack.cells
        self.healthy()

    def healthy(self):
        for i in range(self.pack.slaves):
            self.pack.known[i] = 1
            self.pack.stack_ok[i] = 1
            self.pack.die_dc[i] = 250

    def plan(self, ms=2500):
        """Several rounds with fresh readings; the masks of all slaves."""
        for _ in range(ms // 10):
            self.pass_ms(10)
            self.read()
            self.pack.update()
            self.balancing.step(self.now)
        return self.masks()

    def masks(self):
        b = self.pack.balance_mask
        return [b[2 * i] | b[2 * i + 1] << 16 for i in range(self.pack.slaves)]


def test_towards_the_lowest_cell_of_the_whole_string():
    b = Bal(slaves=3, cells=4)
    b.mv = [3400] * 4 + [3410] * 4 + [3409, 3412, 3400, 3430]
    assert b.plan() == [0, 0b1111, 0b1010]
    assert b.balancing.cells == 6


def test_a_slave_of_equal_cells_balances_too():
    # the pack's lowest is elsewhere: all of it is high
    b = Bal(slaves=2, cells=4)
    b.mv = [3500] * 4 + [3400] * 4
    assert b.plan() == [0b1111, 0]


def test_hysteresis():
    b = Bal(cells=4)
    for mv, mask in ((3409, 0), (3410, 2), (3406, 2), (3405, 2), (3404, 0), (3409, 0), (3410, 2)):
        b.mv[1] = mv
        assert b.plan() == [mask], mv


def test_the_highest_ones_up_to_the_limit():
    b = Bal(cells=32, balancing="balance_cells = 3")
    for i in range(32):
        b.mv[i] = 3400 + (i * 7) % 32
    highest = sorted(range(32), key=lambda i: -b.mv[i])[:3]
    assert b.plan() == [sum([1 << i for i in highest])]
    b = Bal(slaves=2, cells=16, balancing="balance_cells = 3")
    b.mv = [3400] + [3450] * 31
    masks = b.plan()
    assert [bin(m).count("1") for m in masks] == [3, 3]  # of each slave


def test_never_below_the_floor():
    b = Bal(cells=4)
    b.mv = [3200, 3299, 3300, 3301]
    assert b.plan() == [0b1100]
    b = Bal(cells=4)
    b.mv = [3100, 3200, 3200, 3200]
    assert b.plan() == [0]


def test_cells_at_the_edges_of_the_masks():
    for cell in (0, 14, 15, 16, 17, 30, 31):
        b = Bal(cells=32)
        b.mv[cell] = 3450
        assert b.plan() == [1 << cell]
        assert b.pack.balance_mask[0] == ((1 << cell) & 0xFFFF)
        assert b.pack.balance_mask[1] == (1 << cell) >> 16
        # it goes on below the start, and ends
        b.mv[cell] = 3406
        assert b.plan() == [1 << cell]
        b.mv[cell] = 3402
        assert b.plan() == [0]


def test_cells_of_the_second_slave_have_their_own_bits():
    b = Bal(slaves=2, cells=17)
    b.mv[17] = 3450
    b.mv[33] = 3450
    assert b.plan() == [0, 1 | 1 << 16]


def test_stops_on_a_trip_but_not_on_a_warning():
    b = Bal(cells=4)
    b.mv[1] = 3450
    assert b.plan() == [2]
    b.faults.set(warning(F.CELL_SPREAD), 0, 400)
    assert b.plan() == [2]
    b.faults.set(F.TEMP_HIGH, 0, 610)
    assert b.plan(10) == [0]
    assert b.balancing.cells == 0
    assert b.plan() == [0]
    b.faults.clear(F.TEMP_HIGH)
    assert b.plan() == [0]
    b.faults.acknowledge()
    assert b.plan() == [2]


def test_stops_when_a_reading_is_missing():
    b = Bal(slaves=2, cells=4)
    b.mv[1] = 3450
    assert b.plan() == [2, 0]
    b.mv[7] = None
    b.pack.cell_flags[7] = 0
    assert b.plan(20) == [0, 0]
    assert b.plan() == [0, 0]


def test_stops_on_a_hot_board():
    b = Bal(slaves=2, cells=4)
    b.mv = [3450, 3400, 3400, 3400] * 2
    b.pack.die_dc[0] = 699
    assert b.plan() == [1, 1]
    b.pack.die_dc[0] = 700
    assert b.plan() == [0, 1]


def test_stops_on_a_board_of_unknown_temperature():
    b = Bal(slaves=2, cells=4)
    b.mv = [3450, 3400, 3400, 3400] * 2
    b.pack.die_dc[0] = -400  # an open sensor
    assert b.plan() == [0, 1]
    b.pack.die_dc[0] = 250
    b.pack.stack_ok[1] = 0
    assert b.plan() == [1, 0]


def test_a_person_switches_it_off():
    b = Bal(cells=4)
    b.mv[1] = 3450
    b.plan()
    b.balancing.wanted = False
    assert b.plan(10) == [0]
    assert b.plan() == [0]
    b.balancing.wanted = True
    assert b.plan() == [2]
    b = Bal(cells=4, balancing="balance = false")
    b.mv[1] = 3450
    assert b.plan() == [0]


def test_a_long_pause_is_no_longer_than_it_was():
    # the round's time must not wrap around to the future
    for days in (2, 4, 5, 7):
        b = Bal(cells=4)
        b.mv[1] = 3450
        b.plan()
        b.balancing.wanted = False
        for _ in range(days * 4):
            b.pass_ms(86400000 // 4)
            b.plan(10)
        b.balancing.wanted = True
        assert b.plan(4500) == [2], days


def test_the_whole_pack_is_planned():
    b = Bal(slaves=62, cells=16, temps=0)
    b.mv = [3400, 3450] * (31 * 16)
    assert b.plan(5000) == [0xAAAA] * 62
    assert b.balancing.cells == 62 * 8


def test_each_parallel_string_towards_its_own_lowest():
    b = Bal(slaves=2, parallel=2)
    b.mv = [3500, 3500, 3520, 3500, 3400, 3430, 3400, 3400]
    assert b.plan() == [4, 2]
    # a fault of one holds only that one
    b.faults.set(F.CELL_HIGH, 2, 3700)
    assert b.plan(30) == [0, 0]
    assert b.plan(5000) == [0, 2]
