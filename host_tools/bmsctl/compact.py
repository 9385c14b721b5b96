"""Firmware sources, rewritten so that they take less of a board's heap; what they do stays.

A board keeps every name that a module mentions for as long as it runs. So, before `mpy-cross`:

- Integer constants of modules stand where they are used, across modules, and their definitions go.
- Functions and classes that nothing mentions go.
- Names are imported from the module that makes them, not from one that passes them on.
- Names of attributes, functions, classes and variables become short ones, see `short_names`.
- Parameters that nobody passes by name become short ones.

What stays: names of modules and of exceptions; those that MicroPython has too (`FOREIGN`); those
that stand in a text anywhere, since `getattr` could ask for them. The sources must be all that run
on the board: who adds code there sees the short names.
"""

import ast
import copy
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from .program import Binder, Program, Scope, UnknownSyntax, literal, module_name
from .short_names import Places, Shortener, held, letters
from .trees import Rewriter, blocks, edit, nodes, statements

# Names that the firmware's own classes and modules share with MicroPython's: either can be meant
_FOREIGN_WORDS = """
ANALOG BOOT CLEAR CONFIG MARK MASK NATIVE ORDER OUT_LOW SLAVE Sequence active add board build bytes
channel clear close closed code command copy count crc8 data done end error expired feed fill find
flush hex high id line lines link listen load lock locked low main member modules mv names native
next open out pack parse path pending poll port power put raw read reason release request
reset_cause restart reversed run send serial set share shift show size splice start state status
step stop string text ticks_diff ticks_us total trigger update value values wait wait_for word
write written x
"""
FOREIGN = tuple(_FOREIGN_WORDS.split())
_FUNCTIONS = (ast.FunctionDef, ast.Lambda)


class _Inline(Rewriter):
    """Puts constants where they are used, and short sums where they are called."""

    def __init__(self, program: Program, binder: Binder) -> None:
        super().__init__()
        self.program = program
        self.binder = binder

    def visit_Call(self, node: ast.Call) -> ast.expr:
        sum_ = self.program.sum_of(node, self.binder)
        self.generic_visit(node)
        return _Put(sum_[0], node.args).visit(copy.deepcopy(sum_[1])) if sum_ else node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        sign = _sign(node)
        if sign is None:
            return node
        tick, half, negative = sign
        compared = ast.GtE() if negative else ast.Lt()
        return ast.Compare(tick, [compared], [ast.Constant(half)])

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load):
            value = self.program.used(node, self.binder)
            if value is not None:
                return literal(value)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.ctx, ast.Load):
            value = self.program.used(node, self.binder)
            if value is not None:
                return literal(value)
        self.generic_visit(node)
        return node


def _sign(node: ast.Compare) -> "tuple[ast.expr, int, bool] | None":
    """For `((x + half) & mask) - half` compared with 0: `x & mask`, half, and whether by `<`.

    The sign of a difference of ticks: `x & mask < half` is the same where mask is 2 * half - 1.
    """
    if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Lt | ast.GtE):
        return None
    zero = node.comparators[0]
    match node.left:
        case ast.BinOp(
            ast.BinOp(
                ast.BinOp(x, ast.Add(), ast.Constant(int() as half)),
                ast.BitAnd(),
                ast.Constant(mask),
            ),
            ast.Sub(),
            ast.Constant(again),
        ) if half == again and mask == 2 * half - 1:
            if isinstance(zero, ast.Constant) and zero.value == 0:
                tick = ast.BinOp(x, ast.BitAnd(), ast.Constant(mask))
                return tick, half, isinstance(node.ops[0], ast.Lt)
    return None


class _Put(Rewriter):
    """Puts arguments in place of parameters."""

    def __init__(self, params: list[str], args: list[ast.expr]) -> None:
        super().__init__()
        self.args = dict(zip(params, args, strict=True))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.args[node.id]


class _Drop:
    """Takes out imports that nothing uses any more, and constants that nobody can ask for."""

    def __init__(self, program: Program, path: str, needed: set[str]) -> None:
        self.program = program
        self.module = program.names[path]
        self.needed = needed
        self.binder = program.binder(path)
        self.used: set[tuple[Scope, str]] = set()
        for node, scope in self.binder.at.items():
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
                owner = scope.resolve(node.id)
                if owner is not None:
                    self.used.add((owner, node.id))

    def _goes(self, name: str) -> bool:
        if (self.binder.top, name) in self.used or name in self.needed:
            return False
        return self.program.constant(self.module, name) is not None

    def left(self, node: ast.stmt) -> tuple[ast.stmt, ...]:
        """A statement, or nothing."""
        if isinstance(node, ast.Assign):
            return () if self._is_dropped(node) else (node,)
        return (node,) if not isinstance(node, ast.ImportFrom) or self._imports(node) else ()

    def _is_dropped(self, node: ast.Assign) -> bool:
        if self.binder.at.get(_first_name(node.targets[0])) is not self.binder.top:
            return False
        if len(node.targets) > 1:
            return False
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        return all(isinstance(x, ast.Name) and self._goes(x.id) for x in names)

    def _imports(self, node: ast.ImportFrom) -> bool:
        """Take out what it imports for nobody; whether something is left."""
        kept = []
        if node.names[0].name == "*":
            return True
        for alias in node.names:
            name = alias.asname or alias.name
            scope = self.binder.at[alias]
            whole = f"{node.module}.{alias.name}"
            ours = whole in self.program.binders or str(node.module) in self.program.binders
            needed = scope is self.binder.top and name in self.needed
            side_effects = not ours and node.module != "micropython"
            if (scope, name) in self.used or needed or side_effects:
                kept.append(alias)
        node.names = kept
        return bool(kept)


def _first_name(node: ast.expr) -> ast.expr:
    return _first_name(node.elts[0]) if isinstance(node, ast.Tuple) and node.elts else node


def _mentioned(tree: ast.AST) -> Counter[str]:
    """How often each name is mentioned."""
    found: Counter[str] = Counter()
    for node in nodes(tree):
        if isinstance(node, ast.Name):
            found[node.id] += 1
        elif isinstance(node, ast.Attribute):
            found[node.attr] += 1
        elif isinstance(node, ast.alias):
            found[node.name] += 1
    return found


def _drop_unused(trees: Collection[ast.Module], kept: set[str]) -> None:
    """Takes out functions, methods and classes that nothing mentions: another board has them."""
    mentioned = Counter(kept)
    holders: list[ast.Module | ast.ClassDef] = [*trees]
    for tree in trees:
        mentioned.update(_mentioned(tree))
        holders += [x for x in statements(tree) if isinstance(x, ast.ClassDef)]
    gone: set[ast.AST] = set()
    before = -1
    while len(gone) > before:
        before = len(gone)
        for holder in holders:
            # a class that went took what it holds along: nothing is taken out twice
            unused = [x for x in holder.body if holder not in gone and _is_unused(x, mentioned)]
            for node in unused:
                holder.body.remove(node)
                mentioned.subtract(_mentioned(node))
                gone |= {node, *statements(node)}
    for tree in trees:
        _fill(tree)


def _is_unused(node: ast.stmt, mentioned: Counter[str]) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.decorator_list:
        return False
    return not mentioned[node.name] and not node.name.startswith("__")


def _fill(tree: ast.AST) -> None:
    """A block that lost all its statements gets a `pass`."""
    for node, field in blocks(tree):
        body = getattr(node, field)
        if field == "body" and not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())


def _bare(tree: ast.AST) -> None:
    """Takes out docstrings and other texts that nothing uses."""
    edit(
        tree,
        lambda x: () if isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant) else (x,),
    )
    _fill(tree)


def _direct(trees: Mapping[str, ast.Module]) -> None:
    """Has names imported from where they are made, not from who passes them on."""
    passed_on: dict[tuple[str, str], tuple[str, str]] = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    key = (module_name(path), alias.asname or alias.name)
                    passed_on[key] = (node.module, alias.name)

    def direct(node: ast.stmt) -> list[ast.stmt]:
        if not isinstance(node, ast.ImportFrom):
            return [node]
        out: list[ast.stmt] = []
        for alias in node.names:
            module, name = str(node.module), alias.name
            while (module, name) in passed_on:
                module, name = passed_on[module, name]
            bound = alias.asname or alias.name
            its = ast.alias(name, bound if bound != name else None)
            last = out[-1] if out else None
            if isinstance(last, ast.ImportFrom) and last.module == module:
                last.names.append(its)
            else:
                out.append(ast.copy_location(ast.ImportFrom(module, [its], 0), node))
        return out

    for tree in trees.values():
        if not any(isinstance(x, ast.ImportFrom) and x.level for x in statements(tree)):
            edit(tree, direct)  # a relative import is refused later


