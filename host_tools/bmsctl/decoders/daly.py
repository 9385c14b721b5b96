"""Frames of Daly boards on UART or RS-485; `Capture.node`: the only board that was asked."""

from typing import Any

from bms.slaves import daly

from .base import Capture, Decoded, Shape, fill, first, listen, replies


class _Seen:
    """What frames show of their boards."""

    def __init__(self) -> None:
        self.link: Any = None  # set by `replies`
        self.cells: dict[int, int] = {}
        self.temps: dict[int, int] = {}
        self.numbered: dict[int, int] = {}  # cells, where only their frames say how many
        self.frames: dict[int, set[int]] = {}
        self.more: dict[str, int] = {}

    def on_reply(self, node: int, command: int, at: int, now: int) -> None:
        del now
        data = bytes(self.link.data[at : at + 8])
        self.frames.setdefault(node, set()).add(command)
        if command == daly.COUNTS:
            self.cells[node], self.temps[node] = data[0], data[1]
        elif command == daly.CELLS:
            self.numbered[node] = max(self.numbered.get(node, 0), 3 * max(data[0], 1))
        elif command == daly.TEMPS:
            self.temps.setdefault(node, next((i for i, raw in enumerate(data[1:]) if not raw), 7))
        elif command == 0x91:
            high, low = int.from_bytes(data[:2], "big"), int.from_bytes(data[3:5], "big")
            self.more = {**self.more, "highest_mv": high, "highest_cell": data[2]}
            self.more = {**self.more, "lowest_mv": low, "lowest_cell": data[5]}
        elif command == 0x92:
            self.more = {**self.more, "highest_dc": data[0] * 10 - 400}
            self.more = {**self.more, "lowest_dc": data[2] * 10 - 400}


def decode(capture: Capture) -> Decoded:
    """What the boards of a line said."""
    out = Decoded("daly")
    seen = _Seen()
    link = replies("daly", capture, seen)
    boards = [
        Shape(
            n,
            min(max(seen.cells.get(n) or seen.numbered.get(n, 1), 1), 32),
            min(seen.temps.get(n, 0), 16),
        )
        for n in sorted(seen.frames)
        if 1 <= n <= 16
    ]
    wrong = sum(capture.node not in (None, board.node) for board in boards)
    values = out.values
    if boards:
        driver, pack = listen("daly", capture, boards)
        # once more: where frames begin to be numbered may have been told by the last one
        driver.link._stream.data = capture.data
        while driver.link._stream.data:
            driver.link.poll(driver, 0)
        fill(out, boards, pack)
        said = set().union(*seen.frames.values())
        if daly.TOTAL in said:
            values["current_ma"], values["soc_pm"] = driver.current_ma, driver.soc_pm
        if daly.FETS in said:
            values["fets"], values["remaining_mah"] = driver._fets[0], driver.remaining_mah
        if daly.COUNTS in said:
            values["cycles"] = driver.cycles
        if daly.BALANCE in said:
            values["balance"] = driver.balance
        values["alarms"] = [
            name
            for bit, (name, _kind, _trips) in enumerate(daly.ALARMS)
            if driver.alarm_bits[bit >> 3] >> (bit & 7) & 1
        ]
        values.update(seen.more)
    out.frames = {
        "good": link.rx,
        "damaged": link.damaged,
        "echoes": link.echoes,
        "wrong_responder": wrong,
    }
    out.error = first(
        (link.damaged, link.REASONS[link.fault or 2]),
        (wrong, f"wrong responder: an answer of another board than {capture.node}"),
        (not link.rx and not link.echoes, "no frame in it: no A5 .. 08"),
        (not link.rx, "only requests in it"),
    )
    return out
