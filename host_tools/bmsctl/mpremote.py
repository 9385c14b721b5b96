"""A board at its REPL, through mpremote's command line.

`resume` always: a soft reset would end the timer that feeds the board's watchdog.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import ToolError

TIMEOUT_S = 60


class Mpremote:
    """One port; every method is one run of mpremote. Raises ToolError with mpremote's words.

    process: the run of this moment, or the last one; who kills it ends the run.
    """

    process: subprocess.Popen[bytes] | None = None

    def __init__(self, port: str) -> None:
        self.port = port

    def run(self, *words: str) -> str:
        """Run `mpremote connect PORT resume WORDS`; what it printed."""
        command = [sys.executable, "-m", "mpremote", "connect", self.port, "resume", *words]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to handle
        ) as process:
            Mpremote.process = process
            try:
                out, err = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise ToolError(
                    f"{self.port}: mpremote {words[0]} took over {TIMEOUT_S} s"
                ) from None
            except KeyboardInterrupt:
                # cut off, it would leave the board in its raw REPL; a second Ctrl-C cuts it off
                process.communicate(timeout=TIMEOUT_S)
                raise
            finally:
                process.kill()
        output = out.decode(errors="replace")
        if process.returncode:
            why = (err.decode(errors="replace") + output).strip().splitlines() or ["?"]
            raise ToolError(f"{self.port}: mpremote {words[0]}: {why[-1]}")
        return output.replace("\r\n", "\n")

    def execute(self, code: str) -> str:
        """Run code on the board; what it printed."""
        return self.run("exec", code)

    def read(self, path: str) -> bytes:
        """A file of the board."""
        output = self.execute(
            "import binascii\n"
            f"with open({path!r}, 'rb') as f:\n"
            " while True:\n"
            "  data = f.read(256)\n"
            "  if not data: break\n"
            "  print(binascii.hexlify(data).decode())\n"
        )
        try:
            return bytes.fromhex("".join(output.split()))
        except ValueError:
            raise ToolError(f"{self.port}: {path} did not come over whole") from None

    def copy(self, files: Sequence[tuple[Path, str]]) -> None:
        """Copy files of this computer to paths of the board."""
        words: list[str] = []
        for source, target in files:
            words += [*(["+"] if words else []), "fs", "cp", str(source), f":{target}"]
        self.run(*words)

    def reset(self) -> None:
        """Start the board again."""
        self.run("reset")
