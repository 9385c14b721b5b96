"""Puts firmware onto a board, step by step; `state` describes at any moment what the board has.

The order matters: the slot that runs is never touched; the other one loses its marker first and
gets it back last.
"""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from bmssim.lines import LineReader

from . import board_files, pack_copies, slots
from .errors import ToolError
from .mpremote import Mpremote
from .serial_port import PortLost, open_port, read_some, wait_readable, write_all
from .start_check import plan

ANSWER_S = 5  # for the answer to `service`: it may wait for a contactor's feedback
LEAVE_RAW_S = 4  # then a raw REPL, which answers nothing, is ended
BOOT_S = 20
ROOM_BYTES = 16384  # of the file system, besides the files
BATCH = 6  # files a run of mpremote, which takes 0.3 s to start
SWITCH = board_files.ROOT / "firmware" / "switch.py"

NOT_BEGUN = "nothing was asked of the board, and nothing was written"
UNTOUCHED = "the board is as it was"
LEAVE_SENT = (
    "nothing was written, but the master was asked to leave: where it has, nothing watches the"
    " cells until the board is reset or flashed"
)
LEFT = (
    "nothing was written, but what ran on the board has ended: nothing watches the cells until it"
    " is reset or flashed"
)
OLD_RUNS = (
    "the board stands still with its contactors open; a reset starts its old firmware; flash again"
)
NONE_RUNS = (
    "the board has no whole firmware: it starts none, and its contactors stay open; flash again"
)
EITHER_STARTS = "a reset starts the new firmware, or what it started before, whole; flash again"
NEW_STARTS = "the new firmware is whole and is what the board starts"


class Progress:
    """Phases and a bar on a terminal, phases alone elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._open = False

    def phase(self, text: str) -> None:
        """A new phase begins."""
        self.end()
        print(text, file=self._out, flush=True)

    def bar(self, done: int, all_: int, what: str) -> None:
        """Show `done` of `all_`."""
        if self._out.isatty():
            width = 24
            full = width * done // max(all_, 1)
            line = f"\r[{'#' * full}{'.' * (width - full)}] {done}/{all_} {what:<36.36}"
            self._out.write(line)
            self._out.flush()
            self._open = True

    def end(self) -> None:
        """Leave the bar's line."""
        if self._open:
            self._out.write("\n")
            self._open = False


