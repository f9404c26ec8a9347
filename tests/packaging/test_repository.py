"""What people look for in a repository says the same as the package and the papers' files."""

from __future__ import annotations

import re
import tomllib

import yaml
from typer.testing import CliRunner

import effi
from effi.claims import papers
from effi.cli import app
from effi.data import available
from effi.paths import ROOT
from effi.workbook import notebooks


def test_the_license_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (ROOT / "LICENSE").read_text().startswith(f"{project['license']} License\n")
    assert project["version"] == effi.__version__


def test_the_citation_is_of_this_version_and_of_every_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (effi.__version__, "MIT")
    cited = {each["title"]: each for each in citation["references"]}
    loaded = [papers.load(notebook.paper) for notebook in notebooks()]
    assert len(loaded) == 5 and set(cited) == {paper.title for paper in loaded}
    for paper in loaded:
        authors, _, rest = paper.citation.partition(".")
        entry = cited[paper.title]
        assert [each["family-names"] for each in entry["authors"]] == authors.split(", ")
        assert str(entry["year"]) in rest and entry["url"].rpartition("/")[2] in rest


def test_the_changelog_begins_with_this_version() -> None:
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert heads[0].startswith(f"## {effi.__version__}")


def test_the_command_says_its_version() -> None:
    found = CliRunner().invoke(app, ["--version"])
    assert (found.exit_code, found.output) == (0, f"effi {effi.__version__}\n")


def test_readme_ends_with_the_licence_of_every_data_set() -> None:
    last = (ROOT / "README.md").read_text().rpartition("\n## ")[2]
    assert last.startswith("Licences\n")
    told = [line for line in last.splitlines() if line.startswith("| ") and "data set" not in line]
    assert told == [f"| {each.name} | {each.licence} |" for each in available()]


def test_what_is_linted_before_a_commit_is_what_the_tests_lint() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = {hook["entry"] for hook in repo["hooks"]}
    recipe = (ROOT / "Makefile").read_text().partition("\ntest: ")[2].partition("\n\n")[0]
    commands = re.split(r"[;&|\n]+|@\{", recipe.replace("$(BIN)", ".venv/bin"))
    linted = entries & {command.strip() for command in commands}
    assert linted == {".venv/bin/ruff check", ".venv/bin/mypy"} and entries - linted == {
        ".venv/bin/ruff format --check"
    }
