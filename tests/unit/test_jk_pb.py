"""The JK-PB driver against scripted boards on one line."""

from slave_bench import SlaveBench

from bms.pack import BALANCING

REQUEST_1 = bytes.fromhex("011016200001020000D6F1")
REQUEST_3 = bytes.fromhex("031016200001020000CF91")
BALANCE_ON = bytes.fromhex("0110107800020400000001f92d")
DISCHARGE_OFF = bytes.fromhex("011010740002040000000038b8")


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return bytes([value & 255, value >> 8])


# parameters: every field of a frame that a test may set
def status(mv, dc=(250, 260), alarms=0, fets=3, mos_dc=300, kind=2, ma=0, balancing=0, sensors=0):
    out = bytearray(300)

    def put(at, value, n=2):
        for i in range(n):
            out[at + i] = value >> (8 * i) & 255

    put(0, 0x90EBAA55, 4)
    put(4, kind)
    for i in range(len(mv)):
        put(6 + 2 * i, mv[i])
    put(70, (1 << len(mv)) - 1, 4)
    put(144, mos_dc & 0xFFFF)
    put(150, sum(mv), 4)
    for i, at in ((0, 162), (1, 164), (2, 256), (3, 258)):
        put(at, (dc[i] if i < len(dc) else -2000) & 0xFFFF)
    put(158, ma, 4)
    put(166, alarms, 4)
    out[172] = balancing
    out[173] = 55
    out[198] = fets & 1
    out[199] = fets >> 1
    out[214] = sensors
    out[299] = sum(out[:299]) & 255
    return bytes(out)


def ack_of(address, register=0x20):
    ack = bytes([address, 0x10, 0x16, register, 0, 1])
    return ack + crc(ack)


# where an acknowledgement stands, by firmware
FORMS = (
    lambda frame, ack, request: frame + b"\0" + ack,
    lambda frame, ack, request: frame + ack,
    lambda frame, ack, request: frame + b"\0" + ack + b"\0",
    lambda frame, ack, request: ack + frame,
    lambda frame, ack, request: ack + request + frame,
)


def acked(frame, address):
    return FORMS[0](frame, ack_of(address), b"")


class Line:
    """Boards by address; told: (address, register, value); lie: who says it was which board;
    form: of each answer; drowsy: boards that answer the status only within 200 ms behind another
    poll, by the time of their last other one; other: type of frame that the settings are.
    """

    def __init__(self, addresses=(1,), mv=(3300, 3301, 3302, 3303)):
        self.mv = {a: list(mv) for a in addresses}
        self.more = {a: {} for a in addresses}
        self.commanded = []
        self.lie = {}
        self.silent = set()
        self.form = {a: FORMS[0] for a in addresses}
        self.drowsy = {}
        self.other = 1
        self.clock = None

    def __call__(self, request):
        assert crc(request[:-2]) == request[-2:]
        address = request[0]
        if address not in self.mv or address in self.silent:
            return None
        if request[2] != 0x16:
            self.commanded.append((address, request[3], request[10]))
            ack = request[:6]
            return ack + crc(ack)
        assert request[1:3] == b"\x10\x16" and request[4:9] == b"\0\x01\x02\0\0"
        more = dict(self.more[address])
        if request[3] == 0x1E:
            more["kind"] = self.other
            if address in self.drowsy:
                self.drowsy[address] = self.clock.total_ms
        else:
            assert request[3] == 0x20
            if address in self.drowsy and self.clock.total_ms - self.drowsy[address] > 200:
                return None
        frame = status(self.mv[address], **more)
        ack = ack_of(self.lie.get(address, address), request[3])
        return self.form[address](frame, ack, request)


def bench(addresses=(1,), cells=4, temps=2, line=None, **more):
    shapes = tuple([(a, cells, temps) for a in addresses])
    line = line or Line(addresses)
    b = SlaveBench("jk_pb", shapes, reply=line, **more)
    line.clock = b.board.clock
    return b


def test_polls_with_the_documented_bytes():
    b = bench((1, 3))
    b.scan()
    assert b.requests[:2] == [REQUEST_1, REQUEST_3]


