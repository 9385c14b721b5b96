"""Makes room in the tables of attributes, so that the cycle finds them at the first look.

MicroPython fills a hash table of attributes to its last slot before it makes a larger one
(py/map.c): then a method, which is looked for in the object before its class, costs a walk through
the whole table, at each call. Runs once, after the start; only here are such tables enlarged.
"""

# sizes of tables (py/map.c), as far as objects of the firmware need them
_SIZES = (4, 6, 8, 10, 12, 17, 23, 29, 37, 47, 59, 73, 97, 127, 167)
# attributes that no object here has; their names are in MicroPython's image
_SPARE = (
    "__add__",
    "__call__",
    "__contains__",
    "__del__",
    "__enter__",
    "__eq__",
    "__exit__",
    "__ge__",
    "__getitem__",
    "__gt__",
    "__iter__",
    "__le__",
    "__len__",
    "__lt__",
    "__mul__",
    "__next__",
    "__setitem__",
    "__sub__",
)


def make_room(part, depth=4, seen=None):
    """Enlarge the tables of an object and of all that it holds, where they are nearly full."""
    if seen is None:
        seen = []
    if not depth or part in seen or isinstance(part, type) or not hasattr(part, "__dict__"):
        return
    seen.append(part)
    attributes = part.__dict__
    _enlarge(part)
    for name in list(attributes):
        value = attributes[name]
        if isinstance(value, (list, tuple)):
            for one in value:
                make_room(one, depth - 1, seen)
        else:
            make_room(value, depth - 1, seen)


def _enlarge(part):
    """Enlarge the table of an object if more than three quarters are used."""
    attributes = part.__dict__
    n = len(attributes)
    for size in _SIZES:
        if n <= size:
            break
    else:
        return
    spare = [name for name in _SPARE if name not in attributes][: size - n + 1]
    if n < 4 or n * 4 < size * 3 or len(spare) <= size - n:
        return
    try:
        for name in spare:
            setattr(part, name, None)
        for name in spare:
            delattr(part, name)
    except (AttributeError, TypeError):
        pass  # a built-in object
