"""One command to a master over a serial port, and its answer."""

import select
import time
from typing import Any

from bmssim.lines import LineReader

from .errors import ToolError
from .readable import Places
from .serial_port import PortLost, open_port, read_some, write_all

# kinds that a command's answer is followed by
FOLLOW = {
    "help": ("help",),
    "status": ("status",),
    "cells": ("cells",),
    "strings": ("string",),
    "faults": ("fault",),
    "events": ("past_event",),
    "history": ("totals", "crash", "stored_event", "stored_end"),
    "frames": ("frame_part", "stored_end"),
    "pack": ("pack_part", "stored_end"),
    "limits": ("setting",),
    "config": ("setting",),
    "version": ("boot", "mem"),
}
# those whose answer always is
SURE = ("help", "status", "cells", "strings", "limits", "config", "version")
NOISE_BYTES = 200  # without an end of line: no master's
# kinds that come each period, whoever asks for them
STREAM = ("status", "power", "mem", "string", "cells")


class Wanted:
    """Which lines a person wants to see who did not ask for the stream.

    Everything that changes or answers; of the stream what an answer announces, one line or one
    round of slaves or strings.
    """

    def __init__(self) -> None:
        self._due: dict[str, int] = {}  # kind -> number of the last line of its round
        self._error = ""

    def line(self, obj: dict[str, Any]) -> bool:
        """True for a line to be shown; every line of the master must come here."""
        kind = obj["k"]
        if kind == "answer" and obj["ok"]:
            self._due.update(dict.fromkeys(FOLLOW.get(obj["cmd"], ()), 0))
        if kind == "config_error":
            again, self._error = self._error == obj["reason"], obj["reason"]
            return not again
        if kind not in STREAM:
            return True
        if kind not in self._due:
            return False
        number = obj.get("slave") or obj.get("string") or 0
        if number > self._due[kind]:
            self._due[kind] = number
            return True
        return not self._due.pop(kind)


def noise(reader: LineReader, baud: int, few: int = 1) -> str:
    """A hint where `few` lines or many bytes came but not one line of a master; "" otherwise."""
    other = reader.damaged + reader.text
    if reader.data or other < few and reader.unended < NOISE_BYTES:
        return ""
    return f"; what comes is no line of a master: is --baud {baud} right?"


def send_command(
    path: str, baud: int, command: str, timeout_s: float, places: Places | None = None
) -> list[dict[str, Any]]:
    """What a person wants to see of what came from the command on, its `answer` as the last.

    Lines that the answer announces follow it: they are waited for a moment. places: learns the
    boards from what comes. Raises ToolError: no port, or no answer in time.
    """
    word = command.split()[0].lower() if command.split() else ""
    with open_port(path, baud) as port:
        reader = LineReader()
        wanted = Wanted()
        seen: list[dict[str, Any]] = []
        answer: dict[str, Any] | None = None
        quiet_until = 0.0
        try:
            # an empty line ends whatever half a command stands in the master's buffer
            write_all(port, b"\n" + command.encode() + b"\n")
            end = time.monotonic() + timeout_s
            while time.monotonic() < (end if answer is None else quiet_until):
                select.select([port.fileno()], [], [], 0.05)
                for line in reader.feed(read_some(port)):
                    if line.obj is None:
                        continue
                    if places is not None:
                        places.line(line.obj)
                    shown = wanted.line(line.obj)
                    if line.obj["k"] == "answer" and line.obj.get("cmd") in (word, "?"):
                        answer = line.obj
                        sure = answer["ok"] is True and word in SURE
                        quiet_until = end if sure else min(end, time.monotonic() + 0.3)
                    elif shown:
                        seen.append(line.obj)
                        if answer is not None and line.obj["k"] in FOLLOW.get(word, ()):
                            quiet_until = min(end, time.monotonic() + 0.3)
        except PortLost as error:
            raise ToolError(f"{path} vanished: {error}") from None
    if answer is None:
        hint = noise(reader, baud)
        raise ToolError(f"{path}: no answer to `{command}` in {timeout_s:g} s{hint}")
    return [*seen, answer]
