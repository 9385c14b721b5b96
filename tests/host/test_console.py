"""`bmsctl console` and `version --port` with a board that answers, refuses, or says nothing."""

import json
import re
import signal
import threading
from collections.abc import Iterator

import pytest
from terminal import Board, Tool, until

from bmssim.lines import encode
from extent import HANG_S

STATUS = encode({"k": "text", "t_ms": 1, "seen": 1})


def answer(cmd: str, ok: bool, text: str = "") -> bytes:
    return encode({"k": "answer", "t_ms": 2, "cmd": cmd, "ok": ok, "text": text})


REPLIES = {
    b"open": STATUS + answer("open", True, "contactors open"),
    b"close": b"noise {\n" + answer("open", True) + answer("close", False, "precharge failed"),
    b"faults": answer("faults", True)
    + encode({"k": "setting", "t_ms": 3, "name": "x", "value": 1}),
    b"limits": answer("limits", True)
    + b"".join(encode({"k": "setting", "t_ms": 3, "name": f"x{i}", "value": i}) for i in range(40)),
    b"version": answer("version", True)
    + encode({"k": "boot", "t_ms": 3, "version": "9.9.9", "board": "NONE"}),
    b"late": answer("open", True),
    b"damaged": answer("damaged", True)[:-9] + b'X0000"}\n',
}


@pytest.fixture
def received(board: Board) -> Iterator[list[bytes]]:
    """What a board that answers was sent, line by line; it ends at the line `end`."""
    lines: list[bytes] = []

    def serve() -> None:
        while True:
            lines.append(board.hear())
            if lines[-1] == b"end":
                return
            if lines[-1] in REPLIES:
                board.say(REPLIES[lines[-1]])
            elif lines[-1] not in (b"", b"mute"):
                board.say(answer("?", False, "unknown command: see help"))

    thread = threading.Thread(target=serve)
    thread.start()
    yield lines
    with open(board.link, "wb", buffering=0) as port:
        port.write(b"\nend\n")
    thread.join()


