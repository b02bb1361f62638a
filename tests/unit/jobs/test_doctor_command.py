from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from jobs.doctor import doctor


@pytest.mark.parametrize(("address", "local"), [("", True), ("127.0.0.1:6379", False)])
def test_it_examines_the_cluster_of_the_shell_or_this_machine(
    address: str, local: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, object] = {}

    def session(root: Path, **settings: object) -> nullcontext[None]:
        asked.update(settings)
        return nullcontext()

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("cluster.session.ray_session", session)
    monkeypatch.setattr("cluster.doctor.examination.examine_cluster", lambda place: asked.update(place=place) or [])
    assert doctor(str(tmp_path), Console())
    assert asked == {"local": local, "place": str(tmp_path)}
