"""The whole master on a fake board: when it closes, when it opens, what it says and feeds."""

from bms.contactors.sequence import CLOSED, OPEN
from bms.protection import fault_ids as F
from fakes import FakeBoard, FakeSlave, Rig, alarm_frame, fault_name, raises

LINKS = ("can0", "uart0")


def _closed(**more):
    r = Rig(**more)
    r.run(1500)
    assert r.say("close")["ok"] is True, r.lines()
    r.run(1000)
    assert r.state == CLOSED
    return r


def test_boot_is_open_and_is_reported():
    r = Rig()
    r.run(300)
    lines = r.lines()
    boot = [x for x in lines if x["k"] == "boot"]
    assert len(boot) == 1
    assert (boot[0]["slaves"], boot[0]["cells"], boot[0]["temps"]) == (2, 8, 4)
    assert [x["state"] for x in lines if x["k"] == "contactor"] == ["open"]
    assert r.board.history == []


def test_it_never_closes_by_itself():
    for link in LINKS:
        r = Rig(link=link)
        r.run(20000)
        assert r.board.history == []
        assert r.names() == []


def test_it_closes_on_command():
    for link in LINKS:
        r = _closed(link=link)
        assert r.board.coils[:3] == [1000, 0, 1000]
        assert [x[1:] for x in r.board.history] == [(0, 1000), (1, 1000), (2, 1000), (1, 0)]


def test_it_closes_only_when_every_slave_answered():
    for link in LINKS:
        r = Rig(link=link, slaves=3)
        r.boards[1].alive = False
        r.run(3000)
        assert r.say("close")["ok"] is False
        r.boards[1].alive = True
        r.run(2000)
        assert r.say("close")["ok"] is True


def test_it_closes_only_when_every_reading_is_fresh():
    for link in LINKS:
        for what in ("cell", "temp"):
            r = Rig(link=link, limits='cell_age = "30 s"; temp_age = "30 s"')
            (r.boards[1].mv if what == "cell" else r.boards[1].dc)[1] = None
            r.run(3000)
            answer = r.say("close")
            assert answer["ok"] is False
            assert "fresh" in answer["text"]
            r.boards[1].mv[1] = 3300
            r.boards[1].dc[1] = 250
            r.run(1000)
            assert r.say("close")["ok"] is True


def test_it_closes_only_with_its_sensors():
    for sensor in ("link", "current", "feedback"):
        r = Rig()
        r.board.has_link_sensor = sensor != "link"
        r.board.ma = None if sensor == "current" else 0
        r.board.wired[2] = sensor != "feedback"
        r.run(2000)
        assert r.say("close")["ok"] is False, sensor
        r.run(1000)
        assert r.board.history == []


def test_a_hard_bound_opens_in_the_step_that_reads_it():
    for link in LINKS:
        for mv, dc in ((3751, 250), (1999, 250), (0, 250), (3300, 701)):
            r = _closed(link=link)
            r.boards[1].mv[3] = mv
            r.boards[1].dc[1] = dc
            for _ in range(500):
                scans = r.boards[1].scans
                r.step()
                if r.boards[1].scans > scans:
                    break
            for _ in range(12):  # over UART it is stepped in its turn
                r.step()
                if r.board.coils[:3] == [0, 0, 0]:
                    break
            assert r.board.coils[:3] == [0, 0, 0]
            assert r.state == OPEN
            assert "hard" in r.names()[0]


def test_no_trip_for_days_over_every_wrap():
    # the clock jumps while the master does not run, at places where ticks wrap around
    for start in ((1 << 29) - 3000, (1 << 28) - 3000):
        for link in LINKS:
            r = _closed(link=link, ms=start)
            r.run(6000)
            assert r.state == CLOSED
            assert r.names() == []


def test_a_delayed_bound_opens_in_time():
    for link in LINKS:
        r = _closed(link=link)
        r.boards[0].mv[2] = 3700
        t = r.board.clock.total_ms
        r.run(900)
        assert r.state == CLOSED
        r.run(400)
        assert r.board.coils[:3] == [0, 0, 0]
        opened = [x for x in r.board.history if x[2] == 0][-1][0]
        assert 1000 <= opened - t <= 1250
        assert r.trips()[0] == "cell_high"


