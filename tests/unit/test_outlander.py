"""The Outlander driver and scripted modules: receives, counts, survives, sends a target."""

from slave_bench import SlaveBench, lines

from bms.config import pack_file
from bms.config.errors import ConfigError
from bms.links.can import EXTENDED
from bms.protection import fault_ids as F
from fakes import check_ages, raises

COMMAND = 0x3C3
OFF = (COMMAND, bytes.fromhex("0000000403000000"))


def words(values):
    out = b""
    for value in values:
        out += bytes([value >> 8, value & 0xFF])
    return out


def cells(node, k, mv):
    """Frame of cells 4k+1 .. 4k+4."""
    return 0x602 + node * 16 + k, words(mv)


def status(node, temps=(19000, 19100, 19200), bits=0):
    """Frame of balancing cells and three temperatures as words."""
    return 0x601 + node * 16, bytes([bits, 0]) + words(temps)


def said(node, mv, bits=0):
    """All that a module with eight cells says."""
    more = 0x604 + node * 16, b"\xff" * 8
    return [status(node, bits=bits), cells(node, 0, mv[:4]), cells(node, 1, mv[4:]), more]


HOT = 33400  # 74.9 degC
EIGHT = [3687, 3687, 3687, 3684, 3889, 3894, 3873, 3886]


def bench(boards=((1, 8, 3),), **more):
    return SlaveBench("outlander", boards, "can0", **more)


def hear(b, nodes=(1,), mv=EIGHT, times=1):
    """Scans in which these modules speak."""
    for _ in range(times):
        b.begin()
        for node in nodes:
            b.give(said(node, mv))
        b.pass_ms(100)
        check_ages(b.limits, b.now)


def known(boards=((1, 8, 3),), **more):
    b = bench(boards, **more)
    hear(b, [one[0] for one in boards], times=3)
    assert b.pack.all_known()
    return b


def test_reads_what_the_modules_say():
    b = known()
    assert b.mv() == EIGHT
    assert b.dc() == [202, 206, 210]  # 0.0038 degC x raw - 52
    assert b.pack.stack_mv[0] == sum(EIGHT)
    assert b.pack.die_dc[0] == 210
    assert b.names() == []


def test_the_stack_is_the_sum_of_cells_of_one_moment():
    b = known()
    for mv in ([v - 300 for v in EIGHT], EIGHT, [v + 111 for v in EIGHT]):
        b.begin()
        before = b.pack.stack_mv[0]
        for frame in said(1, mv)[:2]:
            b.give([frame])
        assert b.pack.stack_mv[0] == before  # half of the cells are of another moment
        b.give(said(1, mv)[2:])
        assert b.mv() == mv and b.pack.stack_mv[0] == sum(mv)
    b = bench(((1, 4, 3),))
    for _ in range(4):
        b.begin()
        b.give([status(1), cells(1, 0, [3500, 3501, 3502, 3503])])
    assert b.pack.stack_mv[0] == 14006


def test_temperatures_as_bytes():
    b = bench(((9, 8, 5),), slave="temp_offset = 50")
    for _ in range(3):
        b.begin()
        b.give([(0x691, bytes.fromhex("0030744949FF0049"))])
        b.give(said(9, EIGHT)[1:])
    b.give([(0x691, bytes.fromhex("00307449490B00FF"))])
    assert b.dc() == [660, 230, 230, -390, None]  # nothing, or all ones, is an open sensor
    assert b.pack.die_dc[0] == 660
    b = bench(slave="temp_offset = 30")
    for _ in range(3):
        b.begin()
        b.give([(0x611, bytes.fromhex("0000003535000000"))] + said(1, EIGHT)[1:])
    assert b.dc() == [None, 230, 230]  # nothing is not 30 degC below 0


def test_more_sensors_than_words_want_the_offset():
    error = raises(Exception, lambda: bench(((1, 8, 4),)))
    assert "temp_offset" in str(error)


def test_a_module_is_known_when_all_its_frames_fit():
    b = bench()
    frames = said(1, EIGHT)
    for _ in range(3):
        b.begin()
        b.give(frames[:2])
        assert not b.pack.known[0]
    b.give(frames[2:])
    assert not b.pack.known[0]  # not before a whole scan
    b.begin()
    b.give(frames)
    assert b.pack.known[0] == 1
    assert b.names() == []


