"""What the tools know of boards against what is there, and every file through mpy-cross."""

import tomllib

import pytest

from bms.slaves.build import KINDS
from bmsctl import board_files, cli, mip
from bmsctl.commands import ports
from bmsctl.decoders.base import alarm_rows, driver_class
from bmsctl.errors import ToolError

ROOT = board_files.ROOT


def test_there_are_the_boards() -> None:
    assert board_files.names() == [
        "ESP32_GENERIC_S3",
        "NUCLEO_G474RE",
        "NUCLEO_H563ZI",
        "PYBV11",
        "RPI_PICO",
        "RPI_PICO2",
    ]
    with pytest.raises(ToolError, match="no board X; there are: ESP32"):
        board_files.load("X")


@pytest.mark.parametrize("name", board_files.names())
def test_the_manifest_names_every_module(name: str) -> None:
    firmware = ROOT / "firmware"
    modules = {
        str(path.relative_to(firmware))
        for path in firmware.rglob("*.py")
        if path.name != "switch.py"  # it starts them, from outside
    }
    own = {"board.py"} | ({"pico.py"} if name.startswith("RPI") else set())
    found = board_files.sources(name)
    assert set(found) == modules | own
    assert found["board.py"] == ROOT / "boards" / name / "board.py"
    assert f'NAME = "{name}"' in found["board.py"].read_text()
    # an image needs the port's own modules besides
    manifest = (ROOT / "boards" / "manifest.py").read_text()
    assert 'include("$(PORT_DIR)/boards/manifest.py")' in manifest


@pytest.mark.parametrize("name", board_files.names())
def test_every_file_compiles_for_its_processor(name: str) -> None:
    board = board_files.load(name)
    files = board_files.compiled(board)
    names = files.pop(board_files.NAMES).decode().splitlines()
    assert all(len(line.split()) == 3 for line in names)
    assert set(files) == {p.removesuffix(".py") + ".mpy" for p in board_files.sources(name)}
    # header of .mpy files (MicroPython's docs/reference/mpyfiles.rst): M, version 6, flags
    assert {data[:2] for data in files.values()} == {b"M\x06"}
    native = {path for path, data in files.items() if data[2] >> 2}
    kernels = {path for path in files if path.startswith("bms/kernels/")}
    assert len(kernels) == 9
    pico = {"hal/rp2_sleep.mpy", "hal/rp2_spi.mpy"}
    assert native == kernels - {"bms/kernels/__init__.mpy"} | pico


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:\n", "firmware/bms/no.py, line 1: "),
        ("def f(a, /):\n    pass\n", "mpy-cross refuses bms/no.py: "),  # CPython takes it
    ],
)
def test_sources_that_do_not_compile_are_named(
    source: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = board_files.texts("RPI_PICO")
    monkeypatch.setattr(board_files, "texts", lambda name: {**whole, "bms/no.py": source})
    with pytest.raises(ToolError, match=message):
        board_files.compiled(board_files.load("RPI_PICO"))


def test_package_json_is_that_of_the_code() -> None:
    text = (ROOT / "package.json").read_text()
    assert text == mip.package(), "write it anew: python -m bmsctl.mip > package.json"


def test_boards_are_named_by_their_usb_id() -> None:
    assert ports.known(0x2E8A, 0x0005) == "Raspberry Pi Pico or Raspberry Pi Pico 2"
    assert ports.known(0x0483, 0x374E) == "ST Nucleo-G474RE"
    assert ports.known(0x1A86, 0x7523).startswith("CH340")
    assert ports.known(0x1234, 0x5678) == ports.known(None, None) == ""


def test_udev_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ports", "--udev"]) == 0
    rules = [x for x in capsys.readouterr().out.splitlines() if not x.startswith("#")]
    assert len(rules) == len(ports.devices())
    for rule in rules:
        assert 'ENV{ID_MM_DEVICE_IGNORE}="1"' in rule
    assert any('"2e8a"' in r and '"0005"' in r for r in rules)


@pytest.mark.parametrize("name", board_files.names())
def test_every_board_has_its_page(name: str) -> None:
    page = (ROOT / "boards" / name / "README.md").read_text()
    facts = tomllib.loads((ROOT / "boards" / name / "board.toml").read_text())
    assert page.startswith(f"# {name}")
    assert facts["image"] in page
    assert "Tried on hardware: nothing" in page
    for word in ("isolated", "Pins", "Wiring", "coils", "heartbeat"):
        assert word in page, word


def test_meanings_stay_off_the_board() -> None:
    for path, tables in board_files.TABLES.items():
        source = (board_files.ROOT / "firmware" / path).read_text()
        full: dict = {}
        thin: dict = {}
        exec(source, full)
        exec(board_files.without_meanings(source, tables), thin)
        for table in tables:
            assert [row[:-1] for row in thin[table]] == [row[:-1] for row in full[table]]
            assert {row[-1] for row in thin[table]} == {""}
            assert "" not in {row[-1] for row in full[table]}


def test_names_of_alarm_bits_stay_off_the_board() -> None:
    seen = 0
    for kind, (module, name, _media) in KINDS.items():
        table = getattr(driver_class(kind), "ALARMS", b"")
        if not table:
            continue
        path = board_files.ROOT / "firmware" / (module.replace(".", "/") + ".py")
        thin: dict = {}
        exec(board_files.without_names(path.read_text()), thin)
        letters = [letter for letter, _name in alarm_rows(table)]
        assert thin[name].ALARMS.decode().splitlines() == letters, kind
        seen += 1
    assert seen >= 7
