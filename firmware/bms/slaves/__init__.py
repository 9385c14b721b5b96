"""Drivers of slave boards, one file per kind; `build` makes those that a pack file asks for."""

from bms.errors import ConfigError

# kind in the pack file -> module, class, ports that it speaks over
KINDS = {
    "cell_link": ("bms.slaves.cell_link", "CellLink", ("can", "uart")),
    "jbd": ("bms.slaves.jbd", "Jbd", ("uart",)),
}


def build(config, board, pack, limits, faults, sensors=()):
    """One driver per port and kind, as a list; `sensors` on their ports get their frames by them.

    Raises ConfigError for a kind or a port that isn't there, or a scan that takes too long.
    """
    for link in config.links:
        if not any(one.link == link.port for one in config.slaves + config.sensors):
            raise ConfigError(
                link.at["port"], "port", "no [[slave]] is on %s, and no [[sensor]]" % link.port
            )
    drivers = []
    kind_on = {}
    for slave in config.slaves:
        if kind_on.get(slave.link) == slave.kind:
            continue
        if slave.link in kind_on:
            raise ConfigError(
                slave.at["kind"],
                "kind",
                "%s carries %s already" % (slave.link, kind_on[slave.link]),
            )
        kind_on[slave.link] = slave.kind
        drivers.append(_driver(slave, config, board, pack, limits, faults, sensors))
    return drivers


def _driver(slave, config, board, pack, limits, faults, sensors):
    """The driver of one port; `slave` is the first one on it."""
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
    rate = 0
    line = slave.at["link"]
    for link in config.links:
        if link.port == slave.link:
            rate = link.rate_bps
            line = link.at.get("rate", link.line)
    try:
        if medium == "can":
            filters = cls.FILTERS
            if filters:
                filters += sensors_.filters(sensors, slave.link)
            link = board.open_can(slave.link, rate, filters)
        else:
            link = cls.frame(board.open_uart(slave.link, rate or cls.UART_BPS), rate)
    except ValueError as error:
        raise ConfigError(line, "rate", str(error))
    driver = cls(link, members, pack, limits, faults, config)
    sensors_.share(config, sensors, slave.link, driver)
    need = driver.scan_ms(config)
    if need > config.scan_period_ms:
        raise ConfigError(
            slave.at["link"],
            "link",
            "a scan of %s takes %d ms, longer than scan_period = %d ms"
            % (slave.link, need, config.scan_period_ms),
        )
    return driver
