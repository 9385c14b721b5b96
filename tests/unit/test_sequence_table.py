"""Every state of the contactor sequence, and every command, fault and loss that can meet it.

Read a row of TABLE as: in this state, after this event, the contactors are in the first state at
once and in the second one after 25 s, with these faults. Each wait ends: the second state is
always open or closed.
"""

from bms.contactors import sequence as C
from bms.contactors.sequence import MINUS, PLUS, PRECHARGE
from bms.protection import fault_ids as F
from fakes import Parts

NAMES = C.STATES.decode().split()
SLOW = (
    'contactor_settle = "2 s"; precharge_min = "2 s"; precharge_max = "5 s";'
    ' precharge_rest = "5 s"; precharge_tries = 2; feedback_delay = "100 ms";'
    ' breaking_current = "100 A"; fuse_wait = "1 s"; open_wait = "2 s"; opening_gap = "1 s";'
    ' reclose = "100 ms"'
)

# state before: event: state at once, state in the end, faults
TABLE = """
open              nothing         open            open    -
open              close           closing_minus   closed  -
open              open            open            open    -
open              trip            open            open    cell_hard_high
open              cut             open            open    -
open              link_lost       open            open    -
open              link_high       open            open    -
open              cell_lost       open            open    -
open              current_lost    open            open    -
open              minus_open      open            open    -
open              plus_open       open            open    -
open              plus_welded     open            open    contactor_welded
closing_minus     nothing         closing_minus   closed  -
closing_minus     close           closing_minus   closed  -
closing_minus     open            open            open    -
closing_minus     trip            open            open    cell_hard_high
closing_minus     cut             open            open    -
closing_minus     link_lost       closing_minus   open    precharge_failed
closing_minus     link_high       closing_minus   open    link_rise
closing_minus     cell_lost       closing_minus   open    precharge_failed
closing_minus     current_lost    closing_minus   closed  -
closing_minus     minus_open      closing_minus   open    contactor_feedback
closing_minus     plus_open       closing_minus   open    contactor_feedback
closing_minus     plus_welded     closing_minus   open    contactor_welded
precharge         nothing         precharge       closed  -
precharge         close           precharge       closed  -
precharge         open            open            open    -
precharge         trip            open            open    cell_hard_high
precharge         cut             open            open    -
precharge         link_lost       precharge       open    precharge_failed
precharge         link_high       precharge       open    precharge_link_high
precharge         cell_lost       precharge       open    precharge_failed
precharge         current_lost    precharge       closed  -
precharge         minus_open      precharge       open    contactor_feedback
precharge         plus_open       precharge       open    contactor_feedback
precharge         plus_welded     precharge       open    contactor_welded
precharge_rest    nothing         precharge_rest  open    precharge_failed
precharge_rest    close           precharge_rest  open    precharge_failed
precharge_rest    open            open            open    -
precharge_rest    trip            open            open    cell_hard_high
precharge_rest    cut             open            open    -
precharge_rest    link_lost       precharge_rest  open    precharge_failed
precharge_rest    link_high       precharge_rest  open    precharge_link_high
precharge_rest    cell_lost       precharge_rest  open    precharge_failed
precharge_rest    current_lost    precharge_rest  open    precharge_failed
precharge_rest    minus_open      precharge_rest  open    contactor_feedback
precharge_rest    plus_open       precharge_rest  open    precharge_failed
precharge_rest    plus_welded     precharge_rest  open    contactor_welded
closing_plus      nothing         closing_plus    closed  -
closing_plus      close           closing_plus    closed  -
closing_plus      open            opening         open    -
closing_plus      trip            opening         open    cell_hard_high
closing_plus      cut             open            open    -
closing_plus      link_lost       closing_plus    closed  -
closing_plus      link_high       closing_plus    closed  -
closing_plus      cell_lost       closing_plus    closed  -
closing_plus      current_lost    closing_plus    closed  -
closing_plus      minus_open      closing_plus    open    contactor_feedback
closing_plus      plus_open       closing_plus    open    contactor_feedback
closing_plus      plus_welded     closing_plus    closed  -
closed            nothing         closed          closed  -
closed            close           closed          closed  -
closed            open            opening         open    -
closed            trip            opening         open    cell_hard_high
closed            cut             open            open    -
closed            link_lost       closed          closed  -
closed            link_high       closed          closed  -
closed            cell_lost       closed          closed  -
closed            current_lost    closed          closed  -
closed            minus_open      closed          open    contactor_feedback
closed            plus_open       closed          open    contactor_feedback
closed            plus_welded     closed          closed  -
open_requested    nothing         open_requested  open    -
open_requested    close           open_requested  open    -
open_requested    open            open_requested  open    -
open_requested    trip            opening         open    cell_hard_high
open_requested    cut             open            open    -
open_requested    link_lost       open_requested  open    -
open_requested    link_high       open_requested  open    -
open_requested    cell_lost       open_requested  open    -
open_requested    current_lost    open_requested  open    -
open_requested    minus_open      open_requested  open    contactor_feedback
open_requested    plus_open       open_requested  open    contactor_feedback
open_requested    plus_welded     open_requested  open    contactor_welded
fuse_wait         nothing         fuse_wait       open    cell_hard_low
fuse_wait         close           fuse_wait       open    cell_hard_low
fuse_wait         open            fuse_wait       open    cell_hard_low
fuse_wait         trip            fuse_wait       open    cell_hard_high+cell_hard_low
fuse_wait         cut             open            open    cell_hard_low
fuse_wait         link_lost       fuse_wait       open    cell_hard_low
fuse_wait         link_high       fuse_wait       open    cell_hard_low
fuse_wait         cell_lost       fuse_wait       open    cell_hard_low
fuse_wait         current_lost    fuse_wait       open    cell_hard_low
fuse_wait         minus_open      fuse_wait       open    cell_hard_low+contactor_feedback
fuse_wait         plus_open       fuse_wait       open    cell_hard_low+contactor_feedback
fuse_wait         plus_welded     fuse_wait       open    cell_hard_low+contactor_welded
opening           nothing         opening         open    -
opening           close           opening         open    -
opening           open            opening         open    -
opening           trip            opening         open    cell_hard_high
opening           cut             open            open    -
opening           link_lost       opening         open    -
opening           link_high       opening         open    -
opening           cell_lost       opening         open    -
opening           current_lost    opening         open    -
opening           minus_open      opening         open    contactor_feedback
opening           plus_open       opening         open    -
opening           plus_welded     opening         open    contactor_welded
"""


