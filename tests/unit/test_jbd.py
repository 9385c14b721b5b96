"""The JBD driver against a scripted board: polls, waits, survives, evaluates on arrival."""

from slave_bench import SlaveBench

from fakes import raises

CELLS = bytes.fromhex("dd0400080f230f1c0f120f1dff4e77")
BASIC = bytes.fromhex("dd03001d060b000001ed01f400002c7c00000000100080630204030ba00b9d0b98fa5577")
# the same without the FET lock, charge FET on
GOOD = bytearray(BASIC[4:-3])
GOOD[16] = 0
GOOD[20] = 3
POLL_CELLS = bytes.fromhex("DDA50400FFFC77")
POLL_BASIC = bytes.fromhex("DDA50300FFFD77")
FETS_ON = bytes.fromhex("DD5AE1020000FF1D77")
FETS_OFF = bytes.fromhex("DD5AE1020003FF1A77")
FETS_ACK = bytes.fromhex("DDE10000000077")


def reply(register, data, status=0):
    check = (0x10000 - (status + len(data) + sum(data))) & 0xFFFF
    head = bytes([0xDD, register, status, len(data)])
    return head + data + bytes([check >> 8, check & 0xFF, 0x77])


class Board:
    """Answers; `fets`: bits of its FETs, which it can be told; `data`: of register 3."""

    def __init__(self, cells=CELLS, data=GOOD):
        self.cells = cells
        self.data = bytearray(data)
        self.commanded = []
        self.silent = 0  # requests that it doesn't answer yet

    def __call__(self, request):
        if self.silent:
            self.silent -= 1
            return None
        if request == POLL_CELLS:
            return self.cells
        if request == POLL_BASIC:
            return reply(3, bytes(self.data))
        if request in (FETS_ON, FETS_OFF):
            self.commanded.append(request)
            self.data[20] = 3 if request == FETS_ON else 0
            return FETS_ACK
        raise AssertionError(request)


def bench(cells=4, temps=3, board=None, **more):
    return SlaveBench("jbd", ((1, cells, temps),), reply=board or Board(), **more)


def test_polls_cells_then_for_the_rest_with_the_documented_bytes():
    b = bench()
    b.scan()
    assert b.requests == [POLL_CELLS, POLL_BASIC]
    assert b.driver.done


def test_a_board_is_known_when_cells_and_sensors_fit_and_read_from_then_on():
    b = bench()
    b.scan()
    assert b.pack.known[0] == 1
    assert b.mv() == [None] * 4  # not before it is known
    b.scan()
    assert b.mv() == [3875, 3868, 3858, 3869]
    assert b.dc() == [245, 242, 237]
    assert b.pack.stack_mv[0] == 15470 and b.pack.stack_ok[0] == 1
    assert b.pack.die_dc[0] == 245
    assert b.names() == []
    assert b.driver.soc_pm == 990 and b.driver.nominal_mah == 5000


def test_other_counts_than_configured_are_a_fault_when_said_twice():
    b = bench(cells=5)
    b.scan()
    assert b.names() == []
    b.scan()
    assert b.names() == ["slave_mismatch"]
    assert b.pack.known[0] == 0
    assert b.mv() == [None] * 5


def test_a_cell_out_of_its_hard_bounds_is_evaluated_as_it_arrives():
    b = bench().greet()
    b.begin()
    b.reply = lambda request: None
    b.step(30)
    far = reply(4, bytes.fromhex("0F230F1C00001200"))
    b.give(far)
    assert b.mv() == [3875, 3868, 3858, 3869] and b.names() == []  # the sum may be right by chance
    b.step(30)
    assert b.requests[-1] == POLL_CELLS
    b.give(far)
    assert b.mv()[2:] == [0, 4608]  # a zero is a measured zero
    assert set(b.names()) == {"cell_hard_low", "cell_hard_high"}


def test_what_jumped_once_by_damage_is_never_a_reading():
    b = bench().greet()
    board = b.reply
    b.begin()
    b.reply = lambda request: None
    b.step(30)
    b.give(reply(4, bytes.fromhex("0F230F1C4F120F1D")))
    b.reply = board
    b.run(300)
    assert b.driver.done
    assert b.mv() == [3875, 3868, 3858, 3869] and b.names() == []


def test_what_creeps_out_of_its_hard_bounds_is_evaluated_at_once():
    board = Board(cells=reply(4, bytes.fromhex("0F230F1C10900F1D")))
    b = bench(board=board).greet()
    b.begin()
    b.reply = lambda request: None
    b.step(30)
    b.give(reply(4, bytes.fromhex("0F230F1C10D00F1D")))
    assert b.names() == ["cell_hard_high"]


