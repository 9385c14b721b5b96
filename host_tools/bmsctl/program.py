"""The firmware's modules as one program: where each name is bound, and what constants are worth."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from .trees import Visitor


class UnknownSyntax(Exception):
    """A source uses something that this module doesn't know how to rewrite."""


class Scope:
    """Where names are bound. bound: how often each is; outer: declared global or nonlocal."""

    def __init__(self, node: ast.AST, parent: "Scope | None") -> None:
        self.node = node
        self.parent = parent
        self.bound: Counter[str] = Counter()
        self.outer: set[str] = set()
        self.imports: dict[str, tuple[str, str]] = {}  # by name: module, name in it ("": itself)

    def resolve(self, name: str) -> "Scope | None":
        """The scope that a name used here belongs to; None: a built-in one."""
        scope: Scope | None = self
        while scope is not None:
            skipped = scope is not self and isinstance(scope.node, ast.ClassDef)
            if not skipped and name in scope.bound and name not in scope.outer:
                return scope
            scope = scope.parent
        return None


class Binder(Visitor):
    """Finds the scope of every node that holds a name.

    module: the name of the module that `tree` is; attributes, taken: every Attribute and ImportFrom
    in it.
    """

    def __init__(self, tree: ast.Module, module: str, modules: Iterable[str]) -> None:
        super().__init__()
        self.module = module
        self.modules = set(modules)
        self.at: dict[ast.AST, Scope] = {}
        self.attributes: list[ast.Attribute] = []
        self.taken: list[ast.ImportFrom] = []
        self.scope = self.top = Scope(tree, None)
        self.scopes = [self.top]
        for node in tree.body:
            self.visit(node)

    def bind(self, node: ast.AST, name: str) -> None:
        self.at[node] = self.scope
        self.scope.bound[name] += 1

    def inside(self, node: ast.AST, parts: Iterable[ast.AST]) -> None:
        self.scope = Scope(node, self.scope)
        self.scopes.append(self.scope)
        for part in parts:
            self.visit(part)
        assert self.scope.parent is not None
        self.scope = self.scope.parent

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.at[node] = self.scope
        else:
            self.bind(node, node.id)

    def visit_Constant(self, node: ast.Constant) -> None:
        """It holds no name."""

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.attributes.append(node)
        self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        self.bind(node, node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.bind(node, node.name)
        types = [arg.annotation for arg in _arguments(node.args)]
        defaults = (*node.args.defaults, *node.args.kw_defaults)
        for part in (*node.decorator_list, *types, *defaults, node.returns):
            if part is not None:
                self.visit(part)
        self.inside(node, (*_arguments(node.args), *node.body))

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in (*node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part)
        self.inside(node, (*_arguments(node.args), node.body))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node, node.name)
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self.inside(node, node.body)

    def _comprehension(self, node: ast.AST) -> None:
        first, *others = node.generators  # type: ignore[attr-defined]
        self.visit(first.iter)
        parts = [first.target, *first.ifs, *others]
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                parts.append(getattr(node, name))
        self.inside(node, parts)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.at[node] = self.scope
        self.scope.outer.update(node.names)
        if isinstance(node, ast.Global):
            for name in node.names:
                self.top.bound[name] += 2  # whatever binds it: it is no constant

    visit_Nonlocal = visit_Global

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bind(node, node.name)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            self.bind(alias, name)
            self.scope.imports[name] = (alias.name if alias.asname else name, "")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.taken.append(node)
        if node.level:
            raise UnknownSyntax(f"line {node.lineno}: a relative import")
        for alias in node.names:
            if alias.name == "*":
                if self.scope is not self.top or node.module not in self.modules:
                    raise UnknownSyntax(f"line {node.lineno}: import *")
                continue  # it brings functions: a constant that comes so is found nowhere
            name = alias.asname or alias.name
            self.bind(alias, name)
            whole = f"{node.module}.{alias.name}"
            is_module = whole in self.modules
            self.scope.imports[name] = (whole, "") if is_module else (str(node.module), alias.name)

    def _unknown(self, node: ast.AST) -> None:
        raise UnknownSyntax(f"line {getattr(node, 'lineno', 0)}: {type(node).__name__}")

    visit_AsyncFunctionDef = visit_Match = visit_NamedExpr = visit_TryStar = _unknown


def _arguments(args: ast.arguments) -> "list[ast.arg]":
    found = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    return found + [arg for arg in (args.vararg, args.kwarg) if arg is not None]


