"""Boards for flashing: `raw_board.py` behind a pseudo-terminal, switched on and off."""

import fcntl
import os
import select
import shutil
import subprocess
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from bmsctl import board_files, cli, flashing, mpremote, pack_push
from bmsctl.errors import ToolError
from bmsctl.request import send_command
from bmssim.micropython_path import find_micropython
from extent import HANG_S

HERE = Path(__file__).parent
BOARDS = HERE / "boards"
SIZES = {"lfs": 2 << 20, "fat": 2 << 20, "stm32": 1 << 20}


_COMPILE = board_files.compiled
_compiled: dict[tuple[board_files.Board, tuple[tuple[str, str], ...]], dict[str, bytes]] = {}


def compiled(board: board_files.Board) -> dict[str, bytes]:
    """What `board_files.compiled` gives, which runs once for the same board and sources."""
    key = board, tuple(board_files.texts(board.name).items())
    if key not in _compiled:
        _compiled[key] = _COMPILE(board)
    return dict(_compiled[key])


class RawBoard:
    """A board; `path` is its serial port, `disk` the file that holds its file system.

    It starts again by itself when it is reset, as a board does; `off` is a power cut.
    """

    def __init__(
        self, folder: Path, kind: str = "lfs", disk_bytes: int = 0, rom_bytes: int = 0
    ) -> None:
        self.disk = folder / f"disk.{kind}"
        self.kind = kind
        self.rom = folder / "rom.img" if rom_bytes else None
        self.welded = False
        self.cuts = 0  # of the power, by `cut_after`
        self._cut = False  # and it is off: mpremote, which nobody answers, is ended
        self.journal: Path | None = None  # gets every block written from the next start on
        size = disk_bytes or SIZES[kind]
        self.disk.write_bytes(b"\xff" * size if kind == "lfs" else bytes(size))
        if self.rom:
            self.rom.write_bytes(b"\xff" * rom_bytes)
        self._process: subprocess.Popen | None = None
        # two pseudo-terminals back to back: the board's own, and the serial port of the computer
        self._board, self._board_end = os.openpty()
        self._port, port_end = os.openpty()
        for fd in (self._board_end, port_end):
            tty.setraw(fd)
        # a tool of another test that still looks for its own port must not open the board's
        fcntl.flock(self._board_end, fcntl.LOCK_EX)
        self._fds = [self._board, self._board_end, self._port, port_end]
        self.path = os.ttyname(port_end)
        self._running = True
        self.cut_after: int | None = None  # bytes from the computer until the power is cut
        self._relay = threading.Thread(target=self._pass_on, daemon=True)
        self._relay.start()

    def _pass_on(self) -> None:
        while self._running:
            ready = select.select([self._board, self._port], [], [], 0.1)[0]
            for fd in ready:
                data = os.read(fd, 4096)
                if fd == self._port and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        self.cuts += 1
                        self.off()
                        self._cut = True
                os.write(self._port if fd == self._board else self._board, data)
            # also a run that begins only now: it would wait for HANG_S
            if self._cut and mpremote.Mpremote.process is not None:
                mpremote.Mpremote.process.kill()

    def on(self) -> None:
        """Power comes; a shell loop starts it again after each reset."""
        self._cut = False
        words = [
            str(find_micropython()),
            "-X",
            "heapsize=1M",
            "-i",
            str(HERE / "raw_board.py"),
            str(self.disk),
            self.kind,
            "1" if self.welded else "0",
            str(self.rom or ""),
            str(self.journal or ""),
        ]
        # it ends with the tests, also where they are killed
        script = 'trap "exit 0" TERM; while kill -0 "$0"; do "$@"; sleep 0.05; done'
        self._process = subprocess.Popen(
            ["sh", "-c", script, str(os.getpid()), *words],
            stdin=self._board_end,
            stdout=self._board_end,
            stderr=self._board_end,
            start_new_session=True,
        )

    def off(self) -> None:
        """A power cut."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def save(self, to: Path) -> None:
        shutil.copy(self.disk, to)

    def restore(self, saved: Path) -> None:
        shutil.copy(saved, self.disk)

    def close(self) -> None:
        self._running = False
        self._relay.join()
        self.off()
        for fd in self._fds:
            os.close(fd)


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """Let the tools wait for what must come until only a hang explains that it doesn't; compile
    once, and start mpremote, which costs more than all that it copies here, for many files."""
    patch.setattr(board_files, "compiled", compiled)
    patch.setattr(flashing, "BATCH", 40)
    patch.setattr(mpremote, "TIMEOUT_S", HANG_S)
    patch.setattr(flashing, "ANSWER_S", HANG_S)
    patch.setattr(flashing, "LEAVE_RAW_S", 1)
    patch.setattr(flashing, "BOOT_S", HANG_S)
    patch.setattr(pack_push, "NAME_S", HANG_S)


def leave(board: RawBoard) -> None:
    """`service`: to the prompt."""
    words = ["console", "--port", board.path, "--timeout", str(HANG_S), "service", "yes"]
    for _ in range(3):  # half of a command that came while the board was deaf may be answered late
        if cli.main(words) == 0:
            return
    raise AssertionError("the master does not leave")


def running(board: RawBoard) -> dict:
    """The boot line of what runs."""
    end = time.monotonic() + HANG_S
    while True:
        try:
            lines = send_command(
                board.path, 115200, "version", 3
            )  # again, as a board that boots is deaf
        except ToolError:
            assert time.monotonic() < end, "nothing runs"
            continue
        boot = [x for x in lines if x["k"] == "boot"]
        if boot and boot[-1].get("self_test") != "running":
            return boot[-1]


def interrupted(
    board: RawBoard, at: int, how: str, bytes_each: int, work: Callable[[], int]
) -> tuple[int, bool]:
    """`work` with mpremote's run number `at` interrupted: its exit code, and whether that was.

    how: "ctrl-c", or a power cut while that run is at work, after some bytes or with its first.
    """
    calls = 0
    real = mpremote.Mpremote.run

    with pytest.MonkeyPatch.context() as patch:

        def run(self: mpremote.Mpremote, *words: str) -> str:
            nonlocal calls
            calls += 1
            if calls == at:
                if how == "ctrl-c":
                    raise KeyboardInterrupt
                board.cut_after = 40 + bytes_each * (at % 5)
                patch.setattr(flashing, "BOOT_S", 1)  # nobody answers any more
            return real(self, *words)

        patch.setattr(mpremote.Mpremote, "run", run)
        code = work()
    board.cut_after = None
    return code, calls >= at