def test_boards_are_read_each_into_its_place():
    line = Line((1, 3))
    line.mv[3] = [3400, 3401, 3402, 3403]
    line.more[3] = {"dc": (-50, 612), "mos_dc": 455}
    b = bench((1, 3), line=line).greet()
    assert b.mv() == [3300, 3301, 3302, 3303, 3400, 3401, 3402, 3403]
    assert b.dc() == [250, 260, -50, 612]
    assert list(b.pack.stack_mv) == [13206, 13606] and list(b.pack.die_dc) == [300, 455]
    assert b.names() == []


def test_only_the_acknowledgement_says_whose_it_is():
    line = Line((1, 3))
    b = bench((1, 3), line=line).greet()
    line.mv[1] = [3900, 3900, 3900, 3900]
    line.lie = {1: 3}
    b.old()
    b.scan()
    assert b.mv() == [None] * 4 + [3300, 3301, 3302, 3303]
    assert b.driver.unexpected > 0 and b.driver.missed == 1
    b.begin()
    b.step(200)
    b.give(status([3333] * 4))  # a frame, and nobody's acknowledgement
    b.run(400)
    assert 3333 not in b.mv()


def test_an_acknowledgement_is_found_wherever_firmware_puts_it():
    for form in FORMS:
        line = Line((1, 3))
        line.form = {1: form, 3: form}
        line.mv[3] = [3400, 3401, 3402, 3403]
        b = bench((1, 3), line=line).greet()
        b.old()
        b.scan()
        assert b.mv() == line.mv[1] + line.mv[3], FORMS.index(form)
        assert b.driver.missed == b.driver.link.damaged == b.driver.unexpected == 0


def test_forms_mixed_on_one_line_are_each_read_into_their_place():
    for first in range(len(FORMS)):
        line = Line((1, 2, 3, 4, 5))
        for a in line.mv:
            line.mv[a] = [3300 + 10 * a + i for i in range(4)]
            line.form[a] = FORMS[(first + a) % len(FORMS)]
        b = bench((1, 2, 3, 4, 5), line=line).greet()
        b.old()
        b.scan()
        assert b.mv() == sum([line.mv[a] for a in (1, 2, 3, 4, 5)], []), first
        assert b.driver.missed == b.driver.link.damaged == 0


def _polling_board_1():
    """A line of boards 1 and 3, and a bench that has just polled 1; nothing answers by itself."""
    line = Line((1, 3))
    b = bench((1, 3), line=line).greet()
    b.run(1000)
    b.reply = lambda request: None
    b.begin()
    b.step(101)
    b.old()
    return line, b


def test_an_acknowledgement_in_front_names_only_its_own_board():
    _, b = _polling_board_1()
    b.give(ack_of(3) + status([3333] * 4))  # a late answer of board 3 while 1 is polled
    b.run(20)
    assert b.mv() == [None] * 8
    b.give(ack_of(1))
    b.run(300)  # the second try has begun
    b.give(status([3333] * 4))
    b.run(50)
    assert b.mv() == [None] * 8


def test_a_late_acknowledgement_before_our_echo_takes_no_frame():
    line, b = _polling_board_1()
    poll = b.requests[-1]
    assert poll[0] == 1
    b.give(ack_of(3) + poll + status(line.mv[1]) + ack_of(1))
    b.run(20)
    assert b.mv() == line.mv[1] + [None] * 4


def test_an_absent_sensor_is_known_by_the_mask():
    line = Line()
    line.more[1] = {"dc": (250, 0, 0, 260), "sensors": 0b100011}
    b = bench(temps=4, line=line).greet()
    assert b.dc() == [250, None, None, 260]
    line.more[1] = {"dc": (250, 0, 0, 260), "sensors": 0xFF}
    b.scan()
    assert b.dc() == [250, 0, 0, 260]
    line.more[1] = {"dc": (250, -2000, 0, 260), "sensors": 0}  # firmware without the mask
    b.old()
    b.scan()
    assert b.dc() == [250, None, 0, 260]