def test_a_module_that_has_not_measured_yet_is_not_known_and_no_misfit():
    b = bench()
    for _ in range(5):
        hear(b, mv=[0] * 8)
    assert not b.pack.known[0] and b.names() == []
    hear(b, times=2)
    assert b.pack.known[0]


def test_more_or_fewer_cells_than_configured_are_a_fault_when_said_twice():
    for count, mv in (
        (7, EIGHT),
        (4, EIGHT),
        (8, EIGHT[:7] + [0xFFFF]),
        (8, EIGHT[:4] + [0xFFFF] * 4),
    ):
        b = bench(((1, count, 3),))
        hear(b, mv=mv)
        assert b.names() == [], count
        hear(b, mv=mv)
        assert b.names() == ["slave_mismatch"], count
        assert not b.pack.known[0]
        assert b.mv() == [None] * count


def test_a_module_with_twelve_cells_is_none_of_eight():
    b = known()
    for _ in range(2):
        b.begin()
        b.give([cells(1, 2, [3700, 3700, 3700, 3700])])
    assert b.names() == ["slave_mismatch"]
    hear(b, times=3)
    b.faults.acknowledge()
    assert b.names() == [] and b.pack.known[0]


def test_a_scan_with_a_frame_too_many_does_not_make_it_known():
    b = bench()
    for scan in range(4):
        assert not b.pack.known[0]
        b.begin()
        b.give(said(1, EIGHT)[:3])
        if scan == 0:
            b.give([cells(1, 2, [3700] * 4)])
    assert b.pack.known[0] and b.names() == []


def test_frames_of_29_bits_are_no_modules():
    b = known()
    b.old()
    unexpected = b.driver.unexpected
    count = 0
    for high in (0, 1 << 11, 1 << 18, 0x1FFFF800):
        for ident, data in said(1, EIGHT):
            assert not b.driver.expects(EXTENDED | high | ident)
            assert not b.driver.expects(EXTENDED | (ident << 18 & 0x1FFFFFFF) | high)
            b.give([(EXTENDED | high | ident, data), (EXTENDED | ident << 18, data)])
            count += 2
    assert b.mv() == [None] * 8 and b.dc() == [None] * 3
    assert b.driver.unexpected == unexpected + count


def test_one_damaged_frame_is_no_other_module():
    b = known()
    for _ in range(5):
        b.give([cells(1, 2, [3700, 3700, 3700, 3700])])
        for _ in range(3):
            b.begin()
            b.give(said(1, EIGHT)[:3])
    assert b.names() == [] and b.pack.known[0]


def test_four_cells_need_two_frames():
    b = bench(((1, 4, 1),))
    for _ in range(3):
        b.begin()
        b.give([status(1), cells(1, 0, EIGHT[:4]), cells(1, 1, [0xFFFF] * 4)])
    assert b.mv() == EIGHT[:4] and b.driver.done


def test_a_scan_is_done_with_the_last_frame_of_the_last_module():
    b = known(((1, 8, 3), (2, 8, 3), (11, 8, 3)))
    b.begin()
    assert not b.driver.done
    b.give(said(1, EIGHT) + said(11, EIGHT))
    assert not b.driver.done
    b.give(said(2, EIGHT)[:2])
    assert not b.driver.done
    b.give(said(2, EIGHT)[2:])
    assert b.driver.done


def test_a_silent_module_is_missed_and_holds_up_nobody():
    b = known(((1, 8, 3), (2, 8, 3)), limits='cell_age = "500 ms"')
    for scan in range(6):
        b.begin()
        b.give(said(1, EIGHT))
        assert b.driver.done == (scan >= 2)
        b.pass_ms(100)
        check_ages(b.limits, b.now)
    assert b.driver.missed == 4
    assert b.mv() == EIGHT + [None] * 8
    hear(b, (1, 2), times=3)
    assert b.mv() == EIGHT * 2 and b.driver.missed == 5


