"""The BMW i3 driver against scripted modules: polls in turn, greets, reads, counts, survives."""

from slave_bench import SlaveBench

from bms.links.can import EXTENDED
from fakes import raises

XOR = (0xCF, 0xF5, 0xBB, 0x81, 0x27, 0x1D, 0x53, 0x69, 0x02, 0x38, 0x76, 0x4C)
TWELVE = [3701, 3702, 3703, 3704, 3705, 3706, 3707, 3708, 3709, 3710, 3711, 3712]


def crc(data, n):
    """Poly 1D, init FF, XOR the module's byte."""
    out = 0xFF
    for byte in data:
        out ^= byte
        for _ in range(8):
            out = (out << 1 ^ 0x1D) & 0xFF if out & 0x80 else out << 1
    return out ^ XOR[n]


def little(words):
    out = b""
    for word in words:
        out += bytes([word & 0xFF, word >> 8])
    return out


def cells(n, k, mv):
    """Cells 3k+1 .. 3k+3."""
    return 0x120 + 16 * k | n, little(mv) + bytes(2)


def status(n, errors=b"\0\0\0\0", bits=0):
    return 0x100 | n, errors + little([bits]) + bytes(2)


def warm(n, degrees=(23, 24, 25, 26)):
    return 0x170 | n, bytes([t + 40 for t in degrees]) + bytes(8 - len(degrees))


class Module:
    """Module n; it measures once it was greeted three times."""

    def __init__(self, n, mv=None):
        self.n = n
        self.mv = TWELVE if mv is None else mv
        self.greeted = 0
        self.alive = True
        self.unread = False  # it says cells that have no value until it is greeted
        self.bits = 0
        self.errors = bytes(4)
        self.skip = ()  # identifiers that it doesn't say
        self.polls = []

    def answer(self, data):
        self.polls.append(data)
        if not self.alive:
            return []
        if not data[3]:
            self.greeted += 1
        out = [status(self.n, self.errors, self.bits)]
        if self.greeted >= 3 and data[3] & 0x10:
            out += [cells(self.n, k, self.mv[3 * k : 3 * k + 3]) for k in range(4)]
        elif self.unread:
            out += [cells(self.n, k, [0xFFFF] * 3) for k in range(4)]
        if self.greeted >= 3 and data[3] & 0x40:
            out.append(warm(self.n))
        return [frame for frame in out if frame[0] & ~15 not in self.skip]


class Bus:
    """Modules behind a bench; every poll is checked. at: when they came, by the bench's clock."""

    def __init__(self, modules):
        self.modules = modules
        self.bench = None
        self.at = []
        self.order = []

    def __call__(self, request):
        ident, data = request
        assert ident & ~15 == 0x080 and len(data) == 8, request
        n = ident & 15
        assert data[7] == crc(bytes([ident >> 8, ident & 0xFF]) + data[:7], n), request
        self.order.append(n)
        if self.bench:
            self.at.append(self.bench.board.clock.total_ms)
        out = []
        for one in self.modules:
            if one.n == n:
                out += one.answer(data)
        return out


def bench(nodes=(1,), temps=4, count=12, modules=None, **more):
    if modules is None:
        modules = [Module(node - 1) for node in nodes]
    bus = Bus(modules)
    b = SlaveBench("bmw_i3", [(node, count, temps) for node in nodes], "can0", reply=bus, **more)
    bus.bench = b
    return b


def known(*args, **more):
    b = bench(*args, **more)
    for _ in range(7):
        b.scan()
    assert b.pack.all_known()
    return b


def test_polls_with_the_documented_bytes():
    b = bench((1, 2))
    for m in (0, 1):  # as modules that measure
        b.driver._loops[m] = 5
        b.driver._quiet[m] = 0
    b.driver._counter = 15
    b.scan()
    assert b.requests == [
        (0x080, bytes.fromhex("6810005000000036")),
        (0x081, bytes.fromhex("681000500000109E")),
    ]


