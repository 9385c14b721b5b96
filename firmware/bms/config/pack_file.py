"""Which of the pack file and its copy is whole; runs at start, and on the host.

What `bmsctl` puts on a board ends with a line of its own, a comment to others: `#= BYTES CRC-32` of
all before it. PATH.copy has the same content; one is written after the other, so that the power may
go at any moment. A pack file that a person put there has neither, and is taken as it is.
"""

from binascii import crc32

from bms.config.errors import ConfigError

MARK = b"#= "
COPY = ".copy"
READY = ".ready"  # what `bmsctl` has read from it: see `ready_pack`
WHOLE, BARE, DAMAGED, MISSING = range(4)


def mark(size, crc):
    """The last line of a file of `size` bytes before it."""
    return MARK + ("%d %08x\n" % (size, crc)).encode()


def _look(path):
    """(WHOLE, BARE (nothing to check it by), DAMAGED or MISSING; its last line)."""
    size = crc = 0
    last = b""
    try:
        with open(path, "rb") as f:
            for raw in f:
                if last:
                    return DAMAGED, last
                if raw.startswith(MARK):
                    last = raw
                else:
                    size += len(raw)
                    crc = crc32(raw, crc)
    except OSError:
        return MISSING, last
    if not last:
        return BARE, last
    return WHOLE if last == mark(size, crc) else DAMAGED, last


def state(path):
    """WHOLE, BARE (nothing to check it by), DAMAGED or MISSING."""
    return _look(path)[0]


def choose(path):
    """(path of what to use, 0 = both are fine, 1 = the pack file is damaged, 2 = its copy).

    Raises ConfigError.
    """
    return chosen(path)[:2]


def chosen(path):
    """What `choose` gives, and the last line of what to use. Raises ConfigError."""
    one, mark_of_one = _look(path)
    copy, mark_of_copy = _look(path + COPY)
    if one == WHOLE:
        return path, 0 if copy == WHOLE else 2, mark_of_one
    if copy == WHOLE:
        return path + COPY, 1, mark_of_copy
    if copy == MISSING and one != DAMAGED:
        return path, 0, mark_of_one
    if copy == MISSING:
        raise ConfigError(
            0, "", "its checksum is wrong; after changing it by hand, remove its last line: #= .."
        )
    raise ConfigError(0, "", "the pack file and its copy are damaged")