def test_an_open_sensor_leaves_no_reading():
    board = Board()
    b = bench(board=board).greet()
    b.old()
    board.data[25] = board.data[26] = 0
    b.scan()
    assert b.dc() == [245, None, 237]


def test_protection_bits_raise_the_slave_s_alarm_and_say_which():
    board = Board()
    b = bench(board=board).greet()
    trips = ((0, 1), (1, 2), (2, 1), (3, 2), (6, 4), (7, 8), (8, 16), (9, 16), (10, 32), (11, 64))
    for bit, flag in trips:
        board.data[16] = 1 << bit >> 8
        board.data[17] = 1 << bit & 255
        b.scan()
        assert b.names() == ["slave_alarm"], bit
        assert b.pack.slave_flags[0] == flag, bit
        board.data[16] = board.data[17] = 0
        b.scan()
        assert b.faults.active[b.faults.first] == 0
        b.faults.acknowledge()
    for bit, flag in ((4, 4), (5, 8)):
        board.data[17] = 1 << bit  # it only forbids charging
        board.data[20] = 2
        b.scan()
        assert b.pack.slave_flags[0] == flag << 8 and not b.faults.blocking(0)
        assert b.names() == ["slave_warning", "slave_switch"]
    board.data[17] = 0
    board.data[20] = 3
    b.scan()
    board.data[16] = 0x10  # the FET lock is no alarm
    b.scan()
    assert b.names() == []


def test_protection_that_is_said_once_by_damage_trips_nothing():
    board = Board()
    b = bench(board=board).greet()
    damaged = bytearray(GOOD)
    damaged[17] = 1 << 1
    for _ in range(3):
        once = [bytes(damaged)]

        def answer(request, once=once):
            if request == POLL_BASIC and once:
                return reply(3, once.pop())
            return board(request)

        b.reply = answer
        b.requests = []
        b.scan()
        assert b.requests.count(POLL_BASIC) == 2  # polled once more at once
        assert b.names() == [] and b.pack.slave_flags[0] == 0
    board.data = damaged
    b.reply = board
    b.scan()
    assert b.names() == ["slave_alarm"]


def test_fets_are_commanded_days_after_the_last_command():
    board = Board()
    b = bench(board=board, slave="fets = true").greet()
    for days in (0, 3.2, 6.3):
        b.pass_ms(int(days * 86400000))
        b.scan()
        board.data[20] = 1  # it opened one by itself
        board.commanded = []
        b.scan()
        b.run(200)
        assert board.commanded == [FETS_ON], days
        b.scan()


def test_an_open_fet_of_its_own_is_reported():
    board = Board()
    b = bench(board=board).greet()
    board.data[20] = 1
    b.scan()
    assert b.names() == ["slave_switch"]
    board.data[20] = 3
    b.scan()
    assert b.names() == []
    for fets in (1, 2):
        board.data[20] = fets
        b.scan()
        assert b.driver._fets[0] == fets  # bit 0 charge
    assert board.commanded == []  # the pack file does not say that they are rated


def test_fets_follow_a_trip_only_once_the_contactors_are_open():
    board = Board()
    b = bench(board=board, slave="fets = true").greet()
    b.run(500)
    assert board.commanded == []
    b.pack.energised[0] = 1
    board.cells = reply(4, bytes.fromhex("0F230F1C0F121200"))
    b.scan()
    b.run(500)
    assert b.names() == ["cell_hard_high"] and board.commanded == []
    b.pack.energised[0] = 0
    b.run(500)
    assert board.commanded == [FETS_OFF]
    b.scan()
    b.run(6000)
    assert board.commanded == [FETS_OFF]  # once is enough where the board reports it
    assert b.names() == ["cell_hard_high"]
    board.cells = CELLS
    b.scan()
    b.faults.acknowledge()
    b.run(500)
    assert board.commanded == [FETS_OFF, FETS_ON]
    b.scan()
    assert b.names() == []


def test_silence_is_polled_again_once_and_then_given_up():
    board = Board()
    b = bench(board=board)
    board.silent = 10
    ms = b.scan()
    assert b.requests == [POLL_CELLS, POLL_CELLS]
    assert b.driver.done and b.driver.missed == 1
    assert ms < 800


