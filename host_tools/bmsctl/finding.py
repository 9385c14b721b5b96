"""Finds slave boards behind an adapter, and writes the pack file to start from."""

import math
import select
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bms import slaves
from bms.config import CHEMISTRIES
from bms.links.slcan import Slcan
from bmssim.protocol import Frame
from bmssim.slcan import to_line

from .bridge import Bridge
from .decoders import decoder
from .decoders.base import Capture, Shape, Stream, driver_class, driver_of, link_of

QUIET_S = 0.04  # an answer is over when nothing has come for so long
PERIOD_MS = 100  # usual scan_period
LFP_MOST_MV = 3700  # a cell above it is no LFP cell

Progress = Callable[[str], None]


@dataclass
class Found:
    """One board that answered; nominal_mah: where it says so; highest_mv: of its cells."""

    shape: Shape
    nominal_mah: int | None = None
    highest_mv: int | None = None
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """An object of `bmsctl scan --json`."""
        s = self.shape
        return {
            "node": s.node,
            "cells": s.cells,
            "temps": s.temps,
            "nominal_mah": self.nominal_mah,
            "highest_mv": self.highest_mv,
        }


class UartPort:
    """A serial line; `ask` sends bytes and gives what comes."""

    medium = "uart"

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def low(self) -> None:
        """Hold the line low, which wakes some boards."""
        self._bridge.low()

    def say(self, data: bytes) -> None:
        """Send, and wait for nothing."""
        self._bridge.write(data)

    def take(self) -> bytes:
        """What has come."""
        return self._bridge.read()

    def ask(self, data: bytes, wait_ms: int) -> bytes:
        """Send, then take bytes until none come any more, or none has come in `wait_ms`."""
        self._bridge.read()
        if data:
            self._bridge.write(data)
        end = time.monotonic() + wait_ms / 1000
        got = b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self._bridge.fileno()], [], [], left)[0]:
                more = self._bridge.read()
                if more:
                    got += more
                    # our own echo is no answer: what comes behind it may take its time
                    if got != data:
                        end = max(time.monotonic() + QUIET_S, min(end, time.monotonic() + 0.2))
        return got


class CanPort:
    """A CAN bus; `ask` sends frames and gives those that come."""

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

    def ask(self, frames: Iterable[tuple[int, bytes]], wait_ms: int) -> list[tuple[int, bytes]]:
        """Send frames, then listen for `wait_ms`."""
        self._got = []
        for ident, data in frames:
            self._link.send(ident, bytearray(data), len(data))
        end = time.monotonic() + wait_ms / 1000
        while (left := end - time.monotonic()) > 0:
            select.select([self._bridge.fileno()], [], [], min(left, 0.01))
            self._link.poll(self, 0)
        return self._got


def find(
    kind: str, port: UartPort | CanPort, nodes: range | None, progress: Progress
) -> list[Found]:
    """The boards of a kind that answer on a port; `nodes` = those that are asked, None = all."""
    module = decoder(kind)
    own = getattr(module, "find", None)
    if own is not None:
        shapes = own(port)
        wanted = [s for s in shapes if nodes is None or s.node in nodes]
        return [Found(shape) for shape in wanted]
    low, high = driver_class(kind).NODES
    out = []
    for node in nodes if nodes is not None else range(low, high + 1):
        found = _ask(kind, port, node)
        heard = "silent" if found is None else f"{found.shape.cells} cells"
        progress(f"{kind} node {node} of {low}..{high}: {heard}")
        if found is not None:
            out.append(found)
    return out