def test_a_board_that_answers_only_behind_another_poll_is_read():
    for other in (1, 3):
        for answers in (True, False):
            line = Line((1, 2))
            line.drowsy = {2: -1000}
            line.other = other
            b = bench((1, 2), line=line)
            known = b.reply

            def reply(request, known=known, answers=answers):
                answer = known(request)
                return answer if answers or request[3] != 0x1E else None

            b.reply = reply
            b.greet()
            for _ in range(4):
                b.scan()
            b.run(1000)
            assert list(b.driver.wakes) == [0, 3]
            b.requests = []
            b.old()
            ms = b.scan()
            # the other poll goes first, no try is lost
            assert [(r[0], r[3]) for r in b.requests] == [(1, 0x20), (2, 0x1E), (2, 0x20)]
            assert b.mv() == [3300, 3301, 3302, 3303] * 2
            # where it is answered, by whatever frame, only the gap follows: else all of 180 ms
            assert ms < (350 if answers else 400), (other, answers, ms)
            assert b.driver.unexpected == 0 or not answers
    missed = b.driver.missed
    for _ in range(66):  # in one of them it looks again
        b.old()
        b.scan()
        assert None not in b.mv()
    assert b.driver.missed == missed


def test_a_board_that_answers_at_once_again_gets_no_other_poll():
    line = Line()
    line.drowsy = {1: -1000}
    b = bench(line=line).greet()
    for _ in range(4):
        b.scan()
    assert list(b.driver.wakes) == [3]
    line.drowsy = {}
    for _ in range(64):
        b.scan()
    assert list(b.driver.wakes) == [0]


def test_other_cells_are_a_mismatch():
    b = bench(cells=5)
    b.scan()
    b.scan()
    assert b.names() == ["slave_mismatch"]


def test_an_open_sensor_and_a_settings_frame_are_no_reading():
    line = Line()
    line.more[1] = {"dc": (250,)}
    b = bench(line=line).greet()
    assert b.dc() == [250, None]
    line.more[1] = {"kind": 1}
    b.old()
    b.scan()
    assert b.mv() == [None] * 4


def test_alarms_and_switches():
    line = Line()
    b = bench(line=line).greet()
    trips = ((4, 1), (11, 2), (1, 4), (15, 4), (13, 16), (14, 32), (3, 64), (21, 4))
    warns = ((0, 64), (8, 4), (9, 8), (20, 128), (16, 64), (22, 64), (24, 128))
    for bit, trip, warn in [(k, t, 0) for k, t in trips] + [(k, 0, w) for k, w in warns]:
        line.more[1] = {"alarms": 1 << bit}
        b.scan()
        assert b.pack.slave_flags[0] == warn << 8 | trip, bit
        assert b.names() == (["slave_alarm"] if trip else ["slave_warning"]), bit
        line.more[1] = {}
        b.scan()
        b.run(3000, 20)
        b.scan()
        b.faults.acknowledge()
    line.more[1] = {"fets": 1}
    b.scan()
    assert b.names() == ["slave_switch"]


def test_every_field_is_where_it_belongs():
    line = Line(mv=[3300 + i for i in range(20)])
    line.more[1] = {"dc": (250, -60, 270, 280), "mos_dc": -55, "ma": -123456}
    b = bench(cells=20, temps=4, line=line).greet()
    assert b.mv() == [3300 + i for i in range(20)] and b.dc() == [250, -60, 270, 280]
    assert b.pack.die_dc[0] == -55 and b.driver.current_ma == -123456
    line.mv[1][3] = 65535
    b.old()
    b.scan()
    assert b.mv()[2:5] == [3302, None, 3304]


def test_what_no_mosfet_is_like_is_no_temperature():
    line = Line()
    b = bench(line=line).greet()
    for dc in (0x7FFF, -0x8000, 1500, -400):
        line.more[1] = {"mos_dc": dc & 0xFFFF}
        for _ in range(6):
            b.scan()
        assert b.pack.die_dc[0] == 300 and b.names() == [], dc


def test_cells_are_marked_while_the_board_balances_some():
    line = Line()
    b = bench(line=line).greet()
    for balancing, flag in ((0, 0), (1, BALANCING), (2, BALANCING)):
        line.more[1] = {"balancing": balancing}
        b.scan()
        assert [f & BALANCING for f in b.pack.cell_flags] == [flag] * 4, balancing


