"""Start of the firmware: load the board and its pack file, build the master, run it."""

import sys

import micropython

# where the heap can't be locked: free again before the cycle, a hole at the start of the heap, in
# which small blocks are found at once
_hole = None if hasattr(micropython, "heap_lock") else bytearray(4096)


def _register_builtins():
    """Put MicroPython's own modules into `sys.modules`.

    It looks for them in every folder of `sys.path` at each import, since a file may replace them
    (py/builtinimport.c): a quarter of the start. With an empty path it takes its own at once.
    """
    path = sys.path[:]
    sys.path[:] = []
    for name in ("array", "binascii", "hashlib", "io", "json", "machine", "os", "select", "time"):
        try:
            if name not in sys.modules:
                sys.modules[name] = __import__(name)
        except ImportError:
            pass
    sys.path[:] = path


_register_builtins()
from board import Board  # noqa: E402


def build(board):
    """The master, or what says why there is none.

    What only this needs is imported here: the board may forget it before the cycle begins.
    """
    from bms.config.errors import ConfigError

    try:
        settings = _settings(board)
        from bms.master import Master

        return Master(settings, board)
    except (ConfigError, OSError) as error:
        from bms.console.config_error_mode import ConfigErrorMode

        return ConfigErrorMode(error, board)


def _settings(board):
    """The pack file; what reads it is large, and forgotten before the rest is loaded."""
    settings = _read(board.pack_path)
    board.forget()
    return settings


def _read(path):
    from bms.config import ready_pack

    settings = ready_pack.load(path)
    if settings is None:
        from bms.config import pack_file

        settings = pack_file.load(path)
    return settings


def _words(error):
    """An exception and where it came from, in a line, as bytes."""
    import io

    text = "%s: %s" % (type(error).__name__, error)
    if hasattr(sys, "print_exception"):
        out = io.StringIO()
        sys.print_exception(error, out)  # pyright: ignore
        said = out.getvalue()  # pyright: ignore
        where = [x for x in said.split("\n") if x.startswith("  File")]
        if where:
            place = where[-1].split("/")[-1].replace('"', "").replace("  File ", "")
            # on a board its module stands for a file, and every line is 1
            text += ", " + place.replace(", line 1, in", " in")
    return text.encode()


def main():
    """Run until a person leaves; the board does what comes then."""
    global _hole
    board = Board()
    board.safe()
    program = None
    try:
        program = build(board)
        _hole = None
        board.started()
        program.run()
    except Exception as error:
        board.safe()
        if program is not None:
            try:
                program.crashed(_words(error))
            except Exception:
                pass  # no memory, no storage: what matters is done
        raise
    finally:
        board.safe()
    board.ended(program.restart)


if __name__ == "__main__":
    main()
