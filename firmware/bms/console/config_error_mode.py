"""What runs instead of the master while there is no valid pack file: it says why, and no more.

Outputs stay off, the heartbeat stands still. `version` and `reset yes` are answered; allocates.
"""

import json

from bms.clock import Clock
from bms.kernels import crc16
from bms.version import VERSION

_TRIES = 50  # of 2 ms, for a console that takes a line piece by piece


class ConfigErrorMode:
    """Says a ConfigError or OSError once a second."""

    def __init__(self, error, board):
        self._board = board
        self._clock = Clock(board.clock)
        self._fields = {
            "line": getattr(error, "line", 0),
            "key": getattr(error, "key", ""),
            "reason": getattr(error, "reason", None) or "pack file: " + str(error),
        }
        self._said = -1
        self._buf = bytearray(16)
        self._word = b""
        self.restart = False

    def run(self):
        """Until somebody says `reset yes` or `service yes`."""
        while not self._step():
            self._board.wait(100)
            self._board.keep()  # the watchdog only: nothing here is proven to work

    def crashed(self, text):
        """There is nowhere to keep it."""

    def _step(self):
        self._clock.tick()
        if self._clock.uptime_s != self._said:
            self._said = self._clock.uptime_s
            self._say("config_error", self._fields)
        got = self._board.console.read(self._buf)
        for c in self._buf[:got]:
            if c != 10 and c != 13:
                self._word = (self._word + bytes([c if 32 <= c < 127 else 63]))[-40:]
                continue
            word, self._word = self._word, b""
            if word in (b"reset yes", b"service yes", b"reset anyway", b"service anyway"):
                self.restart = word.startswith(b"reset")
                return True
            if word == b"version":
                self._say("boot", {"version": VERSION, "board": self._board.NAME})
            if word:
                text = "no valid pack file: " + self._fields["reason"]
                name = word.split()[0].decode() if word.split() else "?"
                self._say("answer", {"cmd": name, "ok": word == b"version", "text": text})
        return False

    def _say(self, kind, fields):
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
