"""Asks a larger language model for a rationale in other words, and keeps the original where a claim is lost."""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from e2llm_core.claims.claims import statements_in
from e2llm_core.rewriting.endpoint import Endpoint
from e2llm_core.rewriting.rationales import Rationale, read_rationales, read_rewritten
from e2llm_core.rewriting.survival import lost_in
from storage.errors import InputError

SYSTEM = (
    "You rewrite short rationales about EEG so that they read naturally. Keep every listed sentence word for word, in "
    "any order. You may join them with short phrases and reword the conclusion. Add no statement about the EEG, no "
    "number, no doubt and no other emotion. Answer with the text alone, without headings or markup."
)
_MOST_TOKENS = 2048
"""Of a reply, a chain of thought before it included."""


def question_about(one: Rationale) -> str:
    """What the model is asked."""
    kept = "\n".join(f"- {claim.sentence()}" for claim in statements_in(one.rationale).claims)
    return f"Keep these sentences:\n{kept}\nThe conclusion: {one.label}.\nThe rationale:\n{one.rationale}"


def rewritten(one: Rationale, endpoint: Endpoint) -> dict[str, Any]:
    """The line of one rationale; raises as `Endpoint.ask`."""
    reply = endpoint.ask(SYSTEM, question_about(one), _MOST_TOKENS)
    text = " ".join(reply.text.rpartition("</think>")[2].split())
    reason = "was cut off" if reply.cut else lost_in(text, one.rationale, one.labels)
    return one.model_dump(mode="json") | {
        "rationale": one.rationale if reason else text,
        "original": one.rationale,
        "rewritten": reason is None,
        "reason": reason,
        "rewriter": endpoint.model,
    }


def rewrite(
    source: Path, target: Path, endpoint: Endpoint, at_once: int, report: Callable[[int], None] = lambda done: None
) -> Counter[str]:
    """Rewrite a file of rationales; lines that `target` has are not asked again.

    Lines are written in the order of `source`, each on disk before the next.

    Parameters
    ----------
    source, target
        Files of JSON lines; see `e2llm_core.rewriting.rationales`.
    endpoint
        Whom to ask.
    at_once
        Requests at a time.
    report
        Told the number of lines in `target` after each.

    Returns
    -------
    Counter
        Of all lines of `target`: ``rewritten``, or why the original was kept.

    Raises
    ------
    InputError
        When a file is not as it must be, `target` was made from another text or by another model, or as `Endpoint.ask`.
        What was written stays.
    """
    if source.resolve() == target.resolve():
        raise InputError(str(target), "is the file that is read", "Name another file to write.")
    asked, done = list(read_rationales(source)), read_rewritten(target)
    if not asked:
        raise InputError(str(source), "holds no rationale", "Name a file with at least one line.")
    texts = {one.id: one.rationale for one in asked}
    for known in done.values():
        if texts.get(known.id) != known.original or known.rewriter != endpoint.model:
            problem = f"was made from another text of {known.id}, or by another model ({known.rewriter})"
            raise InputError(str(target), problem, "Remove it, or name another file to write.")
    counted = Counter("rewritten" if one.rewritten else str(one.reason) for one in done.values())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a", encoding="utf-8") as file:
            for line in _in_order([one for one in asked if one.id not in done], endpoint, at_once):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
                counted["rewritten" if line["rewritten"] else line["reason"]] += 1
                report(counted.total())
    except OSError as error:
        raise InputError(str(target), f"cannot be written: {error.strerror}", "Name another file to write.") from None
    return counted


def _in_order(asked: Sequence[Rationale], endpoint: Endpoint, at_once: int) -> Iterator[dict[str, Any]]:
    """Lines in the order of the rationales, a few of them in the making."""
    running: deque[Future[dict[str, Any]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for one in asked:
                running.append(pool.submit(rewritten, one, endpoint))
                if len(running) >= 2 * at_once:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
