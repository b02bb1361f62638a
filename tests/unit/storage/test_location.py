"""Folders and URLs as places of a store."""

import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from storage.errors import InputError
from storage.places.base import Place, split_url
from storage.places.folder import Folder
from storage.places.location import locate
from storage.places.s3.bucket import Bucket

SECRET = "hunter2-secret"
NAMES = st.text("abc019-_.", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))


class Spec(BaseModel):
    store: Place


@given(st.text("abc019-", min_size=3, max_size=20).filter(lambda name: name.strip("-") == name), st.lists(NAMES))
def test_a_url_is_its_bucket_and_prefix(bucket: str, parts: list[str]) -> None:
    url = "/".join(["s3:/", bucket, *parts])
    assert split_url(url) == split_url(f"{url}/") == (bucket, "/".join(parts))
    place = locate(f"{url}/")
    assert isinstance(place, Bucket)
    assert str(place) == url
    assert Spec(store=url).store == url


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"s3://{SECRET}@bucket/x",
        f"s3://bucket/x?secret={SECRET}",
        f"S3://key:{SECRET}@bucket/x",
        f"https://key:{SECRET}@host/bucket",
        "s3://bucket:9000/x",
        "s3://",
        "s3:///x",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "gs://bucket/x",
    ],
)
def test_other_urls_are_refused_in_one_line_without_their_secrets(url: str) -> None:
    with pytest.raises(InputError) as met:
        locate(url)
    assert "\n" not in str(met.value)
    assert SECRET not in str(met.value)
    with pytest.raises(ValidationError):
        Spec(store=url)


@pytest.mark.parametrize("text", ["", "  "])
def test_no_place_at_all_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Spec(store=text)


@pytest.mark.parametrize("given", ["a/b", "a//b/", "./a/b", Path("a/b")])
def test_a_folder_has_one_spelling(given: str | Path) -> None:
    """Else one and the same spec would have several identities."""
    store = Spec(store=given).store
    assert (store, type(store)) == ("a/b", Place)
    assert Spec(store="s3://bucket/a/").store == "s3://bucket/a"
    assert type(Spec(store=given).model_dump(mode="json")["store"]) is str


def test_a_folder_speaks_the_verbs(tmp_path: Path) -> None:
    place = locate(tmp_path / "store")
    assert isinstance(place, Folder)
    assert not place.exists("a/b")
    for ask in (place.read, lambda key: place.read_range(key, 0, 1), lambda key: place.read_end(key, 1)):
        with pytest.raises(FileNotFoundError):
            ask("a/b")
    place.write("a/b", b"12345")
    place.write("a/c/d", b"67")
    assert place.exists("a/b")
    assert not place.exists("a/c")
    assert (place.read("a/b"), place.read_range("a/b", 1, 3), place.read_range("a/b", 4, 9)) == (b"12345", b"23", b"5")
    assert (place.read_end("a/b", 2), place.read_end("a/b", 9)) == (b"45", b"12345")
    assert (place.folders(""), place.folders("a"), place.folders("none")) == (["a"], ["c"], [])
    assert (place.names(), place.names("a"), place.names("none")) == (["a"], ["b", "c"], [])
    assert (place.num_bytes(), place.num_bytes("a/c")) == (7, 2)
    assert [(key, stored.size) for key, stored in place.files().items()] == [("a/b", 5), ("a/c/d", 2)]
    assert (list(place.files("a/c")), place.files("none")) == (["a/c/d"], {})
    place.append("a/e", b"8")
    place.append("a/e", b"9")
    assert place.read("a/e") == b"89"
    place.remove("a/e")
    place.settle("a/c")
    place.write("a/b", b"new")
    assert place.read("a/b") == b"new"
    for key in ("a/b", "a/c", "a/c", "none"):
        place.remove(key)
    assert place.num_bytes() == 0


def test_a_failed_write_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = locate(tmp_path / "file" / "store")
    with (
        pytest.raises(InputError, match=r"the index cannot be written \(Not a directory\)"),
        place.writing("the index"),
    ):
        place.write("a", b"")


def test_a_folder_is_listed_while_others_are_renamed_and_removed_in_it(tmp_path: Path) -> None:
    """As checkpoints are, while somebody looks."""
    place, ended = Folder(tmp_path), threading.Event()
    place.write("kept/file", b"12345")

    def change() -> None:
        while not ended.is_set():
            (tmp_path / "new/below").mkdir(parents=True)
            (tmp_path / "new/below/file").touch()
            (tmp_path / "new").rename(tmp_path / "old")
            shutil.rmtree(tmp_path / "old")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert all(place.files()["kept/file"].size == 5 for _ in range(500))
        assert all(place.num_bytes() == 5 for _ in range(500))
    finally:
        ended.set()
        thread.join()
