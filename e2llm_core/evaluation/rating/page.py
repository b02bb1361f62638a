"""The raters' page: one HTML file that makes no network requests and saves the answers as a file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from e2llm_core.evaluation.rating.study import SCALES, BlindedExample, StudyKey
from storage.pages import templates

_FOLDER = Path(__file__).parent
_SCRIPT = "rating.js"


def rating_page(examples: Sequence[BlindedExample], key: StudyKey) -> str:
    """Build the page, which contains the study's name and nothing else of the key.

    Its content security policy allows the page's own script, by its hash, and nothing from elsewhere.
    """
    script = (_FOLDER / _SCRIPT).read_text(encoding="utf-8")
    return (
        templates(_FOLDER)
        .get_template("page.html.jinja")
        .render(
            study=key.study,
            examples=examples,
            scales=SCALES,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )
