"""Short names for what the firmware's modules, classes and objects hold: a step of `compact`.

A name is the same everywhere, so that no object's class need be known. Two names share a short one
where no object, module or class body can have both. Most short names are some that every
MicroPython has in its ROM for itself: they take no heap at all.
"""

import ast
import keyword
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice

from .program import Binder, Program, Scope
from .trees import nodes

# Names of functions, methods and parameters that are in the ROM of MicroPython on every board, the
# shortest first. Left out are built-in names, modules, and what MicroPython itself looks up on
# objects of a program (of streams, block devices, generators, mappings).
_IN_ROM_WORDS = """
e pi cos exp sin sub tan tau acos asin atan ceil cosh erfc fabs find fmod imag log2 md5 modf poly
real rect seed sha1 sinh sort tanh acosh asinh atan2 atanh coro crc32 dumps expm1 flags floor
frexp gamma group hline isinf isnan ldexp loads log10 lower match phase pixel polar rfind split
strip trunc upper vline center choice decode digest encode getter gmtime index insert lgamma
little lstrip mktime remove rindex rsplit rstrip scroll search setter sha256 single unpack abs_tol
closure count degrees deleter ellipse extend fromhex generator heapify heappop hexlify isalpha
isclose isdigit islower isspace isupper maxsize newline ph_key popitem popleft radians randint
rel_tol replace reverse sizeof uniform urandom bytes_at calcsize copysign cur_task encoding
endswith fromkeys heappush isfinite issubset iterator keepends libc_ver platform addressof
buffering byteorder dict_view errorcode factorial fill_rect function get_ident localtime pack_into
partition randrange setdefault splitlines startswith threshold to_bytes unhexlify a2b_base64
appendleft b2a_base64 blit bound_method difference from_bytes isdisjoint issuperset namedtuple
pend_throw rpartition separators stack_size union bytearray_at getrandbits intersection
unpack_from allocate_lock python_compiler start_new_thread difference_update intersection_update
symmetric_difference symmetric_difference_update
"""
IN_ROM = tuple(_IN_ROM_WORDS.split())
# So many names are the firmware's own: MicroPython finds the hash of a name quicker, the later it
# was made (py/qstr.c, find_qstr), so those that are used most are no names of the ROM.
_OWN = 60
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

Places = dict[str, dict[str, str]]


def letters() -> Iterator[str]:
    """a, b, .. z, aa, ab, .., keywords apart."""
    length = 1
    while True:
        for number in range(len(_LETTERS) ** length):
            name = ""
            for _ in range(length):
                number, letter = divmod(number, len(_LETTERS))
                name = _LETTERS[letter] + name
            if not keyword.iskeyword(name):
                yield name
        length += 1


