"""The page that every notebook ends with: verdicts, arms, costs, advice, and its figures, all of one run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from effi import paths
from effi.claims import JUDGED, Results, judge, papers
from effi.claims.results import failed
from effi.errors import ParameterError, RecordError, TrainingError
from effi.report import canvas
from effi.report.arms import arms_table
from effi.report.costs import cost_table, matched_table
from effi.report.derived import derive
from effi.report.findings import findings, findings_table, in_part
from effi.report.headline import renew
from effi.report.judgements import claims_table, evidence_table
from effi.report.tables import Table, save_tables
from effi.report.trades import Cost, advice, choose, validation_of

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

    from effi.records import Run


class Page:
    """Tables, figures and advice of one run, compared with the variant `baseline`; `price` is money per GPU hour.

    Setting it up trains and reads nothing, so that figures can be shown before. ParameterError for a negative price.
    """

    def __init__(self, run: Run, *, baseline: str, price: float) -> None:
        if price < 0:
            raise ParameterError(f"price_per_gpu_hour is {price:g}; give 0 or more.")
        self.run, self.baseline, self.price = run, baseline, price
        self.place = paths.place(run.path)
        self.paper = papers.load(self.place[-1])
        canvas.style()

    @property
    def results(self) -> Results:
        """Of the arms asked for so far, read anew at every use.

        Raises TrainingError, which names them and says why, when arms failed and none finished.
        """
        results = Results([*self.run.records(), *self.run.failed()])
        if results.failures and not any(results.dataset(arm) for arm in results.arms):
            raise TrainingError(f"Nothing was trained: {failed(results.failures)}; mend that and run again.")
        return results

    def show(self, figure: Figure, name: str) -> Image:
        """Save a figure beside the records, and give what was saved to a notebook."""
        from IPython.display import Image  # absent from the command line's start

        return Image(self.save_figure(figure, name))

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Save a figure beside the records without showing it, under its name without what a file's may not hold."""
        return canvas.save_figure(figure, paths.figures_dir(*self.place), re.sub(r"[^\w.-]", "_", name))

    def pictures(self, name: str, draw: Callable[[str], Figure], of: Iterable[str], shown: int | None = None) -> None:
        """Save a figure of each and show the first `shown`; one whose arms are not there is left out with a line."""
        from IPython.display import Image, display  # absent from the command line's start

        saved = []
        for each in of:
            try:
                saved.append(self.save_figure(draw(each), f"{name}_{each}"))
            except (ParameterError, RecordError) as error:
                plt.close("all")  # a notebook would show what was begun
                print(f"No picture {name} of {each}: {error}")
        for path in saved[:shown]:
            display(Image(path))

    def claims(self) -> Table:
        """The paper against ours."""
        return claims_table(judge(self.paper, self.results))

    def evidence(self) -> Table:
        """Every test behind the verdicts."""
        return evidence_table(judge(self.paper, self.results))

    def findings(self) -> Table:
        """What was learned, by this run and larger ones; at smoke scale, which tells nothing, by the workbook's own."""
        if self.place[1] in JUDGED:
            return findings_table(self.paper, self.results, in_part(self.paper.id, *self.place[:2]))
        return findings(self.paper.id)

    def arms(self, metrics: Sequence[str], arms: Sequence[str] | None = None) -> Table:
        """Metrics of the arms, by default of all that hold the first metric."""
        return arms_table(self.results, metrics, arms)

    def cost(self) -> Table:
        """What each arm costs and keeps beside the baseline, by the paper's score."""
        chosen = {"metric": self.paper.report["score"], "timing": self.paper.report.get("timing", "")}
        return cost_table(self.results, baseline=self.baseline, price=self.price, **chosen)

    def matched(self, metric: str | None = None) -> Table:
        """Each arm beside the baseline at equal epochs, FLOPs and time, by a metric of the histories.

        None is the one on validation that stands for the paper's score.
        """
        chosen = metric or validation_of(self.paper.report["score"])
        return matched_table(self.results, baseline=self.baseline, metric=chosen)

    def advice(self, *, told: str | None = None, by: Cost = "flops", arms: Sequence[str] | None = None) -> str:
        """What to take instead of the baseline: chosen on validation, told on test (None: by the paper's score).

        `arms` are those on offer, None all of them.
        """
        found = choose(self.results, self.paper, baseline=self.baseline, told=told, by=by, arms=arms)
        return advice(found, self.price)

    def save(self) -> None:
        """At the end of a run: save the tables that `effi verify` derives, beside the records, and print how many.

        The page's `opening` is brought up to date, at scales that it tells of.
        """
        self.run.tidy()
        tables = derive(*self.place)
        save_tables(tables, paths.run_dir(*self.place))
        print(f"{len(tables)} tables saved")
        if self.place[1] in JUDGED:
            renew(self.paper.id)
