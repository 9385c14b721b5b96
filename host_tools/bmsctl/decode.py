"""Captured bytes through the firmware's own drivers: a driver on a stream that holds a capture."""

from dataclasses import dataclass, field
from typing import Any

from bms import config as pack_config
from bms.clock import Clock
from bms.current import Current
from bms.faults import Faults
from bms.limits import Limits
from bms.links.cobs import CobsLink
from bms.links.slcan import Slcan
from bms.pack import Pack
from bms.slaves import cell_link, jbd
from bms.strings import Strings

JBD_SAYS = ("current_ma", "soc_pm", "remaining_mah", "nominal_mah", "cycles", "protection", "fets")
KEYS = ("cells_mv", "temps_dc", "pack_mv", "alarms", *JBD_SAYS, "balance", "name", "version")


@dataclass
class Decoded:
    """What a capture says: `error` None where all of it is good; unknown values stay None."""

    driver: str
    error: str | None = None
    values: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(KEYS))
    frames: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object that `bmsctl decode --json` prints."""
        head = {"driver": self.driver, "ok": self.error is None, "error": self.error}
        values = {**self.values, "alarms": self.values["alarms"] or []}
        for key in ("cells_mv", "temps_dc"):
            values[key] = values[key] or []
        return {**head, **values, "frames": self.frames}


class _Capture:
    """A stream whose bytes are all there; what is written to it is forgotten."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, buf: bytearray) -> int:
        part, self._data = self._data[: len(buf)], self._data[len(buf) :]
        buf[: len(part)] = part
        return len(part)

    def write(self, buf: bytearray, start: int, n: int) -> int:
        del buf, start
        return n

    @property
    def left(self) -> bool:
        return bool(self._data)


class _Hal:
    """A board that has a clock standing still and coils that go nowhere."""

    def ms(self) -> int:
        return 0

    us = ms

    def coil(self, which: int, pm: int) -> None: ...

    def feedback(self, which: int) -> None: ...


def _driver_of(kind: str, link: Any, boards: list[tuple[int, int, int]]) -> tuple[Any, Pack]:
    """The firmware's driver for boards of (node, cells, temps), everything it needs around it."""
    count = sum(cells for _node, cells, _temps in boards)
    text = f'[pack]\nname = "x"\nchemistry = "NMC"\ncells = {count}\ncapacity = "1 Ah"\n[limits]\n'
    text += 'charge_max = "1 A"\ndischarge_max = "1 A"\ncurrent_hard_max = "2 A"\n'
    for node, cells, temps in boards:
        text += f'[[slave]]\nkind = "{kind}"\nlink = "x{node if kind == "jbd" else ""}"\n'
        text += f"node = {node}\ncells = {cells}\ntemps = {temps}\n"
    settings = pack_config.parse(text.splitlines())
    pack = Pack(settings)
    hal = _Hal()
    clock = Clock(hal)
    faults = Faults(clock, pack)
    currents = [Current(settings, 0)]
    strings = Strings(settings, hal, faults, pack, currents, clock)
    limits = Limits(settings, pack, currents, faults, strings, clock.now)
    cls = jbd.Jbd if kind == "jbd" else cell_link.CellLink
    driver = cls(link, list(range(len(boards))), pack, limits, faults, settings)
    for i in range(len(boards)):
        pack.known[i] = 1
    return driver, pack


def _readings(pack: Pack) -> tuple[list[int | None], list[int | None]]:
    cells = [v if f & 1 else None for v, f in zip(pack.cell_mv, pack.cell_flags, strict=True)]
    temps = [v if f & 1 else None for v, f in zip(pack.temp_dc, pack.temp_flags, strict=True)]
    return cells, temps


def _first(*reasons: tuple[int, str]) -> str | None:
    """The first reason whose count isn't 0, the count in front where it is more than one."""
    for count, reason in reasons:
        if count:
            return reason if count == 1 else f"{count} times: {reason}"
    return None


class _Replies:
    """Collects JBD replies."""

    def __init__(self, link: jbd.JbdLink) -> None:
        self._link = link
        self.seen: list[tuple[int, int, bytes]] = []

    def on_reply(self, register: int, status: int, n: int, now: int) -> None:
        del now
        self.seen.append((register, status, bytes(self._link.reply[:n])))