def _in_state(name):
    p = Parts(contactors=SLOW).ready()
    p.board.pack_mv = sum(p.mv)
    if name == "open":
        return p
    assert p.strings.close(p.now) is None
    if name == "precharge_rest":
        p.board.link = 0
    wanted = NAMES.index("closed" if NAMES.index(name) > C.CLOSED else name)
    while p.contactors.state != wanted:
        p.step()
    if name == "open_requested":
        p.board.ma = -50000
        p.step()
        p.strings.open(p.now)
    elif name == "fuse_wait":
        p.board.ma = -150000
        p.step()
        p.faults.set(F.CELL_HARD_LOW, 0, 1900)
    elif name == "opening":
        p.strings.open(p.now)
    assert NAMES[p.contactors.state] == name
    return p


def _happens(p, event):
    if event == "close":
        p.strings.close(p.now)
    elif event == "open":
        p.strings.open(p.now)
    elif event == "trip":
        p.faults.set(F.CELL_HARD_HIGH, 1, 3800)
    elif event == "cut":
        for which in (MINUS, PRECHARGE, PLUS):
            p.board.coil(which, 0)
        p.strings.cut()
    elif event == "link_lost":
        p.board.has_link_sensor = False
    elif event == "link_high":
        p.board.link = 20000
    elif event == "cell_lost":
        p.pack.cell_flags[0] = 0
        p.mv[0] = None
    elif event == "current_lost":
        p.board.ma = None
    elif event == "minus_open":
        p.board.stuck[MINUS] = 0
    elif event == "plus_open":
        p.board.stuck[PLUS] = 0
    elif event == "plus_welded":
        p.board.stuck[PLUS] = 1
    else:
        assert event == "nothing", event


def _rows():
    return [row.split() for row in TABLE.strip().split("\n")]


def test_the_table_has_every_state_and_event():
    events = [event for state, event, *_ in _rows() if state == "open"]
    assert [row[:2] for row in _rows()] == [
        [state, event]
        for state in (
            "open closing_minus precharge precharge_rest closing_plus closed open_requested"
            " fuse_wait opening"
        ).split()
        for event in events
    ]
    assert sorted({row[0] for row in _rows()}) == sorted(NAMES)


def test_every_state_meets_every_command_fault_and_loss():
    wrong = []
    for state, event, at_once, in_the_end, faults in _rows():
        p = _in_state(state)
        _happens(p, event)
        found = [NAMES[p.contactors.state]]
        for _ in range(2500):
            p.step()
            coils = p.board.coils
            # plus is on only where minus has been proven, but for the steps of an opening
            assert coils[MINUS] or not coils[PLUS] or p.contactors.state == C.OPENING, state
        found.append(NAMES[p.contactors.state])
        found.append("+".join(sorted(p.trips())) or "-")
        if found != [at_once, in_the_end, faults]:
            wrong.append(" ".join([state, event] + found))
        if found[1] == "open":
            assert p.board.coils[:3] == [0, 0, 0], (state, event)
    assert not wrong, "\n".join(wrong)
