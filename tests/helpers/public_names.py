"""Finds public names of a package that nobody uses, on the syntax trees of its files.

A definition is a function, a class or a constant at the top of a module, or a method of a class.
It lives if living code outside its own body names it; living code is what runs when a file is
imported, whole files of users (configs, experiments), Python shown in documents, the names that a
document lists, and the bodies of living definitions. Two dead functions that call each other are
therefore dead, both. Names are followed through imports and their aliases, and a module that is
passed as a value lends life to whatever an attribute of that name could mean. Methods are judged
by name alone, because nobody knows an object's class here.
"""

import ast
import builtins
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = dict[str, str]  # what a name stands for; "" for a local variable


@dataclasses.dataclass
class Names:
    """What a piece of code names.

    Attributes:
      dotted: Full names, through imports.
      attributes: Names behind a dot whose object is unknown.
      values: Full names that stand alone, not before a dot.
    """

    dotted: set[str] = dataclasses.field(default_factory=set)
    attributes: set[str] = dataclasses.field(default_factory=set)
    values: set[str] = dataclasses.field(default_factory=set)

    def add(self, other: "Names") -> None:
        """Adds what other code names."""
        self.dotted |= other.dotted
        self.attributes |= other.attributes
        self.values |= other.values


@dataclasses.dataclass(frozen=True)
class Module:
    """A file of the package: its definitions, and what runs at import.

    Attributes:
      bodies: What each definition of the top names; methods as "Class.method".
      imports: What the imported names of the top stand for.
      start: What the rest of the file names.
      bases: Full names of what each class inherits from.
    """

    bodies: dict[str, Names]
    imports: Scope
    start: Names
    bases: dict[str, list[str]]


def find_dead(
    packages: dict[str, pathlib.Path], *, users: Iterable[str], listed: Iterable[str]
) -> list[str]:
    """Lists the public names that nobody uses.

    Args:
      packages: Folder of each package that is judged, by its name.
      users: Python text of everybody who may use them.
      listed: Full names that a document promises.

    Returns:
      Full names, sorted; `package.module.Class.method` for methods.
    """
    modules = _read_packages(packages)
    used = Names(dotted=set(listed))
    used.attributes |= {name.rsplit(".", 1)[-1] for name in used.dotted}
    for text in users:
        used.add(_names(ast.parse(text).body, {}))
    for module in modules.values():
        used.add(module.start)
    waiting = {(m, d) for m, module in modules.items() for d in module.bodies}
    while newly := {place for place in waiting if _is_used(*place, used, modules, waiting)}:
        for module, name in newly:
            used.add(modules[module].bodies[name])
        waiting -= newly
    public = [f"{m}.{d}" for m, d in waiting]
    return sorted(name for name in public if not re.search(r"\._", name))


def definitions(packages: dict[str, pathlib.Path]) -> set[str]:
    """Lists the full names of everything that packages define."""
    return {f"{m}.{d}" for m, module in _read_packages(packages).items() for d in module.bodies}


def unknown(text: str, packages: dict[str, pathlib.Path]) -> list[str]:
    """Lists the names of packages that a Python text uses and that are not there."""
    modules = _read_packages(packages)
    found = []
    for dotted in _names(ast.parse(text).body, {}).dotted:
        module, _, name = _follow(dotted, modules).rpartition(".")
        if module in modules and name not in modules[module].bodies and dotted not in modules:
            found.append(dotted)
    return sorted(found)


def documented(text: str) -> list[str]:
    """Finds the full names that a document lists in backticks, `package.module.name`."""
    return re.findall(r"`((?:ganavatar_jax|weight_port)(?:\.\w+)+)`", text)


def python_blocks(text: str) -> list[str]:
    """Finds the Python that a document shows."""
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def _read_packages(packages: dict[str, pathlib.Path]) -> dict[str, Module]:
    modules = {}
    for name, folder in packages.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (name, *path.relative_to(folder).with_suffix("").parts)
            module = ".".join(parts).removesuffix(".__init__")
            modules[module] = _read_module(ast.parse(path.read_text()), module)
    return modules


def _is_used(
    module: str, name: str, used: Names, modules: dict[str, Module], dead: set[tuple[str, str]]
) -> bool:
    owner, _, method = name.partition(".")
    if method:
        if (module, owner) in dead:
            return False
        known = method in used.attributes or f"{module}.{name}" in used.dotted
        return known or method.startswith("__") or _is_called_back(f"{module}.{owner}", modules)
    if module in used.values and name in used.attributes:
        return True
    full = f"{module}.{name}"
    spelled = (dotted for dotted in used.dotted if dotted.endswith(f".{name}"))
    return any(
        full.endswith(dotted[1:]) if dotted[0] == "*" else _follow(dotted, modules) == full
        for dotted in spelled
    )


def _follow(dotted: str, modules: dict[str, Module]) -> str:
    """Finds where a name comes from that a module only passes on."""
    module, _, name = dotted.rpartition(".")
    while module in modules and name in modules[module].imports:
        module, _, name = modules[module].imports[name].rpartition(".")
    return f"{module}.{name}"


