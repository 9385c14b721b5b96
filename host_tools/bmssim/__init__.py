"""The simulated world: cells, slave boards, buses, contactors, faults, scenarios."""
