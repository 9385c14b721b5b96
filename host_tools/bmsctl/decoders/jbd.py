"""Replies of one JBD board; `Capture.register`: the only one that was polled."""

from typing import Any

from bms.slaves import jbd

from .base import (
    Capture,
    Decoded,
    alarm_names,
    driver_of,
    fill,
    fill_balanced,
    first,
    link_of,
    shape,
    stray_bytes,
    too_many,
    why_damaged,
)

SAYS = ("current_ma", "soc_pm", "remaining_mah", "nominal_mah", "cycles", "protection", "fets")


class _Sink:
    """Passes replies on to `driver`, and records what they show of the board."""

    def __init__(self, link: jbd.JbdLink, polled: int | None, driver: Any) -> None:
        self._link = link
        self._polled = polled
        self._driver = driver
        self.cells = self.temps = self.unexpected = self.refused = 0
        self.name: str | None = None
        self.made: str | None = None

    def on_reply(self, node: int, register: int, at: int, n: int, now: int) -> None:
        reply = bytes(self._link.data[at : at + n])
        if self._polled not in (None, register):
            self.unexpected += 1
            return
        if self._link.data[at - 2]:  # its status
            self.refused += 1
        elif register == jbd.CELLS:
            self.cells = n // 2
        elif register == jbd.BASIC and n > 22:
            self.cells, self.temps = self.cells or reply[21], reply[22]
            date = reply[10] << 8 | reply[11]
            self.made = f"{2000 + (date >> 9)}-{date >> 5 & 15:02}-{date & 31:02}"
        elif register == jbd.NAME:
            self.name = reply.decode(errors="replace")
        if self._driver is not None:
            self._driver.on_reply(node, register, at, n, now)


def _pass(capture: Capture, driver: Any, link: Any) -> _Sink:
    sink = _Sink(link, capture.register, driver)
    while link._stream.data:
        link.poll(sink, 0)
    link.end(sink, 0)
    return sink


def decode(capture: Capture) -> Decoded:
    """The replies of a port with one board."""
    out = Decoded("jbd")
    seen = _pass(capture, None, link_of("jbd", capture)[0])
    board = shape("jbd", 1, seen.cells, seen.temps)
    link = link_of("jbd", capture)[0]
    driver, pack = driver_of("jbd", link, [board])
    driver.listen()
    sink = _pass(capture, driver, link)
    values = out.values
    fill(out, [board], pack)
    values["boards"] = [board.node] if seen.cells and not driver.damaged else []
    values["name"] = sink.name
    values["alarms"] = None
    if driver.fets >= 0:
        for key in SAYS:
            values[key] = getattr(driver, key)
        values["balance"] = driver.balance_low | driver.balance_high << 16
        fill_balanced(out, [values["balance"]])
        values["made"] = sink.made
        values["version"] = f"{driver.version >> 4}.{driver.version & 15}"
        values["alarms"] = alarm_names(driver.ALARMS, driver.protection)
    damaged = link.damaged + driver.damaged
    out.frames = {
        "good": link.rx,
        "damaged": damaged,
        "echoes": link.echoes,
        "wrong_responder": sink.unexpected,
        "refused": sink.refused,
    }
    status_text = jbd.STATUS_TEXT.get(driver.status, f"status {driver.status:02X}")
    reason = why_damaged(link) if link.damaged else "its fields disagree, or are no cells"
    stray = stray_bytes(link)
    polled = capture.register or 0
    out.error = first(
        (damaged, reason),
        (bool(stray), f"{stray} bytes between replies are part of none"),
        too_many("jbd", {1: seen.cells}),
        (sink.unexpected, f"wrong responder: a reply to another register than {polled:02X}"),
        (sink.refused, f"the board refused: {status_text}"),
        (not link.rx and not link.echoes, "no reply in it: no DD .. 77"),
        (not link.rx, "only requests in it"),
    )
    return out
