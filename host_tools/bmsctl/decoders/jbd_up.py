"""Answers of JBD-UP rack units on RS-485; `Capture.node`: the only unit that was asked."""

from typing import Any

from bms.slaves import jbd_up

from .base import Capture, Decoded, Shape, fill, first, listen, replies

SAYS = ("current_ma", "soc_pm", "remaining_mah", "nominal_mah", "cycles", "balance")


class _Seen:
    """What answers show of their units."""

    def __init__(self) -> None:
        self.link: Any = None  # set by `replies`
        self.shapes: dict[int, Shape] = {}
        self.protection = 0

    def on_reply(self, address: int, at: int, n: int, now: int) -> None:
        del now
        data = bytes(self.link.data[at : at + n])
        if n < 70:
            return
        cells = int.from_bytes(data[66:68], "big")
        temps = int.from_bytes(data[68 + 2 * cells : 70 + 2 * cells], "big")
        if 1 <= cells <= 32:
            self.shapes[address] = Shape(address, cells, min(temps, 16))
            self.protection |= int.from_bytes(data[24:28], "big")


def decode(capture: Capture) -> Decoded:
    """What the units of a line said."""
    out = Decoded("jbd_up")
    seen = _Seen()
    link = replies("jbd_up", capture, seen)
    boards = [seen.shapes[n] for n in sorted(seen.shapes)]
    wrong = sum(capture.node not in (None, board.node) for board in boards)
    odd = 0
    if boards:
        driver, pack = listen("jbd_up", capture, boards)
        fill(out, boards, pack)
        for key in SAYS:
            out.values[key] = getattr(driver, key)
        odd = driver.damaged
        out.values["protection"] = seen.protection
        out.values["fets"] = driver._fets[0]
        out.values["board_dc"] = pack.die_dc[0] if pack.stack_ok[0] else None
        out.values["alarms"] = [
            name
            for bit, (name, _kind, _trips) in enumerate(jbd_up.PROTECTION)
            if seen.protection >> bit & 1
        ]
    out.frames = {
        "good": link.rx,
        "damaged": link.damaged,
        "echoes": link.echoes,
        "wrong_responder": wrong,
    }
    out.error = first(
        (link.damaged, link.REASONS[link.fault or 2]),
        (odd or (link.rx and not boards), "counts and length disagree"),
        (wrong, f"wrong responder: an answer of another unit than {capture.node}"),
        (not link.rx and not link.echoes, "no frame in it: no address 78 1000 10A0"),
        (not link.rx, "only requests in it"),
    )
    return out
