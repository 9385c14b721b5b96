"""Markdown, as the generated pages need it."""


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table, and an empty one after it."""
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    out += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*out, ""]
