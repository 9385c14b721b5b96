"""What JK boards broadcast on CAN; `Capture.node`: the only one that is decoded."""

from dataclasses import replace
from typing import Any

from bms.links.can import EXTENDED
from bms.slaves import jk_can

from .base import (
    Capture,
    Decoded,
    Found,
    Shape,
    can_capture,
    can_frames,
    feed_frames,
    fill,
    first,
    found_in,
    shape,
    strangers,
)

# 29-bit frames that the driver does not need, at address 0; the vendor's examples in
# public implementations of V2 agree in them
CAPACITY = EXTENDED | 0x18F128F4  # remaining, full, 0.1 Ah; charge so far; cycles
SENSORS = EXTENDED | 0x18F228F4  # mask of sensors, then degC + 50 of each
SWITCHES = EXTENDED | 0x18F528F4  # bit 0 charge FET, 1 discharge FET, 2 balancing
_IDENTS = (jk_can.STATUS, jk_can.EXTREMES, jk_can.TEMPS_ID, jk_can.ALARM)
_IDENTS += (CAPACITY, SENSORS, SWITCHES)
# two bits each in 7F4, from the lowest on
ALARMS = (
    "cell_overvoltage",
    "cell_undervoltage",
    "pack_overvoltage",
    "pack_undervoltage",
    "cells_apart",
    "discharge_overcurrent",
    "charge_overcurrent",
    "overtemperature",
    "undertemperature",
    "board_overtemperature",
    "soc_low",
    "internal_11",
    "internal_12",
    "internal_13",
    "internal_14",
    "internal_15",
)
_LISTEN_MS = 2500  # cells come once a second


def _is_known(ident: int) -> bool:
    own = ident - _node(ident) + 1
    k = (own & ~EXTENDED) - jk_can.CELLS_ID
    if ident & EXTENDED and not k & 0xFFFF and 0 <= k >> 16 < 7:
        return True
    return own in _IDENTS


def _node(ident: int) -> int:
    return (ident & 15) - 3


def _shapes(frames: list[tuple[int, bytes]]) -> list[Shape]:
    """Boards with the cells that have a reading, as their frames show them."""
    cells: dict[int, int] = {}
    temps: set[int] = set()
    for ident, data in frames:
        node = _node(ident)
        if not 1 <= node <= 12:
            continue
        k = (ident & ~EXTENDED) - node + 1 - jk_can.CELLS_ID
        if ident & EXTENDED and not k & 0xFFFF and 0 <= k >> 16 < 7 and len(data) == 8:
            mv = [int.from_bytes(data[i : i + 2], "little") for i in range(0, 8, 2)]
            read = [i + 1 for i, v in enumerate(mv) if 500 <= v <= 8000]
            cells[node] = max(cells.get(node, 0), 4 * (k >> 16) + max(read, default=0))
        elif ident - node + 1 == jk_can.TEMPS_ID:
            temps.add(node)
    return [shape("jk_can", n, cells[n], 2 if n in temps else 0) for n in sorted(cells) if cells[n]]


def decode(capture: Capture) -> Decoded:
    """The frames of the boards of a bus."""
    out = Decoded("jk_can")
    link, frames = can_frames("jk_can", capture)
    unended = link.unended()
    unexpected = strangers(out, "jk_can", (x[0] for x in frames if not _is_known(x[0])))
    frames = [x for x in frames if _is_known(x[0])]
    wrong = 0
    if capture.node is not None:
        mine = [x for x in frames if _node(x[0]) == capture.node]
        wrong = len(frames) - len(mine)
        frames = mine
    table = _shapes(frames)
    driver, pack = feed_frames("jk_can", table or [Shape(1, 1, 0)], frames)
    if table:
        fill(out, table, pack)
        for m, row in enumerate(out.each):
            if row["pack_mv"] is None and driver._stack_dv[m]:
                row["pack_mv"] = driver._stack_dv[m] * 100
        stacks = [row["pack_mv"] for row in out.each]
        out.values["pack_mv"] = None if None in stacks else sum(stacks)
        if driver.soc_pm != -1:
            out.values["current_ma"], out.values["soc_pm"] = driver.current_ma, driver.soc_pm
    for ident, data in frames:
        _more(out.values, ident - _node(ident) + 1, data)
    out.frames = {
        "good": link.rx - driver.damaged,
        "damaged": link.damaged + driver.damaged,
        "wrong_responder": wrong,
        "unexpected": unexpected,
        "unended": unended,
    }
    out.error = first(
        (link.damaged, "not an slcan frame"),
        (driver.damaged, "a frame is too short"),
        (wrong, f"wrong responder: a frame of another board than {capture.node}"),
        (bool(unended), "truncated"),
        (not link.rx, "no frame in it"),
        (not table, "no cells in it"),
    )
    return out


def _more(values: dict[str, Any], ident: int, data: bytes) -> None:
    """What frames say that the driver does not need; ident: as of address 0."""
    if ident == CAPACITY and len(data) == 8:
        values["remaining_mah"], values["nominal_mah"] = (
            int.from_bytes(data[i : i + 2], "little") * 100 for i in (0, 2)
        )
        values["cycles"] = int.from_bytes(data[6:8], "little")
    elif ident == SENSORS and data:
        values["sensors_dc"] = [
            (raw - 50) * 10 if data[0] >> i & 1 else None for i, raw in enumerate(data[1:6])
        ]
    elif ident == SWITCHES and data:
        values["fets"], values["balance"] = data[0] & 3, data[0] >> 2 & 1
    elif ident == jk_can.ALARM and data:
        bits = int.from_bytes(data[:4], "little")
        values["protection"] = bits
        values["alarms"] = [name for i, name in enumerate(ALARMS) if bits >> 2 * i & 3]


def find(port: Any) -> list[Found]:
    """Boards that broadcast."""
    boards = found_in(decode(can_capture(port.exchange([], _LISTEN_MS))))
    for board in boards:
        if board.shape.temps == 1:
            board.shape = replace(board.shape, temps=0)  # the driver reads both or none
    return boards
