"""`bmsctl sim` and `dbc` as their users call them."""

import contextlib
import json
import time
from array import array
from pathlib import Path
from typing import Any

import cantools
from terminal import Tool

from bms.kernels import cell_link as T
from bms.kernels.cell_link import take13
from bms.kernels.checksums import crc8_frame
from bmsctl.commands.dbc import dbc
from bmsctl.readable import figures, readable, uptime
from bmssim import protocol as p
from bmssim import scenario
from bmssim.lines import LineReader
from bmssim.setup import Setup
from bmssim.world import SLACK_S

ROOT = Path(__file__).resolve().parents[2]


def test_list_names_every_scenario(bmsctl: Tool) -> None:
    code, out, _err = bmsctl.run("sim", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == scenario.names()
    named = (
        "us06 overvoltage undervoltage overtemperature overcurrent slave_lost noisy_bus"
        " wrong_responder precharge_stuck contactor_feedback_lost imbalance master_killed"
    )
    assert set(named.split()) <= set(scenario.names())


def test_json_is_the_last_line_and_the_log_holds_what_was_said(bmsctl: Tool, tmp_path) -> None:
    code, out, err = bmsctl.run("sim", "overvoltage", "--fast", "--json", "--log", tmp_path / "l")
    assert (code, err) == (0, "")
    result = json.loads(out.splitlines()[-1])
    assert result["ok"] is True
    assert result["trip"]["code"] == "cell_hard_high"
    assert result["trip"]["cell"] == 23
    lines = LineReader().feed(Path(result["log"]).read_bytes())
    assert len(lines) > 50
    assert all(x.kind == "data" for x in lines)
    assert any(x.obj and x.obj["k"] == "event" for x in lines)


def test_a_person_reads_the_trip_its_cause_and_its_time(bmsctl: Tool) -> None:
    code, out, _err = bmsctl.run("sim", "overvoltage", "--fast", "--link", "uart")
    assert code == 0
    for words in ("slaves found: 4", "precharge", "TRIP", "cell_hard_high cell 23", "coils off"):
        assert words in out
    assert "ok, all came out as stated" in out


def test_a_run_that_is_cut_short_is_not_evaluated(bmsctl: Tool) -> None:
    words = ("sim", "us06", "--fast", "--for", "2", "--slave-kind", "jk_pb")
    code, out, _err = bmsctl.run(*words)
    assert code == 0 and "isn't evaluated" in out and "as stated" not in out
    assert "uart0: jk_pb, 4 boards of 16 cells, 115200 bit/s" in out
    _code, out, _err = bmsctl.run(*words, "--json")
    assert json.loads(out.splitlines()[-1])["evaluated"] is False


def test_lines_fit_a_terminal(bmsctl: Tool) -> None:
    code, out, _err = bmsctl.run("sim", "strings_join", "--fast")
    assert code == 0 and max(map(len, out.splitlines()[1:])) < 80
    status = {
        "state": "precharge",
        "pack_mv": 399999,
        "i_ma": -123456,
        "min_mv": 3300,
        "min_cell": 100,
        "max_mv": 3400,
        "max_cell": 101,
        "max_dc": 283,
        "balancing": 12,
    }
    assert len(f"{uptime(1234.5)}  {figures(status)}") <= 80
    assert figures(status).endswith(" cells 3.300-3.400 V 28 degC 12 balancing")
    status |= {"k": "status", "t_ms": 1234500}
    assert readable(status).splitlines() == [
        f"{uptime(1234.5)}  {figures(status)}",
        "            cells 3.300 V (cell 100) to 3.400 V (cell 101)",
    ]
    status |= {"min_mv": None, "min_cell": 0, "max_mv": None, "max_cell": 0}
    assert readable(status).endswith("A not all cells read 28 degC 12 balancing")
    assert len(readable(status)) <= 80


def test_wrong_words_are_exit_2(bmsctl: Tool) -> None:
    for words in (
        ("sim", "nosuch"),
        ("sim", "demo", "--link", "uart", "--slave-kind", "bmw_i3"),
        ("sim", "demo", "--for", "0"),
        ("sim", "--campaign", "--case", "foo"),
        ("sim", ROOT / "examples/pico.toml"),
        ("dbc", "--nodes", "99"),
    ):
        assert bmsctl.run(*words)[0] == 2, words


def test_what_does_not_come_out_is_exit_1(bmsctl: Tool, tmp_path: Path) -> None:
    text = (ROOT / "host_tools/bmssim/scenarios/overvoltage.toml").read_text()
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace('"cell_hard_high"', '"cell_low"'))
    code, out, _err = bmsctl.run("sim", path, "--fast")
    assert code == 1
    assert "NOT AS STATED: trip" in out
    assert "FAILED" in out


