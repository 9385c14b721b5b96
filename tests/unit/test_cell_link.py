"""The cell link driver over CAN and UART: what becomes a reading, and everything that must not."""

import gc

from bms.config.errors import ConfigError
from bms.links.can import BITS, EXTENDED
from bms.pack import BALANCING, FRESH, LOST, SEEN
from bms.protection import fault_ids as F
from fakes import (
    ASSIGN,
    HELLO,
    SCAN,
    STATUS,
    TEMPS,
    Bench,
    FakeSlave,
    alarm_frame,
    cells_frame,
    crc8,
    hello_frame,
    raises,
    status_frame,
    temps_frame,
)

LINKS = ("can0", "uart0")
BAD = 4000  # mV that must never be seen as a reading


def _bench(link="can0", slaves=2, **more):
    return Bench(slaves=slaves, link=link, **more).greet()


def _sent_by(b, function):
    return [frame for frame in b.requests if frame[0] >> 6 == function]


def _answer_from(b, board, *frames):
    """Open a scan, hand over frames as if a board that was polled had sent them."""
    b.begin()
    b.wire.sent()
    if b.wire.medium == "uart":
        # the word goes round in the order of the pack file
        for other in b.boards:
            if other is board:
                break
            for frame in other.frames(b.seq):
                b.wire.give(frame)
            b.driver.step(b.parts.now)
            b.wire.sent()
    for frame in frames:
        b.wire.give(frame)
    b.driver.step(b.parts.now)
    b.wire.sent()


def _seen(b):
    return [b.pack.cell_mv[i] for i in range(b.pack.cells)] + [
        b.pack.temp_dc[i] for i in range(b.pack.temps)
    ]


# --- good scans ---


