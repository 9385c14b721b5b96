"""main.py of a board's file system: starts the newest complete firmware.

A firmware is a folder (a slot). It is complete where its marker is valid: `bmsctl flash` removes
the marker first and writes it last. If that is interrupted, the board starts the other firmware, or
none: then the pins stay inputs, and the contactors open.
"""

import os
import sys
from binascii import crc32

# where the file system is: /flash on stm32 (ports/stm32/main.c), the root elsewhere
BASE = os.getcwd().rstrip("/")
# (folder, path of its marker)
SLOTS = (
    (BASE + "/a", BASE + "/a/marker"),
    (BASE + "/b", BASE + "/b/marker"),
    ("/rom", BASE + "/rom.marker"),
)


def number(path):
    """Number of a marker, `NUMBER DIGEST CRC-32`; -1 where it is missing, cut or damaged."""
    try:
        with open(path) as file:
            text = file.read(200)
        words = text.split()
        if len(words) != 3 or int(words[2], 16) != crc32((words[0] + " " + words[1]).encode()):
            return -1
        return int(words[0])
    except (OSError, ValueError):
        return -1


def newest(slots=SLOTS):
    """Folder of the complete firmware with the highest number, "" where there is none."""
    found = ""
    highest = -1
    for folder, marker in slots:
        this = number(marker)
        if this > highest:
            highest = this
            found = folder
    return found


if __name__ == "__main__":
    chosen = newest()
    if chosen:
        sys.path.insert(0, chosen)
        import main

        main.main()
    else:
        print("no complete firmware here: run bmsctl flash")
