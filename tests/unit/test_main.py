"""The start of the firmware: a bad pack file is said, and every way out leaves the coils off."""

import os
import sys

import fakes
from bms.storage import full_names
from fake_storage import Slots
from fakes import FakeBoard, FakeSlave, checked, pack_lines, raises
from scratch import unique


class _BoardModule:
    """Stands for the module `board`."""

    Board = None


sys.modules["board"] = _BoardModule  # pyright: ignore[reportArgumentType]
import main  # noqa: E402

PATH = unique("test_main.toml")


class Board(FakeBoard):
    """Slaves answer in `wait`; `at_ms` calls `then(board)` once."""

    def __init__(self):
        FakeBoard.__init__(self)
        self.pack_path = PATH
        self.pack_mv = 13200
        self.slaves = [FakeSlave(1, [3300] * 4, [250] * 2)]
        self.said = b""
        self.at_ms = 0
        self.then = None
        self.coils = [1000] * 9  # whatever it was before

    def wait(self, ms):
        FakeBoard.wait(self, min(ms, 5))
        self.said += self.console.took()
        for frame in self.wires["can0"].sent():
            for slave in self.slaves:
                for answer in slave.receive(frame, "can"):
                    self.wires["can0"].give(answer)
        if self.then is not None and self.clock.total_ms >= self.at_ms:
            then, self.then = self.then, None
            then(self)

    def lines(self):
        return [checked(x) for x in self.said.split(b"\n")[:-1]]


def _main(lines, at_ms, then, setup=None):
    board = Board()
    board.at_ms = at_ms
    board.then = then
    if setup:
        setup(board)
    sys.modules["board"].Board = lambda: board  # pyright: ignore[reportAttributeAccessIssue]
    main.Board = sys.modules["board"].Board
    if lines is None:
        board.pack_path = "no_such_pack_file.toml"
    else:
        with open(PATH, "w") as f:
            f.write("\n".join(lines) + "\n")
    try:
        main.main()
        (result,) = board.ends
    except Exception as error:
        result = error
    finally:
        if lines is not None:
            os.remove(PATH)
    return board, result


def _type(text):
    return lambda board: board.console.give(text)


def _then(*steps):
    """Each step 1 s after the one before."""

    def run(board):
        steps[0](board)
        if len(steps) > 1:
            board.at_ms = board.clock.total_ms + 1000
            board.then = _then(*steps[1:])

    return run


def test_coils_are_off_before_anything_else():
    board, result = _main(pack_lines(), 1500, _type(b"service yes\n"))
    assert result is False
    assert [x[2] for x in board.history] == [0] * 9
    assert board.starts == 1
    assert board.safe_calls == 2


def test_reset_requests_a_restart():
    board, result = _main(pack_lines(), 1500, _type(b"reset yes\n"))
    assert result is True
    assert board.coils[:3] == [0, 0, 0]


def test_an_exception_in_any_stage_leaves_the_coils_off():
    def broken(*args):
        raise ValueError("broken")

    for where in ("wait", "feedback", "current_ma", "link_mv", "console", "wire", "feed"):

        def breaks(board, where=where):
            assert board.coils[:3] == [1000, 0, 1000]
            if where == "console":
                board.console.write = broken
            elif where == "wire":
                board.wires["can0"].stream.read = broken
            else:
                setattr(board, where, broken)

        board, result = _main(
            pack_lines(), 2500, _then(_type(b"close\n"), breaks, _type(b"service yes\n"))
        )
        assert isinstance(result, ValueError), (where, result)
        assert board.coils[:3] == [0, 0, 0], where
        assert board.history[-1][2] == 0


def test_what_ended_the_program_is_kept_and_holds_it_open():
    storage = Slots()

    def with_storage(board):
        board.storage = storage

    def breaks(board):
        def broken():
            raise ValueError("broken")

        board.link_mv = broken

    board, result = _main(pack_lines(), 2500, _then(_type(b"close\n"), breaks), with_storage)
    assert isinstance(result, ValueError)
    assert board.coils[:3] == [0, 0, 0]
    steps = (_type(b"history\nfaults\nclose\n"), _type(b"clear\nclose\n"), _type(b"service yes\n"))
    board, result = _main(pack_lines(), 2500, _then(*steps), with_storage)
    said = board.lines()
    (crash,) = [x for x in said if x["k"] == "crash"]
    assert crash["text"].startswith("ValueError: broken") and crash["boot"] == 1
    (fault,) = [x for x in said if x["k"] == "fault" and x["name"] == "firmware_crash"]
    assert fault["latched"] and not fault["active"]
    closes = [x["ok"] for x in said if x["k"] == "answer" and x["cmd"] == "close"]
    assert closes == [False, True]
    assert storage.closed == 2
    # once: what it is told at the next start is past
    board, result = _main(pack_lines(), 2500, _then(_type(b"faults\n"), steps[2]), with_storage)
    assert not [x for x in board.lines() if x["k"] == "fault" and x["name"] == "firmware_crash"]


