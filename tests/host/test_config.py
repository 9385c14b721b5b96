"""`bmsctl config` end to end: a real MicroPython behind a serial port, interrupted anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw import BOARDS, RawBoard, be_patient, interrupted, leave, running
from terminal import piped

from bmsctl import board_files, cli, mpremote, pack_push, slots
from bmssim import scenario
from bmssim.setup import Setup
from extent import HANG_S, extent

PACK = scenario.pack_text(
    Setup(slaves=1, cells=4, temps=1),
    {"link_sensor": False, "precharge_unproven": True, "current_sensor": False},
)
PATIENT = ("--timeout", str(HANG_S))
OTHER = PACK.replace("simulated", "another one") + "# \u00e4\r\n# no line end"


@pytest.fixture(autouse=True)
def boards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_files, "BOARDS", BOARDS)
    be_patient(monkeypatch)


@pytest.fixture(scope="session")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where disks of flashed boards are kept, by their kind."""
    return tmp_path_factory.mktemp("disks")


@pytest.fixture(params=["lfs", "stm32"])
def board(request: pytest.FixtureRequest, tmp_path: Path, disks: Path) -> Iterator[RawBoard]:
    """A board that runs with PACK."""
    board = RawBoard(tmp_path, request.param)
    try:
        flashed = disks / request.param
        if not flashed.exists():
            board.on()
            path = tmp_path / "pack.toml"
            path.write_text(PACK)
            words = ["flash", "--board", "RAW", "--port", board.path, "--pack", str(path)]
            assert cli.main(words) == 0
            board.off()
            board.save(flashed)
        board.restore(flashed)
        board.on()
        running(board)
        yield board
    finally:
        board.close()


one_kind = pytest.mark.parametrize("board", ["lfs"], indirect=True)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.toml"
    path.write_bytes(OTHER.encode())
    return path


def push(board: RawBoard, *words: str | Path) -> int:
    return cli.main(["config", "push", "--port", board.path, *map(str, words)])


def pull(board: RawBoard, path: Path) -> bytes:
    assert cli.main(["config", "pull", "--port", board.path, *PATIENT, str(path)]) == 0
    return path.read_bytes()


def active(board: RawBoard) -> dict[str, int]:
    """Names and values of faults that are active."""
    from bmsctl.request import send_command

    lines = send_command(board.path, 115200, "faults", HANG_S)
    return {x["name"]: x["value"] for x in lines if x["k"] == "fault"}


