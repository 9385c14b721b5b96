"""`bmsctl check`: pack files are checked as a master does at its start; so do push and flash."""

import json
import subprocess
from pathlib import Path

import pytest
from terminal import Tool

from bmsctl import board_files, cli
from bmsctl.start_check import plan
from extent import HANG_S

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = """[pack]
name = "x"
chemistry = "LFP"
cells = %d
capacity = "100 Ah"
[limits]
charge_max = "50 A"
discharge_max = "100 A"
current_hard_max = "200 A"
"""
# line 11 and so on
SLAVE = """
[[slave]]
kind = "%s"
link = "%s"
node = %d
cells = %d
temps = %d
string = %d
"""


# what a board that measures neither current nor voltage needs in its file
BARE = "[contactors]\nlink_sensor = false\nprecharge_unproven = true\n"
NO_CURRENT = "current_sensor = false\n"


def pack_file(
    folder: Path,
    *slaves: tuple[str, str, int, int, int, int],
    more: str = "",
    settings: str = "",
) -> Path:
    """A pack file; settings: lines at the end of [limits], more: at the end of the file."""
    cells = sum(slave[3] for slave in slaves)
    path = folder / "pack.toml"
    path.write_text(HEAD % cells + settings + "".join(SLAVE % slave for slave in slaves) + more)
    return path