def test_a_silent_slave_opens_in_time():
    for link in LINKS:
        for limits in ('cell_age = "300 ms"', 'cell_age = "800 ms"'):
            r = _closed(link=link, slaves=3, limits=limits)
            r.boards[2].alive = False
            t = r.board.clock.total_ms
            r.run(1200)
            opened = [x for x in r.board.history if x[2] == 0][-1][0]
            age = 300 if "300" in limits else 800
            assert age - 110 <= opened - t <= age + 20
            assert r.master.faults.first == F.CELL_LOST
            assert r.master.faults.place[F.CELL_LOST] == 8


def test_overcurrent_opens():
    for ma, name, within in (
        (-400001, "current_hard", 20),
        (100001, "charge_current", 150),
        (-200001, "discharge_current", 150),
    ):
        r = _closed()
        r.run(500)
        r.board.ma = ma
        t = r.board.clock.total_ms
        r.run(300)
        opened = [x for x in r.board.history if x[2] == 0][-1][0]
        assert opened - t <= within
        assert fault_name(r.master.faults, r.master.faults.first) == name


def test_a_silent_current_sensor_opens():
    r = _closed()
    r.board.ma = None
    r.run(190)
    assert r.state == CLOSED
    r.run(50)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.names() == ["current_lost"]


def test_cold_charging_opens_and_cold_driving_does_not():
    r = _closed()
    for board in r.boards:
        board.dc = [-50, -50]
    r.board.ma = -20000
    r.run(3000)
    assert r.state == CLOSED
    r.board.ma = 20000
    r.run(1300)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.trips() == ["temp_charge_low"]


def test_an_alarm_of_a_slave_opens():
    r = _closed()
    r.wire.give(alarm_frame(1, 4, 1, 3300))
    r.step()
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.names() == ["slave_alarm"]


def test_feedback_lost_opens():
    r = _closed()
    r.board.stuck[0] = 0
    r.run(350)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.names() == ["contactor_feedback"]


def test_after_a_trip_it_stays_open_until_cleared_and_closed():
    r = _closed()
    r.boards[0].mv[0] = 3800
    r.run(200)
    r.boards[0].mv[0] = 3300
    r.run(5000)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.say("close")["ok"] is False
    assert r.say("clear")["ok"] is True
    r.run(5000)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.say("close")["ok"] is True
    r.run(1000)
    assert r.state == CLOSED


def test_two_boards_with_one_number_open():
    for link in LINKS:
        r = _closed(link=link)
        r.boards.append(FakeSlave(2, [3500] * 4, [300] * 2))
        r.run(800)
        assert r.board.coils[:3] == [0, 0, 0]
        assert "slave_conflict" in r.names()


def test_balancing_reaches_the_boards_and_stops_on_a_fault():
    for link in LINKS:
        r = Rig(link=link)
        r.boards[0].mv = [3400, 3450, 3400, 3400]
        r.boards[1].mv = [3420] * 4
        r.run(5000)
        assert r.boards[0].balance_commands[-1] == (2, 5)
        assert r.boards[1].balance_commands[-1] == (15, 5)
        r.boards[1].mv[0] = 3800
        r.run(300)
        assert r.boards[0].balance_commands[-1][0] == 0
        assert r.boards[1].balance_commands[-1][0] == 0


def test_status_lines_come_with_their_period():
    r = Rig(telemetry='status_period = "500 ms"; cells_period = "2 s"')
    r.run(500)
    r.lines()
    r.run(10000)
    lines = r.lines()
    assert 19 <= len([x for x in lines if x["k"] == "status"]) <= 21
    assert 8 <= len([x for x in lines if x["k"] == "cells"]) <= 12
    status = [x for x in lines if x["k"] == "status"][-1]
    assert status["pack_mv"] == 26400
    assert (status["min_mv"], status["max_mv"], status["min_cell"]) == (3300, 3300, 1)
    assert (status["min_dc"], status["max_dc"], status["known"]) == (250, 250, 2)
    assert (status["damaged"], status["stale"], status["i_ma"], status["link_mv"]) == (0, 0, 0, 0)
    times = [x["t_ms"] for x in lines]
    assert times == sorted(times)


def test_missing_readings_are_null_and_nothing_is_made_up():
    r = Rig()
    r.boards[1].alive = False
    r.board.ma = None
    r.board.has_link_sensor = False
    r.run(2500)
    lines = r.lines()
    status = [x for x in lines if x["k"] == "status"][-1]
    for key in ("pack_mv", "min_mv", "max_mv", "min_cell", "max_cell", "min_dc", "i_ma", "link_mv"):
        assert status[key] is None, key
    cells = [x for x in lines if x["k"] == "cells"][-2:]
    assert cells[0]["cell_mv"] == [3300] * 4
    assert cells[1]["cell_mv"] == [None] * 4
    assert cells[1]["temp_dc"] == [None] * 2
    assert cells[1]["stack_mv"] is None


