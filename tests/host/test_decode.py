"""`bmsctl decode`: captured frames come out as their notes say; anything broken is refused."""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Tool

from bms.links.can import BITS, EXTENDED
from bmsctl.commands import decode
from bmsctl.decoders import cell_link, decoder, jbd
from bmsctl.decoders.base import (
    Capture,
    Decoded,
    Shape,
    Stream,
    apart,
    driver_class,
    driver_of,
)
from bmsctl.errors import ToolError
from bmssim import protocol as p
from bmssim.boards.kinds import KINDS
from bmssim.bus import Noise, UartBus
from bmssim.events import Events
from bmssim.slcan import from_line, to_line
from extent import HANG_S

FRAMES = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text())


def decode_jbd(data: bytes, register: int | None = None) -> Decoded:
    return jbd.decode(Capture(data, register=register))


def decode_cell_link(data: bytes, can: bool, node: int | None = None) -> Decoded:
    return cell_link.decode(Capture(data, can=can, node=node))


def frame(name: str) -> bytes:
    return bytes.fromhex(FRAMES[name]["hex"])


BASIC, CELLS = frame("jbd_03_rsp"), frame("jbd_04_rsp")


def test_cells_as_noted() -> None:
    got = decode_jbd(CELLS).as_json()
    assert got["ok"] is True
    assert got["cells_mv"] == [3875, 3868, 3858, 3869]


def test_basic_as_noted() -> None:
    # 15.47V 0A 4.93/5.00Ah prot 0x1000 fw8.0 soc99 fet2 4S 3NTC 24.5/24.2/23.7C
    got = decode_jbd(BASIC).as_json()
    assert (got["ok"], got["pack_mv"], got["current_ma"], got["soc_pm"]) == (True, 15470, 0, 990)
    assert (got["remaining_mah"], got["nominal_mah"], got["fets"]) == (4930, 5000, 2)
    assert got["temps_dc"] == [245, 242, 237]
    assert (got["protection"], got["alarms"], got["version"]) == (0x1000, ["fet_lock"], "8.0")


def test_name_and_acknowledgement_as_noted() -> None:
    assert decode_jbd(frame("jbd_05_rsp")).values["name"] == "0123456789"
    assert decode_jbd(frame("jbd_mos_ack")).error is None
    assert decode_jbd(frame("jbd_mos_chg_off")).error == "only requests in it"


def test_both_replies_in_one_capture_with_the_requests_received() -> None:
    capture = bytes.fromhex("dda50400fffc77") + CELLS + bytes.fromhex("dda50300fffd77") + BASIC
    got = decode_jbd(capture).as_json()
    assert got["ok"] is True
    assert got["cells_mv"] == [3875, 3868, 3858, 3869]
    assert got["pack_mv"] == 15470
    assert got["frames"]["echoes"] == 2


@pytest.mark.parametrize("data", [CELLS, BASIC])
def test_truncated_at_every_byte_is_refused(data: bytes) -> None:
    for n in range(1, len(data)):
        got = decode_jbd(data[:n])
        assert got.error == "truncated", n
        assert got.values["cells_mv"] == []


@pytest.mark.parametrize("data", [CELLS, BASIC])
def test_any_flipped_bit_is_refused(data: bytes) -> None:
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 0x80 >> bit % 8
        got = decode_jbd(bytes(broken), data[1])
        assert got.error is not None, bit
        assert not any(got.values["cells_mv"]), bit


def test_reasons() -> None:
    assert decode_jbd(CELLS[:-2] + b"\x00\x77").error == "wrong checksum"
    assert decode_jbd(CELLS[:-1] + b"\x78").error == "no end byte 77"
    assert "wrong responder" in str(decode_jbd(CELLS, 3).error)
    assert decode_jbd(bytes.fromhex("dd048000ff8077")).error == "the board refused: no such command"
    assert "no reply" in str(decode_jbd(b"hello").error)


def test_a_longer_reply_than_documented_is_taken() -> None:
    body = bytes([0, len(BASIC) - 7 + 4]) + BASIC[4:-3] + b"\x01\x02\x03\x04"
    check = (0x10000 - sum(body)) & 0xFFFF
    longer = b"\xdd\x03" + body + check.to_bytes(2, "big") + b"\x77"
    assert decode_jbd(longer).as_json()["temps_dc"] == [245, 242, 237]


