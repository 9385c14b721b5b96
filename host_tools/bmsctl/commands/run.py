"""`bmsctl run`: the master on this computer, against real slave boards behind a USB adapter."""

import argparse
import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bms.config import pack_file
from bms.config.errors import ConfigError
from bms.slaves.build import KINDS
from bmssim.lines import LineReader
from bmssim.mirror import Mirror
from bmssim.process import Firmware, FirmwareDied, Inputs

from ..background import Printer, Recording
from ..bridge import LinkSpec, Reconnecting, named_link, port_medium
from ..decoders.base import driver_class
from ..errors import ToolError
from ..options import positive, wrong_use
from ..pack_source import at_rest
from ..screen import Story

HELP = "run the master on this computer against real slave boards"
EXAMPLE = """examples:
  bmsctl run --config pack.toml --link slcan:/dev/ttyACM0@500000
  bmsctl run --config pack.toml --link uart:/dev/ttyUSB0@1000000 --log logs
  bmsctl run --config pack.toml --link can0=socketcan:can0

Type commands (help, status, close, ..) and Enter. The contactors are shown, not driven: this
computer has no outputs. Ctrl-C ends it, with exit code 130; --for with 0. Nothing that becomes of
the record or the screen ends the master; where one of them is not whole, exit code 1 at the end.
"""
INPUTS_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="PACK", help="the pack file")
    parser.add_argument(
        "--link",
        action="append",
        required=True,
        metavar="[NAME=]KIND:WHERE",
        help="uart:PORT@BAUD, slcan:PORT@BITRATE or socketcan:IFACE; NAME = in a pack of several",
    )
    parser.add_argument(
        "--for", dest="seconds", type=positive, metavar="S", help="end after S seconds"
    )
    parser.add_argument("--log", type=Path, metavar="DIR", help="record the telemetry there")
    parser.add_argument("--runtime", choices=("micropython", "cpython"), default="micropython")


def load_pack(path: Path) -> Any:
    """The pack file, checked by the firmware's own code. Raises ToolError naming file and line."""
    try:
        return pack_file.load(str(path))
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
    except ConfigError as error:
        raise ToolError(f"{path}: {error}") from None


def _ports(path: Path, pack: Any) -> dict[str, Any]:
    """The first slave of each port. Raises ToolError for a port that its kind can't be on."""
    used: dict[str, Any] = {}
    for slave in pack.slaves:
        used.setdefault(slave.link, slave)
        medium = port_medium(slave.link)
        where = f"{path}: line {slave.at['link']}: link: "
        if medium is None:
            raise ToolError(
                f"{where}no board has a port {slave.link}: write can0, can1, .. or uart0, uart1, .."
            )
        if slave.kind in KINDS and medium not in KINDS[slave.kind][2]:
            media = " or ".join(KINDS[slave.kind][2])
            raise ToolError(
                f"{where}{slave.kind} speaks over {media}: {slave.link} is a {medium.upper()} port"
            )
    return used


def _links(texts: list[str], used: dict[str, Any]) -> dict[str, LinkSpec]:
    """The `--link` value of each port that the pack file uses."""
    links: dict[str, LinkSpec] = {}
    for text in texts:
        name, spec = named_link(text)
        if not name:
            if len(used) != 1:
                wrong_use(f"--link {text}: the pack uses {' '.join(used)}; write NAME={text}")
            name = next(iter(used))
        if name not in used:
            wrong_use(f"--link {text}: the pack file uses {' '.join(used)}, not {name}")
        if spec.medium != port_medium(name):
            is_, takes = (
                ("CAN", "slcan or socketcan") if spec.medium == "uart" else ("UART", "uart")
            )
            wrong_use(
                f"--link {text}: {used[name].kind} is on {name}, a {is_} port, which takes {takes}"
            )
        if name in links:
            wrong_use(f"--link {text}: {name} is given twice")
        links[name] = spec
    for name in used:
        if name not in links:
            wrong_use(f"the pack file uses {name}: give --link {name}=...")
    return links