def test_an_old_current_is_not_shown():
    r = _closed()
    r.run(2000)
    r.board.ma = None
    r.lines()
    r.run(5000)
    status = r.lines("status")
    assert [x["i_ma"] for x in status[1:]] == [None] * (len(status) - 1)
    assert len(status) > 2


def test_a_fault_is_reported_once_with_cause_and_time():
    r = _closed()
    r.run(100)
    r.lines()
    r.boards[1].mv[2] = 3999
    r.run(1000)
    events = [x for x in r.lines("event") if x["name"] == "cell_hard_high"]
    assert len(events) == 1
    e = events[0]
    assert (e["what"], e["level"], e["place"], e["index"], e["value"]) == (
        "set",
        "trip",
        "cell",
        7,
        3999,
    )
    assert e["at_ms"] <= e["t_ms"]


def test_a_console_that_nobody_reads_stops_nothing():
    r = _closed()
    r.board.console.room = 0
    scans = r.master.scans
    for _ in range(50):
        r.type("config")
        r.type("events")
        r.run(200)
    assert r.master.scans - scans >= 99
    assert r.master.tx_buffer.dropped > 0
    r.boards[0].mv[0] = 3800
    r.run(120)
    assert r.board.coils[:3] == [0, 0, 0]
    # somebody reads again: whole lines
    r.board.console.room = 1 << 20
    r.run(3000)
    assert r.lines()


def test_a_bus_that_floods_stops_nothing():
    for link in LINKS:
        r = _closed(link=link, slaves=1)
        r.lines()
        for _ in range(200):
            for _ in range(10):
                r.wire.stream.give(b"\x55" * 100)
            r.step()
        feeds = len(r.board.feeds)
        t = r.board.clock.total_ms
        # readings no longer come through: it opens
        r.boards[0].alive = False
        for _ in range(2000):
            r.wire.stream.give(b"\x55" * 100)
            r.step()
            if r.board.coils[:3] == [0, 0, 0]:
                break
        assert r.board.coils[:3] == [0, 0, 0]
        assert r.board.clock.total_ms - t < 1000
        assert len(r.board.feeds) >= feeds


# --- the watchdog ---


def test_the_watchdog_is_fed_while_all_stages_run():
    r = Rig()
    r.run(5000)
    feeds = r.board.feeds
    assert len(feeds) > 80
    assert max([b - a for a, b in zip(feeds, feeds[1:])]) <= 70
    assert min([b - a for a, b in zip(feeds, feeds[1:])]) >= 50


def test_the_watchdog_is_fed_in_silence():
    # no slaves at all is a fault of theirs, not a hang of the program
    r = Rig()
    for board in r.boards:
        board.alive = False
    r.run(3000)
    assert len(r.board.feeds) > 40


def test_the_watchdog_starves_when_a_stage_does_not_run():
    for stage in ("_scan", "_evaluate", "_act", "_report"):
        r = Rig()
        r.run(1000)
        setattr(r.master, stage, lambda *args: None)
        n = len(r.board.feeds)
        for _ in range(3000):
            r.master.step()
            r.board.wait(1)
        assert len(r.board.feeds) - n <= 4, stage
        last = r.board.feeds[-1]
        assert r.board.clock.total_ms - last > 2500, stage


def test_frames_go_before_work():
    r = _closed()
    looks = []
    check = r.master.limits.check_ages
    r.master.limits.check_ages = lambda now: (looks.append(now), check(now))
    for ring in (None, [0, 1]):  # a board's `pending`, or its ring
        r.master._ring = ring
        r.board.pending = lambda: True
        r.run(30)  # a tick is due
        while r.master._put_off:
            r.step()
        looks.clear()
        r.board.wait(30)
        for n in range(6):
            assert r.master.step() is True
            assert looks == [], n
        for _ in range(8):  # work, and what follows it, in turns
            r.master.step()
        assert len(looks) == 1
        r.board.pending = lambda: False


def test_frames_without_end_starve_nothing():
    r = _closed()
    r.board.pending = lambda: True
    r.lines()
    feeds = len(r.board.feeds)
    r.run(2000)
    assert len(r.board.feeds) - feeds >= 10
    assert len(r.lines("status")) >= 1
    assert r.state == CLOSED