def decode_jbd(data: bytes, asked: int | None = None) -> Decoded:
    """Replies of one JBD board; `asked` = the only register that was asked for."""
    out = Decoded("jbd")
    stream = _Capture(data)
    link = jbd.JbdLink(stream)
    replies = _Replies(link)
    while stream.left:
        link.poll(replies, 0)
    link.end(replies, 0)
    cells = temps = 0
    for register, status, reply in replies.seen:
        if status == 0 and register == jbd.CELLS:
            cells = len(reply) // 2
        elif status == 0 and register == jbd.BASIC and len(reply) > 22:
            cells, temps = cells or reply[21], reply[22]
    driver, pack = _driver_of("jbd", link, [(1, min(cells, 32) or 1, min(temps, 16))])
    strange = refused = 0
    for register, status, reply in replies.seen:
        if asked is not None and register != asked:
            strange += 1
            continue
        link.reply[: len(reply)] = reply
        driver.expect(register)
        driver.on_reply(register, status, len(reply), 0)
        if status:
            refused += 1
        elif register == jbd.NAME:
            out.values["name"] = reply.decode(errors="replace")
    values = out.values
    values["cells_mv"], values["temps_dc"] = _readings(pack)
    if not any(v is not None for v in values["cells_mv"]):
        values["cells_mv"] = []
    if driver.fets >= 0:
        values["pack_mv"] = pack.stack_mv[0] if pack.stack_ok[0] else None
        for key in JBD_SAYS:
            values[key] = getattr(driver, key)
        values["balance"] = driver.balance_low | driver.balance_high << 16
        values["version"] = f"{driver.version >> 4}.{driver.version & 15}"
        values["alarms"] = [
            name for bit, name in enumerate(jbd.PROTECTION) if driver.protection >> bit & 1
        ]
    damaged = link.damaged + driver.damaged
    out.frames = {
        "good": link.rx,
        "damaged": damaged,
        "echoes": link.echoes,
        "wrong_responder": strange,
        "refused": refused,
    }
    status_text = jbd.STATUS_TEXT.get(driver.status, f"status {driver.status:02X}")
    reason = jbd.REASONS[link.fault] if link.fault else "fields and length disagree"
    out.error = _first(
        (damaged, reason),
        (strange, f"wrong responder: a reply to another register than {asked or 0:02X}"),
        (refused, f"the board refused: {status_text}"),
        (not link.rx and not link.echoes, "no reply in it: no DD .. 77"),
        (not link.rx, "only requests in it"),
    )
    return out


class _Frames:
    """Collects cell link frames."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []

    def on_frame(self, ident: int, n: int, data: bytearray, now: int) -> None:
        del now
        self.seen.append((ident, bytes(data[:n])))


def decode_cell_link(data: bytes, can: bool, node: int | None = None) -> Decoded:
    """Cell link frames from UART bytes, or with `can` slcan text; `node`: the only one asked."""
    out = Decoded("cell_link")
    stream = _Capture(data)
    link = Slcan(stream) if can else CobsLink(stream)
    link.polled = False  # whoever was asked, a capture holds only the answers
    frames = _Frames()
    while stream.left:
        link.poll(frames, 0)
    unended = link.unended()
    boards: dict[int, list[int]] = {}
    wrong = 0
    for ident, payload in frames.seen:
        function, number = ident >> 6, ident & 63
        if not 1 <= number <= 62 or cell_link.SCAN <= function <= cell_link.BALANCE:
            continue
        if node is not None and number != node:
            wrong += 1
            continue
        counts = boards.setdefault(number, [0, 0])
        if function == cell_link.HELLO and len(payload) == 8:
            counts[:] = [payload[1], payload[2]]
        elif cell_link.CELLS <= function < cell_link.TEMPS:
            counts[0] = max(counts[0], 4 * (function - cell_link.CELLS + 1))
        elif cell_link.TEMPS <= function < cell_link.STATUS:
            counts[1] = max(counts[1], 4 * (function - cell_link.TEMPS + 1))
    table = [(n, min(c, 32) or 1, min(t, 16)) for n, (c, t) in sorted(boards.items())]
    driver, pack = _driver_of("cell_link", link, table or [(1, 1, 0)])
    alarms: list[str] = []
    buf = bytearray(8)
    seq = -1
    for ident, payload in frames.seen:
        if ident & 63 not in boards or not cell_link.CELLS <= ident >> 6 <= cell_link.STATUS:
            continue
        buf[: len(payload)] = payload
        if len(payload) == 8:
            # the running scan is the one that the answer names: with 8 bits in STATUS, else 4
            whole = ident >> 6 == cell_link.STATUS
            named = payload[6] if whole else payload[6] >> 4
            if named != (seq if whole else seq & 15):
                seq = named
                driver.begin(seq, 0)
        driver.on_frame(ident, len(payload), buf, 0)
    values = out.values
    if table:
        cells, temps = _readings(pack)
        values["cells_mv"], values["temps_dc"] = _trimmed(cells), _trimmed(temps)
        if all(pack.stack_ok):
            values["pack_mv"] = sum(pack.stack_mv)
        for flags in pack.slave_flags:
            alarms += [f"bit_{bit}" for bit in range(16) if flags >> bit & 1]
        values["alarms"] = alarms
    out.frames = {
        "good": link.rx - driver.damaged,
        "damaged": link.damaged + driver.damaged,
        "wrong_responder": wrong,
        "unended": unended,
    }
    broken = "not an slcan frame" if can else "wrong CRC-16, or truncated"
    out.error = _first(
        (driver.damaged, "wrong CRC-8"),
        (link.damaged, broken),
        (wrong, f"wrong responder: a frame of another node than {node}"),
        (bool(unended), "truncated"),
        (not link.rx, "no frame in it"),
    )
    return out


def _trimmed(values: list[int | None]) -> list[int | None]:
    """Without the empty places at the end of the last frame."""
    while values and values[-1] is None:
        values.pop()
    return values