def test_a_cell_that_jumps_beyond_its_hard_bounds_must_show_it_twice():
    b = known()
    far = EIGHT[:4] + [4700] + EIGHT[5:]
    hear(b, mv=far)
    assert b.names() == [] and b.mv() == EIGHT
    hear(b)
    hear(b, mv=far)
    assert b.names() == []
    b.give(said(1, far))
    assert b.names() == ["cell_hard_high"] and b.mv() == far


def test_what_creeps_out_of_its_hard_bounds_is_evaluated_at_once():
    b = known()
    hear(b, mv=[4290] * 8)
    b.give([cells(1, 1, [4290, 4310, 4290, 4290])])
    assert b.names() == ["cell_hard_high"]


def test_what_is_beyond_hard_bounds_after_a_silence_is_evaluated_at_once():
    b = known()
    b.old()
    b.give([cells(1, 1, [3700, 4700, 3700, 3700])])
    assert b.names() == ["cell_hard_high"]
    b = known()
    b.old()
    b.give([status(1, (HOT, 19100, 19200))])
    assert b.names() == ["temp_hard_high"]


def test_a_temperature_that_jumps_must_be_said_twice():
    b = known()
    hot = status(1, (HOT, 19100, 19200))
    b.give([hot])
    assert b.names() == []
    b.give([hot])
    assert b.names() == ["temp_hard_high"]


def test_what_is_no_reading_grows_old():
    b = known()
    b.old()
    b.give([cells(1, 0, [0xFFFF, 3700, 9000, 3701]), status(1, (0xFFFF, 19000, 19000))])
    assert b.mv()[:4] == [None, 3700, None, 3701]
    assert b.dc() == [None, 202, 202]
    assert b.names() == []


def test_a_dead_cell_reads_zero():
    b = known()
    hear(b, mv=[0] + EIGHT[1:], times=2)
    assert b.names() == ["cell_hard_low"]


def test_a_module_that_restarts_and_says_zeros_is_not_believed():
    for count, want in ((8, EIGHT), (5, EIGHT[:5])):
        b = bench(((1, count, 3),), limits='cell_age = "500 ms"')
        full = want + [0xFFFF] * (8 - count)
        hear(b, mv=full, times=3)
        assert b.pack.all_known()
        hear(b, mv=[0] * count + [0xFFFF] * (8 - count), times=4)
        assert b.names() == [] and b.mv() == want, count
        hear(b, mv=full, times=2)
        assert b.names() == []
        hear(b, mv=[0] * count + [0xFFFF] * (8 - count), times=7)
        assert b.names() == ["cell_lost"], count
    b = bench(((1, 5, 3),))
    full = EIGHT[:5] + [0xFFFF] * 3
    hear(b, mv=full, times=3)
    hear(b, mv=EIGHT[:4] + [0] + [0xFFFF] * 3, times=2)
    assert b.names() == ["cell_hard_low"]  # the last one alone in its frame


def test_frames_of_others_short_ones_and_other_identifiers():
    b = known()
    b.old()
    unexpected = b.driver.unexpected
    b.give(said(2, EIGHT)[:3])  # not configured
    b.give([(0x610, bytes(8)), (0x615, bytes(8)), (0x3C3, bytes(8)), (0x7FF, b"")])
    assert b.driver.unexpected == unexpected + 7
    for n in range(8):
        b.give([(0x612, words(EIGHT[:4])[:n])])
    assert b.driver.damaged == 8
    assert b.mv() == [None] * 8
    assert b.driver.expects(0x611) and b.driver.expects(0x614)
    for ident in (0x610, 0x615, 0x621, 0x511, 0x3C3):
        assert not b.driver.expects(ident), ident


def test_a_frame_comes_in_any_pieces_and_a_damaged_one_is_none():
    frame = b"t61280E670E670E670E64\r"
    for n in range(1, len(frame)):
        b = known()
        b.old()
        b.wire.stream.give(frame[:n])
        b.driver.step(b.now)
        assert b.mv() == [None] * 8
        b.wire.stream.give(frame[n:])
        b.driver.step(b.now)
        assert b.mv()[:4] == [3687, 3687, 3687, 3684], n
    for n in range(1, len(frame) - 1):
        b = known()
        b.old()
        b.wire.stream.give(frame[:n] + b"\r" + frame[:n] + frame)
        b.driver.step(b.now)
        assert b.mv() == [None] * 8, n
        b.give([cells(1, 0, EIGHT[:4])])
        assert b.mv()[:4] == EIGHT[:4]


