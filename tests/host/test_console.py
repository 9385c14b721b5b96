"""`bmsctl console` and `version --port` with a board that answers, refuses, or says nothing."""

import json
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
    assert process.wait(60) == 0


def test_a_port_that_vanishes_before_the_answer(board: Board, bmsctl: Tool) -> None:
    process = bmsctl.start("console", "--port", board.link, "--timeout", "60", "open")
    assert [board.hear(), board.hear()] == [b"", b"open"]
    board.unplug()
    assert process.wait(60) == 1
    assert process.stderr is not None
    err = process.stderr.read()
    assert "vanished" in err and err.count("\n") == 1


def test_version_of_a_master(board: Board, bmsctl: Tool, received: list[bytes]) -> None:
    code, out, _ = bmsctl.run("version", "--port", board.link, "--json")
    assert code == 0
    assert json.loads(out)["master"]["version"] == "9.9.9"
    until(lambda: b"version" in received, "the command came")
