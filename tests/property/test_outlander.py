"""Whatever Outlander modules or anybody else says: no exception, no wrong reading, none missed."""

from broadcast_system import Frame, System, junk, strangers, text
from hypothesis import given, settings
from hypothesis import strategies as st

from extent import extent

NODES = (1, 7)


def frame(node: int, k: int, values: list[int]) -> Frame:
    data = b"".join(value.to_bytes(2, "big") for value in values)
    return 0x600 + node * 16 + k, data


def system() -> System:
    s = System("outlander", [(node, 8, 3) for node in NODES])
    for _ in range(3):
        s.begin()
        for node in NODES:
            for k in (1, 2, 3):
                s.give(text(frame(node, k, [0x4E20 if k == 1 else 3600] * 4)))
    assert s.pack.all_known()
    s.old()
    return s


good = st.tuples(
    st.sampled_from(NODES),
    st.sampled_from((2, 3)),
    st.lists(st.integers(2900, 4150), min_size=4, max_size=4),
)
warm = st.lists(st.integers(15000, 25000), min_size=4, max_size=4)


@settings(max_examples=extent(200, 800))
@given(st.lists(good | junk() | strangers(range(0x610, 0x700)), max_size=25), st.data())
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
                said[8 * NODES.index(node) + 4 * (k - 2) + i] = value
        else:
            out = text(piece)
        cut = data.draw(st.integers(0, len(out)))
        s.give(out[:cut])
        s.give(out[cut:])
    assert s.mv() == [said.get(i) for i in range(16)]
    assert s.dc() == [None] * 6


@given(st.lists(st.tuples(st.integers(0x600, 0x6FF), st.binary(max_size=8)), max_size=60))
def test_any_frames_give_only_what_they_say(frames: list[Frame]) -> None:
    s = system()
    said = set()
    for i, (ident, data) in enumerate(frames):
        if i % 7 == 0:
            s.begin()
        s.give(text((ident, data)))
        s.pass_ms(20)
        said |= {data[j] << 8 | data[j + 1] for j in range(0, len(data) - 1, 2)}
        assert {mv for mv in s.mv() if mv is not None} <= said


@given(warm)
def test_temperatures_are_words(raw: list[int]) -> None:
    s = system()
    raw[0] &= 0xFF
    s.give(text(frame(1, 1, raw)))
    for dc, value in zip(s.dc(), raw[1:], strict=False):
        assert dc is not None and abs(dc / 10 - (0.0038 * value - 52)) <= 0.051


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    s = system()
    s.give(data + b"\r")
    s.give(text(frame(1, 2, [3701, 3702, 3703, 3704])))
    assert s.mv()[:4] == [3701, 3702, 3703, 3704]