def test_greets_for_three_loops_then_polls_everything():
    b = bench()
    for _ in range(5):
        b.scan()
    polls = [data for _ident, data in b.requests]
    assert [data[3] for data in polls] == [0, 0, 0, 0x50, 0x50]
    assert [data[6] for data in polls] == [0x10, 0x20, 0x34, 0x40, 0x50]
    assert {data[:3] + data[4:6] for data in polls} == {bytes([0x68, 0x10, 0, 0, 0])}


def test_the_counter_goes_on_from_poll_to_poll():
    b = bench((1, 2, 3))
    for _ in range(12):
        b.scan()
    counters = [data[6] >> 4 for _ident, data in b.requests]
    assert counters == [(i + 1) & 15 for i in range(36)]


def test_modules_that_want_the_other_poll():
    module = Module(0)
    b = bench(modules=[module], temps=1, slave='poll = "bus"')
    for _ in range(7):
        b.scan()
    assert [data[3] for data in module.polls[:6]] == [0, 0, 0, 0x10, 0x50, 0x50]
    assert {data[:3] + data[4:6] for data in module.polls} == {bytes([0xC7, 0x10, 0, 0x20, 0])}
    b.give([(0x170, bytes([0xFF, 0xFF, 0xFF, 0xFF, 70, 0, 0, 0]))])
    assert b.dc() == [300]
    assert b.pack.can_balance[0] == 0
    raises(Exception, lambda: bench(temps=2, slave='poll = "bus"'))
    raises(Exception, lambda: bench(slave='poll = "mini"'))


def test_reads_what_the_modules_say():
    b = known((1, 5), modules=[Module(0), Module(4, [3800 + i for i in range(12)])])
    assert b.mv() == TWELVE + [3800 + i for i in range(12)]
    assert b.dc() == [230, 240, 250, 260] * 2
    assert b.pack.stack_mv[0] == sum(TWELVE) and b.pack.die_dc[0] == 260
    assert b.names() == []


def test_a_module_each_50_ms_and_a_scan_no_longer_than_that():
    nodes = (1, 2, 3, 4, 5, 6, 7, 8)
    b = known(nodes)
    bus = b.reply
    bus.at.clear()
    bus.order.clear()
    ms = b.scan()
    assert bus.order == list(range(8))
    assert min([bus.at[i + 1] - bus.at[i] for i in range(7)]) >= 50
    assert ms <= 1.1 * b.driver.scan_ms(b.config), ms
    assert b.driver.scan_ms(b.config) == 400


def test_the_gap_comes_from_the_pack_file():
    b = known((1, 2), link='gap = "24 ms"')
    b.reply.at.clear()
    b.scan()
    assert b.reply.at[1] - b.reply.at[0] == 25


def test_a_silent_module_costs_its_own_time_only():
    modules = [Module(0), Module(1), Module(2)]
    b = known((1, 2, 3), modules=modules)
    for lost in (1, 2):
        modules[lost].alive = False
        for _ in range(3):
            ms = b.scan()
            assert ms <= 4 * 51 + 2
        b.old()
        b.scan()
        got = b.mv()
        assert got[12 * lost : 12 * lost + 12] == [None] * 12
        assert got[:12] == TWELVE
        modules[lost].alive = True
        for _ in range(3):  # it is greeted
            b.scan()
    assert b.driver.missed > 0
    b.old()
    b.scan()
    assert b.mv() == TWELVE * 3


def test_nobody_there():
    b = bench((1, 2), modules=[])
    for _ in range(20):
        assert b.scan() <= 110
    assert not b.pack.all_known() and b.names() == []
    assert b.reply.order == [0, 1] * 20


def test_one_that_started_anew_is_greeted_again():
    module = Module(0)
    b = known(modules=[module])
    for after in (0, 3, 7, 0):
        module.greeted = 0
        module.unread = after == 7
        module.alive = False
        for _ in range(after):
            b.scan()
        module.alive = True
        for _ in range(12):
            b.scan()
        b.old()
        b.scan()
        assert b.mv() == TWELVE, after


