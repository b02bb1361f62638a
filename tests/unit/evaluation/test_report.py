from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.evaluation import predictions as tables
from e2llm_core.evaluation.probabilities import probability_rows
from e2llm_core.evaluation.references import controls
from e2llm_core.evaluation.report import eeg_figures, figures, inputs
from e2llm_core.evaluation.report.report import write_report
from e2llm_core.evaluation.report.verdicts import AtNull, control_name, display_name, judge
from e2llm_core.evaluation.summary import (
    SYNTHETIC_NOTICE,
    Provenance,
    ResultRow,
    Summary,
    rows_for,
    subject_scores_for,
)
from e2llm_core.tasks.registry import TASKS
from storage.errors import InputError

PROVENANCE = Provenance(
    split="by subject",
    split_digest="sha256:feedbeef",
    disjoint_on=("subject", "recording"),
    shared=("session", "clip"),
    seed=11,
    adaptation="none",
)
CHANNELS = ("FP1", "FPZ", "FP2", "F7", "FZ", "F8", "T7", "CZ", "T8", "P7", "PZ", "P8", "CB1", "OZ")


class Page(HTMLParser):
    """Collects visible text, addresses of resources, identifiers and open tags."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.identifiers: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        self.identifiers += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data):
        if data.strip() and not {"style", "title"} & set(self.open):
            self.words.append(data.strip())


def write_inputs(folder, trials, names, *, rationale="Alpha is high.", reply="The emotion is sad.", extras=True):
    generator = np.random.default_rng(0)
    test, train = trials[trials["subject"] > "03"], trials[trials["subject"] <= "03"]
    noisy = [truth if generator.random() < 0.5 else generator.choice(names) for truth in test["label"]]
    noisy[0] = None
    counted, *beside = TASKS["IED"].prompts
    sets = [
        ("e2llm", "eeg", "generation", noisy, None),
        *(("e2llm", "eeg", "generation", test["label"].tolist(), None) for _ in beside),
        ("e2llm", "random_eeg", "generation", generator.choice(names, len(test)).tolist(), None),
        ("de_svm", "eeg", "likelihood", noisy[::-1], None),
        ("oracle", "eeg", "likelihood", test["label"].tolist(), None),
        (
            "session_only",
            "eeg",
            "likelihood",
            controls.session_only(train, test),
            controls.expected_session_only(trials),
        ),
        (
            "session_position",
            "eeg",
            "likelihood",
            controls.session_position(train, test),
            controls.expected_session_position(trials),
        ),
    ]
    parts, results, subjects = [], [], []
    for number, (model, condition, readout, answers, chance) in enumerate(sets):
        prompt = None if model != "e2llm" else beside[0] if beside and number == 1 else counted
        keys = {"task": "IED", "model": model, "condition": condition, "readout": readout, "prompt": prompt}
        part = tables.prediction_rows(test, labels=names, answers=answers, **keys)
        parts.append(part)
        results += rows_for(part, **keys, provenance=PROVENANCE, chance=chance, primary="balanced_accuracy")
        subjects += subject_scores_for(part, **keys)
    tables.write_predictions(pd.concat(parts, ignore_index=True), folder / "predictions.parquet")
    Summary(
        notice=SYNTHETIC_NOTICE,
        results=results,
        per_subject=subjects,
        invalid_rate={"IED": 1 / len(test)},
        wall_seconds={"stage1": 75.0},
        environment={"packages": {"torch": "2.13.0"}},
    ).write(folder / "summary.json")
    if extras:
        inputs.write_learning_curves(
            folder, {"stage1": [{"step": step, "loss": 2 - step / 10, "split": "train"} for step in range(5)]}
        )
        maps = generator.normal(size=(2, 2, len(CHANNELS)))
        inputs.Topomaps(maps, CHANNELS, ("alpha", "beta"), ("sad", "happy"), 42).write(folder)
        eeg = generator.normal(0, 20, (len(CHANNELS), 400))
        inputs.write_examples(
            folder,
            [
                inputs.Example(eeg, CHANNELS, 200.0, "sad", answer, rationale, reply)
                for answer in ("sad", "happy", None)
            ],
        )


@pytest.fixture(scope="module")
def report(tmp_path_factory, trials, names):
    folder = tmp_path_factory.mktemp("evaluation")
    write_inputs(folder, trials, names)
    path = write_report(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_seen_wording_stands_beside_the_primary_one(tmp_path, trials, names, held_out):
    write_inputs(tmp_path, trials, names, extras=False)
    words = Page(write_report(tmp_path).read_text(encoding="utf-8")).words
    places = [place for place, word in enumerate(words) if word == "E2-LLM, seen wording"]
    assert words[places[0] + 1].startswith("1.000 ["), "on the card"
    assert words[places[0] - 2] == "chance", "the first thing beside the headline"
    assert len(places) >= 3, "on the card, in the table of subjects, in that of every number"


def test_a_task_without_a_primary_wording_names_no_wording(tmp_path, trials, names, none_held_out):
    write_inputs(tmp_path, trials, names, extras=False)
    words = Page(write_report(tmp_path).read_text(encoding="utf-8")).words
    assert not any("wording" in word for word in words)
    assert words[words.index("prompt") + 1] == "seen"


def test_the_notice_is_the_first_line(report):
    assert Page(report).words[0] == SYNTHETIC_NOTICE


def test_what_the_sides_share_is_printed(report):
    words = Page(report).words
    for name, values in (("sides disjoint on", "subject, recording"), ("test shares with training", "session, clip")):
        assert words[words.index(name) + 1] == values
    assert "labels never trained" not in words, "there are none"


def test_the_page_is_well_formed_and_its_identifiers_are_unique(report):
    page = Page(report)
    assert not page.open
    assert len(page.identifiers) == len(set(page.identifiers))


def test_nothing_is_fetched_from_anywhere(report):
    page = Page(report)
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "http" not in report
    assert "@import" not in report
    assert not re.search(r"url\((?!#)", report)
    assert "<script" not in report


def test_references_inside_pictures_exist(report):
    page = Page(report)
    wanted = {address[1:] for address in page.addresses if address.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", report))
    assert wanted <= set(page.identifiers)


@pytest.mark.parametrize(
    "words",
    [
        "IED: basic emotion prediction",
        "primary endpoint",
        "DE + linear SVM",
        "oracle",
        "at its null: yes",
        "shortcut ceiling",
        "Alpha is high.",
        "The emotion is sad.",
        "invalid",
        "sha256:feedbeef",
        "torch 2.13.0",
        "1 min 15 s",
        "CB1",
        "Student's t over subjects",
        "Confusion matrices",
        "Learning curves",
        "0.238",
    ],
)
def test_the_report_says(report, words):
    assert words in html.unescape(report)


@pytest.mark.parametrize(("temperature", "words"), [(1.7, "temperature 1.70"), (None, "not calibrated")])
def test_probabilities_are_scored_and_drawn_beside_their_temperature(tmp_path, trials, names, temperature, words):
    write_inputs(tmp_path, trials, names, extras=False)
    summary = Summary.read(tmp_path / "summary.json")
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), size=len(trials))
    rows = tables.most_probable(trials, shares, task="IED", model="e2llm", labels=names, seed=0)
    rows["prompt"] = "primary"
    predictions = tables.read_predictions(tmp_path / "predictions.parquet")
    tables.write_predictions(pd.concat([predictions, rows], ignore_index=True), tmp_path / "predictions.parquet")
    scored = probability_rows(rows, PROVENANCE, temperature=temperature)
    summary.model_copy(update={"results": [*summary.results, *scored]}).write(tmp_path / "summary.json")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    text = " ".join(page.words)
    for part in ("Can the probabilities be trusted?", "Brier score", "confidence", "coverage", words):
        assert part in text
    assert ("before, temperature 1" in text) == (temperature is not None)
    assert len(page.identifiers) == len(set(page.identifiers))


def test_checks_of_faithfulness_have_a_table_of_their_own(tmp_path, trials, names):
    write_inputs(tmp_path, trials, names, extras=False)
    summary = Summary.read(tmp_path / "summary.json")
    plain = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Faithfulness" not in plain
    first = summary.results[0].model_dump() | {"primary": False, "n_clips": None, "clip_ci_low": None, "n": 77}
    values = {"claim_accuracy": 0.612, "distinct_claim_sets": 14.0, "flip_likelihood": 0.345}
    rows = [ResultRow(**first | {"metric": name, "value": value}) for name, value in values.items()]
    rows.append(ResultRow(**first | {"metric": "flip_other", "model": "4b", "value": 0.123, "ci_low": None}))
    summary.model_copy(update={"results": summary.results + rows}).write(tmp_path / "summary.json")
    section = write_report(tmp_path).read_text(encoding="utf-8").split("<h2>Faithfulness</h2>")[1].split("<h2>")[0]
    words = Page(section).words
    assert [word for word in words if word in {"0.612", "14", "0.345", "0.123"}] == ["0.612", "14", "0.345", "0.123"]
    assert words.count("n 77") == 4
    assert words.count("–") == 4, "a check that was not made of a model"
    assert "use claims" not in words, "a check that nobody has"


def test_a_control_shows_its_margin_and_results_their_interval_over_clips(report):
    text = " ".join(Page(report).words)
    assert "0.143 ± 0.05" in text
    assert "clip-clustered bootstrap, 80 clips" in text
    assert "over 80 clips [" in text


def test_generated_text_cannot_inject_markup(tmp_path, trials, names):
    write_inputs(tmp_path, trials, names, rationale=None, reply='<script src="//x">alert(1)</script>')
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script" in page


def test_optional_inputs_may_be_absent(tmp_path, trials, names):
    write_inputs(tmp_path, trials, names, extras=False)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for words in ("Learning curves", "on the scalp", "Examples"):
        assert words not in page


def test_the_same_inputs_give_the_same_page(tmp_path, trials, names):
    write_inputs(tmp_path, trials, names)
    assert write_report(tmp_path).read_bytes() == write_report(tmp_path).read_bytes()


def test_a_task_of_another_version_is_refused_by_name(tmp_path, trials, names):
    write_inputs(tmp_path, trials, names, extras=False)
    summary = Summary.read(tmp_path / "summary.json")
    rows = [row.model_copy(update={"task": "XYZ"}) for row in summary.results]
    summary.model_copy(update={"results": rows}).write(tmp_path / "summary.json")
    with pytest.raises(
        InputError, match=r"summary\.json: has results of tasks .* does not know: XYZ\. It knows IED, EPC"
    ):
        write_report(tmp_path)


def test_missing_results_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path)


def result(**changes) -> ResultRow:
    row = {
        "task": "IED",
        "model": "e2llm",
        "condition": "random_eeg",
        "metric": "balanced_accuracy",
        "value": 0.15,
        "ci_low": 0.12,
        "ci_high": 0.18,
        "chance": 0.143,
        "n": 10,
        "n_subjects": 5,
        "readout": "generation",
        "ci_method": "t_subjects",
        "primary": False,
        **PROVENANCE.model_dump(),
    }
    return ResultRow(**{**row, **changes})


@pytest.mark.parametrize(
    ("changes", "at_null"),
    [
        ({}, AtNull.YES),
        ({"value": 0.30, "ci_low": 0.25, "ci_high": 0.35}, AtNull.NO),
        ({"value": 0.05, "ci_low": 0.02, "ci_high": 0.08}, AtNull.NO),
        ({"value": 0.155, "ci_low": 0.155, "ci_high": 0.155}, AtNull.YES),
        ({"value": 0.143, "ci_low": 0.0, "ci_high": 0.3}, AtNull.CANNOT_TELL),
        ({"value": 0.18, "ci_low": 0.16, "ci_high": 0.20}, AtNull.CANNOT_TELL),
        ({"value": 0.2, "ci_low": None, "ci_high": None}, AtNull.CANNOT_TELL),
        ({"value": 1.0, "ci_low": 1.0, "ci_high": 1.0, "chance": 1.0}, AtNull.YES),
        ({"disjoint_on": ("clip",), "clip_ci_low": 0.0, "clip_ci_high": 0.3}, AtNull.CANNOT_TELL),
        ({"disjoint_on": ("subject", "clip"), "clip_ci_low": 0.0, "clip_ci_high": 0.3}, AtNull.YES),
    ],
)
def test_verdicts(changes, at_null):
    verdict = judge(result(**changes))
    assert verdict.at_null is at_null
    assert verdict.words.startswith(f"at its null: {at_null} (")
    assert "± 0.05)" in verdict.words


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_interval_never_passes_where_a_narrower_one_did_not(value, half, more):
    def at_null(width: float) -> AtNull:
        return judge(result(value=value, ci_low=value - width, ci_high=value + width)).at_null

    assert at_null(half) is AtNull.YES or at_null(half + more) is not AtNull.YES
    assert at_null(half) is AtNull.NO or at_null(half + more) is not AtNull.NO


def test_a_control_whose_value_nothing_predicts_gets_no_verdict(tmp_path, trials, names):
    write_inputs(tmp_path, trials, names)
    summary = Summary.read(tmp_path / "summary.json")
    rows = [row.model_copy(update={"chance": None} if row.model == "session_only" else {}) for row in summary.results]
    assert rows != summary.results
    summary.model_copy(update={"results": rows}).write(tmp_path / "summary.json")
    assert "none: nothing to compare it with" in write_report(tmp_path).read_text(encoding="utf-8")


def test_a_control_without_expected_value_is_refused():
    with pytest.raises(ValueError, match="no expected value"):
        judge(result(chance=None))


@pytest.mark.parametrize(
    ("model", "condition", "control", "name"),
    [
        ("e2llm", "eeg", None, "E2-LLM"),
        ("e2llm", "random_eeg", "random_eeg", "E2-LLM, random EEG"),
        ("session_only", "eeg", "session_only", "session only"),
        ("session_only", "session_only", "session_only", "session only"),
        ("e2llm", "session_position", "session_position", "E2-LLM, session + position"),
        ("de_svm", "eeg", None, "DE + linear SVM"),
        ("labram", "eeg", None, "labram"),
    ],
)
def test_names(model, condition, control, name):
    assert control_name(model, condition) == control
    assert display_name(model, condition) == name


def test_scalp_maps_need_channels_with_a_place():
    maps = inputs.Topomaps(np.zeros((1, 1, 2)), ("X1", "X2"), ("alpha",), ("sad",), 1)
    with pytest.raises(ValueError, match="three channels"):
        eeg_figures.topomaps(maps)


def test_scalp_maps_refuse_a_wrong_shape():
    with pytest.raises(ValueError, match="names imply"):
        inputs.Topomaps(np.zeros((2, 1, 3)), ("Fz", "Cz", "Pz"), ("alpha",), ("sad",), 1)


@pytest.mark.parametrize("n_chans", [1, 3, 14])
def test_traces_of_any_montage_and_of_silence(n_chans):
    example = inputs.Example(np.zeros((n_chans, 50)), CHANNELS[:n_chans], 100.0, "sad", "sad", None, "sad")
    assert "µV" in eeg_figures.eeg_trace(example, "trace")


def test_confusion_shows_invalid_answers_only_where_there_are_some():
    clean = np.array([[3, 1, 0], [0, 4, 0]])
    assert "invalid" not in figures.confusion(clean, ["a", "b"], "one")
    clean[0, 2] = 1
    assert "invalid" in figures.confusion(clean, ["a", "b"], "two")
