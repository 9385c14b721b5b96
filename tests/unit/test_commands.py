"""What comes in over the serial port: every command, and everything that is none."""

from bms.console import commands
from bms.console.line_kinds import KINDS
from bms.console.telemetry import COMMANDS
from bms.contactors.sequence import CLOSED, CLOSING_MINUS, OPEN
from bms.protection import fault_ids as F
from fakes import Random, Rig


def _rig(**tables):
    r = Rig(slaves=1, **tables)
    r.run(1500)
    r.lines()
    return r


ROWS = [row.split("\t") for row in COMMANDS.decode().split("\n")[:-1]]
WORDS = [word for word, _text in ROWS]


def test_the_numbers_of_commands_are_their_places():
    assert [getattr(commands, word.upper()) for word in WORDS] == list(range(len(WORDS)))


def test_every_command_is_answered():
    for word in WORDS:
        r = _rig()
        answer = r.say(word)
        assert answer["cmd"] == word
        assert answer["ok"] == (word not in ("reset", "service", "pack")), word  # there is no file
        assert isinstance(answer["text"], str)
        assert not r.master.leaving


def test_help_names_every_command():
    r = _rig()
    r.type("help")
    r.run(400)
    assert [[x["cmd"], x["text"]] for x in r.lines("help")] == ROWS


def test_status_and_cells():
    r = _rig()
    r.type("status")
    r.type("cells")
    r.run(100)
    lines = r.lines()
    status = [x for x in lines if x["k"] == "status"][0]
    assert (status["state"], status["pack_mv"], status["known"]) == ("open", 13200, 1)
    cells = [x for x in lines if x["k"] == "cells"][0]
    assert cells["cell_mv"] == [3300] * 4
    assert cells["temp_dc"] == [250] * 2


def test_faults_events_clear():
    r = _rig()
    r.boards[0].mv[1] = 3800
    r.run(150)
    r.lines()
    r.type("faults")
    r.run(60)
    faults = r.lines("fault")
    assert [f["name"] for f in faults] == ["cell_hard_high"]
    assert (faults[0]["index"], faults[0]["value"], faults[0]["place"]) == (2, 3800, "cell")
    assert (faults[0]["active"], faults[0]["latched"], faults[0]["level"]) == (1, 1, "trip")
    answer = r.say("clear")
    assert answer["ok"] is False
    assert "still active" in answer["text"]
    r.boards[0].mv[1] = 3300
    r.run(200)
    assert r.say("clear")["ok"] is True
    assert r.names() == []
    r.type("events")
    r.run(60)
    assert [e["what"] for e in r.lines("past_event")] == ["set", "acknowledged"]


def test_close_and_open():
    r = _rig()
    assert r.say("close")["ok"] is True
    assert r.state == CLOSING_MINUS
    answer = r.say("close")
    assert (answer["ok"], answer["text"]) == (False, "already closed or closing")
    r.run(1000)
    assert r.state == CLOSED
    assert r.say("open")["ok"] is True
    assert r.board.coils[:3] == [0, 0, 0]
    answer = r.say("close")
    assert (answer["ok"], answer["text"]) == (False, "opened a moment ago: wait")


def test_close_says_why_not():
    r = Rig(slaves=1)
    r.boards[0].alive = False
    r.run(1000)
    answer = r.say("close")
    assert answer["ok"] is False
    assert "slave" in answer["text"]
    assert r.board.history == []


def test_balance():
    r = _rig()
    assert r.say("balance")["text"] == "on"
    assert r.say("balance off")["text"] == "off"
    assert r.say("balance")["text"] == "off"
    assert r.master.balancing.wanted is False
    for bad in (
        "balance maybe",
        "balance on off",
        "balance o",
        "balance onn",
        "balancexon",
    ):
        assert r.say(bad)["ok"] is False
        assert r.master.balancing.wanted is False
    assert r.say("balance on")["text"] == "on"
    assert r.master.balancing.wanted is True


