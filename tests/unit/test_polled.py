"""What all drivers of polled boards share: checks of the pack file, silent boards, times."""

from slave_bench import SlaveBench

from bms.config.errors import ConfigError
from bms.links.reply import ReplyLink
from bms.pack import FRESH
from bms.slaves import polled
from bms.slaves.build import KINDS, least_age_ms
from fakes import Random, check_ages, raises


class EchoLink(ReplyLink):
    """Replies `A5 node step value 5A`: a made-up protocol, as small as one can be."""

    def __init__(self, stream, rate=0):
        super().__init__(stream, rate or 10000, 16, 0xA5)

    def send_poll(self, node, step):
        self.out[0] = 0x3C
        self.out[1] = node
        self.out[2] = step
        return self.send(3)

    def _size(self, at, filled):
        return 5

    def _good(self, at, size):
        self.fault = 0 if self._in[at + 4] == 0x5A else 2
        return not self.fault

    def _hand_over(self, at, size, sink, now):
        self.rx += 1
        data = self._in
        sink.on_reply(data[at + 1], data[at + 2], data[at + 3], now)


class Tiny(polled.PolledDriver):
    """Boards of one cell and one sensor; the second poll is about the sensor."""

    ABILITIES = polled.BALANCE_ON_OFF
    NODES = (1, 5)
    MOST = 4
    CELLS = 2
    TEMPS = 1
    STEPS = 2
    PARTS = 1
    GAP_MS = 10
    ANSWER_MS = 30
    LONGEST = 8
    frame = EchoLink

    def size(self, m, step):
        return 8

    def send_poll(self, m, step):
        return self.link.send_poll(m + 1, step)

    def command_balance(self, m, on):
        return self.link.send_poll(m + 1, 0x10 | on)

    def on_reply(self, node, step, value, now):
        m = node - 1
        if not 0 <= m < len(self.members):
            self.unexpected += 1
            return
        kind = polled.COMMAND if step & 0x10 else step
        if not self.waits_for(m, kind):
            self.unexpected += 1
            return
        if step == 0:
            if self.fit(m, 1, value != 0xFF, value):
                self.cell(m, 0, 3000 + value, now)
                self.board(m, 3000 + value, 250, now)
        elif step == 1:
            self.temp(m, 0, value, now)
        self.answered(now)


class CommercialDriver:
    """`silent`: nodes that say nothing, `deaf`: that don't answer words to balance; `value`: what
    all read, less 3000; told: words to balance.
    """

    def __init__(self):
        self.silent = set()
        self.deaf = set()
        self.value = 200
        self.commanded = []
        self.requests = []

    def __call__(self, request):
        if len(request) < 3:
            return None
        node, step = request[1], request[2]
        self.requests.append((node, step))
        if node in self.silent:
            return None
        if step & 0x10:
            self.commanded.append((node, step & 1))
            if node in self.deaf:
                return None
        return bytes([0xA5, node, step, self.value, 0x5A])


def bench(count=3, boards=None, **more):
    KINDS["tiny"] = ("test_polled", "Tiny", ("uart",))
    try:
        shapes = tuple([(n + 1, 1, 1) for n in range(count)])
        return SlaveBench("tiny", shapes, reply=boards or CommercialDriver(), **more)
    finally:
        del KINDS["tiny"]


def refusal(**more):
    return raises(ConfigError, lambda: bench(**more))


def test_what_a_kind_cannot_be_is_refused_by_line():
    error = refusal(count=5)
    assert error.key == "link" and "at most 4" in error.reason and error.line > 0
    error = refusal(slave="fets = true")
    assert error.key == "fets" and "tiny: they can't be commanded" in error.reason
    error = refusal(limits='cell_age = "300 ms"')
    # 3 boards x 2 polls x (8 bytes at 10000 bit/s + answer + gap) = 139 ms
    assert error.key == "cell_age"
    assert "a scan of uart0 takes" in error.reason and "noticed after that time" in error.reason
    assert "in its [[link]]" in error.reason
    bench(limits='cell_age = "300 ms"', link='cell_age = "1 s"')
    error = refusal(link='cell_age = "300 ms"')
    assert error.key == "cell_age" and "300 ms is too short" in error.reason


