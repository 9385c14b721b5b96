"""`bmsctl run`: the firmware on this computer against boards behind a real terminal."""

import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulated import PACK, SimulatedBoards
from terminal import HANG_S, Tool, until
from test_log import split

# boards that share a busy computer with the tests may answer late
AGES = 'cell_age = "3 s"\ntemp_age = "3 s"\n'


class Output:
    """A process's stdout, or another pipe of it, waited on for words; unbuffered here."""

    def __init__(self, process: Any, pipe: Any = None) -> None:
        self.process = process
        self.pipe = pipe or process.stdout
        self.text = ""

    def say(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def until(self, words: str) -> None:
        pipe = self.pipe
        end = time.monotonic() + HANG_S
        while words not in self.text:
            assert time.monotonic() < end, f"waited in vain for {words!r} in {self.text!r}"
            if select.select([pipe.fileno()], [], [], 0.2)[0]:
                got = os.read(pipe.fileno(), 65536).decode()
                assert got, f"ended without {words!r}: {self.text!r}"
                self.text += got


@pytest.fixture
def pack(tmp_path: Path):
    def write(medium: str) -> Path:
        path = tmp_path / "pack.toml"
        text = PACK.format(port="can0" if medium == "can" else "uart0")
        path.write_text(text.replace("[contactors]", AGES + "[contactors]"))
        return path

    return write


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
@pytest.mark.parametrize("kind", ["slcan", "uart"])
def test_boards_are_found_closed_and_tripped(
    kind: str, runtime: str, pack, bmsctl: Tool, tmp_path: Path
) -> None:
    medium = "can" if kind == "slcan" else "uart"
    rate = 500000 if kind == "slcan" else 1000000
    boards = SimulatedBoards(tmp_path / "ttyUSB0", medium, 2)
    try:
        process = bmsctl.start(
            "run", "--config", pack(medium), "--link", f"{kind}:{boards.terminal.link}@{rate}",
            "--runtime", runtime, "--log", tmp_path / "log",
        )  # fmt: skip
        out = Output(process)
        out.until("slaves found: 2")
        out.say("close")
        out.until("contactors: closed")
        boards.mv = 3850.0
        out.until("TRIP set: cell_hard_high")
        out.until("contactors: open")
        out.say("service yes")
        assert process.wait(HANG_S) == 0
    finally:
        boards.close()
    (path,) = (tmp_path / "log").glob("run-*.jsonl")
    _, hosts = split(path)  # the computer's time each second, as `log` writes it
    assert [hosts[0]["what"], hosts[-1]["what"]] == ["connected", "end"]
    assert any(host["what"] == "mark" and host["t_ms"] and host["utc"] for host in hosts)


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[SimulatedBoards]:
    """Two boards on a CAN bus."""
    made = SimulatedBoards(tmp_path / "ttyACM0", "can", 2)
    yield made
    made.close()


def words(pack, boards: SimulatedBoards) -> tuple:
    return ("run", "--config", pack("can"), "--link", f"slcan:{boards.terminal.link}@500000")


def test_a_pack_file_comes_through_a_pipe(pack, bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "uart", 2)
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    link = f"uart:{boards.terminal.link}@1000000"
    try:
        for good in (False, True):
            process = bmsctl.start("run", "--config", fifo, "--link", link)
            text = pack("uart").read_text("utf-8")
            fifo.write_text(text if good else text.replace("cells = ", "cells = 1"), "utf-8")
            if good:
                out = Output(process)
                out.until("slaves found: 2")
                out.say("service yes")
                assert process.wait(HANG_S) == 0
            else:
                _, err = process.communicate(timeout=HANG_S)
                assert process.returncode == 1 and err.startswith(f"bmsctl: {fifo}: line ")
    finally:
        boards.close()


def test_typed_commands_show_their_answers(pack, boards: SimulatedBoards, bmsctl: Tool) -> None:
    out = Output(bmsctl.start(*words(pack, boards)))
    out.until("slaves found: 2")
    for typed, shown in (
        ("help", "precharge and close the contactors"),
        ("status", "cells 3.2"),
        ("cells", "board 2, cells 9-16 mV: "),
        ("limits", "cell_max_mv = "),
        ("balance off", "balance: ok, off"),
        ("faults", "faults: ok"),
        ("version", "heap_free"),
        ("nonsense", "refused: ?: unknown command"),
        ("close", "close: ok"),
    ):
        out.text = ""
        out.say(typed)
        out.until(shown)
    out.text = ""
    out.until(" A cells 3.2")
    out.until(" A cells 3.2")
    assert "board 2" not in out.text and "heap_free" not in out.text  # the stream stays away


def test_a_full_disk_does_not_end_the_master(
    pack, boards: SimulatedBoards, bmsctl: Tool, tmp_path: Path
) -> None:
    process = bmsctl.start(*words(pack, boards), "--log", "log")
    out = Output(process)
    out.until("slaves found: 2")
    out.say("close")
    out.until("contactors: closed")
    full = subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=100"], check=False)
    if full.returncode:
        pytest.skip("no prlimit here")
    err = Output(process, process.stderr)
    err.until("going on without a record")
    out.text = ""
    out.say("status")
    out.until("status: ok")
    assert "contactors: open" not in out.text
    out.say("service yes")
    assert process.wait(HANG_S) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_behind_stdout_does_not_end_the_master(
    pack, boards: SimulatedBoards, bmsctl: Tool, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as device:
        process = bmsctl.start(*words(pack, boards), "--log", "log", stdout=device)
    out = Output(process, process.stderr)
    out.until("bmsctl: output: No space left on device; going on without it")
    path = until(lambda: next((tmp_path / "log").glob("run-*.jsonl"), None), "there is a record")
    until(lambda: b'"known":2' in path.read_bytes(), "the boards are found")
    out.say("close")
    until(lambda: b'"state":"closed"' in path.read_bytes(), "it closes")
    out.say("service yes")
    assert process.wait(HANG_S) == 1


def test_a_terminal_that_stands_still_does_not_hold_up_the_master(
    pack, boards: SimulatedBoards, bmsctl: Tool, tmp_path: Path
) -> None:
    master, slave = os.openpty()
    termios.tcflow(slave, termios.TCOOFF)  # as Ctrl-S does
    process = bmsctl.start(*words(pack, boards), "--log", "log", stdout=slave)
    out = Output(process)
    path = until(lambda: next((tmp_path / "log").glob("run-*.jsonl"), None), "there is a record")
    until(lambda: b'"known":2' in path.read_bytes(), "the boards are found")
    out.say("close")
    until(lambda: b'"state":"closed"' in path.read_bytes(), "it closes")
    boards.mv = 3850.0
    until(lambda: b'"cell_hard_high"' in path.read_bytes(), "it trips")
    process.kill()
    os.close(slave)
    os.close(master)


def test_an_adapter_that_vanishes_and_comes_back(pack, bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyACM0", "can", 2)
    process: Any = bmsctl.start(
        "run", "--config", pack("can"), "--link", f"slcan:{boards.terminal.link}@500000"
    )
    try:
        out = Output(process)
        out.until("slaves found: 2")
        boards.terminal.vanish()
        out.until("TRIP set: cell_lost")
        boards.terminal.plug()
        out.text = ""
        out.until(" A cells 3.2")  # readings are back; the trip stays latched
    finally:
        process.terminate()
        process.wait(HANG_S)  # else it may see the boards vanish once more
        boards.close()
    err = process.stderr.read()
    assert err.count("vanished") == 1
    assert err.count("is back") == 1


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("slcan:/dev/nowhere@500000", "/dev/nowhere: does not exist"),
        ("slcan:/etc/hostname@500000", "not a serial port"),
        ("socketcan:nocan7", "nocan7"),
    ],
)
def test_a_port_that_is_none_is_one_line_and_exit_1(
    link: str, said: str, pack, bmsctl: Tool
) -> None:
    code, _out, err = bmsctl.run("run", "--config", pack("can"), "--link", link)
    assert (code, err.count("\n")) == (1, 1)
    assert said in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--link", "carrier_pigeon:x"), "carrier_pigeon"),
        (("--link", "slcan:/dev/null@fast"), "fast"),
        (("--link", "slcan:/dev/null@333333"), "slcan has no 333333 bit/s"),
        (("--link", "slcan:/dev/null@0"), "0 is no rate"),
        (("--link", "socketcan:can0@500000"), "ip link set can0"),
        (("--link", "can9=slcan:/dev/null"), "the pack file uses can0, not can9"),
        (
            ("--link", "uart:/dev/null"),
            "--link uart:/dev/null: cell_link is on can0, a CAN port, which takes slcan or",
        ),
        (("--link", "slcan:/dev/null", "--link", "slcan:/dev/zero"), "can0 is given twice"),
        (("--link", "slcan:/dev/null", "--for", "-1"), "-1 is not above 0"),
    ],
)
def test_wrong_usage_is_exit_2(args: tuple, said: str, pack, bmsctl: Tool) -> None:
    code, out, err = bmsctl.run("run", "--config", pack("can"), *args)
    assert (code, out) == (2, "") and said in err
    assert err.count("\n") == 1 or "--for" in args


