"""Scenarios: what text may teach and what is tested, and the zero-shot task that asks about them."""

import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS, corpus_dialogue
from e2llm_core.tasks.dialogue import EEGForm
from e2llm_core.tasks.esr import OPTIONS, ScenarioReasoning, UntaughtFamilies
from e2llm_core.tasks.items import TEXT_ALONE
from e2llm_core.tasks.letters import LETTERS, unlettered
from e2llm_core.tasks.registry import TASKS, trained_tasks
from e2llm_core.tasks.scenarios.scenario import held_out, plain, read_scenarios, taught, taught_families, untaught
from storage.errors import InputError
from storage.labels import SEED, SEED_IV, SEED_VII
from tests.unit.language.test_sets import Shown

LABELS = SEED_VII.names
TAUGHT, UNTAUGHT = ScenarioReasoning(), UntaughtFamilies()
BOTH = pytest.mark.parametrize("task", [TAUGHT, UNTAUGHT], ids=lambda task: task.name)


def test_what_is_tested_is_in_no_dialogue_of_the_corpus():
    drawn = [corpus_dialogue(n, None, 0) for n in range(6000)]
    drawn += [corpus_dialogue(n, None, 0, ("scenarios",)) for n in range(1000)]
    texts = [f"{one.user} {one.thinking} {one.answer}" for one in drawn]
    said = plain("\n".join(texts))
    assert sum(scenario.plain in said for scenario in taught()) > 0.95 * len(taught())
    assert not [scenario.text for scenario in held_out() if scenario.plain in said]


def test_every_state_is_taught_and_tested_alike():
    for scenarios in (taught(), TAUGHT.scenarios, UNTAUGHT.scenarios):
        counts = Counter(scenario.state for scenario in scenarios)
        assert set(counts) == set(LABELS)
        assert len(set(counts.values())) == 1


def test_taught_families_are_tested_in_other_sentences_and_the_others_in_none():
    assert {(one.state, one.family) for one in TAUGHT.scenarios} == taught_families()
    assert not {(one.state, one.family) for one in UNTAUGHT.scenarios} & taught_families()
    assert len(TAUGHT.scenarios) + len(UNTAUGHT.scenarios) == len(held_out())


def test_taught_families_share_words_with_what_is_taught_and_the_others_do_not():
    """The shares that docs/evaluation.md gives: of a naive Bayes over words, fitted to what text may teach."""
    bag = CountVectorizer(token_pattern=r"\w+")
    reader = MultinomialNB().fit(bag.fit_transform([one.plain for one in taught()]), [one.state for one in taught()])
    right = {}
    for task in (TAUGHT, UNTAUGHT):
        told = bag.transform([one.plain for one in task.scenarios])
        right[task.name] = reader.score(told, [one.state for one in task.scenarios])
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert f"names the state of {right[TAUGHT.name]:.2f} of the held-out ones" in page
    assert f"(the same naive Bayes: {right[UNTAUGHT.name]:.2f}; chance 0.14)" in page


def test_a_scenario_that_training_knows_is_refused_by_name(tmp_path: Path):
    known = taught()[0].text
    path = tmp_path / "mine.toml"
    path.write_text(f'[happy]\nown = ["finds a kitten", "{known.upper()}"]\n')
    with pytest.raises(InputError, match=rf"scenarios mine: training knows: {known.upper()}"):
        untaught(read_scenarios(path), "mine")


@pytest.mark.parametrize(
    "content",
    ["[happy]\nown = 3", "happy = ['a']", "[happy]\nown = ['a; b']", "[happy]\nown = ['']", "not toml", b"\xff"],
)
def test_a_file_that_holds_no_scenarios_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"mine.toml: is no file of scenarios: .* Write a table for each state"):
        read_scenarios(path)


def test_a_text_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[happy]\nown = ["finds a kitten"]\n[sad]\nown = ["Finds a  kitten"]\n')
    with pytest.raises(InputError, match=r"holds twice: Finds a\s+kitten"):
        read_scenarios(path)


@BOTH
def test_no_question_about_scenarios_is_trained_with_eeg(task):
    assert not isinstance(task, EEGForm)
    assert task.name not in trained_tasks()
    assert TASKS[task.name] == task or type(TASKS[task.name]) is type(task)


@BOTH
def test_an_item_offers_four_states_of_which_one_is_the_segments(task):
    source = Shown()
    items = task.items(source, 280, 0)
    state_of = {one.text: one.state for one in task.scenarios}
    for windows, truth, listed in zip(items.windows, items.table["label"], items.listed, strict=True):
        states = [state_of[text] for text in unlettered(listed)]
        assert len(set(states)) == len(OPTIONS)
        assert states[LETTERS.index(truth)] == source.label(int(windows[0]))
    assert Counter(items.table["label"]) == dict.fromkeys(OPTIONS, 70)
    assert Counter(source.label(int(window)) for window in items.windows[:, 0]) == dict.fromkeys(LABELS, 40)
    assert len(set(items.table["item_id"])) == 280
    assert set(items.table["subject"]) == {"s0", "s1"}


