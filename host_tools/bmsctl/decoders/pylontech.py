"""Frames of Pylontech packs on RS-485; `Capture.node`: the only pack that was polled."""

from typing import Any

from bms.slaves import pylontech

from .base import (
    Capture,
    Decoded,
    Shape,
    fill,
    first,
    listen,
    replies,
    shape,
    too_many,
    why_damaged,
)


class _Seen:
    """What frames show of their packs."""

    def __init__(self) -> None:
        self.link: Any = None  # set by `replies`
        self.shapes: dict[int, Shape] = {}
        self.cells: dict[int, int] = {}
        self.refused = self.unexpected = 0

    def on_reply(self, address: int, code: int, n: int, now: int) -> None:
        del now
        data = bytes(self.link.data[:n])
        if code:
            self.refused += 1
        elif n > 3 and data[2] and n > 3 + data[2]:
            self.cells[address] = data[2]
            probe = object.__new__(pylontech.Pylontech)  # the driver's own view of its form
            probe.link = self.link
            if probe.is_analog(n):
                temps = data[3 + 2 * data[2]]
                self.shapes[address] = shape("pylontech", address, data[2], max(temps - 1, 0))
            elif address not in self.shapes:
                self.shapes[address] = shape("pylontech", address, data[2], 0)


def decode(capture: Capture) -> Decoded:
    """The answers of the packs of a line."""
    out = Decoded("pylontech")
    seen = _Seen()
    link = replies("pylontech", capture, seen)
    boards = [seen.shapes[n] for n in sorted(seen.shapes) if 2 <= n <= 16]
    wrong = sum(capture.node not in (None, board.node) for board in boards)
    if boards:
        driver, pack = listen("pylontech", capture, boards)
        fill(out, boards, pack)
        values = out.values
        if driver.current_ma != -1 or driver.cycles >= 0:
            values["current_ma"], values["cycles"] = driver.current_ma, driver.cycles
            values["remaining_mah"] = driver.remaining_mah
            values["nominal_mah"] = driver.nominal_mah
        values["fets"] = driver._fets[0]
        values["board_dc"] = pack.die_dc[0] if pack.stack_ok[0] else None
    out.frames = {
        "good": link.rx,
        "damaged": link.damaged,
        "echoes": link.echoes,
        "wrong_responder": wrong,
        "refused": seen.refused,
    }
    out.error = first(
        (link.damaged, why_damaged(link)),
        too_many("pylontech", seen.cells),
        (wrong, f"wrong responder: an answer of another pack than {capture.node}"),
        (seen.refused, "the pack refused the request"),
        (not link.rx and not link.echoes, "no frame in it: no ~ .. CR"),
        (not link.rx, "only requests in it"),
    )
    return out
