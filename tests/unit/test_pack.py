"""How old readings may get where ports have ages of their own."""

from bms.config import pack_file
from bms.pack import FRESH, SEEN, Pack
from fakes import pack_lines

PORT = '[[slave]]; kind = "cell_link"; link = "uart0"; cells = 4; temps = 2; [[link]]; '


def fresh_after(key, ms):
    """Fresh cells and temperatures of two slaves, all read at 0; the second one's `key` is 5 s."""
    behind = PORT + 'port = "uart0"; %s = "5 s"' % key
    limits = 'cell_age = "1 s"; temp_age = "1 s"'
    pack = Pack(pack_file.parse(pack_lines(pack="cells = 8", limits=limits, behind=behind)))
    for flags in (pack.cell_flags, pack.temp_flags):
        for i in range(len(flags)):
            flags[i] = FRESH | SEEN
    pack.expire(ms)
    pack.expire(ms)
    return [[f & FRESH for f in flags] for flags in (pack.cell_flags, pack.temp_flags)]


def test_an_age_of_cells_alone_is_the_ports_own():
    assert fresh_after("cell_age", 1000) == [[1] * 8, [1] * 4]
    assert fresh_after("cell_age", 1001) == [[0] * 4 + [1] * 4, [0] * 4]
    assert fresh_after("cell_age", 5001) == [[0] * 8, [0] * 4]


def test_an_age_of_temperatures_alone_is_the_ports_own():
    assert fresh_after("temp_age", 1000) == [[1] * 8, [1] * 4]
    assert fresh_after("temp_age", 1001) == [[0] * 8, [0, 0, 1, 1]]
    assert fresh_after("temp_age", 5001) == [[0] * 8, [0] * 4]
