"""The raters' page in a browser: headless Chromium fills it in, saves, and what it saves is what was chosen."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from e2llm_core.evaluation.rating.page import rating_page
from e2llm_core.evaluation.rating.study import Pair, RaterAnswers, Response, StudyKey, blinded

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

FILL_IN = """
const told = { states: [] };
const tell = () => told.states.push([save.disabled, progress.textContent]);
URL.createObjectURL = (blob) => { told.blob = blob; return "blob:none"; };
HTMLAnchorElement.prototype.click = function () { told.name = this.download; };
const choose = (name, value) => document.querySelector(`input[name="${name}"][value="${value}"]`).click();
tell();
for (const example of examples) {
  const number = Number(example.slice(-2));
  choose(`${example}.preference`, 1 + (number % 2));
  scales.forEach((scale, k) => [1, 2].forEach((place) => choose(`${example}.${scale}.${place}`, 1 + (number + k + place) % 5)));
}
tell();
form.elements.rater.value = "r/1 ";
form.elements.rater.dispatchEvent(new Event("input", { bubbles: true }));
tell();
const kept = () => localStorage.getItem(`rating ${study}`) !== null;
told.kept = [kept()];
document.getElementById("save").click();
told.kept.push(kept());
told.blob.text().then((text) => {
  told.answers = JSON.parse(text);
  delete told.blob;
  fetch("https://example.org").catch(() => { told.fetched = false; }).finally(() => {
    const result = document.createElement("pre");
    result.id = "told";
    result.textContent = btoa(JSON.stringify(told));
    document.body.append(result);
  });
});
"""  # noqa: E501 - a script as it is run


@pytest.fixture
def study() -> tuple[str, StudyKey]:
    """The page of four windows, and its key."""
    responses = tuple(Response(rationale=f"<i>words</i> of {name}", answer="sad") for name in "AB")
    pairs = [
        Pair(item_id=str(n), subject="s1", truth="sad", picture="<svg></svg>", responses=responses) for n in range(4)
    ]
    examples, key = blinded(pairs, ("A", "B"), seed=3)
    return rating_page(examples, key), key


def in_browser(page: str, script: str, folder: Path, *, allowed: bool) -> str:
    """The page's elements after a script was put into it, of which its policy is told or not."""
    if allowed:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        page = page.replace("script-src ", f"script-src 'sha256-{digest}' ")
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_what_is_chosen_is_what_is_saved(study: tuple[str, StudyKey], tmp_path: Path) -> None:
    page, key = study
    found = re.search(r'<pre id="told">([^<]*)</pre>', in_browser(page, FILL_IN, tmp_path, allowed=True))
    assert found is not None
    told = json.loads(base64.b64decode(found[1]))
    assert told["states"] == [
        [True, "0 of 4 examples rated; your code is missing"],
        [True, "4 of 4 examples rated; your code is missing"],
        [False, "4 of 4 examples rated"],
    ]
    assert told["name"] == f"{key.study}-r-1.json"
    assert told["kept"] == [True, False], "until it is saved"
    assert '<form autocomplete="off"' in page
    assert told["fetched"] is False
    (tmp_path / "r1.json").write_text(json.dumps(told["answers"]))
    given = RaterAnswers.read(tmp_path / "r1.json", key)
    assert given.rater == "r/1"
    for number, answer in enumerate(given.answers, start=1):
        assert answer.example == f"example-{number:02d}"
        assert answer.preference == 1 + number % 2
        assert answer.faithfulness == tuple(1 + (number + place) % 5 for place in (1, 2))
        assert answer.plausibility == tuple(1 + (number + 1 + place) % 5 for place in (1, 2))


@pytest.mark.parametrize(("allowed", "title"), [(True, "was run"), (False, "Rating of EEG descriptions")])
def test_the_policy_stops_scripts_that_it_does_not_name(
    study: tuple[str, StudyKey], tmp_path: Path, allowed: bool, title: str
) -> None:
    elements = in_browser(study[0], "document.title = 'was run'", tmp_path, allowed=allowed)
    assert f"<title>{title}</title>" in elements
    assert "0 of 4 examples rated" in elements
    assert "&lt;i&gt;words&lt;/i&gt; of A" in elements
