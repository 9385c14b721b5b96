"""Drivers of slave boards, one file per kind; `build` makes those that a pack file asks for."""
