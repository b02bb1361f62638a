"""What the demo shows at its end."""

import io

import pytest
from rich.console import Console

from jobs.demo import _results_table

ROW = {
    "task": "EPC",
    "model": "e2llm",
    "condition": "random_eeg",
    "readout": "likelihood",
    "prompt": "primary",
    "metric": "balanced_accuracy",
}
NUMBERS = {"value": 0.49012, "ci_low": 0.4431, "ci_high": 0.53689, "chance": 0.5}


@pytest.mark.parametrize("width", [72, 80, 200])
@pytest.mark.parametrize("change", [{}, {"model": "session_position", "condition": "session_position"}])
def test_no_number_is_cut_off_in_a_narrow_log(width, change):
    shown = Console(width=width, file=io.StringIO())
    shown.print(_results_table([{**ROW, **NUMBERS, **change}]))
    (line,) = [line for line in shown.file.getvalue().splitlines() if "EPC" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][2:] == ["0.490", "0.443 to 0.537", "0.500"]


def test_a_wording_is_named_where_another_one_counts(held_out):
    rows = [{**ROW, **NUMBERS, "task": "IED", "condition": "eeg", "prompt": prompt} for prompt in ("primary", "seen")]
    rows.append({**ROW, **NUMBERS})
    assert list(_results_table(rows).columns[1].cells) == [
        "e2llm, likelihood",
        "e2llm, likelihood, seen wording",
        "e2llm, random_eeg, likelihood",
    ]


def test_metrics_for_experts_stay_in_the_report():
    table = _results_table(
        [{**ROW, **NUMBERS, "metric": "cohen_kappa"}, {**ROW, **NUMBERS, "metric": "claim_accuracy"}]
    )
    assert table.row_count == 1
