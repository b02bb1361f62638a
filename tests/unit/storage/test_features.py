"""Features on disk: whole blocks or none, the marker last, random reads, and nothing of something else."""

import json

import numpy as np
import pytest

from storage.blocks import COMPLETE, MANIFEST
from storage.errors import InputError
from storage.features import MEASURES, VALUES, FeatureManifest, Features, FeatureSource
from storage.windows import WindowConfig

SOURCE = FeatureSource(
    store_digest="a" * 64, damage_digest=None, windows=WindowConfig(channels=("FP1", "FP2")), encoder_digest="b" * 64
)


def manifest(**fields) -> FeatureManifest:
    settings = {
        "source": SOURCE,
        "num_windows": 10,
        "num_tokens": 3,
        "dim": 4,
        "quantities": ("power alpha", "bursts beta"),
        "precision": "fp32",
        "block": 4,
        "versions": {"torch": "1"},
    }
    return FeatureManifest(**settings | fields)


def values(what: FeatureManifest) -> np.ndarray:
    return np.random.default_rng(0).normal(size=what.shape).astype(np.float32)


def measures(what: FeatureManifest) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(what.num_windows, len(what.quantities))).astype(np.float32)


def written(folder, what: FeatureManifest, blocks=None) -> Features:
    features = Features.create(folder, what)
    features.prepare()
    for block in features.missing() if blocks is None else blocks:
        features.write(block, values(what)[what.rows(block)], measures(what)[what.rows(block)])
    return features


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0), ("fp16", 2e-3), ("bf16", 2e-2)])
def test_what_is_written_is_read_in_any_order(tmp_path, precision, tolerance):
    what = manifest(precision=precision)
    written(tmp_path, what).complete()
    rows = np.array([9, 0, 4, 4, 3])
    found = Features.open(tmp_path).read(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values(what)[rows], atol=tolerance, rtol=tolerance)
    assert Features.open(tmp_path).read(np.array([], dtype=int)).shape == (0, 3, 4)
    again = Features.open(tmp_path).measures(rows)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, measures(what)[rows])
    assert Features.open(tmp_path).measures(np.array([], dtype=int)).shape == (0, 2)


def test_zarr_python_reads_them_too(tmp_path):
    import zarr

    what = manifest(precision="fp16")
    written(tmp_path, what)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / VALUES, mode="r")[:], values(what).astype(np.float16))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / MEASURES, mode="r")[:], measures(what))


@pytest.mark.parametrize("block", [1, 3, 4, 10, 64])
def test_every_window_is_in_one_block(block):
    what = manifest(block=block)
    rows = [what.rows(number) for number in range(what.num_blocks)]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(10))
    assert all(len(numbers) for numbers in rows)


def test_it_goes_on_where_it_was_killed(tmp_path):
    what = manifest()
    written(tmp_path, what, blocks=[0, 2])
    shard = tmp_path / VALUES / "c/0/0/0"
    before = shard.stat().st_mtime_ns
    (shard.parent / "0.__lock").write_bytes(b"half of a block")  # what TensorStore leaves behind when it is killed
    again = Features.create(tmp_path, manifest(versions={"torch": "2"}))
    assert again.missing() == [1]
    with pytest.raises(ValueError, match="blocks \\[1\\] are missing"):
        again.complete()
    again.prepare()
    again.write(1, values(what)[what.rows(1)], measures(what)[what.rows(1)])
    again.complete()
    assert shard.stat().st_mtime_ns == before
    np.testing.assert_array_equal(Features.open(tmp_path).read(np.arange(10)), values(what))


def test_a_block_without_its_measures_is_missing(tmp_path):
    features = written(tmp_path, manifest())
    (tmp_path / MEASURES / "c/2/0").unlink()
    assert features.missing() == [2]
    with pytest.raises(InputError, match="cannot be read"):
        Features(tmp_path, manifest()).measures(np.array([9]))


