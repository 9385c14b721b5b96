"""Names of files that a test writes."""

import os
from binascii import hexlify


def unique(name):
    """A name in the current folder that no other process uses: tests run beside each other."""
    return "%s_%s" % (hexlify(os.urandom(6)).decode(), name)
