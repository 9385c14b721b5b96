"""The pack file's reader: any text is taken or refused, and what it takes is TOML's meaning."""

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms.config import pack_file, schema
from bms.config.errors import ConfigError
from bms.config.settings import Config
from extent import extent

ROOT = Path(__file__).resolve().parents[2]

GOOD = """# a pack
[pack]
name = "test"
chemistry = "LFP"
cells = 12
capacity = "100 Ah"
[limits]
cell_max = "3.65 V"   # volts
cell_delay = "900 ms"
temp_min = "-20.5 degC"
current_sensor = true
charge_max = "100 A"
discharge_max = "200 A"
current_hard_max = "400 A"
[contactors]
precharge_ratio = "93.5 %"
precharge_tries = 2
[[slave]]
kind = "cell_link"
link = "can0"
node = "1-2"
cells = 4
[[slave]]
kind = "cell_link"
link = "uart0"
cells = 4
temps = 1
[[link]]
port = "can0"
rate = "500 kbit/s"
"""
LINES = GOOD.splitlines()
ROWS = {row[0] + "." + row[1]: row for row in schema.SETTINGS}


def inside(value: object, unit: str) -> object:
    """A TOML value as the firmware holds it, worked out anew."""
    if unit == "bool":
        return int(bool(value))
    if unit in ("text", ""):
        return value
    number, name = str(value).split()
    scale = {
        "V": 1000,
        "A": 1000,
        "Ah": 1000,
        "s": 1000,
        "degC": 10,
        "%": 10,
        "kbit/s": 1000,
        "Mohm": 1000,
        "mF": 1000,
    }
    return Decimal(number) * scale.get(name, 1)


def compare(text: str, c: Config) -> None:
    """Every value of the file is in the configuration."""
    try:
        toml = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a little more is taken than TOML does, such as a table opened twice
    for table, content in toml.items():
        if table in ("slave", "link"):
            continue
        for key, value in content.items():
            row = ROWS[table + "." + key]
            name = schema.attribute(key, row[2])
            if key == "chemistry":
                value = schema.CHEMISTRIES.index(value)
            else:
                value = inside(value, row[2])
            assert getattr(c, name) == value, key
    nodes = []
    for slave in toml["slave"]:
        first, _, last = str(slave.get("node", 1)).partition("-")
        nodes += [
            (slave["kind"], slave["link"], n, slave["cells"], slave.get("temps", 0))
            for n in range(int(first), int(last or first) + 1)
        ]
    assert [(s.kind, s.link, s.node, s.cells, s.temps) for s in c.slaves] == nodes
    assert [x.port for x in c.links] == [x["port"] for x in toml.get("link", [])]


def take(text: str) -> None:
    try:
        c = pack_file.parse(text.split("\n"))
    except ConfigError as error:
        assert error.reason
        assert 0 <= error.line <= text.count("\n") + 1
        assert str(error)
        return
    compare(text, c)


def test_the_example_itself() -> None:
    take(GOOD)
    c = pack_file.parse(LINES)
    assert (c.cell_max_mv, c.temp_min_dc, c.precharge_ratio_pm) == (3650, -205, 935)


@settings(max_examples=extent(300, 1200))
@given(st.text())
def test_any_text(text: str) -> None:
    take(text)


letters = st.sampled_from("\"[]=#.-+_ \t\0\r\\'0123456789aVA%n")


@settings(max_examples=extent(600, 2400))
@given(st.data())
def test_a_good_file_with_some_letters_changed(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(st.text(letters, max_size=3)) + text[at + cut :]
    take(text)


@settings(max_examples=extent(300, 1200))
@given(st.data())
def test_a_good_file_with_its_lines_mixed(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        what = data.draw(st.sampled_from(["drop", "twice", "swap"]))
        other = data.draw(st.integers(0, len(lines) - 1))
        if what == "drop" and len(lines) > 1:
            del lines[at]
        elif what == "twice":
            lines.insert(other, lines[at])
        else:
            lines[at], lines[other] = lines[other], lines[at]
    take("\n".join(lines))


UNITS: dict[str, list[str]] = {}
for unit_name, (unit_inside, _) in schema.UNITS.items():
    UNITS.setdefault(unit_inside, []).append(unit_name)


@st.composite
def setting(draw: st.DrawFn) -> tuple[str, str]:
    table, key, unit, low, high, *_ = draw(
        st.sampled_from([row for row in schema.SETTINGS if row[0] != "pack"])
    )
    value = draw(st.one_of(st.integers(low, high), st.integers(low - 2, high + 2)))
    if unit == "bool":
        text = "true" if value & 1 else "false"
    elif unit == "":
        text = str(value)
    else:
        name = draw(st.sampled_from(UNITS[unit]))
        number = Decimal(value).scaleb(-schema.UNITS[name][1])
        text = f'"{number:f} {name}"'
    return table, f"{key} = {text}"


@settings(max_examples=extent(400, 1600))
@given(st.lists(setting(), max_size=4))
def test_any_settings(rows: list[tuple[str, str]]) -> None:
    tables: dict[str, list[str]] = {"pack": [], "limits": [], "contactors": []}
    current = ""
    out: list[str] = []
    for line in LINES:
        if line.startswith("["):
            current = line
        key = line.split(" =")[0]
        if current in ("[limits]", "[contactors]", "[pack]") and not line.startswith("["):
            if not any(row[1].startswith(key + " ") for row in rows):
                tables[current.strip("[]")].append(line)
        else:
            out.append(line)
    for table, line in rows:
        tables.setdefault(table, []).append(line)
    head = [x for name, lines in tables.items() for x in [f"[{name}]", *lines]]
    tail = [x for x in out if x not in ("[limits]", "[contactors]", "[pack]")]
    take("\n".join(head + tail))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_the_examples_are_taken(path: Path) -> None:
    c = pack_file.load(str(path))
    assert c.slaves
    tomllib.loads(path.read_text())
