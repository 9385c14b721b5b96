"""Packets of a diyBMS ring as they came back, or as they were sent."""

from typing import Any

from bms.slaves import diybms

from .base import (
    Capture,
    Decoded,
    Found,
    Shape,
    balanced_masks,
    fill,
    fill_balanced,
    first,
    found_in,
    listen,
    replies,
    why_damaged,
)

_WAIT_S = 41 * 10 / 2400  # a packet in one module, at the slowest rate


class _Seen:
    """What packets show of the ring."""

    def __init__(self) -> None:
        self.link: Any = None  # set by `replies`
        self.cells: dict[int, int] = {}
        self.temps: dict[int, int] = {}
        self.modules = self.requests = self.unanswered = 0
        self.version: str | None = None

    def on_packet(self, now: int) -> None:
        del now
        packet = bytes(self.link.packet)
        start, end, command, hops = packet[:4]
        if not command & 0x80:
            self.requests += not hops
            self.unanswered += bool(hops)
            return
        self.modules = hops
        if command & 0x0F == diybms.SETTINGS:
            words = [packet[i] | packet[i + 1] << 8 for i in range(6, 38, 2)]
            self.version = f"board {words[10]}, build {words[15]:04X}{words[14]:04X}"
        node = start // diybms.BLOCK + 1
        last = min(end, node * diybms.BLOCK - 1, hops - 1)
        cells = last - (node - 1) * diybms.BLOCK + 1
        if command & 0x0F == diybms.VOLTAGE:
            self.cells[node] = max(self.cells.get(node, 0), cells)
        elif command & 0x0F == diybms.TEMPERATURE:
            outside = [packet[6 + 2 * i] for i in range(cells)]
            self.temps[node] = next((i for i, raw in enumerate(outside) if not raw), cells)


def decode(capture: Capture) -> Decoded:
    """The answers of the modules of a ring."""
    out = Decoded("diybms")
    seen = _Seen()
    link = replies("diybms", capture, seen)
    boards = [Shape(n, max(seen.cells[n], 1), seen.temps.get(n, 0)) for n in sorted(seen.cells)]
    values = out.values
    if boards:
        driver, pack = listen("diybms", capture, boards)
        fill(out, boards, pack)
        fill_balanced(out, balanced_masks(boards, pack))
        read = zip(driver.threshold_mv, driver.threshold_read, strict=True)
        values["thresholds_mv"] = [mv if known else None for mv, known in read]
    if seen.version is not None:
        values["version"] = seen.version
    values["modules"] = seen.modules or None
    out.frames = {
        "good": link.rx,
        "damaged": link.damaged,
        "echoes": seen.requests,
        "unanswered": seen.unanswered,
    }
    out.error = first(
        (link.damaged, why_damaged(link)),
        (seen.unanswered, "no module answered: its address is not in the ring"),
        (not link.rx, "no packet in it: no AA and 40 bytes"),
        (link.rx == seen.requests, "only requests in it"),
    )
    return out


def find(port: Any) -> list[Found]:
    """Count the modules of a ring, then read each block."""
    from .base import Stream

    link = diybms.DiybmsLink(Stream())

    def packet(command: int, start: int, end: int) -> bytes:
        link._stream.sent = b""
        link.out_packet[:] = bytes([start, end, command, 0, 1, 0]) + bytes(34)
        link.send_poll()
        wait_ms = round(((modules or 200) + 2) * _WAIT_S * 1000)
        return port.exchange(link._stream.sent, wait_ms)

    modules = 0
    out: list[Found] = []
    for _ in range(3):  # the first packet may only wake them
        decoded = decode(Capture(packet(8, 0, 200)))
        modules = decoded.values["modules"] or 0
        if modules:
            break
    for first_module in range(0, modules, diybms.BLOCK):
        end = min(first_module + diybms.BLOCK, modules) - 1
        received = answer = b""
        for command in (diybms.VOLTAGE, diybms.TEMPERATURE):
            for _ in range(2):
                answer = packet(command, first_module, end)
                if decode(Capture(answer)).error is None:
                    break
            received += answer
        found = found_in(decode(Capture(received)))
        out += found or [Found(Shape(first_module // diybms.BLOCK + 1, 0, 0))]
    return out
