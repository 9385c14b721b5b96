# What is frozen into the image, and what `bmsctl flash` copies.
include("../manifest.py")
module("pico.py", base_path="..")
module("board.py")
