"""Loads the pack file, or its copy if the file is damaged; runs at start, and on the host.

A pack file that `bmsctl` writes to a board ends with a comment line `#= BYTES CRC-32`, size and
CRC-32 of all bytes before it. PATH.copy has the same content; they are written one after the other,
so that one of them is valid after a power cut at any moment. A pack file that was copied by hand
has no such line, and is used without this check where there is no copy. Beside a copy it may as
well be the rest of a write that a power cut ended: then the copy is used, and that is reported.
"""

from array import array
from binascii import crc32

from bms.config.errors import ConfigError

MARK = b"#= "
COPY = ".copy"
READY = ".ready"  # the values as `bmsctl` has read them: see `ready_pack`
WHOLE, BARE, DAMAGED, MISSING = range(4)


def mark(size, crc):
    """The last line of a file of `size` bytes before it."""
    return MARK + ("%d %08x\n" % (size, crc)).encode()


def _look(path):
    """(WHOLE, BARE (without checksum), DAMAGED or MISSING; the checksum line or b"")."""
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
    """State of one file: WHOLE, BARE (without checksum), DAMAGED or MISSING."""
    return _look(path)[0]


def choose(path):
    """(path of the file to use; 0 = both are valid, 1 = pack file damaged, 2 = copy damaged, 3 =
    pack file without checksum beside a copy).

    Raises ConfigError.
    """
    return chosen(path)[:2]


def chosen(path):
    """As `choose`, and third the checksum line of the file to use. Raises ConfigError."""
    one, mark_of_one = _look(path)
    copy, mark_of_copy = _look(path + COPY)
    if one == WHOLE:
        return path, 0 if copy == WHOLE else 2, mark_of_one
    if copy == WHOLE:
        return path + COPY, 3 if one == BARE else 1, mark_of_copy
    if copy == MISSING and one != DAMAGED:
        return path, 0, mark_of_one
    if copy == MISSING:
        raise ConfigError(
            0, "", "its checksum is wrong; after changing it by hand, remove its last line: #= .."
        )
    raise ConfigError(0, "", "the pack file and its copy are damaged")


def load(path):
    """Read and check the pack file at `path`, or its copy; a `Config`.

    Raises ConfigError, OSError.
    """
    path, damaged = choose(path)
    with open(path, "rb") as f:
        config = read(f)
    config.path = path
    config.damaged = damaged
    return config


def read(raws):
    """Read and check a pack file's lines as bytes; a `Config`. Raises ConfigError."""
    from bms.kernels.checksums import crc16

    crc = array("i", [0xFFFF])

    def lines():
        for raw in raws:
            if raw.startswith(MARK):
                continue
            crc[0] = crc16(raw, 0, len(raw), crc[0])
            try:
                yield raw.decode()
            except UnicodeError:
                yield "\0"

    config = parse(lines())
    config.crc = crc[0]
    return config


def parse(lines):
    """Read and check pack-file lines (any iterable of text); a `Config`. Raises ConfigError."""
    from bms.config import checks, toml_subset  # large, and not needed with a `.ready` file

    given, many_of = toml_subset.tables_of(lines)
    return checks.config_of(given, many_of)
