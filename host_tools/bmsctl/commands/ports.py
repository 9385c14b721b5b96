"""`bmsctl ports`: the serial ports of this computer."""

import argparse
import json
import sys

from serial.tools import list_ports

from .. import board_files

HELP = "list the serial ports of this computer, known boards and adapters by name"
EXAMPLE = """examples:
  bmsctl ports
  bmsctl ports --json
  bmsctl ports --udev | sudo tee /etc/udev/rules.d/60-bms-master.rules
                                  Linux: ModemManager leaves boards and adapters alone
"""

# USB vendor and product of adapters -> what it is; boards: see boards/*/board.toml
ADAPTERS: dict[tuple[int, int], str] = {
    (0x1A86, 0x7523): "CH340 USB-serial adapter",
    (0x0403, 0x6001): "FTDI USB-serial adapter",
    (0x10C4, 0xEA60): "CP210x USB-serial adapter",
    (0xAD50, 0x60C4): "CANable (slcan)",
    (0x16D0, 0x117E): "CANable 2 (slcan)",
}


def devices() -> dict[tuple[int, int], str]:
    """The name of every USB device that we know: boards that share an id are all named."""
    boards: dict[tuple[int, int], list[str]] = {}
    for name in board_files.names():
        board = board_files.load(name)
        for ident in board.usb:
            vid, pid = (int(part, 16) for part in ident.split(":"))
            boards.setdefault((vid, pid), []).append(board.title)
    return {**ADAPTERS, **{ident: " or ".join(titles) for ident, titles in boards.items()}}


def known(vid: int | None, pid: int | None) -> str:
    """The name of a USB device, "" where it is none that we know."""
    return "" if vid is None or pid is None else devices().get((vid, pid), "")


def udev() -> str:
    """Rules for Linux: ModemManager, which types into every new serial port, stays off ours."""
    lines = ["# Battery master boards and their adapters are no modems."]
    for (vid, pid), name in sorted(devices().items()):
        lines += [
            f"# {name}",
            f'ATTRS{{idVendor}}=="{vid:04x}", ATTRS{{idProduct}}=="{pid:04x}",'
            ' ENV{ID_MM_DEVICE_IGNORE}="1", ENV{ID_MM_PORT_IGNORE}="1", TAG+="uaccess"',
        ]
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one array of objects")
    parser.add_argument(
        "--udev", action="store_true", help="print a rule file for Linux instead, and end"
    )


def run(args: argparse.Namespace) -> int:
    if args.udev:
        print(udev(), end="")
        return 0
    found = []
    for port in sorted(list_ports.comports()):
        found.append(
            {
                "device": port.device,
                "name": known(port.vid, port.pid),
                "description": port.description if port.description != "n/a" else "",
                "usb": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else None,
                "serial_number": port.serial_number,
            }
        )
    if args.json:
        print(json.dumps(found))
    for port in found:
        if not args.json:
            words = (port["device"], port["usb"] or "", port["name"] or port["description"])
            print("  ".join(w for w in words if w))
    if not found:
        print("bmsctl: no serial port found", file=sys.stderr)
    return 0 if found else 1
