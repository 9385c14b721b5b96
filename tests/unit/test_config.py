"""The pack file: what it refuses, by line, key and reason, and what stands without a word."""

from bms.config import pack_file, schema
from bms.config.checks import ORDER
from bms.config.errors import ConfigError
from bms.config.pack_file import parse
from bms.config.schema import SETTINGS, SUFFIX, UNITS, attribute
from bms.slaves.build import KINDS
from fakes import pack_lines, raises


def _with(extra, at=None, **tables):
    lines = pack_lines(**tables)
    return lines + extra if at is None else lines[:at] + extra + lines[at:]


def _refused(lines, line, key, *reasons):
    error = raises(ConfigError, parse, lines)
    assert (error.line, error.key) == (line, key), (error.line, error.key, error.reason)
    for reason in reasons:
        assert reason in error.reason, error.reason
    text = str(error)
    assert error.reason in text
    if line:
        assert f"line {line}" in text
    return error


def _line_of(lines, start):
    for i in range(len(lines)):
        if lines[i].startswith(start):
            return i + 1
    raise AssertionError(start)


# --- the table ---


def test_keys_and_names_are_unique():
    keys = [row[1] for row in SETTINGS]
    assert len(set(keys)) == len(keys)
    names = [attribute(row[1], row[2]) for row in SETTINGS]
    assert len(set(names)) == len(names)
    # names of the firmware's own attributes
    for name in names:
        assert name not in ("slaves", "links", "crc")


def test_defaults_are_in_range_and_in_order():
    for column in (5, 6):
        values = {}
        for row in SETTINGS:
            low, high, value = row[3], row[4], row[column]
            assert low <= high, row
            if value is not None:
                assert low <= value <= high, row
            values[row[1]] = value
            assert (row[5] is None) == (row[6] is None)
        for order in ORDER:
            known = [values[key] for key in order if values[key] is not None]
            if order[0][:8] in ("cell_age", "voltage_"):
                known = [value for value in known if value]  # 0: found from another setting
            assert known == sorted(known), order
            assert len(set(known)) == len(known), order
    keys = [row[1] for row in SETTINGS]
    for order in ORDER:
        for key in order:
            assert key in keys


def test_every_number_is_a_small_int():
    for row in SETTINGS:
        assert abs(row[3]) < 1 << 30
        assert abs(row[4]) < 1 << 30
        assert row[2] in SUFFIX or row[2] in ("text", "bool", "")
        assert len(row[7]) > 5
    for name in UNITS:
        assert UNITS[name][0] in SUFFIX


def test_every_setting_can_be_given():
    for table, key, unit, low, high, lfp, _nmc, _ in SETTINGS:
        if table == "pack":
            continue
        value = lfp if lfp is not None else (low + high) // 2
        if unit == "bool":
            text = "true" if value else "false"
        elif unit == "":
            text = str(value)
        else:
            name = "degC" if unit == "0.1 degC" else unit
            shown = f"{'-' if value < 0 else ''}{abs(value) // 10}.{abs(value) % 10}"
            text = f'"{shown if name == "degC" else value} {name}"'
        lines = pack_lines(
            **{
                table: f"{key} = {text}"
                + (
                    '; current_hard_max = "4000 A"'
                    if key in ("charge_max", "discharge_max")
                    else ""
                )
            }
        )
        assert getattr(parse(lines), attribute(key, unit)) == value, key


def test_the_smallest_file_has_every_protection_on():
    for chemistry in ("LFP", "NMC"):
        c = parse(pack_lines(chemistry=chemistry))
        assert c.current_sensor == c.contactor_feedback == c.link_sensor == 1
        for row in SETTINGS:
            assert isinstance(getattr(c, attribute(row[1], row[2])), (int, str)), row[1]
        assert 0 < c.cell_hard_min_mv < c.cell_min_mv < c.cell_max_mv < c.cell_hard_max_mv < 4400
        assert c.cell_age_ms <= 1000
        assert c.cell_delay_ms <= 2000
        assert c.temp_hard_max_dc <= 700
        assert c.reclose_ms > 0
        assert c.precharge_min_ms > 0
    assert parse(pack_lines()).chemistry == schema.LFP
    assert parse(pack_lines(chemistry="NMC")).chemistry == schema.NMC
    assert parse(pack_lines(chemistry="NMC")).cell_max_mv > parse(pack_lines()).cell_max_mv


# --- what is taken ---


