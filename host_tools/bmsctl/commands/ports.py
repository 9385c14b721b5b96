"""`bmsctl ports`: the serial ports of this computer."""

import argparse
import json
import sys

from serial.tools import list_ports

HELP = "list the serial ports of this computer, known boards and adapters by name"
EXAMPLE = """examples:
  bmsctl ports
  bmsctl ports --json
"""

# USB vendor and product (None: any) -> what it is
KNOWN: dict[tuple[int | None, int | None], str] = {
    (0xF055, 0x9800): "MicroPython board (pyboard)",
    (0xF055, 0x9801): "MicroPython board (pyboard)",
    (0xF055, 0x9802): "MicroPython board (pyboard)",
    (0x2E8A, 0x0005): "MicroPython on RP2040 or RP2350",
    (0x303A, 0x1001): "ESP32-S3 (USB serial/JTAG)",
    (0x303A, 0x4001): "MicroPython on ESP32-S3",
    (0x303A, None): "ESP32-S3",
    (0x0483, 0x374B): "Nucleo (ST-Link virtual port)",
    (0x0483, 0x374E): "Nucleo (ST-Link V3 virtual port)",
    (0x1A86, 0x7523): "CH340 USB-serial adapter",
    (0x0403, 0x6001): "FTDI USB-serial adapter",
    (0x10C4, 0xEA60): "CP210x USB-serial adapter",
    (0xAD50, 0x60C4): "CANable (slcan)",
    (0x16D0, 0x117E): "CANable 2 (slcan)",
}


def known(vid: int | None, pid: int | None) -> str:
    """The name of a USB device, "" where it is none that we know."""
    return KNOWN.get((vid, pid)) or KNOWN.get((vid, None), "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one array of objects")


def run(args: argparse.Namespace) -> int:
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
