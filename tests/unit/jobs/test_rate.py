"""Raters see two systems in random order and nothing else; their answers are unblinded with the key alone."""

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from e2llm_core.evaluation.predictions import prediction_rows, read_predictions, write_predictions
from e2llm_core.evaluation.rating.results import rating_results, unblinded
from e2llm_core.evaluation.rating.study import KeyEntry, RaterAnswers, StudyKey
from e2llm_core.stages.config import DataConfig
from e2llm_core.stages.data import EEGData
from jobs.cli import app

LABELS = ("rest", "task") * 4
DATA = {"store": "store.zarr", "split": {"train": ["s1"], "validation": [], "test": ["s2", "s3"]}}
WORDS = "Alpha power over {place} is <b>above</b> the session average."


pytestmark = pytest.mark.usefixtures("none_held_out")


@pytest.fixture
def evaluations(root: Path, make_store, make_model) -> None:
    """Two evaluations of one store, whose models name the region by their own names."""
    make_store(root / "store.zarr", labels=LABELS)
    make_model(root / "model")
    (root / "model" / "config.json").write_text(json.dumps({"text_config": {"model_type": "qwen3"}}))
    data = EEGData.open(DataConfig.model_validate(DATA | {"store": str(root / "store.zarr")}))
    items = data.windows(data.split.test).table.reset_index(drop=True)
    segments = [[row] for row in items.to_dict("records")]
    items = items.assign(item_id=[f"{row.recording_id}-{row.start}" for row in items.itertuples()], segments=segments)
    for name in ("ours", "theirs"):
        texts = [f"<think>\n{WORDS.format(place=name)} {item}\n</think>\n\nrest" for item in items["item_id"]]
        rows = prediction_rows(
            items,
            task="IED",
            model="e2llm",
            condition="eeg",
            labels=("rest", "task"),
            answers=["rest"] * len(items),
            readout="generation",
            prompt="seen",
            texts=texts,
        )
        write_predictions(rows, root / name / "predictions.parquet")
        spec = {"kind": "evaluate", "run": name, "model": "model", "data": DATA}
        (root / name / "spec.yaml").write_text(yaml.safe_dump(spec))


@pytest.fixture
def unlike(root: Path, evaluations: None, make_store) -> None:
    """Evaluations that cannot stand beside `ours`."""
    make_store(root / "other.zarr", labels=LABELS)
    shutil.rmtree(root / "other.zarr" / "recordings" / "s1")
    data = {"elsewhere": DATA | {"store": "other.zarr"}, "short": DATA | {"windows": {"window_seconds": 2.0}}}
    more = {"old": {"num_items": 600}}
    for name in ("elsewhere", "short", "parrot", "old", "unknown"):
        (root / name).mkdir()
        shutil.copy(root / "ours" / "predictions.parquet", root / name)
        spec = {"kind": "evaluate", "run": name, "model": "model", "data": data.get(name, DATA), **more.get(name, {})}
        (root / name / "spec.yaml").write_text(yaml.safe_dump(spec))
    rows = read_predictions(root / "ours" / "predictions.parquet").assign(task="XYZ")
    write_predictions(rows, root / "unknown" / "predictions.parquet")


def rate(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["rate", *words])
    return result.exit_code, " ".join(result.output.split())


