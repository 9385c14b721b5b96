"""Whatever Daly boards or anybody else says on CAN: no exception, no wrong reading, none missed."""

from broadcast_system import Frame, System, junk, text
from hypothesis import given, settings
from hypothesis import strategies as st

from bms.links.can import EXTENDED
from extent import extent

NODES = (1, 16)
CELLS = 7
CELLS_ID = EXTENDED | 0x18954000
TEMPS_ID = EXTENDED | 0x18964000


def frame(node: int, k: int, mv: list[int]) -> Frame:
    """Frame k (from 0) of a board's cells, as boards number them."""
    return CELLS_ID | node, bytes([k + 1]) + b"".join(v.to_bytes(2, "big") for v in mv) + b"\0"


def system() -> System:
    s = System("daly", [(node, CELLS, 2) for node in NODES])
    s.driver.listen()
    for node in NODES:
        s.give(text(frame(node, 2, [3600, 0, 0])))
        s.give(text((TEMPS_ID | node, bytes([1, 65, 66, 0, 0, 0, 0, 0]))))
    s.old()
    return s


good = st.tuples(
    st.sampled_from(NODES),
    st.integers(0, 2),
    st.lists(st.integers(2900, 4150), min_size=3, max_size=3),
)
numbers = st.integers(0, 0x1FFFFFFF).filter(lambda x: x & 0x1F00FFE0 != 0x18004000)
strangers = st.tuples(
    numbers.map(lambda x: x | EXTENDED) | st.integers(0, 0x7FF), st.binary(max_size=8)
)
short = st.tuples(st.sampled_from([CELLS_ID | 1, TEMPS_ID | 16]), st.binary(max_size=7))


@settings(max_examples=extent(200, 800))
@given(st.lists(good | junk() | strangers | short, max_size=25), st.data())
def test_every_frame_is_found_and_nothing_else_is_read(pieces: list, data: st.DataObject) -> None:
    s = system()
    said: dict[int, int] = {}
    for piece in pieces:
        if isinstance(piece, bytes):
            out = piece
        elif len(piece) == 3:
            node, k, mv = piece
            out = text(frame(node, k, mv))
            for i, value in enumerate(mv):
                if 3 * k + i < CELLS:
                    said[CELLS * NODES.index(node) + 3 * k + i] = value
        else:
            out = text(piece)
        cut = data.draw(st.integers(0, len(out)))
        s.give(out[:cut])
        s.give(out[cut:])
    assert s.mv() == [said.get(i) for i in range(2 * CELLS)]
    assert s.dc() == [None] * 4


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFF), st.binary(max_size=8)), max_size=60))
def test_any_frames_give_only_what_they_say(frames: list[Frame]) -> None:
    s = system()
    said = set()
    for i, (low, data) in enumerate(frames):
        if i % 7 == 0:
            s.begin()
        s.give(text((EXTENDED | 0x18004000 | low & 0xFF001F, data)))
        s.pass_ms(20)
        if low >> 16 == 0x95 and len(data) == 8:
            for k in range(3):
                # frame n is the n-th or the one behind it, as boards number them
                for at in (3 * data[0] + k, 3 * data[0] + k - 3):
                    said.add((low & 0x1F, at, data[1 + 2 * k] << 8 | data[2 + 2 * k]))
        for i, mv in enumerate(s.mv()):
            assert mv is None or (NODES[i // CELLS], i % CELLS, mv) in said


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    s = system()
    s.give(data + b"\r")
    s.give(text(frame(16, 1, [3701, 3702, 3703])))
    assert s.mv()[CELLS + 3 : CELLS + 6] == [3701, 3702, 3703]
