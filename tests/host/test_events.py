"""`bmsctl events`: what a master tells of its storage, whole or not at all."""

import json
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw import BOARDS, RawBoard, be_patient, running
from terminal import Board, Tool

from bmsctl import board_files, cli
from bmsctl.request import send_command
from bmssim import scenario
from bmssim.lines import encode
from bmssim.setup import Setup
from extent import HANG_S

TOTALS = {
    "k": "totals",
    "t_ms": 5,
    "boot": 3,
    "operation_s": 7200,
    "closings": [4, 2],
    "soc_pm": [801, None],
}
CRASH = {"k": "crash", "t_ms": 5, "boot": 2, "at_ms": 7000, "text": "ValueError: x"}


def event(n: int) -> dict[str, Any]:
    return {
        "k": "stored_event",
        "t_ms": 6,
        "what": "set",
        "name": "cell_high",
        "code": 3,
        "level": "trip",
        "string": 1,
        "place": "cell",
        "index": 7,
        "value": 3600 + n,
        "at_ms": 1000 * n,
        "boot": 2,
    }


def board_line(slave: int, first: int, cells: int) -> dict[str, Any]:
    mv, dc = [3300] * cells, [250]
    return {
        "k": "cells",
        "t_ms": 7,
        "slave": slave,
        "first_cell": first,
        "cell_mv": mv,
        "temp_dc": dc,
    }


def frame_bytes(cells: int = 4, temps: int = 2, strings: int = 2, count: int = 20) -> bytes:
    """A frame as `bms.protection.freeze_frame` lays it out."""
    data = struct.pack("<4H", cells, temps, strings, count)
    for k in range(count):
        data += struct.pack(f"<{cells}h", *(3300 + k + i for i in range(cells)))
        data += struct.pack(f"<{temps}h", *(-50 - k for _ in range(temps)))
        data += struct.pack("<7i", 100, k * 100 % 1000, -1 if k < 3 else 52000, -5000, 5, 0, 0)
    return data


def frame_lines(number: int, data: bytes, missing: int = -1) -> list[dict[str, Any]]:
    """Lines of its parts of 992 bytes, 256 bytes in each."""
    parts = [data[i : i + 992] for i in range(0, len(data), 992)]
    head = {"k": "frame_part", "t_ms": 9, "frame": number, "parts": len(parts), "code": 3}
    tail = {"index": 7, "at_ms": 100500, "boot": 2}
    return [
        {**head, "part": k, **tail, "at": at, "hex": part[at : at + 256].hex().upper()}
        for k, part in enumerate(parts)
        for at in range(0, len(part), 256)
        if k != missing
    ]


def stored_answer(word: str, lines: list[dict[str, Any]], say: int | None = None) -> bytes:
    """An answer, the lines, and the last one, which says how many there are."""
    out = encode({"k": "answer", "t_ms": 4, "cmd": word, "ok": True, "text": ""})
    out += b"".join(encode(line) for line in lines)
    n = len(lines) if say is None else say
    return out + encode({"k": "stored_end", "t_ms": 9, "what": word, "lines": n})


Serve = Callable[[dict[bytes, list[bytes]]], None]


@pytest.fixture
def serve(board: Board) -> Iterator[Serve]:
    """Answer words with these bytes, the next time with the next ones."""
    threads = []

    def start(replies: dict[bytes, list[bytes]]) -> None:
        def loop() -> None:
            while True:
                word = board.hear()
                if word == b"end":
                    return
                if replies.get(word):
                    board.say(replies[word].pop(0))

        threads.append(threading.Thread(target=loop))
        threads[-1].start()

    yield start
    with open(board.link, "wb", buffering=0) as port:
        port.write(b"\nend\n")
    for thread in threads:
        thread.join()


def test_nothing_stored_is_said(board: Board, bmsctl: Tool, serve: Serve) -> None:
    serve({word: [stored_answer(word.decode(), [])] for word in (b"history", b"frames")})
    code, out, err = bmsctl.run("events", "--port", board.link, "--frames")
    assert (code, err) == (0, "")
    assert out == "no change of a fault is stored\nno freeze frame is stored\n"