def test_a_name_whose_register_is_damaged_is_no_cells() -> None:
    # of no check is the register a part
    name = frame("jbd_05_rsp")
    odd = bytes.fromhex("dd0500144c482d53503135533030312d503133532d333041fb3977")
    for reply in (name, odd):
        for bit in range(8):
            register = reply[1] ^ 1 << bit
            got = decode_jbd(reply[:1] + bytes([register]) + reply[2:])
            assert not any(got.values["cells_mv"]) and not got.values["temps_dc"], register
            if register == 4:
                assert got.error is not None and got.values["boards"] == []


def answers_of(kind: str, cells: int) -> bytes:
    """What a simulated board of so many cells answers to a scan of its driver."""
    known = KINDS[kind]
    rng = np.random.default_rng(1)
    events = Events()
    bus = UartBus(events, known.bps["uart"], Noise(rng))
    measure = lambda: (np.full(cells, 3.3), np.array([25.0, 25.0]))  # noqa: E731
    board = known.make(events, bus, known.first, cells, 2, measure, rng, 0.0)
    stream = Stream()
    link = driver_class(kind).frame(stream)
    driver, _pack = driver_of(kind, link, [Shape(known.first, 1, 2)])
    out = b""
    for step in range(driver.steps(0)):
        stream.sent = b""
        driver.send_poll(0, step)
        request, _used = board.request(stream.sent)
        out += board.answer(request) or b""
    return out


@pytest.mark.parametrize("kind", ["jbd", "jbd_up", "jk_ttl", "daly"])
def test_more_cells_than_the_driver_can_read_are_said(kind: str) -> None:
    got = decoder(kind).decode(Capture(answers_of(kind, 33)))
    assert "33 cells" in str(got.error) and "32 at most" in str(got.error)
    got = decoder(kind).decode(Capture(answers_of(kind, 32)))
    assert got.error is None and len(got.values["cells_mv"]) == 32


@pytest.mark.parametrize("kind", ["jbd", "jbd_up", "jk_ttl", "daly"])
def test_a_frame_lost_between_others_is_no_silence(kind: str) -> None:
    whole = answers_of(kind, 4)
    broken = bytes([whole[0] ^ 0x40]) + whole[1:]  # nothing begins there any more
    assert decoder(kind).decode(Capture(whole + broken + whole)).error is not None
    assert decoder(kind).decode(Capture(b"\x01" + whole + whole)).error is None


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(CELLS), st.just(b"\xdd\x04\x00\xff"))))
def test_hidden_replies_are_all_found_and_nothing_else(parts: list[bytes]) -> None:
    got = decode_jbd(b"".join(parts), 4)
    hidden = parts.count(CELLS)
    assert got.frames["good"] == hidden
    assert got.values["cells_mv"] == ([3875, 3868, 3858, 3869] if hidden else [])


def cell_frames(node: int, seq: int = 5) -> list[p.Frame]:
    return [
        p.cells_frame(node, 0, [3301, 3302, 3303, 3304], seq),
        p.cells_frame(node, 1, [3305, None], seq),
        p.temps_frame(node, 0, [251, -55], seq),
        p.status_frame(node, 16_520, 0x0100, 30, 0, seq),
    ]


def test_cell_link_from_uart_bytes() -> None:
    got = decode_cell_link(b"".join(p.uart_encode(f) for f in cell_frames(3)), can=False)
    values = got.as_json()
    assert values["error"] is None
    assert values["cells_mv"] == [3301, 3302, 3303, 3304, 3305]
    assert values["temps_dc"] == [251, -55]
    assert values["pack_mv"] == 16_520
    assert values["alarms"] == ["bit_8"]


