"""Runs instead of the master while there is no valid pack file: reports why, closes nothing.

All outputs stay off and the heartbeat does not toggle. The commands `version`, `reset` and
`service` work, others get the reason as their answer. Allocates.
"""

import json

from bms.clock import Clock
from bms.kernels.checksums import crc16
from bms.version import VERSION

_TRIES = 50  # waits of 2 ms each, while the port takes no more bytes of a line


class ConfigErrorMode:
    """Reports a ConfigError or OSError once a second.

    restart: the command that ended it was `reset`.
    """

    def __init__(self, error, board):
        self._board = board
        self._clock = Clock(board.clock)
        self._fields = {
            "line": getattr(error, "line", 0),
            "key": getattr(error, "key", ""),
            "reason": getattr(error, "reason", None) or "pack file: " + str(error),
        }
        self._reported_s = -1
        self._buf = bytearray(16)
        self._line = b""
        self.restart = False

    def run(self):
        """Run until a command `reset` or `service`."""
        while not self._step():
            self._board.wait(100)
            self._board.keep()  # feeds the watchdog only: no toggle, since no protection runs

    def crashed(self, text):
        """Same call as the master's; without a pack file there is no store for the text."""

    def _step(self):
        self._clock.tick()
        if self._clock.uptime_s != self._reported_s:
            self._reported_s = self._clock.uptime_s
            self._send("config_error", self._fields)
        got = self._board.console.read(self._buf)
        for c in self._buf[:got]:
            if c == 8 or c == 127:
                self._line = self._line[:-1]
                continue
            if c != 10 and c != 13:
                self._line = (self._line + bytes([c if 32 <= c < 127 or c == 9 else 63]))[-40:]
                continue
            line, self._line = b" ".join(self._line.lower().split()), b""
            if line in (b"reset yes", b"service yes", b"reset anyway", b"service anyway"):
                self.restart = line.startswith(b"reset")
                return True
            if line:
                text = "no valid pack file: " + self._fields["reason"]
                name = line.split()[0].decode() if line.split() else "?"
                self._send("answer", {"cmd": name, "ok": line == b"version", "text": text})
            if line == b"version":
                self._send("boot", {"version": VERSION, "board": self._board.NAME})
        return False

    def _send(self, kind, fields):
        ms = self._clock.uptime_s * 1000 + self._clock.uptime_ms
        line = '{"k":"%s","t_ms":%d,' % (kind, ms)
        for key in fields:
            line += json.dumps(key) + ":" + json.dumps(fields[key]) + ","
        raw = line.encode()
        raw += b'"crc":"%04X"}\n' % crc16(raw, 0, len(raw), 0xFFFF)
        at = tries = 0
        while at < len(raw) and tries < _TRIES:
            took = self._board.console.write(raw, at, len(raw) - at)
            at += took
            if not took:
                tries += 1
                self._board.wait(2)
