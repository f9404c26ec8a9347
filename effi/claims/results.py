"""The results of one run, indexed once: what judging, every table and every figure read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from effi import paths
from effi.claims import measures
from effi.errors import ParameterError, RecordError, did_you_mean

if TYPE_CHECKING:
    from effi.records.store import Record

_FIELDS = ("dataset", "model", "variant", "ratio")


class Pair(NamedTuple):
    """An arm and its baseline at one seed."""

    arm: Record
    baseline: Record


class Results:
    """Records of one scale by arm and seed: of each the newest that finished.

    Seeds whose settings do not agree with those of the arm's newest record are left out; a key that only one of them
    has is a new field with its default. Raises ParameterError for records of several scales, and RecordError for those
    that do not say their data set and variant.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        listed = list(records)
        self.scale = _scale(listed)
        self._seeds = _newest(listed)
        self._failed = {r["arm"]: r for r in listed if r["status"] == "failed" and r["arm"] not in self._seeds}
        self._plain = _without_ratio(self._seeds)

    @classmethod
    def read(cls, results_dir: str | Path, scale: str, paper: str) -> Results:
        """What the newest run of a paper asked for; none where nothing is recorded. Errors as of the records' file."""
        from effi.records import store  # costs the import of torch, which judging does not need

        return cls(store.current(paths.records_file(results_dir, scale, paper)))

    def __bool__(self) -> bool:
        return bool(self._seeds)

    def __contains__(self, arm: str) -> bool:
        return arm in self._seeds

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that finished, in the order recorded."""
        return tuple(self._seeds)

    @property
    def failures(self) -> Mapping[str, str]:
        """Arms that failed at every seed, and the error of the last one."""
        return {arm: record["error"] for arm, record in self._failed.items()}

    @property
    def records(self) -> list[Record]:
        """The finished records that count, arm by arm."""
        return [record for seeds in self._seeds.values() for record in seeds.values()]

    def seeds(self, arm: str) -> Mapping[int, Record]:
        """Seed -> record of one arm, seeds in order. Raises RecordError when it failed, ParameterError without it."""
        if arm in self._seeds:
            return self._seeds[arm]
        if arm in self._failed:
            raise RecordError(f"{arm} failed ({self.failures[arm]}); mend that and run again.")
        raise ParameterError(f"Unknown arm {arm!r}{did_you_mean(arm, self._seeds)}")

    def values(self, arm: str, metric: str) -> list[float]:
        """A metric of one arm over its seeds, in the shown unit. Raises RecordError when a seed does not hold it."""
        return [measures.value(record, metric) * measures.unit(metric).factor for record in self.seeds(arm).values()]

    def about(self, *metrics: str) -> list[str]:
        """Finished arms that metrics of a check on many arms are about: "saving/d/gpt/ligo" is about d/gpt/ligo."""
        parts = [part for metric in metrics for part in measures.parts(metric) if "/" in part]
        return [arm for arm in self._seeds if any(part.endswith(f"/{arm}") for part in parts)] if parts else []

    def holds(self, arm: str, metric: str) -> bool:
        """Whether every seed of an arm holds a metric; of a check every seed at which arms that it is about trained.

        Errors as of `seeds`.
        """
        others = [self._seeds[other].keys() for other in self.about(metric)]
        found = [record for seed, record in self.seeds(arm).items() if all(seed in seeds for seeds in others)]
        return bool(found) and all(holds(record, metric) for record in found)

    def history(self, arm: str, name: str) -> list[list[float]]:
        """A history of one arm as stored: a list per seed, cut to the shortest. RecordError when a seed has none."""
        found = [record["history"].get(name) for record in self.seeds(arm).values()]
        if not all(found):
            raise RecordError(f"{arm} holds no history of {name}: record one while training.")
        length = min(map(len, found))
        return [history[:length] for history in found]

    # --- which arms ------------------------------------------------------------------------------------------

    def where(
        self,
        *,
        dataset: str | None = None,
        model: str | None = None,
        variant: str | None = None,
        ratio: float | None = None,
        arms: Sequence[str] | None = None,
    ) -> Results:
        """The arms of a data set, model, variant or ratio, or those listed, in that order.

        Listed arms that failed are left out. Raises ParameterError for one that is unknown.
        """
        wanted = zip(_FIELDS, (dataset, model, variant, ratio), strict=True)
        asked = {field: value for field, value in wanted if value is not None}
        listed = [*self._seeds, *self._failed] if arms is None else list(arms)
        for arm in listed:
            if arm not in self._failed:
                self.seeds(arm)
        return self._only(arm for arm in listed if all(self._facts(arm)[name] == asked[name] for name in asked))

    def holding(self, *metrics: str) -> Results:
        """The arms that hold the metrics at every seed. Raises RecordError when there is none; it says what failed."""
        found = [arm for arm in self._seeds if all(self.holds(arm, metric) for metric in metrics)]
        return self._those(found, f"No finished arm holds {' and '.join(metrics)}")

    def remembering(self, *histories: str) -> Results:
        """The arms that hold the histories at every seed. Errors as of `holding`."""
        found = [
            arm
            for arm, seeds in self._seeds.items()
            if all(record["history"].get(name) for record in seeds.values() for name in histories)
        ]
        return self._those(found, f"No finished arm has a history of {' and '.join(histories)}")

    def _those(self, arms: Sequence[str], otherwise: str) -> Results:
        if not arms:
            raise self._nothing(otherwise)
        return self._only([*arms, *self._failed])

    def _only(self, arms: Iterable[str]) -> Results:
        kept = list(dict.fromkeys(arms))
        done = [record for arm in kept if arm in self._seeds for record in self._seeds[arm].values()]
        return Results([*done, *(self._failed[arm] for arm in kept if arm in self._failed)])

    def _nothing(self, what: str) -> RecordError:
        if not self._failed:
            return RecordError(f"{what}; finished arms are {', '.join(self._seeds) or 'none'}.")
        return RecordError(f"{what}: {failed(self.failures)}; mend that and run again.")

    # --- arms beside each other ------------------------------------------------------------------------------

    def dataset(self, arm: str) -> str:
        """Data set of an arm; empty for one that has none, such as a check."""
        return self._facts(arm)["dataset"] or ""

    def group(self, arm: str) -> str:
        """Data set and model of an arm, "cifar10/vit": the arms that are compared with each other."""
        facts = self._facts(arm)
        return "/".join(filter(None, (facts["dataset"], facts["model"])))

    def label(self, arm: str) -> str:
        """An arm's name within its group: its variant, with its ratio where it has one."""
        facts = self._facts(arm)
        if not facts["variant"]:
            return arm
        return facts["variant"] + ("" if facts["ratio"] is None else f"-{facts['ratio']:g}")

    def labels(self) -> dict[str, str]:
        """Names for tables and figures: those within the group when all arms are of one group."""
        same = len({self.group(arm) for arm in self._seeds}) == 1
        return {arm: self.label(arm) if same else arm for arm in self._seeds}

    def baseline(self, arm: str, variant: str) -> str | None:
        """The arm of the same data set and model with the variant `variant`, and no ratio; None where none finished."""
        facts = self._facts(arm)
        if not facts["dataset"]:
            return None
        return self._plain.get((facts["dataset"], facts["model"], variant))

    def pairs(self, baseline: str) -> dict[str, list[Pair]]:
        """Arm -> its pairs by seed, group by group, the baseline first; arms without a baseline are left out.

        Raises ParameterError when no arm has the baseline's variant, RecordError when it failed.
        """
        partners = {arm: partner for arm in self._seeds if (partner := self.baseline(arm, baseline))}
        if not partners and any(record["variant"] == baseline for record in self._failed.values()):
            raise self._nothing(f"Nothing can be compared with {baseline}")
        if not partners:
            raise ParameterError(f"No arm is called {baseline!r}: arms are {', '.join(self._seeds) or 'none'}.")
        order = sorted(partners, key=lambda arm: (self.group(arm), arm != partners[arm]))
        return {arm: self._paired(arm, partners[arm]) for arm in order}

    def _paired(self, arm: str, partner: str) -> list[Pair]:
        ours, theirs = self._seeds[arm], self._seeds[partner]
        return [Pair(ours[seed], theirs[seed]) for seed in ours if seed in theirs]

    def _facts(self, arm: str) -> Record:
        record = self._failed[arm] if arm in self._failed else next(iter(self.seeds(arm).values()))
        return {field: record[field] for field in _FIELDS}


