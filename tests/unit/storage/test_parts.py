"""Parts of a result: those that are there are kept, unless they were made from something else."""

import json

import pytest

from storage.places.location import locate
from storage.places.parts import Parts, discard_parts

FROM = {"model": "a", "store": "b"}


@pytest.fixture
def run(tmp_path):
    parts = Parts(tmp_path, "scores", FROM)
    for name in ("0.parquet", "deep/1.parquet"):
        parts.write(name, name.encode())
    return tmp_path


def test_what_is_there_is_kept(run):
    again = Parts(run, "scores", FROM)
    assert again.differs == ()
    assert "0.parquet" in again
    assert "2.parquet" not in again
    assert again.read("deep/1.parquet") == b"deep/1.parquet"
    assert len(again) == 2


@pytest.mark.parametrize(
    ("made_from", "names"),
    [(FROM | {"model": "c"}, ("model",)), (FROM | {"plan": "d"}, ("plan",)), ({"store": "x"}, ("model", "store"))],
)
def test_what_was_made_from_something_else_is_removed_by_name(run, made_from, names):
    again = Parts(run, "scores", made_from)
    assert again.differs == names
    assert not again
    assert not locate(run).files("scores")
    assert json.loads((run / "scores.json").read_bytes()) == made_from


def test_files_without_a_note_are_of_unknown_origin(run):
    (run / "scores.json").unlink()
    again = Parts(run, "scores", FROM)
    assert again.differs == ("model", "store")
    assert not again


def test_what_is_no_part_goes(run):
    (run / "scores/0.parquet.1a2b.partial").write_bytes(b"torn")
    again = Parts(run, "scores", FROM)
    again.keep_only({"0.parquet", "5.parquet"})
    assert list(locate(run).files("scores")) == ["scores/0.parquet"]
    assert len(again) == 1
    discard_parts(run, "scores")
    assert not locate(run).files()
