"""What cell monitors of an Outlander PHEV send; `Capture.node`: the only one that is decoded."""

from typing import Any

from bms.slaves import outlander

from .base import (
    Capture,
    Decoded,
    Found,
    Shape,
    can_capture,
    can_frames,
    feed_frames,
    fill,
    fill_balanced,
    first,
    found_in,
    strangers,
)

_LISTEN_MS = 1500  # they broadcast; their period is not certain


def _is_known(ident: int) -> bool:
    return ident == outlander.COMMAND or ident >> 8 == 6 and 1 <= ident & 15 <= 4


def _shapes(frames: list[tuple[int, bytes]]) -> list[Shape]:
    """Modules with the cells that have a reading, and the sensors, as their frames show them."""
    cells: dict[int, int] = {}
    temps: dict[int, int] = {}
    for ident, data in frames:
        node, k = ident >> 4 & 15, ident & 15
        if ident >> 8 != 6 or not node or len(data) != 8:
            continue
        words = [data[i] << 8 | data[i + 1] for i in range(0, 8, 2)]
        if k == 1:
            temps[node] = sum(word != 0xFFFF for word in words[1:])
        elif 2 <= k <= 4:
            read = [i + 1 for i, mv in enumerate(words) if 500 <= mv <= 8000]
            most = 4 * (k - 2) + max(read) if read else 0
            cells[node] = max(cells.get(node, 0), most)
    return [Shape(node, min(cells[node], 8), temps.get(node, 0)) for node in sorted(cells)]


def decode(capture: Capture) -> Decoded:
    """The frames of the modules of a bus."""
    out = Decoded("outlander")
    link, frames = can_frames("outlander", capture)
    unended = link.unended()
    unexpected = strangers(out, "outlander", (x[0] for x in frames if not _is_known(x[0])))
    frames = [x for x in frames if _is_known(x[0])]
    wrong = 0
    if capture.node is not None:
        of_node = [x for x in frames if x[0] >> 4 & 15 == capture.node]
        wrong = len(frames) - len(of_node)
        frames = of_node
    table = [board for board in _shapes(frames) if board.cells]
    driver, pack = feed_frames("outlander", table or [Shape(1, 1, 0)], frames)
    if table:
        values = out.values
        fill(out, table, pack)
        values["pack_mv"] = None
        if None not in values["cells_mv"]:
            values["pack_mv"] = sum(values["cells_mv"])
        values["balance"] = int.from_bytes(driver.bits, "little")
        fill_balanced(out, list(driver.bits))
    more = any(driver._misfit)
    out.frames = {
        "good": link.rx - driver.damaged,
        "damaged": link.damaged + driver.damaged,
        "wrong_responder": wrong,
        "unexpected": unexpected,
        "unended": unended,
    }
    out.error = first(
        (link.damaged, "not an slcan frame"),
        (driver.damaged, "not 8 bytes"),
        (wrong, f"wrong responder: a frame of another module than {capture.node}"),
        (bool(unended), "truncated"),
        (not link.rx, "no frame in it"),
        (not table, "no cells in it"),
        (more, "a module with more than 8 cells"),
    )
    return out


def find(port: Any) -> list[Found]:
    """Modules that broadcast."""
    return found_in(decode(can_capture(port.exchange([], _LISTEN_MS))))
