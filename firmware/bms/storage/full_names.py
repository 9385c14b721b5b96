"""Names of functions as in the sources, for a stored crash. Imported after a crash only.

`bmsctl` shortens names; the file `names` beside the firmware has a line for each function:
`module short full`.
"""

import sys


def of(place):
    """`module in function` in full. Allocates a line of the file. Raises OSError without it."""
    words = place.split(" in ")
    start = words[0] + " " + words[-1] + " "
    with open(sys.path[0] + "/names") as file:
        for line in file:
            if line.startswith(start):
                return words[0] + " in " + line[len(start) :].strip()
    return place
