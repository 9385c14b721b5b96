"""`bmsctl decode jk_can`: the document's example, and what is broken."""

from pathlib import Path

from terminal import Tool

from bmsctl.decoders.base import Capture
from bmsctl.decoders.jk_can import decode

# four cells as in the vendor's document; status: 49.2 V, 0 A, 51 %
CELLS = b"T18E028F48AD0EAB0EA30EA60E\r"
STATUS = b"t2F48EC01A00F33000000\r"


def test_the_document_s_examples() -> None:
    got = decode(Capture(CELLS + STATUS, can=True)).as_json()
    assert got["ok"] and got["boards"] == [1]
    assert got["cells_mv"] == [3757, 3755, 3747, 3750]
    assert (got["current_ma"], got["soc_pm"]) == (0, 510)


def test_split_and_broken() -> None:
    assert decode(Capture(CELLS[:-1], can=True)).error == "truncated"
    assert decode(Capture(CELLS[:9] + CELLS[10:], can=True)).error is not None
    assert "wrong responder" in str(decode(Capture(CELLS, can=True, node=2)).error)


def test_candump(bmsctl: Tool, tmp_path: Path) -> None:
    log = tmp_path / "candump.log"
    log.write_text("(1.0) can0 18E028F4#AD0EAB0EA30EA60E\n(1.1) can0 2F4#EC01A00F33000000\n")
    code, out, err = bmsctl.run("decode", "jk_can", log)
    assert code == 0, err
    assert "3757 3755 3747 3750" in out


def test_the_voltage_shows_without_temperatures() -> None:
    assert decode(Capture(CELLS + STATUS, can=True)).values["pack_mv"] == 49200
    assert decode(Capture(CELLS, can=True)).values["pack_mv"] is None


def test_frames_of_others_on_the_bus_are_no_error() -> None:
    for node in (None, 1):
        got = decode(Capture(CELLS + b"t1230\rT18FF50E50\r" + STATUS, can=True, node=node))
        assert got.error is None
        assert got.notes == ["2 times: an identifier that jk_can does not have: 123, 18FF50E5"]


def test_frames_that_the_driver_does_not_need() -> None:
    # as the vendor's document has them: 30.0 of 40.0 Ah, 100 cycles; 22, 21, 30 degC of sensors 1-3
    more = b"T18F128F482C019001E8030064\rT18F228F46074847 50FFFF\rT18F528F4107\rt7F4403002000\r"
    values = decode(Capture(CELLS + STATUS + more.replace(b" ", b""), can=True)).values
    assert values["remaining_mah"] == 30_000 and values["nominal_mah"] == 40_000
    assert values["sensors_dc"] == [220, 210, 300, None, None]
    assert values["fets"] == 3 and values["balance"] == 1
    assert values["alarms"] == ["cell_overvoltage", "soc_low"]
    cycles = b"T18F128F482C019001E8036400\r"
    assert decode(Capture(CELLS + cycles, can=True)).values["cycles"] == 100