def test_the_watchdog_starves_when_the_step_raises():
    r = Rig()
    r.run(1000)

    def broken(now):
        raise ValueError("broken")

    r.master.limits.check_ages = broken
    n = len(r.board.feeds)
    for _ in range(100):
        try:
            r.master.step()
        except ValueError:
            pass
        r.board.wait(10)
    assert len(r.board.feeds) - n <= 1


# --- the end ---


def test_run_ends_a_moment_after_the_word():
    for word, restart in ((b"reset yes\n", True), (b"service yes\n", False)):
        r = _closed()
        r.board.console.give(word)
        t = r.board.clock.total_ms
        r.master.run()
        assert r.master.restart is restart
        assert 200 <= r.board.clock.total_ms - t <= 300
        assert r.board.coils[:3] == [0, 0, 0]
        assert [x["cmd"] for x in r.lines("answer")] == [word.split()[0].decode()]


def test_service_is_left_only_where_the_contactors_are_seen_open():
    for word in (b"service", b"reset"):
        r = _closed()
        r.board.stuck[0] = 1  # welded
        r.board.console.give(word + b" yes\n")
        r.run(1000)
        answer = r.lines("answer")[-1]
        assert answer["cmd"] == word.decode() and answer["ok"] is False
        assert "closed" in answer["text"]
        assert not r.master.leaving
        assert r.board.coils[:3] == [0, 0, 0]
        r.board.console.give(word + b" anyway\n")
        r.run(100)
        assert r.lines("answer")[-1]["ok"] is True
        assert r.master.leaving


def test_service_anyway_does_not_say_that_coils_are_off_while_they_are_on():
    for word in (b"service", b"reset"):
        r = _closed()
        r.board.ma = -190000
        r.run(50)
        r.board.console.give(word + b" anyway\n")
        r.run(1000)
        assert r.board.coils[:3] == [1000, 0, 1000]  # `open_wait` for a lower current
        assert not r.master.leaving and r.lines("answer") == []
        r.run(2500)
        assert r.board.coils[:3] == [0, 0, 0]
        assert r.master.leaving and r.lines("answer")[-1]["ok"] is True


def test_service_waits_for_the_contactors_to_open():
    r = _closed()
    r.board.stuck = [1] * 9  # their travel
    r.board.console.give(b"service yes\n")
    r.run(100)
    assert not r.master.leaving and r.lines("answer") == []
    assert r.master.strings.close(r.master.clock.now) is not None
    r.board.stuck = [None] * 9
    r.run(100)
    assert r.master.leaving and r.lines("answer")[-1]["ok"] is True


def test_a_failed_self_test_closes_nothing():
    board = FakeBoard
    honest = board.self_test
    board.self_test = lambda self: b"coil output 1 is high"
    try:
        r = Rig()
    finally:
        board.self_test = honest
    r.run(2000)
    lines = r.lines()
    assert [x["self_test"] for x in lines if x["k"] == "boot"] == ["coil output 1 is high"]
    assert [x["name"] for x in lines if x["k"] == "event"] == ["self_test"]
    assert r.master.strings.close(r.master.clock.now) is not None
    assert r.say("clear")["ok"] is False


def _tests_itself(results, **more):
    """A master whose board says the next of `results` at each step of its self-test, of 8 ms."""
    board = FakeBoard
    honest = board.self_test
    board.self_test = lambda self: results.pop(0) if len(results) > 1 else results[0]
    try:
        r = Rig(**more)
    finally:
        board.self_test = honest

    def step():
        r.board.clock.pass_ms(8)
        return results.pop(0) if len(results) > 1 else results[0]

    r.board.self_test = step
    return r


def test_nothing_closes_while_the_self_test_runs():
    results = [b"running"]
    r = _tests_itself(results, inputs="ignition = true")
    r.run(1500)
    (boot,) = r.lines("boot")
    assert boot["self_test"] == "running"
    assert r.master.pack.cell.complete and r.master.pack.known[0]
    no = r.say("close")
    assert no["ok"] is False and "self-test is running" in no["text"]
    r.board.bits = 7 | 16  # ignition
    r.run(200)
    r.board.bits = 7
    r.run(200)
    for which in range(len(r.master.strings.each)):
        assert r.master.strings.each[which].close(r.master.clock.now) is not None
    assert r.board.history == [] and r.names() == []
    results[:] = [b"ok"]
    r.run(300)
    assert [x["self_test"] for x in r.lines("boot")] == ["ok"]
    assert r.board.history == []  # what was refused is not done later
    assert r.say("close")["ok"] is True
    r.run(1000)
    assert r.state == CLOSED


