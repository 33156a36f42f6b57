"""The way from the command line to a loss, as DESIGN.md gives it: every step names the next."""

import importlib
import inspect
import itertools
import pathlib
import re

import pytest

_DESIGN = pathlib.Path(__file__).parents[2] / "ganavatar_jax" / "DESIGN.md"
_PATH = re.search(r"\*\*Reading path\.\*\* (.*)", _DESIGN.read_text())
HOPS = re.findall(r"`(\w+\.[\w.]+)`", _PATH[1]) if _PATH else []
_MOST_HOPS = 8


def find(hop):
    """The module and the object of a place such as `training.loop.Runner.iterate`."""
    parts = f"ganavatar_jax.{hop}".split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        value = module
        for name in parts[count:]:
            value = getattr(value, name)
        return module, value
    raise ModuleNotFoundError(hop)


def source(hop):
    """The text of a function, with the tables of its file that it looks things up in."""
    module, value = find(hop)
    text = inspect.getsource(value)
    tables = re.findall(r"^([A-Z_]+)\b[^\n]*= \{\n.*?^\}", inspect.getsource(module), re.M | re.S)
    for name in set(tables) & set(re.findall(r"\w+", text)):
        text += re.search(rf"^{name}\b.*?^\}}", inspect.getsource(module), re.M | re.S)[0]
    return text


def test_the_loss_of_the_generator_is_at_most_eight_hops_from_the_command_line():
    assert HOPS[0] == "main.main"
    assert HOPS[-1] == "training.gan_step.g_main"
    assert 2 < len(HOPS) - 1 <= _MOST_HOPS


@pytest.mark.parametrize("hop", HOPS)
def test_every_place_on_the_way_exists(hop):
    assert source(hop)


@pytest.mark.parametrize(("here", "there"), list(itertools.pairwise(HOPS)))
def test_every_place_on_the_way_names_the_next(here, there):
    module, name = there.split(".")[-2:]
    # `module.name`, a table's "module:name" or, in the same file, the bare name.
    spelt = rf"\b{module}[.:]{name}\b"
    if find(here)[0] is find(there)[0]:
        spelt += rf"|\b{name}\b"
    own = rf"def {here.rsplit('.', 1)[1]}\b"
    assert re.search(spelt, re.sub(own, "", source(here))), f"{here} -> {there}"


@pytest.mark.parametrize("hop", ["training.loop.no_such_thing", "training.nothing.train"])
def test_a_place_that_is_gone_would_be_noticed(hop):
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        source(hop)
