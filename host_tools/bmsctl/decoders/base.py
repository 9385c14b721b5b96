"""What the decoders share: a driver on a stream that holds a capture, and what it read."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from bms.clock import Clock
from bms.config import pack_file
from bms.contactors.strings import Strings
from bms.links.can import BITS
from bms.links.reply import CHECKSUM, ReplyLink
from bms.links.slcan import Slcan
from bms.pack import BALANCING, FRESH, Pack
from bms.protection.faults import Faults
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from bms.slaves import base
from bms.slaves.build import KINDS
from bms.slaves.commercial import NO_SENSOR_DC
from bmssim.protocol import Frame
from bmssim.slcan import to_line

from ..idle_board import IdleHal

# every kind has these, unknown ones stay None; a kind may add its own after them
KEYS = (
    "boards",
    "cells_mv",
    "temps_dc",
    "pack_mv",
    "alarms",
    "current_ma",
    "soc_pm",
    "remaining_mah",
    "nominal_mah",
    "cycles",
    "protection",
    "fets",
    "balance",
    "name",
    "version",
    "health_pm",
    "board_dc",
    "balanced_cells",
)
# kinds whose boards measure a temperature of their own; for others a sensor of the cells stands
_OWN_TEMPERATURE = (
    "bq796xx",
    "cell_link",
    "diybms",
    "jbd_up",
    "jk_pb",
    "jk_ttl",
    "pylontech",
)


_SHOWN = 8  # identifiers that a note names at most
# those that are of all boards of a capture
ALL_BOARDS = (
    "boards",
    "cells_mv",
    "temps_dc",
    "pack_mv",
    "alarms",
    "protection",
    "balance",
    "balanced_cells",
)


@dataclass
class Capture:
    """Bytes of a line, or slcan text of a CAN bus; register, node: what was polled, None =
    not known.

    only: what other boards than `node` sent is left out.
    """

    data: bytes
    can: bool = False
    register: int | None = None
    node: int | None = None
    only: bool = False


@dataclass
class Decoded:
    """What a capture holds: `error` None where all of it is good; unknown values stay None.

    each: the values of each board by itself, with its "node". notes: what is no error.
    """

    driver: str
    error: str | None = None
    values: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(KEYS))
    frames: dict[str, int] = field(default_factory=dict)
    each: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The object that `bmsctl decode --json` prints."""
        head = {"driver": self.driver, "ok": self.error is None, "error": self.error}
        values = dict(self.values)
        for key in ("boards", "cells_mv", "temps_dc", "alarms"):
            values[key] = values[key] or []
        return {**head, **values, "each": self.each, "frames": self.frames, "notes": self.notes}


@dataclass(frozen=True)
class Shape:
    """A board as a capture shows it: as a pack file states it."""

    node: int
    cells: int
    temps: int


@dataclass
class Found:
    """One board that answered; nominal_mah: where it reports it; highest_mv: of its cells.

    woken: it answered only behind another poll.
    """

    shape: Shape
    nominal_mah: int | None = None
    highest_mv: int | None = None
    woken: bool = False
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


class Stream:
    """A stream that holds all its bytes; what is written to it is kept in `sent`."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.sent = b""

    def read(self, buf: bytearray) -> int:
        part, self.data = self.data[: len(buf)], self.data[len(buf) :]
        buf[: len(part)] = part
        return len(part)

    def write(self, buf: bytearray, start: int, n: int) -> int:
        self.sent += bytes(buf[start : start + n])
        return n


def driver_class(kind: str) -> Any:
    """The firmware's driver of a kind."""
    module, name, _media = KINDS[kind]
    return getattr(__import__(module, fromlist=[name]), name)


