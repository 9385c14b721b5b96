"""Start of the firmware: load the board and its pack file, build the master, run it."""

import sys

from bms import config
from bms.master import Master
from bms.refused import Refused
from board import Board


def main():
    """Run until a person leaves; True where a restart was asked for."""
    board = Board()
    board.safe()
    try:
        try:
            program = Master(config.load(board.pack_path), board)
        except (config.ConfigError, OSError) as error:
            program = Refused(error, board)
        board.started()
        program.run()
        return program.restart
    finally:
        board.safe()


if __name__ == "__main__":
    restart = main()
    sys.exit(3 if restart else 0)
