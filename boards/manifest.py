# What every microcontroller board has: the port's own modules, and the firmware.
include("$(PORT_DIR)/boards/manifest.py")  # for images only; `bmsctl flash` finds them there
package("bms", base_path="../firmware")
package("hal", base_path="../firmware")
module("main.py", base_path="../firmware")
