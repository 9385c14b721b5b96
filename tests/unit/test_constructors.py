"""What is left of classes whose constructors are freed: all but these."""

import sys

from bms import constructors
from fakes import raises


class Base:
    """A class of the firmware."""

    def __init__(self):
        self.x = 1

    def get(self):
        """What it holds."""
        return self.x


class Derived(Base):
    """With a constructor of its own."""

    def __init__(self):
        super().__init__()
        self.x += 1


class Plain(Base):
    """Without one."""


class Module:
    """Stands for a module."""


def test_objects_stay_and_no_new_ones_are_made():
    one, other, third = Base(), Derived(), Plain()
    Module.Base, Module.Derived, Module.Plain = Base, Derived, Plain
    Module.Exception, Module.number = Exception, 3
    sys.modules["forgets.x"] = Module  # pyright: ignore[reportArgumentType]
    try:
        constructors.forget(("forgets",))
    finally:
        del sys.modules["forgets.x"]
    assert (one.get(), other.get(), third.get()) == (1, 2, 1)
    for cls in (Base, Derived, Plain):
        raises(TypeError, cls)
    assert str(Exception("MicroPython's own")) == "MicroPython's own"
    assert constructors._PACKAGES == ("bms", "hal", "board", "pico")