class Service:
    """A board at its prompt, its contactors proven open; `state` describes what it has now."""

    def __init__(self, port: str, baud: int, progress: Progress, force: bool) -> None:
        self.port = port
        self.baud = baud
        self.progress = progress
        self.force = force
        self.state = NOT_BEGUN
        self.remote = Mpremote(port)

    def reach(self) -> None:
        """See that the port can be opened, before anything is asked. Raises ToolError."""
        with open_port(self.port, self.baud):
            pass

    def enter(self) -> None:
        """Have the REPL, with the contactors proven open where a master runs."""
        self.progress.phase("asking the master for service")
        answer = self._command("service yes")
        if answer is None or answer["ok"] is not True:
            self.state = UNTOUCHED
        if answer is not None and answer["ok"] is not True:
            if not self.force:
                raise ToolError(
                    f"the master refuses: {answer['text']}; nothing was touched."
                    " Find out why; --force flashes anyway"
                )
            self.progress.phase(
                f"the master refuses: {answer['text']}; going on because of --force"
            )
            answer = self._command("service anyway")
        if answer is None:
            if not self.force:
                raise ToolError(
                    f"{self.port}: neither a master nor MicroPython's prompt answers; nothing was"
                    " touched. Is it the right port? --force breaks in with Ctrl-C, whatever runs;"
                    " a transfer that was killed needs it, too"
                )
            self.progress.phase("nobody answers; sending Ctrl-C because of --force")
            self._break_in()
        elif answer["text"]:
            self.state = LEFT
            self.progress.phase("  " + answer["text"])
        else:
            self.state = UNTOUCHED  # it was at its prompt

    def _command(self, command: str) -> dict[str, Any] | None:
        """The answer; an empty ok one from a bare prompt; None where nothing sensible comes.

        A transfer that was killed leaves the raw REPL, which answers nothing: Ctrl-B ends that, and
        is a bad line to a master.
        """
        with open_port(self.port, self.baud) as port:
            leave_raw_at = time.monotonic() + LEAVE_RAW_S
            reader = LineReader()
            tail = b""
            answer: dict[str, Any] | None = None
            end = time.monotonic() + ANSWER_S
            self.state = LEAVE_SENT
            try:
                write_all(port, b"\r\n" + command.encode() + b"\r\n")
                while time.monotonic() < end:
                    if leave_raw_at < time.monotonic():
                        leave_raw_at = end
                        write_all(port, b"\x02\r\n")
                    wait_readable(port, 0.1)
                    data = read_some(port)
                    tail = (tail + data)[-400:]
                    for line in reader.feed(data):
                        got = line.obj
                        if got and got["k"] == "answer" and got.get("cmd") == "service":
                            answer = got
                            if not got["ok"]:
                                return got
                    if tail.endswith(b">>> "):
                        return answer or {"ok": True, "text": ""}
            except PortLost as error:
                raise ToolError(f"{self.port} vanished: {error}") from None
        if answer is not None:
            self.state = LEFT
            raise ToolError(f"{self.port}: the master left, but no prompt came")
        return None

    def _break_in(self) -> None:
        self.state = LEFT
        with open_port(self.port, self.baud) as port:
            write_all(port, b"\r\x03\x03")
            time.sleep(0.5)

    def inventory(self) -> slots.Inventory:
        """What is on the board now."""
        try:
            return slots.parse(self.remote.execute(slots.LIST))
        except ValueError as error:
            raise ToolError(f"{self.port}: {error}") from None

    def remove(self, paths: list[str]) -> None:
        """Remove files that may not be there."""
        self.remote.execute(
            f"import os\nfor p in {paths!r}:\n try: os.remove(p)\n"
            " except OSError as e:\n  if e.errno != 2: raise\n"  # ENOENT
        )

    def start(self) -> None:
        self.remote.reset()

    def boot(self) -> dict[str, Any]:
        """The boot line of the new firmware. Raises ToolError: none, refused, self-test failed."""
        end = time.monotonic() + BOOT_S
        reader = LineReader()
        text: list[str] = []
        while time.monotonic() < end:
            try:
                with open_port(self.port, self.baud) as port:
                    # `version` has it sent again: the first may be lost before the port is open
                    sent_at = 0.0
                    while time.monotonic() < end:
                        if time.monotonic() > sent_at + 1:
                            sent_at = time.monotonic()
                            write_all(port, b"\r\nversion\r\n")
                        wait_readable(port, 0.1)
                        for line in reader.feed(read_some(port)):
                            if line.obj is None:
                                text.append(line.raw.decode(errors="replace").strip())
                            elif line.obj["k"] == "config_error":
                                raise ToolError(f"it refuses its pack file: {_reason(line.obj)}")
                            elif line.obj["k"] == "boot" and _tested(line.obj):
                                return line.obj
            except (ToolError, PortLost) as error:
                if isinstance(error, ToolError) and not str(error).startswith(self.port):
                    raise
                time.sleep(0.2)  # the port goes and comes as the board starts
        last = next((x for x in reversed(text) if x and x != ">>>"), "nothing")
        raise ToolError(f"the new firmware did not say that it runs in {BOOT_S} s; last: {last}")