class _Questions:
    """A CAN link that keeps what is sent by it."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.sent: list[tuple[int, bytes]] = []

    def send(self, ident: int, data: bytearray, n: int) -> bool:
        """As a CAN link."""
        self.sent.append((ident, bytes(data[:n])))
        return True


def _ask(kind: str, port: UartPort | CanPort, node: int) -> Found | None:
    """What a node answers to the questions of a scan; the first one may only wake it."""
    cls = driver_class(kind)
    stream, frames = Stream(), _Questions(cls.CAN_BPS)
    link = cls.frame(stream) if port.medium == "uart" else frames
    driver, _pack = driver_of(kind, link, [Shape(node, 1, 0)])

    def said() -> bytes:
        wait_ms = driver.ANSWER_MS + 50
        if isinstance(port, UartPort):
            answer = port.ask(stream.sent, wait_ms)
            return b"" if answer == stream.sent else answer
        got = [x for x in port.ask(frames.sent, wait_ms) if driver.expects(x[0])]
        return b"".join(to_line(Frame(*x)) + b"\r" for x in got)

    heard = answer = b""
    for step in range(driver.STEPS):
        for _ in range(2 if not step else 1):
            stream.sent, frames.sent = b"", []
            driver.ask(0, step)
            answer = said()
            if answer:
                break
        else:
            if not step:
                return None
        heard += answer
        time.sleep(driver.GAP_MS / 1000)
    decoded = decoder(kind).decode(Capture(heard, port.medium == "can", node=node))
    values = decoded.values
    cells = values["cells_mv"] or []
    if node not in (values["boards"] or []) or not cells:
        return None
    temps = values["temps_dc"] or []
    reading = next((i for i, dc in enumerate(temps) if dc is None), len(temps))
    known = [mv for mv in cells if mv is not None]
    return Found(
        Shape(node, len(cells), reading),
        values.get("nominal_mah"),
        max(known, default=None),
        [] if reading == len(temps) else [f"node {node}: sensor {reading + 1} reads nothing"],
    )


def pack_text(kind: str, medium: str, rate: int, found: list[Found]) -> str:
    """A pack file for these boards on the first port of a medium.

    What no board says is a guess that its comment names.
    """
    shapes = [x.shape for x in found]
    highest = max((x.highest_mv for x in found if x.highest_mv is not None), default=0)
    chemistry = CHEMISTRIES[0] if highest <= LFP_MOST_MV else CHEMISTRIES[1]
    capacity = max((x.nominal_mah or 0 for x in found), default=0)
    said = " as the boards say" if capacity else " a guess"
    ah = capacity / 1000 if capacity else 100
    lines = [
        f"# found by `bmsctl scan --kind {kind}`; check what is marked before anything is closed",
        "[pack]",
        'name = "found"',
        f'chemistry = "{chemistry}"  # CHECK: a guess by the highest cell, {highest} mV',
        f"cells = {sum(s.cells for s in shapes)}",
        f'capacity = "{ah:g} Ah"  # CHECK:{said}',
        "",
        "[limits]",
        f'charge_max = "{ah / 2:g} A"  # CHECK: half the capacity in an hour',
        f'discharge_max = "{ah:g} A"  # CHECK: the capacity in an hour',
        f'current_hard_max = "{2 * ah:g} A"  # CHECK: twice that',
    ]
    for first, count in _runs(shapes):
        nodes = f"{first.node}-{first.node + count - 1}" if count > 1 else f"{first.node}"
        lines += [
            "",
            "[[slave]]",
            f'kind = "{kind}"',
            f'link = "{medium}0"',
            f'node = "{nodes}"',
            f"cells = {first.cells}",
            f"temps = {first.temps}",
        ]
    own = [f'rate = "{rate} bit/s"'] if rate else []
    least = _least_age_ms(kind, medium, shapes)
    for key, usual in (("cell_age", 500), ("temp_age", 5000)):
        if least > usual:
            ms = math.ceil(least * 1.2 / 100) * 100
            own.append(f'{key} = "{ms} ms"  # one scan of these boards may be lost')
    if own:
        lines += ["", "[[link]]", f'port = "{medium}0"', *own]
    lines += [f"# {note}" for x in found for note in x.notes]
    return "\n".join(lines) + "\n"


def _least_age_ms(kind: str, medium: str, shapes: list[Shape]) -> int:
    cls = driver_class(kind)
    if not cls.SLOW:
        return 0
    link, _stream = link_of(kind, Capture(b"", can=medium == "can"))
    driver, _pack = driver_of(kind, link, shapes)
    return slaves.least_age_ms(driver.scan_ms(None), PERIOD_MS)


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