def test_one_that_started_anew_is_read_within_scans_of_its_first_answer():
    for count in (1, 3):
        for after in range(9):
            modules = [Module(n) for n in range(count)]
            b = known(range(1, count + 1), modules=modules, limits='cell_age = "60 s"')
            modules[0].greeted = 0
            modules[0].alive = False
            for _ in range(after):
                b.scan()
            modules[0].alive = True
            b.scan()  # its first answer
            b.old()
            scans = 0
            while b.mv()[:12] != TWELVE:
                b.scan()
                scans += 1
            assert scans == (3 if after > 2 else 4), (count, after, scans)
            assert b.mv() == TWELVE * count


def test_one_that_starts_anew_as_soon_as_it_was_read():
    module = Module(0)
    b = bench(modules=[module])
    for _ in range(4):
        b.scan()
    module.greeted = 0
    module.polls.clear()
    for _ in range(5):
        b.scan()
    assert [data[3] for data in module.polls] == [0x50, 0, 0, 0, 0x50]


def test_one_that_is_switched_on_after_the_master():
    for after in range(1, 9):
        module = Module(0)
        b = bench(modules=[module])
        module.alive = False
        for _ in range(after):
            b.scan()
        module.alive = True
        scans = 0
        while b.reply.modules[0].greeted < 3 or module.polls[-1][3] == 0:
            b.scan()
            scans += 1
        assert scans <= 3 + 4, after
        b.scan()
        assert b.driver._quiet[0] <= 1, after  # and is read at once


def test_a_greeting_counts_when_it_was_answered():
    module = Module(0)
    b = known(modules=[module])
    module.greeted = 0
    for alive in [False] * 5 + [True, False, True, False, False, True, True]:
        module.alive = alive
        b.scan()
    assert [data[3] for data in module.polls[-8:]] == [0] * 7 + [0x50]
    assert b.mv() == TWELVE


def test_modules_that_do_not_answer_greetings_are_polled_all_the_same():
    module = Module(0)
    b = bench(modules=[module])
    module.greeted = 3
    answer = module.answer
    module.answer = lambda data: answer(data) if data[3] else []
    for _ in range(7):
        b.scan()
    assert b.pack.all_known()
    module.alive = False
    for _ in range(5):
        b.scan()
    module.alive = True
    b.old()
    for _ in range(6):
        b.scan()
    assert b.mv() == TWELVE


def test_one_that_measures_late_after_the_greeting_is_given_time():
    module = Module(0)
    b = bench(modules=[module])
    answer = module.answer
    polls = []

    def later(data):
        polls.append(data[3])
        out = answer(data)
        return out if polls[-3:] == [0x50] * 3 else out[:1]

    module.answer = later
    for _ in range(9):
        b.scan()
    assert b.pack.all_known() and b.mv() == TWELVE
    assert polls == [0, 0, 0] + [0x50] * 6


def test_a_lost_frame_of_a_module_with_one_does_not_greet_it():
    module = Module(0, TWELVE[:3] + [0xFFFF] * 9)
    b = known(modules=[module], count=3, temps=0)
    module.polls.clear()
    for _ in range(5):
        module.skip = (0x120, 0x130, 0x140, 0x150, 0x170)
        b.scan()
        module.skip = ()
        b.scan()
    assert {data[3] for data in module.polls} == {0x50}
    module.greeted = 0
    for _ in range(6):
        b.scan()
    b.old()
    b.scan()
    assert b.mv() == TWELVE[:3]


def test_one_that_is_greeted_anew_is_not_commanded_to_balance():
    module = Module(0)
    b = known(modules=[module])
    b.pack.balance_mask[0] = 1
    b.pack.string_cell[0].low = 3698
    b.scan()
    assert module.polls[-1][4] == 8
    module.greeted = 0
    b.scan()
    module.polls.clear()
    for _ in range(3):
        b.scan()
        b.pack.string_cell[0].low = 3698
    assert [data[3:5] for data in module.polls] == [b"\0\0"] * 3
    assert [data[:2] for data in module.polls] == [b"\x68\x10"] * 3


def test_modules_of_the_other_poll_are_never_commanded_to_balance():
    module = Module(0)
    b = bench(modules=[module], temps=1, slave='poll = "bus"')
    for _ in range(7):
        b.scan()
    b.pack.balance_mask[0] = 1
    b.scan()
    assert module.polls[-1][:6] == bytes([0xC7, 0x10, 0, 0x50, 0x20, 0])