def test_an_acknowledgement_of_another_command_is_unexpected():
    line = Line()
    b = bench(line=line).greet()
    b.run(1000)
    unexpected = b.driver.unexpected
    b.pack.balance_mask[0] = 2
    b.requests = []
    b.reply = lambda request: None
    while not b.requests:
        b.step()
    for register in (0x70, 0x74, 0x78):
        ack = bytes([1, 0x10, 0x10, register, 0, 2])
        b.give(ack + crc(ack))
    assert b.driver.unexpected == unexpected + 2


def test_balancing_is_commanded():
    line = Line()
    b = bench(line=line).greet()
    b.run(1000)
    assert line.commanded == [(1, 0x78, 0)]
    b.pack.balance_mask[0] = 2
    b.run(1000)
    assert line.commanded[-1] == (1, 0x78, 1) and b.requests[-1] == BALANCE_ON


def test_both_switches_are_commanded_where_they_are_rated():
    line = Line()
    b = bench(line=line, slave="fets = true").greet()
    b.run(1000)
    line.commanded.clear()
    line.mv[1][0] = 4400
    b.scan()
    b.run(1500)
    assert b.names() == ["cell_hard_high"]
    assert line.commanded[:2] == [(1, 0x70, 0), (1, 0x74, 0)]
    assert DISCHARGE_OFF in b.requests
    line.mv[1][0] = 3300
    line.more[1] = {"fets": 0}
    b.scan()
    b.scan()
    line.commanded.clear()
    b.faults.acknowledge()
    b.run(1500)
    assert line.commanded[:2] == [(1, 0x70, 1), (1, 0x74, 1)]


def test_no_switch_is_commanded_while_the_contactors_are_closed():
    line = Line()
    b = bench(line=line, slave="fets = true").greet()
    b.run(1000)
    line.commanded.clear()
    b.pack.energised[0] = 1
    line.mv[1][0] = 4400
    b.scan()
    b.scan()
    b.run(2500)
    assert b.names() == ["cell_hard_high"] and [t for t in line.commanded if t[1] != 0x78] == []
    b.pack.energised[0] = 0
    b.run(2500)
    assert line.commanded[-2:] == [(1, 0x70, 0), (1, 0x74, 0)]


def test_echo_and_a_longer_answer():
    line = Line((1, 3))
    b = bench((1, 3), line=line).greet()
    b.run(1000)
    b.reply = lambda request: request + (line(request) or b"") + b"\x00\xff\x55\xaa"
    b.old()
    b.scan()
    assert b.mv() == [3300, 3301, 3302, 3303] * 2 and b.driver.link.echoes == 2


def test_split_anywhere():
    answer = acked(status([3300, 3301, 3302, 3303]), 1)
    for n in range(1, len(answer), 4):
        b = bench().greet()
        b.run(1000, 20)
        b.reply = lambda request: None
        b.begin()
        b.step(101)
        b.old()
        b.give(answer[:n])
        assert b.mv() == [None] * 4
        b.give(answer[n:])
        assert b.mv() == [3300, 3301, 3302, 3303], n


def test_damaged_or_cut_anywhere():
    answer = acked(status([3300, 3301, 3302, 3303]), 1)
    b = bench().greet()
    b.run(1000, 20)
    for at in range(len(answer)):
        if at == 300:
            continue  # the byte between frame and acknowledgement
        for data in (answer[:at], answer[:at] + bytes([answer[at] ^ 4]) + answer[at + 1 :]):
            b.reply = lambda request: None
            b.begin()
            b.step(101)
            b.old()
            b.give(data)
            b.run(1200, 20)
            assert b.driver.done and b.mv() == [None] * 4, at


def test_a_silent_board_does_not_hold_the_others():
    line = Line((1, 2, 3))
    b = bench((1, 2, 3), line=line).greet()
    line.silent = {2}
    b.scan()
    b.old()
    ms = b.scan()
    assert b.mv() == [3300, 3301, 3302, 3303, None, None, None, None, 3300, 3301, 3302, 3303]
    assert ms < 1200
    line.silent = set()
    b.scan()
    assert None not in b.mv()


def test_the_cycle_does_not_allocate():
    b = bench((1, 3)).greet()
    b.run(2000)
    answers = [acked(status([3300, 3301, 3302, 3303]), a) for a in (1, 3)]
    assert b.scans_without_heap(answers, 6, 5) == 12
    assert b.driver.missed == 0
