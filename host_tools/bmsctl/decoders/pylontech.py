"""Frames of Pylontech packs on RS-485; `Capture.node`: the only pack that was polled."""

from typing import Any

from bms.slaves import pylontech

from .base import (
    Capture,
    Decoded,
    Shape,
    alarm_names,
    fill,
    first,
    listen,
    replies,
    shape,
    too_many,
    why_damaged,
)

_SIDES = {1: "low", 2: "high"}


class _Seen:
    """What frames show of their packs."""

    def __init__(self) -> None:
        self.link: Any = None  # set by `replies`
        self.shapes: dict[int, Shape] = {}
        self.cells: dict[int, int] = {}
        self.refused = self.unexpected = 0
        self.alarms: list[str] | None = None

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
            else:
                at = 4 + data[2] + data[3 + data[2]]
                if n == at + 8 or n > at + 8 and probe._are_alarms(at):
                    self.alarms = sorted({*(self.alarms or ()), *_named(data)})
            if address not in self.shapes:
                self.shapes[address] = shape("pylontech", address, data[2], 0)


def _named(data: bytes) -> list[str]:
    """The alarms of an answer to 44: of each reading, then of the pack."""
    cells = data[2]
    temps_at = 3 + cells
    at = temps_at + 1 + data[temps_at]
    readings = [(f"cell_{i + 1}", data[3 + i]) for i in range(cells)]
    readings += [(f"temp_{i + 1}", data[temps_at + 1 + i]) for i in range(data[temps_at])]
    pack = ("charge_current", "pack_voltage", "discharge_current")
    readings += zip(pack, data[at:], strict=False)
    out = [f"{name}_{_SIDES.get(state, 'other')}" for name, state in readings if state]
    failed = data[at + 6] | data[at + 7] << 8
    out += [f"cell_{i + 1}_failed" for i in range(16) if failed >> i & 1]
    return out + alarm_names(pylontech.Pylontech.ALARMS, data[at + 3])


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
        if seen.alarms is not None:
            values["alarms"] = seen.alarms
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
