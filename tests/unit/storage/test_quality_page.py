import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from storage.errors import InputError
from storage.quality.measures import measure
from storage.quality.overview import Overview, look_over
from storage.quality.page import MOST_FINDINGS, text, write_html
from storage.quality.pictures import MOST_ROWS
from storage.signal import SEED_CHANNELS
from storage.store import RecordingInfo, Store

Describe = Callable[..., RecordingInfo]


def add(
    store: Store, describe: Describe, name: str, signal: np.ndarray | None = None, *, measured: bool = True, **options
) -> None:
    """Write a recording of 5 s with its measures; white noise where no signal is given."""
    info = describe(name, **({"lengths": (300, 200)} | options))
    if signal is None:
        seed = sum(map(ord, name))
        signal = np.random.default_rng(seed).normal(0, 20, (len(info.channels), info.n_times))
    quality = measure([signal], info.channels, info.sfreq_hz) if measured else None
    store.write_recording(info.model_copy(update={"quality": quality}), signal)


def noise(seed: int = 0, n_chans: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 20, (n_chans, 500))


def shown(overview: Overview) -> str:
    screen = io.StringIO()
    Console(width=140, file=screen).print(text(overview))
    return screen.getvalue()


def test_what_a_store_holds(store: Store, describe: Describe) -> None:
    add(store, describe, "a", subject="s1")
    add(store, describe, "b", subject="s2", channels=("FP1", "OZ"), lengths=(400,))
    add(store, describe, "c", subject="s2", session="2", sfreq_hz=200.0, lengths=(100, 100, 100))
    overview = look_over(store)
    assert overview.subjects.to_dict("list") == {
        "subject": ["s1", "s2"],
        "sessions": [1, 2],
        "recordings": [1, 2],
        "trials": [2, 4],
        "hours": [5 / 3600, 5.5 / 3600],
    }
    assert overview.labels.to_dict("list") == {"label": ["rest", "task"], "trials": [2, 4], "seconds": [2.5, 8.0]}
    assert overview.num_sessions == 3
    assert overview.hours == pytest.approx(10.5 / 3600)
    samples = 500 * 3 + 400 * 2 + 300 * 3
    files = sum(path.stat().st_size for path in Path(str(store.root)).rglob("*") if path.is_file())
    assert overview.size_bytes == files
    assert overview.bytes_per_sample == pytest.approx(files / samples)
    page = shown(overview)
    for words in (
        "made up",
        "two (rest, task)",
        store.digest,
        "3 (FP1, FP2, OZ) in 2; 2 (FP1, OZ) in 1",
        "100 Hz in 2; 200 Hz in 1",
        "3 recordings measured, 0 with a problem.",
    ):
        assert words in page


def test_trials_without_label_have_a_row(store: Store, describe: Describe) -> None:
    info = describe("a", lengths=(300, 200))
    trials = (info.trials[0], info.trials[1].model_copy(update={"label": None}))
    store.write_recording(info.model_copy(update={"trials": trials}), noise())
    assert look_over(store).labels.to_dict("list") == {
        "label": ["rest", "task", "(none)"],
        "trials": [0, 1, 1],
        "seconds": [0.0, 3.0, 2.0],
    }


def test_the_worst_recordings_are_named_with_their_problems(store: Store, describe: Describe) -> None:
    for name in "abcde":
        add(store, describe, f"good-{name}")
    flat, clipped, loud, line, odd = (noise(seed) for seed in range(5))
    flat[:2] = 0
    clipped[1] = np.clip(clipped[1] * 3, -20, 20)
    time = np.arange(1280) / 256
    line = np.random.default_rng(0).normal(0, 20, (3, 1280)) + 40 * np.sin(2 * np.pi * 60 * time)
    odd[2] *= 8
    add(store, describe, "flat", flat)
    add(store, describe, "clipped", clipped)
    add(store, describe, "loud", loud * 4)
    add(store, describe, "line", line, sfreq_hz=256.0, lengths=(1280,))
    add(store, describe, "odd", odd)
    overview = look_over(store)
    found = {finding.recording_id: finding.problems for finding in overview.findings}
    assert found["flat"] == ("flat: FP1, FP2",)
    assert found["clipped"] == ("saturated: FP2",)
    assert found["odd"] == ("unlike the other channels: OZ",)
    assert re.fullmatch(r"amplitude: [78]\d(\.\d)? µV where (19|2\d)(\.\d)? µV are typical", found["loud"][0])
    assert re.fullmatch(r"line noise of 60 Hz, up to 2[789](\.\d)? µV: every channel", found["line"][0])
    assert [finding.recording_id for finding in overview.findings] == ["loud", "flat", "line", "clipped", "odd"]
    assert [info.recording_id for info in overview.worst(2)] == ["flat", "loud"]
    page = shown(overview)
    assert "10 recordings measured, 5 with a problem." in page
    kinds = "line noise 1; channels unlike the others 1; unusual amplitude 1"
    assert f"Recordings with flat channels 1; saturated channels 1; {kinds}." in page
    assert page.index("loud") < page.index("flat: FP1, FP2") < page.index("saturated: FP2")


