"""What the code imports is declared in pyproject.toml, and the pins fit the ranges."""

import ast
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest
from packaging import requirements, version

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"ganavatar_jax", "weight_port", "configs", "helpers", "experiments"}
OWN |= {path.stem for path in (ROOT / "experiments").glob("*")}  # scripts import one another


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return {normalized(requirements.Requirement(text).name) for text in texts}


def imports(path: pathlib.Path, *, at_import: bool) -> set[str]:
    """Top-level names a file imports: when it is imported itself, or anywhere in it."""
    waiting, found = [*ast.parse(path.read_text()).body], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
        if not (at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            waiting.extend(ast.iter_child_nodes(node))
    return found - OWN - set(sys.stdlib_module_names)


def missing(folders: tuple[str, ...], allowed: set[str], *, at_import: bool) -> dict[str, set[str]]:
    owners = importlib.metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for name in imports(path, at_import=at_import):
                if not {normalized(owner) for owner in owners.get(name, [name])} & allowed:
                    found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_a_plain_install_can_import_every_module():
    assert not missing(("ganavatar_jax", "weight_port", "configs"), declared(), at_import=True)


def test_what_functions_import_is_declared_as_an_extra():
    extras = [name for name in PROJECT["optional-dependencies"] if name != "dev"]
    folders = ("ganavatar_jax", "weight_port", "configs")
    assert not missing(folders, declared(*extras), at_import=False)


def test_the_test_environment_has_what_tests_and_experiments_import():
    allowed = declared("dev", "export") | {"packaging"}  # packaging comes with pytest
    found = missing(("tests", "experiments"), allowed, at_import=True)
    # What is compared with PyTorch needs it, and nothing else does.
    where = found.pop("torch", set())
    assert not found
    assert all(path.startswith("experiments/torch_baseline/") for path in where)


def pins() -> dict[str, list[requirements.Requirement]]:
    found: dict[str, list[requirements.Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = requirements.Requirement(line)
        found.setdefault(normalized(pin.name), []).append(pin)
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_python_has_one_pin_in_range_for_every_dependency(python):
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    chosen = pins()
    extras = ("dev", "export", "preprocess")
    texts = [*PROJECT["dependencies"]]
    texts += [t for extra in extras for t in PROJECT["optional-dependencies"][extra]]
    for text in texts:
        wanted = requirements.Requirement(text)
        fitting = [
            pin
            for pin in chosen.get(normalized(wanted.name), [])
            if pin.marker is None or pin.marker.evaluate(environment)
        ]
        assert len(fitting) == 1, f"{text}: {[str(p) for p in fitting]}; renew with `make lock`"
        pinned = version.Version(next(iter(fitting[0].specifier)).version)
        assert wanted.specifier.contains(pinned, prereleases=True), f"{text}: {fitting[0]}"


def test_requirement_files_name_no_address():
    for name in ("pyproject.toml", "constraints.txt", "requirements-data.txt"):
        lines = (ROOT / name).read_text().splitlines()
        assert not [line for line in lines if re.search(r"\w+://|^\s*-(i|f|-index|-find)", line)]


def test_extras_that_the_makefile_and_documents_name_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"--extra (\w+)", makefile))
    for text in (makefile.replace("$(comma)", ","), (ROOT / "README.md").read_text()):
        for extras in re.findall(r"\.\[([\w,-]+)\]", text):
            named |= set(extras.split(","))
    assert {"dev", "preprocess"} <= named
    assert named <= set(PROJECT["optional-dependencies"])