def test_two_modules_with_one_number():
    b = known()
    for _ in range(12):
        b.begin()
        b.give(said(1, EIGHT))
        b.pass_ms(50)
        b.give(said(1, [3500] * 8))
        b.pass_ms(50)
        check_ages(b.limits, b.now)
    assert b.names() == ["slave_conflict"]
    assert b.mv() == [None] * 8 and not b.pack.stack_ok[0]
    # none is taken, all are evaluated
    b.give(said(1, EIGHT[:7] + [4700]))
    assert "cell_hard_high" in b.names()
    hear(b, times=5)
    b.faults.acknowledge()
    assert b.names() == ["cell_hard_high"]
    assert b.mv() == EIGHT


def test_twins_in_one_string_do_not_hold_the_other():
    b = known(((1, 8, 3, 1), (2, 8, 3, 1), (3, 8, 3, 2), (4, 8, 3, 2)))
    for twins, left in (((1, 3, 4), [1, 1]), ((1, 4), [1, 1]), ((1,), [1, 0]), ((), [0, 0])):
        for _ in range(12):
            b.begin()
            for node in (1, 2, 3, 4):
                b.give(said(node, EIGHT))
            b.pass_ms(50)
            for node in twins:
                b.give(said(node, [3500] * 8))
            b.pass_ms(50)
            check_ages(b.limits, b.now)
        slots = [b.faults.slot(F.SLAVE_CONFLICT, string) for string in (0, 1)]
        assert [b.faults.active[i] for i in slots] == left, twins


def test_a_load_that_changes_is_no_second_module():
    b = known()
    for i in range(60):
        hear(b, mv=[3700 + 10 * (i % 3)] * 8)
        hear(b, mv=[3600 + 20 * (i % 5)] * 8)
    assert b.names() == [] and b.driver.repeated == 0


def test_a_pulsed_load_is_no_second_module():
    # of all modules of a port for any time, where one does not step far enough to swing itself
    for boards in (((1, 8, 3), (2, 8, 3)), ((1, 8, 3, 1), (2, 8, 3, 2))):
        b = known(boards)
        for i in range(200):
            b.begin()
            b.give(said(1, [3700 - 60 * (i & 1)] * 8) + said(2, [3700 - 40 * (i & 1)] * 8))
            b.pass_ms(100)
        assert b.names() == [] and b.driver.repeated == 0, boards
    # of the only one for 10 s
    b = known()
    for i in range(98):
        hear(b, mv=[3700 - 60 * (i & 1)] * 8)
    assert b.names() == [] and b.driver.repeated == 0
    for i in range(10):
        hear(b, mv=[3700 - 60 * (i & 1)] * 8)
    assert b.names() == ["slave_conflict"]


def test_two_modules_with_one_number_are_found_soon():
    for boards in (((1, 8, 3),), ((1, 8, 3), (2, 8, 3))):
        b = known(boards)
        for _ in range(9):
            b.begin()
            for k in range(len(boards)):
                b.give(said(k + 1, EIGHT))
            b.pass_ms(50)
            b.give(said(1, [3500] * 8))
            b.pass_ms(50)
        assert b.names() == ["slave_conflict"], boards


def test_two_slow_modules_with_one_number_beside_another():
    b = known(((1, 8, 3), (2, 8, 3)))
    for i in range(14):
        b.begin()
        b.give(said(1, EIGHT if i & 1 else [3500] * 8) + said(2, EIGHT))
        b.pass_ms(100)
    assert b.names() == ["slave_conflict"]


def test_all_are_commanded_to_stop_at_first_and_now_and_then():
    b = bench()
    b.run(10000)
    assert set(b.requests) == {OFF}
    assert 4 <= len(b.requests) <= 6


def test_they_are_sent_again_after_days_without_a_bus():
    b = bench()
    b.run(2000)
    send = b.driver.link.send
    b.driver.link.send = lambda ident, data, n: False
    b.pass_ms(int(3.2 * 86400000))
    b.driver.step(b.now)
    b.driver.link.send = send
    b.requests = []
    b.run(6000)
    assert set(b.requests) == {OFF}