def test_pull_and_push(
    board: RawBoard, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = running(board)["config_crc"]
    assert pull(board, tmp_path / "pulled") == PACK.encode()
    capsys.readouterr()
    assert push(board, "--json", other) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["config_crc"] != first and result["self_test"] == "ok"
    assert running(board)["config_crc"] == result["config_crc"]
    assert pull(board, tmp_path / "pulled") == OTHER.encode() + b"\n"
    assert "config_copy_used" not in active(board)
    # what was pulled can be pushed, through a pipe too, and gives the same
    assert push(board, piped(tmp_path / "pulled")) == 0
    assert f"{result['config_crc']:04X}" in capsys.readouterr().out
    # the firmware's own flashing takes the new one along
    assert cli.main(["flash", "--board", "RAW", "--port", board.path]) == 0
    assert running(board)["config_crc"] == result["config_crc"]


@one_kind
def test_pull_to_the_terminal(board: RawBoard, capsys: pytest.CaptureFixture[str]) -> None:
    running(board)
    capsys.readouterr()
    assert cli.main(["config", "pull", "--port", board.path, *PATIENT, "-"]) == 0
    assert capsys.readouterr().out == PACK


@one_kind
def test_what_is_refused_touches_nothing(
    board: RawBoard, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = running(board)["config_crc"]
    capsys.readouterr()
    other.write_text(PACK.replace('"can0"', '"can1"'))  # some boards have it; the master's has not
    assert cli.main(["check", str(other)]) == 0
    assert push(board, other) == 1
    said = capsys.readouterr().err
    assert "this board has no port can1; it has: can0" in said
    assert "not done: the board is as it was" in said and "service" not in said
    other.write_text(PACK.replace("LFP", "XYZ"))
    assert push(board, other) == 1
    assert "line 3: chemistry" in capsys.readouterr().err
    wide = PACK.replace("[limits]\n", '[limits]\ncell_hard_max = "4.5 V"\n')
    other.write_text(wide)
    assert push(board, other) == 1  # the reader refuses it
    other.write_text(wide.replace("[pack]\n", "[pack]\nunlocked = true\n"))
    assert push(board, other) == 1
    assert "--unlock" in capsys.readouterr().err
    assert push(board, other.parent / "none") == 1
    assert running(board)["config_crc"] == first
    assert push(board, "--unlock", other) == 0
    assert active(board)["limits_unlocked"] >= 1


@one_kind
def test_a_weld_refuses(board: RawBoard, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board.off()
    board.welded = True
    board.on()
    first = running(board)["config_crc"]
    assert push(board, other) == 1
    said = capsys.readouterr().err
    assert "feedback says closed" in said and "nothing was touched" in said
    assert running(board)["config_crc"] == first


def damage(board: RawBoard, *names: str) -> None:
    """Turn a byte of files of the running slot, and start anew."""
    leave(board)
    remote = mpremote.Mpremote(board.path)
    there = slots.parse(remote.execute(slots.LIST))
    slot = there.running()
    assert slot is not None
    for name in names:
        path = there.path(f"{slot.folder}/{name}")
        remote.execute(
            f"with open({path!r}, 'rb') as f: d = bytearray(f.read())\nd[30] ^= 1\n"
            f"with open({path!r}, 'wb') as f: f.write(d)\n"
        )
    remote.reset()


@one_kind
def test_a_damaged_one_falls_back_to_the_other(board: RawBoard, other: Path) -> None:
    first = running(board)
    damage(board, slots.PACK)
    assert running(board) | {"t_ms": 0, "crc": ""} == first | {"t_ms": 0, "crc": ""}
    assert active(board)["config_copy_used"] == 1
    assert push(board, other) == 0
    assert "config_copy_used" not in active(board)
    damage(board, slots.COPY)
    assert running(board)["self_test"] == "ok"
    assert active(board)["config_copy_used"] == 2


@one_kind
def test_both_damaged_it_stays_open_and_reports_it(
    board: RawBoard, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running(board)
    damage(board, slots.PACK, slots.COPY)
    assert "self_test" not in running(board)
    assert cli.main(["console", "--port", board.path, *PATIENT, "close"]) == 1
    assert "are damaged" in capsys.readouterr().out
    assert cli.main(["config", "pull", "--port", board.path, *PATIENT, "-"]) == 1
    assert "are damaged" in capsys.readouterr().err
    assert push(board, other) == 0  # and this is the way out
    assert running(board)["self_test"] == "ok"


@pytest.mark.parametrize(
    ("board", "how"), [("lfs", "ctrl-c"), ("stm32", "power cut")], indirect=["board"]
)
def test_interrupted_at_every_step(how: str, board: RawBoard, other: Path, tmp_path: Path) -> None:
    old = running(board)["config_crc"]
    board.off()
    saved = tmp_path / "saved"
    board.save(saved)
    _, new = pack_push.checked(other, False)
    seen = []
    for at in range(1, 30, extent(3, 1)):
        board.off()
        board.restore(saved)
        board.on()
        running(board)
        code, was = interrupted(board, at, how, 70, lambda: push(board, other))
        board.off()
        board.on()
        seen.append(running(board)["config_crc"])
        assert seen[-1] in (old, new)
        if not was:
            assert code == 0 and seen[-1] == new
            break
    assert seen == sorted(seen, key=lambda crc: crc == new) and old in seen
