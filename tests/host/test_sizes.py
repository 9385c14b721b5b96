"""What the firmware takes of a small board stays within tests/sizes.toml."""

import tomllib
from pathlib import Path

import pytest

from bmsctl import board_files, mpy_file, pack_copies, sizes
from bmssim import scenario
from bmssim.setup import Setup

ROOT = Path(__file__).resolve().parents[2]
BOUNDS = tomllib.loads((ROOT / "tests" / "sizes.toml").read_text())


@pytest.fixture(scope="module")
def now() -> sizes.Sizes:
    return sizes.measure()


def test_nothing_has_grown(now: sizes.Sizes) -> None:
    lines = sizes.grown(now, BOUNDS)
    assert not lines, "\n" + "\n".join(lines)


def test_the_table_holds_what_there_is(now: sizes.Sizes) -> None:
    gone = set(BOUNDS["modules"]) - set(now.modules) | set(BOUNDS["frames"]) - set(now.frames)
    assert not gone, "write tests/sizes.toml anew: python -m bmsctl.sizes"


def test_growth_is_named(now: sizes.Sizes) -> None:
    larger = sizes.Sizes(dict(now.modules), dict(now.frames), now.names)
    larger.modules["bms/protection/limits"] = BOUNDS["modules"]["bms/protection/limits"] + 65
    larger.modules["bms/new"] = 7
    larger.frames["bms/protection/limits: Limits.evaluate_next"] = 444
    larger.names = BOUNDS["all"]["names"] + 3
    lines = "\n".join(sizes.grown(larger, BOUNDS))
    assert "bms/protection/limits: " in lines and "65 more than" in lines
    assert "bms/new: 7 bytes, a new module" in lines
    assert "bms/protection/limits: Limits.evaluate_next: a frame of 444 bytes" in lines
    assert "3 more than" in lines


def test_frames_are_those_that_the_interpreter_needs() -> None:
    """A function with so many locals, and a `try` that is open, by the layout of py/bc.h."""
    names = ["f" + str(i) for i in range(20)]
    text = "def small(a):\n return a\ndef large():\n"
    text += "".join(f" {name} = 1\n" for name in names)
    text += " return " + " + ".join(names) + "\n"
    text += "def tries(a):\n try:\n  return a\n except ValueError:\n  pass\n"
    file = mpy_file.read(board_files.compile_all({"x.py": text}, "armv6m")["x.mpy"])
    module, small, large, tries = mpy_file.named(file.module, text)
    assert [x.name for x in (module, small, large, tries)] == [
        "<module>", "small", "large", "tries"
    ]  # fmt: skip
    assert (small.state, small.exceptions, small.frame) == (2, 0, 8)
    assert (large.state, large.exceptions) == (22, 0)
    assert tries.exceptions == 1 and tries.frame == (tries.state + 3) * 4
    with pytest.raises(ValueError, match="4 functions, 2 in the source"):
        mpy_file.named(file.module, "def small(a): pass\n")


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the firmware as boards get it, for this computer."""
    folder = tmp_path_factory.mktemp("slot")
    texts = {}
    for base in ("firmware", "boards/HOST"):
        for path in sorted((ROOT / base).rglob("*.py")):
            texts[str(path.relative_to(ROOT / base))] = path.read_text()
    del texts["hal/rp2_sleep.py"]  # code of another processor
    files = board_files.compile_all(board_files.prepared(texts), "x64")
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def compiled_world(slot: Path, folder: Path, setup: Setup) -> scenario.Run:
    """The firmware in `slot` in the simulated world."""
    starter = folder / "starter.py"
    starter.write_text(f"import sys\nsys.path[:] = [{str(slot)!r}]\nimport main\nmain.main()\n")
    chosen = scenario.load("overvoltage")
    run = scenario.Run(chosen, setup, folder / "pack.toml")
    run.world.program = starter
    for name, data in pack_copies.files((folder / "pack.toml").read_bytes()).items():
        (folder / name).write_bytes(data)
    return run


@pytest.mark.parametrize("link", ["can", "uart"])
def test_the_compiled_firmware_in_the_simulated_world(
    slot: Path, tmp_path: Path, link: str
) -> None:
    run = compiled_world(slot, tmp_path, Setup(link=link))
    try:
        run.go()
        result = run.result(1.0, None)
        heap = [x["heap_used"] for x in run.world.seen.lines if x["k"] == "mem"]
        boot = next(x for x in run.world.seen.lines if x["k"] == "boot")
    finally:
        run.close()
    assert result["problems"] == []
    assert boot["native"] == 1 and boot["self_test"] == "ok"
    assert result["alloc_bytes_per_cycle"] == 0
    if link == "can":
        bound = BOUNDS["all"]["heap"]
        assert heap[0] <= bound, f"heap after start: {heap[0]} bytes, {heap[0] - bound} too many"
