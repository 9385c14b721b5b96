# What is frozen into the board's image, and what `bmsctl flash` copies.
include("../manifest.py")
module("board.py")
