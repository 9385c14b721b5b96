"""Answers of modules of a BMW i3, and polls; `Capture.node`: the only module that is decoded."""

from typing import Any

from bms.links.slcan import Slcan
from bms.slaves import bmw_i3

from .base import (
    Capture,
    Decoded,
    Found,
    Shape,
    Stream,
    can_capture,
    can_frames,
    driver_of,
    feed_frames,
    fill,
    fill_balanced,
    first,
    found_in,
    strangers,
)

_ANSWER_MS = 50
_LOOPS = 6  # until a greeted module has measured; else it is greeted again


def _is_known(ident: int) -> bool:
    return bmw_i3.STATUS >> 4 <= ident >> 4 <= bmw_i3.TEMPS >> 4 or ident & ~15 == bmw_i3.POLL


def _shapes(frames: list[tuple[int, bytes]]) -> list[Shape]:
    """Modules with the cells that have a reading, and the sensors, as their frames show them."""
    cells: dict[int, int] = {}
    temps: dict[int, int] = {}
    for ident, data in frames:
        node, k = (ident & 15) + 1, (ident >> 4) - (bmw_i3.CELLS >> 4)
        if ident & ~15 == bmw_i3.TEMPS and len(data) >= 4:
            temps[node] = max([i + 1 for i in range(4) if 0 < data[i] < 0xFF], default=0)
        elif 0 <= k < 4 and len(data) >= 6 and node <= 12:
            words = [data[i] | data[i + 1] << 8 for i in (0, 2, 4)]
            read = [i + 1 for i, mv in enumerate(words) if 500 <= mv <= 8000]
            cells[node] = max(cells.get(node, 0), 3 * k + max(read) if read else 0)
    return [Shape(n, cells[n], temps.get(n, 0)) for n in sorted(cells) if cells[n]]


def decode(capture: Capture) -> Decoded:
    """The frames of the modules of a bus."""
    out = Decoded("bmw_i3")
    link, frames = can_frames("bmw_i3", capture)
    unended = link.unended()
    unexpected = strangers(out, "bmw_i3", (x[0] for x in frames if not _is_known(x[0])))
    frames = [x for x in frames if _is_known(x[0])]
    polls = broken = wrong = 0
    good_frames = []
    for ident, data in frames:
        if ident & ~15 == bmw_i3.POLL:
            good = len(data) == 8 and ident & 15 < 12 and bmw_i3.poll_crc(ident, data) == data[7]
            polls, broken = polls + good, broken + (not good)
        elif capture.node is not None and (ident & 15) + 1 != capture.node:
            wrong += 1
        else:
            good_frames.append((ident, data))
    table = _shapes(good_frames)
    driver, pack = feed_frames("bmw_i3", table or [Shape(1, 1, 0)], good_frames)
    if table:
        values = out.values
        fill(out, table, pack)
        values["pack_mv"] = None
        if None not in values["cells_mv"]:
            values["pack_mv"] = sum(values["cells_mv"])
        values["balance"] = sum(bits << 12 * m for m, bits in enumerate(driver.bits))
        fill_balanced(out, list(driver.bits))
        errors = zip(driver.errors_low, driver.errors_high, strict=True)
        values["protection"] = sum(
            (low | high << 16) << 32 * m for m, (low, high) in enumerate(errors)
        )
    out.frames = {
        "good": link.rx - driver.damaged - broken,
        "damaged": link.damaged + driver.damaged + broken,
        "polls": polls,
        "wrong_responder": wrong,
        "unexpected": unexpected,
        "unended": unended,
    }
    out.error = first(
        (link.damaged, "not an slcan frame"),
        (driver.damaged, "too short"),
        (broken, "wrong CRC-8 of a poll"),
        (wrong, f"wrong responder: a frame of another module than {capture.node}"),
        (bool(unended), "truncated"),
        (not link.rx, "no frame in it"),
        (polls == len(frames), "only requests in it"),
        (not table, "no cells in it"),
    )
    return out


def find(port: Any) -> list[Found]:
    """Modules that answer polls, the first of which greet them, until all of these measure."""
    nodes = range(1, 13)
    driver, _pack = driver_of("bmw_i3", Slcan(Stream()), [Shape(n, 1, 0) for n in nodes])
    frames: list[tuple[int, bytes]] = []
    there: set[int] = set()
    for loop in range(1, 2 * _LOOPS + 1):
        for m in range(len(nodes)):
            ident = driver.next_poll(m)
            frames += port.exchange([(ident, bytes(driver.out))], _ANSWER_MS)
        there = {(ident & 15) + 1 for ident, _data in frames if ident & ~15 == bmw_i3.STATUS}
        if loop >= _LOOPS and there <= {s.node for s in _shapes(frames)}:
            break
    frames += port.exchange([], _ANSWER_MS)
    found = found_in(decode(can_capture(frames)))
    silent = there - {x.shape.node for x in found}
    return found + [Found(Shape(node, 0, 0)) for node in silent]
