"""The ``e2llm`` command: run and check specs, a local cluster, one recording, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.cluster_cli import cluster_app
from jobs.console import disciplined
from storage.errors import InputError
from storage.places.location import locate

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 20

app = typer.Typer(
    help="EEG to language about emotion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(cluster_app, name="cluster")

Spec = Annotated[Path, typer.Argument(help="Job spec, for example jobs/stage1.yaml.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key.path=value]...", help="Overrides of the file's settings.", show_default=False),
]


@app.command()
@disciplined
def run(spec: Spec, overrides: Overrides = None) -> None:
    """Run a job on this machine; no cluster is needed."""
    from jobs.__main__ import execute

    execute(spec, overrides or [], local=True, check=False)


@app.command()
@disciplined
def check(spec: Spec, overrides: Overrides = None) -> None:
    """Validate a job spec and print the digest of its settings."""
    from jobs.__main__ import execute

    execute(spec, overrides or [], local=True, check=True)


@app.command()
@disciplined
def ingest(
    spec: Spec,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, write nothing, and print what would be stored.")
    ] = False,
) -> None:
    """Read recordings into a store, as `run` does. With --dry-run, exit status 2 if a recording would be refused."""
    from jobs.ingest import ingest_plan

    plan = ingest_plan(spec, overrides or [])
    if not dry_run:
        from jobs.__main__ import execute

        execute(spec, overrides or [], local=True, check=False)
        return
    from cluster.batch.ingest import rehearse_ingest

    if rehearse_ingest(plan):
        raise typer.Exit(2)


@app.command()
@disciplined
def plan(
    spec: Spec,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(min=1, help="Workers with one GPU each.")] = 1,
    gpu: Annotated[str, typer.Option(help="h200, h100-80, a100-80, a100-40 or b200.")] = "h200",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict the memory and time of a training job; exit status 2 if it does not fit."""
    from jobs.plan import show_plan

    show_plan(spec, overrides or [], gpus, gpu, as_json=json_output)