def test_limits_and_config():
    r = _rig()
    r.type("limits")
    r.run(600)
    limits = [x["name"] for x in r.lines("setting")]
    assert "cell_max_mv" in limits
    assert "scan_period_ms" not in limits
    r.type("config")
    r.run(1200)
    settings = {}
    for x in r.lines("setting"):
        settings[x["name"]] = x["value"]
    assert settings["cell_max_mv"] == 3650
    assert settings["scan_period_ms"] == 100
    assert settings["cells"] == 4
    assert settings["contactor_feedback"] == 1
    for name in limits:
        assert name in settings


def test_version():
    r = _rig()
    r.type("version")
    r.run(100)
    lines = r.lines()
    assert [x for x in lines if x["k"] == "boot"][0]["board"] == "FAKE"
    assert [x for x in lines if x["k"] == "mem"][0]["heap_used"] == 1234


def test_unlock_words():
    for word in ("reset", "service"):
        for line in (
            word,
            word + " no",
            word + " yess",
            word + " y",
            word + " yes please",
            word + "xyes",
        ):
            r = _rig()
            r.say("close")
            answer = r.say(line)
            assert answer["ok"] is False, line
            assert "yes" in answer["text"] or line == word + "xyes"
            assert r.state != OPEN
            assert not r.master.leaving
        r = _rig()
        r.say("close")
        assert r.say(word + " yes")["ok"] is True
        assert r.board.coils[:3] == [0, 0, 0]
        assert r.master.leaving
        assert r.master.restart == (word == "reset")


def test_what_is_no_command():
    for line in (
        "hello",
        "closee",
        "clos",
        "close now",
        "open close",
        "close\topen",
        "cl\0ose",
        "close\x08",
        "x" * 39,
        "x" * 40,
        "x" * 41,
        "x" * 500,
    ):
        r = _rig()
        r.board.console.give(line.encode() + b"\n")
        r.run(1000)
        answers = r.lines("answer")
        assert len(answers) == 1, line
        assert answers[0]["ok"] is False, line
        assert r.master.console.refused == 1
        assert r.board.history == []
        assert r.say("status")["ok"] is True  # the next one is heard


def test_what_people_type_is_understood():
    for typed, cmd in (
        ("status ", "status"),
        (" status", "status"),
        ("STATUS", "status"),
        ("Status\r", "status"),
        ("stax\x7ftus", "status"),
        ("\x7f\x08stax\x08tusss\x08\x08", "status"),
        ("help\t", "help"),
        ("\t clear  \t WELDED", "clear"),
        ("balance  on", "balance"),
        ("balance" + " " * 60 + "off" + " " * 60, "balance"),
        ("limitsx\x08" + "y\x08" * 60, "limits"),
        ("close\r", "close"),
    ):
        r = _rig()
        r.board.console.give(typed.encode() + b"\n")
        r.run(1000)
        answers = r.lines("answer")
        assert [x["cmd"] for x in answers] == [cmd], typed
        # clear welded: understood, though nothing is welded
        assert answers[0]["ok"] is True or answers[0]["text"] == "no feedback is wrong"
    r = _rig()
    r.say("balance  OFF ")
    assert r.master.balancing.wanted is False
    r.say("Service  YES")
    assert r.master.leaving


def test_a_refusal_gives_the_reason_that_fits():
    r = _rig()
    for typed, why in (
        ("st\xe4tus", "a character that no command has"),
        ("\x1b[Astatus", "a character that no command has"),  # an arrow key
        ("x" * 41, "line too long"),
        ("statsu", "unknown command: see help"),
        ("close now", "takes no such argument"),
    ):
        answer = r.say(typed, 400)
        assert (answer["ok"], answer["text"]) == (False, why), typed


def test_line_ends_and_empty_lines():
    r = _rig()
    r.board.console.give(b"\r\n\n\r\rstatus\r\n\n")
    r.run(100)
    assert len(r.lines("answer")) == 1


