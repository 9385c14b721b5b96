"""Finds slave boards behind an adapter, and writes the pack file to start from."""

import math
import select
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bms.config.schema import CHEMISTRIES, SETTINGS
from bms.links.slcan import Slcan
from bms.slaves import build as slaves

from .bridge import Bridge
from .decoders import decoder
from .decoders.base import (
    Capture,
    Found,
    Shape,
    Stream,
    can_capture,
    driver_class,
    driver_of,
    found_in,
)
from .errors import ToolError

QUIET_S = 0.04  # silence that ends an answer
_ROWS: dict[str, Any] = {row[1]: row for row in SETTINGS}
# usual ones: those of LFP, which the chemistry does not change
PERIOD_MS, CELL_AGE_MS, TEMP_AGE_MS = (
    int(_ROWS[key][5]) for key in ("scan_period", "cell_age", "temp_age")
)
_MOST_PERIOD_MS = int(_ROWS["scan_period"][4])
_TRIES = 2  # of each poll, before a board counts as absent
_WAKE_S = 0.18  # from the poll that wakes some boards to the next
# each board of these kinds is a battery by itself: several may as well be parallel
BATTERIES = ("daly", "jbd", "jbd_up", "jk_can", "jk_pb", "jk_ttl", "pylontech")
LFP_MOST_MV = 3700  # a cell above it is no LFP cell

Progress = Callable[[str], None]


class UartPort:
    """A serial line; `exchange` sends bytes and returns the answer.

    waits_ms: from each poll to the first bytes behind it.
    """

    medium = "uart"

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.waits_ms: list[float] = []

    def low(self) -> None:
        """Hold the line low, which wakes some boards."""
        self._bridge.low()

    def say(self, data: bytes) -> None:
        """Send, and wait for nothing."""
        self._bridge.write(data)

    def take(self) -> bytes:
        """What has come."""
        return self._bridge.read()

    def exchange(self, data: bytes, wait_ms: int) -> bytes:
        """Send, then take bytes until none come any more, or none has come in `wait_ms`."""
        self._bridge.read()
        if data:
            self._bridge.write(data)
        began = time.monotonic()
        end = began + wait_ms / 1000
        got = b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self._bridge.fileno()], [], [], left)[0]:
                more = self._bridge.read()
                if more:
                    if not got:
                        self.waits_ms.append(1000 * (time.monotonic() - began))
                    got += more
                    # our own echo is no answer: what comes behind it may take its time
                    if got != data:
                        end = max(time.monotonic() + QUIET_S, min(end, time.monotonic() + 0.2))
        return got


class CanPort:
    """A CAN bus; `exchange` sends frames and returns those that come."""

    medium = "can"

    def __init__(self, bridge: Bridge, rate: int) -> None:
        self._bridge = bridge
        self._got: list[tuple[int, bytes]] = []
        self._waiting = b""
        self._link = Slcan(self, rate)

    def read(self, buf: bytearray) -> int:
        """The stream of the link."""
        self._waiting += self._bridge.read()
        part, self._waiting = self._waiting[: len(buf)], self._waiting[len(buf) :]
        buf[: len(part)] = part
        return len(part)

    def write(self, buf: bytearray, start: int, n: int) -> int:
        """The stream of the link."""
        self._bridge.write(bytes(buf[start : start + n]))
        return n

    def on_frame(self, ident: int, n: int, data: bytearray, now: int) -> None:
        """A frame from the bus."""
        del now
        self._got.append((ident, bytes(data[:n])))

    def exchange(
        self, frames: Iterable[tuple[int, bytes]], wait_ms: int
    ) -> list[tuple[int, bytes]]:
        """Send frames, then listen for `wait_ms`."""
        self._got = []
        for ident, data in frames:
            self._link.send(ident, bytearray(data), len(data))
        end = time.monotonic() + wait_ms / 1000
        while (left := end - time.monotonic()) > 0:
            select.select([self._bridge.fileno()], [], [], min(left, 0.01))
            self._link.poll(self, 0)
        return self._got