def test_what_could_not_be_sent_was_not_commanded():
    b = known()
    b.run(2000)
    b.pack.balance_mask[0] = 1
    b.run(500)
    assert b.requests[-1][1][2] == 1
    send = b.driver.link.send
    b.driver.link.send = lambda ident, data, n: False
    b.pack.balance_mask[0] = 0
    b.run(2000)
    b.driver.link.send = send
    b.requests = []
    b.run(2000)
    assert b.requests == [OFF] * 3  # all the times that it is commanded to end
    b = bench()
    send = b.driver.link.send
    b.driver.link.send = lambda ident, data, n: False
    b.run(5)
    b.driver.link.send = send
    b.step()
    assert b.requests == [OFF]  # at once, and not at its next turn


def test_one_target_for_the_bus_again_and_again_while_somebody_wants_to_balance():
    b = known(((1, 8, 3), (2, 8, 3)))
    b.run(2000)
    b.requests = []
    b.pack.string_cell[0].low = 3684
    b.pack.balance_mask[2] = 2
    target = max(3684 + b.config.balance_stop_mv, b.config.balance_floor_mv)
    on = (COMMAND, bytes([target >> 8, target & 255, 1, 4, 3, 0, 0, 0]))
    for _ in range(20):
        hear(b, (1, 2))
        b.run(100)
    assert set(b.requests) == {on}
    assert 9 <= len(b.requests) <= 11  # 4 s
    b.pack.balance_mask[2] = 0
    b.requests = []
    b.run(2000)
    assert set(b.requests) == {OFF} and len(b.requests) == 3


def test_the_lowest_target_of_those_that_want_to_balance_counts():
    b = known(((1, 8, 3), (2, 8, 3), (3, 8, 3)))
    b.run(2000)
    b.driver.target_mv = lambda slave: (3900, 3850, 3800)[slave]
    b.pack.balance_mask[0] = b.pack.balance_mask[2] = 1
    b.run(500)
    assert b.requests[-1][1][:3] == bytes([3850 >> 8, 3850 & 255, 1])


def test_nobody_is_commanded_to_balance_while_a_module_is_hot_or_not_read():
    for frames in (
        [status(2, (HOT, 19000, 19000))] * 2,
        [status(2, (0xFFFF, 0xFFFF, 0xFFFF))],
    ):
        b = known(((1, 8, 3), (2, 8, 3)))
        b.run(2000)
        b.pack.balance_mask[0] = 1
        b.give(frames)
        b.requests = []
        b.run(1000)
        assert b.requests == []
        hear(b, (1, 2))
        b.run(1000)
        assert b.requests and b.requests[-1][1][2] == 1


def test_cells_alone_do_not_keep_an_old_temperature_alive():
    b = known(((1, 8, 0), (2, 8, 0)), limits='cell_age = "500 ms"')
    hear(b, (1, 2))  # said twice
    b.pack.balance_mask[0] = 1
    b.run(500)
    assert b.requests[-1][1][2] == 1
    b.requests = []
    for _ in range(12):  # module 2 has lost its status
        b.begin()
        b.give(said(1, EIGHT) + said(2, EIGHT)[1:])
        b.run(100, 10)
        check_ages(b.limits, b.now)
    assert list(b.pack.stack_ok) == [1, 0] and b.mv() == EIGHT * 2
    assert b.requests[-1] == OFF
    hear(b, (1, 2))
    assert list(b.pack.stack_ok) == [1, 1]


def test_a_scan_that_begins_between_a_status_and_its_cells():
    b = known(limits='cell_age = "500 ms"')
    for _ in range(12):
        b.give(said(1, EIGHT)[:1])
        b.begin()
        b.give(said(1, EIGHT)[1:])
        b.run(100, 10)
        check_ages(b.limits, b.now)
    assert b.pack.stack_ok[0] == 1


def test_a_board_is_as_warm_as_the_sensors_that_are_configured_and_believed():
    b = known(((1, 8, 2),))
    assert b.pack.die_dc[0] == 206  # the third one does not count
    b.give(said(1, EIGHT) + [status(1, (19000, HOT, 19200))])
    assert b.pack.die_dc[0] == 202 and b.names() == []
    b.give([status(1, (19000, HOT, 19200))] + said(1, EIGHT)[1:])
    assert b.pack.die_dc[0] == 749 and b.pack.stack_ok[0] and b.names() == ["temp_hard_high"]