def test_units_and_numbers():
    c = parse(
        pack_lines(
            limits='cell_max = "3640 mV"; cell_hard_max = "3.7 V"; temp_min = "-20.5 degC";'
            ' temp_max = "58 degC"; charge_max = "99500 mA"; cell_delay = "1.25 s"',
            contactors='precharge_ratio = "93.5 %"; contactor_feedback = false',
            balancing="balance_cells = 4",
        )
    )
    assert (c.cell_max_mv, c.cell_hard_max_mv) == (3640, 3700)
    assert (c.temp_min_dc, c.temp_max_dc) == (-205, 580)
    assert (c.charge_max_ma, c.cell_delay_ms) == (99500, 1250)
    assert (c.precharge_ratio_pm, c.contactor_feedback, c.balance_cells) == (935, 0, 4)


def test_comments_spaces_and_line_ends():
    lines = [line + "  # a 'comment' [x] = 1\r\n" for line in pack_lines()]
    lines.insert(0, "\t # nothing\n")
    lines.insert(1, "\n")
    lines[3] = ' name\t=  "a # b" # c\n'
    lines[0] = "\ufeff" + lines[0]  # a byte order mark
    assert parse(lines).cells == 4
    assert getattr(parse(lines), "name") == "a # b"  # noqa: B009  (no setting of kind int)


def test_slaves_of_a_range_and_their_lines():
    lines = pack_lines(slaves=3, cells=8)
    c = parse(lines)
    assert [(s.node, s.cells, s.temps, s.kind, s.link) for s in c.slaves] == [
        (n, 8, 2, "cell_link", "can0") for n in (1, 2, 3)
    ]
    assert c.slaves[1].line == _line_of(lines, "[[slave]]")
    assert c.slaves[1].at["link"] == _line_of(lines, "link")


def test_links():
    c = parse(_with(["[[link]]", 'port = "can0"', 'rate = "250 kbit/s"']))
    assert [(x.port, x.rate_bps) for x in c.links] == [("can0", 250000)]


# --- what is refused ---


def test_unknown_key():
    lines = pack_lines(limits='cell_maxx = "3.6 V"')
    _refused(lines, _line_of(lines, "cell_maxx"), "cell_maxx", "unknown key in [limits]")
    lines = pack_lines(limits='cellmax = "3.6 V"')
    _refused(lines, _line_of(lines, "cellmax"), "cellmax", "did you mean cell_max?")
    lines = pack_lines(limits="cell_max_mv = 3600")
    _refused(lines, _line_of(lines, "cell_max_mv"), "cell_max_mv", "the unit stands in the value")
    lines = pack_lines(slave="colour = 3")
    _refused(lines, _line_of(lines, "colour"), "colour", "unknown key in [slave]")
    lines = pack_lines(slave='poll = "bus"')
    _refused(lines, _line_of(lines, "poll"), "poll", "only bmw_i3 has it")
    # the key of another table
    lines = pack_lines(scan='cell_max = "3.6 V"')
    _refused(lines, _line_of(lines, "cell_max "), "cell_max", "unknown key in [scan]")


def _with_kind(kind, key, row):
    value = "true" if row[1] == "bool" else '"i3"' if row[1] == "text" else str(min(row[3], 100))
    lines = pack_lines(slave=f"{key} = {value}")
    return [line.replace('"cell_link"', f'"{kind}"') for line in lines]


def test_a_key_that_one_kind_alone_has():
    alone = {"reversed": "daly", "fets_inverted": "daly", "beta": "bq796xx"}
    alone.update({"poll": "bmw_i3", "temp_offset": "outlander"})
    rows = {row[0]: row for row in schema.SLAVE_KEYS}
    assert {key: rows[key][5] for key in rows if rows[key][5]} == alone
    before = schema.SLAVE_KEYS
    # what a key means to a person decides nothing: a board has no meanings at all
    for meaning in (None, "", "jbd: for nobody else"):
        if meaning is not None:
            schema.SLAVE_KEYS = tuple([row[:-1] + (meaning,) for row in before])
        try:
            for key, kind in alone.items():
                parse(_with_kind(kind, key, rows[key]))
                for other in KINDS:
                    if other != kind:
                        lines = _with_kind(other, key, rows[key])
                        _refused(lines, _line_of(lines, key), key, "only " + kind + " has it")
            parse(_with_kind("jk_pb", "fets", rows["fets"]))
            parse(_with_kind("jbd", "serial", rows["serial"]))
        finally:
            schema.SLAVE_KEYS = before