def test_history_and_frames(board: Board, bmsctl: Tool, serve: Serve) -> None:
    noise = encode({"k": "status", "t_ms": 1})
    lines = [TOTALS, CRASH, *(event(n) for n in range(40))]
    data = frame_bytes()
    serve(
        {
            b"history": [noise + stored_answer("history", lines)] * 2,
            b"frames": [stored_answer("frames", frame_lines(1, data, 0) + frame_lines(2, data))]
            * 2,
            b"cells": [stored_answer("cells", [board_line(1, 1, 3), board_line(2, 4, 5)])],
        }
    )
    code, out, err = bmsctl.run("events", "--port", board.link, "--frames", "--json")
    assert (code, err) == (0, "")
    got = json.loads(out)
    assert got["totals"]["closings"] == [4, 2]
    assert got["crash"]["text"] == "ValueError: x"
    assert [x["value"] for x in got["events"]] == list(range(3600, 3640))
    (frame,) = got["frames"]  # of the first one a part was overwritten
    assert (frame["frame"], frame["code"], frame["index"]) == (2, 3, 7)
    assert len(frame["samples"]) == 20
    last = frame["samples"][19]
    assert last["cell_mv"] == [3319, 3320, 3321, 3322]
    assert last["temp_dc"] == [-69, -69]
    assert (last["t_ms"], last["link_mv"], last["i_ma"]) == (100900, 52000, [-5000, 0])
    assert last["state"] == ["closed", "open"]
    assert frame["samples"][0]["link_mv"] is None
    code, out, _ = bmsctl.run("events", "--port", board.link, "--frames")
    assert code == 0
    where = "cell 7 = board 2, cell 4"
    assert f"start    2       3.000 s  trip set: cell_high {where}: 3603 mV" in out
    assert "last crash: start 2 at 7 s: ValueError: x" in out
    assert f"freeze frame 2: cell_high {where}" in out and "soc_pm: 801 -" in out
    assert (
        "closed -5.0 A, open +0.0 A  cells 3319 mV (cell 1 = board 1, cell 1)"
        " to 3322 mV (cell 4 = board 2, cell 1)  -6.9 .. -6.9 degC" in out
    )


def test_a_frame_whose_end_was_cut_off() -> None:
    from bmsctl.stored_history import samples

    data = frame_bytes()
    assert samples(data[: 8 + 40 * 3 + 39]) == samples(data)[:3]
    assert samples(b"") == samples(data[:7]) == []


def test_a_lost_line_makes_it_request_again(board: Board, bmsctl: Tool, serve: Serve) -> None:
    lines = [TOTALS, event(1), event(2)]
    damaged = stored_answer("history", lines).replace(b'"value":3602', b'"value":3603')
    serve(
        {
            b"history": [
                stored_answer("history", lines[:2], say=3),
                damaged,
                stored_answer("history", lines),
            ]
        }
    )
    code, out, _ = bmsctl.run("events", "--port", board.link, "--json")
    assert code == 0 and [x["value"] for x in json.loads(out)["events"]] == [3601, 3602]


def test_lines_that_never_come(board: Board, bmsctl: Tool, serve: Serve) -> None:
    serve({b"history": [stored_answer("history", [TOTALS], say=2)] * 3})
    code, out, err = bmsctl.run("events", "--port", board.link)
    assert (code, out) == (1, "")
    assert "were lost, 3 times" in err and err.count("\n") == 1


def test_no_answer_no_end_and_a_no(board: Board, bmsctl: Tool, serve: Serve) -> None:
    no = encode({"k": "answer", "t_ms": 1, "cmd": "history", "ok": False, "text": "busy"})
    serve({b"history": [no, stored_answer("history", [TOTALS])[:60]]})
    for reason in ("refuses: busy", "did not come", "an answer of"):
        code, _, err = bmsctl.run("events", "--port", board.link, "--timeout", "0.5")
        assert code == 1 and reason in err


def test_bytes_that_are_missing(board: Board, bmsctl: Tool, serve: Serve, tmp_path: Path) -> None:
    pack = b"[pack]\n" * 60
    whole = [
        {"k": "pack_part", "t_ms": 1, "config_crc": 0x1234, "at": at, "hex": pack[at:][:256].hex()}
        for at in (0, 256)
    ]
    serve(
        {
            b"pack": [
                stored_answer("pack", whole[1:]),
                stored_answer("pack", whole),
                stored_answer("pack", []),
            ]
        }
    )
    for reason in ("byte 0 is missing", "its checksum is wrong", "its checksum is wrong"):
        code, _, err = bmsctl.run("config", "pull", "--port", board.link, tmp_path / "out")
        assert code == 1 and reason in err
    assert not (tmp_path / "out").exists()


def test_over_several_starts_of_a_real_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(board_files, "BOARDS", BOARDS)
    be_patient(monkeypatch)
    settings = {
        "link_sensor": False,
        "current_sensor": False,
        "precharge_unproven": True,
        "store_soon": "0 ms",
        "store_rest": "50 ms",
    }
    path = tmp_path / "pack.toml"
    path.write_text(scenario.pack_text(Setup(slaves=1, cells=4, temps=1), settings))
    board = RawBoard(tmp_path)
    try:
        board.on()
        words = ["--port", board.path]
        assert cli.main(["flash", "--board", "RAW", *words, "--pack", str(path)]) == 0
        for _ in range(2):
            running(board)
            send_command(board.path, 115200, "status", HANG_S)  # some time for a write
            board.off()  # a power cut
            board.on()
        running(board)
        capsys.readouterr()
        words += ["--timeout", str(HANG_S)]
        assert cli.main(["events", *words, "--frames", "--json"]) == 0
        got = json.loads(capsys.readouterr().out)
        assert got["totals"]["boot"] == 3
        assert got["totals"]["failed"] == 0
        assert got["crash"] is None
        assert {x["boot"] for x in got["events"]} <= {1, 2, 3}
    finally:
        board.close()
