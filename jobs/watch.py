"""``e2llm watch``: one run in the terminal, from its folder."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from e2llm_core.training.status import Row, RunReader, RunStatus
from storage.progress import clock

_BLOCKS = "▁▂▃▄▅▆▇█"
_SECONDS_BETWEEN_LOOKS = 2.0
_WIDTH = 96
_CURVE = 40
_SPEED = {"seconds_per_step", "samples_per_second", "tokens_per_second", "mfu", "communication_share", "memory_gb"}
_COUNTS = {"step", "split", "seconds", "units", "samples", "tokens"}
_OTHER = _SPEED | _COUNTS | {"loss", "gradient_norm", "loader_wait", "loader_wait_share"}


def watch_run(run: str | Path, once: bool) -> None:
    """Show a run until it has finished or Ctrl-C is pressed.

    Parameters
    ----------
    run : str or Path
        The run's folder or URL.
    once : bool
        Print it and return; so does a terminal that cannot be redrawn.

    Raises
    ------
    InputError
        When there is no run.
    """
    console = Console()
    with closing(RunReader(run)) as reader:
        status = reader.read()
        if once or status.finished or not sys.stdout.isatty():
            console.print(view(status))
            return
        _follow(reader, status, console)


def _follow(reader: RunReader, status: RunStatus, console: Console) -> None:
    try:
        with Live(view(status), console=console, auto_refresh=False) as live:
            while not status.finished:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                status = reader.read()
                live.update(view(status), refresh=True)
    except KeyboardInterrupt:
        return


def view(status: RunStatus) -> RenderableType:
    """Draw a run."""
    parts: list[RenderableType] = [_headline(status)]
    if status.max_steps:
        done = "green" if status.finished else "cyan"
        parts.append(
            ProgressBar(status.max_steps, status.step, width=_WIDTH - 6, complete_style=done, finished_style=done)
        )
        parts.append(Text())  # ends the bar's line
    parts += [Text(), _numbers(status)]
    if status.progress:
        parts += [Text(), *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in status.progress)]
    written = "nothing written yet" if status.age is None else f"last write {clock(status.age)} ago"
    return Panel(
        Group(*parts),
        title=f"[bold]{status.kind or 'run'}[/]  [dim]{_escaped(status.place)}[/]",
        subtitle=f"[dim]{written}[/]",
        title_align="left",
        subtitle_align="right",
        border_style="bright_black",
        padding=(1, 2),
        width=_WIDTH,
    )


def sparkline(values: Sequence[float], width: int = _CURVE) -> str:
    """Draw values in blocks, neighbours averaged where there are more than `width`; not finite ones are left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    bounds = [place * len(finite) // count for place in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((mean - low) * scale)] for mean in means)


def _headline(status: RunStatus) -> Text:
    if status.finished:
        state, colour = f"finished in {clock(status.wall_seconds or 0.0)}", "green"
    elif status.silent:
        state, colour = f"silent for {clock(status.age or 0.0)}", "yellow"
    elif not status.train:
        state, colour = ("waiting for the first step" if status.max_steps else "running"), "blue"
    else:
        state, colour = "training", "cyan"
    words = [("● ", colour), (state, f"bold {colour}")]
    if status.max_steps:
        words += [(f"   step {status.step:,} of {status.max_steps:,}", ""), (f"   {_share(status)}", "dim")]
    if status.eta_seconds is not None:
        words.append((f"   eta {clock(status.eta_seconds)}", ""))
    return Text.assemble(*words)


def _share(status: RunStatus) -> str:
    return f"{100 * status.step / (status.max_steps or 1):.0f} %"


def _numbers(status: RunStatus) -> Table:
    """One line for each kind of number that the run has."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=12, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    if status.train:
        _losses(table, status.train)
    if status.validation:
        _validation(table, status)
    if status.train:
        _speed(table, status.train[-1])
    if status.checkpoints:
        newest, *others = reversed(status.checkpoints)
        kept = f"[dim]   older: {', '.join(f'{step:,}' for step in reversed(others))}[/]" if others else ""
        table.add_row("checkpoint", f"step {newest:,}[dim], {clock(status.checkpoint_age or 0.0)} ago[/]{kept}")
    elif status.train:
        table.add_row("checkpoint", "[dim]none complete yet[/]")
    for dump in status.dumps:
        table.add_row("[yellow]hung[/]", f"[yellow]{_escaped(dump.relative_to(status.path))} holds stacks[/]")
    return table


def _losses(table: Table, rows: Sequence[Row]) -> None:
    """The loss with its curve, then its parts; a part that is the whole loss is not repeated."""
    last = rows[-1]
    parts = [key for key, value in last.items() if key not in _OTHER and not key.startswith("lr/") and _number(value)]
    if len(parts) == 1 and last[parts[0]] == last.get("loss"):
        parts = []
    for key in ["loss", *parts] if "loss" in last else parts:
        curve = sparkline([row[key] for row in rows if key in row], _CURVE if key == "loss" else _CURVE // 2)
        colour, name = ("cyan", "loss") if key == "loss" else ("bright_black", f"  {key.removeprefix('nll/')}")
        table.add_row(Text(name, overflow="ellipsis"), f"{last[key]:<9.4g}[{colour}]{curve}[/]")


def _validation(table: Table, status: RunStatus) -> None:
    last, best = status.validation[-1], status.best
    text = f"score {last['score']:.4g}" if "score" in last else f"step {last['step']:,}"
    if best is not None:
        text += f"[dim]   best {best['score']:.4g} at step {best['step']:,}[/]"
    table.add_row("validation", text)


def _speed(table: Table, row: Row) -> None:
    rates = [f"{_escaped(key.removeprefix('lr/'))} {row[key]:.2e}" for key in row if key.startswith("lr/")]
    if rates:
        table.add_row("lr", "   ".join(rates))
    for name, shown in _SHOWN.items():
        found = [form.format(row[key]) for key, form in shown.items() if _number(row.get(key))]
        if found:
            table.add_row(name, "   ".join(found))


_SHOWN = {
    "gradient": {"gradient_norm": "norm {:.3g}"},
    "speed": {
        "tokens_per_second": "{:,.0f} tokens/s",
        "samples_per_second": "{:,.4g} samples/s",
        "seconds_per_step": "{:.3g} s/step",
    },
    "efficiency": {
        "mfu": "MFU {:.1%}",
        "loader_wait_share": "loader wait {:.1%}",
        "communication_share": "communication {:.1%}",
    },
    "memory": {"memory_gb": "{:.1f} GB[dim], peak of one worker[/]"},
}


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _escaped(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))