def test_yes(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    code, out, err = bmsctl.run("console", "--port", board.link, "open")
    assert (code, out, err) == (0, "open: ok, contactors open\n", "")
    assert received == [b"", b"open"]  # the empty line ends what another program left half sent


def test_no(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    code, out, _ = bmsctl.run("console", "--port", board.link, "close")
    assert code == 1 and "precharge failed" in out


def test_unknown(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    code, out, _ = bmsctl.run("console", "--port", board.link, "balance", "sideways")
    assert code == 1 and "unknown command" in out
    assert received[-1] == b"balance sideways"


def test_json(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    code, out, _ = bmsctl.run("console", "--port", board.link, "--json", "close")
    obj = json.loads(out.splitlines()[-1])
    assert code == 1
    assert (obj["k"], obj["cmd"], obj["ok"]) == ("answer", "close", False)


def test_the_lines_that_an_answer_announces(
    board: Board, bmsctl: Tool, received: list[bytes]
) -> None:
    code, out, _ = bmsctl.run("console", "--port", board.link, "limits")
    assert code == 0
    assert [x for x in out.splitlines() if x.startswith("x")] == [f"x{i} = {i}" for i in range(40)]
    code, out, _ = bmsctl.run("console", "--port", board.link, "faults")
    assert (code, out) == (0, "faults: ok\n")


@pytest.mark.parametrize("command", ["mute", "late", "damaged"])
def test_no_answer(board: Board, bmsctl: Tool, received: list[bytes], command: str) -> None:
    code, out, err = bmsctl.run("console", "--port", board.link, "--timeout", "0.5", command)
    assert code == 1 and out == ""
    assert err.startswith("bmsctl: ") and "no answer" in err and err.count("\n") == 1


def test_a_command_is_one_line(board: Board, bmsctl: Tool) -> None:
    for word in ("open\nclose", "", "\x03"):
        code, _, err = bmsctl.run("console", "--port", board.link, word)
        assert code == 2 and "no command word" in err


def cells(slave: int) -> dict:
    first = 16 * slave - 15
    mv, dc = [3300 + slave] * 16, [251, 252]
    return {
        **{"k": "cells", "t_ms": 5, "slave": slave, "first_cell": first, "cell_mv": mv},
        **{"temp_dc": dc, "stack_mv": 52_800, "balance_mask": [0, 0]},
    }


def event(**more: object) -> dict:
    names = {"k": "event", "t_ms": 9000, "what": "set", "name": "cell_high", "code": 3}
    where = {"level": "trip", "string": 1, "place": "cell", "index": 33, "value": 3651}
    return {**names, **where, "at_ms": 8000, **more}


POWER = {"k": "power", "t_ms": 6, "soc_pm": 797, "charge_ma": 40_000, "charge_mv": 233_600}
STREAM = b"".join(map(encode, [cells(1), cells(2), cells(3), POWER]))
NOISE = b"\x1b[2J\x1b]0;gotcha\x07\x9b31m\xff\x00\n"


def talk(board: Board, bmsctl: Tool, sent: bytes, *words: str) -> tuple[str, str]:
    """What the console shows of bytes of a board, and its stderr."""
    process = bmsctl.start("console", "--port", board.link, *words)
    assert process.stdin
    process.stdin.write("open\n")
    process.stdin.flush()
    assert [board.hear(), board.hear()] == [b"", b"open"]
    board.say(sent + answer("open", True, "last"))
    out, err = process.communicate(timeout=HANG_S)
    return out, err


def test_the_stream_is_shown_to_who_watches_only(board: Board, bmsctl: Tool) -> None:
    out, _ = talk(board, bmsctl, 9 * STREAM + encode(event()) + STREAM)
    assert len(out.splitlines()) == 2 and "trip set: cell_high" in out and "last" in out
    out, _ = talk(board, bmsctl, 9 * STREAM, "--watch")
    assert len(out.splitlines()) == 37


def test_a_wanted_round_is_shown_once(board: Board, bmsctl: Tool) -> None:
    sent = STREAM + answer("cells", True) + STREAM + STREAM + answer("strings", True) + STREAM
    out, _ = talk(board, bmsctl, sent)
    assert [x.split(", ")[0][-7:] for x in out.splitlines() if "board" in x] == [
        "board 1",
        "board 2",
        "board 3",
    ]


def test_cells_by_board_values_with_units_times_of_the_clock(board: Board, bmsctl: Tool) -> None:
    fault = event(k="fault", active=1, latched=1, first=1, count=1)
    sent = STREAM + b"".join(
        map(
            encode,
            (
                event(),
                event(code=9, name="temp_high", place="temp", index=6, value=551),
                event(code=14, name="charge_current", place="string", index=2, value=61_234),
                event(code=82, name="interlock", place="", index=None, value=0),
                event(code=22, name="slave_alarm", place="slave", index=2, value=513),
                {k: v for k, v in fault.items() if k != "what"},
            ),
        )
    )
    out, _ = talk(board, bmsctl, sent)
    lines = out.splitlines()
    clock = r"\d\d:\d\d:\d\d"
    for line, text in zip(
        lines,
        (
            r"trip set: cell_high cell 33 = board 3, cell 1: 3651 mV",
            r"trip set: temp_high temp 6 = board 3, sensor 2: 55.1 degC",
            r"trip set: charge_current string 2: 61.2 A",
            r"trip set: interlock",
            r"trip set: slave_alarm slave 2: flags 0x201",
            r"trip active: cell_high cell 33 = board 3, cell 1: 3651 mV",
        ),
        strict=False,
    ):
        first = ", the first trip" if "active" in text else ""
        assert re.fullmatch(rf"{clock}  {text} \(at (.* )?{clock}{first}\)", line), line
    out, _ = talk(board, bmsctl, STREAM, "--watch")
    assert "power: soc 79.7 %, charge 40.0 A, charge 233.600 V" in out


def test_noise_reaches_no_terminal_as_it_is(board: Board, bmsctl: Tool) -> None:
    noted = encode({"k": "answer", "t_ms": 1, "cmd": "x", "ok": False, "text": "\x1b[31m\x07"})
    for words in ((), ("--watch",)):
        out, _ = talk(board, bmsctl, NOISE + noted + b"a text\n", *words)
        assert all(c.isprintable() or c == "\n" for c in out), out
        assert "x: NO, \\x1b[31m\\x07" in out and "a text" in out
        assert ("gotcha" in out) == bool(words)


def test_nothing_but_noise_is_answered_with_the_baud_rate(board: Board, bmsctl: Tool) -> None:
    hint = "what comes is no line of a master: is --baud 9600 right?"
    for sent in (6 * NOISE, b"\xf8" * 300):
        process = bmsctl.start("console", "--port", board.link, "--baud", "9600")
        assert process.stderr
        assert "type a command" in process.stderr.readline()
        board.say(sent)
        assert hint in process.stderr.readline()
        process.kill()
        process.wait()
        process = bmsctl.start(
            *("console", "--port", board.link, "--baud", "9600", "--timeout", "2", "status")
        )
        assert [board.hear(), board.hear()][1] == b"status"
        board.say(sent)
        _, err = process.communicate(timeout=HANG_S)
        assert process.returncode == 1 and "no answer to `status`" in err and hint in err


def test_talking(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    process = bmsctl.start("console", "--port", board.link)
    out, _ = process.communicate("open\n\nclose\n", timeout=HANG_S)
    assert process.returncode == 0
    # the keyboard ended, yet what it asked is answered
    assert "open: ok, contactors open" in out and "precharge failed" in out
    assert [x for x in received if x] == [b"open", b"close"]


def test_lines_as_they_come(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    process = bmsctl.start("console", "--port", board.link, "--raw")
    out, _ = process.communicate("open\n", timeout=HANG_S)
    assert REPLIES[b"open"].decode() == out


def test_talking_goes_on_after_a_replug(board: Board, bmsctl: Tool) -> None:
    process = bmsctl.start("console", "--port", board.link)
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write("open\n")
    process.stdin.flush()
    assert [board.hear(), board.hear()] == [b"", b"open"]
    board.say(answer("open", True, "first"))
    assert "first" in process.stdout.readline()
    board.unplug()
    assert "type a command" in process.stderr.readline()
    assert "waiting for it" in process.stderr.readline()
    board.plug()
    assert "is here" in process.stderr.readline()
    board.say(answer("open", True, "second"))
    assert "second" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG_S) == 0


def test_a_port_that_vanishes_before_the_answer(board: Board, bmsctl: Tool) -> None:
    process = bmsctl.start("console", "--port", board.link, "--timeout", "60", "open")
    assert [board.hear(), board.hear()] == [b"", b"open"]
    board.unplug()
    assert process.wait(HANG_S) == 1
    assert process.stderr is not None
    err = process.stderr.read()
    assert "vanished" in err and err.count("\n") == 1


def test_version_of_a_master(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    code, out, _ = bmsctl.run("version", "--port", board.link, "--json")
    assert code == 0
    assert json.loads(out)["master"]["version"] == "9.9.9"
    until(lambda: b"version" in received, "the command came")
