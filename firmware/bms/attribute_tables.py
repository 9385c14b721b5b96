"""Makes room in the tables of attributes, so that the cycle finds them at the first look.

MicroPython fills a hash table of attributes to its last slot before it makes a larger one
(py/map.c): then a method, which is looked for in the object before its class, costs a walk through
the whole table, at each call. Runs once, after the start; only here are such tables enlarged.
"""

from array import array

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


# what has no attributes of its own, or none that is looked for; most values are of these kinds
_PLAIN = (int, bool, bytes, bytearray, str, type(None), array, type(len), dict)


def make_room(part, depth=4):
    """Enlarge the tables of an object and of all that it holds, where they are nearly full.

    depth: down to which level. Returns the objects that were looked at, by `id`.
    """
    seen = {}
    _visit(part, depth, seen, _PLAIN + (type(make_room), type([].append)))
    return seen


def _visit(part, depth, seen, plain):
    """The same; plain: types that are passed over."""
    if id(part) in seen or isinstance(part, type) or not hasattr(part, "__dict__"):
        return
    seen[id(part)] = part
    attributes = part.__dict__
    _enlarge(part, attributes)
    if depth == 1:
        return
    for name in list(attributes):
        value = attributes[name]
        kind = type(value)
        if kind in plain:
            continue
        if kind is list or kind is tuple:
            for one in value:
                if type(one) not in plain:
                    _visit(one, depth - 1, seen, plain)
        else:
            _visit(value, depth - 1, seen, plain)


def _enlarge(part, attributes):
    """Enlarge the table of an object if more than three quarters are used."""
    n = len(attributes)
    for size in _SIZES:
        if n <= size:
            break
    else:
        return
    if n < 4 or n * 4 < size * 3:
        return
    spare = []
    for name in _SPARE:
        if name not in attributes:
            spare.append(name)
            if len(spare) > size - n:
                break
    else:
        return
    try:
        for name in spare:
            setattr(part, name, None)
        for name in spare:
            delattr(part, name)
    except (AttributeError, TypeError):
        pass  # a built-in object