def run(args: argparse.Namespace) -> int:
    with at_rest(args.config) as path:
        return _run(args, path)


# long: opens all that joins it, and closes it
def _run(args: argparse.Namespace, path: Path) -> int:
    pack = load_pack(path)
    used = _ports(path, pack)
    links = _links(args.link, used)
    bridges = {}
    for name, spec in links.items():
        rate = next((x.rate_bps for x in pack.links if x.port == name), 0)
        if rate and spec.rate and rate != spec.rate:
            wrong_use(f"{name}: --link has {spec.rate} bit/s, the pack file {rate}")
        bridges[name] = Reconnecting(spec, spec.rate or rate or _usual_bps(used[name].kind))
    rates = {name: spec.rate for name, spec in links.items() if spec.medium == "can"}
    media = {name: spec.medium for name, spec in links.items()}
    firmware = Firmware(args.runtime, False, media, path.resolve(), rates)
    mirror = Mirror()
    printer = Printer()
    recording = Recording(args.log, "run", printer) if args.log else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 0
    try:
        _loop(args, firmware, bridges, mirror, recording, printer)
    except FirmwareDied as death:
        if death.code:
            raise ToolError(str(death)) from None
    finally:
        firmware.close()
        mirror.close()
        for bridge in bridges.values():
            bridge.close()
        if recording is not None:
            missing = recording.end()
            if missing:
                code = 1
                printer.err(f"bmsctl: {missing}")
            printer.out(f"log: {recording.path}")
        if not printer.end():
            code = 1
    return code


def _usual_bps(kind: str) -> int:
    return driver_class(kind).UART_BPS if kind in KINDS else 115200


def _loop(
    args: argparse.Namespace,
    firmware: Firmware,
    bridges: dict[str, Reconnecting],
    mirror: Mirror,
    recording: Recording | None,
    printer: Printer,
) -> None:
    story = Story(quiet=False, live=True, say=printer.out, answers=True)
    reader = LineReader()
    start = time.monotonic()
    waiting = {name: b"" for name in bridges}
    typed = b""
    stdin: list[int] = [sys.stdin.fileno()]
    shown_at = -INPUTS_S
    accepted = False
    while args.seconds is None or time.monotonic() - start < args.seconds:
        now = time.monotonic() - start
        while firmware.readable():
            lows = firmware.request().lows
            for i, name in enumerate(firmware.ports, 1):
                if lows >> i & 1:
                    bridges[name].low()
        if now - shown_at >= INPUTS_S:
            shown_at = now
            firmware.go(0, Inputs(), [])
        data = firmware.console.read_now()
        if data:
            mirror.write(data)
            if recording is not None:
                recording.take(data)
            for line in reader.feed(data):
                if line.obj is not None:
                    if line.obj["k"] == "config_error":
                        raise ToolError(f"{args.config}: {line.obj['reason']}")
                    if not accepted:
                        accepted = True
                        printer.out(f"console for other programs: {mirror.path}")
                    story.line(line.obj, now)
        typed += mirror.read()
        for name, bridge in bridges.items():
            waiting[name] += bridge.exchange(firmware.ports[name].read_now())
            if waiting[name]:
                waiting[name] = waiting[name][firmware.ports[name].write(waiting[name]) :]
            while bridge.notes:
                printer.err(bridge.notes.pop(0))
        if typed:
            typed = typed[firmware.console.write(typed) :]
        fds = [firmware.io_fd, mirror.fd, firmware.console.master, *stdin]
        fds += [t.master for t in firmware.ports.values()]
        fds += [fd for b in bridges.values() if (fd := b.fileno()) is not None]
        ready = select.select(fds, [], [], 0.02)[0]
        if stdin and stdin[0] in ready:
            with contextlib.suppress(OSError):
                got = os.read(stdin[0], 1024)
                typed += got
                if not got:
                    stdin = []