def test_the_master_polls_while_the_self_test_runs_and_steps_it_no_more_afterwards():
    stepped = []
    r = _tests_itself([b"running"] * 50 + [b"ok"])
    step = r.board.self_test
    r.board.self_test = lambda: (stepped.append(r.master.scans), step())[1]
    r.run(1500)
    assert len(stepped) == 50 and stepped[-1] <= 10  # one call was in the constructor
    assert r.master.scans >= 14 and r.master.pack.cell.complete
    assert r.board.feeds
    r.run(1500)
    assert len(stepped) == 50


def test_a_self_test_that_fails_behind_the_start_closes_nothing():
    results = [b"running"]
    r = _tests_itself(results)
    r.run(1000)
    assert r.names() == []
    results[:] = [b"a file of the firmware is damaged"]
    r.run(300)
    lines = r.lines()
    assert [x["self_test"] for x in lines if x["k"] == "boot"][-1] == results[0].decode()
    assert [x["name"] for x in lines if x["k"] == "event"] == ["self_test"]
    assert r.say("clear")["ok"] is False
    no = r.say("close")
    assert no["ok"] is False and "fault" in no["text"]
    assert r.board.history == []


def test_a_refused_service_does_not_end_the_lock_of_the_self_test():
    results = [b"running"]
    r = _tests_itself(results)
    r.board.stuck[0] = 1  # welded
    r.run(1500)
    r.type("service yes")
    r.run(1000)
    assert not r.master.leaving and r.lines("answer")[-1]["ok"] is False
    r.board.stuck[0] = None
    assert "self-test" in r.say("close")["text"]
    r.type("service yes")
    r.run(20)
    results[:] = [b"ok"]  # and the end of the test not that of the program's end
    r.run(100)
    assert r.master.leaving
    assert b"end" in r.master.strings.close(r.master.clock.now)


def test_nothing_is_balanced_while_the_self_test_runs():
    results = [b"running"]
    r = _tests_itself(results)
    r.boards[0].mv = [3400, 3450, 3400, 3400]
    r.boards[1].mv = [3400] * 4
    r.run(5000)
    assert not any(mask for mask, _s in r.boards[0].balance_commands)
    results[:] = [b"ok"]
    r.run(5000)
    assert r.boards[0].balance_commands[-1] == (2, 5)


def test_the_wait_is_never_negative_and_never_long():
    r = Rig()
    waits = []
    wait = r.board.wait
    r.board.wait = lambda ms: (waits.append(ms), wait(ms))[1]
    r.run(3000)
    assert min(waits) >= 0
    assert max(waits) <= 25


def test_a_sensor_that_is_polled_is_read_in_time():
    for medium in ("adc", "i2c"):
        table = '[[sensor]]; kind = "hall"; channel = 0; zero = "1650 mV"; span = "1320 mV"'
        if medium == "i2c":
            table = '[[sensor]]; kind = "ina228"; link = "i2c0"; shunt = "100 uohm"'
        r = Rig(behind=table + '; range = "500 A"')
        r.run(1500)
        assert r.say("close")["ok"] is True
        r.run(1000)
        assert r.state == CLOSED
        r.board.mv[0] = 1650 + 1188  # 450 A
        if r.board.chip is not None:
            r.board.chip.shunt_uv = 45000
        start = r.board.clock.total_ms
        while r.board.coils[2] and r.board.clock.total_ms < start + 500:
            r.step()
        # two of three values: 8 ms each of the ADC, 6 ms of the chip, besides the one begun
        assert r.board.clock.total_ms - start <= 28, medium
        assert r.names() == ["current_hard"]


def test_a_clock_that_jumps_catches_no_scan_up():
    r = Rig()
    r.run(1000)
    r.board.clock.pass_ms(60000)
    scans = r.master.scans
    r.run(1000)
    assert r.master.scans - scans <= 13


def test_build_refuses_what_does_not_fit_the_board():
    from bms.config.errors import ConfigError

    error = raises(ConfigError, lambda: Rig(slaves=62, cells=32, scan='scan_period = "20 ms"'))
    assert "longer than scan_period" in error.reason
