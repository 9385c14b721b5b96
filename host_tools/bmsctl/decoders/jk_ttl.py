"""Frames of one JK board on its GPS port."""

from typing import Any

from bms.slaves import jk_ttl

from .base import (
    Capture,
    Decoded,
    alarm_names,
    fill,
    first,
    listen,
    replies,
    shape,
    stray_bytes,
    too_many,
    why_damaged,
)

_TEXTS = {0xB4: "device", 0xB5: "made", 0xB7: "version", 0xBA: "name"}


class _Seen:
    """What the answers show of the board."""

    def __init__(self) -> None:
        self.cells = self.all = 0
        self.texts: dict[int, str] = {}
        self.link: Any = None  # set by `replies`

    def on_reply(self, node: int, command: int, at: int, n: int, now: int) -> None:
        del node, now
        fields = bytes(self.link.data[at : at + n])
        if command == jk_ttl.READ_ALL or command == jk_ttl.READ and fields[:1] == b"\x79":
            self.all += 1
            if fields[:1] == b"\x79":
                self.cells = fields[1] // 3
            self._read_texts(fields)

    def _read_texts(self, fields: bytes) -> None:
        at = 0
        while at < len(fields) - 1 and 0x79 <= fields[at] <= 0xC0:
            code = fields[at]
            n, at = jk_ttl._LENGTHS[code - 0x79], at + 1
            if n == jk_ttl._IN_NEXT_BYTE:
                n, at = fields[at], at + 1
            if not n:
                return
            if code in _TEXTS:
                text = fields[at : at + n].split(b"\0")[0]
                self.texts[code] = text.decode("ascii", "replace").strip(" _")
            at += n


def decode(capture: Capture) -> Decoded:
    """The answers of a port with one board."""
    out = Decoded("jk_ttl")
    seen = _Seen()
    link = replies("jk_ttl", capture, seen)
    board = shape("jk_ttl", 1, seen.cells, 2 if seen.all else 0)
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
        values.update((_TEXTS[code], text) for code, text in seen.texts.items())
    damaged = link.damaged + driver.damaged
    out.frames = {"good": link.rx, "damaged": damaged, "echoes": link.echoes}
    reason = why_damaged(link) if link.damaged else "fields and length disagree"
    stray = stray_bytes(link)
    out.error = first(
        (damaged, reason),
        (bool(stray), f"{stray} bytes between frames are part of none"),
        too_many("jk_ttl", {1: seen.cells}),
        (not link.rx and not link.echoes, "no frame in it: no 4E 57"),
        (not link.rx, "only requests in it"),
    )
    return out
