"""`bmsctl flash` end to end: a real MicroPython with a real file system behind a serial port.

Whatever interrupts it, and wherever: what the board starts afterwards is whole, or nothing.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from raw import BOARDS, RawBoard, be_patient, compiled, interrupted, leave, running
from terminal import piped

from bms.version import VERSION
from bmsctl import board_files, cli, flashing, mpremote, slots
from bmsctl.serial_port import open_port, read_some, wait_readable, write_all
from bmssim import scenario
from bmssim.micropython_path import find_micropython
from bmssim.setup import Setup
from extent import HANG_S, extent

REPLAY = Path(__file__).parent / "replay.py"
SWITCH = flashing.SWITCH
PACK = scenario.pack_text(
    Setup(slaves=1, cells=4, temps=1),
    {"link_sensor": False, "precharge_unproven": True, "current_sensor": False},
)


@pytest.fixture(autouse=True)
def boards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_files, "BOARDS", BOARDS)
    be_patient(monkeypatch)


@pytest.fixture(params=["lfs", "stm32"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RawBoard]:
    board = RawBoard(tmp_path, request.param)
    board.on()
    yield board
    board.close()


# where it makes no difference
one_kind = pytest.mark.parametrize("board", ["lfs"], indirect=True)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "pack.toml"
    path.write_text(PACK)
    return path


def flash(board: RawBoard, *words: str | Path) -> int:
    return cli.main(["flash", "--board", "RAW", "--port", board.path, *map(str, words)])


def prompt(board: RawBoard) -> bool:
    """Whether the board is at its bare prompt."""
    return mpremote.Mpremote(board.path).execute("print(6 * 7)").strip() == "42"


def begin(board: RawBoard, data: bytes, answer: bytes) -> None:
    """Send what a transfer begins with, and wait for what the board says to it."""
    with open_port(board.path, 115200) as port:
        write_all(port, data)
        said = b""
        end = time.monotonic() + HANG_S
        while answer not in said:
            assert time.monotonic() < end, said
            wait_readable(port, 0.1)
            said += read_some(port)


def version(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the firmware as if its version were `text`."""

    def other(board: board_files.Board) -> dict[str, bytes]:
        files = compiled(board)
        files["bms/version.mpy"] = files["bms/version.mpy"].replace(VERSION.encode(), text.encode())
        files["twin.mpy"] = b"M\x06\x00\x1f" + text.encode()  # a second file that must go with it
        return files

    monkeypatch.setattr(board_files, "compiled", other)