def _read_module(tree: ast.Module, module: str) -> Module:
    scope = _imports(tree.body)
    imports = dict(scope)
    for node in tree.body:
        for name in _defined(node):
            scope[name] = f"{module}.{name}"
    bodies: dict[str, Names] = {}
    start, bases = Names(), {}
    for node in tree.body:
        defined = _defined(node)
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, Function)]
            rest = [item for item in node.body if not isinstance(item, Function)]
            outside = [*node.decorator_list, *node.bases, *node.keywords]
            bodies[node.name] = _names([*outside, *rest], scope)
            for item in methods:
                body = bodies.setdefault(f"{node.name}.{item.name}", Names())
                body.add(_names([item], scope))
                body.dotted.discard(f"{module}.{node.name}.{item.name}")
            bases[node.name] = [_dotted(base, [scope]) for base in node.bases]
        elif defined:
            found = _names([node], scope)
            for name in defined:
                bodies.setdefault(name, Names()).add(found)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            start.add(_names([node], scope))
    return Module(bodies, imports, start, bases)


def _is_called_back(name: str, modules: dict[str, Module]) -> bool:
    """Says whether a class inherits from somebody else's, who may call any of its methods."""
    module, _, owner = _follow(name, modules).rpartition(".")
    if module not in modules:
        return not name.endswith(("NamedTuple", "builtins.object"))
    return any(_is_called_back(base, modules) for base in modules[module].bases.get(owner, []))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [n.id for target in node.targets for n in ast.walk(target) if _is_stored(n)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _names(nodes: Iterable[ast.AST], scope: Scope) -> Names:
    visitor = _Visitor(scope)
    visitor.top(list(nodes))
    return visitor.found


def _imports(nodes: Iterable[ast.AST]) -> Scope:
    scope: Scope = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                scope[name.asname or name.name] = f"{node.module}.{name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.split(".")[0]
                scope[name.asname or top] = name.name if name.asname else top
    return scope


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _dotted(node: ast.AST, scopes: list[Scope]) -> str:
    """Spells a name or a chain of attributes in full; empty where its root is a variable."""
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value, scopes)
        return f"{base}.{node.attr}" if base else ""
    if isinstance(node, ast.Name):
        for scope in reversed(scopes):
            if node.id in scope:
                return scope[node.id]
        return f"builtins.{node.id}" if hasattr(builtins, node.id) else ""
    return ""


class _Visitor(ast.NodeVisitor):
    """Collects what code names, with a scope for each function."""

    def __init__(self, scope: Scope) -> None:
        self.scopes = [scope]
        self.found = Names()

    def top(self, nodes: list[ast.AST]) -> None:
        """Visits statements of a module: names it binds mean what its scope says, if that does."""
        own = list(_own(nodes))
        hidden = {n.id: "" for n in own if _is_stored(n) and n.id not in self.scopes[0]}
        self._enter(nodes, {**hidden, **_imports(own)})

    def _enter(self, nodes: list[ast.AST], bound: Scope) -> None:
        self.scopes.append(bound)
        for node in nodes:
            self.visit(node)
        self.scopes.pop()

    def visit_FunctionDef(self, node: Function) -> None:  # noqa: N802
        self._function(node, list(node.body))

    def visit_AsyncFunctionDef(self, node: Function) -> None:  # noqa: N802
        self._function(node, list(node.body))

    def visit_Lambda(self, node: ast.Lambda) -> None:  # noqa: N802
        self._function(node, [node.body])

    def _function(self, node: Function | ast.Lambda, body: list[ast.AST]) -> None:
        every = node.args
        parameters = [*every.posonlyargs, *every.args, *every.kwonlyargs]
        parameters += [p for p in (every.vararg, every.kwarg) if p]
        if not isinstance(node, ast.Lambda):
            for item in [*node.decorator_list, *([node.returns] if node.returns else [])]:
                self.visit(item)
        self.visit(every)
        own = list(_own(body))
        bound = [n.id for n in own if _is_stored(n)] + [p.arg for p in parameters]
        self._enter(body, {name: "" for name in bound} | _imports(own))

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        dotted = _dotted(node, self.scopes)
        if dotted:
            parts = dotted.split(".")
            self.found.dotted |= {".".join(parts[: k + 1]) for k in range(len(parts))}
        self.found.attributes.add(node.attr)
        if not isinstance(node.value, ast.Name | ast.Attribute):
            self.visit(node.value)
        elif not dotted:
            self.visit(node.value)
        elif isinstance(node.value, ast.Attribute):
            self.found.attributes |= set(dotted.split("."))

    def visit_Name(self, node: ast.Name) -> None:  # noqa: N802
        dotted = _dotted(node, self.scopes)
        if dotted and isinstance(node.ctx, ast.Load):
            self.found.dotted.add(dotted)
            self.found.values.add(dotted)

    def visit_Constant(self, node: ast.Constant) -> None:  # noqa: N802
        """Takes "module:function" for a function, as the table of tasks spells them."""
        if isinstance(node.value, str) and re.fullmatch(r"[\w.]+:\w+", node.value):
            self.found.dotted.add(f"*.{node.value.replace(':', '.')}")


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yields nodes of a body, without those of functions nested in it."""
    for node in nodes:
        yield node
        if not isinstance(node, Function | ast.Lambda):
            yield from _own(ast.iter_child_nodes(node))
