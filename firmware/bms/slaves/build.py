"""Makes the drivers of a pack file; needed at start only, and unloaded then."""

from bms.config.errors import ConfigError
from bms.slaves.base import CAN_BALANCE, OWN_FETS

# kind in the pack file -> module, class, media; the tools find a kind here as well
KINDS = {
    "cell_link": ("bms.slaves.cell_link", "CellLink", ("can", "uart")),
    "jbd": ("bms.slaves.jbd", "Jbd", ("uart",)),
    "jbd_up": ("bms.slaves.jbd_up", "JbdUp", ("uart",)),
    "bq796xx": ("bms.slaves.bq796xx", "Bq796xx", ("uart",)),
    "bmw_i3": ("bms.slaves.bmw_i3", "BmwI3", ("can",)),
    "daly": ("bms.slaves.daly", "Daly", ("uart", "can")),
    "diybms": ("bms.slaves.diybms", "Diybms", ("uart",)),
    "jk_can": ("bms.slaves.jk_can", "JkCan", ("can",)),
    "jk_pb": ("bms.slaves.jk_pb", "JkPb", ("uart",)),
    "pylontech": ("bms.slaves.pylontech", "Pylontech", ("uart",)),
    "tesla_s": ("bms.slaves.tesla_s", "TeslaS", ("uart",)),
    "jk_ttl": ("bms.slaves.jk_ttl", "JkTtl", ("uart",)),
    "outlander": ("bms.slaves.outlander", "Outlander", ("can",)),
}


def build(config, board, pack, limits, faults, sensors=()):
    """One driver per port, as a list; they pass on the frames of `sensors` that share their ports.

    Raises ConfigError for an unknown kind or port, or a scan that takes too long.
    """
    for link in config.links:
        if not any(one.link == link.port for one in config.slaves + config.sensors):
            raise ConfigError(
                link.at["port"], "port", "no [[slave]] is on %s, and no [[sensor]]" % link.port
            )
    first_on = {}
    for slave in config.slaves:
        first = first_on.get(slave.link)
        if first is None:
            first_on[slave.link] = slave
        elif first.kind != slave.kind:
            raise ConfigError(
                slave.at["kind"], "kind", "%s carries %s already" % (slave.link, first.kind)
            )
    drivers = []
    for slave in config.slaves:
        if first_on[slave.link] is slave:
            drivers.append(_driver(slave, config, board, pack, limits, faults, sensors))
    return drivers


# parameters: parts of the master that every driver gets
def _driver(slave, config, board, pack, limits, faults, sensors):
    """The driver of one port; slave: the first one on it. Raises ConfigError."""
    if slave.kind not in KINDS:
        known = " ".join(sorted(KINDS))
        raise ConfigError(slave.at["kind"], "kind", "unknown: %s; known: %s" % (slave.kind, known))
    module, name, media = KINDS[slave.kind]
    if slave.link not in board.ports:
        known = " ".join(sorted(board.ports))
        raise ConfigError(
            slave.at["link"], "link", "this board has no port %s; it has: %s" % (slave.link, known)
        )
    medium = board.ports[slave.link]
    if medium not in media:
        raise ConfigError(
            slave.at["link"], "link", "%s speaks over %s" % (slave.kind, " or ".join(media))
        )
    from bms.sensors import build as sensors_  # needed here only

    cls = getattr(__import__(module, None, None, (name,)), name)
    members = [i for i in range(len(config.slaves)) if config.slaves[i].link == slave.link]
    _check_boards(cls, slave, members, config, pack)
    rate = 0
    line = slave.at["link"]
    for link in config.links:
        if link.port == slave.link:
            rate = link.rate_bps
            line = link.at.get("rate", link.line)
            for key in cls.IGNORED:
                if key in link.at:
                    raise ConfigError(link.at[key], key, "it has no effect on " + slave.kind)
    try:
        if medium == "can":
            filters = cls.FILTERS
            if filters:
                filters += sensors_.filters(sensors, slave.link)
            link = board.open_can(slave.link, rate or cls.CAN_BPS, filters)
        else:
            link = cls.frame(board.open_uart(slave.link, rate or cls.UART_BPS), rate)
    except ValueError as error:
        raise ConfigError(line, "rate", str(error))
    driver = cls(link, members, pack, limits, faults, config)
    sensors_.share(config, sensors, slave.link, driver)
    _fits(driver, slave, config)
    return driver


