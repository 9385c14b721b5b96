"""Detects the CAN controller on an SPI bus: an MCP2518FD if one answers, else an MCP2515."""


def spi_can(bus, rate, filters, mcp2515_hz, mcp2518fd_hz):
    """Link of the controller that answers; only its module is loaded.

    rate: bit/s; filters: see `Driver.FILTERS`; mcp2515_hz, mcp2518fd_hz: crystals of both parts.
    Raises ValueError for a rate that the crystal can't give, OSError where nothing answers.
    """
    # READ of OSC (DS20006027): not an instruction of an MCP2515, which leaves the line floating.
    # In the second byte OSCRDY is set, and five bits always read as 0
    out = b"\x3e\x00\x00\x00"
    got = bytearray(4)
    for _ in range(20):  # the oscillator takes up to 3 ms to start
        bus.transfer(out, got, 4)
        if got[3] & 0xEE == 0x04:
            from bms.links.mcp2518fd import Mcp2518fd

            return Mcp2518fd(bus, rate, mcp2518fd_hz, filters)
    from bms.links.mcp2515 import Mcp2515

    return Mcp2515(bus, rate, mcp2515_hz, filters)
