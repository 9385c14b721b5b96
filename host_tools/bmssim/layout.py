"""Which simulated board stands where: string, port, node, cells, in the order of the pack file."""

from dataclasses import dataclass

from .boards.kinds import KINDS
from .setup import Setup

MOST_PORTS = 7  # of the board HOST


@dataclass(frozen=True)
class Group:
    """Boards of one kind that stand in series in each string."""

    kind: str
    slaves: int
    cells: int
    temps: int


@dataclass(frozen=True)
class Place:
    """One board; string from 0, first: its first cell in the pack, from 0."""

    kind: str
    medium: str
    port: str
    node: int
    string: int
    cells: int
    temps: int
    first: int


def groups(setup: Setup) -> list[Group]:
    """What stands in each string. Raises ValueError for a kind or keys that aren't there."""
    out = [Group(setup.kind, setup.slaves, setup.cells, setup.temps)]
    for more in setup.more:
        try:
            out.append(Group(**more))
        except TypeError as error:
            raise ValueError(f"[[setup.more]] {more}: {error}") from None
    for group in out:
        if group.kind not in KINDS:
            raise ValueError(f"no kind {group.kind}; there are: {' '.join(KINDS)}")
        kind = KINDS[group.kind]
        if group.cells > kind.cells or group.temps > kind.temps:
            raise ValueError(
                f"{group.kind} has at most {kind.cells} cells and {kind.temps} temperatures a board"
            )
    return out


def fit(setup: Setup, kind: str, link: str | None = None) -> None:
    """Make the boards of a setup ones of `kind`, as many and as large as they may be.

    link: what they are wired by, None = as the kind usually is. Raises ValueError where it can't.
    """
    known = KINDS[kind]
    if link is not None and link not in known.media:
        raise ValueError(f"{kind} speaks over {' or '.join(known.media)}, not {link}")
    setup.kind = kind
    setup.more = []
    setup.cells = min(setup.cells, known.cells)
    setup.temps = min(setup.temps, known.temps)
    setup.slaves = min(setup.slaves, known.few)
    if known.most == 1:
        setup.slaves = min(setup.slaves, MOST_PORTS // setup.strings)
    setup.link = link or known.media[0]


def places(setup: Setup) -> list[Place]:
    """Every board of the pack."""
    names = {"can": 0, "uart": 0}
    ports: dict[int, tuple[str, int]] = {}  # group -> port in use, boards on it
    out: list[Place] = []
    first = 0
    for string in range(setup.strings):
        for g, group in enumerate(groups(setup)):
            kind = KINDS[group.kind]
            medium = setup.link if setup.link in kind.media else kind.media[0]
            for _ in range(group.slaves):
                port, used = ports.get(g, ("", kind.most))
                if used == kind.most:
                    port, used = f"{medium}{names[medium]}", 0
                    names[medium] += 1
                ports[g] = (port, used + 1)
                node = kind.first + used
                out.append(
                    Place(group.kind, medium, port, node, string, group.cells, group.temps, first)
                )
                first += group.cells
    return out