def driver_of(kind: str, link: Any, boards: list[Shape], port: str = "") -> tuple[Any, Pack]:
    """The firmware's driver for some boards on a link, with everything it needs around it.

    port: more lines of its [[link]].
    """
    count = sum(board.cells for board in boards)
    text = f'[pack]\nname = "x"\nchemistry = "NMC"\ncells = {count}\ncapacity = "1 Ah"\n[limits]\n'
    text += 'charge_max = "1 A"\ndischarge_max = "1 A"\ncurrent_hard_max = "2 A"\n'
    for board in boards:
        text += f'[[slave]]\nkind = "{kind}"\nlink = "x"\n'
        text += f"node = {board.node}\ncells = {board.cells}\ntemps = {board.temps}\n"
    if port:
        text += f'[[link]]\nport = "x"\n{port}'
    settings = pack_file.parse(text.splitlines())
    pack = Pack(settings)
    hal = IdleHal()
    clock = Clock(hal)
    faults = Faults(clock, pack)
    currents = [StringCurrent(settings, 0)]
    strings = Strings(settings, hal, faults, pack, currents, clock)
    limits = Limits(settings, pack, currents, faults, strings, clock.now)
    driver = driver_class(kind)(link, list(range(len(boards))), pack, limits, faults, settings)
    for i in range(len(boards)):
        pack.known[i] = 1
    return driver, pack


def link_of(kind: str, capture: Capture) -> tuple[Any, Stream]:
    """The firmware's link on a capture, and the stream that it reads."""
    stream = Stream(capture.data)
    if capture.can:
        return Slcan(stream), stream
    link = driver_class(kind).frame(stream)
    if isinstance(link, ReplyLink):
        _record_spans(link, stream, len(capture.data))
    return link, stream


def _record_spans(link: Any, stream: Stream, size: int) -> None:
    """Record in `link.spans` where in a capture of `size` bytes its good frames begin and end,
    in `link.refused` why the first other piece was refused.
    """
    link.spans = []
    link.refused = 0
    hand_over, good = link._hand_over, link._good

    def looked_at(at: int, n: int) -> bool:
        is_good = good(at, n)
        if not is_good and not link.refused:
            link.refused = link.fault
        return is_good

    def recorded(at: int, n: int, sink: Any, now: int) -> None:
        first = size - len(stream.data) - link._filled + at
        link.spans.append((first, first + n))
        hand_over(at, n, sink, now)

    link._good, link._hand_over = looked_at, recorded


def why_damaged(link: Any) -> str:
    """Why a piece of a capture was refused; a good frame behind it makes `link.fault` 0."""
    return link.REASONS[link.fault or link.refused or CHECKSUM]


def stray_bytes(link: Any) -> int:
    """Bytes between the good frames of a capture that are part of none."""
    return sum(b[0] - a[1] for a, b in pairwise(link.spans))


def shape(kind: str, node: int, cells: int, temps: int) -> Shape:
    """A board with as many of its cells and sensors as the kind's driver can read."""
    cls = driver_class(kind)
    return Shape(node, min(max(cells, 1), cls.CELLS), min(temps, cls.TEMPS))


def too_many(kind: str, cells: dict[int, int]) -> tuple[bool, str]:
    """For `first`: whether a board has more cells than its driver can read; cells: by node."""
    most = driver_class(kind).CELLS
    for node, count in cells.items():
        if count > most:
            return True, f"board {node} has {count} cells: {kind} can read {most} at most"
    return False, ""


def listen(
    kind: str,
    capture: Capture,
    boards: list[Shape],
    passes: int = 1,
    prepare: Callable[[Any], None] = lambda driver: None,
) -> tuple[Any, Pack]:
    """A capture through the driver of these boards, which takes answers to any poll.

    passes: 2 where the first frames may only be understood with the last ones; prepare: gets the
    driver before them.
    """
    link, stream = link_of(kind, capture)
    stream.sent = b""
    driver, pack = driver_of(kind, link, boards)
    driver.listen()
    prepare(driver)
    sink = only(kind, driver, capture)
    for _ in range(passes):
        stream.data = capture.data
        while stream.data:
            link.poll(sink, 0)
    if hasattr(link, "end"):
        link.end(driver, 0)
    return driver, pack


