"""`bmsctl scan`: boards behind a real terminal are found, and the pack file runs."""

import json
import os
import select
import signal
import time
from pathlib import Path
from typing import Any, cast

import pytest
import terminal
from simulated import SimulatedBoards
from terminal import HANG_S, Tool

from bms.config import pack_file
from bms.config.errors import ConfigError
from bmsctl.bridge import open_bridge, parse_link
from bmsctl.bus_scan import CanPort, Line, Search, UartPort, pack_text
from bmsctl.cli import main
from bmsctl.decoders import outlander
from bmsctl.decoders.base import Found, Shape
from bmssim.boards.jk_pb import FORMS
from bmssim.boards.kinds import KINDS

# kind, medium, boards, cells, temperatures of each
LINES = [
    ("bq796xx", "uart", 2, 16, 3),
    ("cell_link", "can", 3, 8, 2),
    ("bmw_i3", "can", 3, 12, 4),
    ("daly", "uart", 2, 16, 3),
    ("daly", "can", 2, 16, 8),
    ("diybms", "uart", 1, 3, 3),
    ("jbd", "uart", 1, 16, 3),
    ("jbd_up", "uart", 2, 16, 4),
    ("jk_can", "can", 2, 15, 2),
    ("jk_pb", "uart", 3, 16, 4),
    ("jk_ttl", "uart", 1, 14, 2),
    ("pylontech", "uart", 2, 15, 4),
    ("tesla_s", "uart", 3, 6, 2),
    ("outlander", "can", 3, 8, 3),
]


def _link(boards: SimulatedBoards, kind: str, medium: str) -> str:
    word = "slcan" if medium == "can" else "uart"
    return f"{word}:{boards.terminal.link}@{KINDS[kind].bps[medium]}"


@pytest.mark.parametrize(("kind", "medium", "slaves", "cells", "temps"), LINES)
def test_boards_are_found_and_their_pack_file_is_valid(
    kind: str, medium: str, slaves: int, cells: int, temps: int, bmsctl: Tool, tmp_path: Path
) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", medium, slaves, kind, cells, temps)
    for board in boards.boards:
        if hasattr(board, "bridge_awake"):
            board.bridge_awake = True  # a pseudo-terminal knows no break
    try:
        first = KINDS[kind].first
        nodes = f"{first}-{first + slaves}" if KINDS[kind].most > 1 else f"{first}"
        args = ("scan", "--kind", kind, "--link", _link(boards, kind, medium), "--nodes", nodes)
        code, out, err = bmsctl.run(*args, "--json")
        assert code == 0, err
        found = json.loads(out.splitlines()[-1])
        assert [(x["node"], x["cells"], x["temps"]) for x in found] == [
            (first + n, cells, temps) for n in range(slaves)
        ]
        # read, not guessed: else a healthy pack of the other chemistry trips at once
        assert all(3290 <= x["highest_mv"] <= 3310 for x in found)
        assert {x["link"] for x in found} == {f"{medium}0"}
        code, out, err = bmsctl.run(*args)
        assert code == 0, err
        # and the firmware finds the same boards with it
        pack = tmp_path / "pack.toml"
        pack.write_text(out)
        link = _link(boards, kind, medium)
        process = bmsctl.start("run", "--config", pack, "--link", link, "--for", f"{HANG_S}")
        try:
            until(process, f"slaves found: {slaves}")
            if kind == "cell_link":  # fast enough to close on a computer that is busy
                until(process, "contactors: closed", typed="close\n")
        finally:
            process.terminate()
            process.wait()
    finally:
        boards.close()
    settings = pack_file.parse(out.splitlines())
    assert settings.cells == slaves * cells
    assert [(s.kind, s.node) for s in settings.slaves] == [(kind, first + n) for n in range(slaves)]
    assert out.count("CHECK") >= 9 and 'chemistry = "LFP"' in out


def until(process: Any, words: str, typed: str = "") -> None:
    """Read what a process says until it says that; typed: as often as it is quiet for a while.

    On a computer that is busy a reading may be too old as `close` comes.
    """
    text = ""
    end = time.monotonic() + HANG_S
    while words not in text:
        assert time.monotonic() < end, text
        if select.select([process.stdout.fileno()], [], [], 0.2)[0]:
            got = os.read(process.stdout.fileno(), 65536).decode()
            assert got, text
            text += got
        elif typed:
            process.stdin.write(typed)
            process.stdin.flush()


def test_nobody_there(bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "uart", 0, "jbd")
    try:
        link = _link(boards, "jbd", "uart")
        code, out, err = bmsctl.run("scan", "--kind", "jbd", "--link", link)
        assert code == 1 and out == ""
        assert "no jbd board answers" in err
    finally:
        boards.close()


