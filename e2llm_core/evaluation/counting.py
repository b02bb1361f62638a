"""Which answers count where a question was asked in several wordings."""

import pandas as pd

from e2llm_core.tasks.registry import TASKS


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of language models whose answers count: those to the first prompt of their task."""
    return table[table["prompt"] == table["task"].map(lambda name: TASKS[name].prompt)]