class Frames:
    """Collects CAN frames, or those of the cell link."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []

    def on_frame(self, ident: int, n: int, data: bytearray, now: int) -> None:
        """A frame from the link."""
        del now
        self.seen.append((ident, bytes(data[:n])))


def can_frames(kind: str, capture: Capture) -> tuple[Any, list[tuple[int, bytes]]]:
    """The link and the frames of a capture, of a kind that speaks over CAN only."""
    frames = Frames()
    return replies(kind, Capture(capture.data, can=True), frames), frames.seen


def feed_frames(
    kind: str, boards: list[Shape], frames: list[tuple[int, bytes]]
) -> tuple[Any, Pack]:
    """Frames of a CAN bus through the driver of these boards, which takes all of them."""
    driver, pack = driver_of(kind, Slcan(Stream()), boards)
    driver.listen()
    buf = bytearray(8)
    for ident, data in frames:
        buf[: len(data)] = data
        driver.on_frame(ident, len(data), buf, 0)
    return driver, pack


def replies(kind: str, capture: Capture, sink: Any) -> Any:
    """Every good reply or frame of a capture to `sink`, whose `link` is set; the link."""
    link, stream = link_of(kind, capture)
    sink.link = link
    sink = only(kind, sink, capture)
    while stream.data:
        link.poll(sink, 0)
    if hasattr(link, "end"):
        link.end(sink, 0)
    return link


class _Only:
    """Passes on to `sink` what one board sent; mask: of the node's bits in an identifier."""

    def __init__(self, sink: Any, node: int, mask: int) -> None:
        self._sink = sink
        self._node = node
        self._mask = mask

    def __getattr__(self, name: str) -> Any:
        take = getattr(self._sink, name)

        def taken(whose: int, *rest: Any) -> None:
            if (whose & self._mask if name == "on_frame" else whose) == self._node:
                take(whose, *rest)

        return taken


def only(kind: str, sink: Any, capture: Capture) -> Any:
    """The sink, or one that gets the frames of `Capture.node` only."""
    if not capture.only or capture.node is None:
        return sink
    # identifiers end with the node: in six bits, or in a byte
    return _Only(sink, capture.node, 63 if kind == "cell_link" else 0xFF)


def apart(decode: Callable[[Capture], Decoded], capture: Capture, out: Decoded) -> None:
    """Complete `each` with what boards report beyond cells.

    A value of a single board in which the boards differ isn't the pack's: it becomes None there.
    """
    out.each = [row for row in out.each if row["node"] in (out.values["boards"] or [])]
    for row in out.each:
        values = out.values
        if len(out.each) > 1:
            values = decode(replace(capture, node=row["node"], only=True)).values
            if values["boards"] != [row["node"]]:
                continue  # these kinds report no more
        row.update((key, value) for key, value in values.items() if key != "boards")
    for key in out.values:
        known = [row[key] for row in out.each if key in row]
        if key not in ALL_BOARDS and any(value != known[0] for value in known):
            out.values[key] = None


def readings(pack: Pack) -> tuple[list[int | None], list[int | None]]:
    """Cells in mV and temperatures in 0.1 degC, None where nothing valid was received."""
    cells = [v if f & FRESH else None for v, f in zip(pack.cell_mv, pack.cell_flags, strict=True)]
    temps = [v if f & FRESH else None for v, f in zip(pack.temp_dc, pack.temp_flags, strict=True)]
    return cells, temps


def fill(out: Decoded, boards: list[Shape], pack: Pack) -> None:
    """What every kind has: its boards, readings, stack voltages, alarms by base.ALARMS."""
    values = out.values
    values["boards"] = [board.node for board in boards]
    values["cells_mv"], values["temps_dc"] = readings(pack)
    if all(v is None for v in values["cells_mv"]):
        values["cells_mv"] = []
    if all(pack.stack_ok):
        values["pack_mv"] = sum(pack.stack_mv)
    known = 0
    for flags in pack.slave_flags:
        known |= flags | flags >> 8
    values["alarms"] = _alarms(known)
    out.each = rows(boards, pack)
    own_temperatures(out, pack)


def own_temperatures(out: Decoded, pack: Pack) -> None:
    """The temperature of each board itself, where its kind measures one."""
    if out.driver not in _OWN_TEMPERATURE:
        return
    for i, row in enumerate(out.each):
        known = pack.stack_ok[i] and pack.die_dc[i] > NO_SENSOR_DC
        row["board_dc"] = pack.die_dc[i] if known else None
    out.values["board_dc"] = out.each[0]["board_dc"] if out.each else None