def text_of(frames: list[p.Frame], form: str) -> str:
    """CAN frames as slcan, candump or candump -L writes them; candump1: with one space."""
    lines = []
    for f in frames:
        wide = f.ident & EXTENDED
        ident = f"{f.ident & BITS:08X}" if wide else f"{f.ident:03X}"
        if form == "slcan":
            lines.append(f"{'T' if wide else 't'}{ident}{len(f.data)}{f.data.hex().upper()}")
        elif form == "log":
            lines.append(f"(1700000000.123456) can0 {ident}#{f.data.hex().upper()}")
        else:
            gap = " " if form == "candump1" else "  "
            lines.append(f"  can0  {ident}   [{len(f.data)}]{gap}{f.data.hex(' ').upper()}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("form", ["slcan", "candump", "candump1", "log"])
def test_can_frames_of_both_kinds_from_text(form: str, tmp_path: Path) -> None:
    frames = [
        p.Frame(EXTENDED | 0x18904001, bytes.fromhex("0210000100200030")),
        p.Frame(0x201, b""),
        p.Frame(EXTENDED, b"\xab"),
        p.Frame(EXTENDED | BITS, b""),
    ]
    path = tmp_path / "capture.txt"
    path.write_text(text_of(frames, form))
    args = argparse.Namespace(hex=None, file=path)
    data, can = decode._Source(args).all(None)
    assert can
    assert [from_line(line) for line in data.split(b"\r")[:-1]] == frames
    path.write_text(text_of(frames[:1], form).replace("1890", "8890"))
    if form != "slcan":  # there the link says what is wrong
        with pytest.raises(ToolError, match="not a CAN 2.0 frame"):
            decode._Source(args).all(None)


@pytest.mark.parametrize("form", ["slcan", "candump", "log"])
def test_cell_link_from_text_of_can_frames(form: str, bmsctl: Tool, tmp_path: Path) -> None:
    # beside frames of another kind, which have a cell link's number by chance
    other = p.Frame(EXTENDED | p.CELLS << 6 | 5, bytes(8))
    path = tmp_path / "capture.txt"
    path.write_text(text_of([other, *cell_frames(3), other], form))
    code, out, _err = bmsctl.run("decode", "cell_link", path, "--json")
    got = json.loads(out.splitlines()[-1])
    assert (code, got["error"]) == (0, None)
    assert got["boards"] == [3]
    assert got["cells_mv"] == [3301, 3302, 3303, 3304, 3305]


CELLS_612 = "0CE40CE50CE60CE7"
LOG = f"""(1.100) can0 612#{CELLS_612}
(1.101) can0 613#{CELLS_612}
(1.102) can0 611#000032C932C932C9
"""
ERROR = "(1.2) can0 20000004#0004000000000000\n"
COLUMNS = """  can0  612   [8]  0C E4 0C E5 0C E6 0C E7
  can0  613   [8]  0C E4 0C E5 0C E6 0C E7
  can0  611   [8]  00 00 32 C9 32 C9 32 C9
"""
EXPLAINED = """  can0  20000004   [8]  00 04 00 00 00 00 00 00   ERRORFRAME
\tcontroller-problem{rx-error-warning}
\tbus-error
"""
SLCAN_LINES = f"t6128{CELLS_612}\rt6138{CELLS_612}\rt6118000032C932C932C9\r"


@pytest.mark.parametrize(
    ("text", "skipped"),
    [
        (LOG, ""),
        (LOG.replace("\n", " R\n"), ""),  # python-can's log writer, candump -x -L
        (LOG.replace("\n", " T\n"), ""),
        (LOG.replace("\n", "\r\n"), ""),
        (LOG + ERROR + LOG + ERROR, "error error"),
        (LOG + "(1.3) can0 612#R\n(1.3) can0 612#R8\ncan0 612#R R\n", "remote remote remote"),
        (LOG + f"(1.3) can0 612##1{CELLS_612}\n(1.3) can0 612##0 T\n", "fd fd"),
        (COLUMNS, ""),
        (COLUMNS.replace("\n", "   '........'\n"), ""),  # candump -a
        (COLUMNS.replace("\n", "   'a' [2] '\n"), ""),
        (COLUMNS.replace("  can0", " (17.5)  can0  RX - -"), ""),  # candump -x -t a
        (COLUMNS + EXPLAINED + COLUMNS, "error"),
        (COLUMNS + "  can0  612   [0]  remote request\n", "remote"),
        (COLUMNS + "  can0  612  [12]  0C E4 0C E5 0C E6 0C E7 00 00 00 00\n", "fd"),
        (COLUMNS + "  can0  612  [08]  0C E4 0C E5 0C E6 0C E7\n", "fd"),
        (SLCAN_LINES, ""),
        (SLCAN_LINES.replace("\r", "\r\n"), ""),
        (SLCAN_LINES.replace("\r", "1A2B\r\n"), ""),
        (SLCAN_LINES + "r6128\rR000006128\rd6128" + CELLS_612 + "\r", "remote remote fd"),
    ],
)
def test_every_form_of_can_text_is_read(
    text: str, skipped: str, bmsctl: Tool, tmp_path: Path
) -> None:
    path = tmp_path / "can.log"
    path.write_bytes(text.encode())
    code, got = run(bmsctl, "outlander", path)
    assert (code, got["error"], got["boards"]) == (0, None, [1])
    assert got["cells_mv"] == [3300, 3301, 3302, 3303] * 2
    counts = {what: skipped.split().count(what) for what in ("error", "remote", "fd")}
    assert got["skipped"] == counts
    process = bmsctl.start("decode", "outlander", "-")
    out, _ = process.communicate(text, timeout=HANG_S)
    shown = [f"{n} {what}" for what, n in counts.items() if n]
    assert process.returncode == 0 and "3300 3301" in out
    assert not shown or "skipped        " + ", ".join(shown) in out


@pytest.mark.parametrize(
    "line", ["can0 612#0CE", "can0 612#R12", "  can0  612   [8]  0C E4 0C", "can0 612 hello"]
)
def test_a_cut_line_of_candump_is_refused(line: str, bmsctl: Tool, tmp_path: Path) -> None:
    path = tmp_path / "can.log"
    path.write_text(LOG + line)
    code, out, err = bmsctl.run("decode", "outlander", path)
    assert (code, out) == (1, "") and f"{path}: not a" in err and line.strip() in err


@pytest.mark.parametrize("text", [LOG, COLUMNS, SLCAN_LINES])
def test_frames_of_a_pipe_are_shown_as_they_come(text: str, bmsctl: Tool) -> None:
    process = bmsctl.start("decode", "outlander", "-", "--json")
    assert process.stdin and process.stdout
    for mv in ("0CE4", "0CE5"):
        spaced = f"{mv[:2]} {mv[2:]}"
        process.stdin.write(text.replace("0CE4", mv).replace("0C E4", spaced))
        process.stdin.flush()
        got = json.loads(process.stdout.readline())  # though the pipe goes on
        assert got["cells_mv"][0] == int(mv, 16)
    out, _ = process.communicate(timeout=HANG_S)
    assert (process.returncode, out) == (0, "")


@pytest.mark.parametrize("kind", ["jbd", "outlander"])
@pytest.mark.parametrize("word", ["", "dd04"])
def test_endless_input_has_a_bound(kind: str, word: str, bmsctl: Tool) -> None:
    if word:
        endless = subprocess.Popen(["yes", word], stdout=subprocess.PIPE)
        process = bmsctl.start("decode", kind, "-", stdin=endless.stdout)
    else:
        endless = None
        process = bmsctl.start("decode", kind, "/dev/zero")
    _, err = process.communicate(timeout=HANG_S)
    if endless is not None and endless.stdout is not None:
        endless.stdout.close()
        endless.wait()
    assert process.returncode == 1 and "more than 16 MiB" in err


def test_cell_link_refusals() -> None:
    good = [p.uart_encode(f) for f in cell_frames(3)]
    other = p.uart_encode(cell_frames(2)[0])
    assert "wrong responder" in str(decode_cell_link(b"".join(good) + other, False, 3).error)
    assert decode_cell_link(b"".join(good)[:-1], False).error == "truncated"
    broken = bytearray(good[0])
    broken[5] ^= 1
    assert "CRC-16" in str(decode_cell_link(bytes(broken), False).error)
    f = cell_frames(3)[0]
    text = b"t%03X8%s\r" % (f.ident + 1, f.data.hex().upper().encode())  # moved to another id
    got = decode_cell_link(text, can=True)
    assert got.error == "wrong CRC-8"
    assert not any(got.as_json()["cells_mv"])


def test_command(bmsctl: Tool, tmp_path: Path) -> None:
    code, out, _err = bmsctl.run("decode", "jbd", "--hex", CELLS.hex(), "--json")
    got = json.loads(out.splitlines()[-1])
    assert code == 0
    assert got["driver"] == "jbd"
    keys = "driver ok error cells_mv temps_dc pack_mv current_ma soc_pm alarms frames"
    assert set(keys.split()) <= set(got)
    code, out, _err = bmsctl.run("decode", "jbd", "--hex", CELLS[:-1].hex())
    assert code == 1
    assert "refused: truncated" in out
    path = tmp_path / "capture"
    for content in (CELLS, CELLS.hex(" ").encode()):
        path.write_bytes(content)
        code, out, _err = bmsctl.run("decode", "jbd", path)
        assert code == 0
        assert "3875 3868 3858 3869 mV" in out
    assert bmsctl.run("decode", "jbd", "--hex", "zz")[0] == 2
    assert bmsctl.run("decode", "jbd", tmp_path / "none")[0] == 1
    assert bmsctl.run("decode", "abc", "--hex", "00")[0] == 2
    assert bmsctl.run("decode", "jbd")[0] == 2


def i3_text(frames: list[str]) -> str:
    return "".join(f"(1700000000.1) can0 {frame}\n" for frame in frames)


I3_CELLS = ["122#740E750E760E0000", "123#840E850E860E0000"]


def run(bmsctl: Tool, *args: object) -> tuple[int, dict]:
    code, out, err = bmsctl.run("decode", *args, "--json")
    assert out, err
    return code, json.loads(out.splitlines()[-1])


def test_a_capture_of_somebody_else_s_bus_has_no_reading(bmsctl: Tool, tmp_path: Path) -> None:
    path = tmp_path / "i3.log"
    path.write_text(i3_text([*I3_CELLS, "102#0000000000000000", "172#404142FF00000000"]))
    code, got = run(bmsctl, "cell_link", path)
    assert (code, got["error"], got["boards"]) == (1, "no reading of a board in it", [])


def test_a_hello_alone_is_a_reading() -> None:
    got = decode_cell_link(p.uart_encode(p.hello_frame(3, 8, 2, 7)), can=False)
    assert got.error is None and got.values["boards"] == [3]


REQUESTS = {
    "bq796xx": "8000020F0B C029",
    "cell_link": p.uart_encode(p.Frame(p.SCAN << 6, b"\1\0")).hex(),
    "daly": FRAMES["daly_uart_req_90_host40"]["hex"] if "daly_uart_req_90_host40" in FRAMES else "",
    "jbd": "dda50300fffd77",
    "jk_pb": "0110162000010200 00D6F1",
    "jk_ttl": "4E5700130000000006030000000000006800000129",
    "pylontech": b"~20024642E00202FD33\r".hex(),
    "tesla_s": "02 01 12",
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_requests_alone_are_exit_1(kind: str, bmsctl: Tool) -> None:
    code, got = run(bmsctl, kind, "--hex", REQUESTS[kind] or "A540900800000000000000007D")
    assert (code, got["error"]) == (1, "only requests in it: nothing answered")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("bmw_i3", "--hex", "740E750E760E0000"), 2, "candump or slcan"),
        (("bmw_i3", "--hex", "122#740E750E760E00001"), 2, "--hex: not a CAN 2.0 frame"),
        (("jbd", "--hex", "122#740E750E760E0000"), 2, "jbd speaks over a UART"),
        (("jbd", "--hex", "dd", "--register", "zz"), 2, "--register: not hex digits: zz"),
        (("jbd", "--hex", "dd", "--register", "0304"), 2, "--register 0304: one byte"),
        (("daly", "--hex", "a5", "--register", "90"), 2, "only jbd is polled by register"),
        (("jk_pb", "--hex", "55", "--node", "0"), 2, "jk_pb has nodes 1 to 15"),
        (("jk_pb", "--hex", "55", "--node", "16"), 2, "jk_pb has nodes 1 to 15"),
        (("jbd", "--hex", "dd", "--node", "2"), 2, "jbd has node 1 only"),
        (("bmw_i3", "FILE"), 1, "candump or slcan"),
    ],
)
def test_what_can_t_be_is_said_in_one_line(
    args: tuple, code: int, words: str, bmsctl: Tool, tmp_path: Path
) -> None:
    path = tmp_path / "capture"
    path.write_text("740E750E760E0000")
    got, out, err = bmsctl.run("decode", *(path if x == "FILE" else x for x in args))
    assert (got, out, err.count("\n")) == (code, "", 1) and words in err


