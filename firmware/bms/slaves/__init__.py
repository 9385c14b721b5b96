"""Drivers of slave boards, one file per kind; `build` makes those that a pack file asks for."""

from bms.config import ConfigError

# kind in the pack file -> module, class, ports that it speaks over
KINDS = {
    "cell_link": ("bms.slaves.cell_link", "CellLink", ("can", "uart")),
    "jbd": ("bms.slaves.jbd", "Jbd", ("uart",)),
}


def build(config, board, pack, limits, faults):
    """One driver per port and kind, as a list.

    Raises ConfigError for a kind or a port that isn't there, or a scan that takes too long.
    """
    drivers = []
    used = {}
    for slave in config.slaves:
        place = (slave.link, slave.kind)
        if place in used:
            continue
        if slave.kind not in KINDS:
            known = " ".join(sorted(KINDS))
            raise ConfigError(slave.line, "kind", "unknown: %s; known: %s" % (slave.kind, known))
        module, name, media = KINDS[slave.kind]
        for other in used:
            if other[0] == slave.link:
                raise ConfigError(slave.line, "link", "%s carries another kind" % slave.link)
        if slave.link not in board.ports:
            known = " ".join(sorted(board.ports))
            raise ConfigError(
                slave.line, "link", "this board has no port %s; it has: %s" % (slave.link, known)
            )
        medium = board.ports[slave.link]
        if medium not in media:
            raise ConfigError(
                slave.line, "link", "%s speaks over %s" % (slave.kind, " or ".join(media))
            )
        used[place] = True
        cls = getattr(__import__(module, None, None, (name,)), name)
        members = [
            i
            for i in range(len(config.slaves))
            if config.slaves[i].link == slave.link and config.slaves[i].kind == slave.kind
        ]
        rate = 0
        for link in config.links:
            if link.port == slave.link:
                rate = link.rate_bps
        if medium == "can":
            link = board.open_can(slave.link, rate)
        else:
            link = cls.frame(board.open_uart(slave.link, rate or cls.UART_BPS), rate)
        driver = cls(link, members, pack, limits, faults, config)
        need = driver.scan_ms(config)
        if need > config.scan_period_ms:
            raise ConfigError(
                slave.line,
                "link",
                "a scan of %s takes %d ms, longer than scan_period = %d ms"
                % (slave.link, need, config.scan_period_ms),
            )
        drivers.append(driver)
    return drivers
