"""Checks that refuse a pack file with bad values, and the `Config` that it gives.

Settings must be in order, within the chemistry's absolute range unless unlocked, and slaves, links
and sensors must be consistent. Allocates: it runs before the cycle starts.
"""

from array import array

from bms.config import schema
from bms.config.errors import ConfigError
from bms.config.schema import attribute, show
from bms.config.settings import Config, LinkConfig, SensorConfig, SlaveConfig

# each key must be below the next one of its row
ORDER = (
    (
        "cell_hard_min",
        "cell_min",
        "cell_derate_min",
        "cell_warn_min",
        "cell_warn_max",
        "cell_derate_max",
        "cell_max",
        "cell_hard_max",
    ),
    ("temp_min", "temp_charge_min", "temp_charge_max", "temp_max", "temp_hard_max"),
    ("temp_min", "temp_derate_min", "temp_warn_min", "temp_warn_max", "temp_derate_max"),
    ("temp_derate_max", "temp_max"),
    ("temp_charge_min", "temp_charge_derate_min", "temp_charge_warn_min", "temp_charge_warn_max"),
    ("temp_charge_warn_max", "temp_charge_derate_max", "temp_charge_max"),
    ("temp_spread_warn", "temp_spread_derate", "temp_spread_max"),
    ("board_temp_warn", "board_temp_derate", "board_temp_max"),
    ("voltage_differs_warn", "voltage_differs_derate", "voltage_differs_max"),
    ("peak_warn", "peak_derate"),
    ("soc_empty", "soc_low"),
    ("deep_cell", "empty_cell", "full_cell", "cell_max"),
    ("current_warn", "current_derate"),
    ("isolation_min", "isolation_derate", "isolation_warn"),
    ("current_idle", "charge_max", "current_hard_max"),
    ("current_idle", "discharge_max", "current_hard_max"),
    ("cell_hysteresis", "spread_warn", "spread_derate", "spread_max"),
    ("precharge_min", "precharge_max"),
    ("balance_stop", "balance_start"),
    ("scan_period", "cell_age"),
    ("cell_age_warn", "cell_age_derate", "cell_age"),
    ("voltage_min", "voltage_derate_min", "voltage_warn_min", "voltage_warn_max"),
    ("voltage_warn_max", "voltage_derate_max", "voltage_max"),
    ("scan_period", "temp_age"),
)

# Absolute range of each chemistry: (key, lowest and highest for LFP, lowest and highest for NMC). A
# setting outside needs `unlocked = true`. LFP: 2.0 V is the deepest that data sheets of
# 26650 and prismatic cells allow, 3.8 V a margin above 3.65 V; NMC: 2.5 V and 4.35 V for
# high-voltage types. Charging below 0 degC plates lithium in both; 65 and 55 degC are the highest
# that data sheets allow.
ABSOLUTE = (
    ("cell_hard_max", 0, 3800, 0, 4350),
    ("cell_max", 0, 3700, 0, 4300),
    ("cell_min", 2000, 5000, 2500, 5000),
    ("cell_hard_min", 1800, 5000, 2000, 5000),
    ("temp_hard_max", 0, 800, 0, 800),
    ("temp_max", 0, 650, 0, 650),
    ("temp_min", -300, 1000, -300, 1000),
    ("temp_charge_max", 0, 550, 0, 550),
    ("temp_charge_min", 0, 1000, 0, 1000),
)


def _small(value):
    """A number as a small int; a text as it is.

    In a frozen image, ints of a constant tuple from 8192 on are long ints (`mpy-tool.py`): to
    calculate with them allocates.
    """
    return array("i", (value,))[0] if isinstance(value, int) else value


def config_of(given, many_of):
    """Check what `toml_subset.tables_of` has read; a `Config`. Raises ConfigError."""
    name, line = given.get("pack.chemistry", ("", 0))
    if name not in schema.CHEMISTRIES:
        reason = "missing in [pack]" if not line else '"%s" is not known' % name
        raise ConfigError(line, "chemistry", reason + ': write "LFP" or "NMC"')
    config = Config()
    chemistry = schema.CHEMISTRIES.index(name)
    line_of = {}
    limits = []
    others = []
    for table, key, unit, _low, _high, lfp, nmc, _meaning in schema.SETTINGS:
        value, line = given.get(table + "." + key, (nmc if chemistry else lfp, 0))
        if value is None:
            raise ConfigError(0, key, "missing in [%s]: it has no default" % table)
        line_of[key] = (line, value, unit)
        if unit == "text":
            setattr(config, key, value)
        else:
            (limits if table == "limits" else others).append(value)
    config.chemistry = chemistry
    for row in ORDER:
        for i in range(len(row) - 1):
            low_line, low, unit = line_of[row[i]]
            high_line, high, _ = line_of[row[i + 1]]
            if not (low and high) and unit in ("mV", "ms"):
                continue  # 0: found from another setting
            if not low < high:
                # name the one that the file sets; where both are set, the later one
                first = low_line >= high_line
                raise ConfigError(
                    max(low_line, high_line),
                    row[i] if first else row[i + 1],
                    "%s = %s must be below %s = %s"
                    % (row[i], show(low, unit), row[i + 1], show(high, unit)),
                )
    config.values = array("i", limits + others)
    _absolute(config, chemistry, line_of)
    config.links = _links(many_of["link"], config.scan_period_ms)
    config.slaves = _slaves(many_of["slave"])
    config.sensors = _sensors(many_of["sensor"], config, line_of["current_sensor"][0])
    _precharge(config, line_of["link_sensor"][0])
    cells = sum(s.cells for s in config.slaves)
    if cells != config.cells:
        raise ConfigError(
            line_of["cells"][0],
            "cells",
            "the pack has %d cells but the slaves bring %d" % (config.cells, cells),
        )
    return config