@pytest.mark.parametrize(
    ("kind", "port", "said"),
    [
        ("jk_pb", "can0", "line 18: link: jk_pb speaks over uart: can0 is a CAN port"),
        ("bmw_i3", "uart0", "line 18: link: bmw_i3 speaks over can: uart0 is a UART port"),
        ("cell_link", "banana", "line 18: link: no board has a port banana: write can0"),
        ("cell_link", "can", "line 18: link: no board has a port can: write can0"),
    ],
)
def test_a_port_that_no_board_of_the_kind_is_on(
    kind: str, port: str, said: str, bmsctl: Tool, tmp_path: Path
) -> None:
    path = tmp_path / "pack.toml"
    path.write_text(PACK.format(port=port).replace("cell_link", kind))
    for link in ("uart:/dev/null", "slcan:/dev/null"):
        code, out, err = bmsctl.run("run", "--config", path, "--link", link)
        assert (code, out) == (1, "") and f"{path}: {said}" in err


def test_a_pack_file_that_the_firmware_refuses_is_no_console(bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "uart", 0, "jk_pb")
    path = tmp_path / "pack.toml"
    path.write_text(PACK.format(port="uart0").replace("cell_link", "jk_pb"))
    try:
        link = f"uart:{boards.terminal.link}"
        code, out, err = bmsctl.run("run", "--config", path, "--link", link)
    finally:
        boards.close()
    assert (code, out) == (1, "") and "cell_age" in err


def test_ctrl_c_is_130_and_the_time_s_end_0(pack, bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyACM0", "can", 2)
    args = ("run", "--config", pack("can"), "--link", f"slcan:{boards.terminal.link}")
    try:
        assert bmsctl.run(*args, "--for", "0.5")[0] == 0
        process = bmsctl.start(*args)
        Output(process).until("console for other programs: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 130
    finally:
        boards.close()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("cells = 16", "cells = 17", 4, "cells: the pack has 17 cells but the slaves bring 16"),
        ('"20 Ah"', '"20 V"', 5, "capacity: wrong unit V"),
        ("chemistry", "chemistri", 3, "chemistri: unknown key"),
        ('"60 A"', '"10 A"', 9, "must be below"),
    ],
)
def test_a_bad_pack_file_is_refused_by_file_line_and_reason(
    old: str, new: str, line: int, said: str, pack, bmsctl: Tool
) -> None:
    path = pack("can")
    path.write_text(path.read_text().replace(old, new))
    code, _out, err = bmsctl.run("run", "--config", path, "--link", "slcan:/dev/null")
    assert code == 1
    assert f"{path}: line {line}: " in err
    assert said in err