def test_unknown_table():
    for text in ("[limit]", "[[limits]]", "[slave]", "[[pack]]", "[]", "[[]]", "[[x]]"):
        lines = _with([text])
        _refused(lines, len(lines), "", "unknown table")
    _refused(_with(["[slave]"]), len(_with([])) + 1, "", "write [[slave]]")
    for text in ("[limits", "[[slave]", "["):
        lines = _with([text])
        _refused(lines, len(lines), "", "expected ]")


def test_wrong_unit():
    for value, reason in (
        ('"3.6 A"', "wrong unit A: this setting takes V or mV"),
        ('"3.6 v"', "wrong unit v"),
        ('"3.6"', "number and its unit"),
        ('"3.6V"', "number and its unit"),
        ("3.6", "number and its unit"),
        ("3600", "number and its unit"),
        ('"3.6 V V"', "number and its unit"),
        ('""', "number and its unit"),
        ("", "number and its unit"),
        ("true", "number and its unit"),
    ):
        lines = pack_lines(limits=f"cell_max = {value}")
        _refused(lines, _line_of(lines, "cell_max"), "cell_max", reason)
    lines = pack_lines(limits='temp_max = "333 K"')
    _refused(lines, _line_of(lines, "temp_max"), "temp_max", "takes degC")
    lines = pack_lines(balancing='balance_cells = "8"')
    _refused(lines, _line_of(lines, "balance_cells"), "balance_cells", "without quotes")
    lines = pack_lines(contactors="precharge_tries = true")
    _refused(lines, _line_of(lines, "precharge_tries"), "precharge_tries", "not a number")
    for value in ("1", '"true"', "True", "yes"):
        lines = pack_lines(limits=f"current_sensor = {value}")
        _refused(lines, _line_of(lines, "current_s"), "current_sensor", "expected true or false")


def test_not_a_number():
    for value in (
        "3,6 V",
        "x V",
        "- V",
        "1e3 V",
        "0x10 V",
        ". V",
        "3. V",
        "--3 V",
        "nan V",
        "1_0 V",
    ):
        lines = pack_lines(limits=f'cell_max = "{value}"')
        _refused(lines, _line_of(lines, "cell_max"), "cell_max", "not a number")
    for value in ("3.6501 V", "3650.5 mV", "3650000000000 mV"):
        lines = pack_lines(limits=f'cell_max = "{value}"')
        _refused(lines, _line_of(lines, "cell_max"), "cell_max", "more digits")


def test_out_of_range():
    for table, key, value in (
        ("limits", "cell_max", '"5001 mV"'),
        ("limits", "cell_max", '"999 mV"'),
        ("limits", "cell_max", '"-3.6 V"'),
        ("limits", "cell_hysteresis", '"0 mV"'),
        ("limits", "temp_max", '"100.1 degC"'),
        ("limits", "temp_min", '"-40.1 degC"'),
        ("limits", "cell_delay", '"61 s"'),
        ("limits", "charge_max", '"2001 A"'),
        ("scan", "scan_period", '"19 ms"'),
        ("contactors", "precharge_ratio", '"100 %"'),
        ("contactors", "precharge_tries", "0"),
        ("balancing", "balance_cells", "33"),
        ("pack", "cells", "0"),
        ("slave", "cells", "33"),
    ):
        if table == "slave":
            lines = pack_lines(cells=33)
            line = len(lines) - 1
        else:
            lines = pack_lines(**{table: f"{key} = {value}"})
            line = _line_of(lines, key)
        _refused(lines, line, key, "out of range")


