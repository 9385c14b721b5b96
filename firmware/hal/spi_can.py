"""The CAN controller on an SPI bus: an MCP2518FD where one answers, else an MCP2515."""


def spi_can(bus, rate, filters, mcp2515_hz, mcp2518fd_hz):
    """The link of what is there; only its module is loaded.

    filters: see `Driver.FILTERS`; the crystals of both parts in Hz. Raises ValueError for a rate
    that the crystal can't give, OSError where nothing answers.
    """
    # READ of OSC (DS20006027): no instruction to an MCP2515, which leaves the line floating. In its
    # second byte OSCRDY is set, and five bits always read as 0
    out = b"\x3e\x00\x00\x00"
    got = bytearray(4)
    for _ in range(20):  # its oscillator needs up to 3 ms
        bus.transfer(out, got, 4)
        if got[3] & 0xEE == 0x04:
            from bms.links.mcp2518fd import Mcp2518fd

            return Mcp2518fd(bus, rate, mcp2518fd_hz, filters)
    from bms.links.mcp2515 import Mcp2515

    return Mcp2515(bus, rate, mcp2515_hz, filters)