class Search:
    """Looks for the boards of a kind on a port.

    found: boards that answered so far, by node; warnings: why boards may be missing or wrong.
    nodes: those that are polled, None = all; answer_ms: how late answers usually begin, on a
    serial line.
    """

    def __init__(
        self, kind: str, port: UartPort | CanPort, nodes: range | None, progress: Progress
    ) -> None:
        self.found: dict[int, Found] = {}
        self.warnings: list[str] = []
        self.answer_ms = 0
        self._kind = kind
        self._port = port
        self._nodes = nodes
        self._progress = progress

    def run(self) -> None:
        """Poll all of them."""
        own = getattr(decoder(self._kind), "find", None)
        if own is not None:
            self._twice(own)
        else:
            self._one_by_one()
        waits: list[float] = getattr(self._port, "waits_ms", [])
        if waits:
            self.answer_ms = math.ceil(statistics.median(waits))
        for node, found in list(self.found.items()):
            if not found.shape.cells:
                self.warnings.append(f"node {node} answers, but not with its cells")
                del self.found[node]

    def _twice(self, own: Callable[[Any], Iterable[Found]]) -> None:
        """Two rounds must agree: an answer that is lost now and then hides a board in one."""
        rounds: list[dict[int, Found]] = [{}, {}]
        for answers in rounds:
            self._progress(f"{self._kind}: {len(self.found)} boards")
            for found in own(self._port):
                node = found.shape.node
                if self._nodes is None or node in self._nodes:
                    answers[node] = found
                    known = self.found.get(node)
                    if known is None or known.shape.cells < found.shape.cells:
                        self.found[node] = found
        for node in sorted(self.found):
            one, other = (answers.get(node) for answers in rounds)
            if one is None or other is None:
                self.warnings.append(f"node {node} answered in one of two rounds only")
            elif one.shape != other.shape:
                shown = " then ".join(
                    f"{x.shape.cells} cells and {x.shape.temps} temperatures" for x in (one, other)
                )
                self.warnings.append(f"node {node} showed {shown}")

    def _one_by_one(self) -> None:
        low, high = driver_class(self._kind).NODES
        for node in self._nodes if self._nodes is not None else range(low, high + 1):
            shown, trouble = "silent", ""
            for _ in range(_TRIES):
                found, trouble = _poll(self._kind, self._port, node)
                if found is not None:
                    shown = f"{found.shape.cells} cells"
                    self.found[node] = found
                if not trouble:
                    break
            else:
                self.warnings.append(f"node {node}: {trouble}")
            self._progress(f"{self._kind} node {node} of {low}..{high}: {shown}")


class _SentFrames:
    """A CAN link that keeps what is sent on it."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.sent: list[tuple[int, bytes]] = []

    def send(self, ident: int, data: bytearray, n: int) -> bool:
        """As a CAN link."""
        self.sent.append((ident, bytes(data[:n])))
        return True


def _poll(kind: str, port: Any, node: int) -> tuple[Found | None, str]:
    """The board that answers the polls of a scan, and what was wrong, "" = nothing.

    The first poll may only wake a board.
    """
    cls = driver_class(kind)
    stream, frames = Stream(), _SentFrames(cls.CAN_BPS)
    link = cls.frame(stream) if port.medium == "uart" else frames
    driver, _pack = driver_of(kind, link, [Shape(node, 1, 0)])

    def replies() -> bytes:
        wait_ms = driver.ANSWER_MS + 50
        if port.medium == "uart":
            answer = port.exchange(stream.sent, wait_ms)
            return b"" if answer == stream.sent else answer
        return can_capture(
            [x for x in port.exchange(frames.sent, wait_ms) if driver.expects(x[0])]
        ).data

    received = answer = b""
    unanswered = 0
    woken = False
    wakes = hasattr(driver, "wake")
    for step in range(driver.STEPS):
        for attempt in range(_TRIES + wakes):
            stream.sent, frames.sent = b"", []
            if attempt and wakes:
                driver.wake(0)
                port.say(stream.sent)
                time.sleep(_WAKE_S)
                stream.sent = b""
                woken = True
            driver.send_poll(0, step)
            answer = replies()
            if answer:
                break
        else:
            if not step:
                return None, ""
            unanswered += 1
        received += answer
        time.sleep(driver.GAP_MS / 1000)
    decoded = decoder(kind).decode(Capture(received, port.medium == "can", node=node))
    found = [x for x in found_in(decoded) if x.shape.node == node]
    trouble = decoded.error or ""
    if unanswered:
        trouble = f"{unanswered} of {driver.STEPS} polls unanswered"
    if found and woken:
        found[0].woken = True
        found[0].notes.append(f"node {node} answers only behind another poll, at half the rate")
    return found[0] if found else Found(Shape(node, 0, 0)), trouble


@dataclass
class Line:
    """A port of the master, "can0", with what was found on it; rate: where it isn't the usual."""

    port: str
    rate: int
    search: Search

    @property
    def medium(self) -> str:
        return "uart" if self.port.startswith("uart") else "can"

    @property
    def found(self) -> list[Found]:
        return [self.search.found[node] for node in sorted(self.search.found)]


