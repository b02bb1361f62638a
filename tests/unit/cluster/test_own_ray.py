import os
import shutil
from pathlib import Path

import pytest

from cluster.start import own_ray


def test_the_folder_goes_although_a_worker_still_writes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    remove, left = shutil.rmtree, [True, True]

    def busy(folder: Path, *, ignore_errors: bool) -> None:
        if left:
            left.pop()
        else:
            remove(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(own_ray.shutil, "rmtree", busy)
    monkeypatch.setattr(own_ray, "read_token_again", lambda: None)
    before = dict(os.environ)
    with own_ray.own_ray() as settings:
        folder = Path(settings["_temp_dir"]).parent
        assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert not folder.exists()
    assert dict(os.environ) == before
