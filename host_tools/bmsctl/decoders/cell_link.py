"""Cell link frames from UART bytes or slcan text; `Capture.node`: the only board polled."""

from collections.abc import Iterator
from typing import Any

from bms.links.can import EXTENDED
from bms.links.cobs import CobsLink
from bms.slaves import cell_link

from .base import (
    Capture,
    Decoded,
    Found,
    Frames,
    Shape,
    Stream,
    can_capture,
    driver_of,
    first,
    found_in,
    own_temperatures,
    readings,
    replies,
    rows,
    shape,
    strangers,
    too_many,
)

_HELLO_MS = 500  # all boards of a CAN bus have answered by then
_NODE_MS = 40
# bytes of a master's frames
_REQUEST_BYTES = {cell_link.SCAN: 2, cell_link.BALANCE: 8, cell_link.HELLO: 0, cell_link.ASSIGN: 5}


def _is_known(ident: int) -> bool:
    function = ident >> 6
    measured = cell_link.CELLS <= function <= cell_link.STATUS
    return not ident & EXTENDED and (measured or function <= cell_link.ASSIGN)


# long: one branch for each function of the protocol, over the same tables
def decode(capture: Capture) -> Decoded:
    """The frames of boards, over CAN or UART."""
    out = Decoded("cell_link")
    node = capture.node
    frames = Frames()
    link = replies("cell_link", capture, frames)
    link.polled = False  # a capture may hold the answers without the polls
    unended = link.unended()
    boards: dict[int, list[int]] = {}
    stated: dict[int, tuple[int, int]] = {}  # by HELLO; frames alone show multiples of four
    said: dict[int, dict[str, Any]] = {}  # by HELLO
    duty: dict[int, int] = {}  # of balancing, in %
    wrong = requests = 0
    unexpected = strangers(out, "cell_link", (x[0] for x in frames.seen if not _is_known(x[0])))
    read = False
    for ident, payload in frames.seen:
        function, number = ident >> 6, ident & 63
        if ident & EXTENDED or len(payload) == _REQUEST_BYTES.get(function):
            requests += not ident & EXTENDED
            continue
        if not 1 <= number <= 62 or cell_link.HELLO < function < cell_link.CELLS:
            continue  # not of a slave
        if cell_link.SCAN <= function <= cell_link.BALANCE or function > cell_link.STATUS:
            continue
        if node is not None and number != node:
            wrong += 1
            continue
        counts = boards.setdefault(number, [0, 0])
        if function == cell_link.HELLO and len(payload) == 8:
            stated[number] = (payload[1], payload[2])
            serial = int.from_bytes(payload[4:], "little")
            said[number] = {"version": str(payload[0]), "serial": serial}
            read = read or payload[0] == cell_link.VERSION
        elif function == cell_link.STATUS and len(payload) == 8:
            duty[number] = payload[5]
        elif cell_link.CELLS <= function < cell_link.TEMPS:
            counts[0] = max(counts[0], 4 * (function - cell_link.CELLS + 1))
        elif cell_link.TEMPS <= function < cell_link.STATUS:
            counts[1] = max(counts[1], 4 * (function - cell_link.TEMPS + 1))
    table = [shape("cell_link", n, *stated.get(n, counts)) for n, counts in sorted(boards.items())]
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
    read = read or any(pack.cell_flags) or any(pack.temp_flags) or any(pack.stack_ok)
    if table:
        values["boards"] = [board.node for board in table]
        out.each = rows(table, pack)
        own_temperatures(out, pack)
        for row in out.each:
            row["balance"] = duty.get(row["node"])
            row.update(said.get(row["node"], {}))
        if len(out.each) == 1:
            values.update((key, out.each[0].get(key)) for key in ("balance", "version", "serial"))
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
        "unexpected": unexpected,
        "unended": unended,
    }
    broken = "not an slcan frame" if capture.can else "wrong CRC-16, or truncated"
    out.error = first(
        (driver.damaged, "wrong CRC-8"),
        (link.damaged, broken),
        (wrong, f"wrong responder: a frame of another node than {node}"),
        (bool(unended), "truncated"),
        (not link.rx, "no frame in it"),
        (requests == link.rx, "only requests in it"),
        too_many("cell_link", {n: cells for n, (cells, _temps) in stated.items()}),
        (not read, "no reading of a board in it"),
    )
    return out


def _trimmed(values: list[int | None]) -> list[int | None]:
    """Without the empty places at the end of the last frame."""
    while values and values[-1] is None:
        values.pop()
    return values


def find(port: Any) -> Iterator[Found]:
    """Boards that answer HELLO, over CAN all at once, over UART one by one; then their cells."""
    hello_id, scan = cell_link.HELLO << 6, cell_link.SCAN << 6
    once = bytes([1, cell_link.PAUSE_BALANCING])
    if port.medium == "can":
        received = [x for _ in range(2) for x in port.exchange([(hello_id, b"")], _HELLO_MS)]
        received += port.exchange([(scan, once)], _HELLO_MS)
        yield from _found(received, can_capture(received))
        return

    def say(ident: int, payload: bytes) -> bytes:
        stream = Stream()
        CobsLink(stream).send(ident, bytearray(payload), len(payload))
        return port.exchange(stream.sent, _NODE_MS)

    for node in range(1, 63):
        for _ in range(2):
            hello = _frames(say(hello_id | node, b""))
            if any(x[0] == hello_id | node and len(x[1]) == 8 for x in hello):
                say(scan, once)
                answer = say(scan | node, once)
                yield from _found(hello, Capture(answer, node=node))
                break


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    frames = Frames()
    replies("cell_link", Capture(data), frames)
    return frames.seen


def _found(received: list[tuple[int, bytes]], capture: Capture) -> list[Found]:
    """Boards that answered HELLO, with their cells in a capture."""
    shapes = {
        ident & 63: Shape(ident & 63, payload[1], payload[2])
        for ident, payload in received
        if ident >> 6 == cell_link.HELLO and len(payload) == 8 and 1 <= ident & 63 <= 62
    }
    highest = {x.shape.node: x.highest_mv for x in found_in(decode(capture))}
    return [Found(shapes[n], highest_mv=highest.get(n)) for n in sorted(shapes)]