def _check_boards(cls, slave, members, config, pack):
    """Check all boards of a port against the bounds of their kind. Raises ConfigError."""
    if len(members) > cls.MOST:
        raise ConfigError(
            config.slaves[members[cls.MOST]].line,
            "link",
            "%s: %d boards on %s, at most %d go on a port"
            % (slave.kind, len(members), slave.link, cls.MOST),
        )
    for i in members:
        one = config.slaves[i]
        low, high = cls.NODES
        for key, value, least, most in (
            ("node", one.node, low, high),
            ("cells", one.cells, 1, cls.CELLS),
            ("temps", one.temps, 0, cls.TEMPS),
        ):
            if not least <= value <= most:
                raise ConfigError(
                    one.at.get(key, one.line),
                    key,
                    "%s: %d is out of range: %d to %d" % (slave.kind, value, least, most),
                )
        if one.fets and not cls.ABILITIES & OWN_FETS:
            raise ConfigError(one.at["fets"], "fets", "%s: they can't be commanded" % slave.kind)
        pack.status[i] = cls.REPORTS
        pack.can_balance[i] = 1 if cls.ABILITIES & CAN_BALANCE else 0


def least_age_ms(need_ms, period_ms, lost_ms):
    """The least age in ms that readings must be allowed, so that one lost answer does not trip.

    need_ms: time of a scan; period_ms: of the master's scans; lost_ms: the driver's `lost_ms`.
    """
    return 2 * ((need_ms + period_ms - 1) // period_ms) * period_ms + lost_ms


def most_age_ms(key):
    """The highest `cell_age` or `temp_age` that a [[link]] may have, in ms."""
    from bms.config.schema import LINK_KEYS  # large, and needed here only

    for row in LINK_KEYS:
        if row[0] == key:
            return row[3]
    return 0


def _fits(driver, slave, config):
    """Set how often a scan of this driver begins. Raises ConfigError where readings get too old."""
    need = driver.scan_ms(config)
    period = config.scan_period_ms
    if need > period and not driver.SLOW:
        raise ConfigError(
            slave.at["link"],
            "link",
            "a scan of %s takes %d ms, longer than scan_period = %d ms"
            % (slave.link, need, period),
        )
    driver.every = (need + period - 1) // period
    for i in driver.members:
        driver.pack.poll_period_ms[i] = driver.every * period
    if not driver.SLOW:
        return
    if driver.ALARM_MS < 2 * driver.every * period:
        driver.ALARM_MS = 2 * driver.every * period
    least = least_age_ms(need, period, driver.lost_ms(need))
    first = driver.members[0]  # all boards of a port have the same
    link = config.link_of(slave.link)
    for key, age in (
        ("cell_age", driver.pack.cell_age[first]),
        ("temp_age", driver.pack.temp_age[first]),
    ):
        if least > most_age_ms(key):
            raise ConfigError(
                slave.at["link"],
                "link",
                "a scan of %s takes %d ms: a lost board would be noticed after %d ms, %d ms are"
                " allowed; fewer boards on it, or a higher rate"
                % (slave.link, need, least, most_age_ms(key)),
            )
        if age < least:
            raise ConfigError(
                link.at.get(key, slave.at["link"]) if link else slave.at["link"],
                key,
                '%d ms is too short: a scan of %s takes %d ms; write %s = "%d ms" or more in'
                " its [[link]], a lost board is noticed after that time"
                % (age, slave.link, need, key, least),
            )
