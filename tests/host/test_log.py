"""`bmsctl log` on real pseudo-terminals: not a line is lost, and no damaged one becomes data."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from terminal import Board, Tool, until

from bmsctl.backlog import Backlog
from bmssim.lines import LineReader, encode, whole
from extent import HANG_S


def line(number: int) -> bytes:
    return encode({"k": "status", "t_ms": number, "cell_mv": [3300 + number % 9] * 16})


def record(folder: Path) -> Path:
    """The one record in a folder, as soon as it is there."""
    until(lambda: list(folder.glob("*.jsonl")), "there is a record")
    (path,) = folder.glob("*.jsonl")
    return path


def split(path: Path) -> tuple[list[bytes], list[dict]]:
    """The master's lines as they stand in the record, and the record's own."""
    masters: list[bytes] = []
    hosts: list[dict] = []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    reader = LineReader()
    for read in reader.feed(whole):
        assert read.obj is not None, read
        if read.obj["k"] == "host":
            hosts.append(read.obj)
        else:
            masters.append(read.raw + b"\n")
    return masters, hosts


def aside(path: Path, suffix: str) -> bytes:
    """What was kept apart from the record, b"" for nothing."""
    file = Path(f"{path}.{suffix}")
    return file.read_bytes() if file.exists() else b""


def finish(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


def test_no_line_of_many_is_lost_and_damage_is_kept_aside(
    board: Board, bmsctl: Tool, tmp_path: Path
) -> None:
    process = bmsctl.start("log", "--port", board.link, "--out", "out", "--json")
    path = record(tmp_path / "out")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    good, bad, text = [], [], []
    for burst in range(200):
        data = b""
        for number in range(burst * 110, burst * 110 + 110):
            good.append(line(number))
            data += good[-1]
        bad.append(line(burst)[:30] + line(burst + 1)[:-1])
        bad.append(line(burst)[:-1].replace(b"3", b"4", 1))
        text.append(b"burst %d \xe2\x82\xac" % burst)
        board.say(bad[-2] + b"\n" + data + bad[-1] + b"\n" + text[-1] + b"\n")
    until(lambda: path.read_bytes().count(b"\n") >= len(good), "all is written")
    until(lambda: not board.unread(), "all is read")
    out, _ = finish(process)
    masters, hosts = split(path)
    assert len(good) >= 20_000 and masters == good
    assert [x.split(b" ", 1)[1] for x in aside(path, "damaged").splitlines()] == bad
    assert [x.split(b" ", 1)[1] for x in aside(path, "txt").splitlines()] == text
    summary = json.loads(out)
    del summary["paused"]
    assert summary == {
        "file": str(path.relative_to(tmp_path)),
        "lines": len(good),
        "damaged": len(bad),
        "text": len(text),
        "losses": 0,
        "removed": 0,
    }
    assert [hosts[0]["what"], hosts[-1]["what"]] == ["connected", "end"]
    assert hosts[0]["t_ms"] is None and hosts[-1]["t_ms"] == len(good) - 1
    assert hosts[-1]["lines"] == len(good) and hosts[-1]["damaged"] == len(bad)
    times = [host["t_host_ms"] for host in hosts]
    assert times == sorted(times)


def test_a_removed_folder_begins_anew_and_is_reported(
    board: Board, bmsctl: Tool, tmp_path: Path
) -> None:
    process = bmsctl.start("log", "--port", board.link, "--out", "out", "--json")
    path = record(tmp_path / "out")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    board.say(b"".join(map(line, range(500))) + b"text\n")
    until(lambda: b'"t_ms":499,' in path.read_bytes(), "it is read")
    until(lambda: aside(path, "txt"), "the text is read")
    shutil.rmtree(path.parent)
    board.say(b"".join(map(line, range(500, 600))))
    until(lambda: path.exists() and b'"t_ms":599,' in path.read_bytes(), "it is read")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_S)
    masters, _ = split(path)
    assert masters == [line(number) for number in range(500, 600)]  # none after the removal is lost
    removed = json.loads(out)["removed"]
    assert process.returncode == 1 and removed >= 500
    assert f"was removed while it was written: {removed} of these lines are gone" in err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux shows it")
def test_a_flood_waits_in_a_bounded_memory(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    process = bmsctl.start("log", "--port", board.link, "--out", "out", "--json")
    path = record(tmp_path / "out")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")

    def most_kib() -> int:
        text = Path(f"/proc/{process.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0])

    before = most_kib()
    flood = b"".join(map(line, range(1000)))
    for _ in range(100):  # 14 MB
        board.say(flood)
    until(lambda: not board.unread(), "all is read")
    assert most_kib() - before < 6000
    out, _ = finish(process)
    assert json.loads(out)["lines"] == 100_000


def test_who_puts_waits_for_room_and_is_counted() -> None:
    backlog = Backlog(10)
    stop = threading.Event()
    assert backlog.put(b"123456789", 9, stop) and backlog.paused == 0
    assert not backlog.put(b"abc", 3)  # who can't wait is refused
    waiting = threading.Thread(target=backlog.put, args=(b"abc", 3, stop))
    waiting.start()
    until(lambda: backlog.paused == 2, "it waits")
    assert [item for _, item in backlog.take(0)] == [b"123456789"]
    waiting.join()
    assert [item for _, item in backlog.take(0)] == [b"abc"]
    stop.set()  # what was read already is kept when it ends
    assert backlog.put(b"123456789", 9, stop) and backlog.put(b"abc", 3, stop)


def test_a_line_costs_few_calls() -> None:
    """`log` may take three times the CPU of a plain terminal program: it parses no JSON."""
    reader = LineReader(whole)
    data = b"".join(map(line, range(1000)))
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    reader.feed(data)
    sys.setprofile(None)
    assert reader.data == 1000 and calls <= 9 * 1000, calls


def test_kill_leaves_all_that_was_there_a_second_before(
    board: Board, bmsctl: Tool, tmp_path: Path
) -> None:
    process = bmsctl.start("log", "--port", board.link, "--out", "out")
    path = record(tmp_path / "out")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    board.say(b"".join(map(line, range(500))))
    # the next mark after the last line: a second is over
    until(lambda: b'"lines":500,' in path.read_bytes(), "a second is over")
    board.say(b"".join(map(line, range(500, 600))))
    process.kill()
    process.wait()
    masters, _ = split(path)
    assert masters[:500] == [line(number) for number in range(500)]


def test_unplugged_and_plugged_in_again(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    process = bmsctl.start("log", "--port", board.link, "--out", "out")
    path = record(tmp_path / "out")
    for n in range(3):
        until(lambda t=n: path.read_bytes().count(b'"connected"') == t + 1, "it is connected")
        board.say(b"".join(map(line, range(n * 100, n * 100 + 100))))
        until(lambda t=n: path.read_bytes().count(b"status") == t * 100 + 100, "it is read")
        if n < 2:
            # text in the same write: once it is read, the half line behind it is there too
            board.say(b"text %d\n" % n + line(7)[:40])
            until(lambda t=n: b"text %d" % t in aside(path, "txt"), "that text is read")
            board.unplug()
            until(lambda t=n: path.read_bytes().count(b'"lost"') == t + 1, "it is missed")
            board.plug()
    _, err = finish(process, signal.SIGTERM)
    masters, hosts = split(path)
    assert masters == [line(number) for number in range(300)]
    changes = [host["what"] for host in hosts if host["what"] != "mark"]
    assert changes == ["connected", "lost", "connected", "lost", "connected", "end"]
    halves = [x.split(b" ", 1)[1] for x in aside(path, "damaged").splitlines()]
    assert halves == [line(7)[:40]] * 2
    assert err.count("waiting for it") == 2 and err.count("is here") == 2


def test_the_name_moves_to_another_device(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    """A quiet device whose name went to another one is not listened to for ever."""
    process = bmsctl.start("log", "--port", board.link, "--out", "out")
    path = record(tmp_path / "out")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    old = board.master, board.slave
    board.plug()
    until(lambda: path.read_bytes().count(b'"connected"') == 2, "the new one is found")
    board.say(line(1))
    until(lambda: b"status" in path.read_bytes(), "it is read")
    finish(process)
    for fd in old:
        os.close(fd)


def test_a_port_that_comes_later(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    board.unplug()
    process = bmsctl.start("log", "--port", board.link, "--out", "out", "--wait")
    path = record(tmp_path / "out")
    board.plug()
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    board.say(line(1))
    until(lambda: b"status" in path.read_bytes(), "it is read")
    _, err = finish(process)
    assert "does not exist; " in err and "waiting for it" in err and "is here" in err


def test_a_port_that_never_comes_is_exit_1(board: Board, bmsctl: Tool) -> None:
    board.unplug()
    code, out, err = bmsctl.run("log", "--port", board.link, "--wait", "--for", "0.3")
    assert code == 1 and out.startswith("0 lines")
    assert err.endswith(f"bmsctl: {board.link} never came\n")


@pytest.mark.parametrize("sent", [b"\xf8" * 300, b"\xe3\x80\n" * 6])
def test_nothing_but_noise_gives_a_hint_at_the_baud_rate(
    sent: bytes, board: Board, bmsctl: Tool
) -> None:
    process = bmsctl.start("log", "--port", board.link, "--baud", "9600", "--quiet")
    assert process.stderr
    path = record(board.link.parent / "logs")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    board.say(sent)
    assert "no line of a master: is --baud 9600 right?" in process.stderr.readline()
    finish(process)


def test_it_ends_by_itself(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    code, out, err = bmsctl.run("log", "--port", board.link, "--for", "0.3", "--quiet")
    (path,) = (tmp_path / "logs").glob("ttyACM0-*.jsonl")
    assert code == 0 and err == ""
    assert out == f"0 lines, 0 damaged, in {path.relative_to(tmp_path)}\n"


def refused(result: tuple[int, str, str]) -> str:
    """The one line that says why."""
    code, out, err = result
    assert code == 1 and out == ""
    assert err.startswith("bmsctl: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("command", [["log"], ["console"], ["console", "status"], ["version"]])
def test_a_port_that_cannot_be_used(board: Board, bmsctl: Tool, command: list[str]) -> None:
    tmp_path = board.link.parent
    assert "does not exist" in refused(bmsctl.run(*command, "--port", tmp_path / "none"))
    (tmp_path / "file").write_text("")
    assert "is not a serial port" in refused(bmsctl.run(*command, "--port", tmp_path / "file"))
    assert "not a serial port" in refused(bmsctl.run(*command, "--port", tmp_path))
    # not a record is begun for it
    assert not (tmp_path / "logs").exists()


def test_a_busy_port(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    first = bmsctl.start("log", "--port", board.link)
    record(tmp_path / "logs")
    for command in (["log"], ["console"], ["console", "status"], ["version"]):
        assert "is busy" in refused(bmsctl.run(*command, "--port", board.link))
    finish(first)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_forbidden_port(board: Board, bmsctl: Tool) -> None:
    os.chmod(board.link, 0)
    assert "permission denied" in refused(bmsctl.run("log", "--port", board.link))


def test_a_folder_that_cannot_be_written(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused(bmsctl.run("log", "--port", board.link, "--out", "file"))


def test_a_full_disk_is_said(board: Board, bmsctl: Tool, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    process = bmsctl.start("log", "--port", board.link, "--out", "out", "--quiet")
    path = record(tmp_path / "out")
    until(lambda: b"connected" in path.read_bytes(), "the port is open")
    full = subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=100"], check=False)
    if full.returncode:
        pytest.skip("no prlimit here")
    board.say(line(1))
    code = process.wait(HANG_S)
    assert process.stderr is not None
    err = process.stderr.read()
    assert code == 1 and err.startswith("bmsctl: ") and err.count("\n") == 1, err


@pytest.mark.parametrize("words", [["--for", "0"], ["--for", "x"], ["--baud", "0"], []])
def test_wrong_usage(bmsctl: Tool, words: list[str]) -> None:
    port = ["--port", "none"] if words else []
    code, _, err = bmsctl.run("log", *port, *words)
    assert code == 2 and "usage: bmsctl log" in err
