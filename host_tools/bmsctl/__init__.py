"""The command line: `bmsctl -> bmssim -> firmware/bms` is the only direction of imports."""