def test_what_is_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(EXAMPLES / "mixed.toml")]) == 0
    out = capsys.readouterr().out
    assert "56 cells" in out and "LFP" in out and "1 string" in out
    assert "uart1: jbd, 1 board, 16 cells, 9600 bit/s" in out
    assert "can0: cell_link, 2 boards, 24 cells, 500000 bit/s" in out
    assert "a lost board trips after 800 ms" in out
    assert max(map(len, out.splitlines())) <= 80
    assert cli.main(["check", str(EXAMPLES / "jk-pb.toml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and (found["cells"], found["strings"]) == (48, 1)
    (port,) = found["ports"]
    assert (port["name"], port["kind"], port["boards"], port["rate_bps"]) == (
        "uart0",
        "jk_pb",
        3,
        115200,
    )
    assert port["every_ms"] >= port["scan_ms"] > 300 and port["cell_age_ms"] == 2000


@pytest.mark.parametrize(
    ("slaves", "why"),
    [
        ([("jk", "uart0", 1, 16, 2, 1)], "line 12: kind: unknown: jk; known: bmw_i3"),
        ([("jk_pb", "can0", 1, 16, 2, 1)], "line 13: link: jk_pb speaks over uart"),
        ([("jk_pb", "banana", 1, 16, 2, 1)], "line 13: link: this board has no port banana"),
        ([("jk_pb", "uart0", 1, 16, 5, 1)], "line 16: temps: jk_pb: 5 is out of range: 0 to 4"),
        ([("daly", "uart0", 1, 16, 2, 1)], "cell_age: 500 ms is too short"),
        (
            [("jbd", "uart0", 1, 16, 2, 1), ("cell_link", "uart0", 2, 16, 2, 1)],
            "line 20: kind: uart0 carries jbd already",
        ),
    ],
    ids=["kind", "medium", "port", "temps", "age", "two kinds"],
)
def test_what_a_master_refuses_is_refused_with_line_and_key(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    slaves: list[tuple[str, str, int, int, int, int]],
    why: str,
) -> None:
    path = pack_file(tmp_path, *slaves)
    assert cli.main(["check", str(path)]) == 1
    assert why in capsys.readouterr().err
    assert cli.main(["check", str(path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    where = f"line {said['line']}: " if said["line"] else ""
    assert not said["ok"] and why in f"{where}{said['key']}: {said['reason']}"
    # before a board is touched: the port isn't even there
    for words in (
        ["config", "push", "--port", str(tmp_path / "none"), str(path)],
        ["flash", "--board", "RPI_PICO", "--port", str(tmp_path / "none"), "--pack", str(path)],
    ):
        assert cli.main(words) == 1
        err = capsys.readouterr().err
        assert why.split(";")[0] in err or "RPI_PICO" in words, err
        assert "asking" not in err and "compiling" not in err


@pytest.mark.parametrize(
    ("kind", "port", "key"),
    [
        ("cell_link", "can0", "gap"),
        ("cell_link", "uart0", "answer"),
        ("bq796xx", "uart0", "gap"),
        ("jk_can", "can0", "gap"),
        ("bmw_i3", "can0", "answer"),
        ("jbd", "uart0", ""),
    ],
)
def test_a_time_that_has_no_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, port: str, key: str
) -> None:
    link = f'[[link]]\nport = "{port}"\ncell_age = "9 s"\ntemp_age = "9 s"\n'
    times = f'{key or "gap"} = "30 ms"\n'
    path = pack_file(tmp_path, (kind, port, 1, 12, 2, 1), more=link + times)
    assert cli.main(["check", str(path)]) == (1 if key else 0)
    where = f"line 22: {key}: it has no effect on {kind}" if key else ""
    assert where in capsys.readouterr().err


def test_a_port_that_is_not_there_was_sent_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(tmp_path / "none")
    pack = str(EXAMPLES / "pico.toml")
    for words in (
        ["config", "push", "--port", port, pack],
        ["flash", "--board", "RPI_PICO", "--port", port, "--pack", pack],
    ):
        assert cli.main(words) == 1
        err = capsys.readouterr().err
        assert "does not exist" in err and "nothing was asked" in err
        assert "asking" not in err and "compiling" not in err and "to leave" not in err


def test_the_ports_are_those_of_the_board(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = NO_CURRENT + BARE  # four lines
    path = pack_file(tmp_path, ("cell_link", "uart0", 1, 16, 2, 1), settings=bare)
    assert cli.main(["check", str(path), "--board", "RPI_PICO"]) == 0
    assert cli.main(["check", str(path), "--board", "NUCLEO_H563ZI"]) == 1
    assert "line 17: link: this board has no port uart0; it has: can0 uart1" in (
        capsys.readouterr().err
    )
    path = pack_file(
        tmp_path,
        ("cell_link", "uart1", 1, 16, 2, 1),
        ("cell_link", "uart1", 2, 16, 2, 2),
        settings=bare,
    )
    assert cli.main(["check", str(path), "--board", "RPI_PICO"]) == 1
    assert "line 17: link: a second string has the pins of uart1 on RPI_PICO" in (
        capsys.readouterr().err
    )
    path = pack_file(
        tmp_path, *[("cell_link", "can0", n, 16, 2, n) for n in (1, 2, 3)], settings=bare
    )
    assert cli.main(["check", str(path), "--board", "NUCLEO_H563ZI"]) == 0
    assert cli.main(["check", str(path), "--board", "RPI_PICO"]) == 1
    assert "line 37: string: this board has contactor outputs for 2 of the 3 strings" in (
        capsys.readouterr().err
    )
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", str(path), "--board", "X"])


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_pack_file_comes_through_a_pipe(name: str, bmsctl: Tool, tmp_path: Path) -> None:
    good = (EXAMPLES / "pico.toml").read_text("utf-8")
    path = tmp_path / "pack.toml"
    path.write_text(good, "utf-8")
    with path.open() as file:
        for stdin, sent in ((subprocess.PIPE, good), (file, None)):
            process = bmsctl.start("check", name, "--board", "RPI_PICO", stdin=stdin)
            out, err = process.communicate(sent, timeout=HANG_S)
            assert (process.returncode, err) == (0, "") and out.startswith(f"{name}: ok: pico, LFP")
    process = bmsctl.start("check", name)
    _, err = process.communicate(good.replace("cells = 64", "cells = 63"), timeout=HANG_S)
    assert process.returncode == 1 and err.startswith(f"bmsctl: {name}: line ")


def test_no_empty_name_is_offered(bmsctl: Tool) -> None:
    for command in ("check", "config push"):
        assert "--board {ESP32" in bmsctl.run(*command.split(), "--help")[1]


def test_sensors_are_checked_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slave = ("cell_link", "can0", 1, 16, 2, 1)
    hall = '[[sensor]]\nkind = "hall"\nchannel = %d\nrange = "300 A"\nzero = "1650 mV"\n'
    hall += 'span = "1200 mV"\n'
    assert cli.main(["check", str(pack_file(tmp_path, slave, more=hall % 2))]) == 0
    assert cli.main(["check", str(pack_file(tmp_path, slave, more=hall % 7))]) == 1
    assert "channel: this board has 3 ADC inputs" in capsys.readouterr().err
    shunt = '[[sensor]]\nkind = "ina228"\nlink = "i2c7"\nshunt = "100 uohm"\nrange = "300 A"\n'
    assert cli.main(["check", str(pack_file(tmp_path, slave, more=shunt))]) == 1
    assert "ina228 speaks over i2c; this board has: i2c0" in capsys.readouterr().err
    # on a port of their own
    ivt = '[[sensor]]\nkind = "ivt_s"\nlink = "can1"\n'
    alone = str(pack_file(tmp_path, slave, more=ivt, settings=BARE))
    assert cli.main(["check", alone, "--board", "NUCLEO_G474RE"]) == 0
    assert cli.main(["check", alone, "--board", "RPI_PICO"]) == 1
    capsys.readouterr()
    slaves = slave, ("cell_link", "can0", 2, 16, 2, 2)
    path = pack_file(tmp_path, *slaves, more=ivt + ivt + "string = 2\n")
    assert cli.main(["check", str(path)]) == 1
    assert "id: identifier 1313 is another sensor's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "more", "said"),
    [
        ("", "", "link_sensor: this board does not measure it"),
        (BARE, "", "current_sensor: this board measures no current"),
        ("voltage_sensor = true\n" + NO_CURRENT + BARE, "", "line 10: voltage_sensor: this"),
        (
            BARE,
            '[[sensor]]\nkind = "hall"\nchannel = 0\nrange = "30 A"\nzero = "1650 mV"\n'
            'span = "1320 mV"\n',
            "line 24: range: string 1: 30000 mA must be above current_hard_max = 200000 mA",
        ),
        (
            '[contactors]\nlink_sensor = false\nprecharge_resistor = "100 ohm"\n',
            '[[sensor]]\nkind = "hall"\nchannel = 0\nrange = "300 A"\nzero = "1650 mV"\n'
            'span = "1320 mV"\n',
            "error: 3000 mA is more than a tenth of the first precharge current, 400 mA",
        ),
    ],
)
def test_what_a_pack_needs_and_the_board_does_not_measure_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, more: str, said: str
) -> None:
    slave = ("cell_link", "can0", 1, 16, 2, 1)
    path = pack_file(tmp_path, slave, settings=settings, more=more)
    assert cli.main(["check", str(path), "--board", "RPI_PICO"]) == 1
    assert said in capsys.readouterr().err


def test_what_nothing_protects_from_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pack_file(tmp_path, ("cell_link", "can0", 1, 16, 0, 1), settings=NO_CURRENT + BARE)
    assert cli.main(["check", str(path), "--json"]) == 0
    gaps = json.loads(capsys.readouterr().out)["unprotected"]
    for word in ("temps", "current_sensor", "precharge_unproven", "link_capacitance"):
        assert sum(word in gap for gap in gaps) == 1, word
    assert gaps[0].startswith("no temperature: ")
    boards = [("cell_link", "can0", n, 16, temps, 1) for n, temps in ((1, 2), (2, 0))]
    some = pack_file(tmp_path, *boards, settings=NO_CURRENT + BARE)
    assert cli.main(["check", str(some), "--json"]) == 0
    gaps = json.loads(capsys.readouterr().out)["unprotected"]
    assert gaps[0] == "no temperature of slave 2 (temps)"
    path = pack_file(tmp_path, ("cell_link", "can0", 1, 16, 0, 1), settings=NO_CURRENT + BARE)
    assert cli.main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "not protected:" in out and max(map(len, out.splitlines())) <= 100
    more = '[contactors]\nprecharge_resistor = "100 ohm"\nlink_capacitance = "2 mF"\n'
    path = pack_file(tmp_path, ("cell_link", "can0", 1, 16, 2, 1), settings=more)
    assert cli.main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unprotected"] == []


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(tmp_path / "none.toml")]) == 1
    assert "none.toml: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", board_files.names())
def test_every_board_s_fittings_are_found(name: str) -> None:
    found = board_files.fittings(name)
    assert "can0" in found.ports and set(found.ports.values()) == {"can", "uart"}
    assert found.i2cs and found.adcs and found.strings in (2, 3)
    assert set(found.shared) <= set(found.ports)


def test_a_plan_has_what_the_firmware_parsed() -> None:
    assert plan(EXAMPLES / "pico.toml", "RPI_PICO").config.name == "pico"
