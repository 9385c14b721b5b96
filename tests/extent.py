"""How far tests go, and how long they wait: the one place for both, on either runtime.

`make test` runs what can go on for long in its short form; `make test-long` runs the same tests in
the long one, and with other random numbers. A test has a long form where it calls `extent`.
"""

import os

LONG = os.getenv("BMS_TEST_LONG") == "1"
# for what must come: only a hang takes so long, also where 15 programs share two cores
HANG_S = 900


def extent(short, long):
    """`short`, or `long` in the long run: seconds, counts, steps, whatever a test goes through."""
    return long if LONG else short
