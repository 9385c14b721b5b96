"""The Daly driver against scripted boards on one line, and on one CAN bus."""

from slave_bench import SlaveBench

from bms.config.errors import ConfigError
from bms.links.can import EXTENDED
from bms.protection import fault_ids as F
from fakes import raises, slcan_bytes

REQUEST_90_2 = bytes.fromhex("A541900800000000000000007E")
DISCHARGE_ON = bytes.fromhex("A540D9080100000000000000C7")
DISCHARGE_OFF = bytes.fromhex("A540D9080000000000000000C6")


def frame(node, command, payload):
    payload = bytes(payload)
    body = bytes([0xA5, node, command, 8]) + payload + bytes(8 - len(payload))
    return body + bytes([sum(body) & 255])


class Line:
    """Boards by number; first: number of the first frame; cut: frames left out of an answer."""

    def __init__(self, nodes=(1,), mv=(3300, 3301, 3302, 3303, 3304)):
        self.mv = {n: list(mv) for n in nodes}
        self.temps = [65, 66]
        self.first = 1
        self.alarm = [0] * 8
        self.fets = [1, 1]
        self.count = None
        self.commanded = []
        self.silent = set()
        self.no_alarms = False
        self.cut = ()
        self.balance = 0
        self.obeys = False  # words for its FETs

    def __call__(self, request):
        assert len(request) == 13 and sum(request[:12]) & 255 == request[12]
        node = request[1] - 0x40 + 1
        if node not in self.mv or node in self.silent:
            return None
        command = request[2]
        mv = self.mv[node]
        if command == 0x95:
            out = b""
            for i in range(0, len(mv), 3):
                part = [self.first + i // 3]
                for v in mv[i : i + 3]:
                    part += [v >> 8, v & 255]
                if i // 3 not in self.cut:
                    out += frame(node, command, part)
            return out
        if command == 0x96:
            return frame(node, command, [self.first] + self.temps)
        if command == 0x90:
            total = sum(mv) // 100
            return frame(node, command, [total >> 8, total & 255, 0, 0, 0x76, 0x30, 1, 244])
        if command == 0x93:
            return frame(node, command, [0] + self.fets + [0, 0, 0, 0x4E, 0x20])
        if command == 0x94:
            count = len(mv) if self.count is None else self.count
            return frame(node, command, [count, len(self.temps), 0, 0, 0, 0, 9])
        if command == 0x97:
            return frame(node, command, [self.balance])
        if command == 0x98:
            if self.no_alarms:
                return None
            return frame(node, command, self.alarm)
        self.commanded.append((node, command, request[4]))
        if self.obeys:
            self.fets[command == 0xD9] = request[4]
        return frame(node, command, [request[4]])


def bench(nodes=(1,), cells=5, temps=2, line=None, **more):
    shapes = tuple([(n, cells, temps) for n in nodes])
    return SlaveBench("daly", shapes, reply=line or Line(nodes), **more)


def greeted(nodes=(1,), **more):
    """Known in the first scan, and read in those that follow."""
    b = bench(nodes, **more)
    for _ in range(4):
        b.scan()
    assert b.pack.all_known()
    return b


def test_boards_are_polled_by_their_numbers_and_read():
    b = greeted((1, 2))
    assert REQUEST_90_2 in b.requests
    assert b.mv() == [3300, 3301, 3302, 3303, 3304] * 2
    assert b.dc() == [250, 260] * 2
    assert b.pack.stack_mv[1] == 16500 and b.pack.die_dc[1] == 260
    d = b.driver
    assert (d.current_ma, d.soc_pm, d.remaining_mah, d.cycles) == (25600, 500, 20000, 9)
    assert b.names() == []


def test_frames_numbered_from_0_as_the_document_says():
    line = Line()
    line.first = 0
    b = greeted(line=line)
    assert b.mv() == [3300, 3301, 3302, 3303, 3304] and b.dc() == [250, 260]


def numbered(line, command, was, number):
    """The line, whose next frame numbered `was` has another number, and a sum that is right."""
    left = [1]

    def reply(request):
        answer = bytearray(line(request) or b"")
        for at in range(0, len(answer), 13):
            if request[2] == command and answer[at + 4] == was and left:
                left.pop()
                answer[at + 4] = number
                answer[at + 11] = (answer[at + 11] + was - number) & 255
        return bytes(answer)

    return reply


def test_a_damaged_number_shifts_no_cells():
    for first, was, number in ((1, 1, 0), (1, 2, 0), (1, 3, 0), (0, 0, 3), (0, 2, 3)):
        line = Line(mv=[3300 + 10 * i for i in range(9)])
        line.first = first
        b = bench(cells=9, line=line).greet()
        b.reply = numbered(line, 0x95, was, number)
        for scans in (2, 6):
            for _ in range(scans):
                b.old()
                b.scan()
                for mv, true in zip(b.mv(), line.mv[1]):
                    assert mv is None or mv == true, (first, was, number)
            assert b.mv() == line.mv[1], (first, was, number)
        assert b.names() == []


def test_a_damaged_number_shifts_no_temperatures():
    for first, was, number in ((1, 1, 0), (0, 0, 1)):
        line = Line()
        line.first = first
        b = bench(line=line).greet()
        b.reply = numbered(line, 0x96, was, number)
        for _ in range(2):
            b.scan()
        b.old()
        b.scan()
        assert b.dc() == [250, 260] and b.names() == []


def test_frames_that_begin_elsewhere_after_all_are_believed():
    line = Line(mv=[3300 + 10 * i for i in range(9)])
    b = bench(cells=9, line=line).greet()
    for first in (0, 1):
        line.first = first  # another board in its place
        for _ in range(3):
            b.scan()
        b.old()
        b.scan()
        assert b.mv() == line.mv[1] and b.dc() == [250, 260], first


def test_where_frames_begin_is_not_guessed():
    line = Line(mv=[3300 + i for i in range(9)])
    line.cut = (2,)  # the last one, which would tell
    b = bench(cells=9, line=line)
    for _ in range(3):
        b.scan()
    assert b.mv() == [None] * 9
    line.cut = ()
    b.scan()
    b.scan()
    assert b.mv() == line.mv[1]


def test_no_temperature_is_polled_where_there_is_none():
    line = Line()
    line.temps = [0]
    b = greeted(temps=0, line=line)
    assert 0x96 not in [r[2] for r in b.requests] and b.mv() == line.mv[1]
    assert b.driver.missed == b.driver.unexpected == 0
    assert b.driver.scan_ms(b.config) == (13 * 9) * 10000 // 9600 + 4 * 40 + 1
    line.alarm[5] = 1
    b.scan()
    assert b.names() == ["slave_alarm"]
    b.reply = lambda request: frame(1, 0x96, [1, 65]) + (line(request) or b"")
    b.scan()
    assert b.driver.unexpected == 4 and b.driver.missed == 0


def test_all_polls_without_a_scan():
    b = bench(temps=0)  # as a bus scan polls boards, to learn what they have
    polled = []
    for step in range(b.driver.STEPS):
        b.driver.send_poll(0, step)
        polled.append(b.wire.stream.took()[2])
    assert sorted(polled) == [0x90, 0x94, 0x95, 0x96, 0x98]


def test_open_sensors_keep_nothing_else_from_being_polled():
    for first, temps, raw, read in (
        (1, 1, [0], [None]),
        (0, 1, [0], [None]),
        (1, 2, [0, 66], [None, 260]),
        (1, 2, [255, 255], [None, None]),
    ):
        line = Line()
        line.first, line.temps = first, raw
        b = greeted(temps=temps, line=line)
        assert b.dc() == read and b.mv() == line.mv[1] and b.driver.missed == 0
        line.alarm[5] = 1
        b.scan()
        assert b.names() == ["slave_alarm"]


def test_temperatures_in_two_frames():
    line = Line()
    line.temps = [60 + i for i in range(9)]
    reply = line.__call__

    def both(request):
        if request[2] != 0x96:
            return reply(request)
        out = b""
        for i in (0, 7):
            if i not in cut:
                out += frame(1, 0x96, [line.first + i // 7] + line.temps[i : i + 7])
        return out

    for line.first in (0, 1):
        cut = ()
        b = bench(temps=9, line=both)
        for _ in range(4):
            b.scan()
        assert b.dc() == [200 + 10 * i for i in range(9)] and b.driver.missed == 0
        for cut in ((0,), (7,)):
            b.old()
            b.scan()
            read = [200 + 10 * i for i in range(9)]
            for i in range(9):
                if (i < 7) == (0 in cut):
                    read[i] = None
            assert b.dc() == read, (line.first, cut)


def test_the_least_and_the_most_that_a_sensor_reads():
    line = Line()
    b = greeted(line=line)
    line.temps = [1, 139]
    b.scan()
    assert b.dc() == [-390, 990]
    line.temps = [0, 255]
    b.old()
    b.scan()
    assert b.dc() == [None, None]


def test_sixteen_boards_and_no_more():
    b = bench(tuple(range(1, 17)))
    assert len(b.driver.members) == 16
    for nodes, key in ((range(1, 18), "link"), ((0,), "node"), ((17,), "node")):
        assert raises(ConfigError, lambda nodes=nodes: bench(tuple(nodes))).key == key


def test_charge_and_discharge_switches_are_distinguished():
    line = Line()
    b = greeted(line=line)
    for fets, bits in (([1, 0], 1), ([0, 1], 2), ([0, 0], 0), ([1, 1], 3)):
        line.fets = fets
        for _ in range(3):
            b.scan()
        assert b.driver._fets[0] == bits


def test_the_sign_of_the_current_is_the_pack_file_s():
    b = greeted(slave="reversed = true")
    assert b.driver.current_ma == -25600


def test_other_cells_are_a_mismatch():
    line = Line()
    line.count = 6
    b = bench(line=line)
    for _ in range(5):
        b.scan()
    assert b.names() == ["slave_mismatch"] and b.mv() == [None] * 5


def test_alarms_of_two_levels():
    line = Line()
    b = greeted(line=line)
    hot, cold, current, hardware = 4, 8, 16, 64
    trips = {1: 1, 3: 2, 5: 1, 7: 2, 13: hot, 15: cold, 17: current, 19: current, 32: hot, 33: hot}
    trips.update({36: hardware, 37: hardware, 40: hardware, 41: hardware, 48: hardware})
    trips.update({49: hardware, 50: 32})
    warns = {0: 1, 2: 2, 4: 1, 6: 2, 8: hot, 9: hot, 10: cold, 11: cold, 12: hot, 14: cold}
    warns.update({16: current, 18: current, 34: hardware, 35: hardware, 38: hardware})
    warns.update({39: hardware, 42: hardware, 43: hardware, 47: hardware, 51: 2})
    for bit in range(52):
        line.alarm[bit >> 3] = 1 << (bit & 7)
        b.scan()
        trip = trips.get(bit, 0)
        warn = warns.get(bit, 0 if trip else 128)
        assert b.pack.slave_flags[0] == warn << 8 | trip, bit
        assert b.names() == ["slave_alarm" if trip else "slave_warning"], bit
        line.alarm[bit >> 3] = 0
        b.scan()
        b.faults.acknowledge()
    line.alarm[6] = 0xF0  # no bits
    line.alarm[7] = 0xFF  # a code
    b.scan()
    assert b.pack.slave_flags[0] == 0 and b.names() == []


def test_an_alarm_answer_that_is_never_given_trips():
    line = Line()
    b = greeted(line=line)
    clock = b.board.clock
    age = b.pack.temp_age[0]
    begun = clock.total_ms
    while clock.total_ms < begun + 2 * age:  # answers are given: nothing gets old
        b.scan()
    assert b.names() == []
    line.no_alarms = True
    silent = clock.total_ms
    while not b.names() and clock.total_ms < silent + 2 * age:
        b.scan()
    assert b.names() == ["status_lost"]
    assert age - 2000 < clock.total_ms - silent < age + 2000


def test_alarms_of_two_boards_end_each_for_itself():
    line = Line((1, 2, 3, 4))
    alarmed = set()

    def reply(request):
        line.alarm[5] = 1 if request[1] - 0x3F in alarmed else 0
        return line(request)

    boards = ((1, 5, 2, 1), (2, 5, 2, 1), (3, 5, 2, 2), (4, 5, 2, 2))
    b = SlaveBench("daly", boards, reply=reply)
    for _ in range(6):
        b.scan()
    assert b.pack.all_known() and b.names() == []
    alarmed.update((1, 2, 3))
    for _ in range(2):
        b.scan()
    assert b.faults.blocking(0) == b.faults.blocking(1) == 1
    for board, left in ((1, [1, 1]), (3, [1, 0]), (2, [0, 0])):
        alarmed.remove(board)
        for _ in range(8):
            b.scan()
            b.run(500, 20)
        b.faults.acknowledge()
        assert [b.faults.blocking(0), b.faults.blocking(1)] == left, board


def test_an_alarm_lasts_until_an_answer_lacks_it():
    line = Line((1, 2))
    b = greeted((1, 2), line=line)
    line.alarm[5] = 1
    b.scan()
    assert b.names() == ["slave_alarm"]
    line.silent = {1, 2}
    for _ in range(12):
        b.scan()
        b.run(5000, 50)
        b.faults.acknowledge()
        assert b.faults.active[F.SLAVE_ALARM]
    line.silent = {2}
    for _ in range(3):
        b.scan()
        assert b.faults.active[F.SLAVE_ALARM]
    line.alarm[5] = 0
    b.scan()
    b.faults.acknowledge()
    assert b.faults.active[F.SLAVE_ALARM]  # the silent one's
    line.silent = set()
    b.scan()
    b.scan()
    assert not b.faults.active[F.SLAVE_ALARM]
    b.pass_ms(7 * 86400000)
    line.alarm[5] = 1
    b.scan()
    b.pass_ms(4 * 86400000)  # more than clocks can tell
    b.driver.step(b.now)
    assert b.faults.active[F.SLAVE_ALARM]


def test_what_is_wrong_with_one_string_does_not_hold_the_other():
    line = Line((1, 2, 3, 4))
    wrong = {}

    def reply(request):
        board = request[1] - 0x3F
        line.count = 6 if wrong.get(board) == "count" else None
        line.fets = [1, 0] if wrong.get(board) == "fets" else [1, 1]
        return line(request)

    boards = ((1, 5, 2, 1), (2, 5, 2, 1), (3, 5, 2, 2), (4, 5, 2, 2))
    b = SlaveBench("daly", boards, reply=reply)
    for _ in range(6):
        b.scan()
    for what, fault in (("count", F.SLAVE_MISMATCH), ("fets", F.SLAVE_SWITCH)):
        wrong.update({1: what, 3: what, 4: what})
        for board, left in ((None, [1, 1]), (3, [1, 1]), (4, [1, 0]), (1, [0, 0])):
            wrong.pop(board, None)
            for _ in range(9):
                b.scan()
            slots = [b.faults.slot(fault, string) for string in (0, 1)]
            assert [b.faults.active[i] for i in slots] == left, (what, board)


def test_switches_are_commanded_where_they_are_rated():
    line = Line()
    b = greeted(line=line, slave="fets = true")
    line.mv[1][0] = 4400
    b.scan()
    b.run(1000)
    assert b.names() == ["cell_hard_high"]
    assert line.commanded[:2] == [(1, 0xD9, 0), (1, 0xDA, 0)] and DISCHARGE_OFF in b.requests
    line = Line()
    b = greeted(line=line, slave="fets = true; fets_inverted = true")
    line.mv[1][0] = 4400
    b.scan()
    b.run(1000)
    assert line.commanded[:2] == [(1, 0xD9, 1), (1, 0xDA, 1)] and DISCHARGE_ON in b.requests


def tripped(line, **more):
    """A board whose FETs this driver opened."""
    line.obeys = True
    b = greeted(line=line, slave="fets = true", **more)
    b.faults.set(F.INTERLOCK, -1, 0)
    b.run(300)
    assert line.commanded == [(1, 0xD9, 0), (1, 0xDA, 0)] and line.fets == [0, 0]
    line.commanded.clear()
    return b


def test_switches_that_were_opened_close_at_once_when_all_is_acknowledged():
    line = Line()
    b = tripped(line)
    for _ in range(4):
        b.scan()
    assert b.names() == ["interlock"]
    b.faults.clear(F.INTERLOCK)
    b.faults.acknowledge()
    b.driver._suspect[0] = 2
    b.driver.switches(0, 0, 0)  # it reports it, twice, before it is commanded to close them
    b.driver._suspect[0] = 0
    b.pack.energised[0] = 1  # a person closes at once
    b.run(300)
    assert line.commanded == [(1, 0xD9, 1), (1, 0xDA, 1)]
    for _ in range(8):
        b.scan()
        b.run(2000, 20)
    assert len(line.commanded) == 2 and not b.faults.count[F.SLAVE_SWITCH]


def test_switches_are_not_commanded_to_close_against_the_board_s_own_protection():
    line = Line()
    line.obeys = True
    b = greeted(line=line, slave="fets = true")
    b.pack.energised[0] = 1
    line.fets = [1, 0]
    for _ in range(6):
        b.scan()
        b.run(2000, 20)
    assert b.names() == ["slave_switch"] and line.commanded == []
    b.pack.energised[0] = 0
    b.run(200)
    assert line.commanded == [(1, 0xD9, 1), (1, 0xDA, 1)]


def test_a_word_to_close_that_is_lost_is_said_again_with_closed_contactors():
    line = Line()
    b = tripped(line)
    line.obeys = False
    b.faults.clear(F.INTERLOCK)
    b.faults.acknowledge()
    b.pack.energised[0] = 1
    for _ in range(4):
        b.scan()
        b.run(400, 20)
    assert b.names() == [] and len(line.commanded) == 2  # it may not have been polled since
    line.obeys = True
    for _ in range(8):
        b.scan()
        b.run(1000, 20)
    assert line.commanded[2:] == [(1, 0xD9, 1), (1, 0xDA, 1)] and b.names() == []
    assert b.driver._off[0] == 0


def test_switches_that_do_not_close_when_commanded_are_a_fault():
    line = Line()
    b = tripped(line)
    line.obeys = False
    b.faults.clear(F.INTERLOCK)
    b.faults.acknowledge()
    for _ in range(10):
        b.scan()
        b.run(1000, 20)
    assert b.names() == ["slave_switch"]


def test_a_second_word_that_nobody_wants_any_more_is_not_sent():
    line = Line()
    line.obeys = True
    b = greeted(line=line, slave="fets = true")
    b.reply = lambda request: None if request[2] == 0xD9 else line(request)
    b.faults.set(F.INTERLOCK, -1, 0)
    b.run(100)
    b.faults.clear(F.INTERLOCK)
    b.faults.acknowledge()
    b.pack.energised[0] = 1
    b.run(1500)
    assert (
        (1, 0xDA, 0) not in line.commanded and b.requests[-1][2] == 0xDA and b.requests[-1][4] == 1
    )


def test_an_open_switch_that_damage_says_is_nothing():
    line = Line()
    b = greeted(line=line, slave="fets = true")
    b.pack.energised[0] = 1
    left = [1]

    def once(request):
        if request[2] == 0x93 and left:
            left.pop()
            return frame(1, 0x93, [0, 1, 0])
        return line(request)

    b.reply = once
    for _ in range(6):
        b.scan()
    assert not left and not b.faults.count[F.SLAVE_SWITCH] and b.driver._fets[0] == 3


def test_who_does_not_know_a_rare_poll_gets_the_other_polls():
    line = Line()
    for unknown, fets, seen in ((0x97, [1, 0], ["slave_switch"]), (0x93, [1, 1], [])):
        line.fets = [1, 1]
        b = greeted(line=line)
        b.reply = lambda request, no=unknown: None if request[2] == no else line(request)
        line.fets = fets
        line.balance = 0 if unknown == 0x97 else 1
        b.driver._is_balancing[0] = 0
        b.requests = []
        for _ in range(6):
            b.scan()
            assert not b.driver._silent[0]
        assert b.names() == seen and b.driver._is_balancing[0] == line.balance
        assert [r[2] for r in b.requests].count(unknown) == 2 * b.driver.missed == 4


def test_an_open_switch_is_reported_and_balancing_is_marked():
    line = Line()
    b = greeted(line=line)
    line.fets = [1, 0]
    line.balance = 2
    for _ in range(4):
        b.scan()
    assert b.names() == ["slave_switch"] and b.pack.cell_flags[0] & 2


def test_a_jump_beyond_hard_bounds_is_polled_again():
    line = Line()
    b = greeted(line=line)
    seen = []

    def once(request):
        answer = line(request)
        if request[2] == 0x95:
            seen.append(request)
            if len(seen) == 1:
                line.mv[1][2] = 5200
                answer = line(request)
                line.mv[1][2] = 3302
        return answer

    b.reply = once
    b.scan()
    assert len(seen) == 2 and b.names() == [] and b.mv()[2] == 3302


def test_a_suspect_reading_without_an_answer_is_not_kept():
    line = Line()
    b = greeted(line=line)
    jump = Line(mv=[3300, 3301, 5200, 3303, 3304])
    cells = []

    def reply(request):
        if request[2] == 0x95:
            cells.append(request)
            if len(cells) in (1, 4):
                return jump(request)
            if len(cells) < 4:
                return None
        return line(request)

    b.reply = reply
    b.scan()
    b.scan()
    assert len(cells) == 5 and b.names() == [] and b.mv() == line.mv[1]


def test_frames_of_two_tries_are_one_answer():
    line = Line(mv=[3300 + i for i in range(9)])
    b = bench(cells=9, line=line).greet()
    cuts = [(2,), (0, 1)]

    def reply(request):
        line.cut = cuts.pop(0) if request[2] == 0x95 and cuts else ()
        return line(request)

    b.reply = reply
    b.old()
    b.scan()
    assert b.mv() == line.mv[1] and not cuts and not b.driver.missed


def test_more_cells_do_not_move_where_frames_begin():
    line = Line(mv=[3300 + i for i in range(9)])
    line.first = 0
    b = bench(cells=9, line=line).greet()
    line.mv[1] += [3500, 3501, 3502]
    line.cut = (1,)
    b.old()
    b.scan()
    assert b.mv() == line.mv[1][:3] + [None] * 3 + line.mv[1][6:9] and b.driver._cell_base[0] == 0


def test_frames_that_are_missing_cost_little_time():
    line = Line()
    b = greeted(line=line)
    line.cut = (0,)
    b.old()
    assert b.scan() < 1000
    assert b.mv() == [None] * 3 + [3303, 3304]


def test_echo_and_somebody_else():
    line = Line((1, 2))
    b = greeted((1, 2), line=line)
    b.reply = lambda request: request + frame(3, request[2], [1, 9, 9]) + (line(request) or b"")
    b.old()
    b.scan()
    assert b.mv() == [3300, 3301, 3302, 3303, 3304] * 2
    assert b.driver.link.echoes == 10 and b.driver.unexpected == 10


def test_damage_in_any_byte():
    whole = frame(1, 0x95, [1, 0x0C, 0xE4, 0x0C, 0xE5, 0x0C, 0xE6])
    b = greeted()
    for at in range(13):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
            b.reply = lambda request: None
            b.begin()
            b.step(30)
            b.old()
            b.give(data)
            b.run(2000, 20)
            assert b.driver.done and b.mv() == [None] * 5, at


def test_a_silent_board_does_not_hold_the_others():
    line = Line((1, 2, 3))
    b = greeted((1, 2, 3), line=line)
    line.silent = {2}
    b.scan()
    b.old()
    b.scan()
    assert b.mv()[:5] == b.mv()[10:] == [3300, 3301, 3302, 3303, 3304] and b.mv()[5] is None


def test_the_cycle_does_not_allocate():
    b = greeted()
    b.run(500)
    line = Line()
    answers_of_a_scan = []
    for seldom in (0x93, 0x97, 0x94):
        for command in (0x95, 0x96, 0x90, 0x98, seldom):
            answers_of_a_scan.append(line(frame(0x40, command, b"")))
    b.driver._seldom[0] = 0
    assert b.scans_without_heap(answers_of_a_scan, 9, 5) == 45
    assert b.driver.missed == b.driver.unexpected == 0


# --- on CAN ---


def can_frame(node, command, payload):
    payload = bytes(payload)
    return (EXTENDED | 0x18004000 | command << 16 | node, payload + bytes(8 - len(payload)))


class Bus(Line):
    """The same boards on CAN; blank: frames behind the last cell, with nothing in them."""

    blank = 0

    def __call__(self, request):
        ident, data = request
        assert ident & 0x3F0000FF == EXTENDED | 0x18000040 and len(data) == 8
        node, command = ident >> 8 & 0xFF, ident >> 16 & 0xFF
        answer = super().__call__(frame(0x40 + node - 1, command, data)) or b""
        out = []
        for i in range(0, len(answer), 13):
            out.append(can_frame(node, command, answer[i + 4 : i + 12]))
        if command == 0x95:
            first = self.first + (len(self.mv[node]) + 2) // 3
            out += [can_frame(node, command, [first + i]) for i in range(self.blank)]
        return out


def can_bench(nodes=(1,), line=None, **more):
    return bench(nodes, line=line or Bus(nodes), port="can0", **more)


def can_greeted(nodes=(1,), **more):
    return can_bench(nodes, **more).greet()


def test_on_can_boards_are_polled_by_their_numbers_and_read():
    b = can_greeted((1, 16))
    assert b.board.opened == [("can0", 250000)]
    assert (EXTENDED | 0x18900140, bytes(8)) in b.requests
    assert (EXTENDED | 0x18951040, bytes(8)) in b.requests
    assert b.mv() == [3300, 3301, 3302, 3303, 3304] * 2 and b.dc() == [250, 260] * 2
    assert b.pack.stack_mv[1] == 16500 and b.driver.current_ma == 25600
    assert b.names() == [] and b.driver.unexpected == b.driver.damaged == 0


def test_on_can_switches_are_commanded():
    line = Bus()
    b = can_greeted(line=line, slave="fets = true")
    line.mv[1][0] = 4400
    b.scan()
    b.run(1000)
    assert line.commanded[:2] == [(1, 0xD9, 0), (1, 0xDA, 0)]


def test_on_can_what_is_short_or_somebody_else_s_is_counted():
    b = can_greeted()
    b.reply = lambda request: None
    b.begin()
    b.step(30)
    b.old()
    whole = can_frame(1, 0x95, [1, 0x0C, 0xE4, 0x0C, 0xE5, 0x0C, 0xE6])
    for n in range(8):
        b.give([(whole[0], whole[1][:n])])
    assert b.driver.damaged == 8
    others = (
        whole[0] ^ EXTENDED ^ 0x18954001 ^ 0x101,  # 11 bits
        whole[0] ^ 0x100,  # to another host
        whole[0] ^ 0x04000000,  # another priority
        whole[0] + 1,  # board 2, that isn't there
        EXTENDED | 0x18950140,  # another master's poll
    )
    for ident in others:
        b.give([(ident, whole[1])])
    assert b.driver.unexpected == len(others) and b.mv() == [None] * 5
    b.give([whole])
    assert b.mv() == [3300, 3301, 3302, None, None]


def test_on_can_an_answer_may_go_on_without_cells():
    for first in (0, 1):
        line = Bus()
        line.first, line.blank = first, 14
        assert can_greeted(line=line).mv() == [3300, 3301, 3302, 3303, 3304]


def test_a_lost_first_frame_does_not_shift_the_cells_of_a_longer_answer():
    line = Bus(mv=[3300 + i for i in range(9)])
    line.first, line.blank, line.cut = 0, 2, (0,)
    b = can_bench(cells=9, line=line)
    for _ in range(3):
        b.scan()
    assert b.mv() == [None] * 9
    line.cut = ()
    b.scan()
    b.scan()
    assert b.mv() == line.mv[1]


def test_two_boards_with_one_number():
    mixes = (
        lambda one, two: [f for pair in zip(one, two) for f in pair],
        lambda one, two: one + two,
    )
    for mix in mixes:
        line = Bus()
        other = Bus(mv=[3300, 3301, 3302, 3303, 3404])
        b = can_greeted(line=line)
        b.reply = lambda request, mix=mix: mix(line(request), line(request))
        for _ in range(5):
            b.scan()
        assert b.names() == [] and b.driver.repeated == 0  # one that sends all twice
        b.reply = lambda request, mix=mix: mix(line(request), other(request))
        b.scan()
        assert b.mv() == [None] * 5 and b.names() == []
        for _ in range(3):
            b.scan()
        assert b.names() == ["slave_conflict"] and b.mv() == [None] * 5
        other.mv[1][4] = 5000  # evaluated all the same
        b.scan()
        b.scan()
        assert "cell_hard_high" in b.names()
        b.reply = line
        for _ in range(5):
            b.scan()
        assert b.mv() == line.mv[1]
        assert not b.faults.active[F.SLAVE_CONFLICT] and b.faults.latched[F.SLAVE_CONFLICT]


def test_a_conflict_and_alarms_do_not_allocate():
    b = can_greeted()
    line, other = Bus(), Bus(mv=[3300, 3301, 3302, 3303, 3404])
    line.alarm[5] = other.alarm[5] = 1
    answers_of_a_scan = []
    for seldom in (0x93, 0x97, 0x94):
        for command in (0x95, 0x96, 0x90, 0x98, seldom):
            poll = (EXTENDED | 0x18000140 | command << 16, bytes(8))
            both = line(poll) + (other(poll) if command == 0x95 else [])
            answers_of_a_scan.append(b"".join([slcan_bytes(ident, data) for ident, data in both]))
    b.driver._seldom[0] = 0
    answers_of_a_scan.insert(3, answers_of_a_scan[3])  # what is new must be said twice
    b.scans_without_heap(answers_of_a_scan, 9, 5)
    assert set(b.names()) == {"slave_conflict", "slave_alarm"}


def test_one_answer_that_damage_makes_two_is_no_conflict():
    for number in (1, 2):
        line = Bus()
        b = can_greeted(line=line)
        left = [1]

        def reply(request, line=line, left=left, number=number):
            out = line(request)
            if request[0] >> 16 & 0xFF == 0x95 and left:
                left.pop()
                return [(i, bytes([number]) + d[1:]) for i, d in out]
            return out

        b.reply = reply
        for _ in range(3):
            b.scan()
        assert b.names() == [] and b.mv() == line.mv[1]


def test_a_late_answer_and_its_repeat_are_no_conflict():
    line = Line()
    b = greeted(line=line)
    for part in (26, 13) * 3:  # of the late one, the whole or its first frame
        b.reply = lambda request: None
        b.begin()
        b.step(0)
        b.run(100)
        late = line(b.requests[-1])[:part]
        b.run(340)  # polled again by now
        line.mv[1][0] ^= 1
        b.give(late)
        b.give(line(b.requests[-1]))
        b.reply = line
        b.run(2000)
        assert b.driver.done and b.driver.repeated == 0 and b.names() == []


def test_the_cycle_on_can_does_not_allocate():
    b = can_greeted()
    b.run(500)
    line = Bus()
    answers_of_a_scan = []
    for seldom in (0x93, 0x97, 0x94):
        for command in (0x95, 0x96, 0x90, 0x98, seldom):
            said = line((EXTENDED | 0x18000140 | command << 16, bytes(8)))
            answers_of_a_scan.append(b"".join([slcan_bytes(ident, data) for ident, data in said]))
    b.driver._seldom[0] = 0
    assert b.scans_without_heap(answers_of_a_scan, 9, 5) == 45
    assert b.driver.missed == b.driver.unexpected == 0
