"""Shared by all tests: nothing here or in them asserts on wall-clock time."""

from hypothesis import settings

settings.register_profile("project", deadline=None)
settings.load_profile("project")