def test_how_old_readings_must_be_allowed_to_get():
    assert least_age_ms(139, 100, 50) == 2 * 200 + 50
    assert least_age_ms(100, 100, 7) == 207
    assert least_age_ms(2700, 100, 300) == 5700
    # 8 bytes at 10000 bit/s, 30 ms to answer, 10 ms gap: once for an answer, once for a word
    assert bench().driver.lost_ms(139) == 2 * (8 + 30 + 5 + 10)
    assert refusal(limits='cell_age = "505 ms"').key == "cell_age"


def test_at_the_least_age_neither_a_lost_answer_nor_words_trip():
    for lost in range(0, 24):
        boards = CommercialDriver()
        boards.deaf = {1, 2, 3}
        b = bench(boards=boards, limits='cell_age = "506 ms"').greet()
        left = [lost]
        worst = 0
        words = 0

        def reply(request, left=left):
            if len(request) == 3 and not request[2] & 0x10:
                left[0] -= 1
                if left[0] == -1:
                    return None
            return boards(request)

        b.reply = reply
        for ms in range(2000):
            if ms % 100 == 0:
                b.driver.scan_started(0, b.now)
            for m in range(3):
                b.driver._commanded[m] = 2  # something to say all the time
            b.step()
            if ms > 400:
                for at in b.pack.cell_at:
                    worst = max(worst, b.now - at)
        words = len(boards.commanded)
        assert worst < 506 and left[0] < -20 and words > 5, (lost, worst, words)
        check_ages(b.limits, b.now)
        assert "cell_lost" not in b.names() and "slave_age" not in b.names()


def test_commands_do_not_keep_a_scan_that_is_due_from_starting():
    boards = CommercialDriver()
    b = bench(boards=boards, link='answer = "60 ms"').greet()
    boards.silent = {3}  # so that a scan takes longer than from one to the next
    boards.deaf = {1, 2}
    for _ in range(3):
        b.scan()
    worst = 0
    for ms in range(3000):
        if ms % 100 == 0:
            b.driver.scan_started(0, b.now)
        b.driver._commanded[0] = b.driver._commanded[1] = 2
        b.step()
        if ms > 400:
            worst = max(worst, b.now - b.pack.cell_at[0], b.now - b.pack.cell_at[1])
    # the scan, and one word
    assert worst < 320 and b.driver.late > 3 and len(boards.commanded) > 6, worst


def test_the_slowest_port_sets_the_time_of_an_evaluation():
    b = bench()
    assert b.driver.every == 2  # 139 ms in periods of 100
    assert list(b.pack.poll_period_ms) == [200] * 3
    begun = []
    b.driver.begin = lambda seq, now: begun.append(seq)
    for seq in range(6):
        b.driver.scan_started(seq, b.now)
    assert begun == [0, 2, 4]


def test_each_board_gets_all_its_polls_then_the_next():
    boards = CommercialDriver()
    b = bench(boards=boards).greet()
    b.run(300)
    boards.requests.clear()
    b.scan()
    assert boards.requests == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert b.mv() == [3200] * 3 and b.dc() == [200] * 3


def test_a_scan_takes_the_gaps_and_no_more():
    b = bench().greet()
    ms = b.scan()
    assert 6 * 11 - 11 <= ms <= 6 * 14  # one ms each for the poll, its answer, and the bench


def test_gap_and_answer_of_the_pack_file_count():
    b = bench(link='gap = "50 ms"').greet()
    assert b.scan() >= 5 * 50
    b = bench(link='answer = "300 ms"')
    b.reply.silent = {1, 2, 3}
    assert b.scan() >= 4 * 300


