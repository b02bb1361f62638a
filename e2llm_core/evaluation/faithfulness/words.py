"""What a rationale says before its conclusion."""

import re

from e2llm_core.claims.claims import said_in

_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")


def reasons_in(rationale: str) -> str:
    """The rationale up to the end of its last claim's sentence, without the conclusion; empty without claims."""
    said = said_in(rationale)
    if not said:
        return ""
    end = _SENTENCE_END.search(rationale, said[-1].span[1])
    return rationale if end is None else rationale[: end.end()].rstrip()
