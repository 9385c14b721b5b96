"""A board at its REPL, through mpremote's command line.

`resume` always: a soft reset would end the timer that feeds the board's watchdog.
"""

import subprocess
import sys
from pathlib import Path

from .errors import ToolError

TIMEOUT_S = 60


class Mpremote:
    """One port; every method is one run of mpremote. Raises ToolError with mpremote's words."""

    def __init__(self, port: str) -> None:
        self.port = port

    def run(self, *words: str) -> str:
        """Run `mpremote connect PORT resume WORDS`; what it printed."""
        command = [sys.executable, "-m", "mpremote", "connect", self.port, "resume", *words]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except subprocess.TimeoutExpired:
            raise ToolError(f"{self.port}: mpremote {words[0]} took over {TIMEOUT_S} s") from None
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            why = (done.stderr.decode(errors="replace") + said).strip().splitlines() or ["?"]
            raise ToolError(f"{self.port}: mpremote {words[0]}: {why[-1]}")
        return said.replace("\r\n", "\n")

    def execute(self, code: str) -> str:
        """Run code on the board; what it printed."""
        return self.run("exec", code)

    def copy(self, source: Path, target: str) -> None:
        """Copy a file of this computer to a path of the board."""
        self.run("fs", "cp", str(source), f":{target}")

    def reset(self) -> None:
        """Start the board again."""
        self.run("reset")
