"""A serial port of this computer: opened for us alone, with failures as one clear line.

Real ports and pseudo-terminals of Linux and macOS.
"""

import errno
import os
import select
import termios

import serial

from .errors import ToolError

_WHY = {
    errno.ENOENT: "does not exist; `bmsctl ports` lists the ports of this computer",
    errno.EBUSY: "is busy: another program has it open",
    errno.EAGAIN: "is busy: another program has it open",
    errno.EACCES: "permission denied; join the group of serial ports and log in again:"
    " sudo usermod -aG dialout $USER",
    errno.EPERM: "permission denied",
    errno.EISDIR: "is a folder, not a serial port",
    errno.ENOTTY: "is not a serial port",
    errno.EINVAL: "is not a serial port, or does not know this baud rate",
    errno.ENXIO: "is not there: unplugged?",
    errno.ENODEV: "is not there: unplugged?",
    errno.EIO: "is not there: unplugged?",
}


class PortLost(Exception):
    """The port vanished while it was in use."""


def open_port(path: str, baud: int) -> serial.Serial:
    """Open a port for this program alone, 8N1, `baud` bit/s. Raises ToolError."""
    try:
        return serial.Serial(path, baud, exclusive=True, timeout=0)
    except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
        raise ToolError(f"{path}: {_reason(path, error)}") from None


def _reason(path: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code is None and os.path.exists(path) and "configure port" in str(error):
        code = errno.ENOTTY  # pyserial keeps no errno when the settings are refused
    if isinstance(error, termios.error):
        code = error.args[0]
    return _WHY.get(code or 0) or str(error)


def read_some(port: serial.Serial) -> bytes:
    """What has arrived, b"" where nothing has; never waits. Raises PortLost."""
    try:
        data = os.read(port.fileno(), 65536)
        if not data:
            _ = port.in_waiting  # an unplugged port reads as empty, but refuses this
        return data
    except BlockingIOError:
        return b""
    except (OSError, TypeError, serial.SerialException) as error:
        raise PortLost(getattr(error, "strerror", None) or str(error)) from None


def wait_readable(port: serial.Serial, timeout_s: float, *others: int) -> list[int]:
    """Wait up to `timeout_s` for the port or other descriptors; those with something to read."""
    try:
        return select.select([port.fileno(), *others], [], [], timeout_s)[0]
    except (OSError, ValueError, serial.SerialException) as error:
        raise PortLost(str(error)) from None


def write_all(port: serial.Serial, data: bytes) -> None:
    """Write bytes, waiting for room for as long as the port is there. Raises PortLost."""
    try:
        port.write(data)
    except OSError as error:  # SerialException is one
        raise PortLost(getattr(error, "strerror", None) or str(error)) from None