class Flashing(Service):
    """One run."""

    def __init__(
        self, board: str, port: str, baud: int, pack: Path | None, progress: Progress, force: bool
    ) -> None:
        super().__init__(port, baud, progress, force)
        self.board = board_files.load(board)
        self.pack = pack

    def run(self, deploy: "Deploy | None" = None) -> dict[str, Any]:
        """Flash, start and wait for the boot line; what `--json` prints. Raises ToolError.

        deploy: writes the files instead of `_into_slot`, as `romfs.deploy` does.
        """
        if self.board.frozen_only:
            raise ToolError(
                f"{self.board.name} can't run the firmware from files: {self.board.frozen_only};"
                " build an image: make image, see boards/" + self.board.name + "/README.md"
            )
        pack = self._pack()
        self.reach()
        self.progress.phase(f"compiling for {self.board.name} ({self.board.arch})")
        files = slots.with_sums(board_files.compiled(self.board))
        self.enter()
        try:
            return self._flash(files, pack, deploy)
        except ToolError:
            if self.state is LEFT:  # refused before anything was written: what ran may go on
                with contextlib.suppress(ToolError):
                    self.remote.reset()
                    self.state = "nothing was written, and the board was started again"
            raise

    def _flash(
        self, files: dict[str, bytes], pack: bytes | None, deploy: "Deploy | None"
    ) -> dict[str, Any]:
        self.progress.phase("looking at what is on the board")
        there = self.inventory()
        self._fits(there, files)
        if deploy is not None:
            slot, copied, kept = deploy(self, there, files, pack)
        else:
            slot, copied, kept = self._into_slot(there, files, pack)
        self.progress.phase("starting it")
        self.start()
        boot = self.boot()
        return {
            "board": boot["board"],
            "slot": slot,
            "version": boot["version"],
            "config_crc": boot["config_crc"],
            "self_test": boot["self_test"],
            "copied": copied,
            "kept": kept,
        }

    def _pack(self) -> bytes | None:
        """The pack file's bytes, read as the board will read it; None: the board's own stays."""
        if self.pack is None:
            return None
        plan(self.pack, self.board.name)
        return self.pack.read_bytes()

    def own_pack(self, there: slots.Inventory) -> bytes:
        """The pack file of the slot that runs, without its checksum. Raises ToolError."""
        running = there.running()
        if running is None or slots.PACK not in running.files:
            raise ToolError("there is no pack file on the board yet: give one with --pack")
        data = []
        for name in (slots.PACK, slots.COPY):
            if name in running.files:
                path = there.path(f"{running.folder}/{name}")
                data.append(self.remote.read(path))
        pack = pack_copies.whole(*data)
        if pack is None:
            raise ToolError("the board's pack file and its copy are damaged: give one with --pack")
        return pack

    def _fits(self, there: slots.Inventory, files: dict[str, bytes]) -> None:
        if self.board.machine not in there.machine:
            raise ToolError(f"this is no {self.board.name}: MicroPython calls it {there.machine}")
        # .mpy files (MicroPython's py/persistentcode.h): version in the second byte; in the third
        # an architecture above two bits of sub-version, which must match where there is native code
        reads = there.mpy & 0xFF, there.mpy >> 8 & 3
        for path, data in files.items():
            if not path.endswith(".mpy"):
                continue
            if data[1] != reads[0] or data[2] >> 2 and data[2] & 3 != reads[1]:
                raise ToolError(
                    f"the board's MicroPython reads .mpy version {reads[0]}.{reads[1]}, {path} is"
                    f" {data[1]}.{data[2] & 3}: it needs MicroPython 1.28"
                )
        if there.frozen:
            raise ToolError(
                "a firmware is frozen into the board's image, and starts before any file: write"
                " the image anew (make image), or MicroPython's own image first"
            )

    def _into_slot(
        self, there: slots.Inventory, files: dict[str, bytes], pack: bytes | None
    ) -> tuple[str, int, int]:
        running = there.running()
        target = there.target()
        slot = target.folder
        wanted = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        if pack is None:
            pack = self.own_pack(there)
        for name, data in pack_copies.files(pack).items():
            files = {**files, name: data}
            wanted[name] = hashlib.sha256(data).hexdigest()
        changed = [path for path in wanted if target.files.get(path) != wanted[path]]
        extra = [path for path in target.files if path not in wanted]
        # files that are replaced give back what they took; a block is 4096 bytes at most
        new = [path for path in changed if path not in target.files]
        size = sum(-(-len(files.get(path, b"")) // 4096) * 4096 for path in new)
        if size + ROOM_BYTES > there.free:
            raise ToolError(
                f"the board has {there.free} bytes free, {size + ROOM_BYTES} are needed"
            )
        self.state = OLD_RUNS if running is not None else NONE_RUNS
        self._prepare(there, slot, changed, extra)
        self.progress.phase(f"copying {len(changed)} of {len(wanted)} files to {slot}")
        self._copy(there, slot, {path: files[path] for path in changed if path in files})
        self.progress.phase("verifying")
        now = self.inventory()
        self.verify(now, slot, wanted)
        self.write_marker(now, slot, wanted)
        return slot, len(changed), len(wanted) - len(changed)

    def _copy(self, there: slots.Inventory, slot: str, files: dict[str, bytes]) -> None:
        paths = list(files)
        with tempfile.TemporaryDirectory() as folder:
            for i in range(0, len(paths), BATCH):
                self.progress.bar(i, len(paths), paths[i])
                pairs = []
                for n, path in enumerate(paths[i : i + BATCH]):
                    source = Path(folder) / str(n)
                    source.write_bytes(files[path])
                    pairs.append((source, there.path(f"{slot}/{path}")))
                self.remote.copy(pairs)
        self.progress.bar(len(paths), len(paths), "")

    def verify(self, there: slots.Inventory, slot: str, wanted: dict[str, str]) -> None:
        """Every file is on the board as it was sent. Raises ToolError."""
        for path, sha in wanted.items():
            if there.slots[slot].files.get(path) != sha:
                raise ToolError(f"{slot}/{path} is not on the board as it was sent")

    def write_marker(self, there: slots.Inventory, slot: str, wanted: dict[str, str]) -> None:
        """Write the marker of a slot: the board starts it from now on. Raises ToolError."""
        self._switch(there)
        number = max(s.number for s in there.slots.values()) + 1
        text = slots.marker(number, wanted)
        path = there.path(slots.MARKERS[slot])
        self.state = EITHER_STARTS
        self.remote.execute(f"with open({path!r}, 'w') as f: f.write({text!r})\n")
        self.state = NEW_STARTS

    def _prepare(
        self, there: slots.Inventory, slot: str, changed: list[str], extra: list[str]
    ) -> None:
        """Remove the marker, then files that don't belong there; make the folders."""
        folders = {slot}
        for path in changed:
            parts = path.split("/")[:-1]
            folders |= {"/".join([slot, *parts[: i + 1]]) for i in range(len(parts))}
        self.remove(
            [there.path(p) for p in (slots.MARKERS[slot], *(f"{slot}/{path}" for path in extra))]
        )
        paths = [there.path(p) for p in sorted(folders)]
        self.remote.execute(
            f"import os\nfor p in {paths!r}:\n try: os.mkdir(p)\n except OSError: pass\n"
        )

    def _switch(self, there: slots.Inventory) -> None:
        """See that main.py is the switch; a power cut finds the old one, the new one, or none."""
        text = SWITCH.read_bytes()
        sha = hashlib.sha256(text).hexdigest()
        if there.root.get("/main.py") == sha:
            return
        new, main = there.path("/main.new"), there.path("/main.py")
        self.remote.copy([(SWITCH, new)])
        if self.inventory().root.get("/main.new") != sha:
            raise ToolError("/main.new is not on the board as it was sent")
        self.remote.execute(
            # littlefs replaces at once; MicroPython's FAT removes main.py first (extmod/vfs_fat.c)
            f"import os\nos.rename({new!r}, {main!r})\n"
        )


# takes the run, what is on the board, files by path, the pack file (None: the board's own);
# returns folder, files copied and kept; raises ToolError
Deploy = Callable[[Flashing, slots.Inventory, dict[str, bytes], bytes | None], tuple[str, int, int]]


def _tested(boot: dict[str, Any]) -> bool:
    """True where the self-test has ended well, False while it runs. Raises ToolError."""
    result = boot.get("self_test", "running")
    if result not in ("ok", "running"):
        raise ToolError(f"its self-test failed: {result}; it closes nothing")
    return bool(result == "ok")


def _reason(line: dict[str, Any]) -> str:
    where = f"line {line['line']}: " if line.get("line") else ""
    return where + (f"{line['key']}: " if line.get("key") else "") + str(line.get("reason"))