class Program:
    """All modules, and the value of each integer constant."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self.trees = dict(trees)
        self.names = {path: module_name(path) for path in trees}
        self.bind()
        self._values: dict[tuple[str, str], int | None] = {}
        self._functions = {
            self.names[path]: {
                x.name: x for x in tree.body if isinstance(x, ast.FunctionDef) and _only_returns(x)
            }
            for path, tree in self.trees.items()
        }
        self._defined = {
            module: dict(_assignments(binder.top.node)) for module, binder in self.binders.items()
        }

    def bind(self) -> None:
        """Look anew where names are bound. Raises UnknownSyntax."""
        self.binders = {self.names[path]: self.binder(path) for path in self.trees}

    def binder(self, path: str) -> Binder:
        """Where the names of a module are bound now. Raises UnknownSyntax."""
        try:
            return Binder(self.trees[path], self.names[path], self.names.values())
        except UnknownSyntax as error:
            raise UnknownSyntax(f"{path}: {error}") from None

    def constant(self, module: str, name: str) -> int | None:
        """The value of a module's integer constant; None: it is none."""
        key = (module, name)
        if key not in self._values:
            self._values[key] = None  # should it be needed for itself
            self._values[key] = self._find(module, name)
        return self._values[key]

    def _find(self, module: str, name: str) -> int | None:
        binder = self.binders.get(module)
        if binder is None or binder.top.bound[name] != 1:
            return None
        if name in binder.top.imports:
            other, its = binder.top.imports[name]
            return self.constant(other, its) if its else None
        if name not in self._defined[module]:
            return None
        value, index = self._defined[module][name]
        if index is None:
            found = self.value(value, binder)
            return found if isinstance(found, int) else None
        several = self.several(value, binder)
        return several[index] if several is not None and index < len(several) else None

    def several(self, node: ast.expr, binder: Binder) -> list[int] | None:
        """The integers that are unpacked from a tuple or `range`."""
        if isinstance(node, ast.Tuple):
            found = [self.value(x, binder) for x in node.elts]
        elif isinstance(node, ast.Call) and _called(node) == "range" and not node.keywords:
            limits = [self.value(x, binder) for x in node.args]
            if any(x is None for x in limits):
                return None
            found = list(range(*[x for x in limits if x is not None]))
        else:
            return None
        return None if any(x is None for x in found) else [x for x in found if x is not None]

    def value(self, node: ast.expr, binder: Binder) -> int | None:
        """The integer that an expression stands for, where that is certain."""
        if isinstance(node, ast.Constant):
            return node.value if type(node.value) is int else None
        if isinstance(node, ast.Name | ast.Attribute):
            return self.used(node, binder)
        if isinstance(node, ast.Call) and _called(node) == "const" and len(node.args) == 1:
            return self.value(node.args[0], binder)
        if isinstance(node, ast.Call):
            return self.returned(node, binder)
        if isinstance(node, ast.UnaryOp):
            inner = self.value(node.operand, binder)
            if inner is None or isinstance(node.op, ast.Not):
                return None
            return {ast.USub: -inner, ast.UAdd: inner, ast.Invert: ~inner}[type(node.op)]
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left, binder), self.value(node.right, binder)
            if left is None or right is None:
                return None
            return _OPERATIONS.get(type(node.op), lambda a, b: None)(left, right)
        return None

    def returned(self, node: ast.Call, binder: Binder) -> int | None:
        """What a function gives whose only line computes it from its arguments."""
        if not isinstance(node.func, ast.Name) or node.keywords:
            return None
        scope = binder.at[node.func].resolve(node.func.id)
        if scope is None or scope is not binder.top or scope.bound[node.func.id] != 1:
            return None
        module, name = scope.imports.get(node.func.id, (binder.module, node.func.id))
        function = self._functions.get(module, {}).get(name)
        values = [self.value(x, binder) for x in node.args]
        if function is None or len(values) != len(function.args.args):
            return None
        given = dict(zip([x.arg for x in function.args.args], values, strict=True))

        def find(part: ast.expr) -> int | None:
            if isinstance(part, ast.Name) and part.id in given:
                return given[part.id]
            if isinstance(part, ast.BinOp):
                left, right = find(part.left), find(part.right)
                if left is None or right is None:
                    return None
                return _OPERATIONS.get(type(part.op), lambda a, b: None)(left, right)
            return self.value(part, self.binders[module])

        last = function.body[-1]
        assert isinstance(last, ast.Return) and last.value is not None
        return find(last.value)

    def sum_of(self, node: ast.Call, binder: Binder) -> "tuple[list[str], ast.expr] | None":
        """Parameters and result of a function that only computes with them and constants.

        None where putting the result in place of the call could change what happens: each
        parameter must stand in it once, in their order.
        """
        if node.keywords:
            return None
        if isinstance(node.func, ast.Name):
            scope = binder.at[node.func].resolve(node.func.id)
            if scope is None or scope.bound[node.func.id] != 1:
                return None
            if scope is not binder.top and node.func.id not in scope.imports:
                return None
            own = (binder.module, node.func.id)
            module, name = scope.imports.get(node.func.id, own)
        elif isinstance(node.func, ast.Attribute):
            module, name = self.module(node.func.value, binder) or "", node.func.attr
        else:
            return None
        function = self._functions.get(module, {}).get(name)
        if function is None or not 0 < len(node.args) == len(function.args.args):
            return None
        params = [x.arg for x in function.args.args]
        last = function.body[-1]
        assert isinstance(last, ast.Return) and last.value is not None
        found: list[str] = []
        result = self._result(last.value, params, self.binders[module], found)
        return (params, result) if result is not None and found == params else None

    def _result(
        self, node: ast.expr, params: list[str], binder: Binder, found: list[str]
    ) -> ast.expr | None:
        """A sum with its constants as numbers; `found`: the parameters in it, as they come."""
        if isinstance(node, ast.Name) and node.id in params:
            found.append(node.id)
            return ast.Name(node.id, ast.Load())
        if isinstance(node, ast.BinOp):
            left = self._result(node.left, params, binder, found)
            right = self._result(node.right, params, binder, found)
            return ast.BinOp(left, node.op, right) if left and right else None
        value = self.value(node, binder)
        return None if value is None else literal(value)

    def used(self, node: ast.expr, binder: Binder) -> int | None:
        """The constant that a name, or `module.name`, stands for where it is used."""
        if isinstance(node, ast.Name):
            scope = binder.at[node].resolve(node.id)
            if scope is None or scope.bound[node.id] != 1:
                return None
            if node.id in scope.imports:
                module, its = scope.imports[node.id]
                return self.constant(module, its) if its else None
            if scope is not binder.top:
                return None
            return self.constant(binder.module, node.id)
        if isinstance(node, ast.Attribute):
            module = self.module(node.value, binder)
            return self.constant(module, node.attr) if module else None
        return None

    def module(self, node: ast.expr, binder: Binder) -> str | None:
        """The firmware's module that an expression stands for."""
        if not isinstance(node, ast.Name):
            return None
        scope = binder.at[node].resolve(node.id)
        if scope is None or scope.bound[node.id] != 1 or node.id not in scope.imports:
            return None
        module, its = scope.imports[node.id]
        return module if not its and module in self.binders else None

    def origin(self, binder: Binder, base: ast.expr) -> tuple[str, str]:
        """Module and name of a base class; module "": a built-in one."""
        if isinstance(base, ast.Name):
            scope = binder.at[base].resolve(base.id)
            if scope is not None and base.id in scope.imports:
                return scope.imports[base.id]
            return (binder.module if scope is not None else "", base.id)
        if isinstance(base, ast.Attribute):
            module = self.module(base.value, binder)
            if module:
                return module, base.attr
        raise UnknownSyntax(f"line {base.lineno}: a base class that has no plain name")


