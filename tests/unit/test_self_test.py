"""The self-test: it says which kernel is wrong, and loads none that the pack doesn't use."""

import sys

from bms import self_test
from bms.kernels import cell_link

_CELL_LINK = "bms.kernels.cell_link"


class _Board:
    def self_test(self):
        return b"running"


def _said_with_a_wrong(module, name):
    honest = getattr(module, name)
    setattr(module, name, lambda *args: 0)
    try:
        return self_test.run(_Board())
    finally:
        setattr(module, name, honest)


def test_the_result_is_the_boards_where_the_kernels_are_right():
    assert self_test.run(_Board()) == b"running"


def test_a_wrong_kernel_is_found():
    assert _said_with_a_wrong(self_test, "crc16") == b"CRC-16"
    assert _said_with_a_wrong(self_test, "crc8_frame") == b"CRC-8"
    assert _said_with_a_wrong(self_test, "extremes") == b"readings"
    assert _said_with_a_wrong(cell_link, "take13") == b"readings"


def test_a_kernel_that_no_driver_has_loaded_is_not_tested():
    kept = sys.modules.pop(_CELL_LINK)
    try:
        assert _said_with_a_wrong(cell_link, "take13") == b"running"
        assert _CELL_LINK not in sys.modules
    finally:
        sys.modules[_CELL_LINK] = kept
