"""What the command line reports as one line and exit code 1, without a traceback."""


class ToolError(Exception):
    """A failure with a known cause; its text is one line that says what to do about it."""
