"""Answers of JBD-UP units: what `tables` reads, and what only a person wants to know.

Warnings and places behind the temperatures: venus-os_dbus-serialbattery, lltjbd_up16s.py, and
esphome-jbd-bms, jbd_bms_up_pack.cpp, agree in them.
"""

from typing import Any

from . import tables
from .base import Capture, Decoded, fill_balanced, only, replies

# bits of the warnings at byte 28, from bit 0 on
WARNINGS = (
    "cell_overvoltage",
    "cell_undervoltage",
    "pack_overvoltage",
    "pack_undervoltage",
    "charge_overcurrent",
    "discharge_overcurrent",
    "charge_overtemperature",
    "charge_undertemperature",
    "discharge_overtemperature",
    "discharge_undertemperature",
    "mos_overtemperature",
    "ambient_overtemperature",
    "ambient_undertemperature",
    "cells_apart",
    "temps_apart",
    "soc_low",
    "eeprom",
    "clock",
)
_CELLS_AT = 66
_SERIAL_BYTES = 30


class _Seen:
    """The data of the last answer."""

    link: Any = None
    data = b""

    def on_reply(self, node: int, command: int, at: int, n: int, now: int) -> None:
        del node, command, now
        self.data = bytes(self.link.data[at : at + n])


def decode(capture: Capture) -> Decoded:
    """What the units of a line answered; `Capture.node`: the only one that was polled."""
    out = tables.decode("jbd_up", capture)
    if not out.values["boards"]:
        return out
    seen = _Seen()
    replies("jbd_up", capture, only("jbd_up", seen, capture))
    data, values = seen.data, out.values
    warnings = _number(data, 28, 4)
    named = [f"bit_{bit}" for bit in range(len(WARNINGS), 32)]
    values["alarms"] += [
        f"{name}_warning" for bit, name in enumerate((*WARNINGS, *named)) if warnings >> bit & 1
    ]
    values["ambient_dc"] = _number(data, 18, 2) - 500
    temps_at = _CELLS_AT + 2 + 2 * _number(data, _CELLS_AT, 2)
    end = temps_at + 2 + 2 * _number(data, temps_at, 2)
    values["balance"] = _number(data, end, 4)
    if len(out.each) == 1:
        fill_balanced(out, [values["balance"]])
    if len(data) >= end + 6:
        version = _number(data, end + 4, 2)
        values["version"] = f"{version >> 8}.{version & 0xFF}"
        text = data[end + 6 : end + 6 + _SERIAL_BYTES].split(b"\0")[0]
        values["name"] = text.decode("ascii", "replace").strip() or None
    return out


def _number(data: bytes, at: int, n: int) -> int:
    return int.from_bytes(data[at : at + n], "big")
