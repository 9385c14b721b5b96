"""Any line of a master for a person: values with units, cells by board and place, clock times."""

from datetime import datetime, timedelta
from typing import Any

from bms.protection.fault_catalog import table

# unit of a fault's value, by the fault's code
UNITS: dict[int, str] = {row[0]: row[4] for row in table()}
# the end of a key -> what the value is divided by, its unit, decimals
_SUFFIXES = {
    "mv": (1000, "V", 3),
    "ma": (1000, "A", 1),
    "dc": (10, "degC", 1),
    "pm": (10, "%", 1),
    "ms": (1000, "s", 3),
    "s": (1, "s", 0),
    "wh": (1, "Wh", 0),
    "ah": (1, "Ah", 0),
}


class Places:
    """Knows from lines of kind `cells` which board a cell or a temperature sensor is on."""

    def __init__(self) -> None:
        self._boards: dict[int, tuple[int, int, int]] = {}  # first cell, cells, sensors

    def line(self, obj: dict[str, Any]) -> None:
        """Any line of the master."""
        if obj["k"] == "cells":
            counts = len(obj["cell_mv"]), len(obj["temp_dc"])
            self._boards[obj["slave"]] = (obj["first_cell"], *counts)

    def name(self, place: str, index: int) -> str:
        """`cell 33 = board 3, cell 1`, or `cell 33` where its board is not known."""
        name = f"{place} {index}"
        first_temp = 1
        for board in range(1, len(self._boards) + 1):
            if board not in self._boards:
                break
            first_cell, cells, temps = self._boards[board]
            first, count = (first_cell, cells) if place == "cell" else (first_temp, temps)
            if place in ("cell", "temp") and first <= index < first + count:
                what = "cell" if place == "cell" else "sensor"
                return f"{name} = board {board}, {what} {index - first + 1}"
            first_temp += temps
        return name


NOWHERE = Places()


def uptime(seconds: float) -> str:
    """Time since the master's start."""
    return f"{seconds:7.3f} s"


def _moment(t_ms: int, obj: dict[str, Any], now: datetime | None) -> str:
    """A time of the master: on the clock where it is known what `obj["t_ms"]` is there."""
    if now is None:
        return uptime(t_ms / 1000)
    at = now - timedelta(milliseconds=obj["t_ms"] - t_ms)
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def _or_dash(value: int | None, scale: float, form: str) -> str:
    width = len(format(0.0, form))
    return "-".rjust(width) if value is None else format(value / scale, form)


def figures(status: dict[str, Any]) -> str:
    """The pack in one line of a terminal, from a status line."""
    cells = "not all cells read"
    if status["min_mv"] is not None:
        cells = f"cells {status['min_mv'] / 1000:.3f}-{status['max_mv'] / 1000:.3f} V"
    balancing = f" {status['balancing']} balancing" if status["balancing"] else ""
    return (
        f"{status['state'].replace('_', ' '):9}"
        f"{_or_dash(status['pack_mv'], 1000, '7.2f')} V"
        f"{_or_dash(status['i_ma'], 1000, '+7.1f')} A"
        f" {cells}"
        f" {_or_dash(status['max_dc'], 10, '.0f')} degC{balancing}"
    )


def _extremes(status: dict[str, Any], places: Places) -> str:
    """The lowest and the highest cell of a status line; "" where not all are read."""
    if status["min_mv"] is None:
        return ""
    low = f"{status['min_mv'] / 1000:.3f} V ({places.name('cell', status['min_cell'])})"
    high = f"{status['max_mv'] / 1000:.3f} V ({places.name('cell', status['max_cell'])})"
    return f"cells {low} to {high}"


def _of_fault(value: int, unit: str) -> str:
    """A fault's value with its unit; "" where the value means nothing."""
    if unit == "mV":
        return f"{value} mV" if abs(value) < 10_000 else f"{value / 1000:.2f} V"
    if unit == "mA":
        return f"{value / 1000:.1f} A"
    if unit == "0.1 degC":
        return f"{value / 10:.1f} degC"
    if unit == "permille":
        return f"{value / 10:.1f} %"
    if unit == "flags":
        return f"flags {value:#x}"
    if unit in ("code", "sensor"):
        return f"{unit} {value}"
    return f"{value} {unit}" if unit else ""


def cause(event: dict[str, Any], places: Places = NOWHERE) -> str:
    """A fault in words: its name, where, and the value that was measured."""
    where = f" {places.name(event['place'], event['index'])}" if event["index"] is not None else ""
    value = _of_fault(event["value"], UNITS.get(event["code"], "?"))
    return f"{event['name']}{where}" + (f": {value}" if value else "")


def _value(key: str, value: object) -> str:
    """A key and its value: `i_ma` 1200 gives "i 1.2 A"."""
    name, _, suffix = key.rpartition("_")
    scale, unit, decimals = _SUFFIXES.get(suffix, (1, "", 0)) if name else (1, "", 0)
    shown = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int) and unit:
            shown.append(f"{item / scale:.{decimals}f}")
        else:
            shown.append("-" if item is None else str(item))
    return f"{name if unit else key} {' '.join(shown)}" + (f" {unit}" if unit else "")


def readable(obj: dict[str, Any], places: Places = NOWHERE, now: datetime | None = None) -> str:
    """Any telemetry line for a person: one line of a terminal, two for a status.

    now: the time on the clock as it came; without it, times are those since the master's start.
    """
    kind = obj["k"]
    at = _moment(obj["t_ms"], obj, now)
    if kind == "status":
        cells = _extremes(obj, places)
        more = f"\n{' ' * len(at)}  {cells}" if cells else ""
        return f"{at}  {figures(obj)}{more}"
    if kind in ("event", "past_event", "stored_event", "fault"):
        what = obj.get("what") or (
            "active" if obj["active"] else "latched, gone" if obj["latched"] else "acknowledged"
        )
        first = ", the first trip" if obj.get("first") else ""
        began = _moment(obj["at_ms"], obj, now if kind != "stored_event" else None).strip()
        return f"{at}  {obj['level']} {what}: {cause(obj, places)} (at {began}{first})"
    if kind == "cells":
        mv = " ".join("-" if v is None else str(v) for v in obj["cell_mv"])
        dc = " ".join("-" if v is None else f"{v / 10:.1f}" for v in obj["temp_dc"])
        last = obj["first_cell"] + len(obj["cell_mv"]) - 1
        return f"{at}  board {obj['slave']}, cells {obj['first_cell']}-{last} mV: {mv}  degC: {dc}"
    if kind == "setting":
        return f"{obj['name']} = {obj['value']}"
    if kind == "help":
        return f"{obj['cmd']:8} {obj['text']}"
    if kind == "answer":
        return f"{obj['cmd']}: {'ok' if obj['ok'] else 'NO'}" + (
            f", {obj['text']}" if obj["text"] else ""
        )
    rest = ", ".join(_value(k, v) for k, v in obj.items() if k not in ("k", "t_ms", "crc"))
    return f"{at}  {kind}: {rest}"
