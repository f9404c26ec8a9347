"""A paper's file: what is refused, and with which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from effi import papers, paths
from effi.errors import ParameterError
from tests.claims.synthetic import paper

TEST = {"rule": "ordering", "metric": "loss", "a": "{dataset}/x"}


@pytest.mark.parametrize(
    ("test", "phrase"),
    [
        ({**TEST, "metrik": "loss"}, "only known keys, not ['metrik']"),
        ({"metric": "loss", "a": "x"}, "wants a rule"),
        ({"rule": "ordering", "metric": "loss"}, "either a or over"),
        ({**TEST, "over": ["x", "y"]}, "either a or over"),
        ({"rule": "ordering", "over": ["x", "y"], "x": "p"}, "statistic, x and y"),
        ({"rule": "ordering", "a": "x"}, "wants a metric"),
        ({**TEST, "b": ["x", "y"]}, "wants pick"),
        ({**TEST, "a": "{dataset}/{heads}"}, "names {heads}, which each does not list"),
        ({**TEST, "margin": "loss"}, "names 'loss', which [margins] does not list"),
        ({**TEST, "target": "total"}, "names 'total', which [numbers] does not list"),
    ],
)
def test_tests_that_make_no_sense_are_refused(test: dict[str, Any], phrase: str) -> None:
    with pytest.raises(ParameterError, match=f"C1.*{re.escape(phrase)}"):
        paper(test)


def test_groups_stand_for_their_arms() -> None:
    found = paper({**TEST, "b": "rivals", "pick": "lowest"}, groups={"rivals": ["{dataset}/p", "{dataset}/q"]})
    test = found.claims[0].tests["fair"][0]
    assert test.arms == ("{dataset}/x", "{dataset}/p", "{dataset}/q")
    assert test.placeholders == {"dataset"}


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ParameterError, match="the key 'baseline'"):
        paper(TEST, report={"metrics": []})
    with pytest.raises(ParameterError, match="the key 'id'"):
        papers.parse({"title": "A paper"})


def test_unknown_papers_and_broken_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.toml").write_text("id = ")
    monkeypatch.setattr(paths, "paper_file", lambda name: tmp_path / f"{name}.toml")
    with pytest.raises(ParameterError, match=r"Unknown paper 'brokn'.*broken"):
        papers.load("brokn")
    with pytest.raises(ParameterError, match="no valid TOML"):
        papers.load("broken")
