"""Text of a master or a file, safe for a terminal."""


def plain(text: str) -> str:
    """A text without what a terminal would obey: control characters are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
