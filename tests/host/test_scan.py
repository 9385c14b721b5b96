"""`bmsctl scan`: boards behind a real terminal are found, and the pack file runs."""

import json
import os
import select
import time
from pathlib import Path
from typing import Any

import pytest
from simulated import Boards
from terminal import PATIENCE_S, Tool

from bms import config
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


def _link(boards: Boards, kind: str, medium: str) -> str:
    word = "slcan" if medium == "can" else "uart"
    return f"{word}:{boards.terminal.link}@{KINDS[kind].bps[medium]}"


@pytest.mark.parametrize(("kind", "medium", "slaves", "cells", "temps"), LINES)
def test_boards_are_found_and_their_pack_file_is_valid(
    kind: str, medium: str, slaves: int, cells: int, temps: int, bmsctl: Tool, tmp_path: Path
) -> None:
    boards = Boards(tmp_path / "ttyUSB0", medium, slaves, kind, cells, temps)
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
        code, out, err = bmsctl.run(*args)
        assert code == 0, err
        # and the firmware finds the same boards with it
        pack = tmp_path / "pack.toml"
        pack.write_text(out.replace("[limits]", "[limits]\ncurrent_sensor = false"))
        link = _link(boards, kind, medium)
        process = bmsctl.start("run", "--config", pack, "--link", link, "--for", "60")
        try:
            until(process, f"slaves found: {slaves}")
        finally:
            process.terminate()
            process.wait()
    finally:
        boards.close()
    settings = config.parse(out.splitlines())
    assert settings.cells == slaves * cells
    assert [(s.kind, s.node) for s in settings.slaves] == [(kind, first + n) for n in range(slaves)]
    assert out.count("CHECK") >= 4


def until(process: Any, words: str) -> None:
    """Read what a process says until it says that."""
    text = ""
    end = time.monotonic() + PATIENCE_S
    while words not in text:
        assert time.monotonic() < end, text
        if select.select([process.stdout.fileno()], [], [], 0.2)[0]:
            got = os.read(process.stdout.fileno(), 65536).decode()
            assert got, text
            text += got


def test_nobody_there(bmsctl: Tool, tmp_path: Path) -> None:
    boards = Boards(tmp_path / "ttyUSB0", "uart", 0, "jbd")
    try:
        link = _link(boards, "jbd", "uart")
        code, out, err = bmsctl.run("scan", "--kind", "jbd", "--link", link)
        assert code == 1 and out == ""
        assert "no jbd board answers" in err
    finally:
        boards.close()


def test_a_board_that_sleeps_is_woken(bmsctl: Tool, tmp_path: Path) -> None:
    boards = Boards(tmp_path / "ttyUSB0", "uart", 1, "jbd", 4, 2)
    boards.boards[0].asleep = True
    try:
        link = _link(boards, "jbd", "uart")
        code, out, _err = bmsctl.run("scan", "--kind", "jbd", "--link", link, "--json")
        assert code == 0 and json.loads(out)[0]["cells"] == 4
    finally:
        boards.close()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--kind", "jbd", "--link", "slcan:/dev/null@500000"), "jbd speaks over uart"),
        (("--kind", "jbd", "--link", "uart:/dev/null", "--nodes", "4-1"), "--nodes 4-1"),
        (("--kind", "jbd", "--link", "usb:/dev/null"), "--link usb:/dev/null"),
    ],
)
def test_wrong_words_are_refused(args: tuple, words: str, bmsctl: Tool) -> None:
    code, _out, err = bmsctl.run("scan", *args)
    assert code == 1 and words in err


def test_every_kind_is_tried_here() -> None:
    assert {line[0] for line in LINES} == set(KINDS)