class Page(HTMLParser):
    """What a page says, asks and fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.choices: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.elements: Counter[str] = Counter()
        self.said: list[str] = []
        self.policy = ""
        self.script = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag
        self.elements[tag] += 1
        if given.get("type") == "radio":
            self.choices[str(given["name"])] += 1
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(given["content"])
        self.addresses += [str(given[name]) for name in ("src", "href", "xlink:href", "action") if name in given]

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.script += data
        elif self._inside == "blockquote":
            self.said.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


@pytest.mark.usefixtures("evaluations")
def test_the_page_is_whole_and_blind(root: Path) -> None:
    status, output = rate("ours", "--other", "theirs", "--output", "page.html", "--examples", "4")
    assert (status, output) == (0, "page.html: 4 examples, for raters page.key.json: keep it from them")
    text, key = (root / "page.html").read_text(), StudyKey.read(root / "page.key.json")
    page = Page(text)
    names = [f"example-0{number}" for number in range(1, 5)]
    questions = ["preference", *(f"{scale}.{place}" for scale in ("faithfulness", "plausibility") for place in (1, 2))]
    assert set(page.choices) == {f"{name}.{question}" for name in names for question in questions}
    assert {page.choices[f"{name}.{question}"] for name in names for question in questions[1:]} == {5}
    assert all(not address or address.startswith("#") for address in page.addresses)
    assert page.elements["svg"] == 4
    assert page.elements["link"] == page.elements["img"] == page.elements["iframe"] == 0
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none'; ")
    assert key.systems == ("ours", "theirs")
    assert list(key.examples) == names
    assert Counter(entry.truth for entry in key.examples.values()) == {"rest": 2, "task": 2}
    assert Counter(entry.order for entry in key.examples.values()) == {(0, 1): 2, (1, 0): 2}
    wanted = [
        f"Alpha power over {key.systems[place]} is <b>above</b> the session average. {entry.item_id}"
        for entry in key.examples.values()
        for place in entry.order
    ]
    assert page.said == wanted
    shown = re.sub(r"<blockquote>.*?</blockquote>", "", text, flags=re.DOTALL)
    assert not [word for word in ("ours", "theirs", "s2", "s3", "truth") if re.search(rf"\b{word}\b", shown)]


@pytest.mark.usefixtures("evaluations")
def test_without_another_system_the_words_are_of_another_window(root: Path) -> None:
    assert rate("ours", "--output", "page.html", "--examples", "4")[0] == 0
    key = StudyKey.read(root / "page.key.json")
    assert key.systems == ("ours", "another window")
    said = Page((root / "page.html").read_text()).said
    for number, entry in enumerate(key.examples.values()):
        about = [words.rsplit(" ", 1)[1] for words in said[2 * number : 2 * number + 2]]
        assert about[entry.order.index(0)] == entry.item_id
        foil = about[entry.order.index(1)]
        assert foil != entry.item_id
        assert foil.split("-")[0] == entry.item_id.split("-")[0] == entry.subject


@pytest.mark.usefixtures("evaluations")
def test_the_seed_makes_the_page(root: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert rate("ours", "--other", "theirs", "--output", f"{name}.html", "--seed", seed, "--examples", "2")[0] == 0
    a, b, c = ((root / f"{name}.html").read_text() for name in "abc")
    assert a == b
    assert StudyKey.read(root / "a.key.json").study != StudyKey.read(root / "c.key.json").study
    assert a != c


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone",), "gone: holds no answers of an evaluation. Name the run"),
        (("ours", "theirs"), "theirs: a page shows one evaluation. Name the second one in --other"),
        (("ours", "--output", "model/config.json"), "model/config.json: already exists; raters may be using it."),
        (("ours", "--other", "./ours"), "--other ./ours: is the same evaluation as the first. Name another"),
        (
            ("ours", "--other", "short"),
            "--other short: shows windows of 2 s, but ours shows windows of 4 s. Name another",
        ),
        (("ours", "--other", "elsewhere"), "--other elsewhere: uses another store: "),
        (("ours", "--other", "parrot"), "parrot: says the same as the first system about every window."),
        (
            ("unknown",),
            "unknown: has answers to tasks that this version does not know: XYZ. It knows IED, EPC, ESS, EIM, ESR, ",
        ),
        (("old",), "old: its spec.yaml is from another version (num_items: Extra inputs are not permitted). Evaluate"),
        (("--read", "a.json"), "--key: is missing. Name the .key.json file"),
        (("--read", "a.json", "--key", "gone.json"), "gone.json: cannot be read (No such file or directory)."),
    ],
)
@pytest.mark.usefixtures("evaluations", "unlike")
def test_what_is_refused(words: tuple[str, ...], said: str) -> None:
    status, output = rate(*words)
    assert status == 2
    assert said in output


KEY = StudyKey(
    study="study",
    seed=0,
    systems=("A", "B"),
    examples={
        name: KeyEntry(item_id=name, subject="s1", truth="rest", order=order)
        for name, order in {"e1": (0, 1), "e2": (1, 0), "e3": (0, 1)}.items()
    },
)


def answers(rater: str, *given: tuple[str, int, tuple[int, int], tuple[int, int]]) -> dict:
    rows = [dict(zip(("example", "preference", "faithfulness", "plausibility"), one, strict=True)) for one in given]
    return {"study": "study", "rater": rater, "answers": rows}


R1 = answers("r1", ("e1", 1, (5, 3), (4, 4)), ("e2", 2, (2, 4), (1, 5)), ("e3", 2, (3, 3), (2, 3)))
R2 = answers("r2", ("e1", 1, (4, 3), (4, 3)), ("e2", 1, (2, 3), (2, 4)))


def test_answers_are_unblinded_by_hand() -> None:
    """In e2 the page shows B first: r1's second place is A there."""
    table = unblinded(KEY, [RaterAnswers.model_validate(each) for each in (R1, R2)])
    expected = {
        ("r1", "e1"): (1, 0, 5, 3, 4, 4),
        ("r1", "e2"): (1, 0, 4, 2, 5, 1),
        ("r1", "e3"): (0, 1, 3, 3, 2, 3),
        ("r2", "e1"): (1, 0, 4, 3, 4, 3),
        ("r2", "e2"): (0, 1, 3, 2, 4, 2),
    }
    for (rater, example), numbers in expected.items():
        rows = table[(table["rater"] == rater) & (table["example"] == example)]
        assert tuple(rows[["first", "second"]].to_numpy().ravel()) == numbers


