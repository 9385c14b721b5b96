"""Answers of kinds without a decoder of their own: read by what their drivers' tables say."""

from functools import partial
from types import SimpleNamespace
from typing import Any

from .base import (
    Capture,
    Decoded,
    Shape,
    alarm_names,
    driver_class,
    fill,
    fill_fields,
    first,
    listen,
    replies,
    stray_bytes,
    too_many,
    why_damaged,
)


class _Seen:
    """What answers show of their boards: counts of cells and sensors, and alarm bits."""

    def __init__(self, cls: Any) -> None:
        self._driver = object.__new__(cls)  # for `counts`, which reads the link's bytes only
        self.link: Any = None  # set by `replies`
        self.shapes: dict[int, Shape] = {}
        self.cells: dict[int, int] = {}
        self.alarms = 0

    def on_reply(self, node: int, command: int, at: int, n: int, now: int) -> None:
        del now
        driver = self._driver
        driver.link = self.link
        counts = driver.counts(command, at, n)
        if counts <= 0:
            return
        cells, temps = counts & 0xFF, counts >> 8
        self.cells[node] = cells
        before = self.shapes.get(node, Shape(node, 0, 0))
        if cells <= driver.CELLS:
            temps = max(before.temps, min(temps, driver.TEMPS))
            self.shapes[node] = Shape(node, max(before.cells, cells), temps)
        if command == driver.POLLS[-1][1]:
            at += driver.ALARMS_AT
            for k in range((driver.ALARMS.count(b"\n") + 7) // 8):
                self.alarms |= self.link.data[at + driver.ALARMS_STEP * k] << 8 * k


def decode(kind: str, capture: Capture) -> Decoded:
    """What the boards of a line answered; `Capture.node`: the only one that was polled."""
    cls = driver_class(kind)
    out = Decoded(kind)
    seen = _Seen(cls)
    link = replies(kind, capture, seen)
    boards = [seen.shapes[n] for n in sorted(seen.shapes) if seen.shapes[n].cells]
    wrong = sum(capture.node not in (None, board.node) for board in boards)
    odd = 0
    if boards:
        driver, pack = listen(kind, capture, boards)
        fill(out, boards, pack)
        fill_fields(out, driver)
        odd = driver.damaged
        values = out.values
        values["balance"] = getattr(driver, "balance", values["balance"])
        values["protection"] = seen.alarms
        values["alarms"] = alarm_names(cls.ALARMS, seen.alarms)
        values["fets"] = driver._fets[0]
    out.frames = {
        "good": link.rx,
        "damaged": link.damaged,
        "echoes": link.echoes,
        "wrong_responder": wrong,
    }
    stray = stray_bytes(link)
    out.error = first(
        (link.damaged, why_damaged(link)),
        (bool(stray), f"{stray} bytes between answers are part of none"),
        too_many(kind, seen.cells),
        (odd or (link.rx and not boards), "counts and length disagree"),
        (wrong, f"wrong responder: an answer of another board than {capture.node}"),
        (not link.rx and not link.echoes, f"no frame of {kind} in it"),
        (not link.rx, "only requests in it"),
    )
    return out


def decoder(kind: str) -> SimpleNamespace:
    """What stands for a kind's module: its `decode`."""
    return SimpleNamespace(decode=partial(decode, kind))
