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
from collections import defaultdict
from collections.abc import Iterable, Mapping

from .program import Binder, Program, Scope, UnknownSyntax, literal, module_name
from .short_names import Places, Shortener, held, letters

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


class _Inline(ast.NodeTransformer):
    """Puts constants where they are used, and short sums where they are called."""

    def __init__(self, program: Program, binder: Binder) -> None:
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


class _Put(ast.NodeTransformer):
    """Puts arguments in place of parameters."""

    def __init__(self, params: list[str], args: list[ast.expr]) -> None:
        self.args = dict(zip(params, args, strict=True))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.args[node.id]


class _Drop(ast.NodeTransformer):
    """Takes out imports that nothing uses any more, and constants that nobody can ask for."""

    def __init__(self, program: Program, path: str, needed: set[str]) -> None:
        self.program = program
        self.module = program.names[path]
        self.needed = needed
        tree = program.trees[path]
        self.binder = Binder(tree, program.binders)
        self.used: set[tuple[Scope, str]] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
                scope = self.binder.at[node].resolve(node.id)
                if scope is not None:
                    self.used.add((scope, node.id))
        self.scope = self.binder.top

    def _goes(self, name: str) -> bool:
        if (self.binder.top, name) in self.used or name in self.needed:
            return False
        return self.program.constant(self.module, name) is not None

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        if self.binder.at.get(_first_name(node.targets[0])) is not self.binder.top:
            return node
        if len(node.targets) > 1:
            return node
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        if all(isinstance(x, ast.Name) and self._goes(x.id) for x in names):
            return None
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        kept = []
        if node.names[0].name == "*":
            return node
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
        return node if kept else None


def _first_name(node: ast.expr) -> ast.expr:
    return _first_name(node.elts[0]) if isinstance(node, ast.Tuple) and node.elts else node


def _drop_unused(trees: Iterable[ast.AST], kept: set[str]) -> None:
    """Takes out functions, methods and classes that nothing mentions: another board has them."""
    trees = list(trees)
    while True:
        mentioned = set(kept)
        for node in (x for tree in trees for x in ast.walk(tree)):
            if isinstance(node, ast.Name):
                mentioned.add(node.id)
            elif isinstance(node, ast.Attribute):
                mentioned.add(node.attr)
            elif isinstance(node, ast.alias):
                mentioned.add(node.name)
        before = sum(len(ast.dump(tree)) for tree in trees)
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef):
                    node.body = [x for x in node.body if not _is_unused(x, mentioned)]
            _fill(tree)
        if sum(len(ast.dump(tree)) for tree in trees) == before:
            return


def _is_unused(node: ast.stmt, mentioned: set[str]) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.decorator_list:
        return False
    return node.name not in mentioned and not node.name.startswith("__")


def _fill(tree: ast.AST) -> None:
    """A block that lost all its statements gets a `pass`."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())


def _texts(trees: Iterable[ast.AST]) -> set[str]:
    """Every text in the sources, docstrings apart, and the words of those."""
    found: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def _bare(tree: ast.AST) -> None:
    """Takes out docstrings and other texts that nothing uses."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                x
                for x in body
                if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))
            ]
    _fill(tree)


def _direct(sources: Mapping[str, str]) -> dict[str, str]:
    """The sources, with names imported from where they are made, not from who passes them on."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    passed_on: dict[tuple[str, str], tuple[str, str]] = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    key = (module_name(path), alias.asname or alias.name)
                    passed_on[key] = (node.module, alias.name)

    class Direct(ast.NodeTransformer):
        def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
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
                    out.append(ast.ImportFrom(module, [its], 0))
            return out

    for path, tree in trees.items():
        if any(isinstance(x, ast.ImportFrom) and x.level for x in ast.walk(tree)):
            continue  # handled by name below
        trees[path] = Direct().visit(tree)
    return {path: ast.unparse(ast.fix_missing_locations(tree)) for path, tree in trees.items()}


def _shorten_parameters(program: Program, kept: set[str]) -> None:
    """Parameters, and with them the locals of their functions, get the same few names."""
    for tree in program.trees.values():
        binder = Binder(tree, program.binders)
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
    program = Program(_direct(sources))
    for tree in program.trees.values():
        _bare(tree)
    program.binders = {
        program.names[path]: Binder(tree, set(program.names.values()))
        for path, tree in program.trees.items()
    }
    for path, tree in program.trees.items():
        _Inline(program, program.binders[program.names[path]]).visit(tree)
    texts = _texts(program.trees.values()) | set(kept)
    needed = texts | {
        node.attr
        for tree in program.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    needed |= {
        alias.name
        for tree in program.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in program.binders
        for alias in node.names
    }
    for path in program.trees:
        drop = _Drop(program, path, needed)
        program.trees[path] = drop.visit(program.trees[path])
        _fill(program.trees[path])
    _drop_unused(program.trees.values(), texts | set(FOREIGN))
    keywords = {
        node.arg
        for tree in program.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg
    }
    program.binders = {
        program.names[path]: Binder(tree, set(program.names.values()))
        for path, tree in program.trees.items()
    }
    places = Shortener(program, texts | set(FOREIGN), functions).rename()
    _shorten_parameters(program, texts | keywords)
    rewritten = {
        path: ast.unparse(ast.fix_missing_locations(tree)) + "\n"
        for path, tree in program.trees.items()
    }
    return rewritten, places
