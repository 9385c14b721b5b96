"""JK boards that broadcast on CAN: what they say is read, and nothing else."""

import micropython
from slave_bench import LOCKS, Canned, SlaveBench

from bms.links.can import EXTENDED
from fakes import slcan_bytes


def cells(node, k, mv):
    data = b"".join([bytes([v & 255, v >> 8]) for v in mv])
    return (EXTENDED | 0x18E028F4 + (k << 16) + node - 1, data)


def status(node, mv, ma=0):
    raw = 4000 + ma // 100
    return (0x2F4 + node - 1, bytes([mv // 100 & 255, mv // 100 >> 8, raw & 255, raw >> 8, 55]))


def temps(node, warm, cold):
    return (0x5F4 + node - 1, bytes([warm + 50, 1, cold + 50, 2, 60]))


def extremes(node, high, high_at, low, low_at):
    data = bytes([high & 255, high >> 8, high_at, low & 255, low >> 8, low_at])
    return (0x4F4 + node - 1, data)


def whole(node, mv):
    out = [status(node, sum(mv)), temps(node, 27, 24)]
    mv = list(mv) + [0] * (-len(mv) % 4)
    return out + [cells(node, k, mv[4 * k : 4 * k + 4]) for k in range(len(mv) // 4)]


MV = [3300, 3301, 3302, 3303, 3304, 3305]


class Bench(SlaveBench):
    def __init__(self, nodes=(1,), count=6, **more):
        shapes = tuple([(n, count, 2) for n in nodes])
        super().__init__("jk_can", shapes, port="can0", **more)
        self.nodes = nodes

    def hear(self, frames):
        self.wire.stream.give(b"".join([slcan_bytes(ident, data) for ident, data in frames]))
        self.driver.step(self.now)

    def round(self, mv=None, nodes=None):
        self.begin()
        for node in nodes or self.nodes:
            self.hear(whole(node, mv or MV))
        self.run(1000, 20)

    def greet(self):
        for _ in range(4):
            self.round()
        assert self.pack.all_known()
        return self


def test_boards_are_read_each_into_its_place():
    b = Bench((1, 3)).greet()
    b.old()
    b.hear(whole(3, [3400] * 6))
    assert b.mv() == [None] * 6 + [3400] * 6
    assert b.dc() == [None, None, 270, 240]
    b.hear([status(1, 19800, -25000)])
    assert b.driver.current_ma == -25000 and b.driver.soc_pm == 550
    assert b.names() == []


def test_other_cells_are_a_mismatch():
    b = Bench(count=5)
    for _ in range(4):
        b.round()
    assert b.names() == ["slave_mismatch"] and b.mv() == [None] * 5


def test_the_highest_cell_is_judged_between_two_rounds():
    b = Bench().greet()
    b.round([4200] * 6)
    b.hear([extremes(1, 4290, 3, 4199, 1)])
    assert b.names() == []
    b.hear([extremes(1, 4350, 3, 4199, 1)])
    assert b.names() == ["cell_hard_high"]
    b = Bench().greet()
    b.hear([extremes(1, 8000, 3, 3299, 1)])  # far from what the cell says: damaged
    assert b.names() == []


def test_alarms_warn():
    b = Bench().greet()
    b.hear([(0x7F4, bytes([4, 0, 0, 0, 0, 0, 0, 0]))])
    assert b.pack.slave_flags[0] == 0x8000
    b.hear([(0x7F4, bytes(8))])
    assert b.pack.slave_flags[0] == 0


def test_strangers_short_frames_and_garbage_are_no_reading():
    b = Bench((1,)).greet()
    b.old()
    b.hear(whole(2, MV))  # another board
    b.hear([(EXTENDED | 0x18E728F4, bytes(8)), (0x123, bytes(8)), (EXTENDED | 0x2F4, bytes(8))])
    assert b.driver.strange > 4
    b.hear([(EXTENDED | 0x18E028F4, bytes(7)), (0x5F4, bytes(2))])
    assert b.driver.damaged == 2
    b.wire.stream.give(b"T18E028F48E40CE40C\rT18E\r\x07zz\rT18E028F4800\r")
    b.driver.step(b.now)
    assert b.mv() == [None] * 6 and b.dc() == [None, None]


def test_a_jump_beyond_hard_bounds_must_be_said_twice():
    b = Bench().greet()
    b.hear([cells(1, 0, [3300, 5000, 3302, 3303])])
    assert b.names() == [] and b.mv()[1] == 3301
    b.hear([cells(1, 0, [3300, 5000, 3302, 3303])])
    assert b.names() == ["cell_hard_high"]


def test_a_board_that_falls_silent_ages():
    b = Bench((1, 2), limits='cell_age = "4 s"; temp_age = "9 s"').greet()
    for _ in range(6):
        b.round(nodes=(1,))
        b.limits.aged(b.now)
    assert "cell_lost" in b.names()


def test_the_cycle_does_not_allocate():
    b = Bench().greet()
    b.old()
    answer = b"".join([slcan_bytes(ident, data) for ident, data in whole(1, MV)])
    port = Canned([answer])
    b.driver.link._stream = port
    now = b.now
    if LOCKS:
        micropython.heap_lock()
    try:
        for i in range(20):
            b.driver.begin(i, now)
            port.at = 0
            for _ in range(4):
                now = (now + 20) & 0x1FFFFFFF
                b.driver.step(now)
                b.driver.rest(now)
    finally:
        if LOCKS:
            micropython.heap_unlock()
    assert b.mv() == MV
