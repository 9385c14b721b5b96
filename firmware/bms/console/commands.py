"""Reads commands from the serial port, one per line, and runs them.

Bytes are read as they arrive. A complete line is a command, with an argument behind a space where
it takes one; the answer is one line of kind `answer`. Capital letters are small ones, a tab or
several blanks are one, Backspace takes back. Nothing here allocates after start-up.
"""

from micropython import const

from bms.console import telemetry as T
from bms.kernels.buffers import find, row_of
from bms.storage import history as H

# numbers of the commands, in the order of telemetry.COMMANDS
HELP, STATUS, CELLS, STRINGS, FAULTS, EVENTS, HISTORY, FRAMES, PACK = range(9)
CLEAR, CLOSE, OPEN, BALANCE, LIMITS, CONFIG, RESET, VERSION, SERVICE = range(9, 18)

_JOBS = bytes((T.HELP, T.STATUS, T.CELLS, T.STRINGS, T.FAULTS, T.PAST))  # of those below HISTORY
_LONGEST = 40
_PER_STEP = const(8)  # bytes: what comes from a slave meanwhile waits for them
_SPACE = const(32)
_NOT_MEANT = b"opens the contactors: add yes, or anyway where one is welded"


class Commands:
    """more: another step may follow at once.

    refused: lines that were no command, were too long or contained bytes that are not text.
    """

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
        self.more = self._ended = False  # the line is complete
        self._wrong = b""  # why the line that comes is none
        self.refused = 0

    def step(self, now):
        """Read a few bytes, or run a command once the answer of the last one has been built.

        False where nothing has come; see `more`.
        """
        if self._ended:
            self.more = False
            if not self._telemetry.answering():
                self._ended = False
                self._take_line(now)
                self.more = self._at < self._got
            return True
        if self._at == self._got:
            self._at = 0
            self._got = self._stream.read(self._chunk)
            self.more = self._got > 0
            return self.more
        end = self._at + _PER_STEP
        while self._at < self._got and self._at < end:
            c = self._chunk[self._at]
            self._at += 1
            if c == 10 or c == 13:
                self._ended = True
                break
            self._typed(c)
        self.more = self._ended or self._at < self._got
        return self._got > 0

    def _take_line(self, now):
        """Run the command that has come."""
        n = self._n
        if n and self._line[n - 1] == _SPACE:
            self._n = n - 1
        if self._wrong:
            self._refuse(self._wrong)
        elif self._n:
            self._command(now)
        self._n = 0
        self._wrong = b""

    def _typed(self, c):
        """Take one character of a line."""
        n = self._n
        if c == 8 or c == 127:
            if n:
                self._n = n - 1
            return
        if c == 9:
            c = _SPACE
        elif 65 <= c <= 90:
            c += 32
        if c == _SPACE and (not n or self._line[n - 1] == _SPACE):
            return
        if c < 32 or c > 126:
            self._wrong = b"a character that no command has"
        elif n < _LONGEST:
            self._line[n] = c
            self._n = n + 1
        else:
            self._wrong = b"line too long"

    def _argument(self, rest, text):
        """True if `text` is all that stands in the line from `rest` on."""
        if self._n - rest != len(text):
            return False
        for i in range(len(text)):
            if self._line[rest + i] != text[i]:
                return False
        return True

    def _refuse(self, why):
        self.refused += 1
        self._telemetry.answer(-1, False, why)

    def _command(self, now):
        n = find(self._line, 0, self._n, _SPACE)
        if n < 0:
            n = self._n
        command = row_of(T.COMMANDS, len(T.COMMANDS), self._line, n)
        if command < 0:
            self._refuse(b"unknown command: see help")
        else:
            self._act(command, n + 1, now)

    def _act(self, command, rest, now):
        """Run a command; `rest`: where its argument begins."""
        if command == BALANCE:
            self._balance(rest)
        elif command == RESET or command == SERVICE:
            self._leave(command, rest)
        elif command == CLEAR:
            self._clear(rest)
        elif rest <= self._n:
            self._refuse_argument(command)
        elif command == CLOSE:
            why = self._strings.close(now)
            # the answer names a string that stays open, although others close
            self._telemetry.answer(command, why is None, why or self._strings.left_out or b"")
        elif command == HISTORY or command == FRAMES or command == PACK:
            self._stored(command)
        else:
            if command == OPEN:
                self._strings.open(now)
            else:
                self._request(command)
            self._telemetry.answer(command, True, b"")

    def _refuse_argument(self, command):
        self.refused += 1
        self._telemetry.answer(command, False, b"takes no such argument")

    def _balance(self, rest):
        balancing = self._balancing
        if self._argument(rest, b"on"):
            balancing.wanted = True
        elif self._argument(rest, b"off"):
            balancing.wanted = False
        elif rest <= self._n:
            self._refuse(b"balance on, balance off or balance")
            return
        self._telemetry.answer(BALANCE, True, b"on" if balancing.wanted else b"off")

    def _leave(self, command, rest):
        """End the program, if the argument says that this is meant."""
        anyway = self._argument(rest, b"anyway")
        if anyway or self._argument(rest, b"yes"):
            self._master.leave(command == RESET, anyway)  # the answer comes from there
        else:
            self._telemetry.answer(command, False, _NOT_MEANT)

    def _clear(self, rest):
        ok = True
        text = b""
        if self._argument(rest, b"welded"):
            ok = self._strings.ignore_feedback()
            self._faults.acknowledge()
            text = b"ignored until the next start" if ok else b"no feedback is wrong"
        elif self._argument(rest, b"deep"):
            self._soc.forget_deep()
        elif rest <= self._n:
            self._refuse_argument(CLEAR)
            return
        elif self._faults.acknowledge():
            ok = False
            text = b"a fault is still active: see faults"
        self._telemetry.answer(CLEAR, ok, text)

    def _stored(self, command):
        """Begin to send stored data: totals and events, freeze frames or the pack file."""
        job = H.PACK
        if command != PACK:
            job = H.HISTORY if command == HISTORY else H.FRAMES
        why = self._history.request(job)
        self._telemetry.answer(command, why is None, why or b"")

    def _request(self, command):
        """Request lines of the present state from telemetry."""
        t = self._telemetry
        if command < HISTORY:
            t.request(_JOBS[command])
        elif command == VERSION:
            t.request(T.BOOT)
            t.request(T.MEM)
        else:
            t.request_settings(command == CONFIG)
