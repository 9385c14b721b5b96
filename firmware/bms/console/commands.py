"""Reads commands from the serial port, one per line, and runs them.

Bytes are read as they arrive. A complete line is a command, with an argument behind a space where
it takes one; the answer is one line of kind `answer`. Nothing here allocates after start-up.
"""

from bms.console import telemetry as T
from bms.storage import history as H

_LONGEST = 40


class Commands:
    """refused: lines that were no command, were too long or contained bytes that are not text."""

    def __init__(self, master, stream, telemetry):
        self._master = master
        self._balancing = master.balancing
        self._faults = master.faults
        self._history = master.history
        self._soc = master.soc
        self._strings = master.strings
        self._stream = stream
        self._telemetry = telemetry
        self._chunk = bytearray(16)
        self._got = self._at = 0
        self._line = bytearray(_LONGEST)
        self._n = 0
        self._over = False
        self.refused = 0

    def step(self, now):
        """Read a few bytes; run at most one command until its answer has been built.

        False where nothing has come.
        """
        if self._at == self._got:
            self._at = 0
            self._got = self._stream.read(self._chunk)
        while self._at < self._got and not self._telemetry.answering():
            c = self._chunk[self._at]
            self._at += 1
            if c == 10 or c == 13:
                if self._over:
                    self._refuse(b"line too long")
                elif self._n:
                    self._command(now)
                self._n = 0
                self._over = False
            elif self._n < _LONGEST and 32 <= c < 127:
                self._line[self._n] = c
                self._n += 1
            else:
                self._over = True
        return self._got > 0

    def _match(self, start, text):
        """Index behind `text` if the line has it at `start`, followed by a space or the end.

        Else -1.
        """
        end = start + len(text)
        if end > self._n:
            return -1
        for i in range(len(text)):
            if self._line[start + i] != text[i]:
                return -1
        return end if end == self._n or self._line[end] == 32 else -1

    def _refuse(self, why):
        self.refused += 1
        self._telemetry.answer(b"?", False, why)

    def _command(self, now):
        for i in range(len(T.COMMANDS)):
            row = T.COMMANDS[i]
            end = self._match(0, row[0])
            if end >= 0:
                self._act(row, end + 1, now)
                return
        self._refuse(b"unknown command: see help")

    def _act(self, row, rest, now):
        """Run the command of a row of telemetry.COMMANDS; `rest`: where its argument begins."""
        command = row[0]
        if command == b"balance":
            self._balance(rest)
        elif row[1]:
            self._leave(row, rest)
        elif command == b"clear":
            self._clear(rest)
        elif rest <= self._n:
            self._refuse_argument(command)
        elif command == b"close":
            why = self._strings.close(now)
            # the answer names a string that stays open, although others close
            self._telemetry.answer(command, why is None, why or self._strings.left_out or b"")
        elif command == b"open":
            self._strings.open(now)
            self._telemetry.answer(command, True, b"")
        elif command == b"history" or command == b"frames" or command == b"pack":
            self._stored(command)
        else:
            self._request(command)
            self._telemetry.answer(command, True, b"")

    def _refuse_argument(self, command):
        self.refused += 1
        self._telemetry.answer(command, False, b"takes no such argument")

    def _balance(self, rest):
        balancing = self._balancing
        if self._match(rest, b"on") == self._n:
            balancing.wanted = True
        elif self._match(rest, b"off") == self._n:
            balancing.wanted = False
        elif rest <= self._n:
            self._refuse(b"balance on, balance off or balance")
            return
        self._telemetry.answer(b"balance", True, b"on" if balancing.wanted else b"off")

    def _leave(self, row, rest):
        """End the program, if the argument that the command requires is given."""
        command = row[0]
        anyway = self._match(rest, b"anyway") == self._n
        if self._match(rest, row[1]) == self._n or anyway:
            self._master.leave(command == b"reset", anyway)  # the answer comes from there
        else:
            self._telemetry.answer(command, False, row[2])

    def _clear(self, rest):
        ok = True
        text = b""
        if self._match(rest, b"welded") == self._n:
            ok = self._strings.ignore_feedback()
            self._faults.acknowledge()
            text = b"ignored until the next start" if ok else b"no feedback is wrong"
        elif self._match(rest, b"deep") == self._n:
            self._soc.forget_deep()
        elif rest <= self._n:
            self._refuse_argument(b"clear")
            return
        elif self._faults.acknowledge():
            ok = False
            text = b"a fault is still active: see faults"
        self._telemetry.answer(b"clear", ok, text)

    def _stored(self, command):
        """Begin to send stored data: totals and events, freeze frames or the pack file."""
        job = H.PACK
        if command != b"pack":
            job = H.HISTORY if command == b"history" else H.FRAMES
        why = self._history.request(job)
        self._telemetry.answer(command, why is None, why or b"")

    def _request(self, command):
        """Request lines of the present state from telemetry."""
        t = self._telemetry
        if command == b"help":
            t.request(T.HELP)
        elif command == b"status":
            t.request(T.STATUS)
        elif command == b"cells":
            t.request(T.CELLS)
        elif command == b"strings":
            t.request(T.STRINGS)
        elif command == b"faults":
            t.request(T.FAULTS)
        elif command == b"events":
            t.request(T.PAST)
        elif command == b"limits" or command == b"config":
            t.request_settings(command == b"config")
        elif command == b"version":
            t.request(T.BOOT)
            t.request(T.MEM)