def test_frames_on_the_command_line(bmsctl: Tool) -> None:
    code, got = run(bmsctl, "bmw_i3", "--hex", " ".join(I3_CELLS))
    assert (code, got["boards"]) == (0, [3, 4])
    assert [(x["node"], x["cells_mv"]) for x in got["each"]] == [
        (3, [3700, 3701, 3702]),
        (4, [3716, 3717, 3718]),
    ]


def daly(node: int, command: int, payload: str) -> bytes:
    head = bytes([0xA5, node, command, 8]) + bytes.fromhex(payload)
    return head + bytes([sum(head) & 0xFF])


def test_values_of_several_boards_are_kept_apart(bmsctl: Tool) -> None:
    parts = []
    for node in (1, 2):
        parts += [
            daly(node, 0x94, f"03 01 00 00 00 00 0{node} 00"),
            daly(node, 0x95, f"01 0CE{node} 0CE{node} 0CE{node} 00"),
            daly(node, 0x90, f"0063 0063 75{30 + 10 * node} 02{10 * node}"),
        ]
    text = b"".join(parts).hex()
    code, got = run(bmsctl, "daly", "--hex", text)
    assert code == 0, got["error"]
    assert got["boards"] == [1, 2] and got["soc_pm"] is None and got["current_ma"] is None
    one, two = got["each"]
    assert (one["node"], two["node"]) == (1, 2)
    assert (one["soc_pm"], two["soc_pm"]) == (0x210, 0x220)
    assert one["current_ma"] != two["current_ma"]
    assert one["cells_mv"] == [0xCE1] * 3 and two["cells_mv"] == [0xCE2] * 3
    shown = bmsctl.run("decode", "daly", "--hex", text)[1]
    first, second = shown.split("board 2\n")
    assert "soc_pm         528\n" in first and "soc_pm         544\n" in second
    # those of one board stand where they did
    code, got = run(bmsctl, "daly", "--hex", b"".join(parts[:3]).hex())
    assert (code, got["soc_pm"], got["each"][0]["soc_pm"]) == (0, 0x210, 0x210)


