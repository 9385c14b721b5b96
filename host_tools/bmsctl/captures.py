"""Text of captured CAN frames: what candump, python-can and slcan adapters write, line by line.

Frames that carry no data of a classic CAN bus are skipped and counted: error, remote, FD.
"""

import re
from collections import Counter
from collections.abc import Iterable

from bms.links.can import BITS, EXTENDED
from bmssim.protocol import Frame
from bmssim.slcan import to_line

_IDENT = r"(?P<ident>[0-9A-Fa-f]{8}|[0-9A-Fa-f]{3})"
# candump -L and python-can: 612#0CE4, 612#R, 612##1.., a direction behind it
_SHORT = re.compile(
    rf"(?:^|\s){_IDENT}#(?:(?P<fd>#[0-9A-Fa-f]?[0-9A-Fa-f]*)|(?P<remote>R[0-9A-Fa-f]?(?:_[0-9A-F])?)|"
    r"(?P<data>[0-9A-Fa-f]*))(?:\s+[RT])?\s*$"
)
# candump: 612   [8]  0C E4 .., a length of two digits for FD, characters (-a) behind it
_LONG = re.compile(
    rf"(?:^|\s){_IDENT}\s+\[(?P<length>\d\d?)\](?P<data>(?:\s+[0-9A-Fa-f]{{2}}(?=\s|$))*)"
    r"(?P<remote>\s+remote request)?(?:\s+'.*')?(?P<error>\s+ERRORFRAME)?\s*$"
)
# a frame, maybe with the adapter's time behind it and a program's text before it
_SLCAN = re.compile(r"^(?:\S+\s+)*?((?:t[0-9A-Fa-f]{3}|T[0-9A-Fa-f]{8})[0-8][0-9A-Fa-f]*)\s*$")
_SLCAN_OTHER = re.compile(r"^(?:\S+\s+)*?([rRdDbB])(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})[0-9A-F]+\s*$")
_TIME = 4  # digits of the time that an slcan adapter may write behind a frame
_ERROR = 0x20000000  # linux/can.h: an error frame's identifier, as candump shows it
SKIPPED = ("error", "remote", "fd")


class NotCan(Exception):
    """A line that is no frame; its text says why."""


def form_of(lines: Iterable[str]) -> str:
    """ "slcan", "candump" or "" of these lines, by the first one that shows it."""
    for line in lines:
        if _SLCAN.match(line) or _SLCAN_OTHER.match(line):
            return "slcan"
        if _SHORT.search(line) or _LONG.search(line):
            return "candump"
    return ""


class CanText:
    """Turns lines of one form into slcan text for the firmware's link; `skipped` counts."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._explains = False  # the lines behind an error frame that explain it
        self.skipped: Counter[str] = Counter(dict.fromkeys(SKIPPED, 0))

    def line(self, line: str) -> bytes:
        """A line with its end, if it has one; b"" where it holds no data frame. Raises NotCan."""
        if not line.strip() or line.lstrip()[0] == "#":
            return b""
        return self._slcan(line) if self._form == "slcan" else self._candump(line)

    def _skip(self, what: str) -> bytes:
        self.skipped[what] += 1
        return b""

    def _slcan(self, line: str) -> bytes:
        match = _SLCAN.match(line)
        if match is None:
            other = _SLCAN_OTHER.match(line)
            if other:
                return self._skip("remote" if other[1] in "rR" else "fd")
        frame = match[1] if match else line.strip()
        if match:
            head = 5 if frame[0] == "t" else 10
            whole = head + 2 * int(frame[head - 1])
            if len(frame) == whole + _TIME:
                frame = frame[:whole]
        # without an end of line the last frame may be cut
        return (frame + ("\r" if line[-1] in "\r\n" else "")).encode()

    def _candump(self, line: str) -> bytes:
        explains, self._explains = self._explains, False
        match = _SHORT.search(line) or _LONG.search(line)
        if match is None:
            if explains and line[0].isspace():
                self._explains = True
                return b""
            raise NotCan(f"not a line of candump: {line.strip()[:60]}")
        found = match.groupdict()
        ident = int(found["ident"], 16)
        if len(found["ident"]) == 8 and ident & _ERROR and ident <= BITS | _ERROR:
            self._explains = True
            return self._skip("error")
        if found.get("fd") or len(found.get("length") or "") > 1:
            return self._skip("fd")
        if found["remote"]:
            return self._skip("remote")
        payload = re.sub(r"\s", "", found["data"])
        length = found.get("length")
        short = length is not None and len(payload) != 2 * int(length)
        if len(payload) > 16 or len(payload) % 2 or short or ident > BITS:
            raise NotCan(f"not a CAN 2.0 frame: {line.strip()[:60]}")
        if len(found["ident"]) == 8:
            ident |= EXTENDED
        return to_line(Frame(ident, bytes.fromhex(payload))) + b"\r"