@pytest.mark.parametrize(("n_trials", "flagged"), [(2, False), (4, False), (1, True)])
def test_gaps_count_when_trials_do_not_explain_them(
    n_trials: int, flagged: bool, store: Store, describe: Describe
) -> None:
    info = describe("a", lengths=[500 // n_trials] * n_trials)
    signal = noise()[:, : info.n_times]
    pieces = [signal[:, :250], signal[:, 250:]]
    quality = measure(pieces, info.channels, info.sfreq_hz)
    store.write_recording(info.model_copy(update={"quality": quality}), signal)
    overview = look_over(store)
    assert overview.gaps == 1
    assert [finding.problems for finding in overview.findings] == ([("gaps: 1",)] if flagged else [])


def test_a_store_that_was_not_measured_is_shown_as_such(store: Store, describe: Describe, tmp_path: Path) -> None:
    add(store, describe, "a", measured=False)
    overview = look_over(store)
    assert overview.findings == ()
    assert "No recording of this store was measured; ingest again" in shown(overview)
    write_html(overview, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "No recording of this store was measured" in page
    assert page.count("<img") == 2
    add(store, describe, "b")
    assert "1 of 2 recordings measured, 0 with a problem." in shown(look_over(store))


def test_the_page_needs_nothing_from_outside(store: Store, describe: Describe, tmp_path: Path) -> None:
    short = SEED_CHANNELS[:12]
    add(store, describe, "a", channels=short)
    add(store, describe, "wide", noise(1, 13), channels=(*short, "CB1"))
    write_html(look_over(store), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "url(" not in page
    pictures = re.findall(r'<img src="data:image/(svg\+xml|png);base64,([^"]+)" width="(\d+)"', page)
    assert [kind for kind, _, _ in pictures] == ["svg+xml", "svg+xml", "png", "png", "png", "png"]
    assert all(base64.b64decode(content)[:5] in (b"<?xml", b"\x89PNG\r") for _, content, _ in pictures)
    assert all(100 < int(width) <= 960 for *_, width in pictures)
    for path in tmp_path.iterdir():
        assert not path.name.endswith(".tmp")


def test_names_are_escaped(tmp_path: Path, describe: Describe, store: Store) -> None:
    add(store, describe, "a", subject="<script>x</script>", signal=np.zeros((3, 500)))
    write_html(look_over(store), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;script&gt;x" in page
    assert "<script" not in page


def test_text_and_page_stay_small_with_many_recordings(store: Store, describe: Describe, tmp_path: Path) -> None:
    sizes = []
    for start, stop in ((0, 40), (40, 80)):
        for number in range(start, stop):
            signal = noise(number)
            signal[number % 3] = 0
            add(store, describe, f"r{number:03d}", signal, subject=f"s{number:03d}")
        overview = look_over(store)
        page = shown(overview)
        assert len(re.findall(r"│ r\d{3}", page)) == MOST_FINDINGS
        assert f"... {stop - MOST_FINDINGS} more; these are the worst." in page
        assert len(overview.worst(MOST_ROWS)) == MOST_ROWS
        write_html(overview, tmp_path / "page.html")
        sizes.append((tmp_path / "page.html").stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]
    assert f"The {MOST_ROWS} worst of 80 recordings." in (tmp_path / "page.html").read_text()


def test_a_page_that_cannot_be_written(store: Store, describe: Describe, tmp_path: Path) -> None:
    add(store, describe, "a")
    with pytest.raises(InputError, match=r"page\.html: cannot be written \(No such file or directory\)\. Name another"):
        write_html(look_over(store), tmp_path / "nowhere" / "page.html")


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(InputError, match="holds no recording"):
        look_over(store)