def test_a_jk_pb_status_without_its_acknowledgement_has_no_address(bmsctl: Tool) -> None:
    code, got = run(
        bmsctl, "jk_pb", "--node", "3", "--hex", FRAMES["jkpb_status_300"]["hex"]
    )  # fmt: skip
    assert code == 1 and "its board is unknown" in got["error"]


def test_stdin_and_the_forms_of_captures(bmsctl: Tool, tmp_path: Path) -> None:
    slcan = ["t1228740E750E760E0000", "t1238840E850E860E0000"]
    for text in (
        "\n".join(slcan) + "\n",
        "\r".join(x + "1A2B" for x in slcan) + "\r",  # the adapter's own time
        "".join(f"(1700000000.1) {x}\n" for x in slcan),
        "".join(f"12.345 rx {x}\n" for x in slcan),
        "# from the workshop\n\r" + "\n".join(slcan) + "\n",
        i3_text(I3_CELLS),
        "# noon\n" + i3_text(I3_CELLS),
    ):
        process = bmsctl.start("decode", "bmw_i3", "-", "--json")
        out, err = process.communicate(text, timeout=HANG_S)
        got = json.loads(out or "{}")
        assert got.get("ok") is True and got["boards"] == [3, 4], (text, out, err)
    for text in (CELLS.hex(":"), "# cells\n" + CELLS.hex(" ") + "\n  # end\n", CELLS.hex(",")):
        path = tmp_path / "capture.hex"
        path.write_text(text)
        assert run(bmsctl, "jbd", path)[1]["cells_mv"] == [3875, 3868, 3858, 3869]


