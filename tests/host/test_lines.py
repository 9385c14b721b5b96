"""The telemetry line: nothing but a whole, undamaged line is data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms.kernels.checksums import crc16 as firmware_crc16
from bmssim.lines import LONGEST, LineReader, crc16, encode, parse

STATUS = {"k": "status", "t_ms": 12345, "state": "open", "pack_mv": None, "cell_mv": [3300, None]}
EVENT = {"k": "event", "t_ms": 20001, "what": "set", "cell": 7, "value": 3651}

plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12)
objects = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("k", "t_ms", "crc")),
    plain | st.lists(plain, max_size=5),
    max_size=6,
).map(lambda rest: {"k": "status", "t_ms": 1, **rest})
garbage = st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"?"))


def checksummed(body: bytes) -> bytes:
    """A line of this body with the right checksum."""
    return body + b'"crc":"%04X"}\n' % crc16(body)


def test_crc_is_the_published_one_and_the_firmwares() -> None:
    data = b"123456789"
    assert crc16(data) == 0x29B1 == firmware_crc16(data, 0, len(data), 0xFFFF)


@given(objects)
def test_what_is_encoded_is_read_back(obj: dict) -> None:
    line = encode(obj)
    assert line.startswith(b'{"k":"status","t_ms":1,') and line.count(b"\n") == 1
    read = parse(line)
    assert read is not None and list(read)[-1] == "crc"
    del read["crc"]
    assert read == obj


@given(st.lists(st.tuples(garbage, objects)), st.data())
def test_good_lines_come_out_of_garbage_however_it_is_cut(pairs: list, data: st.DataObject) -> None:
    good = [encode(obj) for _, obj in pairs]
    stream = b"".join(junk + b"\n" + line for (junk, _), line in zip(pairs, good, strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader = LineReader()
    lines = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        lines += reader.feed(stream[start:end])
    assert [line.raw + b"\n" for line in lines if line.kind == "data"] == good
    assert reader.data == len(good)
    assert reader.text + reader.damaged == len(lines) - len(good)
    assert reader.end() is None


def test_a_byte_at_a_time_is_the_same() -> None:
    stream = b"hello\n" + encode(STATUS) + b'{"k":"sta\n\n\r\n' + encode(EVENT) + b"\x00\xff{\n"
    reader = LineReader()
    slow = [line for i in range(len(stream)) for line in reader.feed(stream[i : i + 1])]
    assert slow == LineReader().feed(stream)
    assert [line.kind for line in slow] == ["text", "data", "damaged", "data", "text"]


def test_a_truncated_line_joined_with_the_next_is_damaged() -> None:
    first, second = encode(STATUS), encode(EVENT)
    for cut in range(1, len(first)):
        (line,) = LineReader().feed(first[:cut] + second)
        assert line.kind == "damaged" and line.obj is None


def test_a_line_that_lost_its_front_is_damaged() -> None:
    first, second = encode(STATUS), encode(EVENT)
    for cut in range(1, len(second) - 1):
        lines = LineReader().feed(first + second[cut:])
        assert lines[1].obj is None
        assert lines[1].kind == ("damaged" if cut < second.index(b',"crc"') + 1 else "text")


def test_joining_in_the_middle_of_a_line_is_no_damage() -> None:
    reader = LineReader()
    assert [line.kind for line in reader.feed(encode(STATUS)[9:] + encode(EVENT))] == [
        "text",
        "data",
    ]


@given(objects, st.data())
def test_no_changed_byte_passes(obj: dict, data: st.DataObject) -> None:
    line = bytearray(encode(obj))
    line[data.draw(st.integers(0, len(line) - 2))] ^= data.draw(st.integers(1, 255))
    assert all(found.obj is None for found in LineReader().feed(bytes(line)))


@pytest.mark.parametrize(
    "body",
    [
        b'{"k":"status","t_ms":1,"a":1,"a":2,',
        b'{"k":"status","t_ms":1,"k":"event",',
        b'{"k":"status","t_ms":1,"a":NaN,',
        b'{"k":"status","t_ms":1,"a":-Infinity,',
        b'{"k":"status","t_ms":1,"a":1e999,',
        b'{"k":"status","t_ms":1,"a":{"b":1},',
        b'{"k":"status","t_ms":1,"a":[[1]],',
        b'{"k":"status","t_ms":1,"a":' + b"[" * 3000 + b"]" * 900 + b",",
        b'{"k":"status","t_ms":1,"a":"\xff",',
        b'{"k":"status","t_ms":1,"a":' + b"9" * 4000 + b"},",
        b'{"k":"status","t_ms":1.5,',
        b'{"k":"status","t_ms":-1,',
        b'{"k":"status","t_ms":true,',
        b'{"k":"status","t_ms":null,',
        b'{"k":7,"t_ms":1,',
        b'{"t_ms":1,"k":"status",',
        b'{"k":"status",',
        b'{"k":"status","t_ms":1,,',
        b'{"k":"status","t_ms":1,"a":1',
    ],
)
def test_a_right_checksum_alone_makes_no_data(body: bytes) -> None:
    reader = LineReader()
    (line,) = reader.feed(checksummed(body))
    assert line.kind == "damaged" and reader.damaged == 1


def test_what_no_reader_would_take_is_not_encoded() -> None:
    for obj in ({"t_ms": 1}, {**STATUS, "a": float("nan")}, {**STATUS, "a": {"b": 1}}):
        with pytest.raises(ValueError):
            encode(obj)


def test_a_checksum_in_lower_case_or_with_blanks_is_refused() -> None:
    line = next(x for i in range(99) if (x := encode({"k": "a", "t_ms": i}))[-4:-3].isalpha())
    assert parse(line[:-7] + line[-7:].lower()) is None
    body = b'{"k": "status", "t_ms": 1, '
    assert parse(checksummed(body)) is None  # the comma stands before the checksum, nothing between


def test_carriage_returns_of_a_terminal_are_no_damage() -> None:
    line = encode(STATUS)[:-1] + b"\r\n"
    (read,) = LineReader().feed(line)
    assert read.kind == "data" and read.raw == line[:-1]


@pytest.mark.parametrize("step", [1, 100, LONGEST, 10**6])
def test_a_line_without_end_is_bounded_and_the_next_one_read(step: int) -> None:
    reader = LineReader()
    stream = b"{" * (3 * LONGEST) + b"\n" + encode(STATUS)
    lines = []
    for i in range(0, len(stream), step):
        lines += reader.feed(stream[i : i + step])
    assert [line.kind for line in lines] == ["damaged", "data"]
    assert len(lines[0].raw) == LONGEST
    assert reader.dropped_bytes == 2 * LONGEST + 1 and reader.damaged == 1


def test_what_is_left_at_the_end_is_damaged_once() -> None:
    reader = LineReader()
    reader.feed(encode(STATUS)[:20])
    left = reader.end()
    assert left is not None and left.kind == "damaged" and left.raw == encode(STATUS)[:20]
    assert reader.end() is None
    assert reader.feed(encode(EVENT))[0].kind == "data"


def test_the_firmwares_own_line_is_data() -> None:
    from bms.console.tx_buffer import TxBuffer

    class Uptime:
        uptime_s, uptime_ms = 12, 34

    class Port:
        data = b""

        def write(self, buf: bytearray, start: int, n: int) -> int:
            self.data += buf[start : start + n]
            return n

    port = Port()
    out = TxBuffer(port, Uptime())
    assert out.begin(b"status")
    out.number(b"pack_mv", 52800)
    out.number(b"link_mv", None)
    out.end()
    out.flush()
    (line,) = LineReader().feed(port.data)
    assert line.obj is not None
    assert json.loads(port.data) == line.obj
    assert line.obj["t_ms"] == 12034 and line.obj["pack_mv"] == 52800