def test_wrong_order():
    for given, key, low, high in (
        ('cell_max = "3.75 V"', "cell_max", "cell_max", "cell_hard_max"),
        ('cell_hard_max = "3.60 V"', "cell_hard_max", "cell_max", "cell_hard_max"),
        ('cell_max = "3.62 V"', "cell_max", "cell_derate_max", "cell_max"),  # equal is wrong, too
        ('cell_warn_min = "3.60 V"', "cell_warn_min", "cell_warn_min", "cell_warn_max"),
        ('cell_min = "2.70 V"', "cell_min", "cell_min", "cell_derate_min"),
        ('cell_hard_min = "2.60 V"', "cell_hard_min", "cell_hard_min", "cell_min"),
        ('temp_charge_min = "-30 degC"', "temp_charge_min", "temp_min", "temp_charge_min"),
        ('temp_max = "75 degC"', "temp_max", "temp_max", "temp_hard_max"),
        ('temp_warn_max = "55 degC"', "temp_warn_max", "temp_warn_max", "temp_derate_max"),
        ('charge_max = "400 A"', "charge_max", "charge_max", "current_hard_max"),
        ('cell_age = "100 ms"', "cell_age", "scan_period", "cell_age"),
    ):
        lines = pack_lines(limits=given)
        line = _line_of(lines, key + " ")
        if "charge_max" in key:
            line = max(line, _line_of(lines, "current_hard_max"))
            key = "current_hard_max"
        _refused(lines, line, key, low + " = ", "must be below " + high)
    lines = pack_lines(contactors='precharge_min = "3 s"')
    _refused(lines, _line_of(lines, "precharge_min"), "precharge_min", "precharge_max")
    lines = pack_lines(balancing='balance_stop = "10 mV"')
    _refused(lines, _line_of(lines, "balance_stop"), "balance_stop", "balance_start")
    # both given: the later one is named
    lines = pack_lines(limits='cell_hard_max = "3.70 V"; cell_max = "3.71 V"')
    _refused(lines, _line_of(lines, "cell_max"), "cell_max", "must be below")


def test_a_cause_must_be_able_to_go():
    # with a hysteresis wider than the bound, the fault would stay for ever
    raises(ConfigError, parse, pack_lines(limits='charge_max = "400 mA"'))
    raises(ConfigError, parse, pack_lines(limits='discharge_max = "500 mA"'))
    raises(ConfigError, parse, pack_lines(limits='spread_warn = "40 mV"'))


def test_a_temperature_must_outlive_a_scan():
    raises(
        ConfigError,
        parse,
        pack_lines(limits='temp_age = "2 s"; cell_age = "5 s"', scan='scan_period = "3 s"'),
    )


def test_an_age_of_a_port_must_outlive_a_scan():
    for key in ("cell_age", "temp_age"):
        behind = '[[link]]; port = "can0"; %s = "%%d ms"' % key
        assert parse(pack_lines(behind=behind % 101)).links
        lines = pack_lines(behind=behind % 100)
        error = raises(ConfigError, parse, lines)
        assert (error.key, error.line) == (key, len(lines))
        assert "scan_period" in error.reason


def test_cells_must_fit_the_slaves():
    for cells in (7, 9):
        lines = pack_lines(slaves=2, cells=4, pack=f"cells = {cells}")
        line = _line_of(lines, "cells")
        _refused(lines, line, "cells", f"{cells} cells", "slaves bring 8")


def test_given_twice():
    lines = pack_lines(limits='cell_max = "3.64 V"; cell_max = "3.63 V"')
    first = _line_of(lines, "cell_max")
    _refused(lines, first + 1, "cell_max", f"given twice, first in line {first}")
    lines = _with(["[limits]", 'charge_max = "1 A"'])
    _refused(lines, len(lines), "charge_max", "given twice")
    lines = pack_lines() + ["temps = 2"]
    _refused(lines, len(lines), "temps", "given twice")


def test_two_slaves_on_one_number():
    more = ["[[slave]]", 'kind = "cell_link"', 'link = "can0"', "cells = 4", "node = 1"]
    lines = _with(more, pack="cells = 8")
    first = _line_of(lines, "[[slave]]")
    _refused(lines, len(lines), "node", "node 1 on can0", f"line {first}")
    parse(_with(more[:-1] + ["node = 2"], pack="cells = 8"))
    more[2] = 'link = "uart0"'
    parse(_with(more, pack="cells = 8"))
    # the default number is 1
    lines = _with(more[:2] + ['link = "can0"', "cells = 4"], pack="cells = 8")
    raises(ConfigError, parse, lines)


def test_two_links_on_one_port():
    link = ["[[link]]", 'port = "can0"', 'rate = "500 kbit/s"']
    error = raises(ConfigError, parse, _with(link + link))
    assert error.key == "port"
    assert error.line > len(pack_lines()) + 3
    assert "two [[link]]" in error.reason


