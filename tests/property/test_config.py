"""The pack-file reader: nothing but ConfigError on any text, and TOML where it accepts."""

import contextlib
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from bms import config
from bmssim import scenario
from bmssim.world import Setup

GOOD = scenario.pack_text(Setup(), {})
LINES = GOOD.splitlines()
QUANTITY = st.one_of(
    st.integers(0, 9999).map(lambda n: f"{n} mV"),
    st.integers(0, 9999).map(lambda n: f"{n / 1000:.3f} V"),
    st.sampled_from(["3.65 A", "3650", "", "-1 mV", "1e3 mV", "3,65 V", "99999999999 mV"]),
)


@given(st.text(max_size=300))
def test_any_text_is_refused_in_words(text: str) -> None:
    with contextlib.suppress(config.ConfigError):
        config.parse(text.split("\n"))


@given(st.integers(0, len(LINES) - 1), st.text(max_size=30))
def test_a_good_file_with_one_line_spoilt_is_refused_or_means_what_toml_says(
    at: int, line: str
) -> None:
    lines = [*LINES[:at], line, *LINES[at + 1 :]]
    try:
        parsed = config.parse(lines)
    except config.ConfigError:
        return
    raw = tomllib.loads("\n".join(lines))
    assert parsed.name == raw["pack"]["name"]
    assert parsed.cells == raw["pack"]["cells"]
    assert sum(s.cells for s in parsed.slaves) == parsed.cells


@given(QUANTITY)
def test_a_bound_is_what_the_file_says_or_refused(text: str) -> None:
    lines = [*LINES, "[limits]", f'cell_warn_max = "{text}"']
    try:
        mv = config.parse(lines).cell_warn_max_mv
    except config.ConfigError as error:
        assert error.key in ("cell_warn_max", "cell_warn_min", "cell_max")
        assert error.line == len(lines)
        return
    number, unit = text.split()
    assert mv == round(float(number) * (1000 if unit == "V" else 1))
    assert 2800 < mv < 3650