def test_a_crash_names_the_function_as_the_sources_do():
    before = sys.path[:]
    folder = unique("slot")
    os.mkdir(folder)
    sys.path.insert(0, folder)
    try:
        raises(OSError, full_names.of, "bms.x in tau")  # a slot without the file
        with open(folder + "/names", "w") as file:
            file.write("bms.w tau _other\nbms.x ta _no\nbms.x tau _step\nbms.x taut _nor\n")
        assert full_names.of("bms.x in tau") == "bms.x in _step"
        assert full_names.of("bms.y in tau") == "bms.y in tau"
        assert full_names.of("bms.x in <lambda>") == "bms.x in <lambda>"
        assert full_names.of("bms.x") == "bms.x"
        os.remove(folder + "/names")
    finally:
        sys.path[:] = before
        os.rmdir(folder)


def test_a_watchdog_reset_holds_it_open():
    def setup(board):
        board.cause = b"watchdog"

    board, _ = _main(pack_lines(), 2500, _then(_type(b"close\n"), _type(b"service yes\n")), setup)
    closes = [x["ok"] for x in board.lines() if x["k"] == "answer" and x["cmd"] == "close"]
    assert closes == [False]


def test_a_crash_that_cannot_be_kept_is_still_the_crash():
    def breaks(board):
        def broken(*args):
            raise ValueError("broken")

        board.link_mv = broken
        board.storage.write = broken  # and no OSError either

    def setup(board):
        board.storage = Slots()

    board, result = _main(pack_lines(), 2500, breaks, setup)
    assert isinstance(result, ValueError)
    assert board.coils[:3] == [0, 0, 0]


def test_an_exception_while_building_leaves_the_coils_off():
    def setup(board):
        def broken(name, rate, filters):
            raise RuntimeError("no such thing")

        board.open_can = broken

    board, result = _main(pack_lines(), 10, None, setup)
    assert isinstance(result, RuntimeError)
    assert board.coils[:3] == [0, 0, 0]


def test_a_bad_pack_file_is_said_every_second():
    for lines, line, key, reason in (
        (pack_lines(limits='cell_max = "9 V"'), 7, "cell_max", "out of range"),
        (pack_lines(link="can5"), 12, "link", "no port can5"),
        (pack_lines() + ["colour = 3"], 16, "colour", "unknown key"),
        ([], 0, "chemistry", "missing"),
    ):
        board, result = _main(lines, 3600, _type(b"close\nversion\nreset no\nservice yes\n"))
        assert result is False
        said = board.lines()
        refused = [x for x in said if x["k"] == "config_error"]
        assert len(refused) == 3
        assert (refused[0]["line"], refused[0]["key"]) == (line, key), refused[0]
        assert reason in refused[0]["reason"]
        answers = [(x["cmd"], x["ok"]) for x in said if x["k"] == "answer"]
        assert answers == [("close", False), ("version", True), ("reset", False)]
        # what an answer announces follows it, as the master's: tools wait for that
        kinds = [x["k"] for x in said if x["k"] in ("answer", "boot")]
        assert kinds == ["answer", "answer", "boot", "answer"]
        assert board.coils[:3] == [0, 0, 0]
        assert [x[2] for x in board.history] == [0] * 9
        assert board.feeds == []


def test_a_refused_board_keeps_the_watchdog_and_not_the_heartbeat():
    board, _ = _main(["[pack]", "x"], 5000, _type(b"service yes\n"))
    assert board.kept >= 40
    assert board.feeds == []


def test_no_pack_file():
    board, result = _main(None, 1500, _type(b"reset yes\n"))
    assert result is True
    assert "pack file" in board.lines()[0]["reason"]
    assert board.coils[:3] == [0, 0, 0]


def test_garbage_on_the_console_of_a_refused_board():
    board, result = _main(
        [], 1500, _type(b"\xff\n\x00\x80 \xfe\n  \n\r\n" + b"x" * 500 + b"\nreset yes\n")
    )
    assert result is True, result
    assert board.coils[:3] == [0, 0, 0]


def test_a_kind_whose_driver_is_missing_is_refused():
    from bms.slaves import build as slaves

    slaves.KINDS["nobody"] = ("bms.slaves.nobody", "Nobody", ("can",))
    try:
        lines = [x.replace("cell_link", "nobody") for x in pack_lines()]
        board, result = _main(lines, 1500, _type(b"reset yes\n"))
    finally:
        del slaves.KINDS["nobody"]
    assert board.coils[:3] == [0, 0, 0]
    assert isinstance(result, (bool, ImportError))


def test_the_fake_board_refuses_what_a_real_one_refuses():
    board = FakeBoard()
    raises(ValueError, board.coil, 9, 1000)
    raises(ValueError, board.coil, -1, 1000)
    raises(ValueError, board.coil, 0, 1)
    raises(ValueError, board.feedback, 9)
    raises(ValueError, board.wait, -1)
    raises(ValueError, board.wait, 1.5)
    raises(TypeError, board.console.read, b"123")
    raises(TypeError, board.console.write, "text", 0, 4)
    raises(ValueError, board.console.write, b"text", 2, 3)
    raises(ValueError, board.console.write, b"text", 0, 0)
    raises(ValueError, board.open_can, "uart0", 0, ())
    raises(ValueError, board.open_uart, "can0", 0)
    raises(AssertionError, fakes.raises, ValueError, lambda: None)
