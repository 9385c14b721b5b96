"""Checks for words that the project does not use: `python checks/words.py [FOLDER]`.

The words stand in docs/terms.md: the column "not" of its tables. `word` in code type is banned as a
name only (an identifier in .py, code type in .md, a key in .toml, a part of a file's name), a word
in plain type everywhere. In both cases its forms with -s, -ed and -ing count as well. A word in
capitals is banned in capitals only. Prints file:line: word, and the word to use instead; exits with
1 where there is one.
"""

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# the history, and the list itself
EXEMPT = ("CHANGELOG.md", "docs/terms.md", "tests/host/test_checks.py")
KINDS = (".md", ".py", ".toml")


@dataclass(frozen=True)
class Word:
    """A banned word; name: only as a name; folder: only in files there ("": everywhere)."""

    old: str
    use: str
    name: bool
    folder: str

    def pattern(self) -> re.Pattern[str]:
        """Matches it between letters of other words; CamelCase was split before."""
        forms = re.escape(self.old).replace(r"\ ", r"[ _]")
        if self.old.isupper():
            return re.compile(rf"(?<![A-Za-z_]){forms}(?![A-Za-z_])")
        ending = "(?:s|d|ed|ing)?" if self.old[-1].isalpha() else ""
        return re.compile(rf"(?<![A-Za-z]){forms}{ending}(?![A-Za-z])", re.IGNORECASE)

    def allowed(self) -> re.Pattern[str] | None:
        """Matches the term to use where the banned word is a part of it: frame router."""
        if not self.pattern().search(self.use):
            return None
        flags = 0 if self.old.isupper() else re.IGNORECASE
        return re.compile(re.escape(self.use).replace(r"\ ", r"[ _]"), flags)


def words(page: str) -> list[Word]:
    """The banned words of a page of terms: rows `| term | meaning | not |`."""
    out = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("| ") or len(cells) != 3 or cells[2] in ("not", "---", ""):
            continue
        use = cells[0].replace("`", "")
        for entry in cells[2].split(","):
            found = re.fullmatch(r"(`?)([^`(]+?)\1(?: \(in ([^)]+)\))?", entry.strip())
            if found is None:
                raise ValueError(f"docs/terms.md: can't read {entry.strip()!r}")
            out.append(Word(found[2], use, found[1] == "`", found[3] or ""))
    return out


def _split_camel(text: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)


def _names(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of everything that is a name in a file."""
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string
        return
    form = r"`([^`\n]+)`" if path.suffix == ".md" else r"^\s*\[*([A-Za-z_.\-]+)\]*\s*(?:=|$)"
    for n, line in enumerate(text.splitlines(), 1):
        for found in re.findall(form, line):
            yield n, found


def check(path: Path, shown: str, banned: list[Word]) -> Iterator[tuple[int, Word, str]]:
    """(line, word, what stands there) of one file; line 0: its name."""
    text = path.read_text(encoding="utf-8")
    lines = [_split_camel(line) for line in text.splitlines()]
    names = [(n, _split_camel(name)) for n, name in _names(path, text)]
    names.append((0, _split_camel(shown.rsplit("/", 1)[-1].rsplit(".", 1)[0])))
    for word in banned:
        if not shown.startswith(word.folder):
            continue
        pattern, allowed = word.pattern(), word.allowed()
        where = names if word.name else [*enumerate(lines, 1), names[-1]]
        last = -1
        for n, piece in where:
            found = pattern.search(allowed.sub(" ", piece) if allowed else piece)
            if found and n != last:
                last = n
                yield n, word, found[0]


def tracked(root: Path) -> list[str]:
    """Paths of the files that are read: those that git knows, or in a copy without git all."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    names = done.stdout.splitlines()
    if done.returncode:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*")]
        names = [n for n in names if not n.startswith(".") and not n.startswith("typings/")]
    names = [name for name in names if name.endswith(KINDS) and name not in EXEMPT]
    return sorted(name for name in names if (root / name).is_file())


def main(argv: list[str] | None = None) -> int:
    """0 where no banned word stands in a file."""
    parser = argparse.ArgumentParser(description="Check words against docs/terms.md.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1])
    args = parser.parse_args(argv)
    banned = words((args.folder / "docs" / "terms.md").read_text(encoding="utf-8"))
    failed = 0
    for shown in tracked(args.folder):
        for line, word, found in check(args.folder / shown, shown, banned):
            failed += 1
            print(f"{shown}:{line}: {found}: use {word.use}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