def test_lost_answers_do_not_greet_it():
    module = Module(0)
    b = known(modules=[module])
    module.polls.clear()
    for _ in range(10):
        module.skip = (0x120, 0x150, 0x170)
        b.scan()
        module.skip = (0x100, 0x120, 0x130, 0x140, 0x150, 0x170)
        b.scan()
    assert {data[3] for data in module.polls} == {0x50}


def test_cells_with_a_flag_are_no_readings():
    b = known()
    b.old()
    b.give([cells(0, 0, [0x4000 | 3701, 3702, 0xFFFF]), cells(0, 1, [3704, 8100, 3706])])
    assert b.mv()[:6] == [None, 3702, None, 3704, None, 3706]
    assert b.names() == []


def test_a_module_that_brings_more_cells_is_a_misfit():
    b = bench(count=10)
    for _ in range(8):
        b.scan()
    assert b.names() == ["slave_mismatch"]
    assert not b.pack.known[0] and b.mv() == [None] * 10


def test_a_module_whose_cells_do_not_read_is_not_known():
    for mv in ([0] * 12, TWELVE[:11] + [0x7FFF]):
        b = bench(modules=[Module(0, mv)])
        for _ in range(12):
            b.scan()
        assert not b.pack.known[0] and b.names() == []


def test_fewer_cells_need_fewer_frames():
    module = Module(0, TWELVE[:6] + [0xFFFF] * 6)
    b = known(modules=[module], count=6)
    assert b.mv() == TWELVE[:6] and b.driver.missed == 0


def test_a_module_without_sensors_is_known_though_it_says_temperatures():
    b = known(temps=0)
    assert b.mv() == TWELVE and b.dc() == [] and b.names() == []


def test_a_cell_that_jumps_beyond_its_hard_bounds_must_show_it_twice():
    module = Module(0)
    b = known(modules=[module])
    module.mv = TWELVE[:5] + [4700] + TWELVE[6:]
    b.scan()
    assert b.names() == [] and b.mv() == TWELVE
    b.scan()
    assert b.names() == ["cell_hard_high"]
    assert b.mv()[5] == 4700


def test_a_module_that_restarts_and_says_zeros_is_not_believed():
    for count in (12, 10):
        module = Module(0, TWELVE[:count] + [0xFFFF] * (12 - count))
        b = known(modules=[module], count=count)
        module.mv = [0] * count + [0xFFFF] * (12 - count)
        for _ in range(5):
            b.scan()
        assert b.names() == [] and b.mv() == TWELVE[:count], count
        module.mv = TWELVE[: count - 1] + [0] + [0xFFFF] * (12 - count)
        module.greeted = 3
        for _ in range(6):
            b.scan()
        assert b.names() == ["cell_hard_low"], count


def test_open_sensors_grow_old():
    b = known()
    b.old()
    b.give([(0x170, bytes([0, 0xFF, 65, 66, 0, 0, 0, 0]))])
    assert b.dc() == [None, None, 250, 260]
    assert b.pack.die_dc[0] == 260


def test_a_board_is_as_warm_as_the_sensors_that_are_configured_and_believed():
    b = known(temps=2)
    assert b.pack.die_dc[0] == 240  # the others do not count
    b.give([warm(0, (23, 214, 25, 26))])
    assert b.pack.die_dc[0] == 230 and b.names() == []
    b.give([warm(0, (23, 214, 25, 26))])
    assert b.pack.die_dc[0] == 2140 and b.names() == ["temp_hard_high"]


def test_without_configured_sensors_all_count_when_they_show_it_twice():
    b = known(temps=0)
    assert b.pack.die_dc[0] == 260
    for _ in range(3):
        b.give([warm(0, (23, 24, 25, 120))])
        assert b.pack.die_dc[0] == 260
        b.scan()
    b.give([warm(0, (23, 24, 25, 120))] * 2)
    assert b.pack.die_dc[0] == 1200