def test_every_reading_lands_in_its_place():
    for link in LINKS:
        b = Bench(slaves=3, cells=6, temps=5, link=link)
        for i in range(3):
            b.boards[i].mv = [3000 + 100 * i + k for k in range(6)]
            b.boards[i].dc = [-400 + 200 * i + k for k in range(5)]
        b.greet()
        d = b.driver
        counted = (d.stale, d.unexpected, d.repeated, d.missed, d.damaged)
        b.begin()
        t = b.parts.now
        b.step(0)
        want = []
        for board in b.boards:
            want += board.mv
        assert list(b.pack.cell_mv) == want
        assert list(b.pack.temp_dc) == b.boards[0].dc + b.boards[1].dc + b.boards[2].dc
        assert list(b.pack.cell_at) == [t] * 18
        assert [f & (FRESH | BALANCING | SEEN | LOST) for f in b.pack.cell_flags] == [
            FRESH | SEEN
        ] * 18
        assert list(b.pack.stack_mv) == [sum(x.mv) // 10 * 10 for x in b.boards]
        assert list(b.pack.die_dc) == [250] * 3
        b.step()
        assert b.driver.done
        b.begin()
        assert (d.stale, d.unexpected, d.repeated, d.missed, d.damaged) == counted
        assert b.parts.trips() == []


def test_all_values_at_the_edges():
    for link in LINKS:
        b = _bench(link, slaves=1)
        b.boards[0].mv = [0, 1, 8190, 4096]
        b.boards[0].dc = [-1000, 7190]
        b.scan()
        assert list(b.pack.cell_mv) == [0, 1, 8190, 4096]
        assert list(b.pack.temp_dc) == [-1000, 7190]
        b.boards[0].die_c = -40
        b.scan()
        assert b.pack.die_dc[0] == -400
        b.boards[0].die_c = 215
        b.scan()
        assert b.pack.die_dc[0] == 2150


def test_any_number_of_slaves_is_read():
    for link in LINKS:
        for n in (1, 2, 15, 16, 17, 31, 32, 47, 48, 62):
            b = None  # the one before and the next together are more than the heap holds
            gc.collect()
            b = Bench(slaves=n, cells=5, temps=1, link=link, scan='scan_period = "200 ms"')
            for i in range(n):
                b.boards[i].mv = [3000 + i] * 5
                b.boards[i].dc = [200 + i]
            for _ in range(4 + n // 8):
                b.scan(200)
            assert b.pack.all_known(), (link, n)
            b.scan(200)
            assert list(b.pack.cell_mv) == [3000 + i // 5 for i in range(5 * n)], (link, n)
            assert list(b.pack.temp_dc) == [200 + i for i in range(n)]
            assert b.pack.cell.complete
            assert b.pack.temp.complete
            missed = b.driver.missed
            b.scan(200)
            assert b.driver.missed == missed
            assert b.parts.trips() == []


def test_numbers_with_gaps_and_in_any_order():
    lines = (
        'string = 1; [[slave]]; kind = "cell_link"; link = "can0"; node = 3; cells = 4; temps = 2'
    )
    b = Bench(
        pack="cells = 8",
        slave=lines,
        boards=[FakeSlave(3, [3333] * 4, [3] * 2), FakeSlave(1, [3111] * 4, [1] * 2)],
    )
    b.greet()
    assert list(b.pack.cell_mv) == [3111] * 4 + [3333] * 4


def test_many_scans_and_the_wrap_of_seq_and_ticks():
    for link in LINKS:
        b = _bench(link, ms=(1 << 29) - 2000)
        for i in range(300):
            b.boards[0].mv[0] = 3000 + i
            b.scan(20)
            assert b.pack.cell_mv[0] == 3000 + i
        assert b.parts.trips() == []
        assert b.driver.stale == 0


# --- frames that are no answer to this scan ---


def test_a_stale_answer_is_refused():
    for link in LINKS:
        for older in (1, 2, 15):
            b = _bench(link)
            before = _seen(b)
            b.boards[1].mv = [BAD] * 4
            b.boards[1].dc = [690] * 2
            b.boards[1].delay_seq = older
            stale = b.driver.stale
            b.scan()
            assert _seen(b) == before, (link, older)
            assert b.driver.stale >= stale + 3
            for _ in range(6):
                b.scan()
            # its age trips, as if it were silent
            assert b.parts.faults.first == F.CELL_LOST
            assert b.faults.place[F.CELL_LOST] == 4


def test_an_answer_that_comes_after_the_next_scan_began_is_stale():
    for link in LINKS:
        b = _bench(link)
        before = _seen(b)
        b.boards[0].mv = [BAD] * 4
        late = b.boards[0].frames((b.seq + 1) & 255)
        b.boards[0].alive = False
        b.begin()
        b.step(5)
        b.begin()
        for frame in late:
            b.wire.give(frame)
        b.driver.step(b.parts.now)
        assert _seen(b) == before


def test_every_damaged_bit_of_a_frame_is_refused():
    for link in LINKS:
        b = _bench(link)
        before = _seen(b)
        for make in (
            lambda seq: cells_frame(1, 0, [BAD] * 4, seq),
            lambda seq: temps_frame(1, 0, [690] * 2, seq),
            lambda seq: status_frame(1, seq, 50000, 0xFF),
        ):
            for bit in range(64):
                b.begin()
                b.wire.sent()
                ident, data = make(b.seq)
                data = bytearray(data)
                data[bit >> 3] ^= 1 << (bit & 7)
                damaged = b.driver.damaged
                b.wire.give((ident, data))
                b.driver.step(b.parts.now)
                assert b.driver.damaged == damaged + 1
                b.scan(20)
                assert _seen(b) == before
                assert b.parts.trips() == []


def test_a_good_frame_on_a_wrong_id_is_refused():
    for link in LINKS:
        b = _bench(link)
        before = _seen(b)
        for other in range(0x800):
            # all other nodes of its own function, all other functions of its own node, and more
            if other >> 6 != 8 and other & 63 != 1 and other % 11:
                continue
            ident, data = cells_frame(1, 0, [BAD] * 4, (b.seq + 1) & 255)
            if other != ident and other >> 6 != HELLO:
                _answer_from(b, b.boards[0], (other, data))
                b.scan(5)
                assert _seen(b) == before, other
        assert b.parts.trips() == []


def test_truncated_and_lengthened_frames():
    for link in LINKS:
        b = _bench(link)
        before = _seen(b)
        for n in range(8):
            ident, data = cells_frame(1, 0, [BAD] * 4, (b.seq + 1) & 255)
            short = data[: n - 1] if n else b""
            # even with a CRC that fits the rest
            with_crc = short + bytes([crc8(bytes([ident >> 8, ident & 255]) + short)]) if n else b""
            _answer_from(b, b.boards[0], (ident, data[:n]), (ident, with_crc))
            b.scan(20)
            assert _seen(b) == before
        assert b.parts.trips() == []


def test_a_damaged_wire_never_becomes_a_reading():
    for link in LINKS:
        b = _bench(link)
        before = _seen(b)
        ident, data = cells_frame(1, 0, [BAD] * 4, 0)
        for at in range(len(b.wire.encode(ident, data)) - 1):
            b.begin()
            b.wire.sent()
            wire = bytearray(b.wire.encode(*cells_frame(1, 0, [BAD] * 4, b.seq)))
            wire[at] ^= 0x01
            b.wire.stream.give(wire)
            b.driver.step(b.parts.now)
            b.scan(20)
            assert _seen(b) == before, (link, at)
        assert b.parts.trips() == []


def test_a_frame_of_a_board_that_is_not_configured():
    for link in LINKS:
        b = _bench(link)
        before = _seen(b)
        unexpected = b.driver.unexpected
        _answer_from(b, b.boards[0], *FakeSlave(9, [BAD] * 4, [690] * 2).frames(b.seq + 1))
        assert b.driver.unexpected == unexpected + 3
        assert _seen(b) == before
        assert b.parts.trips() == []
        # frames of places that this board does not have
        _answer_from(b, b.boards[0], cells_frame(1, 1, [BAD] * 4, b.seq + 1))
        _answer_from(b, b.boards[0], temps_frame(1, 3, [690] * 4, b.seq + 1))
        assert b.driver.unexpected == unexpected + 5


def test_a_frame_of_29_bits_is_none_of_its_own():
    b = _bench("can0")
    before = _seen(b)
    unexpected, damaged, known = b.driver.unexpected, b.driver.damaged, bytes(b.pack.known)
    frames = [
        alarm_frame(1, 1, 1, BAD),
        hello_frame(1, 5, 9),
        cells_frame(1, 0, [BAD] * 4, b.seq + 1),
        temps_frame(1, 0, [690] * 4, b.seq + 1),
        status_frame(1, b.seq + 1, 1, 0xFF),
        (SCAN << 6, bytes(2)),
        (0, b""),
    ]
    # its bits in front of, behind, and as the base of the longer ones
    wide = []
    for ident, data in frames:
        for extended in (EXTENDED | ident, EXTENDED | BITS ^ 0x7FF | ident, EXTENDED | ident << 18):
            assert not b.driver.expects(extended)
            wide.append((extended, data))
    _answer_from(b, b.boards[0], *wide)
    assert b.driver.unexpected == unexpected + len(wide)
    assert _seen(b) == before and bytes(b.pack.known) == known
    assert b.driver.damaged == damaged and b.parts.trips() == []


def test_repeated_frames_are_one_reading():
    for link in LINKS:
        b = _bench(link)
        frames = b.boards[0].frames((b.seq + 1) & 255)
        _answer_from(b, b.boards[0], *(frames + frames + frames))
        assert b.driver.repeated == 2 * len(frames)
        assert b.parts.trips() == []
        for _ in range(5):
            b.scan()
        assert b.pack.cell.complete
        assert b.parts.trips() == []


def test_an_own_echo_does_no_harm():
    for link in LINKS:
        b = _bench(link)
        for _ in range(5):
            b.begin()
            for frame in b.wire.sent():
                b.wire.give(frame)
                for board in b.boards:
                    for answer in board.receive(frame, b.wire.medium):
                        b.wire.give(answer)
            b.step(5)
            b.step(90)
        assert b.pack.cell.complete
        assert b.parts.trips() == []


def test_invalid_readings_are_not_stored_and_age():
    for link in LINKS:
        b = _bench(link)
        b.boards[1].mv[2] = None
        b.boards[1].dc[1] = None
        for _ in range(4):
            b.scan()
        assert b.pack.cell_mv[6] == 3300
        assert b.parts.trips() == []
        for _ in range(3):
            b.scan()
        assert b.faults.first == F.CELL_LOST
        assert b.faults.place[F.CELL_LOST] == 6
        assert not b.pack.cell.complete
        for _ in range(50):
            b.scan()
        assert b.parts.trips() == ["slave_age", "cell_lost", "temp_lost"]
        assert b.faults.place[F.TEMP_LOST] == 3


def test_a_measured_zero_is_a_reading():
    b = _bench()
    b.boards[0].mv[3] = 0
    b.begin()
    b.step(0)
    assert (b.pack.cell_mv[3], b.pack.cell_flags[3] & FRESH) == (0, 1)
    assert b.parts.trips() == ["cell_hard_low"]


# --- hard bounds on arrival ---


def test_hard_bounds_trip_as_the_frame_is_parsed():
    for link in LINKS:
        for cell in range(8):
            for mv, code in ((3751, F.CELL_HARD_HIGH), (1999, F.CELL_HARD_LOW)):
                b = _bench(link, slaves=1, cells=8)
                b.boards[0].mv[cell] = mv
                frame = b.boards[0].frames((b.seq + 1) & 255)[cell // 4]
                _answer_from(b, b.boards[0], frame)
                assert b.parts.tripped(code), (link, cell, mv)
                assert (b.faults.place[code], b.faults.value[code]) == (cell, mv)
        for temp in range(8):
            b = _bench(link, slaves=1, temps=8)
            b.boards[0].dc = [-100, 0, 250, 300, -1, 20, 30, 40]
            b.boards[0].dc[temp] = 701
            frame = b.boards[0].frames((b.seq + 1) & 255)[1 + temp // 4]
            _answer_from(b, b.boards[0], frame)
            assert b.parts.trips() == ["temp_hard_high"], (link, temp)
            assert (b.faults.place[F.TEMP_HARD_HIGH], b.faults.value[F.TEMP_HARD_HIGH]) == (
                temp,
                701,
            )


def test_no_hard_trip_at_the_bound():
    for link in LINKS:
        b = _bench(link)
        b.boards[0].mv = [3750, 2000, 3300, 3300]
        b.boards[0].dc = [700, -500]
        b.scan()
        assert [n for n in b.parts.trips() if "hard" in n] == []


# --- missing answers ---


def test_a_missing_frame_is_polled_again():
    for link in LINKS:
        for skip in (8, TEMPS, STATUS):
            b = _bench(link)
            board = b.boards[1]
            b.requests = []
            missed = b.driver.missed
            board.skip = (skip,)
            board.mv = [3210] * 4
            b.begin()
            b.exchange()
            b.driver.step(b.parts.now)
            b.exchange()
            b.step(0)
            assert not b.driver.done
            board.skip = ()
            for _ in range(10):
                b.step(5)
            assert b.driver.done, (link, skip)
            again = [f for f in b.requests if f[0] == SCAN << 6 | 2]
            assert len(again) == (1 if link == "can0" else 2)
            assert again[-1][1][0] == b.seq
            assert list(b.pack.cell_mv)[4:] == [3210] * 4
            b.begin()
            assert b.driver.missed == missed


def test_a_silent_board_is_given_up_and_the_others_are_read():
    for link in LINKS:
        b = _bench(link, slaves=4)
        b.boards[1].alive = False
        for board in b.boards:
            board.mv = [3210] * 4
        missed = b.driver.missed
        b.scan()
        b.begin()
        assert b.driver.missed == missed + 1
        mv = list(b.pack.cell_mv)
        assert mv[:4] + mv[8:] == [3210] * 12
        assert mv[4:8] == [3300] * 4
        for _ in range(7):
            b.scan()
        assert b.faults.first == F.CELL_LOST
        assert b.faults.place[F.CELL_LOST] == 4


def test_silence_of_all():
    for link in LINKS:
        b = _bench(link)
        for board in b.boards:
            board.alive = False
        for _ in range(8):
            b.scan()
        assert "cell_lost" in b.parts.trips()
        for board in b.boards:
            board.alive = True
        for _ in range(3):
            b.scan()
        assert b.pack.cell.complete
        assert not b.parts.active(F.CELL_LOST)
        assert b.parts.tripped(F.CELL_LOST)


def test_silent_boards_take_no_other_s_time():
    b = _bench("uart0", slaves=5)
    for board in b.boards[:4]:
        board.alive = False
    for board in b.boards:
        board.mv = [3210] * 4
    b.scan()
    # each silent one costs more than 20 ms: they come behind those that answered
    for _ in range(20):
        b.scan(50)
        assert list(b.pack.cell_mv)[16:] == [3210] * 4
        assert b.parts.now == b.pack.cell_at[16] + 50
    # and each of them gets its turn: whichever comes back is received
    for board in b.boards[:4]:
        board.alive = True
    for _ in range(10):
        b.scan(50)
    assert list(b.pack.cell_mv) == [3210] * 20


def test_bytes_without_an_end_spoil_nobody_s_first_frame():
    b = _bench("uart0", slaves=2)
    b.boards[0].alive = False
    b.boards[1].mv = [3210] * 4
    damaged = b.driver.damaged + b.driver.link.damaged
    b.begin()
    b.answers()
    b.wire.stream.give(b"\x12\x34\x56")  # of a board that talks when it was not polled
    for _ in range(3):
        b.step(8)
    assert list(b.pack.cell_mv)[4:] == [3210] * 4
    assert b.driver.damaged + b.driver.link.damaged == damaged + 1


# --- wrong responders ---


def test_a_board_that_was_not_polled_is_not_received():
    b = _bench("uart0", slaves=3)
    b.begin()
    b.wire.sent()
    before = _seen(b)
    b.boards[1].mv = [BAD] * 4
    unexpected = b.driver.unexpected
    for frame in b.boards[1].frames(b.seq):  # the word is with the first one
        b.wire.give(frame)
    b.driver.step(b.parts.now)
    assert b.driver.unexpected == unexpected + 3
    assert _seen(b) == before


def test_two_boards_with_one_number():
    for link in LINKS:
        b = _bench(link)
        twin = FakeSlave(2, [3500] * 4, [300] * 2)
        b.boards.append(twin)
        b.begin()
        b.answers()
        b.step(5)
        # neither is believed, from the first contradiction on
        assert b.pack.cell_flags[4] & FRESH == 0
        assert b.pack.temp_flags[2] & FRESH == 0
        assert not b.pack.stack_ok[1]
        assert b.pack.cell_flags[0] & FRESH
        assert b.parts.trips() == []
        b.step(90)
        for _ in range(2):
            b.scan()
            assert "slave_conflict" not in b.parts.trips()
        b.scan()
        assert b.parts.tripped(F.SLAVE_CONFLICT), link
        assert b.faults.place[F.SLAVE_CONFLICT] == 1
        assert not b.pack.cell.complete
        # mended: clean scans, then good readings again
        b.boards.remove(twin)
        for _ in range(6):
            b.scan()
        assert b.pack.cell.complete
        assert not b.parts.active(F.SLAVE_CONFLICT)
        assert list(b.pack.cell_mv)[4:] == [3300] * 4


def test_one_contradiction_is_forgiven():
    for link in LINKS:
        b = _bench(link)
        twin = FakeSlave(2, [3500] * 4, [300] * 2)
        b.boards.append(twin)
        b.scan()
        b.boards.remove(twin)
        for _ in range(4):
            b.scan()
        assert b.pack.cell.complete
        assert b.parts.trips() == []


def test_a_board_in_conflict_is_still_evaluated_by_its_hard_bounds():
    for link in LINKS:
        b = _bench(link)
        b.boards.append(FakeSlave(2, [3500] * 4, [300] * 2))
        b.scan()
        b.boards[2].mv = [3500, 3500, 3800, 3500]
        b.scan()
        assert b.parts.tripped(F.CELL_HARD_HIGH)
        assert (b.faults.place[F.CELL_HARD_HIGH], b.faults.value[F.CELL_HARD_HIGH]) == (6, 3800)
        b = _bench(link)
        b.boards.append(FakeSlave(2, [3500] * 4, [300] * 2))
        b.scan()
        b.boards[2].dc = [300, 710]
        b.scan()
        assert b.parts.tripped(F.TEMP_HARD_HIGH)


def test_one_end_of_a_conflict_does_not_hide_another():
    for ends in (0, 1):
        b = _bench(slaves=3)
        twins = [FakeSlave(2, [3500] * 4, [300] * 2), FakeSlave(3, [3500] * 4, [300] * 2)]
        b.boards += twins
        for _ in range(5):
            b.scan()
        assert b.parts.active(F.SLAVE_CONFLICT)
        b.boards.remove(twins[ends])
        for _ in range(20):
            b.scan()
            assert b.parts.active(F.SLAVE_CONFLICT), ends
            assert b.faults.acknowledge() > 0


def test_what_is_wrong_in_one_string_does_not_hold_the_other():
    def held(code):
        slots = [b.faults.slot(code, string) for string in (0, 1)]
        return [b.faults.active[slot] for slot in slots]

    b = _bench(slaves=4, parallel=2)
    twins = {node: FakeSlave(node, [3500] * 4, [300] * 2) for node in (1, 3, 4)}
    b.boards += list(twins.values())
    for _ in range(5):
        b.scan()
    for node, left in ((None, [1, 1]), (3, [1, 1]), (4, [1, 0]), (1, [0, 0])):
        if node:
            b.boards.remove(twins[node])
        for _ in range(6):
            b.scan()
        assert held(F.SLAVE_CONFLICT) == left, node
    b = Bench(slaves=4, parallel=2)
    others = {i: b.boards[i].hello for i in (0, 2, 3)}
    for i in others:
        b.boards[i].hello = lambda n=i: hello_frame(n + 1, 5, 2)
    for i, left in ((None, [1, 1]), (2, [1, 1]), (3, [1, 0]), (0, [0, 0])):
        if i is not None:
            b.boards[i].hello = others[i]
        for _ in range(12):
            b.scan()
        assert held(F.SLAVE_MISMATCH) == left, i


# --- greeting ---


def test_nobody_is_known_before_it_said_hello():
    for link in LINKS:
        b = Bench(slaves=2, link=link)
        for board in b.boards:
            board.hello = lambda: (0x7FF, b"")
        for _ in range(10):
            b.scan()
            for board in b.boards:
                for frame in board.frames(b.seq):
                    b.wire.give(frame)
            b.step()
        assert not b.pack.all_known()
        assert list(b.pack.cell_mv) == [0] * 8
        assert bytes(b.pack.cell_flags) == bytes(8)
        assert not b.pack.cell.complete


def test_boards_that_come_one_after_the_other():
    for link in LINKS:
        b = Bench(slaves=4, link=link)
        for board in b.boards:
            board.alive = False
        b.scan()
        for i in (2, 0, 3, 1):
            b.boards[i].alive = True
            for _ in range(6):
                b.scan()
            assert b.pack.known[i], link
            assert b.pack.cell_flags[4 * i] & FRESH
        assert b.pack.all_known()
        assert b.parts.trips() == []


def test_who_is_known_is_not_sent_a_hello_while_another_is_missing():
    for link in LINKS:
        b = Bench(slaves=4, link=link)
        b.boards[2].alive = b.boards[3].alive = False
        for _ in range(10):
            b.scan()
        assert list(b.pack.known) == [1, 1, 0, 0]
        b.requests = []
        for _ in range(20):
            b.scan()
        assert {frame[0] & 63 for frame in _sent_by(b, HELLO)} == {3, 4, 63}, link
        # its answer would have been taken for a restart
        assert "slave_reboot" not in b.parts.names() and b.parts.faults.changes == 0, link


def test_hellos_go_on_only_while_somebody_is_missing():
    for link in LINKS:
        b = _bench(link)
        b.requests = []
        for _ in range(20):
            b.scan()
        assert _sent_by(b, HELLO) == []


def test_a_board_that_brings_other_cells_is_a_mismatch():
    for link in LINKS:
        for cells, temps in ((5, 2), (3, 2), (4, 1), (4, 0), (0, 0)):
            b = Bench(slaves=2, link=link)
            b.boards[1].hello = lambda c=cells, t=temps: hello_frame(2, c, t)
            for _ in range(12):
                b.scan()
            assert b.parts.tripped(F.SLAVE_MISMATCH), (link, cells, temps)
            assert (b.faults.place[F.SLAVE_MISMATCH], b.pack.known[1]) == (1, 0)
            assert not b.pack.all_known()
        # more sensors than the pack file wants is no fault
        b = Bench(slaves=1, link=link)
        b.boards[0].hello = lambda: hello_frame(1, 4, 3)
        for _ in range(5):
            b.scan()
        assert b.pack.all_known()


def test_another_protocol_version_is_a_mismatch():
    for link in LINKS:
        b = Bench(slaves=1, link=link)
        b.boards[0].hello = lambda: hello_frame(1, 4, 2, version=2)
        for _ in range(12):
            b.scan()
        assert b.parts.tripped(F.SLAVE_MISMATCH)


def test_a_mismatch_goes_when_the_right_board_comes():
    for link in LINKS:
        b = Bench(slaves=1, link=link)
        good = b.boards[0].hello
        b.boards[0].hello = lambda: hello_frame(1, 5, 2)
        for _ in range(12):
            b.scan()
        assert b.parts.active(F.SLAVE_MISMATCH)
        b.boards[0].hello = good
        for _ in range(12):
            b.scan()
        assert not b.parts.active(F.SLAVE_MISMATCH)
        assert b.pack.all_known()


def test_one_damaged_hello_is_not_believed():
    b = _bench()
    b.wire.give(hello_frame(2, 12, 2))
    for _ in range(5):
        b.scan()
    assert b.parts.trips() == []
    assert b.pack.all_known()
    b.wire.give((HELLO << 6 | 2, b"\x01\x04"))
    for _ in range(5):
        b.scan()
    assert b.parts.trips() == []


def test_a_running_board_that_changes_trips():
    b = _bench()
    b.boards[1].hello = lambda: hello_frame(2, 3, 2)
    b.wire.give(b.boards[1].hello())
    for _ in range(3):
        b.scan()
    assert b.parts.tripped(F.SLAVE_MISMATCH)
    assert not b.pack.all_known()


def test_a_reboot_is_reported_and_balancing_begins_again():
    b = _bench()
    b.pack.balance_mask[2] = 0b101
    b.scan()
    b.scan()
    assert b.boards[1].balance_commands == [(0b101, 5)]
    b.wire.give(b.boards[1].hello())
    b.scan()
    assert b.faults.count[F.SLAVE_REBOOT] == 1
    assert b.faults.place[F.SLAVE_REBOOT] == 1
    assert b.faults.trips == 0
    b.scan()
    b.scan()
    # it forgot what it was commanded
    assert b.boards[1].balance_commands == [(0b101, 5), (0b101, 5)]


def test_over_uart_a_board_that_was_silent_is_sent_a_hello():
    for serial in (7, 8):
        b = Bench(
            slaves=1,
            link="uart0",
            slave="serial = 7",
            boards=[FakeSlave(1, [3300] * 4, [250] * 2, serial=7)],
        ).greet()
        b.scan()
        assert b.faults.count[F.SLAVE_REBOOT] == 0
        b.boards[0].alive = False
        b.scan()
        b.boards[0].alive = True
        b.boards[0].serial = serial
        for _ in range(3):
            b.scan()
        hellos = len(_sent_by(b, HELLO))
        if serial == 7:
            assert b.faults.count[F.SLAVE_REBOOT] == 1
            assert b.pack.all_known()
            assert b.faults.trips == 0
            b.scan()
            assert len(_sent_by(b, HELLO)) == hellos  # once is enough
        else:
            assert b.parts.tripped(F.SLAVE_MISMATCH)
            assert not b.pack.all_known()


def test_over_uart_a_board_that_answers_only_when_polled_again_is_sent_a_hello():
    for serial in (7, 8):
        b = Bench(
            slaves=1,
            link="uart0",
            slave="serial = 7",
            boards=[FakeSlave(1, [3300] * 4, [250] * 2, serial=7)],
        ).greet()
        hellos = len(_sent_by(b, HELLO))
        b.boards[0].alive = False
        b.begin()
        b.answers()
        b.boards[0].alive = True  # it started within the scan: no scan is without its answer
        b.boards[0].serial = serial
        for _ in range(20):
            b.step(5)
        b.scan()
        b.scan()
        assert b.driver.missed == 0
        assert len(_sent_by(b, HELLO)) > hellos
        # one poll that got lost is no sign of a start
        assert b.faults.count[F.SLAVE_REBOOT] == 0
        assert b.pack.all_known() == (serial == 7)
        assert b.parts.tripped(F.SLAVE_MISMATCH) == (serial == 8)


def test_a_board_gets_its_number_by_its_serial_number():
    for link in LINKS:
        boards = [FakeSlave(63, [3300] * 4, [250] * 2, serial=0x12345678 & 0x3FFFFFFF)]
        b = Bench(slaves=1, link=link, slave="serial = 305419896", boards=boards)
        b.greet()
        assert boards[0].node == 1
        assert _sent_by(b, ASSIGN)[0][1] == bytes([0x78, 0x56, 0x34, 0x12, 1])
        assert list(b.pack.cell_mv) == [3300] * 4


def test_a_board_of_unknown_serial_number_gets_none():
    for link in LINKS:
        for serial in (0, 5, 305419897):
            boards = [FakeSlave(63, [BAD] * 4, [250] * 2, serial=serial)]
            b = Bench(slaves=1, link=link, slave="serial = 305419896", boards=boards)
            for _ in range(12):
                b.scan()
            assert boards[0].node == 63
            assert _sent_by(b, ASSIGN) == []
            assert not b.pack.all_known()
            assert b.driver.unexpected > 0
            assert list(b.pack.cell_mv) == [0] * 4


def test_a_board_with_another_serial_number_is_a_mismatch():
    for link in LINKS:
        boards = [FakeSlave(1, [3300] * 4, [250] * 2, serial=6)]
        b = Bench(slaves=1, link=link, slave="serial = 5", boards=boards)
        for _ in range(12):
            b.scan()
        assert b.parts.tripped(F.SLAVE_MISMATCH)


def test_a_board_lost_after_days_is_polled_again():
    # the time since the last poll must not wrap around to the future
    for link in LINKS:
        b = _bench(link)
        b.requests = []
        for _ in range(16):
            b.parts.pass_ms(86400000 // 4)
            b.driver.step(b.parts.now)
        b.wire.sent()
        # the board is another one now, and then the right one again, without a word of its own
        b.boards[1].alive = False
        b.wire.give(hello_frame(2, 3, 2))
        b.wire.give(hello_frame(2, 3, 2))
        b.step()
        assert not b.pack.all_known()
        b.boards[1].alive = True
        for _ in range(15):
            b.scan()
        assert b.pack.all_known(), link


# --- alarms ---


def test_an_alarm_trips_at_once_and_goes_after_it_ended():
    b = _bench()
    b.wire.give(alarm_frame(2, 1, 3, 3700))
    b.step()
    assert b.parts.trips() == ["slave_alarm"]
    assert (b.faults.place[F.SLAVE_ALARM], b.faults.value[F.SLAVE_ALARM]) == (1, 1)
    for _ in range(9):
        b.wire.give(alarm_frame(2, 1, 3, 3700))
        b.scan()
        assert b.parts.active(F.SLAVE_ALARM)
    for _ in range(7):
        b.scan()
    assert not b.parts.active(F.SLAVE_ALARM)
    assert b.parts.tripped(F.SLAVE_ALARM)


def test_the_voltage_of_an_alarm_is_evaluated():
    b = _bench()
    b.wire.give(alarm_frame(2, 0x100, 3, 3800))
    b.step()
    assert b.parts.trips() == ["cell_hard_high"]
    assert (b.faults.place[F.CELL_HARD_HIGH], b.faults.value[F.CELL_HARD_HIGH]) == (6, 3800)
    b = _bench()
    b.wire.give(alarm_frame(2, 0x100, 5, 3800))  # a cell that it does not have
    b.wire.give(alarm_frame(2, 0x100, 0, 3800))
    b.step()
    assert b.parts.trips() == []


def test_a_damaged_alarm_is_none():
    b = _bench()
    ident, data = alarm_frame(2, 1, 3, 3800)
    for bit in range(56):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        b.wire.give((ident, bad))
        b.step()
    b.wire.give((ident, data[:6]))
    b.wire.give((ident, data + b"\0"))
    b.step()
    assert b.parts.trips() == []
    assert b.driver.damaged == 58


def test_severe_bits_of_a_status_trip_and_the_others_inform():
    for link in LINKS:
        b = _bench(link)
        b.boards[1].flags = 0xFF00
        for _ in range(5):
            b.scan()
        assert b.parts.names() == ["slave_warning"]
        assert b.pack.slave_flags[1] == 0xFF00
        b.boards[1].flags = 0x80
        b.scan()
        assert b.parts.trips() == ["slave_alarm"]


def test_a_status_that_falls_silent_trips_while_the_cells_go_on():
    for link in LINKS:
        for never in (True, False):
            b = _bench(link)
            if not never:
                b.scan()
            b.boards[1].skip = (STATUS,)
            for _ in range(60 if never else 48):
                b.scan()
            if not never:
                assert b.parts.names() == []
            for _ in range(60):
                b.scan()
            assert b.parts.trips() == ["status_lost"], (link, never)
            assert b.faults.place[F.STATUS_LOST] == 1
            b.boards[1].skip = ()
            for _ in range(5):
                b.scan()
            assert b.faults.acknowledge() == 0


def test_the_end_of_one_alarm_does_not_hide_another():
    # two drivers: the alarm of a board on the UART stays active when that on CAN ends
    lines = (
        'string = 1; [[slave]]; kind = "cell_link"; link = "uart0"; node = 1; cells = 4; temps = 2'
    )
    b = Bench(pack="cells = 8", slave=lines, boards=[])
    f = b.faults
    first, second = b.drivers
    first._alarm(0, alarm_frame(1, 1, 0, 0)[1], b.parts.now)
    for _ in range(10):
        second._alarm(0, alarm_frame(1, 1, 0, 0)[1], b.parts.now)
        b.parts.pass_ms(100)
        first.step(b.parts.now)
        second.step(b.parts.now)
        assert f.active[F.SLAVE_ALARM]
        assert f.acknowledge() == 1


# --- balancing ---


def test_masks_are_sent_refreshed_and_zeroed():
    for link in LINKS:
        b = _bench(link)
        b.pack.balance_mask[0] = 0x8001
        b.pack.balance_mask[3] = 0x0102
        b.scan()
        assert b.boards[0].balance_commands == [(0x8001, 5)]
        assert b.boards[1].balance_commands == [(0x01020000, 5)]
        for _ in range(25):
            b.scan()
        # before they expire, and not all the time
        assert b.boards[0].balance_commands == [(0x8001, 5)] * 2
        b.pack.balance_mask[0] = 0x8000
        b.scan()
        assert b.boards[0].balance_commands[-1] == (0x8000, 5)
        b.pack.balance_mask[0] = 0
        b.pack.balance_mask[3] = 0
        b.scan()
        assert b.boards[0].balance_commands[-1][0] == 0
        assert b.boards[1].balance_commands[-1][0] == 0
        n = len(b.boards[0].balance_commands)
        for _ in range(60):
            b.scan()
        assert len(b.boards[0].balance_commands) == n


def test_readings_taken_while_balancing_are_marked():
    for link in LINKS:
        b = _bench(link)
        b.pack.balance_mask[0] = 1
        b.scan()
        b.scan()
        assert b.pack.cell_flags[0] & BALANCING
        assert b.pack.temp_flags[0] & BALANCING
        assert not b.pack.cell_flags[4] & BALANCING
        b.pack.balance_mask[0] = 0
        b.scan()
        b.scan()
        assert not b.pack.cell_flags[0] & BALANCING


def test_every_scan_pauses_balancing():
    for link in LINKS:
        b = _bench(link)
        b.pack.balance_mask[0] = 1
        b.requests = []
        for _ in range(3):
            b.scan()
        scans = _sent_by(b, SCAN)
        assert len(scans) >= 3
        for _, data in scans:
            assert len(data) == 2
            assert data[1] & 1


def test_a_mask_that_the_port_did_not_take_is_sent_later():
    b = _bench()
    b.pack.balance_mask[0] = 5
    b.wire.stream.room = 0
    for _ in range(30):
        b.scan()
    b.wire.stream.room = 1 << 20
    for _ in range(3):
        b.scan()
    assert (5, 5) in b.boards[0].balance_commands
    assert b.boards[0].balance_commands[-1] == (5, 5)


def test_polling_goes_on_while_balancing():
    for link in LINKS:
        b = _bench(link, slaves=4)
        for i in range(8):
            b.pack.balance_mask[i] = 0xFF
        scans = [board.scans for board in b.boards]
        missed = b.driver.missed
        for _ in range(30):
            b.scan()
        assert [board.scans for board in b.boards] == [n + 30 for n in scans]
        assert b.pack.cell.complete
        assert b.driver.missed == missed


# --- the pack file against the board ---


def test_build_refuses_by_line():
    for more, key, reason in (
        ({"link": "can7"}, "link", "no port can7; it has: can0 uart0"),
        ({"slave": '[[link]]; port = "can1"'}, "port", "no [[slave]] is on can1"),
        ({"slave": '[[link]]; port = "can0"; rate = "300 kbit/s"'}, "rate", "300000"),
        ({"slaves": 62, "cells": 32}, "link", "longer than scan_period"),
    ):
        if more.get("link"):
            from bms.slaves import build as slaves
            from fakes import Parts

            p = Parts(**more)
            error = raises(ConfigError, slaves.build, p.config, p.board, p.pack, p.limits, p.faults)
        else:
            error = raises(ConfigError, lambda m=more: Bench(**m))
        assert error.key == key
        assert error.line > 0
        assert reason in error.reason, error.reason


def test_an_unknown_kind_is_refused():
    from bms.config.pack_file import parse
    from bms.slaves import build as slaves
    from fakes import Parts, pack_lines

    lines = [line.replace("cell_link", "tea_leaf") for line in pack_lines()]
    p = Parts()
    p.config = parse(lines)
    error = raises(ConfigError, slaves.build, p.config, p.board, p.pack, p.limits, p.faults)
    assert error.key == "kind"
    assert lines[error.line - 1].startswith("kind")
    assert "tea_leaf" in error.reason


def test_two_kinds_on_one_port_are_refused():
    more = 'string = 1; [[slave]]; kind = "jbd"; link = "uart0"; node = 2; cells = 4'
    error = raises(ConfigError, lambda: Bench(link="uart0", pack="cells = 8", slave=more))
    assert (error.key, "carries cell_link already" in error.reason) == ("kind", True)


def test_rates_reach_the_link():
    b = Bench(slave='[[link]]; port = "can0"; rate = "250 kbit/s"')
    assert b.board.opened == [("can0", 250000)]
    assert b.drivers[0].link.rate == 250000
    b = Bench(link="uart0")
    assert b.board.opened == [("uart0", 1000000)]