def in_series(kind: str, lines: list[Line]) -> str:
    """What to know where several boards may as well be parallel: their voltage in series; or ""."""
    found = [x for line in lines for x in line.found]
    if kind not in BATTERIES or len(found) < 2:
        return ""
    volts = sum(x.shape.cells * (x.highest_mv or 0) for x in found) / 1000
    about = f", {volts:.0f} V" if volts else ""
    return (
        f"the file has these {len(found)} boards in series{about};"
        " where they are parallel strings, use scan --parallel"
    )


def pack_text(kind: str, lines: list[Line], parallel: bool = False) -> str:
    """A pack file for the boards of these lines; parallel: each is a string of its own.

    What no board reports is a guess, marked by its comment. Without any cell's voltage the
    chemistry is left out; the firmware refuses the file until somebody fills it in. Raises
    ToolError for boards that no pack file can have on such a line.
    """
    _refuse_slow(kind, lines)
    if parallel:
        _refuse_unequal(lines)
    series = "" if parallel else in_series(kind, lines)
    period = _scan_period_ms(kind, lines)
    found = [x for line in lines for x in line.found]
    capacity = max((x.nominal_mah or 0 for x in found), default=0)
    origin = " as the boards report" if capacity else " a guess"
    ah = capacity / 1000 if capacity else 100
    out = [
        f"# found by `bmsctl scan --kind {kind}`; check what is marked before anything is closed",
        *(f"# CHECK: {line.port}: {warning}" for line in lines for warning in line.search.warnings),
        *([f"# CHECK: {series}"] if series else []),
        "[pack]",
        'name = "found"',
        _chemistry(found),
        f"cells = {sum(x.shape.cells for x in found)}  # CHECK: count your cells",
        f'capacity = "{ah:g} Ah"  # CHECK:{origin}',
        "",
        "[limits]",
        f'charge_max = "{ah / 2:g} A"  # CHECK: half the capacity in an hour',
        f'discharge_max = "{ah:g} A"  # CHECK: the capacity in an hour',
        f'current_hard_max = "{2 * ah:g} A"  # CHECK: twice that',
        "current_sensor = false  # CHECK: remove where there is one; without, no current trips",
        *([f'cell_age = "{5 * period} ms"  # five scans'] if 5 * period > CELL_AGE_MS else []),
        *([f'temp_age = "{5 * period} ms"'] if 5 * period > TEMP_AGE_MS else []),
        "",
        "[contactors]",
        "contactor_feedback = false  # CHECK: remove where it is wired; without, no weld is seen",
        "link_sensor = false  # CHECK: remove where it is measured",
        "precharge_unproven = true  # CHECK: nothing proves a precharge, as neither is measured",
    ]
    if period:
        out += ["", "[scan]", f'scan_period = "{period} ms"  # as long as a scan of them takes']
    strings = 0
    for line in lines:
        out += _slaves(kind, line, strings + 1 if parallel else 0)
        strings += len(line.found)
    for line in lines:
        out += _link(kind, line)
    out += [f"# {line.port}: {note}" for line in lines for x in line.found for note in x.notes]
    return "\n".join(out) + "\n"


def _refuse_slow(kind: str, lines: list[Line]) -> None:
    """Raise ToolError where a lost board would be noticed too late for any pack file."""
    for line in lines:
        least = _least_age_ms(kind, line)
        most = slaves.most_age_ms("cell_age")
        boards = f"{line.port}: {len(line.found)} {kind} boards"
        if least > most:
            raise ToolError(
                f"{boards} are too many at this rate: a lost one would be noticed after"
                f" {least} ms, {most} ms are allowed"
            )
    period = _scan_period_ms(kind, lines)
    if 5 * period > _MOST_PERIOD_MS:
        raise ToolError(f"{kind}: so many boards at this rate need {period} ms for a scan")


def _refuse_unequal(lines: list[Line]) -> None:
    """Raise ToolError for boards that can't be parallel."""
    counts = [(line.port, x.shape.node, x.shape.cells) for line in lines for x in line.found]
    if len({cells for _port, _node, cells in counts}) > 1:
        shown = ", ".join(f"{port} node {node}: {cells}" for port, node, cells in counts)
        raise ToolError(f"--parallel: the boards have different numbers of cells: {shown}")