def test_wrong_usage(bmsctl: Tool) -> None:
    code, _out, err = bmsctl.run("sim", "no_such_thing")
    assert (code, err.count("\n")) == (2, 1)
    assert "no_such_thing" in err
    for words in (["--slaves", "63"], ["--cells", "0"], ["--link", "tin"], ["--speed"]):
        assert bmsctl.run("sim", *words)[0] == 2


def test_a_campaign_prints_its_figures_by_kind(bmsctl: Tool) -> None:
    words = ("sim", "--campaign", "--runs", "4", "--kind", "interlock", "--kind", "hang")
    code, out, err = bmsctl.run(*words, "--jobs", "2", "--json")
    result = json.loads(out.splitlines()[-1])
    assert (code, result["failed"]) == (0, [])
    assert result["ok"] is True
    assert (result["runs"], result["faultless_runs"]) == (4, 4)
    assert (result["missed"], result["false"]) == (0, 0)
    assert "4 of 4 faults" in err
    assert set(result["kinds"]) == {"interlock", "hang"}
    for name, allowed in (("interlock", 1.0), ("hang", 300.0)):
        kind = result["kinds"][name]
        assert (kind["injected"], kind["detected"], kind["faultless"]) == (2, 2, 2)
        assert kind["ms_max"] <= kind["ms_allowed"] == allowed
    code, out, _err = bmsctl.run(*words)
    assert code == 0
    assert out.splitlines()[0].split()[:3] == ["kind", "injected", "detected"]
    assert "missed 0, false 0" in out


def test_one_case_again(bmsctl: Tool) -> None:
    code, out, _err = bmsctl.run("sim", "--campaign", "--case", "interlock/charge/can/3/1")
    assert code == 0
    assert "good, open after 0.0 ms; trips: interlock" in out
    code, _out, err = bmsctl.run("sim", "--campaign", "--case", "tea/charge/can/3/1")
    assert code == 1
    assert "tea" in err
    assert bmsctl.run("sim", "--campaign", "--kind", "tea")[0] == 2
    assert bmsctl.run("sim", "--campaign", "--runs", "0")[0] == 2


def test_a_missing_interpreter_is_one_clear_line(bmsctl: Tool) -> None:
    code, _out, err = bmsctl.run("sim", "overvoltage", "--fast", MICROPYTHON="/nowhere/micropython")
    assert (code, err.count("\n")) == (1, 1)
    assert "/nowhere/micropython" in err
    code, _out, err = bmsctl.run("sim", "--campaign", MICROPYTHON="/nowhere/micropython")
    assert (code, err.count("\n")) == (1, 1)
    assert "/nowhere/micropython" in err


