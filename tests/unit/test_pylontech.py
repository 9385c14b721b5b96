"""The Pylontech driver against scripted packs on one line."""

from slave_bench import SlaveBench

REQUEST = b"~20024642E00202FD33\r"


def frame(address, code, info):
    digits = "".join([f"{byte:02X}" for byte in info])
    n = len(digits)
    length = (-((n >> 8) + (n >> 4 & 15) + (n & 15)) & 15) << 12 | n
    body = f"20{address:02X}46{code:02X}{length:04X}{digits}".encode()
    return b"~" + body + f"{-sum(body) & 0xFFFF:04X}\r".encode()


def words(values):
    return b"".join([bytes([(v & 0xFFFF) >> 8, v & 255]) for v in values])


class Line:
    """Packs by address; four: the answer has 24-bit capacities; code: the return code."""

    def __init__(self, addresses=(2,)):
        self.mv = {a: [3300, 3301, 3302, 3303] for a in addresses}
        self.temps = [300, 250, 260]
        self.cells = [0] * 4
        self.heat = [0] * 3
        self.current = 0
        self.fets = 6
        self.protection = 0
        self.failed = [0, 0]
        self.four = True
        self.code = 0
        self.silent = set()
        self.lie = {}
        self.more = b""  # behind what is documented

    def readings(self, address):
        mv = self.mv[address]
        out = bytes([0x11, address, len(mv)]) + words(mv) + bytes([len(self.temps)])
        out += words([t + 2731 for t in self.temps]) + words([-15, sum(mv), 40000])
        if self.four:
            out += b"\x04" + words([0xFFFF, 7]) + bytes([0, 0xCA, 0x58, 1, 0x21, 0x10])
            return out + self.more
        return out + b"\x02" + words([50000, 7])

    def __call__(self, request):
        assert request == frame(
            int(request[3:5], 16), int(request[7:9], 16), [int(request[13:15], 16)]
        )
        address, command = int(request[3:5], 16), int(request[7:9], 16)
        if address not in self.mv or address in self.silent:
            return None
        name = self.lie.get(address, address)
        if self.code:
            return frame(name, self.code, b"")
        if command == 0x42:
            return frame(name, 0, self.readings(address))
        cells = self.cells[: len(self.mv[address])]
        out = bytes([0x11, address, len(cells)] + cells + [len(self.heat)] + self.heat)
        state = [self.protection, self.fets, 0] + self.failed
        return frame(name, 0, out + bytes([0, 0, self.current] + state) + self.more)


def bench(addresses=(2,), cells=4, temps=2, line=None, **more):
    shapes = tuple([(a, cells, temps) for a in addresses])
    return SlaveBench("pylontech", shapes, reply=line or Line(addresses), **more)


def test_packs_are_polled_with_the_documented_bytes_and_read():
    line = Line((2, 3))
    line.mv[3][0] = 3444
    b = bench((2, 3), line=line).greet()
    assert b.requests[1] == REQUEST and b.requests[0][7:9] == b"44"
    assert b.mv() == [3300, 3301, 3302, 3303, 3444, 3301, 3302, 3303]
    assert b.dc() == [250, 260] * 2 and list(b.pack.die_dc) == [300, 300]
    d = b.driver
    assert (d.current_ma, d.cycles, d.remaining_mah, d.nominal_mah) == (-1500, 7, 51800, 74000)
    assert b.names() == []


def test_the_older_answer_without_large_capacities():
    line = Line()
    line.four = False
    b = bench(line=line).greet()
    assert b.mv() == [3300, 3301, 3302, 3303]
    assert (b.driver.remaining_mah, b.driver.nominal_mah) == (40000, 50000)


def test_other_cells_are_a_mismatch():
    b = bench(cells=5)
    b.scan()
    b.scan()
    assert b.names() == ["slave_mismatch"]


