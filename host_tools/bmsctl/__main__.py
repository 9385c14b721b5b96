"""`bmsctl` and `python -m bmsctl`: ready for Ctrl-C and for any stdout before more is loaded."""

# as little as can be before Ctrl-C is looked after: `signal` would load `enum`
import _signal  # pyright: ignore[reportMissingImports]
import os
import sys


def _leave(*_signal: object) -> None:
    """Ctrl-C while nothing runs that would have to be ended."""
    os._exit(130)


_signal.signal(_signal.SIGINT, _leave)

import io  # noqa: E402


class _Output(io.TextIOWrapper):
    """stdout or stderr; `failed` is what it failed by, after which nothing more goes there.

    stderr raises nothing: what can't be told must not end what it tells about.
    """

    failed: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._mute(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._mute(error)

    def _mute(self, error: OSError) -> None:
        fd = self.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)
        if self.failed is None:
            self.failed = error
        if fd != 2:
            raise error


def _streams() -> None:
    """stdin, stdout and stderr, which may be closed, and characters that they don't know."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # no port or file must get this number; a write to stdout fails as one to a closed one
            null = os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            mode = "w" if fd else "r"
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffered = not stream.line_buffering and not stream.write_through
        encoding = stream.encoding
        errors = "backslashreplace"
        output = _Output(stream.detach(), encoding, errors, line_buffering=not buffered)
        setattr(sys, name, output)


def _finish(code: int) -> int:
    """The exit code where it ended with `code`: 1 where not all could be printed."""
    try:
        sys.stdout.flush()
    except OSError:
        pass
    failed = getattr(sys.stdout, "failed", None)
    if failed is None:
        return code
    if not isinstance(failed, BrokenPipeError):  # there the reader has enough
        print(f"bmsctl: output: {failed.strerror}", file=sys.stderr)
    return code or 1


def main() -> int:
    """Run one command; its exit code."""
    _streams()
    from .cli import main as command

    try:
        code = command()
    except SystemExit as end:  # of argparse
        code = end.code if isinstance(end.code, int) else 0
    except OSError as error:
        if error is not getattr(sys.stdout, "failed", None):
            raise
        code = 1
    _signal.signal(_signal.SIGINT, _leave)
    return _finish(code)


if __name__ == "__main__":
    sys.exit(main())
