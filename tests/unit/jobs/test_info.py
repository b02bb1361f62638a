from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import cli
from storage.quality.measures import measure
from storage.store import Store


def info(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, ["info", *map(str, arguments)], env={"COLUMNS": "120"})
    return result.exit_code, result.stdout, result.stderr


def test_info_shows_a_store_in_the_terminal(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    store = make_store(tmp_path / "st")
    code, out, _ = info(tmp_path / "st")
    assert code == 0
    for words in ("made up", store.digest, "No recording of this store was measured"):
        assert words in out
    rest = next(line for line in out.splitlines() if "rest" in line and "│" in line)
    assert rest.split("│")[1:4] == [" rest  ", " 3      ", " 0.2     "]


def test_info_writes_a_page(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    import numpy as np

    store = make_store(tmp_path / "st")
    described = store.recordings["s2"]
    signal = np.zeros((len(described.channels), described.n_times))
    quality = measure([signal], described.channels, described.sfreq_hz)
    store.write_recording(described.model_copy(update={"quality": quality}), signal)
    code, out, _ = info(tmp_path / "st", "--html", tmp_path / "page.html")
    assert (code, out.splitlines()[-1]) == (0, str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "flat: FP1, FP2, OZ" in page
    assert "flat: FP1, FP2, OZ" in out
    assert "1 of 3 recordings measured, 1 with a problem." in page


@pytest.mark.parametrize("html", [[], ["--html", "nowhere/page.html"]])
def test_info_refuses_in_one_line(tmp_path: Path, html: list[str], make_store: Callable[..., Store]) -> None:
    if html:
        make_store(tmp_path / "st")
    code, _, err = info(tmp_path / "st", *html)
    (line,) = err.splitlines()
    assert (code, line[:7]) == (2, "error: ")
    assert ("nowhere/page.html: cannot be written" in line) == bool(html)