def test_a_silent_board_costs_the_others_little_and_comes_back():
    boards = CommercialDriver()
    b = bench(boards=boards).greet()
    boards.silent = {2}
    b.scan()
    assert b.driver.missed == 1
    boards.requests.clear()
    b.old()
    b.scan()
    assert b.mv() == [3200, None, 3200]
    # the others first, then twice the silent one
    assert boards.requests[-2:] == [(2, 0), (2, 0)] and len(boards.requests) == 6
    boards.silent = set()
    b.scan()
    assert b.mv() == [3200] * 3


def test_silent_boards_are_tried_one_in_each_scan():
    boards = CommercialDriver()
    b = bench(4, boards=boards).greet()
    boards.silent = {1, 3, 4}
    b.scan()
    # of late: two a scan, until each was tried in vain two times more
    for expected in ({1, 3}, {4, 1}, {3, 4}):
        boards.requests.clear()
        b.scan()
        assert (
            set([node for node, _ in boards.requests[2:]]) == expected and len(boards.requests) == 6
        )
    tried = []
    for _ in range(6):
        boards.requests.clear()
        b.scan()
        tried.append(boards.requests[-1][0])
    assert set(tried[:3]) == {1, 3, 4} and tried[:3] == tried[3:]
    boards.silent = set()
    b.old()
    b.scan()  # one that answers lets the next be tried
    assert b.mv() == [3200] * 4


def test_a_board_that_is_back_does_not_wait_for_dead_ones():
    boards = CommercialDriver()
    b = bench(4, boards=boards).greet()
    boards.silent = {1, 2, 3}
    for _ in range(8):
        b.scan()
    for first in range(3):
        boards.silent = {1, 2, 3, 4}
        b.scan()
        boards.silent = {1, 2, 3}
        b.driver._next_silent = first
        b.old()
        b.scan()
        assert b.mv()[3] == 3200, first


def test_an_answer_that_comes_late_is_taken_where_it_still_fits():
    boards = CommercialDriver()
    b = bench(1, boards=boards).greet()
    b.reply = lambda request: None
    b.begin()
    b.step(20)
    b.old()
    b.pass_ms(60)  # polled again by now
    b.driver.step(b.now)
    b.pass_ms(15)
    b.driver.step(b.now)
    b.give(bytes([0xA5, 1, 0, 210, 0x5A]))
    assert b.mv() == [3210]
    b.give(bytes([0xA5, 1, 0, 99, 0x5A]))  # and once more: nobody waits for it
    assert b.mv() == [3210] and b.driver.unexpected == 1


class Late(CommercialDriver):
    """Boards whose answers take `ms`, and who hear nothing meanwhile."""

    def __init__(self, ms):
        super().__init__()
        self.ms = ms
        self.coming = []

    def on(self, b):
        """Give the answers of a bench when it is time."""
        step = b.step

        def stepped(ms=1):
            if self.coming and self.coming[0][0] <= b.board.clock.total_ms:
                b.wire.stream.give(self.coming.pop(0)[1])
            step(ms)

        def reply(request):
            now = b.board.clock.total_ms
            if not self.coming:
                self.coming.append((now + self.ms, self(request)))

        b.step = stepped
        b.reply = reply
        return b


def test_answers_around_the_time_that_they_are_given_are_read():
    for ms in range(20, 70):
        b = Late(ms).on(bench(1))
        for _ in range(4):
            b.scan()
        assert b.mv() == [3200] and b.dc() == [200], ms


def test_an_answer_in_two_parts_around_that_time_is_read():
    b = bench(1).greet()
    patience = 43
    for part in range(1, 5):
        for at in range(patience - 15, patience + 15):
            b.reply = lambda request: None
            b.begin()
            b.step(20)
            b.old()
            b.run(at)
            whole = bytes([0xA5, 1, 0, 210, 0x5A])
            b.give(whole[:part])
            b.run(15)
            b.give(whole[part:])
            b.run(500)
            assert b.mv() == [3210], (part, at)


