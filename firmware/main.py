"""Start of the firmware: load the board and its pack file, build the master, run it."""

from board import Board


def build(board):
    """The master, or what says why there is none.

    What only this needs is imported here: the board may forget it before the cycle begins.
    """
    from bms.errors import ConfigError

    try:
        settings = _settings(board)
        from bms.master import Master

        return Master(settings, board)
    except (ConfigError, OSError) as error:
        from bms.refused import Refused

        return Refused(error, board)


def _settings(board):
    """The pack file; what reads it is large, and forgotten before the rest is loaded."""
    from bms import config

    settings = config.load(board.pack_path)
    del config
    board.forget()
    return settings


def main():
    """Run until a person leaves; the board does what comes then."""
    board = Board()
    board.safe()
    try:
        program = build(board)
        board.started()
        program.run()
    finally:
        board.safe()
    board.ended(program.restart)


if __name__ == "__main__":
    main()
