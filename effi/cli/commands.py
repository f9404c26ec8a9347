"""The command `effi`: thin commands over the rooms, each of which is imported only when its command runs."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from effi.errors import EffiError, NotebookError, ParameterError

if TYPE_CHECKING:
    from effi.workbook.batch import Outcome

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
data = typer.Typer(help="Data sets: what is here, and how to get the rest.", invoke_without_command=True)
app.add_typer(data, name="data")

Scale = Annotated[str, typer.Option(help="smoke, cpu, hours, gpu or paper.")]


def _from_caller(context: typer.Context, asked: typer.CallbackParam, value: str) -> str:
    """What was given is meant from where the caller stands; the default is the workbook's own."""
    from effi import paths

    source = context.get_parameter_source(asked.name or "")
    if source is None or source.name == "DEFAULT" or not value:
        return value
    path = Path(value).expanduser().absolute()
    return str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)


Results = Annotated[str, typer.Option(help="Folder of results, from where you stand.", callback=_from_caller)]


def _version(asked: bool) -> None:
    if asked:
        from effi import __version__

        typer.echo(f"effi {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Reproduce, judge and price five papers on training Transformers cheaply."""


@app.command("list")
def list_(paper: Annotated[str | None, typer.Argument(help="Show this paper's parameters.")] = None) -> None:
    """Show the papers, or the parameters of one."""
    from effi import workbook
    from effi.cli import screen

    if paper is None:
        screen.table(("paper", "notebook", "question"), [(n.paper, n.path.name, n.title) for n in workbook.notebooks()])
        return
    (notebook,) = workbook.find([paper])
    known = workbook.parameters(notebook)
    told = {"scale": "; effi run gives cpu unless --scale says otherwise", "results_dir": "; give it as --results-dir"}
    rows = [
        (name, each.type, repr(each.default), f"{each.help or ''}{told.get(name, '')}") for name, each in known.items()
    ]
    screen.table(("parameter", "type", "default", "meaning"), rows)


@app.command()
def run(
    papers: Annotated[list[str] | None, typer.Argument(help="Papers to run; all of them when none is named.")] = None,
    scale: Scale = "cpu",
    jobs: Annotated[int, typer.Option(help="Notebooks to run at once.")] = 1,
    processes: Annotated[
        int,
        typer.Option(
            help="Processes, or GPUs, that make each training by torchrun; a `training` of yours then says parallel."
        ),
    ] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", "-p", help="A notebook's parameter as name=value.")] = None,
    results_dir: Results = "results",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run one step per arm and say what a run takes.")] = False,
    tflops: Annotated[
        float | None,
        typer.Option(help="With --dry-run: make no step; time is FLOPs at so many TFLOP/s, as of a GPU elsewhere."),
    ] = None,
    workers: Annotated[
        str, typer.Option(help="local, dask://HOST:PORT, slurm or slurm:N; with --dry-run a number will do.")
    ] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but what went wrong.")] = False,
) -> None:
    """Run notebooks; what is recorded already is kept. Fails if a notebook or an arm failed, whatever the verdicts.

    Exit status 2 means a mistake in what was asked for, 1 any other failure. On a cluster torchrun starts this command
    itself: `torchrun ... --no-python effi run PAPER -p 'training={"parallel": "fsdp"}'`, in an environment with
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, without which processes that are started anew may look for dead ones.
    """
    from effi import workbook
    from effi.records import cluster
    from effi.workbook import together

    quiet = quiet or not together.is_first()
    given = dict(map(_assignment, set_ or ()))
    if dry_run:
        _plan(papers or (), scale, given, workers, tflops)
        return
    if tflops is not None:
        raise ParameterError("--tflops is for --dry-run: seconds of a run are measured.")
    elsewhere = {cluster.ASKED: cluster.check(workers)}
    if processes > 1:
        _share_out(given, workers)
    with _closing_sentence():
        ended = workbook.run(
            papers or (),
            scale=scale,
            parameters=given,
            jobs=jobs,
            processes=processes,
            results_dir=results_dir,
            quiet=quiet,
            surroundings=elsewhere,
        )
    _close(ended, scale, results_dir, quiet)


def _plan(papers: Sequence[str], scale: str, given: Mapping[str, str], workers: str, tflops: float | None) -> None:
    """Say what runs would take, by steps made here, or by FLOPs at a rate."""
    from effi import workbook
    from effi.cli import screen

    count, pace = _count(workers), None if tflops is None else tflops * 1e12
    if pace is not None and not 0 < pace < math.inf:
        raise ParameterError(f"--tflops {tflops:g} is no rate: give a number above 0, as 200.")
    for notebook in workbook.find(papers):
        rows = workbook.dry_run(notebook.paper, scale, given, pace=pace)
        screen.plan(notebook.paper, scale, rows, count, tflops)


def _share_out(given: dict[str, str], workers: str) -> None:
    """Have several processes make each training together, unless `training` says how already."""
    from effi.records import cluster

    if workers != cluster.LOCAL:
        raise ParameterError("Give --workers for many small arms or --processes for one large one, not both.")
    given.setdefault("training", '{"parallel": "ddp"}')


def _close(ended: Sequence[Outcome], scale: str, results_dir: str, quiet: bool) -> None:
    """Show verdicts and what went wrong, and end with the status that says so."""
    from effi.cli import screen

    if not quiet:
        screen.verdicts([outcome.paper for outcome in ended if outcome.judged], scale, results_dir)
        screen.aside(ended)
    screen.outcomes(ended)
    raise typer.Exit(max((2 if outcome.mistake else 1) if outcome.error else 0 for outcome in ended))


@app.command()
def advise(
    dataset: Annotated[str, typer.Argument(metavar="DATA", help="folder:PATH, csv:PATH or text:PATH.")],
    budget: Annotated[str, typer.Option(help="Time to spend: 90s, 30m, 1.5h.")] = "30m",
    margin: Annotated[float | None, typer.Option(help="What may be lost, in points of accuracy or nats.")] = None,
    model: Annotated[str, typer.Option(help="A folder with a GPT-2 of yours, to be grown.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for records, page, model; from where you stand.")] = Path("advice"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No bars.")] = False,
) -> None:
    """Try every method that fits your data within a time, and say in one table what each would save you.

    The same command goes on where it stopped.
    """
    from effi import advice

    seconds = advice.seconds_of(budget)
    with _closing_sentence():
        found = advice.advise(
            dataset, budget=seconds, out=out, margin=margin, checkpoint=model, say=typer.echo, quiet=quiet
        )
    print(f"\n{found.sentence}\n\n{found.table.text()}\n\n{found.model}\npage: {advice.save(found, out)}")
    raise typer.Exit(int(not found.ended))


@app.command()
def verify(results_dir: Results = "results") -> None:
    """Derive every table from its records anew; fails at the first difference."""
    from effi.cli.verification import verify

    print(f"{len(verify(results_dir))} files are what their records give")


@app.command()
def adopt(
    papers: Annotated[list[str] | None, typer.Argument(help="Papers; all of them when none is named.")] = None,
    results_dir: Results = "results",
) -> None:
    """Show that changed source computes the bits of stale records, which then count; fails where it does not.

    Runs the notebook at smoke scale from the commit that made the records and from here.
    """
    from effi.workbook import adoption

    found = adoption.adopt(papers or (), results_dir=results_dir)
    print(*found, sep="\n")
    raise typer.Exit(int(any(each.adopted < each.stale for each in found)))


@app.command()
def report() -> None:
    """Rewrite the part of README.md that is drawn from results."""
    from effi.cli import front_page

    print(f"{front_page.write()} shows the results")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A folder of results or a file of records.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric, for example test_accuracy.")] = None,
    bit_by_bit: Annotated[
        bool, typer.Option("--bits", help="Every metric and history; fails where one differs.")
    ] = False,
) -> None:
    """Compare two sets of records: per arm and metric the means, their difference and Welch's p."""
    if bit_by_bit:
        from effi.cli import bits

        found = bits.compare(a, b)
        print(found)
        raise typer.Exit(int(bool(found.differences)))
    from effi.cli.comparison import compare

    print(compare(a, b, metric or ()).text())


@app.command()
def grow(
    small: Annotated[Path, typer.Argument(help="Folder that transformers saved: config.json and safetensors.")],
    large: Annotated[Path, typer.Argument(help="Folder or file of the wanted configuration, or a file of its sizes.")],
    out: Annotated[Path, typer.Option(help="New folder for the grown model, which transformers loads.")],
    by: Annotated[
        str,
        typer.Option(
            help="copy, zero-pad, zero-pad-fixed, stack, interpolate, fpi, aki, hyperclone, lemon, select, ligo-0 (the "
            "operator as it begins) or ligo (learned)."
        ),
    ] = "copy",
    text: Annotated[
        str | None, typer.Option("--data", help="What ligo learns on: text:PATH, a file or folder.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of learning.")] = 100,
    batch: Annotated[int, typer.Option(help="Rows of text in a step.")] = 8,
    length: Annotated[int, typer.Option(help="Tokens in a row.")] = 128,
    seed: Annotated[int, typer.Option(help="Of what is drawn anew.")] = 0,
) -> None:
    """Grow a checkpoint of transformers into a larger one."""
    from effi.own_loop import growing

    scheme, _, path = (text or "").partition(":")
    named = f"{scheme}:{Path(path).expanduser().absolute()}" if path else text
    lesson = growing.Lesson(named, steps, batch, length) if named else None
    print(growing.grow(small, large, out, by=by, seed=seed, lesson=lesson).sentence(out, by))


@app.command()
def bench(
    name: Annotated[
        str | None,
        typer.Argument(help="scale, ligo, gpu or another; an unknown name is answered with all. Default: all."),
    ] = None,
    results_dir: Results = "results",
    stored: Annotated[bool, typer.Option("--stored", help="Time nothing; show the newest rows.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Only cases that are not timed here yet.")] = False,
    budget: Annotated[str, typer.Option(help="Seconds for each competitor; at least 9 rounds are made.")] = "20s",
) -> None:
    """Time the workbook's own parts against the alternatives; wants a machine that does nothing else."""
    from effi import bench
    from effi.advice import seconds_of

    bench.main(name, results_dir=results_dir, stored=stored, resume=resume, budget_s=seconds_of(budget))


@data.callback()
def list_data(context: typer.Context) -> None:
    """Show the data sets by name; fails if one that is here is damaged."""
    if context.invoked_subcommand:
        return
    from effi.cli import screen
    from effi.data import available

    found = available()
    rows = [
        (each.name, str(each.where or "absent"), each.problem or each.variant or "", each.licence, each.source)
        for each in found
    ]
    screen.table(("data set", "where", "variant", "licence", "source"), rows)
    raise typer.Exit(int(any(each.problem for each in found)))


@data.command()
def fetch(name: Annotated[str, typer.Argument(help="A data set by name.")]) -> None:
    """Download a data set and check it."""
    from effi.data import fetch

    print(f"{name} is in {fetch(name)}")


@data.command()
def shards(
    name: Annotated[str, typer.Argument(metavar="DATA", help="text:PATH or folder:PATH.")],
    vocabulary: Annotated[int, typer.Option(help="Of the tokenizer that is trained on a text.")] = 4000,
    tokenizer: Annotated[str | None, typer.Option(help="A tokenizer.json to use instead.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side that images come to.")] = None,
) -> None:
    """Make the shards of data larger than memory ahead of a training; they go to EFFI_DATA, where one is named."""
    from effi.data import kind, load, load_corpus

    images = kind(name) == "images"
    one = load(name, size=size) if images else load_corpus(name, vocabulary=vocabulary, tokenizer=tokenizer)
    print(one.notice or f"{one.name} fits into memory, and needs no shards")


@app.command()
def doctor(results_dir: Results = "results") -> None:
    """Say what this machine can run, and what to mend; fails if something must be."""
    from rich.text import Text

    from effi.cli import screen
    from effi.cli.doctor import examine

    findings = examine(results_dir)
    rows = [(each.thing, Text(each.state, screen.FINDINGS[each.state]), each.found, each.mend) for each in findings]
    screen.table(("", "state", "found", "mend"), rows)
    raise typer.Exit(int(any(finding.state == "mend" for finding in findings)))


def _count(workers: str) -> int:
    """How many workers a plan is made for: N of "N" and of "slurm:N", else one; errors as of `cluster.check`."""
    from effi.records import cluster

    number = workers.removeprefix("slurm:")
    if number.isdecimal() and int(number):
        return int(number)
    cluster.check(workers)
    return 1


def main() -> None:
    """Entry point: an error is one sentence on standard error, exit status 2 for what the user can mend, else 1."""
    try:
        app()
    except NotebookError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except EffiError as error:
        print(f"effi: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (OSError, ImportError, MemoryError) as error:
        from effi.workbook.mends import mend

        if not (end := mend(f"{type(error).__name__} {error}")):
            raise
        print(f"effi: {error}{end}", file=sys.stderr)
        raise SystemExit(1) from None


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ParameterError(f"--set wants name=value, not {text!r}.")
    return name, _from_here(value) if name == "checkpoint" or (name == "dataset" and ":" in value) else value


def _from_here(value: str) -> str:
    """A path of one's own is meant from where the caller stands, if it is there; else from the clone."""
    scheme, colon, place = value.rpartition(":")
    path = Path(place).expanduser().absolute()
    return f"{scheme}{colon}{path}" if place and path.exists() else value


@contextmanager
def _closing_sentence() -> Iterator[None]:
    """Ctrl-C, `kill` and a closed terminal end what runs with a sentence and the status that shells give to signals."""
    from effi.cli import screen

    # So that the last two end the notebooks, too.
    for name in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(name, _interrupt)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        screen.trouble("Interrupted. Run again: finished arms are kept, trainings go on from their last checkpoint.")
        raise SystemExit(128 + signal.SIGINT if isinstance(end, KeyboardInterrupt) else end.code) from None


def _interrupt(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