def test_sensors_that_are_not_configured_are_not_those_of_the_next_module():
    b = known((1, 2), temps=2)
    b.old()
    b.give([warm(0, (23, 24, 50, 51))])
    assert b.dc() == [230, 240, None, None]


def test_the_stack_is_not_known_while_a_cell_is_not_read():
    b = known(limits='cell_age = "500 ms"')
    b.pack.stack_ok[0] = 0
    b.pack.cell_flags[5] = 4  # SEEN
    b.give([warm(0)])
    assert not b.pack.stack_ok[0]
    b.give([cells(0, 1, TWELVE[3:6]), warm(0)])
    assert b.pack.stack_ok[0] and b.pack.stack_mv[0] == sum(TWELVE)


def test_errors_are_said_and_trip_nothing():
    module = Module(0)
    b = known(modules=[module])
    module.errors = bytes([0, 0x20, 0, 1])
    b.scan()
    assert b.pack.slave_flags[0] == 0x8000
    assert (b.driver.errors_low[0], b.driver.errors_high[0]) == (0x2000, 0x0100)
    b.run(1000)
    assert "slave_alarm" not in b.names()
    module.errors = bytes(4)
    b.scan()
    assert b.pack.slave_flags[0] == 0


def test_a_slave_in_the_plan_is_commanded_a_target_and_nobody_else():
    modules = [Module(0), Module(1)]
    b = known((1, 2), modules=modules)
    b.pack.string_cell[0].low = 3698
    b.pack.balance_mask[2] = 3
    for one in modules:
        one.polls.clear()
    for _ in range(3):
        b.scan()
        b.pack.string_cell[0].low = 3698
    floor = b.config.balance_floor_mv
    target = max(3698 + b.config.balance_stop_mv, floor)
    assert {data[:5] for data in modules[1].polls} == {little([target]) + b"\0\x50\x08"}
    assert {data[:5] for data in modules[0].polls} == {b"\x68\x10\0\x50\0"}
    b.pack.balance_mask[2] = 0
    b.scan()
    assert modules[1].polls[-1][:5] == b"\x68\x10\0\x50\0"


def test_cells_that_balance_are_marked():
    module = Module(0)
    b = known(modules=[module])
    module.bits = 0x805
    b.scan()
    assert [i for i in range(12) if b.pack.cell_flags[i] & 2] == [0, 2, 11]


def test_two_modules_with_one_number():
    twin = Module(0, [3600] * 12)
    b = known()
    b.reply.modules.append(twin)
    twin.greeted = 3
    for _ in range(5):
        b.scan()
    assert b.names() == ["slave_conflict"]
    assert b.mv() == [None] * 12
    twin.mv = [3600] * 11 + [4700]
    b.scan()
    assert "cell_hard_high" in b.names()
    twin.alive = False
    for _ in range(5):
        b.scan()
    b.faults.acknowledge()
    assert "slave_conflict" not in b.names()
    assert b.mv() == TWELVE


def test_one_contradiction_costs_the_running_scan_only():
    b = known()
    b.give([cells(0, 0, [3600, 3600, 3600])])  # late, of before a load's step
    assert b.mv() == [None] * 12 and b.dc() == [None] * 4 and not b.pack.stack_ok[0]
    b.scan()
    assert b.mv() == TWELVE and b.dc() == [230, 240, 250, 260] and b.pack.stack_ok[0]
    assert b.names() == []


def test_contradictions_scan_after_scan_are_a_conflict():
    b = known()
    for scan in (1, 2, 3):
        b.give([cells(0, 0, [3600, 3600, 3600])])
        assert b.names() == []
        b.scan()
        # from the second one on, the next scan is refused as well
        assert b.mv() == (TWELVE if scan == 1 else [None] * 12), scan
        assert b.dc() == ([230, 240, 250, 260] if scan == 1 else [None] * 4), scan
    assert b.names() == ["slave_conflict"]  # three in a row
    b.give([warm(0, (23, 24, 80, 26))])
    assert (
        b.dc() == [None] * 4 and "temp_hard_high" in b.names()
    )  # none is taken, all are evaluated