def test_measures_of_another_number_of_quantities_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"measures of shape \(4, 3\)"):
        written(tmp_path, manifest(), blocks=[]).write(0, values(manifest())[:4], np.zeros((4, 3)))


@pytest.mark.parametrize("format", [1, 2])
def test_earlier_formats_are_refused_by_name(tmp_path, format):
    written(tmp_path, manifest()).complete()
    old = json.loads((tmp_path / MANIFEST).read_text()) | {"format": format}
    del old["quantities"]
    (tmp_path / MANIFEST).write_text(json.dumps(old))
    for opened in (Features.open, lambda place: Features.create(place, manifest())):
        with pytest.raises(InputError, match=rf"is of format {format}, which another version wrote\. Remove the"):
            opened(tmp_path)


def test_other_features_are_begun_anew(tmp_path):
    written(tmp_path, manifest()).complete()
    assert Features.create(tmp_path, manifest(precision="fp16")).missing() == [0, 1, 2]
    assert not (tmp_path / COMPLETE).exists()


def test_incomplete_absent_and_changed_ones_are_refused(tmp_path):
    with pytest.raises(InputError, match="no features here"):
        Features.open(tmp_path / "nowhere")
    features = written(tmp_path, manifest())
    with pytest.raises(InputError, match="not complete"):
        Features.open(tmp_path)
    features.complete()
    (tmp_path / MANIFEST).write_text(manifest(precision="bf16").model_dump_json())
    with pytest.raises(InputError, match=r"manifest\.json: was changed after it was completed"):
        Features.open(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: is damaged"):
        Features.open(tmp_path)


def test_damage_is_refused_not_read(tmp_path):
    written(tmp_path, manifest()).complete()
    shard = tmp_path / VALUES / "c/1/0/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    features = Features.open(tmp_path)
    features.read(np.array([0, 9]))
    with pytest.raises(InputError, match="cannot be read") as refused:
        features.read(np.array([0, 4]))
    assert "\n" not in str(refused.value)
    shard.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        Features.open(tmp_path).read(np.array([5]))


def test_what_does_not_fit_the_precision_is_refused(tmp_path):
    what = manifest(precision="fp16")
    features = Features.create(tmp_path, what)
    features.prepare()
    with pytest.raises(InputError, match="not finite in fp16"):
        features.write(0, np.full((4, 3, 4), 1e6, dtype=np.float32), measures(what)[:4])
    with pytest.raises(InputError, match=r"signal measures of windows 0\.\.3 are not finite"):
        features.write(0, np.ones((4, 3, 4), dtype=np.float32), np.full_like(measures(what)[:4], np.nan))
    assert features.missing() == [0, 1, 2]


def test_a_full_or_forbidden_place_is_refused(tmp_path):
    features = Features.create(tmp_path, manifest())
    features.prepare()
    (tmp_path / VALUES / "c").write_text("a file in the way")
    with pytest.raises(InputError, match="block 0 of the features cannot be written"):
        features.write(0, np.zeros((4, 3, 4), dtype=np.float32), measures(manifest())[:4])
    assert features.missing() == [0, 1, 2]


def test_numbers_out_of_range_are_refused(tmp_path):
    written(tmp_path, manifest()).complete()
    features = Features.open(tmp_path)
    for rows in ([10], [-1]):
        with pytest.raises(IndexError, match="must lie in"):
            features.read(np.array(rows))
    with pytest.raises(IndexError, match="must lie in"):
        features.measures(np.array([10]))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"encoder_digest": "c" * 64}, "model"),
        ({"store_digest": "c" * 64}, "data.store"),
        ({"damage_digest": "c" * 64}, "data.windows.damaged"),
        ({"windows": WindowConfig(channels=("FP1", "FP2"), stride_seconds=2)}, "data.windows.stride_seconds"),
        ({"windows": WindowConfig(channels=("FP2", "FP1"))}, "data.windows.channels"),
        ({}, None),
    ],
)
def test_a_difference_is_named(change, field):
    difference = SOURCE.difference(SOURCE.model_copy(update=change))
    assert (difference and difference[0]) == field
