"""The JK driver for the GPS port against a scripted board."""

from slave_bench import SlaveBench

REQUEST = bytes.fromhex("4e5700130000000006030000000000006800000129")
REPLY = bytes.fromhex(
    "4e57011b00000000060001792a010eed020efa030ef7040eec050ef8060efa070ef1080ef8090ee30a0efa0b0ef1"
    "0c0efb0d0efb0e0ef280001d81001e82001c8314ef8480d0850f860287000489000000008a000e8b00008c0007"
    "8e16268f10ae900fd2910fa0920005930bea940c1c95000596012c9700079800039900059a00059b0ce49c0008"
    "9d019e005a9f0046a00064a10064a20014a30046a40046a5ffeca6fff6a7ffeca8fff6a90eaa0000000eab01ac01"
    "ad0411ae01af01b0000ab114b231323334353600000000b300b4496e707574205573b532313031b60000e200b7"
    "48362e585f5f53362e312e33535f5fb800b900000000ba42543330373230323031323030303032303035323130"
    "3031c0010000000068000054d1"
)
MV = [3821, 3834, 3831, 3820, 3832, 3834, 3825, 3832, 3811, 3834, 3825, 3835, 3835, 3826]


def frame(command, fields, kind=1):
    body = bytes(4) + bytes([command, 0, kind]) + fields + bytes(4) + b"\x68"
    n = len(body) + 6
    head = b"\x4e\x57" + bytes([n >> 8, n & 255])
    check = sum(head + body) & 0xFFFF
    return head + body + bytes([0, 0, check >> 8, check & 255])


def changed(code, value, fields=REPLY[11:-9]):
    """The captured answer with another value of a field (whose code stands only once)."""
    at = 2 + fields[1]
    lengths = {0x80: 2, 0x81: 2, 0x82: 2, 0x83: 2, 0x84: 2, 0x85: 1, 0x86: 1, 0x87: 2}
    lengths.update({0x89: 4, 0x8A: 2, 0x8B: 2, 0x8C: 2})
    while fields[at] != code:
        at += 1 + lengths[fields[at]]
    return fields[: at + 1] + value + fields[at + 1 + len(value) :]


class Board:
    """Answers with `fields`; commanded: commands behind a password; silent: polls."""

    def __init__(self):
        self.fields = REPLY[11:-9]
        self.commanded = []
        self.open = False
        self.silent = 0

    def __call__(self, request):
        assert request == frame(request[8], request[11:-9], 0)[:9] + request[9:10] + request[10:]
        if self.silent:
            self.silent -= 1
            return None
        command = request[8]
        if command == 6:
            return frame(6, self.fields)
        if command == 5:
            self.open = request[11:-9] == b"\xb2123456\0\0\0\0"
            return frame(5, b"")
        assert command == 2 and self.open
        self.open = False  # each word wants the password
        self.commanded.append((request[11], request[12]))
        return frame(2, request[11:12])


def bench(cells=14, temps=2, board=None, **more):
    return SlaveBench("jk_ttl", ((1, cells, temps),), reply=board or Board(), **more)


def test_the_captured_frame_is_read():
    b = bench()
    b.scan()
    assert b.requests[0] == REQUEST and b.mv() == [None] * 14
    b.reply.fields = REPLY[11:-9]
    b.greet()
    assert b.mv() == MV
    assert b.dc() == [300, 280]
    assert b.pack.stack_mv[0] == 53590 and b.pack.die_dc[0] == 290
    d = b.driver
    assert (d.current_ma, d.soc_pm, d.cycles, d.capacity_ah) == (2080, 150, 4, 14)
    assert b.names() == []


def test_the_whole_status_in_answer_to_another_read_is_read():
    b = bench()
    whole = b.reply
    b.reply = lambda request: frame(3, whole.fields) if request[8] == 6 else whole(request)
    b.greet()
    assert b.mv() == MV and b.driver.missed == 0
    b.old()
    b.reply = lambda request: frame(3, b"\x85\x32")  # one field, as somebody asked for it
    b.scan()
    assert b.mv() == [None] * 14 and b.driver.unexpected > 0 and b.driver.soc_pm == 150


def test_the_frame_made_here_is_the_captured_one():
    assert frame(6, REPLY[11:-9]) == REPLY


def test_current_and_temperature_in_all_their_forms():
    board = Board()
    b = bench(board=board).greet()
    for raw, newer, ma in (
        (0x07D0, 1, -20000),
        (0x87D0, 1, 20000),
        (11000, 0, -10000),
        (9500, 0, 5000),
    ):
        board.fields = changed(0x84, bytes([raw >> 8, raw & 255]))[:-1] + bytes([newer])
        b.scan()
        assert b.driver.current_ma == ma, raw
    for raw, dc in ((0, 0), (100, 1000), (101, -10), (139, -390)):
        board.fields = changed(0x81, bytes([0, raw]))
        b.scan()
        b.scan()
        assert b.dc()[0] == dc, raw
    b.old()
    board.fields = changed(0x81, bytes([0, 140]))  # -40 degC is what an open sensor reads
    b.scan()
    assert b.dc() == [None, 280]


def test_other_cells_are_a_mismatch():
    b = bench(cells=13)
    b.scan()
    b.scan()
    assert b.names() == ["slave_mismatch"] and b.mv() == [None] * 13


