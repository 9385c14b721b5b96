"""Lines leave whole or not at all, each with its CRC."""

from bms.clock import Clock
from bms.console.tx_buffer import TxBuffer
from fakes import FakeClock, FakeStream, checked


def _tx_buffer(room=1 << 20):
    hal = FakeClock()
    clock = Clock(hal)
    stream = FakeStream(room)
    return TxBuffer(stream, clock), stream, hal, clock


def _line(out, number=0, fill=0):
    if not out.begin(b"x"):
        return False
    out.number(b"n", number)
    out.text(b"fill", b"-" * fill)
    out.end()
    return True


def test_the_form_of_a_line():
    out, stream, hal, clock = _tx_buffer()
    hal.pass_ms(12045)
    clock.tick()
    assert out.begin(b"status")
    out.number(b"pack_mv", -211200)
    out.number(b"none", None)
    out.text(b"state", b"open")
    out.key(b"ok")
    out.raw(b"true")
    out.end()
    out.flush()
    line = stream.took()
    start = b'{"k":"status","t_ms":12045,"pack_mv":-211200,"none":null,"state":"open","ok":true,'
    assert line[: len(start)] == start
    assert line[len(start) :][:7] == b'"crc":"'
    assert line[-3:] == b'"}\n'
    fields = checked(line[:-1])
    assert fields["pack_mv"] == -211200
    assert fields["none"] is None
    assert out.lines == 1


def test_uptime_has_no_end():
    out, stream, hal, clock = _tx_buffer()
    total = 0
    for ms in (0, 7, 93, 900, 5, 60000, 86400000, 1 << 27):
        hal.pass_ms(ms)
        clock.tick()
        total += ms
        _line(out)
        out.flush()
        assert checked(stream.took()[:-1])["t_ms"] == total
    for _ in range(20):
        hal.pass_ms(1 << 27)
        clock.tick()
        total += 1 << 27
    _line(out)
    out.flush()
    assert checked(stream.took()[:-1])["t_ms"] == total > 1 << 31


def test_nothing_leaves_before_its_end():
    out, stream, _, _ = _tx_buffer()
    out.begin(b"x")
    out.number(b"n", 1)
    out.flush()
    assert stream.took() == b""
    out.end()
    out.flush()
    checked(stream.took()[:-1])


def test_a_line_is_not_torn_by_flushes_between_its_pieces():
    out, stream, _, _ = _tx_buffer()
    text = b""
    for i in range(50):
        out.begin(b"x")
        out.flush()
        text += stream.took()
        out.number(b"n", i)
        out.flush()
        text += stream.took()
        out.end()
        if i % 3:
            out.flush()
            text += stream.took()
    out.flush()
    text += stream.took()
    lines = text.split(b"\n")
    assert lines[-1] == b""
    assert [checked(x)["n"] for x in lines[:-1]] == list(range(50))


def test_crumbs():
    out, stream, _, _ = _tx_buffer()
    text = b""
    n = 0
    for i in range(400):
        if i % 4 == 0 and _line(out, n, 30):
            n += 1
        stream.room = i % 37
        out.flush()
        text += stream.took()
    stream.room = 1 << 20
    out.flush()
    text += stream.took()
    lines = text.split(b"\n")
    assert lines[-1] == b""
    assert [checked(x)["n"] for x in lines[:-1]] == list(range(n))
    assert n == 100
    assert out.dropped == 0


def test_what_nobody_reads_is_dropped_whole_and_counted():
    out, stream, _, _ = _tx_buffer(room=100)
    taken = [i for i in range(300) if _line(out, i, 50)]
    out.flush()
    assert 10 < len(taken) < 100
    assert taken == list(range(len(taken)))  # the first ones
    assert out.dropped == 300 - len(taken)
    # the port took a few bytes: there may be room for one more
    for i in range(300, 600):
        if _line(out, i, 50):
            taken.append(i)
        out.flush()
    assert out.dropped == 600 - len(taken)
    assert len(taken) < 100
    # somebody reads again: the oldest lines, whole, then new ones
    text = b""
    for _ in range(100):
        text += stream.took()
        out.flush()
    stream.room = 1 << 20
    assert _line(out, 1000)
    out.flush()
    text += stream.took()
    lines = text.split(b"\n")
    assert lines[-1] == b""
    assert [checked(x)["n"] for x in lines[:-1]] == taken + [1000]


def test_the_longest_line_has_room():
    out, stream, _, _ = _tx_buffer()
    for i in range(20):
        assert out.begin(b"cells")
        for k in range(48):
            out.number(b"k", -1000 - k)
        out.end()
        assert out._at <= len(out._buf)
        out.flush()
        assert checked(stream.took()[:-1])["k"] == -1047  # the last one of a name counts
