"""The command line as a whole: every command explains itself, and failures are one line."""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Tool, until

from bms.version import VERSION
from bmsctl.cli import COMMANDS
from bmsctl.commands.ports import known
from extent import HANG_S

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(bmsctl: Tool, name: str) -> None:
    code, out, err = bmsctl.run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: bmsctl {name}")
    assert f"\n  bmsctl {name}" in out, "no example"


def test_every_module_is_a_command() -> None:
    folder = Path(sys.modules["bmsctl.commands"].__path__[0])
    found = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert found == set(COMMANDS)


def test_help_names_all_commands(bmsctl: Tool) -> None:
    code, out, _ = bmsctl.run("--help")
    assert code == 0
    assert all(f"\n    {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("words", [[], ["flip"], ["ports", "--never"]])
def test_wrong_usage(bmsctl: Tool, words: list[str]) -> None:
    code, out, err = bmsctl.run(*words)
    assert code == 2 and out == "" and "usage: bmsctl" in err and "Traceback" not in err


def test_version(bmsctl: Tool) -> None:
    code, out, _ = bmsctl.run("version", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["bmsctl"], found["python"]) == (VERSION, platform.python_version())
    assert "MicroPython" in found["micropython"]
    assert Path(found["micropython_path"]).exists()


@pytest.mark.parametrize("name", ["no-such-program", sys.executable])
def test_an_interpreter_that_is_none_is_said(bmsctl: Tool, name: str) -> None:
    code, out, _ = bmsctl.run("version", "--json", MICROPYTHON=name)
    found = json.loads(out)
    assert code == 0 and found["micropython"] is None
    assert name in found["micropython_error"]
    code, _, err = bmsctl.run("version", MICROPYTHON=name)
    assert "Traceback" not in err


def test_ports_are_listed_or_the_answer_is_no(bmsctl: Tool) -> None:
    code, out, _ = bmsctl.run("ports", "--json")
    ports = json.loads(out)
    assert code == (0 if ports else 1)
    assert all(port["device"].startswith("/dev/") for port in ports)
    assert bmsctl.run("ports")[0] == code


def test_boards_are_known_by_their_usb_numbers() -> None:
    assert "Pyboard" in known(0xF055, 0x9800)
    assert "CANable" in known(0xAD50, 0x60C4)
    assert "ESP32-S3" in known(0x303A, 0x4001)
    assert known(None, None) == known(0x1234, 0x5678) == ""


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "bmsctl", "version"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    os.close(write)
    assert done.returncode == 1 and done.stderr == ""


LISTS = (["version"], ["sim", "--list"], ["--help"], ["decode", "--help"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", LISTS)
def test_output_to_a_full_device_is_one_line_and_exit_1(bmsctl: Tool, words: list[str]) -> None:
    with open("/dev/full", "w") as device:
        process = bmsctl.start(*words, stdout=device)
    _, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, err) == (1, "bmsctl: output: No space left on device\n")


def _in_shell(line: str, **env: str) -> tuple[int, str, str]:
    """`bmsctl` in a shell's line, as $bmsctl."""
    done = subprocess.run(
        ["sh", "-c", line.replace("$bmsctl", f"{sys.executable} -m bmsctl")],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", LISTS)
def test_a_closed_descriptor_is_no_traceback(words: list[str]) -> None:
    line = "$bmsctl " + " ".join(words)
    assert _in_shell(f"{line} >&-") == (1, "", "bmsctl: output: Bad file descriptor\n")
    code, out, err = _in_shell(f"{line} 2>&-")
    assert code == 0 and out and not err
    code, out, err = _in_shell(f"{line} <&-")
    assert code == 0 and out and not err


def test_a_reader_that_has_enough_is_no_traceback() -> None:
    _, out, err = _in_shell("$bmsctl reference settings | head -n 1")
    assert out.count("\n") == 1 and err == ""


def test_letters_that_the_output_does_not_know(bmsctl: Tool, tmp_path: Path) -> None:
    pack = (EXAMPLES / "pico.toml").read_text("utf-8").replace('"pico"', '"Größe €"', 1)
    assert "Größe" in pack
    (tmp_path / "pack.toml").write_text(pack, "utf-8")
    code, out, err = bmsctl.run("check", "pack.toml", PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "") and "Gr\\xf6\\xdfe \\u20ac" in out


@pytest.mark.parametrize("words", [["sim", "demo"], ["bench"]])
@pytest.mark.parametrize("moment", ["argparse", "bms.version", "serial"])
def test_ctrl_c_while_a_command_is_loaded(words: list[str], moment: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "bmsctl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        seen = False
        while not seen:
            line = process.stderr.readline()
            assert line, "it ended"
            seen = line.rpartition("|")[2].strip().startswith(moment)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert "Traceback" not in rest and "KeyboardInterrupt" not in rest
    assert process.returncode == 130


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_campaign_and_all_that_it_started(
    how: signal.Signals, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "bmsctl", "sim", "--campaign", "--runs", "20000", "--jobs", "2"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        # many wait, two runs have begun: each has a folder in the campaign's
        until(lambda: len(list(tmp_path.glob("bmssim-*/bmssim-*"))) == 2, "two runs go on")
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does: to all of them
        else:
            process.terminate()
        _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130 and err == ""
    until(lambda: is_gone(process.pid), "nobody of them is left")
    assert not list(tmp_path.glob("bmssim-*"))
