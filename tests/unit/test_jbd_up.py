"""The JBD-UP driver against scripted units on one line."""

from slave_bench import SlaveBench

from fakes import raises

REQUEST = bytes.fromhex("0178100010A000007FB2")
HEAD = 8


def with_crc(data):
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return bytes(data) + bytes([crc & 255, crc >> 8])


def words(values):
    return b"".join([bytes([(v & 0xFFFF) >> 8, v & 255]) for v in values])


def answer(address, data):
    head = bytes([address, 0x78, 0x10, 0, 0x10, 0xA0, len(data) >> 8, len(data) & 255])
    return with_crc(head + data)


class Line:
    """Units by address."""

    def __init__(self, addresses=(1,)):
        self.mv = {a: [3300, 3301, 3302, 3303] for a in addresses}
        self.temps = [250, 260]
        self.mos_dc = 300
        self.protection = 0
        self.warning = 0
        self.fets = 3
        self.balanced = [0, 0]
        self.current = 300000 - 1500
        self.silent = set()
        self.lie = {}
        self.longer = 0

    def data(self, address):
        mv = self.mv[address]
        out = words([sum(mv) // 10, 0, self.current >> 16, self.current, 7320, 7327, 10000, 10000])
        out += words([self.mos_dc + 500, 726, 2, 100])
        out += words([self.protection >> 16, self.protection, self.warning >> 16, self.warning])
        out += words([self.fets, 4, 12]) + bytes(28) + words([len(mv)] + mv)
        out += words([len(self.temps)] + [t + 500 for t in self.temps] + self.balanced)
        return out + bytes([12, 4]) + b"JBD" + bytes(27 + self.longer)

    def __call__(self, request):
        assert len(request) == 10 and with_crc(request[:8]) == request
        assert request[1:8] == REQUEST[1:8]
        address = request[0]
        if address not in self.mv or address in self.silent:
            return None
        return answer(self.lie.get(address, address), self.data(address))


def bench(addresses=(1,), cells=4, temps=2, line=None, **more):
    shapes = tuple([(a, cells, temps) for a in addresses])
    return SlaveBench("jbd_up", shapes, reply=line or Line(addresses), **more)


def test_units_are_polled_with_the_documented_bytes_and_read():
    line = Line((1, 2))
    line.mv[2][0] = 3444
    b = bench((1, 2), line=line).greet()
    assert b.requests[0] == REQUEST and len(b.requests) == 4
    assert b.mv() == [3300, 3301, 3302, 3303, 3444, 3301, 3302, 3303]
    assert b.dc() == [250, 260] * 2 and list(b.pack.die_dc) == [300, 300]
    assert b.pack.stack_mv[0] == 13200
    d = b.driver
    assert (d.current_ma, d.soc_pm, d.remaining_mah, d.nominal_mah) == (-15000, 732, 73270, 100000)
    assert (d.cycles, d.health_pm, d.protection, d.balance) == (12, 1000, 0, 0)
    assert b.names() == []


def test_an_impossible_current_is_none():
    line = Line()
    b = bench(line=line).greet()
    line.current = 0xFFFFFFFF
    b.scan()
    assert b.driver.current_ma == -15000
    line.current = 300000 + 2000
    b.scan()
    assert b.driver.current_ma == 20000


def test_unknown_until_it_fits_and_a_mismatch_when_said_twice():
    b = bench()
    b.scan()
    assert b.mv() == [None] * 4
    b.scan()
    assert b.mv() == [3300, 3301, 3302, 3303]
    for cells, temps in ((5, 2), (4, 3)):
        b = bench(cells=cells, temps=temps)
        b.scan()
        assert b.names() == []
        b.scan()
        assert b.names() == ["slave_mismatch"] and b.mv() == [None] * cells


def test_protections_say_which_and_warnings_do_not_trip():
    line = Line()
    b = bench(line=line).greet()
    for bit, trip, warn in (
        (0, 1, 0),
        (1, 2, 0),
        (2, 1, 0),
        (3, 2, 0),
        (4, 16, 0),
        (5, 16, 0),
        (6, 16, 0),
        (7, 16, 0),
        (8, 0, 4),
        (9, 0, 8),
        (10, 4, 0),
        (11, 8, 0),
        (12, 4, 0),
        (13, 4, 0),
        (14, 8, 0),
        (15, 0, 128),
        (16, 0, 128),
        (17, 0, 128),
        (18, 32, 0),
        (19, 64, 0),
        (20, 64, 0),
        (21, 64, 0),
        (22, 64, 0),
        (23, 0, 64),
        (24, 128, 0),
        (25, 0, 0),
        (26, 64, 0),
    ):
        line.protection = 1 << bit
        b.scan()
        assert b.pack.slave_flags[0] == warn << 8 | trip, bit
        names = ["slave_alarm"] if trip else ["slave_warning"] if warn else []
        assert b.names() == names, bit
        line.protection = 0
        b.scan()
        b.faults.acknowledge()
    line.warning = 1 << 17
    b.scan()
    assert b.pack.slave_flags[0] == 128 << 8 and b.names() == ["slave_warning"]


def test_an_open_switch_is_reported_and_cannot_be_commanded():
    for fets in (1, 2, 0):
        line = Line()
        b = bench(line=line).greet()
        line.fets = fets
        b.scan()
        assert b.names() == ["slave_switch"]
        assert b.driver._fets[0] == {1: 2, 2: 1, 0: 0}[fets]  # its bit 0 is discharge
    assert "fets" in str(raises(Exception, lambda: bench(slave="fets = true")))


def test_balanced_cells_are_marked_by_either_field():
    for balanced in ([1, 0], [0, 1]):
        line = Line()
        b = bench(line=line).greet()
        line.balanced = balanced
        b.scan()
        assert b.pack.cell_flags[0] & 2 and b.driver.balance == 1


def test_what_cannot_be_is_no_reading():
    line = Line()
    b = bench(line=line).greet()
    b.old()
    line.temps[1] = -500
    line.mv[1][2] = 9000
    for raw in (0, 0x7FFF, 0x8000, 0xFFFF):
        line.mos_dc = raw - 500
        b.scan()
        assert b.pack.die_dc[0] == 300
    assert b.dc() == [250, None] and b.mv() == [3300, 3301, None, 3303]


def test_a_cell_out_of_its_hard_bounds_is_evaluated_as_it_arrives():
    line = Line()
    b = bench(line=line).greet()
    b.reply = lambda request: None
    b.begin()
    b.step(60)
    line.mv[1][1] = 4608
    b.give(answer(1, line.data(1)))
    assert b.names() == ["cell_hard_high"] and b.mv()[1] == 4608


def test_counts_that_disagree_with_the_length_are_damage():
    line = Line()
    b = bench(line=line).greet()
    good = line.data(1)
    for data in (good[:60], good[:70], good[:80], good[:67] + b"\x90" + good[68:]):
        b.reply = lambda request, data=data: answer(1, data)
        b.old()
        damaged = b.driver.damaged
        b.scan()
        assert b.mv() == [None] * 4 and b.driver.damaged > damaged


def test_longer_answers_are_read():
    line = Line()
    line.longer = 12
    b = bench(line=line).greet()
    assert b.mv() == [3300, 3301, 3302, 3303]


def test_somebody_else_echo_sleep_and_silence():
    line = Line((1, 2, 3))
    b = bench((1, 2, 3), line=line).greet()
    line.lie = {1: 9}
    b.old()
    b.scan()
    assert b.mv()[:4] == [None] * 4 and b.mv()[4] == 3300 and b.driver.unexpected > 0
    line.lie = {}
    b.scan()
    b.reply = lambda request: b"\x01\x78\x10" + request + (line(request) or b"")
    b.old()
    b.scan()
    assert None not in b.mv() and b.driver.link.echoes > 0
    slept = []

    def sleepy(request):
        if request[0] == 1 and not slept:
            slept.append(1)
            return None
        return line(request)

    b.reply = sleepy
    b.old()
    missed = b.driver.missed
    b.scan()
    assert None not in b.mv() and b.driver.missed == missed
    b.reply = line
    line.silent = {2}
    b.old()
    assert b.scan() < 2500
    assert b.mv() == [3300, 3301, 3302, 3303] + [None] * 4 + [3300, 3301, 3302, 3303]


def test_split_truncated_and_damaged_at_every_byte():
    line = Line()
    whole = answer(1, line.data(1))
    b = bench(line=line).greet()
    for at in range(1, len(whole)):
        for how in range(3):
            b.reply = lambda request: None
            b.begin()
            b.step(60)
            b.old()
            if how == 0:
                b.give(whole[:at])
                assert b.mv() == [None] * 4
                b.give(whole[at:])
                assert b.mv() == [3300, 3301, 3302, 3303]
            elif how == 1:
                b.give(whole[:at])
            else:
                b.give(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
            b.run(3000, 60)
            assert b.driver.done and (how == 0 or b.mv() == [None] * 4), (at, how)


def test_the_cycle_does_not_allocate():
    b = bench().greet()
    line = Line()
    assert b.scans_without_heap([line(REQUEST)], 10, 2) == 10
    assert b.driver.missed == b.driver.unexpected == 0
