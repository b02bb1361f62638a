"""Answers by looking up: the product of a model's labels of a segment and of the options in plain text."""

from contextlib import nullcontext

import numpy as np
import pytest

from e2llm_core.evaluation.answers import KeptAnswers
from e2llm_core.evaluation.lookup import looked_up
from e2llm_core.evaluation.predictions import check_predictions
from e2llm_core.tasks.esr import OPTIONS, ScenarioReasoning
from e2llm_core.tasks.letters import unlettered
from storage.labels import SEED_VII
from tests.unit.language.test_sets import Shown

LABELS = SEED_VII.names
TASK = ScenarioReasoning()
STATE_OF = {one.text: one.state for one in TASK.scenarios}


class Client:
    """Gives each window and each text label probabilities of its own, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.of_window: dict[int, np.ndarray] = {}
        self.of_text: dict[str, np.ndarray] = {}

    def likelihood(self, name, question, requests):
        for request in requests:
            self.asked += 1
            assert question.options == LABELS
            if question.num_segments == 0:
                assert request.windows.shape == (len(request.items), 0)
                rows = [self._one(self.of_text, text, i) for i, text in enumerate(request.listed)]
            else:
                assert request.listed == ()
                rows = [self._one(self.of_window, window, window) for window in request.windows[:, 0].tolist()]
            yield np.array(rows)

    def _one(self, kept, key, number):
        assert key not in kept, "nothing is asked twice"
        kept[key] = np.random.default_rng([number, self.asked]).dirichlet(np.ones(7))
        return kept[key]


@pytest.fixture
def items():
    return TASK.items(Shown(), 60, 0)


def test_an_option_is_as_likely_as_its_labels_are_the_segments(items, tmp_path):
    client, kept = Client(), KeptAnswers(tmp_path, {"model": "1"}, "e2llm")
    rows = looked_up(TASK, items, LABELS, kept, lambda: nullcontext(client), 7)
    check_predictions(rows)
    assert set(client.of_text) == {text for listed in items.listed for text in unlettered(listed)}
    for row, window, listed in zip(rows.itertuples(), items.windows[:, 0].tolist(), items.listed, strict=True):
        joint = np.array([client.of_window[window] @ client.of_text[text] for text in unlettered(listed)])
        assert row.probabilities == pytest.approx(joint / joint.sum())
        assert row.answer == OPTIONS[joint.argmax()]
    assert rows["truth"].tolist() == items.table["label"].tolist()


def test_what_was_answered_is_not_asked_again(items, tmp_path):
    client = Client()
    first = looked_up(TASK, items, LABELS, KeptAnswers(tmp_path, {"model": "1"}), lambda: nullcontext(client), 7)
    asked = client.asked
    again = looked_up(TASK, items, LABELS, KeptAnswers(tmp_path, {"model": "1"}), lambda: nullcontext(client), 7)
    assert client.asked == asked
    assert again["probabilities"].tolist() == first["probabilities"].tolist()


def test_a_model_that_knows_states_and_scenarios_is_always_right(items, tmp_path):
    source = Shown()

    class Knows(Client):
        def _one(self, kept, key, number):
            label = STATE_OF[key] if kept is self.of_text else source.label(key)
            kept[key] = np.eye(7)[LABELS.index(label)]
            return kept[key]

    rows = looked_up(TASK, items, LABELS, KeptAnswers(tmp_path, {"model": "1"}), lambda: nullcontext(Knows()), 50)
    assert rows["answer"].tolist() == rows["truth"].tolist()