def test_alarms_and_switches():
    line = Line()
    b = bench(line=line).greet()
    for name, at, value, flags in (
        ("cells", 1, 2, 1),
        ("cells", 1, 1, 2),
        ("heat", 2, 2, 4),
        ("heat", 2, 1, 8),
        ("cells", 0, 0xF0, 128),
    ):
        getattr(line, name)[at] = value
        b.scan()
        assert b.names() == ["slave_alarm"] and b.pack.slave_flags[0] == flags
        getattr(line, name)[at] = 0
        b.scan()
        b.run(2000, 20)
        b.scan()
        b.faults.acknowledge()
    line.fets = 4
    b.scan()
    assert b.names() == ["slave_switch"]


def test_protections_that_came_on_and_cells_that_failed():
    line = Line()
    b = bench(line=line).greet()
    for bits, failed, flags in (
        (0x01, 0, 1),
        (0x02, 0, 2),
        (0x04, 0, 16),
        (0x08, 0, 0),
        (0x10, 0, 16),
        (0x20, 0, 4),
        (0x40, 0, 0x400),  # too warm to charge
        (0x80, 0, 2),
        (0, 0x80, 64),
    ):
        line.protection = bits
        line.failed = [0, failed]
        b.scan()
        assert b.pack.slave_flags[0] == flags, (bits, failed)
        names = [] if not flags else ["slave_warning" if flags > 255 else "slave_alarm"]
        assert b.names() == names
        line.protection = 0
        line.failed = [0, 0]
        b.scan()
        b.run(2000, 20)
        b.scan()
        b.faults.acknowledge()


def test_readings_that_come_late_are_never_alarms():
    line = Line()
    line.mv[2] = [3362] * 15  # a low byte of 22 makes the length one that alarms could have
    line.temps = [300] * 5
    line.cells = [0] * 15
    line.heat = [0] * 5
    b = bench(cells=15, temps=4, line=line).greet()
    unexpected = b.driver.unexpected
    late = frame(2, 0, line.readings(2))
    b.reply = lambda request: (late if request[7:9] == b"44" else b"") + line(request)
    b.scan()
    assert b.names() == [] and b.pack.slave_flags[0] == 0
    assert b.driver.unexpected == unexpected + 1 and b.driver.missed == 0


def test_answers_that_go_on_behind_what_is_documented():
    line = Line()
    line.more = bytes([1, 2, 3])
    line.protection = 2
    b = bench(line=line).greet()
    assert b.mv() == [3300, 3301, 3302, 3303] and b.dc() == [250, 260]
    assert b.names() == ["slave_alarm"] and b.driver.unexpected == 0


def test_longer_answers_to_the_other_poll_are_unexpected():
    line = Line()
    line.failed = [0, 2]  # where readings have their count of 2 or 4
    line.more = bytes(30)
    b = bench(line=line)
    b.pack.known[0] = 1
    for poll, answer in ((b"44", 0x42), (b"42", 0x44)):
        swapped = line(frame(2, answer, b"\x02"))
        b.reply = lambda request: swapped if request[7:9] == poll else line(request)
        before = b.driver.unexpected
        b.old()
        b.scan()
        assert b.driver.unexpected == before + 2 and b.driver.missed
        assert len([one for one in b.requests[-3:] if one[7:9] == poll]) == 2, poll
        assert b.mv() == [None] * 4
        # the alarm comes with the true answer to 44 only
        assert b.names() == (["slave_alarm"] if answer == 0x44 else []), poll


def test_longer_readings_of_a_dead_cell_are_never_alarms():
    line = Line()
    b = bench(line=line).greet()
    line.mv[2][3] = 700
    line.more = bytes(3)
    late = line(frame(2, 0x42, b"\x02"))
    line.mv[2][3] = 3303
    b.reply = lambda request: late if request[7:9] == b"44" else line(request)
    b.scan()
    assert b.names() == [] and b.pack.slave_flags[0] == 0 and b.driver.unexpected == 2


