"""Real ports for the master on this computer: bytes between an adapter and the firmware."""

import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import Protocol

from bms.links.can import EXTENDED
from bms.links.slcan import SPEEDS
from bmssim.protocol import Frame
from bmssim.slcan import from_line, to_line

from .errors import ToolError
from .options import wrong_use
from .serial_port import PortLost, open_port, read_some, write_all

RETRY_S = 0.5
LOW_S = 0.004
_CAN_FRAME = struct.Struct("=IB3x8s")
_EFF_FLAG = 0x80000000  # linux/can.h: an identifier of 29 bits
_NO_DATA = 0x60000000  # flags of remote and of error frames


@dataclass(frozen=True)
class LinkSpec:
    """A `--link` value: kind uart, slcan or socketcan; where; bit/s (0 = not given)."""

    kind: str
    path: str
    rate: int

    @property
    def medium(self) -> str:
        return "uart" if self.kind == "uart" else "can"


def parse_link(text: str) -> LinkSpec:
    """`uart:/dev/ttyUSB0@115200`, `slcan:/dev/ttyACM0@500000`, `socketcan:can0`.

    Anything else is wrong usage, and the message names the error.
    """
    kind, colon, rest = text.partition(":")
    if kind not in ("uart", "slcan", "socketcan") or not colon or not rest:
        wrong_use(f"--link {text}: write uart:PORT@BAUD, slcan:PORT@BITRATE or socketcan:INTERFACE")
    path, _at, rate = rest.rpartition("@") if "@" in rest else (rest, "", "0")
    if kind == "socketcan" and "@" in rest:
        wrong_use(f"--link {text}: the rate of {path} is set by `ip link set {path}`, not here")
    if not (rate.isascii() and rate.isdigit()) or "@" in rest and int(rate) < 50:
        wrong_use(f"--link {text}: {rate} is no rate in bits per second")
    if kind == "slcan" and int(rate) and int(rate) not in SPEEDS:
        known = " ".join(map(str, SPEEDS))
        wrong_use(f"--link {text}: slcan has no {rate} bit/s; it has {known}")
    if not path:
        wrong_use(f"--link {text}: no port in it")
    return LinkSpec(kind, path, int(rate))


def named_link(text: str) -> tuple[str, LinkSpec]:
    """`NAME=` in front, "" where there is none, and the link."""
    name, equals, spec = text.partition("=")
    if equals and ":" not in name:
        return name, parse_link(spec)
    return "", parse_link(text)


def port_medium(name: str) -> str | None:
    """What a master's port of this name is, "can" or "uart"; None where boards have no such."""
    match = re.fullmatch("(can|uart)[0-9]", name)
    return match[1] if match else None


class Bridge(Protocol):
    """One open port. `read` and `write` never wait; they raise PortLost when it vanishes."""

    def fileno(self) -> int: ...
    def read(self) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def low(self) -> None: ...
    def close(self) -> None: ...


class SerialBridge:
    """A serial adapter: UART bytes, or slcan text, as they are."""

    def __init__(self, spec: LinkSpec, baud: int) -> None:
        self._port = open_port(spec.path, baud)

    def fileno(self) -> int:
        return self._port.fileno()

    def read(self) -> bytes:
        return read_some(self._port)

    def write(self, data: bytes) -> None:
        write_all(self._port, data)

    def low(self) -> None:
        """Hold the line low, which wakes some boards."""
        self._port.send_break(LOW_S)

    def close(self) -> None:
        self._port.close()


class SocketCanBridge:
    """A Linux CAN interface; the firmware's slcan text is turned into frames and back.

    The interface must be up with its bit rate set: `ip link set can0 up type can bitrate 500000`.
    """

    def __init__(self, spec: LinkSpec) -> None:
        family = getattr(socket, "AF_CAN", None)
        if family is None:
            raise ToolError("socketcan: this computer's system has no CAN sockets")
        try:
            self._socket = socket.socket(family, socket.SOCK_RAW, socket.CAN_RAW)
            self._socket.bind((spec.path,))
        except OSError as error:
            raise ToolError(f"socketcan:{spec.path}: {error.strerror or error}") from None
        self._socket.setblocking(False)
        self._line = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        text = b""
        while True:
            try:
                raw = self._socket.recv(16)
            except BlockingIOError:
                return text
            except OSError as error:
                raise PortLost(str(error)) from None
            ident, n, data = _CAN_FRAME.unpack(raw)
            if not ident & _NO_DATA:
                if ident & _EFF_FLAG:
                    ident ^= _EFF_FLAG | EXTENDED
                text += to_line(Frame(ident, data[:n])) + b"\r"

    def write(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\r")
        for line in lines:
            frame = from_line(line)
            if frame is not None:
                ident = frame.ident
                if ident & EXTENDED:
                    ident ^= _EFF_FLAG | EXTENDED
                try:
                    self._socket.send(_CAN_FRAME.pack(ident, len(frame.data), frame.data))
                except BlockingIOError:
                    pass  # the queue is full: the bus is off or overloaded, and the scan will miss
                except OSError as error:
                    raise PortLost(str(error)) from None

    def low(self) -> None:
        """A CAN bus isn't held low."""

    def close(self) -> None:
        self._socket.close()


def open_bridge(spec: LinkSpec, uart_baud: int) -> Bridge:
    """Open what a link names. Raises ToolError where it can't be."""
    if spec.kind == "socketcan":
        return SocketCanBridge(spec)
    # the rate of an slcan adapter's own serial side means nothing over USB
    return SerialBridge(spec, uart_baud if spec.kind == "uart" else 115200)


class Reconnecting:
    """A bridge that comes back after its port vanished; `notes` are its changes, each once."""

    def __init__(self, spec: LinkSpec, uart_baud: int) -> None:
        self.spec = spec
        self._baud = uart_baud
        self._bridge: Bridge | None = open_bridge(spec, uart_baud)
        self._retry = 0.0
        self.notes: list[str] = []

    def fileno(self) -> int | None:
        return self._bridge.fileno() if self._bridge else None

    def exchange(self, data: bytes) -> bytes:
        """Send `data`, return what came; b"" while the port is away (`data` is lost then)."""
        if self._bridge is None:
            if time.monotonic() < self._retry:
                return b""
            self._retry = time.monotonic() + RETRY_S
            try:
                self._bridge = open_bridge(self.spec, self._baud)
            except ToolError:
                return b""
            self.notes.append(f"{self.spec.path} is back")
        try:
            if data:
                self._bridge.write(data)
            return self._bridge.read()
        except PortLost as error:
            self._bridge.close()
            self._bridge = None
            self._retry = time.monotonic() + RETRY_S
            self.notes.append(f"{self.spec.path} vanished ({error}); waiting for it")
            return b""

    def low(self) -> None:
        """Hold the line low for a moment, where the port is there."""
        if self._bridge is not None:
            self._bridge.low()

    def close(self) -> None:
        if self._bridge is not None:
            self._bridge.close()