def holds(record: Record, metric: str) -> bool:
    """Whether a record holds a metric."""
    try:
        measures.value(record, metric)
    except RecordError:
        return False
    return True


def failed(failures: Mapping[str, str]) -> str:
    """Which arms failed and why, as part of a sentence: "d/a, d/b and 3 more failed (the loss is nan)"."""
    reasons: dict[str, list[str]] = {}
    for arm, error in failures.items():
        reasons.setdefault(error, []).append(arm)
    return "; ".join(f"{measures.some(arms, 3)} failed ({error.rstrip('.')})" for error, arms in reasons.items())


def _scale(records: Sequence[Record]) -> str:
    scales = sorted({record["scale"] for record in records})
    if len(scales) > 1:
        raise ParameterError(f"Records of {' and '.join(scales)} mixed: read one scale at a time.")
    return scales[0] if scales else "no"


def _newest(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        if any(field not in record for field in _FIELDS):
            raise RecordError(f"{record['arm']} was recorded by an older effi, without its variant: run it again.")
        if record["status"] == "done":
            seeds = found.setdefault(record["arm"], {})
            seeds.pop(record["seed"], None)
            seeds[record["seed"]] = record
    return {arm: _alike(seeds) for arm, seeds in found.items()}


def _without_ratio(found: Mapping[str, Mapping[int, Record]]) -> dict[tuple[str, str, str], str]:
    """Data set, model and variant -> the first arm of them that has no ratio."""
    firsts = ((arm, next(iter(seeds.values()))) for arm, seeds in reversed([*found.items()]))
    return {(r["dataset"], r["model"], r["variant"]): arm for arm, r in firsts if r["ratio"] is None}


def _alike(seeds: Mapping[int, Record]) -> dict[int, Record]:
    newest = next(reversed(list(seeds.values())))["settings"]
    return {seed: seeds[seed] for seed in sorted(seeds) if _agree(seeds[seed]["settings"], newest)}


def _agree(one: Any, other: Any) -> bool:
    if one == other:
        return True
    from effi.records.identity import agree  # costs the import of torch, as above

    return agree(one, other)
