"""Real pseudo-terminals as the master's serial port, and `bmsctl` as a process of its own."""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extent import HANG_S


def until(done: Callable[[], Any], what: str) -> Any:
    """Wait for a condition, and return what it is then."""
    end = time.monotonic() + HANG_S
    while not (found := done()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.01)
    return found


class Board:
    """The board's end of a serial port; `link` is what stands in /dev for it."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master = self.slave = -1
        self.plug()

    def plug(self) -> None:
        """A new pseudo-terminal behind the same name."""
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self.slave))

    def unplug(self) -> None:
        """Everything sent was read; then the device goes, and its name with it."""
        until(lambda: not self.unread(), "the reader has taken all")
        self.link.unlink()
        os.close(self.master)
        os.close(self.slave)
        self.master = self.slave = -1

    def unread(self) -> int:
        """Bytes that nobody took yet."""
        return struct.unpack("i", fcntl.ioctl(self.slave, termios.FIONREAD, b"0000"))[0]

    def say(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            data = data[os.write(self.master, data) :]

    def hear(self) -> bytes:
        """The next whole line that the other side sends; b"" for an empty one."""
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self.master], [], [], HANG_S)[0], "nothing comes"
            line += os.read(self.master, 1)
        return line[:-1]

    def take(self, wait_s: float) -> bytes:
        """What was sent by now, waiting a moment for it; b"" where nothing is."""
        if self.master < 0 or not select.select([self.master], [], [], wait_s)[0]:
            return b""
        with contextlib.suppress(OSError):
            return os.read(self.master, 65536)
        return b""

    def vanish(self) -> None:
        """The device goes without warning."""
        self.link.unlink()
        master, slave, self.master, self.slave = self.master, self.slave, -1, -1
        os.close(master)
        os.close(slave)

    def close(self) -> None:
        # the next pseudo-terminal gets its number: a tool that runs on would take that one's bytes
        self.link.unlink(missing_ok=True)
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)


def piped(path: Path) -> str:
    """The name of a pipe that holds a small file, as a shell's `<(cat FILE)` gives it."""
    read, write = os.pipe()
    os.write(write, path.read_bytes())
    os.close(write)
    return f"/dev/fd/{read}"


class Tool:
    """Starts `bmsctl`; ends what a test left running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *words: object,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        **env: str,
    ) -> subprocess.Popen[str]:
        """A running `bmsctl`, its stdin, stdout and stderr piped as text."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bmsctl", *map(str, words)],
            cwd=self._folder,
            env=os.environ | env,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *words: object, **env: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=HANG_S)
        return process.returncode, out, err

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
