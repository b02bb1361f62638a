"""What every test may use: the shared recordings, and quiet property tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=40, derandomize="CI" in os.environ)
settings.load_profile("default")


def shared_data() -> Path:
    """Return the folder of real recordings: E2LLM_SHARED_DATA, or ``../shared/data`` beside the repository.

    Without it a test is skipped; where continuous integration runs (CI is set) it fails.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("E2LLM_SHARED_DATA", beside))
    if not folder.is_dir():
        reason = f"no folder of real recordings at {folder}; name it in E2LLM_SHARED_DATA"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", name="shared_data")
def shared_data_folder() -> Path:
    """Provide the folder of real recordings."""
    return shared_data()


@pytest.fixture
def held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the task IED a wording that nothing is trained on."""
    from e2llm_core.tasks.registry import LABELLING

    wording = "The states are {options}.\nTell which of them was felt during {0}."
    monkeypatch.setattr(type(LABELLING), "primary_wording", wording)


@pytest.fixture
def none_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be asked in a wording that nothing is trained on."""
    from e2llm_core.tasks.registry import TASKS

    for task in TASKS.values():
        monkeypatch.setattr(type(task), "primary_wording", None)