def _shorten_parameters(program: Program, kept: set[str]) -> None:
    """Parameters, and with them the locals of their functions, get the same few names."""
    for binder in program.binders.values():
        by_scope: dict[Scope, list[ast.AST]] = defaultdict(list)
        seen: dict[Scope, set[str]] = defaultdict(set)
        for node, scope in binder.at.items():
            name = held(node)
            if name is None:
                continue
            owner = scope.resolve(name)
            if owner is not None:
                by_scope[owner].append(node)
            # whatever is seen from a scope must not be hidden by a new name there
            inner: Scope | None = scope
            while inner is not None:
                seen[inner].add(name)
                inner = inner.parent
        for scope in binder.scopes:
            if not isinstance(scope.node, _FUNCTIONS):
                continue
            args = scope.node.args
            hidden = seen[scope] | kept
            free = (x for x in letters() if x not in hidden)
            new = {}
            for arg in (*args.posonlyargs, *args.args):
                if arg.arg not in kept and arg.arg not in scope.outer:
                    new[arg.arg] = next(free)
            for node in by_scope[scope]:
                name = held(node)
                if name in new:
                    if isinstance(node, ast.arg):
                        node.arg = new[name]
                    elif isinstance(node, ast.Name):
                        node.id = new[name]
                    elif isinstance(node, ast.ExceptHandler):
                        node.name = new[name]
                    else:
                        raise UnknownSyntax(f"parameter {name} is bound by {type(node).__name__}")
            inner_scopes = [x for x in binder.scopes if x is not scope]
            for other in inner_scopes:
                up: Scope | None = other
                while up is not None and up is not scope:
                    up = up.parent
                if up is scope:
                    seen[other].update(new.values())


def compact(sources: Mapping[str, str], kept: Iterable[str] = ()) -> dict[str, str]:
    """The sources by path, rewritten; `kept`: further names that stay. Raises UnknownSyntax."""
    return compact_with_names(sources, kept)[0]


def compact_with_names(
    sources: Mapping[str, str], kept: Iterable[str] = (), functions: bool = True
) -> tuple[dict[str, str], Places]:
    """The same, and the names that functions had, by module and short name.

    functions: False: they and classes keep their names.
    """
    trees = {path: ast.parse(text) for path, text in sources.items()}
    return compact_trees(trees, kept, functions)


def compact_trees(
    trees: Mapping[str, ast.Module], kept: Iterable[str] = (), functions: bool = True
) -> tuple[dict[str, str], Places]:
    """The same for sources as trees, which it changes."""
    _direct(trees)
    for tree in trees.values():
        _bare(tree)
    program = Program(trees)
    for path, tree in trees.items():
        _Inline(program, program.binders[program.names[path]]).visit(tree)
    every = [node for tree in trees.values() for node in nodes(tree)]
    texts = {x.value for x in every if isinstance(x, ast.Constant) and isinstance(x.value, str)}
    texts |= set(kept)  # a text may be a name that `getattr` asks for
    needed = texts | {node.attr for node in every if isinstance(node, ast.Attribute)}
    needed |= {
        alias.name
        for node in every
        if isinstance(node, ast.ImportFrom) and node.module not in program.binders
        for alias in node.names
    }
    for path, tree in trees.items():
        edit(tree, _Drop(program, path, needed).left)
        _fill(tree)
    _drop_unused(trees.values(), texts | set(FOREIGN))
    program.bind()
    places = Shortener(program, texts | set(FOREIGN), functions).rename()
    program.bind()
    keywords = {
        node.arg
        for tree in trees.values()
        for node in nodes(tree)
        if isinstance(node, ast.keyword) and node.arg
    }
    _shorten_parameters(program, texts | keywords)
    rewritten = {path: ast.unparse(tree) + "\n" for path, tree in trees.items()}
    return rewritten, places