def test_dbc_reads_what_a_board_sends() -> None:
    db: Any = cantools.database.load_string(dbc(3, 16, 4), "dbc")
    frame = p.cells_frame(3, 2, [3300, 3301, None, 4199], 9)
    got = db.decode_message(frame.ident, frame.data)
    assert (got["Cell9"], got["Cell10"], got["Cell11"], got["Cell12"]) == (3300, 3301, 8191, 4199)
    assert got["Seq"] == 9
    frame = p.temps_frame(2, 0, [251, -400, None, 0], 1)
    got = db.decode_message(frame.ident, frame.data)
    assert abs(got["Temp1"] - 25.1) < 1e-6
    assert abs(got["Temp2"] + 40.0) < 1e-6
    frame = p.status_frame(1, 52_800, 0x0102, 31, 40, 7)
    got = db.decode_message(frame.ident, frame.data)
    assert (got["Stack"], got["Faults"], got["Die"], got["Duty"]) == (52_800, 0x0102, 31, 40)
    frame = p.hello_frame(1, 16, 4, 0xDEADBEEF)
    assert db.decode_message(frame.ident, frame.data)["Serial"] == 0xDEADBEEF
    frame = p.alarm_frame(1, 1, 5, 3901, 2)
    assert db.decode_message(frame.ident, frame.data)["Voltage"] == 3901


def test_the_firmware_reads_what_the_dbc_encodes() -> None:
    db: Any = cantools.database.load_string(dbc(1, 4, 4), "dbc")
    message = db.get_message_by_name("Cells0_N1")
    signals = {"Cell1": 3300, "Cell2": 0, "Cell3": 8190, "Cell4": 8191, "Seq": 5, "Crc": 0}
    signals["Crc"] = crc8_frame(message.frame_id, message.encode(signals), 7)
    data = message.encode(signals)
    t = array("i", [0] * (T.H_ROWS + T.ROW))
    t[T.H_SEQ] = 5
    t[T.H_CELL + 1] = 8191
    t[T.H_ROW_OF + 1] = T.H_ROWS
    for place, value in ((T.R_WANT, 1), (T.R_OPEN, 1), (T.R_FLAGS, 5), (T.R_CELLS, 4)):
        t[T.H_ROWS + place] = value
    values, flags, stamps = array("h", [0] * 4), bytearray(4), array("i", [0] * 4)
    assert take13(message.frame_id, data, t, values, flags, stamps) == 0
    assert list(values) == [3300, 0, 8190, 0]
    assert list(flags) == [5, 5, 5, 0]


def test_dbc_command(bmsctl: Tool, tmp_path: Path) -> None:
    code, out, _err = bmsctl.run("dbc", "--nodes", "2")
    assert code == 0
    db: Any = cantools.database.load_string(out, "dbc")
    assert len(db.messages) > 20
    assert bmsctl.run("dbc", "--nodes", "63")[0] == 2
    assert bmsctl.run("dbc", "--out", tmp_path / "no" / "x.dbc")[0] == 1


def test_a_fault_that_does_not_fit_the_pack_is_one_line(bmsctl: Tool) -> None:
    code, _out, err = bmsctl.run("sim", "overvoltage", "--fast", "--slaves", "1", "--cells", "4")
    assert (code, err.count("\n")) == (1, 1)
    assert "'cell': 23" in err


def test_the_tour_holds_on_a_computer_that_is_too_slow_for_it(tmp_path: Path) -> None:
    chosen = scenario.load("demo")
    with contextlib.closing(
        scenario.Run(chosen, Setup(**chosen.setup), tmp_path / "pack.toml")
    ) as run:
        run.world.paced = True
        states = []

        def busy(obj: dict, _raw: bytes) -> None:
            if obj["k"] == "contactor":
                states.append(obj["state"])
                time.sleep(SLACK_S + 0.2)  # longer than any reading may be old

        run.world.on_line = busy
        run.go(6.0)
        assert states[-1] == "closed" and run.world.late_s >= len(states) * 0.2
        assert run.trip() is None


def test_the_console_of_a_simulation_in_real_time_is_a_port(bmsctl: Tool) -> None:
    process: Any = bmsctl.start("sim", "us06", "--for", "20")
    line = ""
    while "console" not in line:
        line = process.stdout.readline()
    port = line.split()[-1]
    code, out, _err = bmsctl.run("console", "--port", port, "version")
    assert code == 0
    assert "HOST" in out
    code, out, _err = bmsctl.run("console", "--port", port, "reset")
    assert code == 1
    assert "add yes" in out
    process.terminate()