def test_results_by_hand() -> None:
    """Preference for A by example: 1, 1/2, 0; by rater: 2/3, 1/2. The t quantiles are 4.303 and 12.706."""
    results = rating_results(KEY, [RaterAnswers.model_validate(each) for each in (R1, R2)])
    preference, faithfulness, plausibility = results.differences
    assert preference.value == pytest.approx(0.5)
    assert (preference.over_examples.low, preference.over_examples.high) == (0, 1)
    assert preference.over_raters.method == "t_subjects"
    assert faithfulness.value == pytest.approx(((2 + 1) / 2 + (2 + 1) / 2 + 0) / 3)
    half = 4.3027 * pd.Series([1.5, 1.5, 0.0]).std() / 3**0.5
    assert faithfulness.over_examples.high == pytest.approx(1 + half, abs=1e-3)
    assert results.means["plausibility"] == pytest.approx(((4 + 4.5 + 2) / 3, (3.5 + 1.5 + 3) / 3))
    assert plausibility.value == pytest.approx(results.means["plausibility"][0] - results.means["plausibility"][1])
    agreement = {each.question: each for each in results.agreement}
    assert (agreement["preference"].units, agreement["faithfulness"].units) == (2, 4)
    assert agreement["preference"].kappa == pytest.approx(0)  # one of two agreed, as by chance


@pytest.fixture
def study(root: Path) -> Path:
    KEY.write(root / "page.key.json")
    for given in (R1, R2):
        (root / f"{given['rater']}.json").write_text(json.dumps(given))
    return root


@pytest.mark.usefixtures("study")
def test_results_are_shown() -> None:
    status, output = rate("--read", "r1.json", "r2.json", "--key", "page.key.json")
    assert status == 0
    assert output.startswith("2 raters, 3 examples; A: A; B: B")
    assert "│ preference │ 0.500 │ 0.500 │" in output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study": "other"}, "answers the page other, but the key is for study"),
        ({"rater": ""}, "is not a rater's answers (rater: "),
        ({"rater": "r2"}, "raters: r2 answers twice"),
        ({"answers": [R1["answers"][0] | {"example": "e9"}]}, "answers e9, which the page does not show"),
        ({"answers": [R1["answers"][0] | {"preference": 3}]}, "is not a rater's answers (answers.0.preference: "),
        ({"answers": [R1["answers"][0] | {"faithfulness": [0, 6]}]}, "is not a rater's answers (answers.0.faithful"),
        ({"answers": [R1["answers"][0]] * 2}, "e1 is answered twice"),
        ({"more": 1}, "is not a rater's answers (more: "),
    ],
)
def test_files_that_are_no_answers(study: Path, change: dict, said: str) -> None:
    (study / "r1.json").write_text(json.dumps(R1 | change))
    status, output = rate("--read", "r1.json", "r2.json", "--key", "page.key.json")
    assert status == 2
    assert said in output