_OPERATIONS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b if b else None,
    ast.Mod: lambda a, b: a % b if b else None,
    ast.LShift: lambda a, b: a << b if 0 <= b < 64 else None,
    ast.RShift: lambda a, b: a >> b if b >= 0 else None,
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitXor: lambda a, b: a ^ b,
}


def literal(value: int) -> ast.expr:
    """An integer as the parser gives it."""
    if value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def module_name(path: str) -> str:
    """The module that a file is, by its path on the board."""
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def _only_returns(function: ast.FunctionDef) -> bool:
    """True for `def f(a, b): return ..`, a docstring apart."""
    lines = [
        x
        for x in function.body
        if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))
    ]
    args = function.args
    plain = not (args.posonlyargs or args.kwonlyargs or args.vararg or args.kwarg or args.defaults)
    returns = len(lines) == 1 and isinstance(lines[0], ast.Return) and lines[0].value is not None
    return plain and returns and not function.decorator_list


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _assignments(tree: ast.AST) -> "Iterator[tuple[str, tuple[ast.expr, int | None]]]":
    """Names that are assigned in a module's own lines: value, and place where it is unpacked."""
    for node in tree.body:  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, (node.value, None)
                elif isinstance(target, ast.Tuple):
                    for index, one in enumerate(target.elts):
                        if isinstance(one, ast.Name):
                            yield one.id, (node.value, index)
