"""JK boards that broadcast on CAN: what they say is read, and nothing else."""

import micropython
from slave_bench import LOCKS, Canned, SlaveBench

from bms.config.errors import ConfigError
from bms.links.can import EXTENDED
from fakes import check_ages, raises, slcan_bytes


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
    def __init__(self, nodes=(1,), count=6, temps=2, **more):
        shapes = tuple([(n, count, temps) for n in nodes])
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

    def greet(self, mv=None):
        for _ in range(4):
            self.round(mv)
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


def test_the_highest_cell_is_evaluated_between_two_rounds():
    b = Bench().greet()
    b.round([4200] * 6)
    b.hear([extremes(1, 4290, 3, 4199, 1)])
    assert b.names() == []
    b.hear([extremes(1, 4350, 3, 4199, 1)])
    assert b.names() == ["cell_hard_high"]
    b = Bench().greet()
    b.hear([extremes(1, 8000, 3, 3299, 1)])  # far from what the cell says: damaged
    assert b.names() == []


def test_an_extreme_that_is_far_from_its_cell_must_be_said_twice():
    b = Bench().greet()
    b.hear([extremes(1, 4500, 3, 3299, 1)])
    b.hear([extremes(1, 4500, 4, 3299, 1)])  # another cell: damaged, one of the two
    assert b.names() == []
    b.hear([extremes(1, 4510, 4, 3299, 1)])
    assert b.names() == ["cell_hard_high"] and b.faults.place[b.faults.first] == 3
    b = Bench().greet()
    b.hear([extremes(1, 3301, 3, 1900, 2), extremes(1, 3301, 3, 1890, 2)])
    assert b.names() == ["cell_hard_low"] and b.faults.place[b.faults.first] == 1
    b = Bench().greet()
    b.hear([(ident, data[:5]) for ident, data in [extremes(1, 4500, 4, 3299, 1)] * 3])
    assert b.names() == [] and b.driver.damaged == 3


def test_a_damaged_temperature_is_not_that_of_the_board():
    for count in (2, 0):
        b = Bench(temps=count).greet()
        assert b.pack.die_dc[0] == 270
        for degrees in (205, 149):  # no temperature, and one that jumps
            b.hear([temps(1, degrees, 24), status(1, 19800)])
            assert b.pack.die_dc[0] < 280 and b.names() == [], degrees
            b.round()
        b.hear([temps(1, 149, 24), temps(1, 149, 24)])
        assert b.pack.die_dc[0] == 1490, count


def test_the_temperature_of_a_board_grows_old():
    b = Bench(temps=0, limits='cell_age = "4 s"').greet()
    assert b.pack.stack_ok[0]
    for _ in range(70):
        b.hear([status(1, 19800), cells(1, 0, MV[:4]), cells(1, 1, MV[4:] + [0, 0])])
        b.pass_ms(100)
        check_ages(b.limits, b.now)
    assert not b.pack.stack_ok[0]


def test_alarms_warn():
    b = Bench().greet()
    for i in range(4):
        b.hear([(0x7F4, bytes([4 if k == i else 0 for k in range(8)]))])
        assert b.pack.slave_flags[0] == 0x8000, i
        b.hear([(0x7F4, bytes(8))])
        assert b.pack.slave_flags[0] == 0
    b.hear([(0x7F4, bytes([0, 0, 0, 0, 4, 4, 4, 4]))])  # not alarms
    b.hear([(0x7F4, bytes(2))])
    assert b.pack.slave_flags[0] == 0


def _seconds(b, each, seconds, ms=20):
    """Time in which `each(ms since the start)` gives frames; scans and evaluations as they come."""
    for t in range(0, seconds * 1000, ms):
        frames = each(t)
        if frames:
            b.hear(frames)
        b.step(ms)
        if t % 1000 == 0:
            b.begin()
        if t % 100 == 0:
            check_ages(b.limits, b.now)
            b.limits.scan_finished(b.now)
            while b.limits.evaluating:
                b.limits.evaluate_next(b.now)