def test_without_configured_sensors_all_count_when_they_show_it_twice():
    b = known(((1, 8, 0),))
    assert not b.pack.stack_ok[0]
    hear(b)
    assert b.pack.stack_ok[0] and b.pack.die_dc[0] == 210
    hot = [status(1, (19000, 19100, HOT))] + said(1, EIGHT)[1:]
    for _ in range(3):
        b.give(hot)
        assert b.pack.die_dc[0] == 210
        hear(b)
    b.give(hot + hot)
    assert b.pack.die_dc[0] == 749


def test_the_target_is_never_below_the_floor():
    b = known(slave="", limits="")
    b.run(2000)
    b.pack.string_cell[0].low = 2000
    b.pack.balance_mask[0] = 1
    b.run(500)
    data = b.requests[-1][1]
    assert data[0] << 8 | data[1] == b.config.balance_floor_mv


def test_cells_that_balance_are_marked():
    b = known()
    b.give(said(1, EIGHT, bits=0x81))
    assert [flags >> 1 & 1 for flags in b.pack.cell_flags] == [1, 0, 0, 0, 0, 0, 0, 1]


def test_modules_out_of_range_are_refused():
    for boards in (((0, 8, 3),), ((16, 8, 3),), ((1, 9, 3),), ((1, 8, 6),)):
        raises(Exception, lambda boards=boards: bench(boards))


def refused(kind, boards, link, **more):
    """The key and the text of the line that a pack file is refused with."""
    text = lines(kind, boards, "can0", link=link, **more)
    error = raises(ConfigError, lambda: SlaveBench(kind, boards, "can0", link=link, **more))
    return error.key, text[error.line - 1]


def test_keys_of_a_link_that_have_no_effect_are_refused():
    assert refused("outlander", ((1, 8, 3),), 'gap = "30 ms"') == ("gap", 'gap = "30 ms"')
    assert refused("jk_can", ((1, 8, 1),), 'gap = "30 ms"') == ("gap", 'gap = "30 ms"')
    key = 'answer = "30 ms"'
    assert refused("bmw_i3", ((1, 8, 3),), 'gap = "50 ms"; ' + key) == ("answer", key)


def test_an_age_that_is_too_short_is_refused_where_it_stands():
    for key in ("cell_age", "temp_age"):
        row = key + ' = "250 ms"'
        assert refused("outlander", ((1, 8, 3),), row) == (key, row)
    limits = 'cell_age = "250 ms"'
    at = refused("outlander", ((1, 8, 3),), "", limits=limits)
    assert at == ("cell_age", 'link = "can0"')


def test_strings_of_different_length_are_refused_where_one_begins():
    text = lines("outlander", ((1, 8, 3), (2, 8, 3, 2), (3, 4, 3, 3), (4, 8, 3, 3)), "can0")
    error = raises(ConfigError, pack_file.parse, text)
    assert (
        error.key == "string"
        and error.line == [i + 1 for i in range(len(text)) if text[i] == "string = 3"][0]
    )


def test_the_cycle_does_not_allocate():
    b = known(((1, 8, 3), (2, 8, 3)))
    b.pack.balance_mask[0] = 1
    text = b""
    for node in (1, 2):
        for frame in said(node, EIGHT, bits=1):
            text += b.wire.encode(frame[0], frame[1])
    b.broadcasts_without_heap(text)
    assert b.driver.link.damaged == 0 and b.driver.missed == 0
    assert b.mv() == EIGHT * 2


def test_a_scan_takes_no_longer_than_the_modules_period():
    b = known(((1, 8, 3), (2, 8, 3), (3, 8, 3)))
    longest = 0
    for start in range(0, 100, 7):
        b.begin()
        ms = 0
        while not b.driver.done:
            for node in (1, 2, 3):
                if (start + ms) % 100 == 30 * node:
                    b.give(said(node, EIGHT))
            b.step(1)
            ms += 1
        longest = max(longest, ms)
    assert longest <= 100 and b.driver.missed == 0