def test_what_came_before_a_poll_is_no_part_of_its_answer():
    b = bench(1).greet()
    b.run(300)
    b.reply = lambda request: None
    whole = bytes([0xA5, 1, 0, 210, 0x5A])
    b.give(whole[:3])
    b.begin()
    b.step(20)
    b.old()
    b.give(whole[3:])
    assert b.mv() == [None]
    b.run(500)
    word = bytes([0xA5, 1, 0x11, 0, 0x5A])
    b.give(word[:3])
    b.requests = []
    b.driver._silent[0] = 0
    b.pack.balance_mask[0] = 1
    while not b.requests:
        b.step()
    b.give(word[3:])
    assert b.driver.rest(b.now) > 30  # still awaited


def test_the_next_poll_waits_for_the_end_of_a_longer_answer():
    b = bench(2).greet()
    b.reply = lambda request: None
    for each, most in ((5, 90), (12, 15)):  # ms: bytes that come for longer than patience; pauses
        b.begin()
        b.step(20)
        b.requests = []
        b.give(bytes([0xA5, 1, 0, 210, 0x5A]))
        ms = 0
        while not b.requests:
            b.run(each)
            b.give(b"\0")
            ms += each
            assert b.requests or b.driver.rest(b.now) <= 11
        assert ms <= most
        if each < 10:
            assert ms > 40
        b.run(500)


def test_a_scan_that_still_runs_is_not_begun_again():
    b = bench()
    b.reply = lambda request: None
    b.begin()
    b.step(0)
    b.begin()
    assert b.driver.late == 1 and not b.driver.done


def test_the_scan_begins_anew_where_a_command_is_awaited():
    boards = CommercialDriver()
    b = bench(1, boards=boards).greet()
    b.run(100)
    assert boards.commanded == [(1, 0)]  # off, at first
    b.pack.balance_mask[0] = 1
    b.reply = lambda request: None
    b.run(60)
    b.begin()  # while the word to balance is on its way
    b.reply = boards
    b.run(200)
    assert b.driver.done and boards.requests[-1][1] in (1, 0x11)


def test_balancing_is_commanded_when_it_changes_and_again_while_it_lasts():
    boards = CommercialDriver()
    b = bench(2, boards=boards).greet()
    b.run(200)
    assert boards.commanded == [(1, 0), (2, 0)]
    b.pack.balance_mask[2] = 1
    b.run(200)
    assert boards.commanded[2:] == [(2, 1)]
    b.run(6000, 10)
    assert boards.commanded[3:] == [(2, 1)]
    b.pack.balance_mask[2] = 0
    b.run(200)
    assert boards.commanded[4:] == [(2, 0)]


def test_a_board_that_was_silent_is_commanded_again():
    boards = CommercialDriver()
    b = bench(1, boards=boards).greet()
    b.run(200)
    boards.silent = {1}
    b.scan()
    boards.silent = set()
    b.scan()
    b.run(200)
    assert boards.commanded == [(1, 0), (1, 0)]


def test_who_does_not_answer_a_command_keeps_nobody_from_being_commanded():
    boards = CommercialDriver()
    boards.deaf = {1}
    b = bench(3, boards=boards).greet()
    for _ in range(8):  # scans that leave little time between them
        b.run(60)
        b.scan()
    assert {(2, 0), (3, 0)} <= set(boards.commanded)
    b.pack.balance_mask[2] = b.pack.balance_mask[4] = 1
    for _ in range(8):
        b.run(60)
        b.scan()
    assert {(2, 1), (3, 1)} <= set(boards.commanded)
    assert b.mv() == [3200] * 3