def test_a_board_sensor_that_cannot_be_right_is_no_reading():
    line = Line()
    b = bench(line=line).greet()
    for raw in (0, 0x7FFF, 0x8000, 0xFFFF):
        line.temps[0] = raw - 2731
        b.scan()
        assert b.pack.die_dc[0] == 300 and b.mv() == [3300, 3301, 3302, 3303]
        assert b.names() == []


def test_a_pack_that_says_no_alarms_any_more_is_not_read():
    line = Line((2, 3))
    b = bench((2, 3), line=line, limits='cell_age = "3 s"').greet()
    for silent in (None, frame(2, 4, b"")):  # nothing, and a refusal
        b.reply = lambda request: (
            silent if request[3:5] == b"02" and request[7:9] == b"44" else line(request)
        )
        b.old()
        for _ in range(4):
            b.scan()
            assert b.mv() == [None] * 4 + [3300, 3301, 3302, 3303]
        b.reply = line
        b.scan()
        b.scan()
        assert None not in b.mv()


def test_codes_of_refusal_are_no_echo():
    line = Line()
    b = bench(line=line).greet()
    for code in (0x01, 0x06, 0x90, 0x91):
        line.code = code
        b.driver.refused = 0
        b.scan()
        assert b.driver.refused > 0 and b.driver.code == code
    assert b.driver.link.echoes == 0


def test_an_open_sensor_and_a_refusal_are_no_reading():
    line = Line()
    b = bench(line=line).greet()
    line.temps[2] = -2731
    b.old()
    b.scan()
    assert b.dc() == [250, None]
    line.code = 4
    b.old()
    b.scan()
    assert b.mv() == [None] * 4 and b.driver.refused > 0 and b.driver.code == 4


def test_somebody_else_echo_sleep_and_silence():
    line = Line((2, 3))
    b = bench((2, 3), line=line).greet()
    line.lie = {2: 5}
    b.old()
    b.scan()
    assert b.mv() == [None] * 4 + [3300, 3301, 3302, 3303] and b.driver.unexpected > 0
    line.lie = {}
    b.reply = lambda request: b"~~20" + request + (line(request) or b"")
    b.scan()
    b.old()
    b.scan()
    assert None not in b.mv() and b.driver.link.echoes > 0
    b.reply = line
    line.silent = {3}
    assert b.scan() < 1500
    b.old()
    b.scan()
    assert b.mv() == [3300, 3301, 3302, 3303] + [None] * 4


def test_split_and_damaged_anywhere():
    line = Line()
    answer = frame(2, 0, line.readings(2))
    b = bench(line=line).greet()
    for at in range(1, len(answer)):
        for how in range(3):
            b.reply = lambda request: line(request) if request[7:9] == b"44" else None
            b.requests = []
            b.begin()
            while not b.requests or b.requests[-1][7:9] != b"42":
                b.step()
            b.old()
            if how == 0:
                b.give(answer[:at])
                assert b.mv() == [None] * 4
                b.give(answer[at:])
                assert b.mv() == [3300, 3301, 3302, 3303]
            elif how == 1:
                b.give(answer[:at])
            else:
                b.give(answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :])
            b.run(2400, 40)
            assert b.driver.done and (how == 0 or b.mv() == [None] * 4), (at, how)


def test_the_cycle_does_not_allocate():
    b = bench().greet()
    line = Line()
    answers_of_a_scan = [line(frame(2, command, [2])) for command in (0x44, 0x42)]
    assert b.scans_without_heap(answers_of_a_scan, 10, 2) == 20
    assert b.driver.missed == b.driver.unexpected == 0


def test_another_maker_s_frames_are_no_readings():
    line = Line()
    b = bench(line=line).greet()
    for at, digits in ((1, b"25"), (5, b"4A")):

        def foreign(request, at=at, digits=digits):
            answer = line(request)
            body = answer[1:at] + digits + answer[at + 2 : -5]
            return b"~" + body + f"{-sum(body) & 0xFFFF:04X}\r".encode()

        b.reply = foreign
        b.old()
        damaged = b.driver.link.damaged
        b.scan()
        assert b.mv() == [None] * 4 and b.driver.link.damaged > damaged
