"""What comes in over the serial port: commands of words, one a line.

Bytes are taken as they come; a line is looked at when it is whole, and answered with one line of
kind `answer`. An idle console allocates nothing, and neither do the commands.
"""

from bms.console import telemetry as T
from bms.storage import history as R

_LONGEST = 40


class Commands:
    """refused: lines that were no command, too long or not text."""

    def __init__(self, master, stream, telemetry):
        self._master = master
        self._balancing = master.balancing
        self._faults = master.faults
        self._recall = master.history
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
        """Take a few bytes; act on a whole line, one at a time."""
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

    def _word(self, start, word):
        """Index behind `word` where it stands at `start` and ends there, else -1."""
        end = start + len(word)
        if end > self._n:
            return -1
        for i in range(len(word)):
            if self._line[start + i] != word[i]:
                return -1
        return end if end == self._n or self._line[end] == 32 else -1

    def _refuse(self, why):
        self.refused += 1
        self._telemetry.answer(b"?", False, why)

    def _command(self, now):
        for i in range(len(T.COMMANDS)):
            row = T.COMMANDS[i]
            end = self._word(0, row[0])
            if end >= 0:
                self._act(row, end + 1, now)
                return
        self._refuse(b"unknown command: see help")

    def _act(self, row, rest, now):
        """Do what a command of telemetry.COMMANDS asks; `rest`: where a word behind it begins."""
        word = row[0]
        if word == b"balance":
            self._balance(rest)
        elif row[1]:
            self._leave(row, rest)
        elif word == b"clear":
            self._clear(rest)
        elif rest <= self._n:
            self._refuse_word(word)
        elif word == b"close":
            why = self._strings.close(now)
            # a string that stays open is named, though others close
            self._telemetry.answer(word, why is None, why or self._strings.left_out or b"")
        elif word == b"open":
            self._strings.open(now)
            self._telemetry.answer(word, True, b"")
        elif word == b"history" or word == b"frames" or word == b"pack":
            self._stored(word)
        else:
            self._request(word)
            self._telemetry.answer(word, True, b"")

    def _refuse_word(self, word):
        self.refused += 1
        self._telemetry.answer(word, False, b"takes no word behind it")

    def _balance(self, rest):
        balancing = self._balancing
        if self._word(rest, b"on") == self._n:
            balancing.wanted = True
        elif self._word(rest, b"off") == self._n:
            balancing.wanted = False
        elif rest <= self._n:
            self._refuse(b"balance on, balance off or balance")
            return
        self._telemetry.answer(b"balance", True, b"on" if balancing.wanted else b"off")

    def _leave(self, row, rest):
        """End the program, where the word that it needs stands behind the command."""
        word = row[0]
        anyway = self._word(rest, b"anyway") == self._n
        if self._word(rest, row[1]) == self._n or anyway:
            self._master.leave(word == b"reset", anyway)  # the answer comes from there
        else:
            self._telemetry.answer(word, False, row[2])

    def _clear(self, rest):
        ok = True
        text = b""
        if self._word(rest, b"welded") == self._n:
            ok = self._strings.ignore_feedback()
            self._faults.acknowledge()
            text = b"ignored until the next start" if ok else b"no feedback is wrong"
        elif self._word(rest, b"deep") == self._n:
            self._soc.forget_deep()
        elif rest <= self._n:
            self._refuse_word(b"clear")
            return
        elif self._faults.acknowledge():
            ok = False
            text = b"a cause is still there: see faults"
        self._telemetry.answer(b"clear", ok, text)

    def _stored(self, word):
        """Begin to send what is stored."""
        job = R.PACK
        if word != b"pack":
            job = R.HISTORY if word == b"history" else R.FRAMES
        why = self._recall.request(job)
        self._telemetry.answer(word, why is None, why or b"")

    def _request(self, word):
        """Have telemetry send lines of the present state."""
        t = self._telemetry
        if word == b"help":
            t.request(T.HELP)
        elif word == b"status":
            t.request(T.STATUS)
        elif word == b"cells":
            t.request(T.CELLS)
        elif word == b"strings":
            t.request(T.STRINGS)
        elif word == b"faults":
            t.request(T.FAULTS)
        elif word == b"events":
            t.request(T.PAST)
        elif word == b"limits" or word == b"config":
            t.request_settings(word == b"config")
        elif word == b"version":
            t.request(T.BOOT)
            t.request(T.MEM)
