"""``e2llm verify``: statuses, one line for each damage, damage.json."""

import json

from typer.testing import CliRunner

from jobs.cli import app


def test_a_whole_and_a_damaged_store(tmp_path, make_store):
    store = make_store(tmp_path / "store")
    names = list(store.recordings)
    whole = CliRunner().invoke(app, ["verify", str(tmp_path / "store")])
    assert whole.exit_code == 0
    assert whole.output.splitlines()[-1].endswith(f"store: {len(names)} recordings, all whole")
    assert json.loads((tmp_path / "store/damage.json").read_text())["ranges"] == {}

    info = store.recordings[names[0]]
    shard = tmp_path / "store" / store.signal_key(info) / "c/0/0"
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    damaged = CliRunner().invoke(app, ["verify", str(tmp_path / "store")])
    assert damaged.exit_code == 1
    (line,) = [line for line in damaged.output.splitlines() if line.startswith("damaged: ")]
    assert line.startswith(f"damaged: {names[0]}: {store.signal_key(info)}/c/0/0, bytes 0..")
    assert ", samples 0.." in line
    assert line.endswith(" s)")
    assert list(json.loads((tmp_path / "store/damage.json").read_text())["ranges"]) == [names[0]]


def test_no_store_is_a_refusal(tmp_path):
    missing = CliRunner().invoke(app, ["verify", str(tmp_path / "nothing")])
    assert missing.exit_code == 2
    assert "no EEG store here" in missing.output
