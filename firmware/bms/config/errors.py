"""Errors whose text is shown to the user."""


class ConfigError(Exception):
    """A pack file is not valid: `line` (0 = the whole file), `key` ("" = none) and `reason`."""

    def __init__(self, line, key, reason):
        super().__init__(line, key, reason)
        self.line = line
        self.key = key
        self.reason = reason

    def __str__(self):
        where = "line %d: " % self.line if self.line else ""
        return where + (self.key + ": " if self.key else "") + self.reason
