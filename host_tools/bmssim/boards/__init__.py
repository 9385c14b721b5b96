"""Simulated slave boards, one file per kind."""