def test_a_board_that_sleeps_misses_the_first_poll_only():
    board = Board()
    b = bench(board=board).greet()
    b.old()
    board.silent = 1
    b.scan()
    assert b.mv() == [3875, 3868, 3858, 3869]
    assert b.driver.missed == 0


def test_wrong_register_error_status_echo_and_garbage():
    b = bench().greet()
    b.reply = lambda request: None
    b.begin()
    b.step(30)
    b.give(POLL_CELLS)  # our own request received again
    assert b.driver.link.echoes == 1
    b.give(BASIC)  # not what was polled
    assert b.driver.unexpected == 1 and not b.driver.done
    b.give(reply(4, b"", 0x80))
    assert b.driver.refused == 1
    b.old()
    b.old()
    b.give(b"\xdd\x04\x00\xff" + b"\x00" * 20 + CELLS[:7])  # a false front, half a reply
    b.give(CELLS[7:])
    assert b.mv()[0] == 3875
    b.give(CELLS)  # nobody polled for it now
    assert b.driver.unexpected == 2


def test_only_the_register_that_was_polled_is_an_answer():
    board = Board()
    b = bench(board=board).greet()
    b.old()
    for register in (0x00, 0x02, 0x05, 0x13):
        for poll in (POLL_BASIC, POLL_CELLS):
            b.reply = lambda request, r=register, q=poll: (
                reply(r, bytes(board.data)) if request == q else board(request)
            )
            unexpected = b.driver.unexpected
            b.old()
            b.scan()
            assert b.driver.unexpected == unexpected + 2 and b.dc() == [None] * 3, register
    b.reply = board
    b.scan()
    assert b.dc() == [245, 242, 237]


def test_the_current_has_a_sign():
    board = Board()
    b = bench(board=board).greet()
    for raw, ma in ((b"\x00\x64", 1000), (b"\xff\x9c", -1000), (b"\x80\x00", -327680)):
        board.data[2:4] = raw
        b.scan()
        assert b.driver.current_ma == ma


def test_counts_and_length_of_the_basic_answer():
    board = Board()
    for at, value in ((21, 5), (22, 2)):  # cells, sensors: other ones than configured
        board.data = bytearray(GOOD)
        board.data[at] = value
        b = bench(board=board)
        b.scan()
        b.scan()
        assert b.names() == ["slave_mismatch"], at
    board.data = bytearray(GOOD)
    b = bench(temps=2, board=board).greet()  # more sensors than are used
    assert b.dc() == [245, 242]
    for cut in (1, 6, 8):  # shorter than its count of sensors says
        board.data = bytearray(GOOD)[:-cut]
        damaged = b.driver.damaged
        b.old()
        b.scan()
        assert b.dc() == [None] * 2 and b.driver.damaged == damaged + 2, cut


def test_a_reply_comes_in_any_pieces():
    for n in range(1, len(CELLS)):
        b = bench().greet()
        b.reply = lambda request: None
        b.begin()
        b.step(30)
        b.old()
        b.give(CELLS[:n])
        assert b.mv() == [None] * 4
        b.give(CELLS[n:])
        assert b.mv() == [3875, 3868, 3858, 3869]


def test_a_damaged_reply_is_no_reading():
    for at in range(len(CELLS)):
        b = bench().greet()
        b.reply = lambda request: None
        b.begin()
        b.step(30)
        b.old()
        b.give(CELLS[:at] + bytes([CELLS[at] ^ 4]) + CELLS[at + 1 :])
        assert b.mv() == [None] * 4, at


def test_endless_garbage_is_survived():
    b = bench()
    b.begin()
    for i in range(50):
        b.give(bytes([0xDD, i, 0, 255, i, 0x77]) * 9)
    b.greet()


def test_one_board_a_port():
    error = raises(Exception, lambda: SlaveBench("jbd", ((1, 4, 3), (2, 4, 3))))
    assert "node" in str(error) or "at most 1" in str(error)


def test_the_cycle_does_not_allocate():
    b = bench().greet()
    good = reply(3, bytes(GOOD))
    assert b.scans_without_heap([CELLS, good]) == 40
    assert b.driver.link.damaged == 0
    assert b.driver.missed == 0


def test_a_name_with_the_register_of_the_cells_is_no_reading():
    # no check covers the register
    name = b"LH-SP15S0"
    for cells in (4, 5):
        b = bench(cells=cells)
        for text in (name[: 2 * cells], name):
            b.driver.listen()
            b.give(reply(4, text))
            assert b.mv() == [None] * cells and b.names() == []
        assert b.driver.damaged == 2
