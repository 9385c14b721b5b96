"""main.py of a board's file system: starts the newest firmware that is whole.

A firmware is a folder, and whole where its seal is right: `bmsctl flash` removes the seal first
and writes it last. Interrupted there, the board starts the other firmware, or none: then the pins
stay inputs, and the contactors open.
"""

import os
import sys
from binascii import crc32

# where the file system is: /flash on stm32 (ports/stm32/main.c), the root elsewhere
BASE = os.getcwd().rstrip("/")
# folder, where its seal is
SLOTS = (
    (BASE + "/a", BASE + "/a/seal"),
    (BASE + "/b", BASE + "/b/seal"),
    ("/rom", BASE + "/rom.seal"),
)


def number(path):
    """Number of a seal, `NUMBER DIGEST CRC-32`; -1 where it is missing, cut or damaged."""
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
    """Folder of the whole firmware with the highest number, "" where there is none."""
    found = ""
    highest = -1
    for folder, seal in slots:
        this = number(seal)
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
        print("no whole firmware here: run bmsctl flash")