def test_alarms_are_reported_by_their_meaning():
    board = Board()
    b = bench(board=board).greet()
    for bit, trip, warn in ((10, 1, 0), (11, 2, 0), (1, 4, 0), (9, 8, 0), (6, 16, 0), (0, 0, 128)):
        board.fields = changed(0x8B, bytes([1 << bit >> 8, 1 << bit & 255]))
        b.scan()
        assert b.names() == (["slave_alarm"] if trip else ["slave_warning"]), bit
        assert b.pack.slave_flags[0] == warn << 8 | trip
        board.fields = changed(0x8B, bytes(2))
        b.scan()
        b.run(2000, 20)
        b.scan()
        b.faults.acknowledge()
    assert b.names() == []


def test_balancing_is_commanded_behind_the_password():
    board = Board()
    b = bench(board=board).greet()
    b.run(1000)
    assert board.commanded == [(0x9D, 0)]
    b.pack.balance_mask[0] = 4
    b.run(1000)
    assert board.commanded == [(0x9D, 0), (0x9D, 1)]
    times = [i for i in range(len(b.requests)) if b.requests[i][8] == 5]
    assert b.requests[times[-1] + 1][8] == 2


def test_a_word_waits_until_the_password_is_taken():
    board = Board()
    b = bench(board=board).greet()
    b.run(1000)
    b.pack.balance_mask[0] = 1
    b.requests = []
    at = []
    for _ in range(600):
        count = len(b.requests)
        b.step()
        if len(b.requests) > count:
            at.append((b.requests[-1][8], b.board.clock.total_ms))
    assert [command for command, _ in at] == [5, 2] and at[1][1] - at[0][1] >= 150


def test_words_of_long_ago_are_not_sent():
    board = Board()
    b = bench(board=board).greet()
    b.run(1000)
    b.pack.balance_mask[0] = 1
    board.open = False
    while not board.open:
        b.step()  # until the password is out, which was the last that it received
    board.silent = 100
    b.run(120)
    b.scan()
    b.pass_ms(30000)
    b.pack.balance_mask[0] = 0
    board.silent = 0
    board.open = False
    board.commanded = []
    b.scan()
    b.run(1000)
    assert board.commanded == [(0x9D, 0)]


def test_a_lost_password_is_said_again():
    board = Board()
    b = bench(board=board).greet()
    b.run(1000)
    board.commanded = []
    b.pack.balance_mask[0] = 1
    board.silent = 1
    b.run(2000)
    assert board.commanded == []
    b.run(6000, 10)
    assert board.commanded[0] == (0x9D, 1)


def test_both_fets_are_commanded_where_they_are_rated_and_the_contactors_open():
    board = Board()
    b = bench(board=board, slave="fets = true").greet()
    b.run(1000)
    board.commanded.clear()
    board.fields = _with_cell(2, 4400)
    b.pack.energised[0] = 1
    b.scan()
    b.scan()
    b.run(1500)
    assert b.names() == ["cell_hard_high"] and board.commanded == []
    b.pack.energised[0] = 0
    b.run(1500)
    assert board.commanded == [(0xAB, 0), (0xAC, 0)]
    board.fields = changed(0x8C, bytes([0, 4]), board.fields)
    b.scan()
    assert b.names() == ["cell_hard_high"]  # what we ordered is no fault


def _with_cell(i, mv):
    at = 2 + 3 * i + 1
    fields = REPLY[11:-9]
    return fields[:at] + bytes([mv >> 8, mv & 255]) + fields[at + 2 :]


def test_open_fets_of_its_own_are_reported():
    board = Board()
    b = bench(board=board).greet()
    board.fields = changed(0x8C, bytes([0, 1]))
    b.scan()
    assert b.names() == ["slave_switch"]


def test_split_anywhere():
    for n in range(1, len(REPLY), 3):
        b = bench().greet()
        b.run(1000, 20)  # what it is commanded first is said
        b.reply = lambda request: None
        b.begin()
        b.step(101)
        b.old()
        b.give(REPLY[:n])
        assert b.mv() == [None] * 14
        b.give(REPLY[n:])
        assert b.mv() == MV


def test_damaged_or_cut_anywhere():
    for at in range(len(REPLY)):
        for data in (REPLY[:at], REPLY[:at] + bytes([REPLY[at] ^ 0x10]) + REPLY[at + 1 :]):
            if at in range(len(REPLY) - 4, len(REPLY) - 2) and len(data) == len(REPLY):
                continue  # two bytes that nobody looks at
            b = bench().greet()
            b.run(1000, 20)
            b.reply = lambda request: None
            b.begin()
            b.step(101)
            b.old()
            b.give(data)
            b.run(600, 20)
            assert b.mv() == [None] * 14, at


def test_unknown_fields_are_not_guessed():
    board = Board()
    b = bench(board=board).greet()
    b.old()
    board.fields = REPLY[11:-9] + b"\xd0\x01"
    b.scan()
    assert b.mv() == [None] * 14 and b.driver.damaged > 0


def test_echo_sleep_and_somebody_else():
    board = Board()
    b = bench(board=board).greet()
    b.reply = lambda request: request + board(request)
    b.old()
    b.scan()
    assert b.mv() == MV and b.driver.link.echoes > 0
    b.reply = board
    board.silent = 1
    b.old()
    b.scan()
    assert b.mv() == MV
    b.give(REPLY)  # nobody polled
    assert b.driver.unexpected == 1


def test_silence_is_bounded():
    board = Board()
    b = bench(board=board).greet()
    board.silent = 100
    assert b.scan() < 900
    assert b.driver.missed == 1


def test_the_cycle_does_not_allocate():
    b = bench().greet()
    b.run(1000)
    assert b.scans_without_heap([REPLY], 10) == 10
    assert b.driver.missed == b.driver.damaged == 0
