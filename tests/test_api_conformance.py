"""Every public name of the package and of the port keeps the rules of helpers/conformance.py.

One test for each module, so that `-k geometry` checks a part.
"""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from helpers import conformance

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("ganavatar_jax", "weight_port")
    for path in sorted((ROOT / package).rglob("*.py"))
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_public_names_are_documented_and_shaped(module):
    problems = conformance.check_module(MODULES[module], module=module)
    assert not problems, f"{module}:\n" + "\n".join(problems)


def test_importing_everything_touches_no_device_and_no_heavy_framework():
    # With an unknown platform any use of a device raises, also one at import.
    script = textwrap.dedent("""
        import importlib, sys
        import ganavatar_jax
        assert "jax" not in sys.modules, "import ganavatar_jax must not import JAX"
        for name in sys.argv[1:]:
            importlib.import_module(name)
        heavy = {"torch", "tensorflow", "mediapipe", "pycolmap", "viser"} & set(sys.modules)
        assert not heavy, f"imported: {sorted(heavy)}"
        import jax
        try:
            jax.devices()
        except RuntimeError:
            sys.exit(0)
        sys.exit("the unknown platform was accepted: this test checks nothing")
    """)
    names = [name for name in MODULES if not name.endswith("__main__")]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *names],
        env=os.environ | {"JAX_PLATFORMS": "no_such_platform"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


GOOD = '''
"""A module."""
from ganavatar_jax.core.arrays import Array, Float, PRNGKeyArray

def jitter(key: PRNGKeyArray, t: Float[Array, "b s"], *, width: float) -> Float[Array, "b s"]:
    """Moves each distance at random.

    Args:
      key: Random key.
      t: Distances, world units.
      width: Largest shift.

    Returns:
      The moved distances.

    Raises:
      ValueError: width is negative.

    Source: Box 1958.
    """
    if width < 0:
        raise ValueError("width must be >= 0.")
    return t
'''

BREAKS = [
    ('width: float) -> Float[Array, "b s"]', "width: float) -> Array", "array without its shape"),
    ('t: Float[Array, "b s"]', "t: Array", "t: an array without its shape"),
    ('t: Float[Array, "b s"],', "t,", "t has no type"),
    ('"""A module."""', "", "module docstring is missing"),
    ("      t: Distances, world units.\n", "", "Args does not describe t"),
    ("      key: Random", "      seed: Random", "Args describes seed, which is no parameter"),
    ("    Returns:\n      The moved distances.\n\n", "", "Returns is missing"),
    ("    Raises:\n      ValueError: width is negative.\n\n", "", "Raises is missing"),
    ("ValueError: width is", "TypeError: width is", "Raises does not name ValueError"),
    ("Source: Box 1958.", "Source:", "Source is empty"),
    ("    Args:", "    Source: Box 1958.\n\n    Args:", "Source is not the last section"),
    (
        "def jitter",
        "def _f():\n" + "    x = 1\n" * 13 + "def jitter",
        "13 lines without a docstring",
    ),
    (
        'key: PRNGKeyArray, t: Float[Array, "b s"]',
        't: Float[Array, "b s"], key: PRNGKeyArray',
        "key: a random key is the first parameter",
    ),
    ("key: PRNGKeyArray", "rng: PRNGKeyArray", "a random key is called key"),
    ("*, width: float", "width: bool", "width: a bool is keyword-only"),
    ("*, width: float", "width: float, a: int = 1", "a: an option is keyword-only"),
    ("*, width", "*, a, b, c, d, e, f, width", "9 parameters; the budget is 8"),
    ("from ganavatar", "from __future__ import annotations\nfrom ganavatar", "__future__"),
    ("    return t", "    x = 1\n" * 60 + "    return t", "lines; the budget is 50"),
    ("    return t", "    return t\n" + "\nx = 1" * 400, "lines; the budget is 400"),
]


def check(tmp_path, text):
    path = tmp_path / "a.py"
    path.write_text(text.lstrip())
    return conformance.check_module(path, module="ganavatar_jax.ops.a")


def test_a_conforming_module_has_no_problems(tmp_path):
    assert check(tmp_path, GOOD) == []


KEEPS = [
    ("\n    Source: Box 1958.\n", ""),
    ("def jitter", "def _f():\n" + "    x = 1\n" * 12 + "def jitter"),
    ("def jitter", 'def _f():\n    """Says why."""\n' + "    x = 1\n" * 13 + "def jitter"),
]


@pytest.mark.parametrize(("old", "new"), KEEPS)
def test_what_the_rules_allow_is_no_problem(tmp_path, old, new):
    assert old in GOOD
    assert check(tmp_path, GOOD.replace(old, new)) == []


@pytest.mark.parametrize(("old", "new", "problem"), BREAKS)
def test_each_broken_rule_is_reported(tmp_path, old, new, problem):
    assert old in GOOD
    assert any(problem in line for line in check(tmp_path, GOOD.replace(old, new)))