def held(node: ast.AST) -> str | None:
    """The name that a node binds or uses."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.ExceptHandler | ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.alias):
        return node.asname or node.name.split(".")[0]
    return None


Place = tuple[str, str]  # a class: module and name


class _Classes:
    """What objects of each class can have.

    names: a set for each class, with the names of those that it is made from; foreign: names of
    classes that are made from one of MicroPython's.
    """

    def __init__(self, program: Program) -> None:
        self._own: dict[Place, set[str]] = {}
        self._bases: dict[Place, list[Place]] = {}
        for module, binder in program.binders.items():
            for scope in binder.scopes:
                if isinstance(scope.node, ast.ClassDef):
                    place = (module, scope.node.name)
                    own = self._own.setdefault(place, set())
                    own |= set(scope.bound) | _of_self(scope.node)
                    bases = [program.origin(binder, x) for x in scope.node.bases]
                    self._bases.setdefault(place, []).extend(bases)
        every = {place: self._with_bases(place) for place in self._own}
        self.names = [set().union(*(self._own.get(x, ()) for x in all)) for all in every.values()]
        self.foreign = {place[1] for place, all in every.items() if not all <= set(self._own)}

    def _with_bases(self, place: Place) -> set[Place]:
        return {place}.union(*(self._with_bases(base) for base in self._bases.get(place, ())))


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _of_self(node: ast.ClassDef) -> set[str]:
    return {x.attr for x in nodes(node) if isinstance(x, ast.Attribute) and _is_self(x.value)}


class Shortener:
    """All names that the program defines itself and that may change.

    kept: those that may not; functions: whether those of functions and classes may.
    """

    def __init__(self, program: Program, kept: set[str], functions: bool) -> None:
        self.program = program
        self.kept = set(kept)
        self.functions = functions
        self.defined: set[str] = set()
        self.bound: set[str] = set()  # names of modules' own lines and of class bodies
        self.alone: set[str] = set()  # attributes that some object gets from outside
        self.attributes: Counter[str] = Counter()
        self.plain: set[str] = set()  # whatever stands as a name, not as an attribute
        classes = _Classes(program)
        self.kept |= classes.foreign
        self.together = classes.names
        for module, binder in program.binders.items():
            self.kept.update(module.split("."))
            self._look(binder)
        self.defined = {x for x in self.defined - self.kept if not x.startswith("__")}
        self.new: dict[str, str] = {}

    def _look(self, binder: Binder) -> None:
        in_module: set[str] = set()
        for node, scope in binder.at.items():
            name = held(node)
            if name is None:
                continue
            if not self._is_ours(scope.resolve(name)):
                self.plain.add(name)
                continue
            self.bound.add(name)
            self.defined.add(name)
            in_module.add(name)
            self.attributes[name] += 1
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not self.functions:
                self.kept.add(name)
            if isinstance(node, ast.alias):
                source, its = scope.imports[name]
                if source not in self.program.binders or not its and node.asname is None:
                    self.kept.update((name, its))
        # a class body sees the names of its module; and a function's name is one in its module
        self.together.append(in_module)
        for node in binder.attributes:
            self.attributes[node.attr] += 1
            if not isinstance(node.ctx, ast.Load):
                self.defined.add(node.attr)
                if not _is_self(node.value):
                    self.alone.add(node.attr)
            if self._is_foreign(node.value, binder):
                self.kept.add(node.attr)
        for node in binder.taken:
            if node.module not in self.program.binders:
                self.kept.update(x.name for x in node.names)

    @staticmethod
    def _is_ours(scope: Scope | None) -> bool:
        """True for names that a module or a class holds: no locals, no built-in names."""
        return scope is not None and isinstance(scope.node, ast.Module | ast.ClassDef)

    def _is_foreign(self, node: ast.expr, binder: Binder) -> bool:
        """True for what comes out of a module of another program."""
        while not isinstance(node, ast.Name):
            if isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            elif isinstance(node, ast.Call):
                node = node.func
            else:
                return False
        scope = binder.at[node].resolve(node.id)
        if scope is None or node.id not in scope.imports:
            return False
        return scope.imports[node.id][0] not in self.program.binders

    def choose(self) -> None:
        """A short name for every name: what is used most first, so that files are small."""
        meets: dict[str, set[str]] = defaultdict(set)
        for family in self.together:
            names = family & self.defined
            for name in names:
                meets[name] |= names
        alone = self.alone & self.defined
        # on an object without a known class, every attribute that stays can lie beside a new one
        taken = (set(self.attributes) | self.kept | self.bound) - self.defined
        plain = taken | self.plain | (self.bound - self.defined)
        for name in sorted(self.defined, key=lambda x: (x not in alone, -self.attributes[x], x)):
            beside = self.defined if name in alone else meets[name] | alone
            not_these = {self.new[x] for x in beside if x in self.new}
            not_these |= plain if name in self.bound else taken
            self.new[name] = next(x for x in self._candidates() if x not in not_these)

    @staticmethod
    def _candidates() -> Iterator[str]:
        yield from islice(letters(), _OWN)
        yield from IN_ROM
        yield from letters()

    def rename(self) -> Places:
        """Put the new names in; returns old names of functions by module and new name."""
        self.choose()
        places: Places = {}
        for module, binder in self.program.binders.items():
            here = places[module] = {}
            for node, scope in binder.at.items():
                name = held(node)
                if isinstance(node, ast.Global):
                    node.names = [self.new.get(x, x) for x in node.names]
                elif name is None or not self._is_ours(scope.resolve(name)):
                    continue
                elif isinstance(node, ast.Name):
                    node.id = self.new.get(name, name)
                elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
                    node.name = self.new.get(name, name)
                    if isinstance(node, ast.FunctionDef) and name in self.new:
                        here[self.new[name]] = name
                elif isinstance(node, ast.alias) and node.asname:
                    node.asname = self.new.get(name, name)
            self._rename_rest(binder)
        return places

    def _rename_rest(self, binder: Binder) -> None:
        """Attributes, and names that are imported."""
        for node in binder.attributes:
            node.attr = self.new.get(node.attr, node.attr)
        for node in binder.taken:
            for alias in node.names if node.module in self.program.binders else ():
                if alias.name not in self.new:
                    continue
                if alias.asname is None and not self._is_ours(binder.at[alias]):
                    alias.asname = alias.name
                alias.name = self.new[alias.name]
                if alias.asname == alias.name:
                    alias.asname = None
