"""Start of the firmware: load the board and its pack file, build the master, run it."""

from bms import config
from bms.master import Master
from bms.refused import Refused
from board import Board


def main():
    """Run until a person leaves; the board does what comes then."""
    board = Board()
    board.safe()
    try:
        try:
            program = Master(config.load(board.pack_path), board)
        except (config.ConfigError, OSError) as error:
            program = Refused(error, board)
        board.started()
        program.run()
    finally:
        board.safe()
    board.ended(program.restart)


if __name__ == "__main__":
    main()