def test_an_answer_that_follows_another_one_changes_nothing_of_it():
    r = _rig()
    t = r.master.telemetry
    r.run(300)
    for pieces in range(1, 6):
        while t.busy():
            t.step()
        r.run(50)
        r.lines()
        t.answer(commands.CLOSE, False, b"no")
        for _ in range(pieces):
            t.step()
        waiting = t.answering()  # its line has not begun: the newer one takes its place
        t.answer(commands.OPEN, True, b"")
        r.run(100)
        found = [(x["cmd"], x["ok"], x["text"]) for x in r.lines("answer")]
        assert found == [("close", False, "no"), ("open", True, "")][1 if waiting else 0 :], pieces


def test_half_lines():
    r = _rig()
    for c in b"status":
        r.board.console.give(bytes([c]))
        r.run(50)
        assert r.lines("answer") == []
    r.board.console.give(b"\n")
    r.run(50)
    assert [x["cmd"] for x in r.lines("answer")] == ["status"]
    # a half line that is never ended is no command
    r.board.console.give(b"close")
    r.run(5000)
    assert r.board.history == []


def test_many_commands_at_once_are_each_answered_in_order():
    r = _rig()
    r.board.console.give(b"open\nclear\nfaults\nlimits\nbalance\nnone\nstatus\n")
    r.run(3000)
    answers = [x["cmd"] for x in r.lines("answer")]
    assert answers == ["open", "clear", "faults", "limits", "balance", "?", "status"]


def test_garbage_closes_nothing():
    random = Random(30)
    r = _rig()
    for _ in range(60):
        r.board.console.give(random.bytes(30))
        r.board.console.give(b"\n" if random.below(2) else b"")
        r.run(40)
        r.lines()
    assert r.board.history == []
    r.board.console.give(b"\n")
    while r.board.console.left():
        r.run(100)
        r.lines()
    r.run(100)
    assert r.board.history == []
    assert r.say("status")["ok"] is True


def test_no_close_while_leaving():
    # the contactors stay open between the word and the end of the program
    for word in (b"reset yes\n", b"service yes\n"):
        r = _rig(contactors='contactor_settle = "10 ms"; precharge_min = "0 ms"; reclose = "0 ms"')
        r.board.link = 13200
        r.run(50)
        r.board.console.give(word + b"close\n")
        r.run(190)
        assert r.board.history == [], word


def test_a_flood_does_not_stop_the_scans():
    r = _rig()
    before = r.master.scans
    for _ in range(100):
        r.board.console.give(b"nonsense " * 20)
        r.run(10)
    assert r.master.scans - before >= 9


def test_kinds_and_keys_of_every_line():
    r = _rig()
    known = {}
    for kind, keys, _ in KINDS:
        known[kind] = ["k", "t_ms"] + keys.split() + ["crc"]
    seen = set()
    r = Rig(slaves=1)
    r.run(1500)
    r.boards[0].mv[0] = 3800
    for word in ("faults", "strings", "close", "version", "limits", "events"):
        r.type(word)
        r.run(800)
        for line in r.lines():
            seen.add(line["k"])
            assert sorted(line) == sorted(known[line["k"]]), line
    commanded = {
        "totals",
        "crash",
        "stored_event",
        "frame_part",
        "pack_part",
        "stored_end",
    }  # test_history
    assert seen == set(known) - {"config_error", "host"} - commanded


def test_commands_stand_in_no_way_of_a_trip():
    r = _rig()
    r.say("close")
    r.run(1000)
    assert r.state == CLOSED
    r.boards[0].mv[1] = 3800
    for _ in range(12):
        r.board.console.give(b"events\nconfig\nfaults\n")
        r.run(10)
    assert r.board.coils[:3] == [0, 0, 0]
    assert r.master.faults.first == F.CELL_HARD_HIGH


def test_the_first_cause_is_listed_until_all_are_acknowledged():
    r = Rig()
    r.run(500)
    f = r.master.faults
    f.set(F.CELL_HIGH, 1, 3700)
    f.set(F.TEMP_HIGH, 1, 600)
    f.clear(F.CELL_HIGH, 1)
    assert r.say("clear")["ok"] is False
    r.type("faults")
    r.run(200)
    found = [(x["name"], x["latched"], x["first"]) for x in r.lines("fault")]
    assert found == [("cell_high", 0, 1), ("temp_high", 1, 0)]
