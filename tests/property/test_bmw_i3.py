"""Whatever i3 modules or anybody else says: no exception, no wrong reading, none missed."""

from broadcast_system import Frame, System, junk, strangers, text
from hypothesis import given, settings
from hypothesis import strategies as st

from extent import extent

NODES = (1, 4)


def frame(node: int, k: int, mv: list[int]) -> Frame:
    data = b"".join(value.to_bytes(2, "little") for value in mv)
    return 0x120 + 16 * k | node - 1, data + bytes(2)


def system() -> System:
    s = System("bmw_i3", [(node, 12, 4) for node in NODES])
    for _ in range(3):
        s.begin()
        for node in NODES:
            s.pass_ms(51)
            s.give(text((0x100 | node - 1, bytes(8))))
            for k in range(4):
                s.give(text(frame(node, k, [3600] * 3)))
            s.give(text((0x170 | node - 1, bytes([65] * 4 + [0] * 4))))
    assert s.pack.all_known()
    s.begin()
    s.pass_ms(51)
    s.pass_ms(51)
    s.old()
    return s


# as one module measures: what differs more in answers to one poll is a conflict
level = st.integers(2900, 4100)
good = st.tuples(
    st.sampled_from(NODES), st.integers(0, 3), st.lists(st.integers(0, 20), min_size=3, max_size=3)
)


@settings(max_examples=extent(200, 800))
@given(level, st.lists(good | junk() | strangers(range(0x100, 0x180)), max_size=25), st.data())
def test_every_frame_is_found_and_nothing_else_is_read(
    level: int, pieces: list, data: st.DataObject
) -> None:
    s = system()
    said: dict[int, int] = {}
    for piece in pieces:
        if isinstance(piece, bytes):
            out = piece
        elif len(piece) == 3:
            node, k, more = piece
            mv = [level + value for value in more]
            out = text(frame(node, k, mv))
            for i, value in enumerate(mv):
                said[12 * NODES.index(node) + 3 * k + i] = value
        else:
            out = text(piece)
        cut = data.draw(st.integers(0, len(out)))
        s.give(out[:cut])
        s.give(out[cut:])
    assert s.mv() == [said.get(i) for i in range(24)]


@given(st.lists(st.tuples(st.integers(0x100, 0x17F), st.binary(max_size=8)), max_size=60))
def test_any_frames_give_only_what_they_say(frames: list[Frame]) -> None:
    s = system()
    said, warm = set(), set()
    for i, (ident, data) in enumerate(frames):
        if i % 7 == 0:
            s.begin()
        s.give(text((ident, data)))
        s.pass_ms(20)
        said |= {data[j] | data[j + 1] << 8 for j in range(0, len(data) - 1, 2)}
        warm |= {10 * (value - 40) for value in data}
        assert {mv for mv in s.mv() if mv is not None} <= said
        assert {dc for dc in s.dc() if dc is not None} <= warm


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    s = system()
    s.give(data + b"\r")
    s.give(text(frame(1, 2, [3701, 3702, 3703])))
    assert s.mv()[6:9] == [3701, 3702, 3703]
