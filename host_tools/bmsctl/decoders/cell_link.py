"""Cell link frames from UART bytes or slcan text; `Capture.node`: the only board that was asked."""

from typing import Any

from bms.links.can import EXTENDED
from bms.links.cobs import CobsLink
from bms.slaves import cell_link

from .base import Capture, Decoded, Frames, Shape, Stream, driver_of, first, readings, replies

_HELLO_MS = 500  # all boards of a CAN bus have answered by then
_NODE_MS = 40


def decode(capture: Capture) -> Decoded:
    """What boards said, over CAN or UART."""
    out = Decoded("cell_link")
    node = capture.node
    frames = Frames()
    link = replies("cell_link", capture, frames)
    link.polled = False  # whoever was asked, a capture holds only the answers
    unended = link.unended()
    boards: dict[int, list[int]] = {}
    wrong = 0
    for ident, payload in frames.seen:
        function, number = ident >> 6, ident & 63
        if ident & EXTENDED or not 1 <= number <= 62:
            continue  # somebody else's
        if cell_link.SCAN <= function <= cell_link.BALANCE:
            continue
        if node is not None and number != node:
            wrong += 1
            continue
        counts = boards.setdefault(number, [0, 0])
        if function == cell_link.HELLO and len(payload) == 8:
            counts[:] = [payload[1], payload[2]]
        elif cell_link.CELLS <= function < cell_link.TEMPS:
            counts[0] = max(counts[0], 4 * (function - cell_link.CELLS + 1))
        elif cell_link.TEMPS <= function < cell_link.STATUS:
            counts[1] = max(counts[1], 4 * (function - cell_link.TEMPS + 1))
    table = [Shape(n, min(c, 32) or 1, min(t, 16)) for n, (c, t) in sorted(boards.items())]
    driver, pack = driver_of("cell_link", link, table or [Shape(1, 1, 0)])
    alarms: list[str] = []
    buf = bytearray(8)
    seq = -1
    for ident, payload in frames.seen:
        if ident & 63 not in boards or not cell_link.CELLS <= ident >> 6 <= cell_link.STATUS:
            continue
        buf[: len(payload)] = payload
        if len(payload) == 8:
            # the running scan is the one that the answer names: with 8 bits in STATUS, else 4
            whole = ident >> 6 == cell_link.STATUS
            named = payload[6] if whole else payload[6] >> 4
            if named != (seq if whole else seq & 15):
                seq = named
                driver.begin(seq, 0)
        driver.on_frame(ident, len(payload), buf, 0)
    values = out.values
    if table:
        values["boards"] = [board.node for board in table]
        cells, temps = readings(pack)
        values["cells_mv"], values["temps_dc"] = _trimmed(cells), _trimmed(temps)
        if all(pack.stack_ok):
            values["pack_mv"] = sum(pack.stack_mv)
        for flags in pack.slave_flags:
            alarms += [f"bit_{bit}" for bit in range(16) if flags >> bit & 1]
        values["alarms"] = alarms
    out.frames = {
        "good": link.rx - driver.damaged,
        "damaged": link.damaged + driver.damaged,
        "wrong_responder": wrong,
        "unended": unended,
    }
    broken = "not an slcan frame" if capture.can else "wrong CRC-16, or truncated"
    out.error = first(
        (driver.damaged, "wrong CRC-8"),
        (link.damaged, broken),
        (wrong, f"wrong responder: a frame of another node than {node}"),
        (bool(unended), "truncated"),
        (not link.rx, "no frame in it"),
    )
    return out


def _trimmed(values: list[int | None]) -> list[int | None]:
    """Without the empty places at the end of the last frame."""
    while values and values[-1] is None:
        values.pop()
    return values


def find(port: Any) -> list[Shape]:
    """Boards that say hello: over CAN all at once, over UART each by its number."""
    frames = Frames()
    ask = cell_link.HELLO << 6
    if port.medium == "can":
        frames.seen = port.ask([(ask, b"")], _HELLO_MS)
    else:
        for node in range(1, 63):
            stream = Stream()
            CobsLink(stream).send(ask | node, bytearray(8), 0)
            answer = Stream(port.ask(stream.sent, _NODE_MS))
            link = CobsLink(answer)
            while answer.data:
                link.poll(frames, 0)
    out = {}
    for ident, payload in frames.seen:
        if ident >> 6 == cell_link.HELLO and len(payload) == 8 and 1 <= ident & 63 <= 62:
            out[ident & 63] = Shape(ident & 63, payload[1], payload[2])
    return [out[node] for node in sorted(out)]
