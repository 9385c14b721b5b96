"""Frames of JK-PB boards on RS-485; a frame of 300 bytes alone doesn't name its board."""

from dataclasses import replace
from typing import Any

from bms.slaves import jk_pb

from .base import (
    Capture,
    Decoded,
    Shape,
    alarm_names,
    driver_of,
    fill,
    first,
    link_of,
    only,
    why_damaged,
)

# 32-bit fields of a settings frame: offset, name, unit inside
SETTINGS = (
    (10, "cell_min_mv"),
    (18, "cell_max_mv"),
    (26, "balance_start_mv"),
    (50, "charge_max_ma"),
    (62, "discharge_max_ma"),
    (114, "cells"),
    (130, "capacity_mah"),
    (270, "address"),
)
SAYS = ("current_ma", "soc_pm", "remaining_mah", "nominal_mah", "cycles", "health_pm")
ABOUT = 3  # the type of a frame with the device's names
NAMES = ((6, 16, "name"), (22, 8, "hardware"), (30, 8, "version"), (46, 16, "serial"))


class _Sink:
    """Passes frames on to `driver`, and records what they show."""

    def __init__(self, link: Any, driver: Any = None) -> None:
        self._link = link
        self._driver = driver
        self.shapes: dict[int, Shape] = {}
        self.settings: dict[str, int] | None = None
        self.about: dict[str, str] = {}
        self.frames = 0
        self.lone: list[int] = []  # boards whose acknowledgement has no frame

    def on_ack(self, address: int, page: int, register: int, now: int) -> None:
        del register, now
        if page == 0x16:
            self.lone.append(address)

    def on_status(self, address: int, kind: int, at: int, now: int) -> None:
        data = bytes(self._link.data[at : at + jk_pb.FRAME])
        self.frames += 1
        if address in self.lone:
            self.lone.remove(address)  # it stood in front
        if kind == ABOUT:
            for first, n, name in NAMES:
                text = data[first : first + n].split(b"\0")[0]
                self.about[name] = text.decode("ascii", "replace").strip()
        if kind == jk_pb.SETTINGS:
            self.settings = {
                name: int.from_bytes(data[i : i + 4], "little") for i, name in SETTINGS
            }
        if kind != jk_pb.STATUS:
            return
        mask = int.from_bytes(data[70:74], "little")
        cells = 0
        while mask >> cells & 1:
            cells += 1
        temps = 0
        for i, where in enumerate((162, 164, 256, 258)):
            dc = int.from_bytes(data[where : where + 2], "little", signed=True)
            present = not data[214] or data[214] >> (1, 2, 4, 5)[i] & 1
            if present and -400 < dc < 1500:
                temps = i + 1
        self.shapes[address] = Shape(address, max(cells, 1), temps)
        if self._driver is not None:
            self._driver.on_status(address, kind, at, now)


def decode(capture: Capture) -> Decoded:
    """The answers of the boards of a line; `Capture.node`: the only one that was polled."""
    ways = [_pass(capture, before=before) for before in (False, True)]
    # acknowledgements behind the frames, in front of them, or some of each: what fits best
    seen, link = min(ways, key=lambda way: way[1].damaged + len(way[0].lone))
    if not seen.frames:
        bare, other = _pass(capture, bare=True)
        if bare.frames:
            return _filled(capture, bare, other, True)
    return _filled(capture, seen, link, False)


def _pass(
    capture: Capture, bare: bool = False, before: bool = True, boards: list[Shape] | None = None
) -> tuple[Any, Any]:
    link, stream = link_of("jk_pb", capture)
    link.bare = bare
    link.before = before
    driver = None
    if boards is not None:
        driver, _pack = driver_of("jk_pb", link, boards)
        driver.listen()
    sink = _Sink(link, driver)
    while stream.data:
        link.poll(only("jk_pb", sink, capture), 0)
    link.end(sink, 0)
    return (sink if boards is None else driver), link


def _filled(capture: Capture, seen: _Sink, link: Any, bare: bool) -> Decoded:
    out = Decoded("jk_pb")
    values = out.values
    shapes = [seen.shapes[node] for node in sorted(seen.shapes)]
    wrong = 0 if bare else sum(capture.node not in (None, s.node) for s in shapes)
    if shapes:
        # without an acknowledgement a frame names no board: the link calls it 0
        polled = [replace(s, node=s.node or 1) for s in shapes]
        driver, link = _pass(capture, bare, link.before, polled)
        fill(out, [] if bare else shapes, driver.pack)
        for key in SAYS:
            values[key] = getattr(driver, key)
        values["fets"] = driver._fets[0]
        values["balance"] = driver.balancing
        values["protection"] = driver.alarm_bits
        values["alarms"] = alarm_names(driver.ALARMS, driver.alarm_bits)
    values.update(seen.about)
    if seen.settings is not None:
        values["settings"] = seen.settings
    out.frames = {
        "good": link.rx,
        "damaged": link.damaged,
        "echoes": link.echoes,
        "wrong_responder": wrong,
    }
    out.error = first(
        (link.damaged, why_damaged(link)),
        (wrong, f"wrong responder: an answer of another address than {capture.node}"),
        (int(bare), "no acknowledgement behind it: its board is unknown"),
        (len(seen.lone), f"an acknowledgement of {seen.lone} without its frame"),
        (not link.rx and not link.echoes, "no frame in it: no 55 AA EB 90, no acknowledgement"),
        (not link.rx, "only requests in it"),
    )
    return out
