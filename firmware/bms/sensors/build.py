"""Makes the current sensors of a pack file; needed at start only, and unloaded then.

The sensors of a string are joined in a `StringSensors`; those on a CAN port that carries slaves as
well get their frames from the driver's `sink`, see `FrameRouter`.
"""

from bms.config.errors import ConfigError

# kind in the pack file -> module, class, medium, keys that it must have, others that it knows,
# error near zero current in permille of the range: an estimate, which the key `error` replaces
KINDS = {
    "board": ("onboard", "OnboardSensor", "", (), ("range",), 0),
    "ina228": ("ina228", "Ina228", "i2c", ("link", "shunt", "range"), ("address",), 1),
    "hall": ("hall", "Hall", "adc", ("channel", "range", "zero", "span"), ("low", "high"), 10),
    "ivt_s": ("ivt_s", "IvtS", "can", ("link",), ("id", "range"), 1),
    "cab500": ("cab500", "Cab500", "can", ("link",), ("id", "range"), 1),
}
_ALL = ("kind", "string", "error", "gain", "reversed")  # keys of every kind


def build(config, board):
    """The sensors of the pack file as a list, in its order. Raises ConfigError.

    Those on CAN have no link yet: `slaves.build` shares its ports, `open_rest` opens the others.
    """
    for key in ("link_sensor", "voltage_sensor", "isolation_sensor"):
        if config.number(key) and key not in board.MEASURES:
            raise ConfigError(0, key, "this board does not measure it: write %s = false" % key)
    sensors = []
    buses = {}
    strings = max([slave.string for slave in config.slaves])
    for entry in config.sensors:
        if entry.kind == "board" and "current_sensor" not in board.MEASURES:
            raise ConfigError(
                _line(entry, "kind"),
                "current_sensor",
                "this board measures no current: write a [[sensor]], or current_sensor = false",
            )
        sensors.append(_sensor(entry, board, buses))
    if config.sensors:
        for string in range(1, strings + 1):
            if not any(entry.string == string for entry in config.sensors):
                raise ConfigError(0, "string", "string %d has no [[sensor]], others have" % string)
        for entry in config.sensors:
            if entry.string > strings:
                raise ConfigError(_line(entry, "string"), "string", "there is no such string")
    return sensors


def _line(entry, key):
    return entry.at.get(key, entry.line)


def _sensor(entry, board, buses):
    if entry.kind not in KINDS:
        known = " ".join(sorted(KINDS))
        raise ConfigError(
            _line(entry, "kind"), "kind", "unknown: %s; known: %s" % (entry.kind, known)
        )
    module, name, medium, needed, others, _pm = KINDS[entry.kind]
    for key in needed:
        if key not in entry.at:
            raise ConfigError(
                entry.line, key, "missing in this [[sensor]]: %s needs it" % entry.kind
            )
    for key in entry.at:
        if key and key not in _ALL and key not in needed and key not in others:
            raise ConfigError(entry.at[key], key, "%s has no such setting" % entry.kind)
    if medium in ("can", "i2c"):
        ports = getattr(board, "I2CS", ()) if medium == "i2c" else _can_ports(board)
        if entry.link not in ports:
            known = " ".join(sorted(ports)) or "none"
            raise ConfigError(
                entry.at["link"],
                "link",
                "%s speaks over %s; this board has: %s" % (entry.kind, medium, known),
            )
    module = "bms.sensors." + module
    cls = getattr(__import__(module, None, None, (name,)), name)
    if medium == "can":
        sensor = cls(entry)
        sensor.port = entry.link
        if sensor.ident + cls.LATER > 0x7FF:
            raise ConfigError(_line(entry, "id"), "id", "identifiers end at 2047")
        return sensor
    if medium == "i2c":
        place = (entry.link, entry.address)
        if place in buses:
            raise ConfigError(
                _line(entry, "address"),
                "address",
                "%d on %s is taken" % (entry.address, entry.link),
            )
        if entry.link not in buses:
            buses[entry.link] = board.open_i2c(entry.link, cls.I2C_HZ)
        buses[place] = True
        return cls(entry, buses[entry.link])
    if medium == "adc":
        inputs = len(getattr(board, "ADCS", ()))
        if entry.channel >= inputs:
            raise ConfigError(
                entry.at["channel"], "channel", "this board has %d ADC inputs, from 0" % inputs
            )
        if not entry.low_mv < entry.zero_mv - entry.span_mv:
            raise ConfigError(entry.at["span"], "span", "zero - span must be above low")
        if not entry.zero_mv + entry.span_mv < entry.high_mv:
            raise ConfigError(entry.at["span"], "span", "zero + span must be below high")
    return cls(entry, board)


