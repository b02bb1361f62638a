"""Answers in letters, read strictly."""

import pytest

from e2llm_core.tasks.ess import ORDERS
from e2llm_core.tasks.letters import LETTERS, letter_of, order_of


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" B\n", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B) the second", "B"),
        ("B: the second", "B"),
        ("A. The EEG shows less alpha than in B.", "A"),
        ("A person who is sad", None),
        ("AB", None),
        ("A, B and C all do", None),
        ("B\nbecause", "B"),
        ("b", None),
        ("K", None),
        ("The answer is B.", None),
        ("", None),
    ],
)
def test_a_letter_counts_where_the_answer_begins_with_it(answer, letter):
    assert letter_of(answer, LETTERS) == letter


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("B, A, C", "B, A, C"),
        ("B A C", "B, A, C"),
        ("B < A < C.", "B, A, C"),
        ("B, then A, then C", "B, A, C"),
        ("B,A,C", "B, A, C"),
        ("B, A", None),
        ("B, A, A", None),
        ("B, A, C, because", None),
        ("The order is B, A, C", None),
        ("", None),
    ],
)
def test_an_order_is_letters_and_nothing_else(answer, order):
    assert order_of(answer, ORDERS) == order


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_reads_as_itself(order):
    assert order_of(order, ORDERS) == order
