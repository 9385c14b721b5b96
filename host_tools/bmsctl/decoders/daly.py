"""Answers of Daly boards on UART, RS-485 or CAN; `Capture.node`: the only one that was polled."""

from typing import Any

from bms.links.can import EXTENDED
from bms.slaves import daly

from .base import (
    Capture,
    Decoded,
    Shape,
    alarm_names,
    fill,
    fill_balanced,
    first,
    listen,
    replies,
    shape,
    strangers,
    too_many,
    why_damaged,
)

_REQUEST, _REQUEST_MASK = EXTENDED | 0x18000040, EXTENDED | 0x1F0000FF


class _Seen:
    """What frames show of their boards; on CAN also which frames they are."""

    def __init__(self) -> None:
        self.link: Any = None  # set by `replies`
        self.cells: dict[int, int] = {}
        self.temps: dict[int, int] = {}
        self.numbered: dict[int, dict[int, int]] = {}  # cells that read, by their frame's number
        self.frames: dict[int, set[int]] = {}
        self.balanced: dict[int, int] = {}
        self.more: dict[str, int] = {}
        self.good = self.short = self.requests = 0
        self.others: list[int] = []  # identifiers that are none of Daly's

    def on_frame(self, ident: int, n: int, data: bytearray, now: int) -> None:
        """A frame of a CAN bus."""
        del now
        if ident & daly.ANSWER_MASK != daly.ANSWER_ID:
            if ident & _REQUEST_MASK == _REQUEST:
                self.requests += 1
            else:
                self.others.append(ident)
        elif n < 8:
            self.short += 1
        else:
            self._take(ident & 0xFF, ident >> 16 & 0xFF, bytes(data[:8]))

    def on_reply(self, node: int, command: int, at: int, n: int, now: int) -> None:
        """A reply of a line."""
        del n, now
        self._take(node, command, bytes(self.link.data[at : at + 8]))

    def _take(self, node: int, command: int, data: bytes) -> None:
        self.good += 1
        self.frames.setdefault(node, set()).add(command)
        if command == daly.COUNTS:
            self.cells[node], self.temps[node] = data[0], data[1]
        elif command == daly.CELLS:
            # an answer may go on, empty, after the last cell
            read = max((k + 1 for k in range(3) if any(data[1 + 2 * k : 3 + 2 * k])), default=0)
            numbered = self.numbered.setdefault(node, {})
            numbered[data[0]] = max(numbered.get(data[0], 0), read)
        elif command == daly.TEMPS:
            self.temps.setdefault(node, next((i for i, raw in enumerate(data[1:]) if not raw), 7))
        elif command == daly.BALANCE:
            self.balanced[node] = int.from_bytes(data[:6], "little")
        elif command == 0x91:
            high, low = int.from_bytes(data[:2], "big"), int.from_bytes(data[3:5], "big")
            self.more = {**self.more, "highest_mv": high, "highest_cell": data[2]}
            self.more = {**self.more, "lowest_mv": low, "lowest_cell": data[5]}
        elif command == 0x92:
            self.more = {**self.more, "highest_dc": data[0] * 10 - 400}
            self.more = {**self.more, "lowest_dc": data[2] * 10 - 400}

    def count(self, node: int) -> int:
        """Cells of a board, 0 where no frame shows how many."""
        numbered = self.numbered.get(node, {})
        first = self.first_number(node)
        shown = max((3 * (n - first) + read for n, read in numbered.items() if read), default=0)
        return self.cells.get(node) or shown

    def first_number(self, node: int) -> int:
        """The number of a board's first frame of cells: captures that have no 0 begin with 1."""
        return 0 if 0 in self.numbered.get(node, {}) else 1

    def missing(self) -> list[str]:
        """Frames of cells that are not there, though others are."""
        out = []
        for node, numbered in sorted(self.numbered.items()):
            if len(numbered) < 2 and node not in self.cells:
                continue  # a frame by itself
            first = self.first_number(node)
            for n in range(first, first + (self.count(node) + 2) // 3):
                if n not in numbered:
                    out.append(f"{n} of board {node}")
        return out


def _fill(out: Decoded, capture: Capture, seen: _Seen, boards: list[Shape]) -> None:
    """What the driver reads in the frames, and what it does not need."""
    values = out.values

    # the last frame may show whether numbers begin at 0 or 1
    def prepare(driver: Any) -> None:
        for m, board in enumerate(boards):
            if board.node in seen.numbered:
                driver._cell_base[m] = seen.first_number(board.node)

    driver, pack = listen("daly", capture, boards, passes=2, prepare=prepare)
    fill(out, boards, pack)
    commands = set().union(*seen.frames.values())
    if daly.TOTAL in commands:
        values["current_ma"], values["soc_pm"] = driver.current_ma, driver.soc_pm
    if daly.FETS in commands:
        values["fets"], values["remaining_mah"] = driver._fets[0], driver.remaining_mah
    if daly.COUNTS in commands:
        values["cycles"] = driver.cycles
    if daly.BALANCE in commands:
        values["balance"] = driver.balance
        fill_balanced(out, [seen.balanced.get(board.node, 0) for board in boards])
    values["alarms"] = alarm_names(driver.ALARMS, int.from_bytes(driver.alarm_bits, "little"))
    values.update(seen.more)


def decode(capture: Capture) -> Decoded:
    """The answers of the boards of a port."""
    out = Decoded("daly")
    seen = _Seen()
    link = replies("daly", capture, seen)
    boards = [
        shape("daly", n, seen.count(n), seen.temps.get(n, 0))
        for n in sorted(seen.frames)
        if 1 <= n <= 16
    ]
    wrong = sum(capture.node not in (None, board.node) for board in boards)
    if boards:
        _fill(out, capture, seen, boards)
    unended = link.unended() if capture.can else 0
    requests = seen.requests if capture.can else link.echoes
    damaged = link.damaged
    if not capture.can:
        # a frame whose first byte is damaged looks like none: so many would fill what is left
        good = sum(b - a for a, b in link.spans)
        damaged = max(damaged, (len(capture.data) - good) // daly.FRAME)
    missing = seen.missing()
    out.frames = {
        "good": seen.good,
        "damaged": damaged + seen.short,
        "echoes": requests,
        "wrong_responder": wrong,
    }
    if capture.can:
        out.frames["unexpected"] = strangers(out, "daly", seen.others)
        out.frames["unended"] = unended
    out.error = first(
        (damaged, "not an slcan frame" if capture.can else why_damaged(link)),
        (seen.short, "a frame is too short"),
        (wrong, f"wrong responder: an answer of another board than {capture.node}"),
        (bool(unended), "truncated"),
        (bool(missing), "frames of cells are missing: " + ", ".join(missing[:4])),
        too_many("daly", {board.node: seen.count(board.node) for board in boards}),
        (
            not seen.good and not requests,
            "no frame in it: no " + ("18..40.." if capture.can else "A5 .. 08"),
        ),
        (not seen.good, "only requests in it"),
    )
    return out
