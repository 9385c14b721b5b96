"""Where a pack file comes from: a file, or a pipe, which can be read once only."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ToolError

MOST = 1 << 20  # bytes of a pack file that comes through a pipe


@contextmanager
def at_rest(path: Path) -> Iterator[Path]:
    """The file, or a copy of what comes through a pipe ("-" is stdin), as long as it is used.

    Raises ToolError: no such file, too long; those of its user name the pipe, not the copy.
    """
    try:
        with open(0 if str(path) == "-" else path, "rb", closefd=str(path) != "-") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode) and str(path) != "-"
            data = b"" if regular else file.read(MOST + 1)
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
    if regular:
        yield path
        return
    if len(data) > MOST:
        raise ToolError(f"{path}: more than {MOST >> 20} MiB: no pack file")
    with tempfile.TemporaryDirectory(prefix="bmsctl-") as folder:
        copy = Path(folder) / "pack.toml"
        copy.write_bytes(data)
        try:
            yield copy
        except ToolError as error:
            raise ToolError(str(error).replace(str(copy), str(path), 1)) from None