def test_a_board_that_sleeps_is_woken(bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "uart", 1, "jbd", 4, 2)
    boards.boards[0].asleep = True
    try:
        link = _link(boards, "jbd", "uart")
        code, out, _err = bmsctl.run("scan", "--kind", "jbd", "--link", link, "--json")
        assert code == 0 and json.loads(out)[0]["cells"] == 4
    finally:
        boards.close()


def test_jk_pb_boards_of_every_firmware_are_found(bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "uart", len(FORMS) + 1, "jk_pb", 8, 2)
    named: dict[int, Any] = {board.node: board for board in boards.boards}
    for node, form in enumerate(FORMS, 1):
        named[node].form = form
    named[len(FORMS) + 1].drowsy = named[len(FORMS) + 1].tells_about = True
    try:
        args = ("scan", "--kind", "jk_pb", "--link", _link(boards, "jk_pb", "uart"))
        code, out, err = bmsctl.run(*args, "--nodes", "1-7", "--json")
        assert code == 0, err
        assert [x["node"] for x in json.loads(out)] == list(named)
    finally:
        boards.close()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--kind", "jbd", "--link", "slcan:/dev/null@500000"), "jbd speaks over uart"),
        (("--kind", "jbd", "--link", "uart:/dev/null", "--nodes", "4-1"), "--nodes 4-1"),
        (("--kind", "jbd", "--link", "uart:/dev/null", "--nodes", "a"), "--nodes a"),
        (("--kind", "jbd", "--link", "uart:/dev/null", "--nodes", "1-"), "--nodes 1-"),
        (("--kind", "jbd", "--link", "uart:/dev/null", "--nodes", "2"), "jbd has node 1 only"),
        (
            ("--kind", "jk_pb", "--link", "uart:/dev/null", "--nodes", "0-3"),
            "jk_pb has nodes 1 to 15: 0 makes a board the master of its line",
        ),
        (("--kind", "jbd", "--link", "usb:/dev/null"), "--link usb:/dev/null"),
        (("--kind", "jbd", "--link", "uart:/dev/null@fast"), "fast is no rate"),
        (("--kind", "jbd", "--link", "can0=uart:/dev/null"), "can0 is no UART port"),
        (
            ("--kind", "cell_link", "--link", "slcan:/dev/null@333333"),
            "slcan has no 333333 bit/s; it has 10000",
        ),
        (
            ("--kind", "jbd", "--link", "uart0=uart:/dev/a", "--link", "uart0=uart:/dev/b"),
            "uart0 is given twice",
        ),
    ],
)
def test_wrong_words_are_wrong_usage_in_one_line(args: tuple, words: str, bmsctl: Tool) -> None:
    code, out, err = bmsctl.run("scan", *args)
    assert (code, out, err.count("\n")) == (2, "", 1) and words in err


def test_a_board_without_a_cell_s_voltage_makes_a_file_that_is_refused() -> None:
    search = Search("cell_link", cast(CanPort, None), None, lambda text: None)
    search.found = {1: Found(Shape(1, 8, 2))}
    text = pack_text("cell_link", [Line("can0", 0, search)])
    with pytest.raises(ConfigError) as refused:
        pack_file.parse(text.splitlines())
    assert refused.value.key == "chemistry"
    text = text.replace('# chemistry = ""', 'chemistry = "NMC"')
    assert pack_file.parse(text.splitlines()).cells == 8


class Lossy:
    """A port on which answers get lost: `lost(request, nth)` says which."""

    def __init__(self, port: Any, lost: Any) -> None:
        self._port = port
        self._lost = lost
        self.medium = port.medium
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def exchange(self, request: Any, wait_ms: int) -> Any:
        # a serial line ends its wait with the answer: on a busy machine that comes late
        got = self._port.exchange(request, wait_ms * (5 if self.medium == "uart" else 1))
        self.sent += 1
        if isinstance(got, list):
            return [x for x in got if not self._lost(x, self.sent)]
        return b"" if self._lost(request, self.sent) else got


def searched(kind: str, slaves: int, lost: Any, folder: Path, nodes: range | None = None) -> Search:
    medium = KINDS[kind].media[0]
    boards = SimulatedBoards(folder / "ttyUSB0", medium, slaves, kind, 6, 2)
    bridge = open_bridge(parse_link(_link(boards, kind, medium)), KINDS[kind].bps[medium])
    try:
        port = UartPort(bridge) if medium == "uart" else CanPort(bridge, KINDS[kind].bps[medium])
        search = Search(kind, Lossy(port, lost), nodes, lambda text: None)  # type: ignore[arg-type]
        search.run()
        return search
    finally:
        bridge.close()
        boards.close()


