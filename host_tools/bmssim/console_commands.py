"""Commands of the master's serial port, as the firmware's text names them."""

from bms.console.telemetry import COMMANDS


def rows() -> list[tuple[str, str]]:
    """What the master takes as a command, and its help text."""
    parts = (line.split("\t") for line in COMMANDS.decode().splitlines())
    return [(word, text) for word, text in parts]
