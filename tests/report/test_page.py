"""The page of one run: what it shows, where its figures go, and where it ends when nothing was trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from effi import paths, report
from effi.errors import ParameterError, TrainingError
from effi.records import store
from tests.report.synthetic import trained


@dataclass
class Run:
    """What the page wants of a run."""

    folder: Path
    done: list[dict[str, Any]]
    lost: list[dict[str, Any]] = field(default_factory=list)

    def tidy(self) -> None:
        store.tidy(self.path)

    @property
    def path(self) -> Path:
        return paths.records_file(self.folder, "cpu", "minimal")

    def records(self) -> list[dict[str, Any]]:
        return self.done

    def failed(self) -> list[dict[str, Any]]:
        return self.lost


DONE = [
    trained(f"mnist/{name}", seed, accuracy + scatter * (seed - 1), flops=flops)
    for seed in range(3)
    for name, accuracy, scatter, flops in (
        ("mlp-h1", 0.9, 0.0, 100.0),
        ("minimum", 0.9, 0.001, 10.0),
        ("nomlp-h1", 0.7, 0.001, 5.0),
    )
]


def page(folder: Path, done: list[dict[str, Any]] = DONE, lost: list[dict[str, Any]] | None = None) -> report.Page:
    return report.Page(Run(folder, done, lost or []), baseline="mlp-h1", price=2.0)


def lost(arm: str) -> dict[str, Any]:
    return {**trained(arm, 0, 0.5), "status": "failed", "error": "the loss is nan; lower the learning rate"}


def test_tables_are_those_of_the_run(tmp_path: Path) -> None:
    found = page(tmp_path)
    assert found.results.arms == ("mnist/mlp-h1", "mnist/minimum", "mnist/nomlp-h1")
    assert [row[0] for row in found.arms(["test_accuracy"]).rows] == list(found.results.arms)
    assert found.claims().columns[3] == "as in the paper, here (cpu scale)"
    assert [row[2] for row in found.claims().rows][4] == "0.000 [-0.002, 0.002], n=3"
    assert len(found.evidence().rows) > len(found.claims().rows) == 15
    cost = {row[0]: row[1:3] for row in found.cost().rows}
    assert cost["mnist/minimum"] == ("90.0 %: 0.0 points [-0.2, 0.2]", "10.0 %")
    matched = {row[0]: row[1] for row in found.matched().rows}
    assert matched["mnist/nomlp-h1"] == "-20.0 points [-20.2, -19.8]"


def test_advice_is_by_the_score_of_the_paper_and_its_margin(tmp_path: Path) -> None:
    said = page(tmp_path).advice()
    assert said.startswith("mnist: take minimum instead of mlp-h1, for 10.0 % of its FLOPs; test accuracy")
    assert "surely less than 0.5 points is lost" in said
    assert "stay with mlp-h1" in page(tmp_path).advice(arms=["mnist/nomlp-h1"])


def test_matched_budgets_are_read_by_the_metric_that_is_asked_for(tmp_path: Path) -> None:
    done = [{**each, "history": {**each["history"], "validation_loss": [0.5, 0.4]}} for each in DONE]
    found = page(tmp_path, done)
    assert found.matched().title.startswith("validation accuracy (%) minus mlp-h1")
    assert found.matched("validation_loss").title.startswith("validation loss minus mlp-h1")
    assert {row[1] for row in found.matched("validation_loss").rows} == {"0.000"}


def test_findings_are_those_of_the_run_or_at_smoke_scale_of_the_workbooks_own_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = page(tmp_path).findings()
    assert found.title.endswith("of cpu scale")
    flops = next(row for row in found.rows if row[1].startswith("The minimum is not the model to take"))
    assert flops[0] == "– not run"
    monkeypatch.setattr(Run, "path", property(lambda run: paths.records_file(run.folder, "smoke", "minimal")))
    asked = []
    monkeypatch.setattr("effi.report.page.findings", lambda *given: asked.append(given) or found)
    assert page(tmp_path).findings() is found and asked == [("minimal",)]


def test_results_are_read_anew(tmp_path: Path) -> None:
    run = Run(tmp_path, [])
    found = report.Page(run, baseline="mlp-h1", price=2.0)
    assert not found.results
    run.done = DONE
    assert found.results


def test_figures_are_saved_under_names_that_a_file_may_have(tmp_path: Path) -> None:
    found = page(tmp_path)
    path = found.save_figure(plt.figure(), "heat folder:/my data/ä")
    assert path == paths.figures_dir(tmp_path, "cpu", "minimal") / "heat_folder__my_data_ä.png"
    picture = found.show(plt.figure(), "loss")
    assert picture.data == (path.parent / "loss.png").read_bytes()
    assert not plt.get_fignums()


def test_a_picture_without_its_arms_is_left_out_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda image: shown.append(image.data))
    found, options = page(tmp_path), {"title": "Which?"}
    results = found.results

    def draw(arm: str) -> Figure:
        return report.bars_with_intervals(results, ["test_accuracy"], arms=[arm], **options)

    found.pictures("which", draw, ["mnist/minimum", "mnist/nothing", "mnist/nomlp-h1"], shown=1)
    folder = paths.figures_dir(tmp_path, "cpu", "minimal")
    assert {path.stem for path in folder.iterdir()} == {"which_mnist_minimum", "which_mnist_nomlp-h1"}
    assert shown == [(folder / "which_mnist_minimum.png").read_bytes()]
    assert capsys.readouterr().out.startswith("No picture which of mnist/nothing: Unknown arm 'mnist/nothing'")
    assert not plt.get_fignums()


def test_the_page_ends_where_nothing_was_trained_and_says_why(tmp_path: Path) -> None:
    check = {**trained("check/C14", 0, 0.5), "metrics": {"order": 9}}
    ended = page(tmp_path, [check], [lost("mnist/mlp-h1"), lost("mnist/minimum")])
    sentence = (
        r"Nothing was trained: mnist/mlp-h1, mnist/minimum failed \(the loss is nan; lower the learning rate\); "
        r"mend that and run again\."
    )
    with pytest.raises(TrainingError, match=sentence):
        ended.claims()


def test_one_failed_arm_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    found = page(tmp_path, DONE, [lost("mnist/nomlp-h4")])
    assert any("mnist/nomlp-h4 failed (the loss is nan" in row[-1] for row in found.evidence().rows)
    table = found.arms(["test_accuracy"], ["mnist/nomlp-h4", "mnist/minimum"])
    assert [row[0] for row in table.rows] == ["mnist/minimum"]


def test_saving_derives_every_table_from_the_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = paths.records_file(tmp_path, "cpu", "minimal")
    file.parent.mkdir(parents=True)
    store.append(file, [{**each, "identity": str(i)} for i, each in enumerate(DONE)])
    store.append(file, [{**DONE[0], "identity": "of older settings"}])
    store.point(file, [str(i) for i in range(len(DONE))])
    page(tmp_path).save()
    assert len(store.records(file)) == len(DONE)
    assert capsys.readouterr().out == "5 tables saved\n"
    tables = report.derive(tmp_path, "cpu", "minimal")
    assert {path.stem for path in file.parent.glob("*.csv")} == set(tables)
    assert all((file.parent / f"{name}.csv").read_text() == table.csv() for name, table in tables.items())


def test_a_price_below_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="price_per_gpu_hour is -2; give 0 or more"):
        report.Page(Run(tmp_path, []), baseline="mlp-h1", price=-2)
