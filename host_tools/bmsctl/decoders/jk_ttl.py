"""Frames of one JK board on its GPS port."""

from typing import Any

from bms.slaves import jk_ttl

from .base import Capture, Decoded, Shape, alarm_names, fill, first, listen, replies


class _Seen:
    """What the answers show of the board."""

    def __init__(self) -> None:
        self.cells = self.all = 0
        self.link: Any = None  # set by `replies`

    def on_reply(self, node: int, command: int, at: int, n: int, now: int) -> None:
        del node, n, now
        if command == jk_ttl.READ_ALL:
            self.all += 1
            if self.link.data[at] == 0x79:
                self.cells = self.link.data[at + 1] // 3


def decode(capture: Capture) -> Decoded:
    """The answers of a port with one board."""
    out = Decoded("jk_ttl")
    seen = _Seen()
    link = replies("jk_ttl", capture, seen)
    board = Shape(1, min(seen.cells, 32) or 1, 2 if seen.all else 0)
    driver, pack = listen("jk_ttl", capture, [board])
    values = out.values
    fill(out, [board], pack)
    values["boards"] = [board.node] if seen.cells else []
    values["alarms"] = None
    if driver.state_bits >= 0:
        values["current_ma"] = driver.current_ma
        values["soc_pm"] = driver.soc_pm
        values["cycles"] = driver.cycles
        values["nominal_mah"] = driver.capacity_ah * 1000
        values["fets"] = driver.state_bits & 3
        values["balance"] = driver.state_bits >> 2 & 1
        values["protection"] = driver.alarm_bits
        values["alarms"] = alarm_names(driver.ALARMS, driver.alarm_bits)
    damaged = link.damaged + driver.damaged
    out.frames = {"good": link.rx, "damaged": damaged, "echoes": link.echoes}
    reason = link.REASONS[link.fault] if link.fault else "fields and length disagree"
    out.error = first(
        (damaged, reason),
        (not link.rx and not link.echoes, "no frame in it: no 4E 57"),
        (not link.rx, "only requests in it"),
    )
    return out