@pytest.mark.parametrize("kind", ["tesla_s", "bmw_i3", "jk_pb", "cell_link", "jbd_up"])
def test_lost_answers_leave_nobody_out(kind: str, tmp_path: Path) -> None:
    for every in (7, 11, 50)[: 1 if kind == "bmw_i3" else 3]:
        search = searched(kind, 3, lambda _x, n, every=every: n % every == 3, tmp_path, range(1, 5))
        shapes = [(x.shape.node, x.shape.cells) for x in search.found.values()]
        assert shapes == [(1, 6), (2, 6), (3, 6)] and not search.warnings, (every, search.warnings)


def test_who_answers_in_one_round_only_is_named(tmp_path: Path) -> None:
    answers: list[int] = []

    def lost(frame: tuple[int, bytes], n: int) -> bool:
        del n
        if frame[0] == 0x101:
            answers.append(1)
        return frame[0] & 15 == 1 and len(answers) > 6  # the second module falls silent

    search = searched("bmw_i3", 3, lost, tmp_path)
    assert sorted(search.found) == [1, 2, 3]
    assert search.warnings == ["node 2 answered in one of two rounds only"]
    text = pack_text("bmw_i3", [Line("can0", 0, search)])
    assert "# CHECK: can0: node 2 answered in one of two rounds only" in text


def test_who_answers_without_its_cells_is_named(tmp_path: Path) -> None:
    search = searched("bmw_i3", 2, lambda x, n: x[0] & 15 == 1 and x[0] > 0x10F, tmp_path)
    assert sorted(search.found) == [1]
    assert search.warnings == ["node 2 answers, but not with its cells"]


def test_who_leaves_a_poll_unanswered_is_named(tmp_path: Path) -> None:
    search = searched("jbd", 1, lambda request, n: request[2] == 3, tmp_path)
    assert sorted(search.found) == [1]  # with its cells, but maybe not with all its temperatures
    assert search.warnings == ["node 1: 1 of 2 polls unanswered"]


def test_a_warning_is_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [Found(Shape(1, 8, 3), None, 3300), Found(Shape(2, 8, 3), None, 3310)]
    rounds = iter([both, both[:1]])
    monkeypatch.setattr(outlander, "find", lambda port: next(rounds))
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "can", 0, "outlander")
    try:
        link = _link(boards, "outlander", "can")
        assert main(["scan", "--kind", "outlander", "--link", link]) == 1
    finally:
        boards.close()
    out, err = capsys.readouterr()
    assert "node 2 answered in one of two rounds only" in err
    assert pack_file.parse(out.splitlines()).cells == 16


def test_ctrl_c_says_what_was_found_so_far(bmsctl: Tool, tmp_path: Path) -> None:
    boards = SimulatedBoards(tmp_path / "ttyUSB0", "uart", 1, "jk_pb", 16, 4)
    try:
        link = _link(boards, "jk_pb", "uart")
        board = boards.boards[0]
        answered: list[int] = []  # by the time of each poll
        from_master = board.bus.from_master
        board.bus.from_master = lambda data: (answered.append(board.answered), from_master(data))
        process = bmsctl.start("scan", "--kind", "jk_pb", "--link", link)
        terminal.until(
            lambda: answered and answered[-1] and answered[-3:] == 3 * answered[-1:],
            "others are polled",
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG_S)
    finally:
        boards.close()
    assert (process.returncode, out) == (130, "")
    assert "found on uart0 so far: node 1 (16 cells)" in err


def test_several_links_make_one_file(bmsctl: Tool, tmp_path: Path) -> None:
    lines = [SimulatedBoards(tmp_path / f"ttyUSB{n}", "uart", 1, "jbd", 4 + n, 2) for n in range(3)]
    try:
        links = [f"uart:{b.terminal.link}" for b in lines]
        code, out, err = bmsctl.run(
            "scan", "--kind", "jbd", "--link", links[0], "--link", "uart3=" + links[1],
            "--link", links[2],
        )  # fmt: skip
        assert code == 0, err
        settings = pack_file.parse(out.splitlines())
        assert [(s.link, s.cells) for s in settings.slaves] == [
            ("uart0", 4),
            ("uart3", 5),
            ("uart1", 6),
        ]
        lines[1].boards[0].alive = False
        code, out, err = bmsctl.run("scan", "--kind", "jbd", "--link", links[0], "--link", links[1])
        assert code == 1 and f"no jbd board answers on {lines[1].terminal.link}" in err
    finally:
        for boards in lines:
            boards.close()


def test_every_kind_is_tried_here() -> None:
    assert {line[0] for line in LINES} == set(KINDS)