def test_a_load_step_is_no_stack_that_differs_from_its_cells():
    for count, by in ((24, 130), (25, 300), (4, 900)):
        b = Bench(count=count).greet([3600] * count)
        for off in (40, 500, 940):

            def said(t, off=off, by=by, count=count):
                mv = [3600 - (by if t // 1000 % 2 and t % 1000 >= off or t >= 3000 else 0)] * count
                out = [status(1, sum(mv))]
                if t % 500 == 0:
                    out.append(temps(1, 27, 24))
                if t % 1000 == 0:
                    out += whole(1, mv)[2:]
                return out

            _seconds(b, said, 8)
            assert "stack_voltage" not in b.names(), (count, off)
        # a stack that differs from its cells for good is found
        _seconds(b, lambda t, count=count: whole(1, [3600] * count) if t % 1000 == 0 else None, 3)
        wrong = [status(1, 3600 * count + 4000)] + whole(1, [3600] * count)[1:]
        _seconds(b, lambda t, wrong=wrong: wrong if t % 1000 == 0 else None, 8)
        assert "stack_voltage" in b.names()


def test_the_coldest_sensor_is_read_and_half_of_the_two_is_refused():
    b = Bench().greet()
    b.hear([temps(1, 20, -30)])
    assert b.dc() == [200, -300]
    error = raises(ConfigError, lambda: SlaveBench("jk_can", ((1, 6, 1),), port="can0"))
    assert error.key == "temps" and "coldest" in error.reason and error.line > 0
    b = SlaveBench("jk_can", ((1, 6, 0),), port="can0")
    assert b.dc() == []


def test_what_no_sensor_says_is_no_temperature():
    b = Bench().greet()
    for warm in (205, -50, -49):  # FF, and nothing measured
        b.old()
        b.hear([temps(1, warm, warm)])
        b.step(20)
        b.hear([status(1, sum(MV)), cells(1, 0, MV[:4]), cells(1, 1, MV[4:] + [0, 0])])
        assert b.dc() == [None, None] and b.pack.stack_at[0] != b.now, warm


def test_the_stack_counts_with_the_last_cells_behind_it():
    b = Bench().greet()
    at = b.pack.stack_at[0]
    b.hear([status(1, 19000)])
    b.step(60)
    b.hear([cells(1, 0, MV[:4])])
    assert b.pack.stack_at[0] == at and b.pack.stack_mv[0] == sum(MV) // 100 * 100
    b.hear([cells(1, 1, MV[4:] + [0, 0])])
    assert b.pack.stack_at[0] == b.now and b.pack.stack_mv[0] == 19000
    b.hear([status(1, 18000)])
    b.step(200)
    b.hear([cells(1, 0, MV[:4]), cells(1, 1, MV[4:] + [0, 0])])
    assert b.pack.stack_mv[0] == 19000


def test_boards_of_many_cells_and_high_addresses():
    mv = [3300 + i for i in range(25)]
    b = Bench((12,), count=25)
    for _ in range(4):
        b.round(mv)
    assert b.pack.all_known() and b.mv() == mv
    b.old()
    b.hear([cells(12, 6, [3400, 0, 0, 0])])
    assert b.mv()[24] == 3400


def test_a_load_that_pulses_is_one_board_and_two_of_one_number_are_two():
    b = Bench(limits='cell_age = "9 s"; temp_age = "9 s"').greet()
    for i in range(60):
        b.round([3700 + 100 * (i & 1)] * 6)
    assert b.names() == [] and b.driver.repeated == 0
    b = Bench(limits='cell_age = "9 s"; temp_age = "9 s"').greet()
    n = 0
    while "slave_conflict" not in b.names():
        b.begin()
        b.hear(whole(1, MV))
        b.run(300, 20)
        b.hear(whole(1, [MV[0], 3900, 3900, 3900, MV[4], 3900]))  # some cells are alike
        b.run(700, 20)
        n += 1
        assert n < 12


def test_strangers_short_frames_and_garbage_are_no_reading():
    b = Bench((1,)).greet()
    b.old()
    b.hear(whole(2, MV))  # another board
    b.hear([(EXTENDED | 0x18E728F4, bytes(8)), (0x123, bytes(8)), (EXTENDED | 0x2F4, bytes(8))])
    assert b.driver.unexpected > 4
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
        check_ages(b.limits, b.now)
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