def _absolute(config, chemistry, line_of):
    """Refuse settings outside the chemistry's absolute range; count them if `unlocked`."""
    config.beyond = 0
    for row in ABSOLUTE:
        line, value, unit = line_of[row[0]]
        low = row[1 + 2 * chemistry]
        high = row[2 + 2 * chemistry]
        if low <= value <= high:
            continue
        config.beyond += 1
        if not config.unlocked:
            raise ConfigError(
                line,
                row[0],
                "%s is outside what %s is used at, %s to %s: [pack] unlocked = true if it is meant"
                % (
                    show(value, unit),
                    schema.CHEMISTRIES[chemistry],
                    show(low, unit),
                    show(high, unit),
                ),
            )


def _precharge(config, line):
    """Raise ConfigError where nothing proves a precharge, and the file does not accept that."""
    if config.link_sensor or config.precharge_unproven:
        return
    missing = "" if config.precharge_resistor_ohm else "precharge_resistor"
    if not config.current_sensor:
        missing = "a current sensor"
    if missing:
        raise ConfigError(
            line,
            "link_sensor",
            "false: the current must prove a precharge, and %s is missing;"
            " precharge_unproven = true closes without proof" % missing,
        )


def _fields(entry, table, rows, cls):
    out = cls()
    out.line = entry[""][0]
    for row in rows:
        key, unit, _low, _high, default = row[:5]
        value = entry[key][0] if key in entry else default
        if value is None:
            raise ConfigError(out.line, key, "missing in this [[%s]]" % table)
        setattr(out, attribute(key, unit), _small(value))
    out.at = {key: entry[key][1] for key in entry}
    return out


def _links(entries, period_ms):
    links = []
    for entry in entries:
        link = _fields(entry, "link", schema.LINK_KEYS, LinkConfig)
        if any(other.port == link.port for other in links):
            raise ConfigError(link.line, "port", "%s stands in two [[link]]" % link.port)
        for key, age in (("cell_age", link.cell_age_ms), ("temp_age", link.temp_age_ms)):
            if 0 < age <= period_ms:
                raise ConfigError(
                    link.at[key],
                    key,
                    "%d ms must be above scan_period = %d ms" % (age, period_ms),
                )
        links.append(link)
    return links


def _sensors(entries, config, line):
    """Sensors of the file; without any, an onboard sensor per string if current_sensor is true."""
    sensors = [_fields(entry, "sensor", schema.SENSOR_KEYS, SensorConfig) for entry in entries]
    if sensors and not config.current_sensor:
        raise ConfigError(line, "current_sensor", "false, but there is a [[sensor]]")
    if not sensors and config.current_sensor:
        for string in range(1, config.slaves[-1].string + 1):
            entry = {"": (0, 0), "kind": ("board", 0), "string": (string, 0)}
            sensors.append(_fields(entry, "sensor", schema.SENSOR_KEYS, SensorConfig))
    return sensors


def _slaves(entries):
    if not entries:
        raise ConfigError(0, "", "no [[slave]] in the file")
    slaves = []
    taken = {}
    for entry in entries:
        nodes = entry["node"][0] if "node" in entry else range(1, 2)
        at = {key: entry[key][1] for key in entry}
        for node in nodes:
            slave = _fields(entry, "slave", schema.SLAVE_KEYS, SlaveConfig)
            slave.at = at  # one for all
            slave.node = node
            _own_keys(slave)
            _left_out(slave)
            place = (slave.link, node)
            if place in taken:
                line = entry["node"][1] if "node" in entry else slave.line
                raise ConfigError(
                    line,
                    "node",
                    "node %d on %s is taken by the slave in line %d"
                    % (node, slave.link, taken[place]),
                )
            if slave.serial and len(nodes) > 1:
                raise ConfigError(slave.line, "serial", "one serial number for several nodes")
            taken[place] = slave.line
            slaves.append(slave)
    _strings(slaves)
    return slaves


def _left_out(slave):
    """Make bits of the sensors that are left out. Raises ConfigError where none would be left."""
    bits = 0
    for number in slave.temps_left_out or ():
        bits |= 1 << number - 1
    slave.temps_left_out = bits
    if bits and (bits >> slave.temps or bits == (1 << slave.temps) - 1):
        raise ConfigError(
            slave.at["temps_left_out"],
            "temps_left_out",
            "it must name some of the %d temps, and leave one" % slave.temps,
        )


def _own_keys(slave):
    """Raise ConfigError for a key that only another kind of slave board has."""
    for row in schema.SLAVE_KEYS:
        key = row[0]
        kind = row[5]
        if kind and kind != slave.kind and key in slave.at:
            raise ConfigError(slave.at[key], key, "only %s has it" % kind)


def _strings(slaves):
    """Check that the slaves of a string stand together and that strings have equally many cells."""
    cells = [0]
    lines = [slaves[0].line]
    for slave in slaves:
        n = len(cells)
        if slave.string != n:
            if slave.string != n + 1 or not cells[-1]:
                raise ConfigError(
                    slave.at.get("string", slave.line),
                    "string",
                    "%d: the slaves of a string stand together, strings in order; here goes %s"
                    % (slave.string, "%d or %d" % (n, n + 1) if cells[-1] else "1"),
                )
            cells.append(0)
            lines.append(slave.at.get("string", slave.line))
        cells[-1] += slave.cells
    for i in range(len(cells)):
        if cells[i] != cells[0]:
            raise ConfigError(
                lines[i],
                "string",
                "string %d has %d cells, string 1 %d" % (i + 1, cells[i], cells[0]),
            )
