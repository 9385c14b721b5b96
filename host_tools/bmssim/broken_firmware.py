"""The firmware with one thing broken in it, run by the campaign instead of firmware/main.py.

Runs on the firmware's own runtimes. Its JSON argument has "broken": {"what": .., "stage": ..}
besides what the board needs; from the moment that the simulator sets the frame's last word:

raise   the stage raises `error`, a name of ERRORS
skip    the stage does nothing any more
hang    the stage never returns; the processor's interrupts still work
heap    all heap is taken
deaf    the console's port takes no byte
flood   the console's port gives bytes without end
power   a write to the storage is cut after `bytes` bytes, and the power with it; `skip` writes
        before it are whole

A stage is a path from the master, as "_evaluate" or "limits.evaluate_next" or "drivers.0.step".
"""

import json
import sys

import main

MARK = 47  # word of the frame from the simulator
POWER_LOST = 3  # kind of frame to the simulator
ERRORS = {
    "RuntimeError": RuntimeError,
    "ValueError": ValueError,
    "IndexError": IndexError,
    "AttributeError": AttributeError,
    "OSError": OSError,
    "MemoryError": MemoryError,
}
FLOOD = b"cells\nstatus\nconfig\nhelp\n\x07\xff{}[]\x00 close now close\n" + b"x" * 200 + b"\n"


def break_firmware(program, board, how):
    """Break it at the simulator's mark."""
    wait = board.wait

    def waiting(ms):
        wait(ms)
        if board._in[MARK] and how:
            _break(program, board, how.copy())
            how.clear()

    board.wait = waiting


def _break(program, board, how):
    what = how["what"]
    if what in ("raise", "hang", "skip"):
        owner, name = _stage(program, how["stage"])
        if what == "raise":
            stage = _raising(how["error"])
        else:
            stage = _hanging(board) if what == "hang" else _skipping
        setattr(owner, name, stage)
    elif what == "heap":
        _fill()
    elif what == "deaf":
        board.console.write = lambda buf, start, n: 0
    elif what == "flood":
        board.console.read = _flooding()
    elif what == "power":
        _cut_power(board, how["bytes"], how["skip"])
    else:
        raise ValueError(what)


def _stage(program, path):
    names = path.split(".")
    owner = program
    for name in names[:-1]:
        owner = owner[int(name)] if "0" <= name[0] <= "9" else getattr(owner, name)
    getattr(owner, names[-1])  # it is there
    return owner, names[-1]


def _raising(error):
    def stage(*args):
        raise ERRORS[error]("broken on purpose")

    return stage


def _hanging(board):
    wait = board.wait

    def stage(*args):
        while True:
            wait(10)

    return stage


def _skipping(*args):
    return None


_taken = []


def _fill():
    size = 1 << 16
    while size >= 16:
        try:
            _taken.append(bytearray(size))
        except MemoryError:
            size //= 2


def _flooding():
    at = [0]

    def read(buf):
        i = at[0]
        for k in range(len(buf)):
            buf[k] = FLOOD[i]
            i = i + 1 if i + 1 < len(FLOOD) else 0
        at[0] = i
        return len(buf)

    return read


def _cut_power(board, n_bytes, skip):
    storage = board.storage
    write = storage.write
    left = [skip]

    def cut(slot, buf, n):
        if left[0]:
            left[0] -= 1
            return write(slot, buf, n)
        write(slot, buf, n_bytes if n_bytes < n else n)
        board._send(POWER_LOST, 0)
        while True:
            board._receive()  # for ever: the simulator kills this process

    storage.write = cut


def run():
    """main.main() with the fault in it."""
    how = json.loads("".join(sys.argv[1:]))["broken"]
    build = main.build

    def building(board):
        program = build(board)
        break_firmware(program, board, how)
        return program

    main.build = building
    main.main()


if __name__ == "__main__":
    run()