def test_missing():
    for key in ("name", "capacity", "cells"):
        lines = [x for x in pack_lines() if not x.startswith(key)]
        if key == "cells":
            lines = pack_lines()
            del lines[_line_of(lines, "cells") - 1]
        _refused(lines, 0, key, "missing in [pack]")
    for key in ("charge_max", "discharge_max", "current_hard_max"):
        lines = [x for x in pack_lines() if not x.startswith(key)]
        _refused(lines, 0, key, "missing in [limits]")
    lines = [x for x in pack_lines() if not x.startswith("chemistry")]
    _refused(lines, 0, "chemistry", "missing")
    lines = pack_lines(chemistry="PbA")
    _refused(lines, _line_of(lines, "chemistry"), "chemistry", '"PbA" is not known')
    for key in ("kind", "link"):
        lines = [x for x in pack_lines() if not x.startswith(key)]
        _refused(lines, _line_of(lines, "[[slave]]"), key, "missing in this [[slave]]")
    lines = pack_lines()
    lines = lines[: _line_of(lines, "[[slave]]") - 1]
    _refused(lines, 0, "", "no [[slave]]")
    raises(ConfigError, parse, [])
    lines = _with(["[[link]]", 'rate = "500 kbit/s"'])
    _refused(lines, len(lines) - 1, "port", "missing in this [[link]]")


def test_broken_lines():
    for text, reason in (
        ("cell_max", "expected key = value"),
        ('name = "x', "a quote is not closed"),
        ("name = \0", "control byte"),
        ("\x1b[31m", "control byte"),
    ):
        lines = _with([text])
        _refused(lines, len(lines), "", reason)
    lines = ["name = 1"] + pack_lines()
    _refused(lines, 1, "name", "before any [table]")
    for text in ("name = x", "name = 'x'", "name ="):
        lines = pack_lines(pack=text)
        _refused(lines, _line_of(lines, "name"), "name", "text in quotes")
    for text in ('""', '"' + "x" * 33 + '"', '"a\\tb"', '"a" "b"'):
        lines = pack_lines(pack="name = " + text)
        _refused(lines, _line_of(lines, "name"), "name", "1 to 32 plain characters")


def test_only_plain_spaces_are_spaces():
    # both runtimes must say the same of a file; they differ in what they take for white space
    for space in ("\u00a0", "\u3000", "\u2003", "\x85"):
        lines = pack_lines(limits=f'cell_max = "3.65{space}V"')
        _refused(lines, _line_of(lines, "cell_max"), "cell_max")
        for text in (f"cell_delay{space}= 1", f"{space}cell_delay = 1"):
            raises(ConfigError, parse, _with(["[limits]", text + ' "1 s"']))
        lines = pack_lines(contactors=f"precharge_tries = {space}2")
        _refused(lines, _line_of(lines, "precharge_tries"), "precharge_tries")


def test_bad_numbers_of_slaves():
    for node in (
        "0",
        "63",
        "-1",
        '"4-3"',
        '"0-3"',
        '"1-63"',
        '"a"',
        '"1-"',
        '""',
        '"1-2-3"',
        "1.5",
    ):
        lines = pack_lines()
        line = _line_of(lines, "node")
        lines[line - 1] = "node = " + node
        error = raises(ConfigError, parse, lines)
        assert (error.line, error.key) == (line, "node"), node
    lines = pack_lines(slaves=2, slave="serial = 5")
    error = raises(ConfigError, parse, lines)
    assert error.key == "serial"


def test_strings_stand_in_order():
    more = ["[[slave]]", 'kind = "cell_link"', 'link = "can0"', "cells = 4", "node = 2"]
    lines = _with(more + ["string = 3"], pack="cells = 8")
    _refused(lines, len(lines), "string", "3: the slaves of a string", "here goes 1 or 2")
    lines = pack_lines(slave="string = 2")
    _refused(lines, _line_of(lines, "string"), "string", "in order; here goes 1")


def test_load_reads_bytes_and_their_checksum():
    import os

    from fakes import crc16
    from scratch import unique

    path = unique("test_config.toml")
    data = "\n".join(pack_lines(pack='name = "Grüße"')).encode()
    try:
        with open(path, "wb") as f:
            f.write(data)
        c = pack_file.load(path)
        assert c.crc == crc16(data)
        assert c.cells == 4
        with open(path, "wb") as f:
            f.write(data + b"\n# \xff\xfe")
        error = raises(ConfigError, pack_file.load, path)
        assert error.line == len(pack_lines()) + 1
        assert "broken UTF-8" in error.reason
    finally:
        os.remove(path)
    raises(OSError, pack_file.load, path)
