"""`bmsctl version`: of the tools, the interpreter and, with a port, the master."""

import argparse
import json
import platform
from typing import Any

from bms.version import VERSION
from bmssim.micropython_path import MicroPythonMissing, find_micropython, micropython_version

from ..errors import ToolError
from ..options import baud
from ..request import send_command

HELP = "show the versions of the tools, of MicroPython here, and of a master"
EXAMPLE = """examples:
  bmsctl version
  bmsctl version --port /dev/ttyACM0 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", metavar="P", help="also the version of the master there")
    parser.add_argument(
        "--baud", type=baud, default=115200, metavar="N", help="its bits per second"
    )
    parser.add_argument("--json", action="store_true", help="one object")


def run(args: argparse.Namespace) -> int:
    out: dict[str, Any] = {"bmsctl": VERSION, "python": platform.python_version()}
    try:
        out["micropython"] = micropython_version()
        out["micropython_path"] = str(find_micropython())
    except MicroPythonMissing as error:
        out["micropython"] = None
        out["micropython_error"] = str(error)
    if args.port:
        lines = send_command(args.port, args.baud, "version", 3.0)
        boot = next((x for x in lines if x["k"] == "boot"), None)
        if boot is None:
            raise ToolError(f"{args.port}: the master reported no version")
        out["master"] = {key: boot[key] for key in boot if key not in ("k", "t_ms", "crc")}
    if args.json:
        print(json.dumps(out))
    else:
        master = out.pop("master", {})
        for key, value in [*out.items(), *((f"master {key}", master[key]) for key in master)]:
            print(f"{key}: {value}")
    return 0