def test_the_same_answer_twice_is_no_conflict():
    b = known()
    for i in range(20):
        b.scan()
        b.give([cells(0, 0, [3701 + i % 3, 3702, 3703])])
    assert b.names() == [] and b.driver.repeated == 0


def test_frames_of_others_and_short_ones():
    b = known()
    b.old()
    unexpected = b.driver.unexpected
    b.give([cells(3, 0, TWELVE[:3]), (0x080, bytes(8)), (0x180, bytes(8)), (0x10F, bytes(8))])
    assert b.driver.unexpected == unexpected + 4
    b.give([(0x110, bytes(8)), (0x160, bytes(8))])  # what else modules say
    assert b.driver.unexpected == unexpected + 4
    for n in range(6):
        b.give([(0x120, little(TWELVE[:3])[:n]), (0x100, bytes(n))])
    for n in range(4):
        b.give([(0x170, b"\x50" * n)])
    assert b.driver.damaged == 16
    assert b.mv() == [None] * 12 and b.dc() == [None] * 4
    assert b.driver.expects(0x120) and not b.driver.expects(0x121) and not b.driver.expects(0x180)


def test_frames_of_29_bits_are_no_modules():
    b = known()
    b.old()
    unexpected = b.driver.unexpected
    said = [cells(0, k, TWELVE[:3]) for k in range(4)] + [warm(0), status(0, bits=1)]
    for high in (0, 1 << 11, 1 << 18, 0x1FFFF800):
        for ident, data in said:
            assert not b.driver.expects(EXTENDED | high | ident)
            b.give([(EXTENDED | high | ident, data), (EXTENDED | ident << 18, data)])
    assert b.mv() == [None] * 12 and b.dc() == [None] * 4 and b.driver.bits[0] == 0
    assert b.driver.unexpected == unexpected + 8 * len(said)


def test_a_frame_comes_in_any_pieces_and_a_cut_one_is_none():
    frame = b"t1208750E760E770E0000\r"
    for n in range(1, len(frame)):
        b = known()
        b.old()
        b.wire.stream.give(frame[:n])
        b.driver.step(b.now)
        assert b.mv() == [None] * 12
        b.wire.stream.give(frame[n:])
        b.driver.step(b.now)
        assert b.mv()[:3] == TWELVE[:3], n
        if n < len(frame) - 1:
            b.old()
            b.wire.stream.give(frame[:n] + b"\r")
            b.driver.step(b.now)
            assert b.mv() == [None] * 12, n


def test_a_scan_that_begins_early_follows_the_one_before():
    b = known((1, 2, 3, 4))
    b.begin()
    b.run(110)
    b.begin()
    b.run(400)
    assert b.driver.done
    assert b.reply.order[-8:] == [0, 1, 2, 3] * 2
    assert b.mv() == TWELVE * 4


def test_scans_in_a_hurry_leave_nobody_out():
    b = known((1, 2, 3, 4))
    b.reply.order.clear()
    for _ in range(100):
        b.begin()
        b.run(200)
    assert (
        b.reply.order
        == [0, 1, 2, 3] * (len(b.reply.order) // 4) + [0, 1, 2, 3][: len(b.reply.order) % 4]
    )
    assert len(b.reply.order) >= 390  # 20 s, one in 51 ms
    assert b.driver.missed == 0


def test_modules_out_of_range_are_refused():
    for nodes, count, temps in (((13,), 12, 4), ((1,), 13, 4), ((1,), 12, 5)):
        raises(
            Exception,
            lambda nodes=nodes, count=count, temps=temps: bench(nodes, temps=temps, count=count),
        )


def test_the_cycle_does_not_allocate():
    b = known((1, 2))
    b.pack.balance_mask[0] = 1
    answers = []
    for n in (0, 1):
        text = b""
        for frame in [status(n), warm(n)] + [cells(n, k, TWELVE[:3]) for k in range(4)]:
            text += b.wire.encode(frame[0], frame[1])
        answers.append(text)
    assert b.scans_without_heap(answers) == 40
    assert b.driver.link.damaged == 0 and b.driver.missed == 0
