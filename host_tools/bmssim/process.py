"""The firmware as a process on this computer: its descriptors, its pins, its clock.

`boards/HOST/board.py` is the other end of everything here; the layout of the pin frames is its.
Where the caller owns the time, the bytes of console and ports follow the pins in the same pipe; in
real time they have pseudo-terminals, to which other programs may be attached.
"""

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tty
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .micropython_path import find_micropython

ROOT = Path(__file__).resolve().parents[2]
# objects are twice the size of a 32-bit board's: 256 KiB there; and what the streams wait in, which
# a board has in its chip or port
HEAP = "640K"
TICK_MASK = 0x1FFFFFFF
# the clock starts shortly before its ticks wrap, so that every run passes a wrap
FIRST_US = TICK_MASK - 5_000_000
FIRST_MS = TICK_MASK - 20_000

# bits of the coils of string 0, then of string 1, ..
MINUS, PRECHARGE, PLUS = 1, 2, 4
COILS = 0xFFFFFF
HEARTBEAT = 1 << 24
STRINGS = 8
# bits of the inputs: 1 = good, or there
INTERLOCK, ESTOP, FAULT_LINE, CHARGER, IGNITION = 1, 2, 4, 8, 16
ALL_GOOD = INTERLOCK | ESTOP | FAULT_LINE
CAUSES = ("power_on", "watchdog", "reset", "brown_out", "unknown")
_WAITING, _CHANGED, _POWER_LOST = 1, 2, 3  # the last one: test programs only
_GO, _QUIT = 1, 2
_WORDS = 48
_FRAME_BYTES = 4 * _WORDS
_HEAD = struct.Struct("6i")  # of the firmware's frame; the rest of it is unused
_WRITE = struct.Struct("<BH")
IN_ROOM = 2048  # bytes that a stream may get in a step
_FIRST_MA, _FIRST_STRING_MV = 8, 16  # bits that say a string's reading is valid
MOST_ADCS = 14  # two channels a word