def _chemistry(found: list[Found]) -> str:
    highest = max((x.highest_mv for x in found if x.highest_mv is not None), default=None)
    if highest is None:
        known = " or ".join(CHEMISTRIES)
        return f'# chemistry = ""  # CHECK: fill in {known}, no cell was read'
    guess = CHEMISTRIES[0] if highest <= LFP_MOST_MV else CHEMISTRIES[1]
    return f'chemistry = "{guess}"  # CHECK: a guess by the highest cell, {highest} mV'


def _slaves(kind: str, line: Line, string: int) -> list[str]:
    """string: of the first board, the next ones have the next ones; 0: all are in series."""
    out = []
    shapes = [x.shape for x in line.found]
    for i, (first, count) in enumerate([(x, 1) for x in shapes] if string else _runs(shapes)):
        nodes = f"{first.node}-{first.node + count - 1}" if count > 1 else f"{first.node}"
        out += [
            "",
            "[[slave]]",
            f'kind = "{kind}"',
            f'link = "{line.port}"',
            f'node = "{nodes}"',
            f"cells = {first.cells}",
            f"temps = {first.temps}",
            *([f"string = {string + i}"] if string else []),
        ]
    return out


def _link(kind: str, line: Line) -> list[str]:
    own = [f'rate = "{line.rate} bit/s"'] if line.rate else []
    if _answer_ms(kind, line):
        own.append(f'answer = "{_answer_ms(kind, line)} ms"  # the adapter answers late')
    least = _least_age_ms(kind, line) if line.found else 0
    for key, usual in (("cell_age", CELL_AGE_MS), ("temp_age", TEMP_AGE_MS)):
        if least > usual:
            # a fifth more than needed, where that is allowed
            ms = min(math.ceil(least * 1.2 / 100) * 100, max(least, slaves.most_age_ms(key)))
            own.append(f'{key} = "{ms} ms"  # one scan of these boards may be lost')
    return ["", "[[link]]", f'port = "{line.port}"', *own] if own and line.found else []


def _driver(kind: str, line: Line) -> Any:
    """The driver of the boards of a line, at its rate; nothing is sent."""
    cls = driver_class(kind)
    stream = Stream()
    if line.medium == "can":
        link: Any = Slcan(stream, 500_000)
        link.rate = line.rate or cls.CAN_BPS or link.rate
    else:
        link = cls.frame(stream, line.rate)
    answer_ms = _answer_ms(kind, line)
    port = f'answer = "{answer_ms} ms"\n' if answer_ms else ""
    driver, _pack = driver_of(kind, link, [x.shape for x in line.found], port)
    for m, found in enumerate(line.found):
        if found.woken:
            driver.wake_always(m)
    return driver


def _answer_ms(kind: str, line: Line) -> int:
    """The `answer` of a line on which answers begin later than usual for its boards, else 0."""
    cls = driver_class(kind)
    late = line.search.answer_ms
    if line.medium == "can" or "answer" in cls.IGNORED or late <= cls.ANSWER_MS:
        return 0
    return math.ceil(late * 1.25)


def _least_age_ms(kind: str, line: Line) -> int:
    if not driver_class(kind).SLOW or not line.found:
        return 0
    driver = _driver(kind, line)
    need = driver.scan_ms(None)
    return slaves.least_age_ms(need, PERIOD_MS, driver.lost_ms(need))


def _scan_period_ms(kind: str, lines: list[Line]) -> int:
    """The scan_period of boards that must be read in each scan; 0: the usual one will do."""
    if driver_class(kind).SLOW:
        return 0
    need = max((_driver(kind, line).scan_ms(None) for line in lines if line.found), default=0)
    ms = math.ceil(need / 10) * 10
    return 0 if ms <= PERIOD_MS else ms


def _runs(shapes: list[Shape]) -> list[tuple[Shape, int]]:
    """Equal boards with nodes one behind the other, as (the first, how many)."""
    out: list[tuple[Shape, int]] = []
    for shape in sorted(shapes, key=lambda s: s.node):
        if out:
            first, count = out[-1]
            if shape == Shape(first.node + count, first.cells, first.temps):
                out[-1] = (first, count + 1)
                continue
        out.append((shape, 1))
    return out
