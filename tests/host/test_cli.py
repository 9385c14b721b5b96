"""The command line as a whole: every command explains itself, and failures are one line."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Tool

from bms.version import VERSION
from bmsctl.cli import COMMANDS
from bmsctl.commands.ports import known


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