def fill_balanced(out: Decoded, masks: list[int]) -> None:
    """The cells that are balanced, from 1 on, by the mask of each board; of all boards as they
    stand in `cells_mv`.
    """
    before = 0
    shown: list[int] = []
    for row, mask in zip(out.each, masks, strict=True):
        count = len(row["cells_mv"])
        row["balanced_cells"] = [i + 1 for i in range(count) if mask >> i & 1]
        shown += [before + cell for cell in row["balanced_cells"]]
        before += count
    out.values["balanced_cells"] = shown


def balanced_masks(boards: list[Shape], pack: Pack) -> list[int]:
    """The cells of each board that their driver knows to be balanced."""
    masks = []
    for i, board in enumerate(boards):
        flags = pack.cell_flags[pack.first_cell[i] : pack.first_cell[i] + board.cells]
        masks.append(sum(1 << k for k, flag in enumerate(flags) if flag & BALANCING))
    return masks


def fill_fields(out: Decoded, driver: Any) -> None:
    """The values of the driver's FIELDS."""
    for name, *_row in driver.FIELDS:
        out.values[name] = getattr(driver, name)


def alarm_rows(table: bytes) -> list[tuple[str, str]]:
    """The bits of a driver's ALARMS: letter, name; see `bms.slaves.fields`."""
    rows = [line.split(" ", 1) for line in table.decode().splitlines()]
    return [(letter, name) for letter, name in rows]


def alarm_names(table: bytes, bits: int) -> list[str]:
    """The names of the bits that are set."""
    return [name for bit, (_letter, name) in enumerate(alarm_rows(table)) if bits >> bit & 1]


def _alarms(flags: int) -> list[str]:
    return [name for bit, name in enumerate(base.ALARMS) if flags >> bit & 1]


def rows(boards: list[Shape], pack: Pack) -> list[dict[str, Any]]:
    """For `Decoded.each`: what the pack holds of each board."""
    cells, temps = readings(pack)
    out = []
    for i, board in enumerate(boards):
        c, t, flags = pack.first_cell[i], pack.first_temp[i], pack.slave_flags[i]
        out.append(
            {
                "node": board.node,
                "cells_mv": cells[c : c + board.cells],
                "temps_dc": temps[t : t + board.temps],
                "pack_mv": pack.stack_mv[i] if pack.stack_ok[i] else None,
                "alarms": _alarms(flags | flags >> 8),
            }
        )
    return out


def found_in(decoded: Decoded) -> list[Found]:
    """The boards that a capture has cells of, as `bmsctl scan` finds them."""
    out = []
    for row in decoded.each:
        known = [mv for mv in row["cells_mv"] if mv is not None]
        if not known or row["node"] not in (decoded.values["boards"] or []):
            continue
        temps = row["temps_dc"]
        reading = next((i for i, dc in enumerate(temps) if dc is None), len(temps))
        note = f"node {row['node']}: sensor {reading + 1} reads nothing"
        out.append(
            Found(
                Shape(row["node"], len(row["cells_mv"]), reading),
                decoded.values.get("nominal_mah"),
                max(known),
                notes=[] if reading == len(temps) else [note],
            )
        )
    return out


def can_capture(frames: list[tuple[int, bytes]], node: int | None = None) -> Capture:
    """Frames of a CAN bus as a capture."""
    return Capture(b"".join(to_line(Frame(*x)) + b"\r" for x in frames), can=True, node=node)


def strangers(out: Decoded, kind: str, idents: Iterable[int]) -> int:
    """Count frames with identifiers that the kind does not have, and name these in a note.

    Others may use the same bus: it is no error.
    """
    counts = Counter(ident & BITS for ident in idents)
    shown = ", ".join(f"{ident:03X}" for ident in sorted(counts)[:_SHOWN])
    more = ", .." if len(counts) > _SHOWN else ""
    note = first((counts.total(), f"an identifier that {kind} does not have: {shown}{more}"))
    out.notes += [note] if note else []
    return counts.total()


def first(*reasons: tuple[int, str]) -> str | None:
    """The first reason whose count isn't 0, the count in front where it is more than one."""
    for count, reason in reasons:
        if count:
            return reason if count == 1 else f"{count} times: {reason}"
    return None