class FirmwareDied(Exception):
    """The firmware's process ended; `code` is its exit code, `text` what it printed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(
            f"the firmware ended with exit code {code}" + (f": {text}" if text else "")
        )
        self.code = code
        self.text = text


class Terminal:
    """A raw pseudo-terminal that doesn't block: the firmware has one end, `master` is ours."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.slave, False)
        os.set_blocking(self.master, False)

    @property
    def path(self) -> str:
        return os.ttyname(self.slave)

    def read_now(self) -> bytes:
        try:
            return os.read(self.master, 65536)
        except (BlockingIOError, OSError):
            return b""

    def write(self, data: bytes) -> int:
        """Bytes taken."""
        try:
            return os.write(self.master, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@dataclass
class Inputs:
    """What the firmware's pins and sensors read; None = no sample, or no sensor.

    feedback, wired: bits as the coils'; lines: bits INTERLOCK, ..; current_ma, string_mv: one a
    string; adc_mv: of the ADC's channels; cause: why the firmware starts, a name of CAUSES; mark:
    no board's, for test programs.
    """

    feedback: int = 0
    wired: int = 0
    lines: int = ALL_GOOD
    current_ma: Sequence[int | None] = ()
    string_mv: Sequence[int | None] = ()
    link_mv: int | None = None
    isolation_kohm: int | None = None
    adc_mv: Sequence[int] = ()
    cause: str = "power_on"
    mark: int = 0


@dataclass
class Request:
    """A message of the firmware: its pins and, where it waits, for how long.

    written: bytes of the console, then of the ports by name, where the caller owns the time; held:
    coils that get less than their full voltage, bits as in pins; lost: the power is cut now; lows:
    lines to be held low, bit 0 the console, then the ports.
    """

    pins: int
    wait_ms: int | None
    written: list[bytes] = field(default_factory=list)
    held: int = 0
    lost: bool = False
    lows: int = 0


class Firmware:
    """One run of the firmware. `ports` maps port names of the board to "can" or "uart", `rates` to
    bit/s where the pack file needn't say. store: the folder of its storage, None = it has none.
    program, extra: another program than firmware/main.py, and more entries of its JSON argument.

    runtime "micropython" or "cpython"; stepped: the caller owns the time, must answer each waiting
    request with `go`, and there are no terminals. Raises MicroPythonMissing, FirmwareDied.
    """

    # long: opens all that joins it; # parameters: what it is started with, the last four seldom
    def __init__(
        self,
        runtime: str,
        stepped: bool,
        ports: dict[str, str],
        pack: Path,
        rates: dict[str, int] | None = None,
        store: Path | None = None,
        program: Path | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.runtime = runtime
        self.stepped = stepped
        self.names = sorted(ports)
        self._streams = 1 + len(ports)
        self.terminals = [] if stepped else [Terminal() for _ in range(self._streams)]
        fds = [t.slave for t in self.terminals] or [-1] * self._streams
        self._unread = b""  # of the firmware's frames
        self._word = array("i", [0] * _WORDS)  # the frame to the firmware
        from_fw, fw_write = os.pipe()
        fw_read, self._to_fw = os.pipe()
        self.io_fd = from_fw
        slots = {
            name: {"medium": ports[name], "fd": fd, "rate": (rates or {}).get(name, 0)}
            for name, fd in zip(self.names, fds[1:], strict=True)
        }
        args = json.dumps(
            {
                "stepped": stepped,
                "io": [fw_read, fw_write],
                "console": fds[0],
                "pack": str(pack),
                "ports": slots,
                "store": str(store) if store is not None else None,
                **(extra or {}),
            }
        )
        # MicroPython's longest argument has 255 bytes
        pieces = [args[i : i + 240] for i in range(0, len(args), 240)]
        main, host = program or ROOT / "firmware" / "main.py", ROOT / "boards" / "HOST"
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if runtime == "micropython":
            command = [str(find_micropython()), "-X", f"heapsize={HEAP}", str(main), *pieces]
            env["MICROPYPATH"] = f"{ROOT / 'firmware'}:{host}"
        else:
            command = [sys.executable, str(main), *pieces]
            env["PYTHONPATH"] = f"{ROOT / 'firmware'}:{host}:{ROOT / 'host_tools'}"
        inherited = [fw_read, fw_write, *(t.slave for t in self.terminals)]
        self.process = subprocess.Popen(
            command,
            env=env,
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # MicroPython prints its tracebacks on stdout
            process_group=0,  # Ctrl-C is for us: we end it
        )
        os.close(fw_read)
        os.close(fw_write)

    @property
    def console(self) -> Terminal:
        """Its terminal, in real time."""
        return self.terminals[0]

    @property
    def ports(self) -> dict[str, Terminal]:
        """The terminals of its ports, in real time."""
        return dict(zip(self.names, self.terminals[1:], strict=True))

    def share_cpu(self) -> None:
        """Keep this process and the firmware on one CPU: they take turns, and wake faster so."""
        if hasattr(os, "sched_setaffinity"):
            cpus = sorted(os.sched_getaffinity(0))
            cpu = cpus[os.getpid() % len(cpus)]
            os.sched_setaffinity(self.process.pid, {cpu})
            os.sched_setaffinity(0, {cpu})

    def request(self) -> Request:
        """The firmware's next word; waits for it. Raises FirmwareDied."""
        if len(self._unread) < _FRAME_BYTES:
            self._fetch(_FRAME_BYTES)
        kind, pins, wait_ms, held, lows, follow = _HEAD.unpack_from(self._unread)
        end = _FRAME_BYTES + follow
        if len(self._unread) < end:
            self._fetch(end)
        written = [b""] * self._streams
        at = _FRAME_BYTES
        while at < end:
            number, n = _WRITE.unpack_from(self._unread, at)
            at += _WRITE.size + n
            written[number] += self._unread[at - n : at]
        self._unread = self._unread[end:]
        return Request(
            pins, wait_ms if kind == _WAITING else None, written, held, kind == _POWER_LOST, lows
        )

    def _fetch(self, n: int) -> None:
        """Have `n` bytes unread, or more."""
        while len(self._unread) < n:
            got = os.read(self.io_fd, 65536)
            if not got:
                raise self._death()
            self._unread += got

    def readable(self) -> bool:
        """True where `request` would not wait."""
        if len(self._unread) >= _FRAME_BYTES:
            return True
        return bool(select.select([self.io_fd], [], [], 0)[0])

    def go(self, now_us: int, inputs: Inputs, pending: Sequence[bytes] = ()) -> None:
        """Answer a waiting firmware: the time, its inputs, and, where the caller owns the time,
        bytes for its console and ports, IN_ROOM each at most."""
        self._say(_GO, now_us, inputs, pending)

    def quit(self) -> None:
        """Ask it to end at its next wait."""
        self._say(_QUIT, 0, Inputs(), ())

    def _say(self, kind: int, now_us: int, inputs: Inputs, pending: Sequence[bytes]) -> None:
        word = self._word
        word[0] = kind
        word[1] = (FIRST_US + now_us) & TICK_MASK
        word[2] = (FIRST_MS + now_us // 1000) & TICK_MASK
        word[3] = inputs.feedback
        word[4] = inputs.wired
        word[6] = inputs.lines
        valid = 0  # what isn't valid is not looked at
        if inputs.link_mv is not None:
            valid |= 1
            word[7] = inputs.link_mv
        if inputs.isolation_kohm is not None:
            valid |= 2
            word[16] = inputs.isolation_kohm
        for i, data in enumerate(pending, 8):
            word[i] = len(data)
        word[17] = CAUSES.index(inputs.cause)
        word[47] = inputs.mark
        for i, value in enumerate(inputs.current_ma):
            if value is not None:
                valid |= 1 << (_FIRST_MA + i)
                word[24 + i] = value
        for i, value in enumerate(inputs.string_mv):
            if value is not None:
                valid |= 1 << (_FIRST_STRING_MV + i)
                word[32 + i] = value
        for i in range(0, len(inputs.adc_mv), 2):
            low, high = (*inputs.adc_mv, 0)[i : i + 2]
            word[40 + i // 2] = high << 16 | low
        word[5] = valid
        try:
            frame = word.tobytes() + b"".join(pending)
            while frame:
                frame = frame[os.write(self._to_fw, frame) :]
        except BrokenPipeError:
            raise self._death() from None

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _death(self) -> FirmwareDied:
        out = self.process.stdout
        text = out.read().decode(errors="replace") if out else ""
        return FirmwareDied(self.process.wait(), text.strip())

    def close(self) -> None:
        """End the process and give back all descriptors."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        os.close(self.io_fd)
        os.close(self._to_fw)
        for terminal in self.terminals:
            terminal.close()
