"""What the firmware takes of a board, without a board: `python -m bmsctl.sizes > tests/sizes.toml`.

Bytes of each compiled module, names, frames that are larger than a small board keeps on its stack.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import board_files, mpy_file

BOARD = "RPI_PICO"
STACK_BYTES = 44  # py/mpconfig.h, VM_MAX_STATE_ON_STACK on a 32-bit board: above it, the heap
SLACK = 64  # bytes that a module may grow before somebody looks
# run once, at start, or on a computer only; the rest can be called from the cycle
NOT_IN_CYCLE = (
    "bms/config/checks",
    "bms/config/pack_file",
    "bms/config/ready_pack",
    "bms/config/schema",
    "bms/config/toml_subset",
    "bms/console/config_error_mode",
    "bms/constructors",
    "bms/protection/fault_catalog",
    "bms/self_test",
    "bms/storage/full_names",
    "bms/attribute_tables",
    "bms/start_modules",
    "bms/sensors/build",
    "bms/slaves/build",
    "hal/slot_marker",
    "hal/spi_can",
    "main",
)


@dataclass
class Sizes:
    """modules: bytes of .mpy by path; frames: bytes of each function's state above STACK_BYTES, by
    "path: Class.method"; names: different ones in all modules, those of MicroPython apart.
    """

    modules: dict[str, int] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    names: int = 0


def measure() -> Sizes:
    """The firmware of BOARD as `bmsctl flash` compiles it."""
    sources = board_files.texts(BOARD)
    texts = board_files.prepared(sources)
    full = board_files.prepared(sources, functions=False)  # the same functions by their names
    found = Sizes()
    names: set[str] = set()
    for path, data in board_files.compile_all(texts, board_files.load(BOARD).arch).items():
        module = path.removesuffix(".mpy")
        file = mpy_file.read(data)
        found.modules[module] = len(data)
        names.update(file.names)
        if module in NOT_IN_CYCLE:
            continue
        for function in mpy_file.named(file.module, full[module + ".py"]):
            at_start = "__init__" in function.name or function.name == "<module>"
            if function.frame > STACK_BYTES and not at_start:
                found.frames[f"{module}: {function.name}"] = function.frame
    found.names = len(names)
    return found


def grown(now: Sizes, bounds: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What is larger than its bound, or has none, as lines for a person."""
    lines = []
    for module, size in now.modules.items():
        bound = bounds["modules"].get(module)
        if bound is None:
            lines.append(f"{module}: {size} bytes, a new module")
        elif size > bound + SLACK:
            lines.append(f"{module}: {size} bytes, {size - bound} more than {bound}")
    total, bound = sum(now.modules.values()), bounds["all"]["bytes"]
    if total > bound:
        lines.append(f"all modules: {total} bytes, {total - bound} more than {bound}")
    for function, size in now.frames.items():
        bound = bounds["frames"].get(function, STACK_BYTES)
        if size > bound:
            lines.append(f"{function}: a frame of {size} bytes, {size - bound} more than {bound}")
    bound = bounds["all"]["names"]
    if now.names > bound:
        lines.append(f"names: {now.names}, {now.names - bound} more than {bound}")
    return lines


def table(now: Sizes, heap: int) -> str:
    """The bounds as a file: what is measured now."""
    total = sum(now.modules.values())
    lines = [
        "# Bounds of what the firmware takes, see host_tools/bmsctl/sizes.py, which writes this",
        "# file: .venv/bin/python -m bmsctl.sizes > tests/sizes.toml. Give a reason to raise one.",
        "",
        "[all]",
        f"bytes = {-(-total // 500) * 500} # of all .mpy files of {BOARD}; now {total}",
        "# different names; each takes 8 bytes and its length",
        f"names = {-(-now.names // 10) * 10} # now {now.names}",
        "# heap after start on MicroPython's unix port, 64 cells on CAN, in bytes of a 64-bit",
        "# machine: about twice what a board takes; written by hand",
        f"heap = {heap}",
        "",
        "# frames of functions that the cycle can call, in bytes, of those above the"
        f" {STACK_BYTES}",
        "# that a board keeps on its stack in any case",
        "[frames]",
    ]
    ordered = sorted(now.frames.items(), key=lambda x: (-x[1], x[0]))
    lines += [f'"{name}" = {size}' for name, size in ordered]
    lines += ["", f"# bytes of each .mpy file; it may grow by {SLACK}", "[modules]"]
    lines += [f'"{name}" = {size}' for name, size in sorted(now.modules.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, with the heap's bound as it is in tests/sizes.toml."""
    import tomllib

    old = board_files.ROOT / "tests" / "sizes.toml"
    heap = tomllib.loads(old.read_text("utf-8"))["all"]["heap"] if old.stat().st_size else 0
    print(table(measure(), heap), end="")


if __name__ == "__main__":
    main()