@app.command()
@disciplined
def slurm(
    spec: Spec,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(min=1, help="Number of whole nodes.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="GPUs of each node.")] = 0,
    gpu: Annotated[str, typer.Option(help="Kind of GPU for the plan, as in `e2llm plan`.")] = "h200",
    time: Annotated[str | None, typer.Option(help="Time limit, such as 12:00:00. Default: the partition's.")] = None,
    array: Annotated[
        str | None, typer.Option(help="Job array, such as 1-4; {task} in overrides is its number.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted.")] = False,
) -> None:
    """Check and plan a job, then submit it to SLURM; exit status 2 if it does not fit."""
    from cluster.slurm.submission import Request
    from jobs.slurm import submit_job

    request = Request(nodes=nodes, gpus_per_node=gpus_per_node, time=time, array=array)
    submit_job(spec, overrides or [], request, gpu, dry_run=dry_run)


@app.command()
@disciplined
def schema(
    output: Annotated[Path | None, typer.Option(help="Write here instead of to the terminal.")] = None,
) -> None:
    """Print the JSON Schema of all job specs, for editors."""
    from jobs.load import json_schema
    from jobs.spec import SPECS

    text = json.dumps(json_schema(SPECS), indent=2)
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


@app.command()
@disciplined
def demo() -> None:
    """Run the whole pipeline once on synthetic data, on a local cluster."""
    from jobs.demo import main

    main()


@app.command()
@disciplined
def score(
    model: Annotated[str, typer.Argument(help="A trained model's folder or URL.")],
    recording: Annotated[Path, typer.Argument(help="An EEG file, for example recording.edf.")],
    output: Annotated[Path | None, typer.Option(help="Also write the rows here: .parquet or .csv.")] = None,
) -> None:
    """Name the emotion in one recording, window by window."""
    if output is not None and output.suffix not in (".parquet", ".csv"):
        raise InputError(f"--output {output}", "unknown kind of table", "Name a .parquet or .csv file.")
    _require(recording)
    from e2llm_core.inference.score_file import score_file

    rows = score_file(model, recording)
    _show(rows, str(recording))
    if output is not None:
        rows.to_parquet(output) if output.suffix == ".parquet" else rows.to_csv(output, index=False)


@app.command()
@disciplined
def report(run: Annotated[str, typer.Argument(help="A run's folder or URL.")]) -> None:
    """Rewrite the report of an evaluation or a cross-validation from its stored results."""
    if not locate(run).exists("summary.json"):
        raise InputError(run, "no results of an evaluation here", "Check the path.")
    from e2llm_core.evaluation.report.report import write_report
    from jobs.cross_validation.page import written_again
    from storage.places.workspace import Workspace

    workspace = Workspace(run, "report")
    workspace.fetch("*")
    several = (workspace.folder / "results.parquet").exists()
    written = written_again(workspace.folder) if several else write_report(workspace.folder)
    workspace.send(written.name)
    workspace.discard()
    print(f"{workspace.place}/{written.name}")


@app.command()
@disciplined
def compare(
    run_a: Annotated[str, typer.Argument(help="An evaluation's folder or URL; several seeds or folds with commas.")],
    run_b: Annotated[str, typer.Argument(help="Another's, or the same for two models of one evaluation.")],
    task: Annotated[str | None, typer.Option(help="Default: that of the primary endpoint.")] = None,
    metric: Annotated[str | None, typer.Option(help="Default: the task's first.")] = None,
    model_a: Annotated[str, typer.Option(help="Such as de_svm.")] = "e2llm",
    model_b: Annotated[str, typer.Option(help="Such as de_svm.")] = "e2llm",
    readout: Annotated[
        Literal["likelihood", "generation"] | None, typer.Option(help="Of a model that was read in both ways.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0.001, max=1, help="Differences within it count as none.")] = 0.05,
    json_output: Annotated[Path | None, typer.Option("--json", help="Also write the comparison here.")] = None,
) -> None:
    """Compare two models on the same items: difference, intervals, each subject, equivalence."""
    from jobs.compare import Wanted, compare_runs, show_comparison

    wanted = Wanted(task=task, metric=metric, model_a=model_a, model_b=model_b, readout=readout, margin=margin)
    found = compare_runs(run_a.split(","), run_b.split(","), wanted)
    show_comparison(found)
    if json_output is not None:
        json_output.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")


@app.command()
@disciplined
def reproduce(
    table: Annotated[str, typer.Argument(help="A published table, such as docs/results.md#baselines.")],
    write: Annotated[
        bool, typer.Option("--write", help="For maintainers: put the numbers in the page instead of comparing.")
    ] = False,
) -> None:
    """Make a published table again; status 1 when a number lies outside the published interval."""
    from rich.console import Console

    from jobs.reproduction.reproduce import reproduce as compare
    from jobs.reproduction.reproduce import rewrite

    if write:
        rewrite(table)
    elif not compare(table, Console(highlight=False)):
        raise typer.Exit(1)


@app.command()
@disciplined
def rate(
    given: Annotated[
        list[str],
        typer.Argument(metavar="EVALUATION|ANSWERS...", help="An evaluation's run; with --read, raters' files."),
    ],
    other: Annotated[
        str | None, typer.Option(help="A second evaluation to compare with. Default: the same words, another window.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The raters' page; its key is written beside it.")] = Path("rating.html"),
    examples: Annotated[int, typer.Option(min=2, max=200, help="Windows to show.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and the order.")] = 0,
    read: Annotated[bool, typer.Option("--read", help="Say what raters answered.")] = False,
    key: Annotated[Path | None, typer.Option(help="With --read: the page's .key.json.")] = None,
) -> None:
    """Write a page on which people judge blinded rationales, or read what they answered."""
    from jobs.rate import read_answers, shown, write_page

    if read:
        from rich.console import Console

        if key is None:
            raise InputError("--key", "is missing", "Name the .key.json file that was written beside the raters' page.")
        Console(highlight=False).print(shown(read_answers([Path(name) for name in given], key)))
        return
    if len(given) > 1:
        raise InputError(
            given[1], "a page shows one evaluation", "Name the second one in --other; answers need --read."
        )
    written = write_page(given[0], other, output, examples, seed)
    print(f"{written.page}: {written.num_examples} examples, for raters\n{written.key}: keep it from them")


@app.command()
@disciplined
def rewrite(
    rationales: Annotated[Path, typer.Argument(help="JSON lines: id, label, labels, rationale, claims.")],
    output: Annotated[Path, typer.Argument(help="JSON lines to write, or to go on with.")],
    url: Annotated[str, typer.Option(help="An OpenAI-compatible endpoint, such as https://host/v1.")],
    model: Annotated[str, typer.Option(help="Name of the language model there.")],
    key_file: Annotated[
        Path | None, typer.Option(help="File with the key, mode 0600. Default: E2LLM_REWRITE_KEY, else no key.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = 8,
    timeout_seconds: Annotated[float, typer.Option(min=1, max=3600, help="Of one reply.")] = 120.0,
) -> None:
    """Have a larger language model reword rationales; a rewording that loses a claim is not taken."""
    from jobs.rewrite import rewrite_file

    rewrite_file(rationales, output, url, model, key_file, at_once=at_once, timeout_seconds=timeout_seconds)


@app.command()
@disciplined
def doctor(
    storage: Annotated[str | None, typer.Option(help="Folder or s3:// place for data and runs. [runs/]")] = None,
) -> None:
    """Examine every node of the cluster in RAY_ADDRESS, or this machine; exit status 1 if something is wrong."""
    from rich.console import Console

    from jobs.doctor import doctor as examine

    if not examine(storage, Console(highlight=False)):
        raise typer.Exit(1)


@app.command()
@disciplined
def watch(
    run: Annotated[str, typer.Argument(help="A run's folder or URL.")],
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
) -> None:
    """Show a training run's progress: steps, losses, speed, checkpoints."""
    from jobs.watch import watch_run

    watch_run(run, once)


@app.command()
@disciplined
def merge(
    model: Annotated[str, typer.Argument(help="Folder or URL of a run of stage 2 or 3, or of its model.")],
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    llm: Annotated[str | None, typer.Option(help="The base language model, if it has moved.")] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest file of the language model.")] = "5GB",
) -> None:
    """Merge a model's adapter and write one folder that plain transformers loads."""
    from e2llm_core.model.merging import merge_model

    print(merge_model(model, out, llm, max_shard_size))


@app.command()
@disciplined
def info(
    store: Annotated[str, typer.Argument(help="A store, for example runs/demo/store.zarr.")],
    html: Annotated[Path | None, typer.Option(help="Also write an HTML page with figures here.")] = None,
) -> None:
    """Show a store's contents and the problems of its signals."""
    from rich.console import Console

    from storage.quality.overview import look_over
    from storage.quality.page import text, write_html
    from storage.store import open_store

    overview = look_over(open_store(store))
    Console().print(text(overview))
    if html is not None:
        write_html(overview, html)
        print(html)


@app.command()
@disciplined
def export(
    store: Annotated[str, typer.Argument(help="A store, for example runs/demo/store.zarr.")],
    out: Annotated[str, typer.Argument(help="Folder to write to: new, empty, or from the same export.")],
    format: Annotated[Literal["fif", "epochs", "braindecode", "bids", "edf"], typer.Option(help="Output format.")],
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject; may be repeated.")] = None,
    window_seconds: Annotated[
        float | None, typer.Option(min=0.001, max=600, help="For epochs and braindecode: cut windows of this length.")
    ] = None,
    stride_seconds: Annotated[
        float | None, typer.Option(min=0.001, max=600, help="Step between windows. Default: their length.")
    ] = None,
) -> None:
    """Export a store to files for MNE, braindecode, BIDS or EDF tools."""
    from storage.export import Outcome, export_store
    from storage.store import open_store
    from storage.windows import WindowConfig

    if stride_seconds is not None and window_seconds is None:
        raise InputError("--stride-seconds", "needs --window-seconds", "Give --window-seconds too.")
    length = window_seconds
    windows = WindowConfig(window_seconds=length, stride_seconds=stride_seconds or length) if length else None

    def show(outcome: Outcome) -> None:
        print(f"{outcome.target}: {outcome.state}", flush=True)

    outcomes = export_store(open_store(store), out, format, subjects=subject, windows=windows, report=show)
    states = [outcome.state for outcome in outcomes]
    print(f"{out}: " + ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))


@app.command()
@disciplined
def verify(
    store: Annotated[str, typer.Argument(help="A store: a folder, or s3://bucket/prefix.")],
    source: Annotated[
        Path | None, typer.Option(help="Ingest spec: also read its source again and compare.", show_default=False)
    ] = None,
) -> None:
    """Check every checksum of a store; exit status 1 if something is damaged or differs from its source."""
    from jobs.verify import compare_with_source, verify_store

    wrong = verify_store(store)
    if source is not None:
        from jobs.ingest import ingest_plan

        wrong += compare_with_source(store, ingest_plan(source, []))
    if wrong:
        raise typer.Exit(1)


def _require(path: Path) -> None:
    if not path.exists():
        raise InputError(str(path), "no such file or folder", "Check the path.")


def _show(rows: pd.DataFrame, title: str) -> None:
    """Print the first windows, so that they can be read in 80 columns; `--output` has every column."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    likely = [column for column in rows.columns if column.startswith("p_")]
    table = Table(title=title, title_justify="left")
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("emotion", no_wrap=True)
    table.add_column("likeliest", no_wrap=True)
    table.add_column("text", overflow="fold")
    for row in rows.head(_MOST_ROWS).to_dict("records"):
        best = max(likely, key=lambda column: row[column])
        emotion = row["emotion"] if isinstance(row["emotion"], str) else "(none)"
        likeliest = f"{best.removeprefix('p_')} {row[best]:.2f}"
        table.add_row(f"{row['start_seconds']:.1f}", emotion, likeliest, Text(row["text"]))
    Console().print(table)
    if len(rows) > _MOST_ROWS:
        print(f"... {len(rows) - _MOST_ROWS} more rows")
