"""What the documents say about the repository is so."""

import ast
import pathlib
import re

import pytest

from helpers import compare

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ganavatar_jax"
CONVENTIONS = (PACKAGE / "CONVENTIONS.md").read_text()
QUIRKS = dict(re.findall(r"^\| (Q\d+) \|(.*)\|$", CONVENTIONS, re.M))


def sources():
    for folder in ("ganavatar_jax", "weight_port", "configs", "tests"):
        yield from (ROOT / folder).rglob("*.py")


def test_every_quirk_that_code_cites_is_in_the_ledger():
    cited = {}
    for path in sources():
        for number in re.findall(r"\b[Qq]uirk (Q\d+)\b", path.read_text()):
            cited.setdefault(number, path.relative_to(ROOT))
    assert cited
    assert not {n: str(p) for n, p in cited.items() if n not in QUIRKS}


def test_the_ledger_is_numbered_without_gaps():
    assert list(QUIRKS) == [f"Q{n}" for n in range(1, len(QUIRKS) + 1)]


@pytest.mark.parametrize("number", QUIRKS)
def test_the_place_a_quirk_names_exists(number):
    place = re.findall(r"`([^`]+)`", QUIRKS[number].rsplit("|", 1)[1])
    assert place
    assert (PACKAGE / place[0]).exists(), place[0]


def test_limits_in_the_conventions_are_those_of_the_tests():
    table = CONVENTIONS.partition("## Tolerances")[2].partition("## Glossary")[0]
    written = {float(text) for text in re.findall(r"\d+e-\d+", table)}
    assert set(compare.LIMITS.values()) - {0.0} <= written


def test_links_of_the_documents_lead_somewhere():
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("experiments/**/*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            if not re.match(r"[a-z]+:", link):
                assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def test_make_targets_that_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md")):
        named = re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", path.read_text(), re.M)
        assert {a or b for a, b in named} <= targets, path.relative_to(ROOT)


def test_every_design_entry_has_its_four_parts():
    entries = (PACKAGE / "DESIGN.md").read_text().split("\n## ")[1:]
    for number, entry in enumerate(entries, start=1):
        assert re.match(rf"D{number}\. .* \(\d{{4}}-\d{{2}}\)\n", entry)
        for part in ("Context", "Choice", "Rejected", "Consequence"):
            assert f"**{part}.**" in entry, f"D{number}: {part}"


def test_configs_say_command_hardware_and_score_of_each_variant():
    for path in sorted((ROOT / "configs").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        [listed] = re.findall(r"variants: ([a-z0-9_, ]+)\.", path.read_text())
        for variant in listed.split(", "):
            [text] = re.findall(rf"^  {variant}\b(.*?)(?=^  \w|^\S|\Z)", doc, re.M | re.S)
            if variant != "smoke":
                for word in (f"--config=configs/{path.name}", "Hardware and hours:", "Score:"):
                    assert word in text, f"{path.name}:{variant}: {word}"


def test_the_quickstarts_score_is_the_one_of_the_readme():
    doc = (ROOT / "configs" / "quickstart.py").read_text()
    [row] = re.findall(r"^\| avatar \|(.*)\|$", (ROOT / "README.md").read_text(), re.M)
    for number in row.replace("*", "").split("|")[:4]:
        assert f" {number.strip()}" in doc