def test_a_command_that_was_lost_is_sent_again():
    boards = CommercialDriver()
    boards.deaf = {1}
    b = bench(2, boards=boards).greet()  # off, as it starts
    b.run(4000, 5)
    assert boards.commanded == [(1, 0), (2, 0)]  # who refuses isn't flooded
    b.run(8000, 5)
    assert boards.commanded[2:] == [(1, 0)] * 2
    boards.deaf = set()
    b.run(20000, 5)
    assert boards.commanded[4:] == [(1, 0)]
    b.pack.balance_mask[0] = 1
    b.run(200)
    b.pack.balance_mask[0] = 0
    boards.deaf = {1}
    b.run(200)
    boards.deaf = set()
    b.run(6000, 5)
    assert boards.commanded[5:] == [(1, 1), (1, 0), (1, 0)]


def test_one_board_s_mismatch_stays_while_another_fits():
    boards = CommercialDriver()
    b = bench(2, boards=boards)
    reply = b.reply
    b.reply = lambda request: (
        bytes([0xA5, 2, 0, 0xFF, 0x5A]) if request[1:] == b"\x02\x00" else reply(request)
    )
    b.scan()
    assert b.names() == []
    b.scan()
    assert b.names() == ["slave_mismatch"] and list(b.pack.known) == [1, 0]
    b.scan()
    assert b.names() == ["slave_mismatch"] and b.mv() == [3200, None]
    b.reply = boards
    b.scan()
    b.scan()
    assert not b.faults.active[b.faults.first] and b.mv() == [3200, 3200]


def test_what_never_ends_is_survived_in_bounded_time():
    b = bench(1)
    b.begin()
    b.reply = lambda request: None
    for _ in range(400):
        b.pass_ms(1)
        b.wire.stream.give(b"\xa5\xa5\xa5")
        b.driver.step(b.now)
    assert b.driver.done and b.driver.missed == 1
    assert not any([f & FRESH for f in b.pack.cell_flags])


def test_a_port_that_takes_a_byte_at_a_time_sends_all():
    # the stm32 port's writes last as long as their bytes, and are cut to one at low rates
    b = bench(1)
    stream = b.wire.stream
    write = stream.write
    stream.write = lambda buf, start, n: write(buf, start, 1)
    b.begin()
    b.step(0)
    assert b.requests == [b"\x3c"] and b.driver.rest(b.now) == 0
    b.step(1)
    b.step(1)
    assert b.requests == [b"\x3c", b"\x01", b"\x00"] and b.driver.rest(b.now) > 0
    assert b.driver.link.dropped == 0


def test_bytes_that_nobody_understands_are_an_event():
    for kind, port in (("jbd", "uart0"), ("tesla_s", "uart0"), ("cell_link", "uart0")):
        cells = 6 if kind == "tesla_s" else 4
        b = SlaveBench(kind, ((1, cells, 2),), port)
        noise = Random(3)

        def scans(ms, data, b=b):
            for _ in range(ms // 100):
                b.seq = (b.seq + 1) & 255
                b.driver.scan_started(b.seq, b.now)
                b.give(data())
                b.run(100, 5)

        scans(9000, lambda: noise.bytes(40))
        none = ["chain_incomplete"] if kind == "tesla_s" else []
        assert b.names() == none, kind
        scans(5000, lambda: noise.bytes(40))
        assert b.names() == ["slave_unreadable"] + none, kind
        scans(5000, lambda: b"")
        assert b.names() == ["slave_unreadable"] + none, kind
        b.driver.link.rx += 1  # a good answer
        scans(100, lambda: b"")
        assert b.names() == none, kind
        scans(30000, lambda: b"")  # a silent line is none
        assert b.names() == none, kind


def test_the_echo_of_an_adapter_is_understood():
    b = SlaveBench("jbd", ((1, 4, 2),), reply=lambda request: request)
    for _ in range(300):
        b.seq = (b.seq + 1) & 255
        b.driver.scan_started(b.seq, b.now)
        b.run(100, 5)
    assert b.driver.link.echoes > 10 and b.names() == []
