# What is frozen into the image, and what `bmsctl flash` copies.
include("../manifest.py")
module("board.py")