def hello_frame(node: int, cells: int, temps: int) -> p.Frame:
    return p.Frame(p.HELLO << 6 | node, bytes([1, cells, temps, 1, 0, 0, 0, node]))


@pytest.mark.parametrize("can", [True, False])
@pytest.mark.parametrize("hello", [True, False])
def test_each_cell_link_board_of_a_capture_has_all_its_functions(can: bool, hello: bool) -> None:
    frames: list[p.Frame] = []
    for node in (1, 2, 3, 4, 61, 62):
        if hello:
            frames.append(hello_frame(node, 18, 5))
        for k in range(5):
            mv: list[int | None] = [3300 + node + i for i in range(4 * k, min(4 * k + 4, 18))]
            frames.append(p.cells_frame(node, k, mv, 5))
        for k in range(2):
            frames.append(p.temps_frame(node, k, [200 + node] * (1 if k else 4), 5))
        frames.append(p.status_frame(node, 18 * 3300, 0x0100, 30, 0, 5))
    data = b"".join(to_line(f) + b"\r" if can else p.uart_encode(f) for f in frames)
    capture = Capture(data, can=can)
    got = cell_link.decode(capture)
    apart(cell_link.decode, capture, got)
    assert got.error is None
    for row in got.each:
        node = row["node"]
        cells = [3300 + node + i for i in range(18)]
        assert [mv for mv in row["cells_mv"] if mv is not None] == cells, node
        assert [dc for dc in row["temps_dc"] if dc is not None] == [200 + node] * 5
        assert row["pack_mv"] == 18 * 3300 and row["alarms"] == ["bit_8"]
        if hello:  # it said how many
            assert (len(row["cells_mv"]), len(row["temps_dc"])) == (18, 5)
    if hello:
        assert len(got.values["cells_mv"]) == 6 * 18 and None not in got.values["cells_mv"]