def test_a_new_board_then_a_newer_firmware_then_nothing_new(
    board: RawBoard,
    pack: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert flash(board, "--pack", piped(pack), "--json") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["slot"] == "/a" and first["kept"] == 0
    assert first["self_test"] == "ok"
    assert running(board)["config_crc"] == first["config_crc"]
    version("9.8.7", monkeypatch)
    assert flash(board, "--json") == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert second["slot"] == "/b"
    assert second["version"] == "9.8.7"
    assert second["config_crc"] == first["config_crc"]  # the pack file went with it
    assert flash(board, "--json") == 0
    third = json.loads(capsys.readouterr().out.splitlines()[-1])
    # what the older slot lacks: the new version, its twin, the list of digests
    assert third["slot"] == "/a" and third["copied"] == 3
    assert flash(board, "--json") == 0
    fourth = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert fourth["copied"] == 0


@one_kind
def test_service_is_requested_first_and_a_weld_refuses(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flash(board, "--pack", pack) == 0
    board.off()
    board.welded = True
    board.on()
    running(board)
    capsys.readouterr()
    assert flash(board) == 1
    said = capsys.readouterr().err
    assert "feedback says closed" in said and "nothing was touched" in said
    assert running(board)["version"]  # the master runs on
    assert flash(board, "--force") == 0
    assert "going on because of --force" in capsys.readouterr().err


@one_kind
def test_pack_files_are_checked_before_anything(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flash(board) == 1
    assert "give one with --pack" in capsys.readouterr().err
    pack.write_text(PACK.replace('chemistry = "LFP"', 'chemistry = "XYZ"'))
    assert flash(board, "--pack", pack) == 1
    said = capsys.readouterr().err
    assert "chemistry" in said and "line" in said
    assert flash(board, "--pack", pack.parent / "none.toml") == 1
    assert prompt(board)


def test_nobody_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flashing, "ANSWER_S", 1)
    board = RawBoard(tmp_path)
    try:
        assert flash(board) == 1
        said = capsys.readouterr().err
        assert "neither a master nor MicroPython's prompt" in said
        assert flashing.UNTOUCHED in said
    finally:
        board.close()


@one_kind
def test_another_board_is_not_taken(
    board: RawBoard,
    pack: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(BOARDS, tmp_path / "boards")
    facts = tmp_path / "boards" / "RAW" / "board.toml"
    facts.write_text(facts.read_text().replace('"linux"', '"RP2040"'))
    manifest = tmp_path / "boards" / "RAW" / "manifest.py"
    manifest.write_text(manifest.read_text().replace("../../../..", str(board_files.ROOT)))
    with monkeypatch.context() as patch:
        patch.setattr(board_files, "BOARDS", tmp_path / "boards")
        assert flash(board, "--pack", pack) == 1
        said = capsys.readouterr().err
        assert "this is no RAW" in said and flashing.UNTOUCHED in said
        # a master that was asked to leave for nothing is started again
        patch.setattr(board_files, "BOARDS", BOARDS)
        assert flash(board, "--pack", pack) == 0
        patch.setattr(board_files, "BOARDS", tmp_path / "boards")
        assert flash(board) == 1
        said = capsys.readouterr().err
        assert "this is no RAW" in said and "started again" in said
    assert running(board)["self_test"] == "ok"


@one_kind
def test_a_firmware_in_the_image_would_start_first(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a folder stands for what is in the image
    assert repr(slots.FROZEN) in slots.LIST
    there = slots.LIST.replace(repr(slots.FROZEN), "base + '/a'")
    assert flash(board, "--pack", pack) == 0
    monkeypatch.setattr(slots, "LIST", there)
    assert flash(board) == 1
    assert "frozen into the board's image" in capsys.readouterr().err
    assert running(board)["self_test"] == "ok"


@one_kind
@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.6, 0.9])
def test_ctrl_c_within_a_transfer(
    after_s: float,
    board: RawBoard,
    pack: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT))
    real = mpremote.Mpremote.copy

    def copy(self: mpremote.Mpremote, files: Sequence[tuple[Path, str]]) -> None:
        with contextlib.suppress(RuntimeError):  # it runs once
            timer.start()
        real(self, files)

    monkeypatch.setattr(mpremote.Mpremote, "copy", copy)
    assert flash(board, "--pack", pack) == 130
    assert flashing.NONE_RUNS in capsys.readouterr().err
    assert prompt(board)
    assert flash(board, "--pack", pack) == 0  # without --force


@one_kind
def test_what_a_killed_transfer_leaves(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prompt(board)
    begin(board, b"\r\x01x = 1", b"raw REPL")  # half a line
    assert flash(board, "--pack", pack) == 0
    leave(board)
    assert prompt(board)
    # raw paste ends with nothing but Ctrl-C or -D
    begin(board, b"\r\x01\x05A\x01x = 1", b"R\x01")
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(flashing, "ANSWER_S", 2)
        assert flash(board) == 1
        said = capsys.readouterr().err
        assert "was killed" in said and flashing.UNTOUCHED in said
        assert flash(board, "--force") == 0
    assert running(board)["self_test"] == "ok"


def test_a_board_that_needs_an_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pack: Path
) -> None:
    monkeypatch.setattr(board_files, "BOARDS", board_files.ROOT / "boards")
    code = cli.main(["flash", "--board", "PYBV11", "--port", "/dev/null", "--pack", str(pack)])
    assert code == 1
    assert "make image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("board", "how"), [("lfs", "ctrl-c"), ("stm32", "power cut")], indirect=["board"]
)
def test_interrupted_at_every_step_the_board_starts_one_of_both_whole(
    how: str, board: RawBoard, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flash(board, "--pack", pack) == 0
    assert flash(board) == 0
    board.off()
    old = running_version = VERSION
    saved = tmp_path / "saved"
    board.save(saved)
    version("9.8.7", monkeypatch)
    seen = set()
    for at in range(1, 40, extent(8, 1)):
        board.off()
        board.restore(saved)
        board.on()
        running(board)
        with monkeypatch.context() as patch:
            patch.setattr(flashing, "BATCH", 1)
            code, was = interrupted(board, at, how, 170, lambda: flash(board))
        board.off()
        board.on()
        running_version = running(board)["version"]
        assert running_version in (old, "9.8.7")
        # whole: what it started from holds every file of that version, as its marker says
        leave(board)
        there = slots.parse(mpremote.Mpremote(board.path).execute(slots.LIST))
        slot = there.running()
        assert slot is not None
        files = {path: sha for path, sha in slot.files.items()}
        text = mpremote.Mpremote(board.path).execute(
            f"print(open({there.path(slots.MARKERS[slot.folder])!r}).read())"
        )
        read = slots.read_marker(text)
        assert read is not None and read[1] == slots.digest(files)
        seen.add(running_version)
        if not was or code == 0:
            break
    else:
        raise AssertionError("it never came to its end")
    assert seen == {old, "9.8.7"}


def moments(board: RawBoard, disk: Path) -> list[list[str]]:
    """What the board would start, had its power been cut at any moment since `disk`."""
    words = [find_micropython(), "-X", "heapsize=32M", REPLAY, disk, board.kind, board.journal]
    words.append(extent(4, 1))  # each fourth moment, or all
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert int(last.split()[1]) > 20, "the journal holds nothing"
    return [line.split() for line in lines]


@pytest.mark.long
def test_cut_at_any_block_the_board_starts_one_of_both_whole(
    board: RawBoard, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "switch.py"
    switch.write_text(flashing.SWITCH.read_text() + "# newer\n")
    nothing = ["-", "-", "-"]
    was = nothing
    mains = set()
    # the first time; into the other slot; into the slot of the first time, with a newer switch
    for step in ("first", "9.8.7", "9.8.8"):
        board.off()
        board.journal = tmp_path / step
        before = tmp_path / "before"
        board.save(before)
        board.on()
        if step == "9.8.8":
            monkeypatch.setattr(flashing, "SWITCH", switch)
        if step != "first":
            running(board)
            version(step, monkeypatch)
        assert flash(board, *(["--pack", pack] if step == "first" else [])) == 0
        board.off()
        seen = moments(board, before)
        now = seen[-1][1:]
        assert now[0] == ("/flash" if board.kind == "stm32" else "") + {"9.8.7": "/b"}.get(
            step, "/a"
        )
        for main, *started in seen:
            # without main.py nothing starts: FAT has no rename that replaces at once
            assert started in ((was, now) if main != "-" else (nothing,)), seen
            assert main != "-" or step == "first" or (board.kind, step) == ("stm32", "9.8.8")
            if started != nothing:
                assert started[1] == started[2], "its files aren't those of its marker"
            mains.add(main)
        was = now
    assert mains == {"-", *(hashlib.sha256(x.read_bytes()).hexdigest() for x in (SWITCH, switch))}


@one_kind
@pytest.mark.parametrize("at", [1, 2, 3, 5, 9])
def test_a_new_board_interrupted_starts_nothing(
    at: int, board: RawBoard, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = mpremote.Mpremote.run

    def run(self: mpremote.Mpremote, *words: str) -> str:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return real(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(mpremote.Mpremote, "run", run)
        patch.setattr(flashing, "BATCH", 6)
        assert flash(board, "--pack", pack) == 130
    board.off()
    board.on()
    assert prompt(board)
    assert flash(board, "--pack", pack) == 0
    assert running(board)["self_test"] == "ok"


@one_kind
def test_damage_on_the_board_is_found(
    board: RawBoard, pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = mpremote.Mpremote.copy

    def copy(self: mpremote.Mpremote, files: Sequence[tuple[Path, str]]) -> None:
        for source, target in files:
            if target.endswith("/a/twin.mpy"):
                data = bytearray(source.read_bytes())
                data[-1] ^= 1
                source.write_bytes(data)
        real(self, files)

    assert flash(board, "--pack", pack) == 0
    assert flash(board) == 0
    monkeypatch.setattr(mpremote.Mpremote, "copy", copy)
    pack.write_text(PACK + "# another\n")
    version("9.8.7", monkeypatch)
    assert flash(board, "--pack", pack) == 1
    said = capsys.readouterr().err
    assert "/a/twin.mpy is not on the board as it was sent" in said and flashing.OLD_RUNS in said
    there = slots.parse(mpremote.Mpremote(board.path).execute(slots.LIST))
    assert (there.slots["/a"].number, there.slots["/b"].number) == (-1, 1)  # a's marker went first
    board.off()
    board.on()
    assert running(board)["version"] == VERSION


def test_romfs(
    tmp_path: Path,
    pack: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = RawBoard(tmp_path, rom_bytes=256 * 1024)
    board.on()
    try:
        assert flash(board, "--romfs", "--pack", pack, "--json") == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert result["slot"] == "/rom"
        assert running(board)["self_test"] == "ok"
        assert flash(board, "--romfs", "--json") == 0  # with its own pack file
        again = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert again["config_crc"] == result["config_crc"]
        assert flash(board, "--json") == 0  # and back to the file system
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["slot"] == "/a"
        # a partition that is half written isn't started
        version("9.8.7", monkeypatch)
        real = mpremote.Mpremote.run

        def run(self: mpremote.Mpremote, *words: str) -> str:
            if words[:2] == ("romfs", "deploy"):
                board.cut_after = 30000
            return real(self, *words)

        with monkeypatch.context() as patch:
            patch.setattr(mpremote.Mpremote, "run", run)
            assert flash(board, "--romfs") == 1
        assert board.cuts == 1
        assert flashing.OLD_RUNS in capsys.readouterr().err
        board.on()
        assert running(board)["version"] == VERSION
        assert flash(board, "--romfs") == 0
        assert running(board)["version"] == "9.8.7"
    finally:
        board.close()


def test_romfs_that_is_too_small(
    tmp_path: Path, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = RawBoard(tmp_path, rom_bytes=32 * 1024)
    board.on()
    try:
        assert flash(board, "--romfs", "--pack", pack) == 1
        said = capsys.readouterr().err
        assert "don't fit into the 32768" in said and flashing.UNTOUCHED in said
    finally:
        board.close()


def test_no_room(tmp_path: Path, pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = RawBoard(tmp_path, disk_bytes=160 * 1024)
    board.on()
    try:
        assert flash(board, "--pack", pack) == 1
        said = capsys.readouterr().err
        assert "bytes free" in said and flashing.UNTOUCHED in said
    finally:
        board.close()


@one_kind
@pytest.mark.parametrize("mpy", [5, 6 | 2 << 8])  # of 1.18, of 1.22
def test_another_micropython_is_not_taken(
    mpy: int,
    board: RawBoard,
    pack: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = slots.LIST.replace('getattr(sys.implementation, "_mpy", 0)', str(mpy))
    assert old != slots.LIST
    monkeypatch.setattr(slots, "LIST", old)
    files = compiled(board_files.load("RAW"))
    files["native.mpy"] = b"M\x06" + bytes([10 << 2 | 3]) + b"\x1f"
    monkeypatch.setattr(board_files, "compiled", lambda board: files)
    assert flash(board, "--pack", pack) == 1
    said = capsys.readouterr().err
    assert f"reads .mpy version {mpy & 0xFF}.{mpy >> 8}" in said and "needs MicroPython" in said


@one_kind
def test_ctrl_c_while_the_master_is_commanded(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flash(board, "--pack", pack) == 0
    running(board)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flashing, "wait_readable", interrupt)
        assert flash(board) == 130
    assert flashing.LEAVE_SENT in capsys.readouterr().err
    assert flash(board) == 0


def test_the_bar_is_for_terminals() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, bar in (
        (Terminal(), "\r[############............] 2/4 main.mpy"),
        (io.StringIO(), ""),
    ):
        progress = flashing.Progress(out)
        progress.phase("copying")
        progress.bar(2, 4, "main.mpy")
        progress.end()
        assert out.getvalue().startswith("copying\n" + bar)
        assert (len(out.getvalue()) > len("copying\n")) == bool(bar)


@one_kind
def test_romfs_where_there_is_none(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flash(board, "--romfs", "--pack", pack) == 1
    assert "ROMFS is not enabled" in capsys.readouterr().err
    assert prompt(board)


@one_kind
def test_the_console_and_the_flashed_board(
    board: RawBoard, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flash(board, "--pack", pack) == 0
    capsys.readouterr()
    patient = ["--timeout", str(HANG_S)]
    assert cli.main(["console", "--port", board.path, *patient, "status"]) == 0
    assert "open" in capsys.readouterr().out
    assert cli.main(["console", "--port", board.path, *patient, "close"]) == 1
    assert "not answered as the pack file says" in capsys.readouterr().out


def test_slots_and_the_switch_agree_on_markers(tmp_path: Path) -> None:
    import runpy

    switch = runpy.run_path(str(flashing.SWITCH), run_name="switch")
    good = slots.marker(12, {"main.mpy": "ab" * 32})
    path = tmp_path / "marker"
    for text in (good, good.strip(), *(good[:n] for n in range(len(good) - 1)), good + "x", ""):
        path.write_text(text)
        read = slots.read_marker(text)
        assert switch["number"](str(path)) == (-1 if read is None else read[0])
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    assert switch["number"](str(path)) == -1
    assert slots.read_marker(good) == (12, slots.digest({"main.mpy": "ab" * 32}))
