"""The rules every public function and class keeps, checked on the syntax tree of one module.

A name is public when neither it nor any part of its module path starts with an underscore.
Functions: a docstring whose Args name exactly the parameters, Returns (or Yields), Raises naming
what the body raises; what comes from a paper or from the original says so in a last section Source,
our own has none. `key` first (after the state and the batch of a training
step); options keyword-only; at most eight parameters; arrays annotated with their shapes in the
numeric layers. Methods: a docstring, plus Args and
Returns when there is more than the receiver and one argument. Classes: a docstring. Private
functions of more than twelve lines: a sentence that says what for.
"""

import ast
import dataclasses
import inspect
import pathlib
import re

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_SILENT_LINES = 12  # of a private function without a docstring
MAX_LOOP_LINES = 120  # command-line entries and the training loop
MAX_PARAMETERS = 8
NUMERIC_LAYERS = ("ops", "geometry", "rendering", "losses", "models", "metrics")
SECTIONS = ("Args", "Returns", "Yields", "Raises", "Source")
BARE_ARRAY = {"Array", "ArrayLike", "ndarray"}
STEP_LEADERS = {"state", "batch", "g", "d", "params", "variables"}
RNG_NAMES = {"rng", "rngs", "prng", "prng_key", "rng_key", "random_key"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Docstring:
    """A docstring taken apart at its section headings."""

    summary: str
    sections: dict[str, str]

    def names(self, section: str) -> list[str]:
        """The names of a section's entries, in order; `a, b: ...` describes both."""
        text = self.sections[section].lstrip("\n")
        indent = " " * (len(text) - len(text.lstrip(" ")))
        entries = re.findall(rf"^{indent}([*\w][*\w, ]*?)(?: \(.*?\))?:", text, re.M)
        return [name.strip(" *") for entry in entries for name in entry.split(",")]


def parse_docstring(text: str) -> Docstring:
    """Splits a docstring into its summary and its sections."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):", inspect.cleandoc(text), flags=re.M)
    return Docstring(parts[0].strip(), dict(zip(parts[1::2], parts[2::2], strict=True)))


def check_module(path: pathlib.Path, *, module: str) -> list[str]:
    """Lists what one module breaks, one line each; empty when it conforms.

    Args:
      path: The file.
      module: Its dotted name.

    Returns:
      The problems.
    """
    source = path.read_text()
    tree = ast.parse(source)
    found = [f"{path.name}: {problem}" for problem in _check_file(tree, source)]
    numeric = module.split(".")[1:2] != [] and module.split(".")[1] in NUMERIC_LAYERS
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            found += _label(node, node.name, _check_function(node, numeric=numeric))
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += _label(node, node.name, _check_class(node))
            for item in node.body:
                if isinstance(item, Function) and not item.name.startswith("_"):
                    name = f"{node.name}.{item.name}"
                    found += _label(item, name, _check_method(item, numeric=numeric))
    for node in ast.walk(tree):
        if isinstance(node, Function):
            found += _label(node, node.name, _check_length(node, module))
            found += _label(node, node.name, _check_private(node))
    return found


def _label(node: ast.AST, name: str, problems: list[str]) -> list[str]:
    return [f"line {getattr(node, 'lineno', 0)}: {name}: {problem}" for problem in problems]


def _check_file(tree: ast.Module, source: str) -> list[str]:
    problems = []
    doc = ast.get_docstring(tree)
    if not doc:
        problems.append("module docstring is missing")
    lines = len(source.splitlines())
    # Over budget is allowed with a sentence in the docstring that says why.
    if lines > MAX_FILE_LINES and f"{MAX_FILE_LINES} lines" not in (doc or ""):
        problems.append(f"{lines} lines; the budget is {MAX_FILE_LINES}")
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            problems.append("'from __future__ import annotations' defeats the shape checks")
    return problems


def _check_length(node: Function, module: str) -> list[str]:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    if len(body) == 1 and isinstance(body[0], ast.Return):  # a table of values is no code
        return []
    lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
    long = module.endswith(("_jax.main", "training.loop")) or node.name in ("main", "run")
    budget = MAX_LOOP_LINES if long else MAX_FUNCTION_LINES
    return [f"{lines} lines; the budget is {budget}"] if lines > budget else []


def _check_class(node: ast.ClassDef) -> list[str]:
    return [] if ast.get_docstring(node) else ["docstring is missing"]


def _check_method(node: Function, *, numeric: bool) -> list[str]:
    if _is(node, "overload", "setter", "override"):
        return []
    text = ast.get_docstring(node)
    if node.name == "setup" and not text:  # Flax's; the class describes it
        return []
    if not text:
        return ["docstring is missing"]
    doc, problems = parse_docstring(text), _check_arguments(node, receiver=not _is_static(node))
    parameters = _parameters(node)[0 if _is_static(node) else 1 :]
    problems += _check_raises(node, doc)
    if len(parameters) > 1 or "Args" in doc.sections:
        problems += _check_args_section(parameters, doc)
    if (
        len(parameters) > 1
        and _returns_value(node)
        and not {"Returns", "Yields"} & set(doc.sections)
    ):
        problems.append("Returns is missing")
    return problems + (_check_shapes(node, parameters) if numeric else [])


def _check_function(node: Function, *, numeric: bool) -> list[str]:
    if _is(node, "overload"):
        return []
    text = ast.get_docstring(node)
    if not text:
        return ["docstring is missing"]
    doc, problems = parse_docstring(text), _check_arguments(node, receiver=False)
    parameters = _parameters(node)
    if parameters:
        problems += _check_args_section(parameters, doc)
    if _returns_value(node) and not {"Returns", "Yields"} & set(doc.sections):
        problems.append("Returns is missing")
    problems += _check_raises(node, doc)
    problems += _check_source(doc)
    return problems + (_check_shapes(node, parameters) if numeric else [])


def _check_source(doc: Docstring) -> list[str]:
    if "Source" not in doc.sections:
        return []
    if not doc.sections["Source"].strip():
        return ["Source is empty; leave it out where the code is ours"]
    last = list(doc.sections)[-1] == "Source"
    return [] if last else ["Source is not the last section"]


def _check_private(node: Function) -> list[str]:
    """Long private functions hold the thinking; the reader is owed a sentence."""
    if not node.name.startswith("_") or node.name.startswith("__") or ast.get_docstring(node):
        return []
    lines = (node.end_lineno or 0) - node.body[0].lineno + 1
    if lines <= MAX_SILENT_LINES:
        return []
    return [f"{lines} lines without a docstring; one sentence says what they are for"]


def _check_args_section(parameters: list[ast.arg], doc: Docstring) -> list[str]:
    if "Args" not in doc.sections:
        return ["Args is missing"]
    listed = doc.names("Args")
    expected = [parameter.arg for parameter in parameters]
    problems = [f"Args does not describe {name}" for name in expected if name not in listed]
    return problems + [f"Args describes {name}, which is no parameter" for name in listed
                       if name not in expected]  # fmt: skip


def _check_raises(node: Function, doc: Docstring) -> list[str]:
    raised = [n.exc for n in _own_nodes(node) if isinstance(n, ast.Raise) and n.exc is not None]
    if not raised:
        return []
    if "Raises" not in doc.sections:
        return ["Raises is missing"]
    problems = []
    for exc in raised:
        name = _last_name(exc.func if isinstance(exc, ast.Call) else exc)
        # A lower-case name is a helper or a variable that holds the error.
        if name[:1].isupper() and name not in doc.sections["Raises"]:
            problems.append(f"Raises does not name {name}")
    return problems


def _check_arguments(node: Function, *, receiver: bool) -> list[str]:
    problems = []
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][1 if receiver else 0 :]
    names = [parameter.arg for parameter in positional]
    parameters = _parameters(node)[1 if receiver else 0 :]
    if len(parameters) > MAX_PARAMETERS:
        problems.append(f"{len(parameters)} parameters; the budget is {MAX_PARAMETERS}")
    for parameter in parameters:
        kind = ast.unparse(parameter.annotation) if parameter.annotation else ""
        if parameter.arg in RNG_NAMES:
            problems.append(f"{parameter.arg}: a random key is called key")
        random = "PRNGKeyArray" in kind or (parameter.arg == "key" and "str" not in kind)
        before = names[: names.index(parameter.arg)] if parameter in positional else names
        if random and set(before) - STEP_LEADERS:
            problems.append(f"{parameter.arg}: a random key is the first parameter")
        if kind == "bool" and parameter in positional:
            problems.append(f"{parameter.arg}: a bool is keyword-only")
    defaults = positional[len(positional) - len(arguments.defaults) :] if arguments.defaults else []
    if len(parameters) > 3:
        problems += [f"{p.arg}: an option is keyword-only" for p in defaults if not _is_array(p)]
    return problems


def _check_shapes(node: Function, parameters: list[ast.arg]) -> list[str]:
    problems = []
    for parameter in parameters:
        if parameter.annotation is None:
            problems.append(f"{parameter.arg} has no type")
        elif _has_bare_array(parameter.annotation):
            problems.append(f"{parameter.arg}: an array without its shape")
    if node.returns is None:
        problems.append("the result has no type")
    elif _has_bare_array(node.returns):
        problems.append("the result is an array without its shape")
    return problems


def _is_array(parameter: ast.arg) -> bool:
    kind = ast.unparse(parameter.annotation) if parameter.annotation else ""
    return "Array" in kind or "PyTree" in kind


def _has_bare_array(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return False
    if isinstance(annotation, ast.Subscript):
        if _last_name(annotation.value) == "Callable":
            return False
        inside = annotation.slice
        items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        # Float[Array, "b 3"]: the string is the shape.
        if any(isinstance(i, ast.Constant) and isinstance(i.value, str) for i in items):
            return False
        return any(_has_bare_array(item) for item in items)
    if isinstance(annotation, ast.BinOp):
        return _has_bare_array(annotation.left) or _has_bare_array(annotation.right)
    return _last_name(annotation) in BARE_ARRAY


def _parameters(node: Function) -> list[ast.arg]:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args]
    star = [arguments.vararg] if arguments.vararg else []
    double = [arguments.kwarg] if arguments.kwarg else []
    return [*named, *star, *arguments.kwonlyargs, *double]


def _returns_value(node: Function) -> bool:
    if _is(node, "property", "cached_property"):
        return False
    if any(isinstance(n, ast.Yield | ast.YieldFrom) for n in _own_nodes(node)):
        return True
    return any(isinstance(n, ast.Return) and n.value is not None for n in _own_nodes(node))


def _own_nodes(node: Function) -> list[ast.AST]:
    """Nodes of a function's body, without those of functions and classes nested in it."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        current = waiting.pop()
        found.append(current)
        if not isinstance(current, Function | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(current))
    return found


def _is(node: Function, *decorators: str) -> bool:
    return any(_last_name(decorator) in decorators for decorator in node.decorator_list)


def _is_static(node: Function) -> bool:
    return _is(node, "staticmethod")


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
