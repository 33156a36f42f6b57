"""Every public name has a user that is no test, or a place in the documented API."""

import pathlib

import pytest

from helpers import public_names

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("ganavatar_jax", "weight_port")
API = (ROOT / "docs" / "api.md").read_text()
DOCUMENTS = [path for folder in (".", "docs", *PACKAGES) for path in (ROOT / folder).glob("*.md")]


def find_dead():
    users = [path.read_text() for name in ("configs", "experiments")
             for path in sorted((ROOT / name).rglob("*.py"))]  # fmt: skip
    for path in DOCUMENTS:
        users += public_names.python_blocks(path.read_text())
    return public_names.find_dead(
        {name: ROOT / name for name in PACKAGES}, users=users, listed=public_names.documented(API)
    )


def test_every_public_name_has_a_user():
    assert find_dead() == []


@pytest.mark.parametrize("name", public_names.documented(API))
def test_the_api_lists_what_exists(name):
    known = public_names.definitions({name: ROOT / name for name in PACKAGES})
    assert name in known


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_python_in_documents_names_what_exists(path):
    for block in public_names.python_blocks(path.read_text()):
        assert public_names.unknown(block, {name: ROOT / name for name in PACKAGES}) == []


def test_a_name_that_a_document_makes_up_is_found(skeleton):
    text = (
        "from pkg import a, nothing\na.missing(a.alive())\nfrom pkg.b import lost\nlost(nothing.x)"
    )
    assert public_names.unknown(text, skeleton) == ["pkg.a.missing", "pkg.b.lost", "pkg.nothing"]


SKELETON = {
    "__init__.py": "",
    "a.py": """
import typing
import somebody
from pkg import b, table as lookup
from pkg.b import renamed as other, passed_on

LIMIT = 1
UNUSED = 2

class Base(somebody.Module):
    def setup(self): return b.in_a_method()

class Child(Base):
    def called_back(self): ...

class Plain(typing.NamedTuple):
    size: int
    def used(self): return b.through_a_method()
    def forgotten(self): return b.behind_a_forgotten_method()

def alive(): return [b.LIMIT_OF_B, other(LIMIT), lookup.TABLE, Child, Plain(1).used()]

def calls_itself(): return calls_itself()
def one_of_a_pair(): return other_of_a_pair()
def other_of_a_pair(): return one_of_a_pair()
def hidden_by_a_parameter(): ...
def takes(hidden_by_a_parameter): return hidden_by_a_parameter
""",
    "b.py": """
LIMIT_OF_B = 3
def in_a_method(): ...
def through_a_method(): ...
def behind_a_forgotten_method(): ...
def renamed(x): return _private()
def passed_on(): ...
def _private(): return behind_a_private_one()
def behind_a_private_one(): ...
def named_in_a_table(): ...
def of_a_module_that_is_passed(): ...
def promised(): ...
""",
    "table.py": 'TABLE = {"x": "b:named_in_a_table"}\n',
}
DEAD = [
    "pkg.a.Plain.forgotten",
    "pkg.a.UNUSED",
    "pkg.a.calls_itself",
    "pkg.a.hidden_by_a_parameter",
    "pkg.a.one_of_a_pair",
    "pkg.a.other_of_a_pair",
    "pkg.b.behind_a_forgotten_method",
    "pkg.b.of_a_module_that_is_passed",
    "pkg.b.passed_on",
    "pkg.b.promised",
]


@pytest.fixture
def skeleton(tmp_path):
    for name, text in SKELETON.items():
        (tmp_path / name).write_text(text)
    return {"pkg": tmp_path}


USER = "from pkg import a\na.alive()\na.takes(1)\n"


def test_dead_names_of_a_skeleton_are_found(skeleton):
    assert public_names.find_dead(skeleton, users=[USER], listed=[]) == DEAD


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a.UNUSED", "pkg.a.UNUSED"),
        ("from pkg.a import passed_on as p; p()", "pkg.b.passed_on"),
        ("import pkg.b; pkg.b.promised()", "pkg.b.promised"),
        ("import pkg.b as z; (lambda: z.promised)()", "pkg.b.promised"),
        ("def f(module): return module.promised()\nfrom pkg import b\nf(b)", "pkg.b.promised"),
        ("value.forgotten", "pkg.a.Plain.forgotten"),
    ],
)
def test_a_use_gives_life(skeleton, line, name):
    dead = public_names.find_dead(skeleton, users=[USER + line], listed=[])
    assert name in DEAD
    assert name not in dead


@pytest.mark.parametrize(
    "line",
    [
        "promised = 1; print(promised)",
        "from pkg.b import promised",
        "def f(promised): return promised",
        "import other; other.b.promised()",
        "'promised'",
    ],
)
def test_what_only_looks_like_a_use_gives_none(skeleton, line):
    dead = public_names.find_dead(skeleton, users=[USER + line], listed=[])
    assert "pkg.b.promised" in dead


def test_a_listed_name_lives(skeleton):
    dead = public_names.find_dead(skeleton, users=[USER], listed=["pkg.b.promised"])
    assert dead == [name for name in DEAD if name != "pkg.b.promised"]