def _can_ports(board):
    return [name for name in board.ports if board.ports[name] == "can"]


# --- CAN ports ---


def _on(sensors, port):
    return [sensor for sensor in sensors if sensor.port == port]


def filters(sensors, port):
    """(identifier, mask) pairs of the sensors on a CAN port."""
    pairs = []
    for sensor in _on(sensors, port):
        for ident in range(sensor.ident, sensor.ident + 1 + sensor.LATER):
            pairs.append((ident, 0x7FF))
    return tuple(pairs)


def share(config, sensors, port, driver):
    """Let a slave driver hand the frames of sensors on its port to them. Raises ConfigError."""
    mine = _on(sensors, port)
    if not mine:
        return
    from bms.sensors.frame_router import FrameRouter

    sink = FrameRouter(driver)
    _listen(config, sensors, mine, sink, driver)
    driver.sink = sink


def open_rest(config, board, sensors):
    """Open the CAN ports that carry sensors only. Raises ConfigError."""
    from bms.sensors.frame_router import FrameRouter

    taken = [slave.link for slave in config.slaves]
    for sensor in sensors:
        port = sensor.port
        if port is None or port in taken:
            continue
        taken.append(port)
        rate = line = 0
        for link in config.links:
            if link.port == port:
                rate = link.rate_bps
                line = link.at.get("rate", link.line)
        sink = FrameRouter(None)
        try:
            sensor.link = board.open_can(port, rate, filters(sensors, port))
        except ValueError as error:
            raise ConfigError(line, "rate", str(error))
        sensor.sink = sink
        _listen(config, sensors, _on(sensors, port), sink, None)


def _listen(config, sensors, mine, sink, driver):
    for sensor in mine:
        entry = config.sensors[sensors.index(sensor)]
        for ident in range(sensor.ident, sensor.ident + 1 + sensor.LATER):
            if driver is not None and driver.expects(ident):
                raise ConfigError(
                    _line(entry, "id"),
                    "id",
                    "identifier %d is a slave's on %s" % (ident, sensor.port),
                )
            if sink.add(ident, sensor) is not None:
                raise ConfigError(
                    _line(entry, "id"), "id", "identifier %d is another sensor's" % ident
                )


# --- strings ---


def _of_string(sensors, current):
    return [sensor for sensor in sensors if sensor.string == current.string]


def check(config, sensors, currents, pack):
    """Check the ranges of sensors and set the `error_ma` of each string's current.

    Raises ConfigError for a range that ends below current_hard_max, and for an error too large for
    a precharge that the current has to prove.
    """
    for current in currents:
        mine = _of_string(sensors, current)
        if mine:
            _check_string(config, sensors, mine, current, pack.string_cells[current.string])


def _check_string(config, sensors, mine, current, cells):
    entries = [config.sensors[sensors.index(sensor)] for sensor in mine]
    reach = max([sensor.range_ma for sensor in mine])
    if reach <= config.current_hard_max_ma:
        raise ConfigError(
            _line(entries[-1], "range"),
            "range",
            "string %d: %d mA must be above current_hard_max = %d mA"
            % (current.string + 1, reach, config.current_hard_max_ma),
        )
    first = cells * config.cell_min_mv // (config.precharge_resistor_ohm or 1)
    proves = not config.link_sensor and not config.precharge_unproven
    for sensor, entry in zip(mine, entries):
        error = entry.error_ma or sensor.range_ma * KINDS[entry.kind][5] // 1000
        current.error_ma = max(current.error_ma, error)
        if proves and error * 10 > first:
            raise ConfigError(
                _line(entry, "error"),
                "error",
                "%d mA is more than a tenth of the first precharge current, %d mA: %s can't prove a"
                " precharge; see precharge_unproven" % (error, first, entry.kind),
            )


# parameters: parts of the master that StringSensors reads
def string_sensors(config, sensors, currents, strings, pack, faults, now):
    """A `StringSensors` for each string that has sensors, as a list. Raises ConfigError."""
    from bms.sensors.string_sensors import StringSensors

    check(config, sensors, currents, pack)
    out = []
    for current in currents:
        mine = _of_string(sensors, current)
        if mine:
            out.append(StringSensors(config, mine, current, strings, pack, faults, now))
    return out