@BOTH
def test_items_follow_from_the_seed(task):
    items, again, other = (task.items(Shown(), 56, seed) for seed in (0, 0, 1))
    assert (items.listed, items.windows.tolist()) == (again.listed, again.windows.tolist())
    assert items.listed != other.listed


def test_the_options_do_not_give_the_answer_away():
    """Whoever knows how often each scenario and state is true answers no better than by chance."""
    items = TAUGHT.items(Shown(), 4000, 0)
    half, state_of = 2000, {one.text: one.state for one in TAUGHT.scenarios}
    for key in (lambda text: text, lambda text: state_of[text]):
        true, seen = Counter(), Counter()
        offered = [unlettered(listed) for listed in items.listed]
        truths = [LETTERS.index(letter) for letter in items.table["label"]]
        for texts, truth in list(zip(offered, truths, strict=True))[:half]:
            seen.update(map(key, texts))
            true[key(texts[truth])] += 1
        guesses = [max(range(4), key=lambda place: true[key(texts[place])] / seen[key(texts[place])])
                   for texts in offered[half:]]  # fmt: skip
        assert np.mean(np.array(guesses) == truths[half:]) == pytest.approx(0.25, abs=0.03)


def test_without_the_eeg_the_question_says_so():
    asked, alone = (TAUGHT.question(LABELS, None, condition) for condition in ("eeg", TEXT_ALONE))
    assert asked.user.count("<eeg>") == asked.num_segments == 1
    assert (alone.num_segments, alone.user) == (0, asked.user.replace("<eeg>", "(not shown)"))


def test_in_words_the_thought_names_every_state_and_the_answer_is_the_segments():
    state_of = {one.text: one.state for one in taught()}
    form, thinking = CORPUS_FORMS[TAUGHT.name], 0
    for number in range(400):
        dialogue = form.in_words(("any", "labels"), np.random.default_rng(number))
        (state,) = re.findall(r"\[points to (\w+);", dialogue.user)
        states = [state_of[text] for text in unlettered(dialogue.user)]
        assert states[LETTERS.index(dialogue.answer)] == state
        if dialogue.thinking is not None:
            thinking += 1
            named = ", ".join(f"{text} is {letter}" for letter, text in zip("ABCD", states, strict=True))
            said = f"This points to {state}. {named}: {state} is {dialogue.answer}."
            assert dialogue.thinking == said
    assert 250 < thinking < 350


@BOTH
def test_probabilities_of_the_states_imply_those_of_the_scenarios(task):
    source, rng = Shown(), np.random.default_rng(0)
    items = task.items(source, 40, 0)
    rows = rng.dirichlet(np.ones(7), size=(40, 1))
    found = task.composed(rows, LABELS, items.listed)
    state_of = {one.text: one.state for one in task.scenarios}
    for row, listed, chances in zip(rows[:, 0], items.listed, found, strict=True):
        own = [row[LABELS.index(state_of[text])] for text in unlettered(listed)]
        assert chances == pytest.approx(np.array(own) / sum(own))
    assert task.composed(np.zeros((0, 1, 7)), LABELS, ()).shape == (0, 4)


@BOTH
def test_labels_of_too_few_known_states_are_refused(task):
    task.check_labels(SEED_IV.names, "tasks")
    with pytest.raises(InputError, match=rf"tasks: {task.name}: scenarios are known of 1 of the labels .* needs 4"):
        task.check_labels(SEED.names, "tasks")
    with pytest.raises(InputError, match=r"task: ESR.*scenarios are known of 3 of the labels"):
        task.items(Shown(("sad", "happy", "neutral")), 8, 0)


def test_scenarios_in_text_ask_for_a_state_of_all():
    for number in range(100):
        dialogue = CORPUS_FORMS["states"].in_words(("any",), np.random.default_rng(number))
        assert all(label in dialogue.user for label in LABELS)
        assert dialogue.answer in LABELS
    question = CORPUS_FORMS["states"].question(("calm", "tense"))
    assert question.num_segments == 0
    assert question.messages("is late")[0]["content"] == "A person is late. Which state fits best: calm, tense?"


@pytest.mark.parametrize(("labels", "number"), list(product([LABELS, SEED_IV.names], [8, 60])))
def test_some_of_the_states_are_enough(labels, number):
    items = TAUGHT.items(Shown(labels), number, 0)
    state_of = {one.text: one.state for one in TAUGHT.scenarios}
    assert {state_of[text] for listed in items.listed for text in unlettered(listed)} <= set(labels)
