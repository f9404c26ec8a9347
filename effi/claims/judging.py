"""Judge a paper's claims on results; what is missing, substituted or cut short is said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from effi.claims import papers, protocol, sentences, stats
from effi.claims.cases import cases
from effi.claims.evidence import NOT_RUN, Evidence, evidence
from effi.claims.papers import READINGS, Comparison, Finding, Kind, Paper, PaperClaim, Reading
from effi.claims.results import Results

Here = Literal["for", "against", "open", "not run"]
HERE: tuple[Here, ...] = ("for", "against", "open", "not run")
AtProtocol = Literal["reproduced", "not reproduced", "open", "not reached"]
AT_PROTOCOL: tuple[AtProtocol, ...] = get_args(AtProtocol)
# Scales whose trainings and timings say something, the smallest first; smoke runs only test invariants.
JUDGED = ("cpu", "hours", "gpu", "paper")
UNJUDGED = "{} scale only tests that everything runs"


@dataclass(frozen=True)
class Judgement:
    """All tests of one reading together: what they say here, and at the paper's protocol.

    `lacking` is what is missing of the protocol, `why` a sentence; `deciding` is the test that the sentence is about,
    None without tests.
    """

    here: Here
    protocol: AtProtocol
    lacking: str
    why: str
    evidence: tuple[Evidence, ...] = ()
    deciding: Evidence | None = None

    @property
    def reached(self) -> bool:
        """Whether the paper's protocol is."""
        return self.protocol != "not reached"


@dataclass(frozen=True)
class ClaimRow:
    """One judged claim, and the scale at which it was."""

    claim: PaperClaim
    scale: str
    as_in_the_paper: Judgement
    fair: Judgement

    def judgement(self, reading: Reading) -> Judgement:
        """The judgement of one reading."""
        return self.fair if reading == "fair" else self.as_in_the_paper


def _adjusted(tests: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """With p against by Holm over the tests that have one: any of them refutes, so their errors add up."""
    adjusted = stats.holm([math.nan if each.verdict is None else each.verdict.p_against for each in tests])
    return tuple(replace(each, p_holm=p) for each, p in zip(tests, adjusted, strict=True))


def _here(tests: Sequence[Evidence]) -> Here:
    """All must hold, without a correction; any refutes, with one; a test that did not run leaves the rest open.

    Where nothing ran but conditions, and these hold, the claim did not run.
    """
    if all(each.verdict is None or (each.condition and each.verdict.direction == "for") for each in tests):
        return "not run"
    if any(each.refutes for each in tests):
        return "against"
    held = all(each.verdict is not None and each.verdict.direction == "for" for each in tests)
    return "for" if held else "open"


def _at_protocol(tests: Sequence[Evidence], here: Here) -> AtProtocol:
    """A test at the protocol refutes alone; for more, every test must be."""
    reached = [each for each in tests if each.verdict is not None and not each.lacking]
    if any(each.refutes for each in reached):
        return "not reproduced"
    if len(reached) < len(tests) or not reached:
        return "not reached"
    return "reproduced" if here == "for" else "open"


def _lacking(tests: Sequence[Evidence]) -> str:
    absent = sum(each.verdict is None for each in tests)
    missing = [protocol.other(f"{absent} of {len(tests)} tests not run")] if absent else []
    return protocol.told([*(lack for each in tests for lack in each.lacking), *missing])


def _deciding(tests: Sequence[Evidence], here: Here) -> Evidence:
    """The test that the sentence is about: the surest against, else the least sure, with numbers if one has any."""

    def rank(each: Evidence) -> tuple[bool, bool, float]:
        if each.verdict is None:
            return here == "against", True, 0.0
        if here == "against":
            return not each.refutes, False, 0.0 if math.isnan(each.p_holm) else each.p_holm
        sure = 0.0 if math.isnan(each.verdict.p_for) else each.verdict.p_for
        return each.verdict.direction == "for", False, -sure

    return min(tests, key=rank)


def _tally(tests: Sequence[Evidence]) -> str:
    if len(tests) == 1:
        return ""
    said = (each.verdict.direction if each.verdict else NOT_RUN for each in tests)
    return f"; of {len(tests)} tests {sentences.counts(said, HERE)}"


def _sentence(here: Here, deciding: Evidence, tests: Sequence[Evidence]) -> str:
    if here == "not run":
        return f"{deciding.clause[0].upper()}{deciding.clause[1:]}{_tally(tests)}."
    alone = deciding.verdict is not None and deciding.verdict.direction == "against" and here == "open"
    holm = f", p = {deciding.p_holm:.2g} by Holm, so that it does not refute as one of several tests" if alone else ""
    wanted = f"; {deciding.wanted} would tell if mean and spread stayed" if deciding.wanted else ""
    return f"{here.capitalize()}: {deciding.said}{holm}{wanted}{_tally(tests)}."


def _combine(found: Sequence[Evidence]) -> Judgement:
    """What all tests of a reading say together."""
    if not found:
        why = "Not run: no test of this workbook settles it; its note says why."
        return Judgement("not run", "not reached", "no test", why)
    tests = _adjusted(found)
    here = _here(tests)
    at, deciding = _at_protocol(tests, here), _deciding(tests, here)
    lacking = "" if at != "not reached" else _lacking(tests)
    return Judgement(here, at, lacking, _sentence(here, deciding, tests), tests, deciding)


def _looked(tests: Sequence[Comparison], paper: Paper, results: Results, *, stand_ins: bool = True) -> Judgement:
    found = (case for test in tests for case in cases(test, paper, results, stand_ins=stand_ins))
    return _combine([evidence(case, paper, results) for case in found])


def _judged(claim: PaperClaim, reading: Reading, paper: Paper, results: Results) -> Judgement:
    judged = _looked(claim.tests[reading], paper, results)
    if results.scale in JUDGED or claim.kinds[reading] == "arithmetic" or judged.here == "not run":
        return judged
    unjudged = UNJUDGED.format(results.scale)
    return replace(judged, here="open", protocol="not reached", lacking=unjudged, why=f"Open: {unjudged}.")


def judge(paper: str | Paper, results: Results) -> list[ClaimRow]:
    """Every claim of the paper, judged on its results. Raises ParameterError for an unknown paper."""
    loaded = paper if isinstance(paper, Paper) else papers.load(paper)
    return [
        ClaimRow(claim, results.scale, *(_judged(claim, name, loaded, results) for name in READINGS))
        for claim in loaded.claims
    ]


def look(finding: Finding, paper: Paper, results: Results) -> Judgement:
    """What a run says of a finding, by the same rules: "for" where it is seen.

    Its sentence names data sets and models, so that no other may stand in for them.
    """
    return _looked(finding.tests, paper, results, stand_ins=False)


class Tally(NamedTuple):
    """What claims are counted by."""

    kind: Kind
    here: Here
    reached: bool


def tally(rows: Iterable[ClaimRow], reading: Reading = "as_in_the_paper") -> Counter[Tally]:
    """How many claims of each kind say what here, and whether the paper's protocol is reached."""
    return Counter(Tally(r.claim.kinds[reading], r.judgement(reading).here, r.judgement(reading).reached) for r in rows)


def count(rows: Iterable[ClaimRow], reading: Reading = "as_in_the_paper") -> dict[Here, int]:
    """How many claims say what here, all four words named."""
    found = Counter(row.judgement(reading).here for row in rows)
    return {here: found[here] for here in HERE}
