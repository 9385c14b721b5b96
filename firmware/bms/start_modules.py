"""Modules that only the start needs. A board frees them step by step while it builds the master."""

import gc
import sys

MODULES = (
    "bms.attribute_tables",
    "bms.config.schema",
    "bms.config.toml_subset",
    "bms.config.checks",
    "bms.config.pack_file",
    "bms.config.ready_pack",
    "bms.protection.fault_catalog",
    "bms.self_test",
    "bms.sensors.build",
    "bms.slaves.build",
)


def free(more=()):
    """Free those that are loaded, and `more` of a board's own. Allocates: before the cycle."""
    for name in MODULES + more:
        if sys.modules.pop(name, None):
            package, last = name.rsplit(".", 1)
            delattr(sys.modules[package], last)
    gc.collect()
