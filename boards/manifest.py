# The part of the firmware that every microcontroller board has.
package("bms", base_path="../firmware")
package("hal", base_path="../firmware")
module("main.py", base_path="../firmware")
