"""What `bmsctl` makes of a pack file is what the board would read, or it isn't taken."""

import subprocess
from pathlib import Path

import pytest

from bms.config import pack_file, ready_pack, settings
from bmsctl import board_files, pack_copies
from bmssim.micropython_path import find_micropython

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.toml"))
SCHEMA = board_files.reader_crc()


def install(pack: bytes, folder: Path) -> Path:
    """The files of a board's pack file in a folder."""
    for name, data in pack_copies.files(pack).items():
        (folder / name).write_bytes(data)
    return folder / "pack.toml"


def fields(found: settings.Config) -> dict[str, object]:
    """All that a `Config` holds, but for what only people read."""
    out = {k: v for k, v in vars(found).items() if k not in ("name", "_names", "path")}
    for kind in ("slaves", "links", "sensors"):
        out[kind] = [vars(one) for one in out[kind]]  # type: ignore[attr-defined]
    return out


def packs_of_examples() -> list[Path]:
    good = []
    for path in EXAMPLES:
        try:
            pack_file.load(str(path))
        except Exception:
            continue
        good.append(path)
    return good


PACKS = packs_of_examples()


def test_there_are_examples() -> None:
    assert len(PACKS) > 5


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.name)
def test_it_is_what_the_board_would_read(path: Path, tmp_path: Path) -> None:
    pack = install(path.read_bytes(), tmp_path)
    found = ready_pack.load(str(pack), SCHEMA)
    assert found is not None
    read = pack_file.load(str(pack))
    assert fields(found) == fields(read)
    assert found.path == read.path == str(pack)


def test_several_boards_of_a_table(tmp_path: Path) -> None:
    text = PACKS[0].read_text()
    text = text[: text.index("[[slave]]")].replace("cells = ", "cells = 48 # ")
    text += '[[slave]]\nkind = "cell_link"\nlink = "can0"\nnode = "3-5"\ncells = 16\n'
    found = ready_pack.load(str(install(text.encode(), tmp_path)), SCHEMA)
    assert found is not None
    assert [slave.node for slave in found.slaves] == [3, 4, 5]
    assert found.slaves[0].at is found.slaves[2].at


def test_micropython_reads_it_too(tmp_path: Path) -> None:
    pack = install(PACKS[0].read_bytes(), tmp_path)
    code = (
        "from bms.config import pack_file, ready_pack\n"
        f"one = ready_pack.load({str(pack)!r}, {SCHEMA})\n"
        f"other = pack_file.load({str(pack)!r})\n"
        "for name in ('values', 'crc', 'chemistry', 'beyond', 'path', 'damaged'):\n"
        "    assert getattr(one, name) == getattr(other, name), name\n"
        "for name in ('slaves', 'links', 'sensors'):\n"
        "    a, b = getattr(one, name), getattr(other, name)\n"
        "    assert [x.__dict__ for x in a] == [x.__dict__ for x in b], name\n"
        "print('same')\n"
    )
    out = subprocess.run(
        [find_micropython(), "-c", code],
        env={"MICROPYPATH": str(ROOT / "firmware")},
        capture_output=True,
        text=True,
    )
    assert out.stdout.strip() == "same", out.stderr


def test_damage_anywhere_has_the_pack_file_read(tmp_path: Path) -> None:
    pack = install(PACKS[0].read_bytes(), tmp_path)
    ready = tmp_path / ("pack.toml" + pack_file.READY)
    data = ready.read_bytes()
    for at in range(0, len(data), 37):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]):
            ready.write_bytes(damaged)
            assert ready_pack.load(str(pack), SCHEMA) is None, at
    ready.unlink()
    assert ready_pack.load(str(pack), SCHEMA) is None


def test_it_counts_for_its_pack_file_and_its_reader_only(tmp_path: Path) -> None:
    first = PACKS[0].read_bytes()
    pack = install(first, tmp_path)
    assert ready_pack.load(str(pack), SCHEMA ^ 1) is None
    assert ready_pack.load(str(pack), 0) is None
    assert ready_pack.load(str(pack)) is None  # sources that nobody compiled
    # another pack file, whole as well
    other = pack_copies.checked(first + b"# changed\n")
    pack.write_bytes(other)
    Path(str(pack) + pack_file.COPY).write_bytes(other)
    assert ready_pack.load(str(pack), SCHEMA) is None
    # one that a person put there has no checksum to go by
    pack.write_bytes(first)
    Path(str(pack) + pack_file.COPY).unlink()
    assert ready_pack.load(str(pack), SCHEMA) is None


def test_damage_of_the_pack_file_is_noticed_as_ever(tmp_path: Path) -> None:
    pack = install(PACKS[0].read_bytes(), tmp_path)
    copy = Path(str(pack) + pack_file.COPY)
    whole = pack.read_bytes()
    pack.write_bytes(whole[:-30] + b"?" + whole[-29:])
    found = ready_pack.load(str(pack), SCHEMA)
    assert found is not None
    assert (found.damaged, found.path) == (1, str(copy))
    pack.write_bytes(whole)
    copy.write_bytes(b"")
    found = ready_pack.load(str(pack), SCHEMA)
    assert found is not None
    assert (found.damaged, found.path) == (2, str(pack))


def test_a_pack_file_that_is_refused_is_not_made_ready() -> None:
    assert set(pack_copies.files(b"[pack]\n")) == {"pack.toml", "pack.toml.copy"}
