"""The page of a store: what it holds and what is wrong with it, as text and as one HTML file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from storage.account import Account
from storage.errors import InputError
from storage.pages import templates
from storage.quality.overview import Finding, Overview

if TYPE_CHECKING:
    from rich.console import Group

MOST_FINDINGS = 20
_MOST_KINDS = 4


def facts(overview: Overview) -> dict[str, str]:
    """Facts about a store in words, in the order of the page."""
    size = overview.size_bytes
    return {
        "data set": overview.dataset,
        "labels": overview.label_set,
        "digest": overview.digest,
        "recordings": f"{len(overview.recordings):,}",
        "subjects": f"{len(overview.subjects):,}",
        "sessions": f"{overview.num_sessions:,}",
        "length": _duration(overview.hours),
        "channels": _counted(Counter({_channel_words(key): n for key, n in overview.montages.items()})),
        "sampling rate": _counted(Counter({f"{rate:g} Hz": n for rate, n in overview.rates_hz.items()})),
        "stored as": _counted(overview.formats),
        "size": f"{_bytes(size)}, {overview.bytes_per_sample:.2f} bytes per sample and channel",
        "interruptions": f"{overview.gaps:,}" if overview.qualities else "not measured",
    }


def quality_words(overview: Overview) -> str:
    """One sentence on how many recordings were measured and how many have a problem."""
    measured, every = len(overview.qualities), len(overview.recordings)
    if not measured:
        return "No recording of this store was measured; ingest again to have its quality measured."
    part = "" if measured == every else f" of {every:,}"
    found = len(overview.findings)
    return f"{measured:,}{part} recordings measured, {found:,} with a problem."


def kinds_of_problems(overview: Overview) -> dict[str, int]:
    """How many recordings have which kind of problem, the most frequent first."""
    qualities = overview.qualities
    kinds = {
        "channels marked bad by the file": sum(bool(quality.marked_bad) for quality in qualities.values()),
        "flat channels": sum(bool(quality.flat) for quality in qualities.values()),
        "saturated channels": sum(bool(quality.saturated) for quality in qualities.values()),
        "line noise": sum(bool(quality.noisy) for quality in qualities.values()),
        "channels unlike the others": sum(bool(quality.outliers) for quality in qualities.values()),
        "unusual amplitude": _starting(overview.findings, "amplitude"),
        "more gaps than trials explain": _starting(overview.findings, "gaps"),
    }
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def account_of(overview: Overview) -> Account:
    """How ingest made the stored recordings differ from their files."""
    account = Account()
    for info in overview.recordings:
        account.add(info)
    return account


def text(overview: Overview) -> Group:
    """Give the page as text for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Table(title=overview.place, show_header=False, box=None, title_justify="left", title_style="bold")
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for name, value in facts(overview).items():
        head.add_row(name, value)
    labels = Table("label", "trials", "minutes", title="Labels", title_justify="left")
    for row in overview.labels.itertuples(index=False):
        labels.add_row(str(row.label), f"{row.trials:,}", f"{row.seconds / 60:.1f}")
    parts: list[Table | Text] = [head, Text(), labels, Text(), Text(quality_words(overview), style="bold")]
    if overview.findings:
        kinds = [f"{name} {count:,}" for name, count in kinds_of_problems(overview).items() if count]
        parts.append(Text("Recordings with " + "; ".join(kinds) + "."))
        worst = Table("recording", "subject", "session", "problems", title_justify="left")
        for finding in overview.findings[:MOST_FINDINGS]:
            worst.add_row(finding.recording_id, finding.subject, finding.session, "\n".join(finding.problems))
        parts.append(worst)
    if (more := len(overview.findings) - MOST_FINDINGS) > 0:
        parts.append(Text(f"... {more:,} more; these are the worst."))
    account = account_of(overview)
    if account.found:
        parts += [Text(), Text("Changed or left out by ingest:", style="bold")]
        parts += [Text(words) for words in account.lines(MOST_FINDINGS)]
    parts += [Text(), Text(account.total())]
    return Group(*parts)


def write_html(overview: Overview, path: Path) -> None:
    """Write the page as one HTML file with its pictures inside; its size does not grow with the store.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    from storage.quality import pictures

    environment = templates(Path(__file__).parent)
    measured = bool(overview.qualities)
    page = environment.get_template("page.html.jinja").render(
        overview=overview,
        facts=facts(overview),
        quality_words=quality_words(overview),
        kinds=kinds_of_problems(overview),
        findings=overview.findings[:MOST_FINDINGS],
        more=max(0, len(overview.findings) - MOST_FINDINGS),
        labels=pictures.label_balance(overview),
        times=pictures.subject_time(overview),
        scalp=pictures.scalp_maps(overview) if measured else None,
        heat_maps=pictures.heat_maps(overview) if measured else [],
        account=account_of(overview),
        num_shown=min(pictures.MOST_ROWS, len(overview.qualities)),
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise InputError(str(path), f"cannot be written ({error.strerror})", "Name another file.") from error


def _starting(findings: tuple[Finding, ...], word: str) -> int:
    return sum(any(problem.startswith(word) for problem in finding.problems) for finding in findings)


def _counted(found: Counter[str]) -> str:
    """Return the only value, or the most frequent ones with their counts."""
    if len(found) == 1:
        return next(iter(found))
    words = [f"{name} in {count:,}" for name, count in found.most_common(_MOST_KINDS)]
    rest = len(found) - _MOST_KINDS
    return "; ".join(words) + (f"; {rest} more" if rest > 0 else "")


def _channel_words(channels: tuple[str, ...]) -> str:
    named = ", ".join(channels) if len(channels) <= 8 else f"{', '.join(channels[:3])} ... {channels[-1]}"
    return f"{len(channels)} ({named})"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
