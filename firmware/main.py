"""Start of the firmware: load the board and its pack file, build the master, run it."""

import sys

import micropython

# for ports that can't lock the heap: freed before the cycle, so that the start of the heap has free
# blocks, and small allocations find them at once
_hole = None if hasattr(micropython, "heap_lock") else bytearray(4096)


def _register_builtins():
    """Put MicroPython's own modules into `sys.modules`.

    Each import looks for them in every folder of `sys.path`, since a file may replace them
    (py/builtinimport.c): that takes a quarter of the start. With an empty path it does not look.
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
    """The master, or `ConfigErrorMode` where the pack file is invalid.

    Modules that only this function needs are imported here: the board frees them before the cycle.
    """
    from bms.config.errors import ConfigError

    try:
        settings = _settings(board)
        from bms.master import Master

        return Master(settings, board)
    except (ConfigError, OSError) as error:
        from bms.console.config_error_mode import ConfigErrorMode

        return ConfigErrorMode(error, board)


def _make_room(program):
    from bms.attribute_tables import make_room

    make_room(program)


def _settings(board):
    """Settings of the pack file; its parser is large, and freed before the rest is loaded."""
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


def _describe(error):
    """An exception and its place in the code, one line, as bytes."""
    import io

    text = "%s: %s" % (type(error).__name__, error)
    if hasattr(sys, "print_exception"):
        out = io.StringIO()
        sys.print_exception(error, out)  # pyright: ignore
        trace = out.getvalue()  # pyright: ignore
        where = [x for x in trace.split("\n") if x.startswith("  File")]
        if where:
            place = where[-1].split("/")[-1].replace('"', "").replace("  File ", "")
            # on a board every line number is 1: leave it out
            place = place.replace(", line 1, in", " in")
            try:
                from bms.storage import full_names

                place = full_names.of(place)
            except Exception:
                pass  # no file or no memory: the short name then
            text += ", " + place
    return text.encode()


def main():
    """Run until a command ends the program; then the board restarts or returns to the REPL."""
    global _hole
    board = Board()
    board.safe()
    program = None
    try:
        program = build(board)
        _hole = None
        _make_room(program)
        board.started()
        program.run()
    except Exception as error:
        board.safe()
        if program is not None:
            try:
                program.crashed(_describe(error))
            except Exception:
                pass  # no memory or no storage: the coils are off already
        raise
    finally:
        board.safe()
    board.ended(program.restart)


if __name__ == "__main__":
    main()
