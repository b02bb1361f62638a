"""Who was recorded, and when, is in no file of the store, no log, no output and no error."""

import logging
import re
from pathlib import Path

import edfio
import mne
import numpy as np
import pybv
import pytest

from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.readers import FilesSource
from storage.signal import SignalConfig
from storage.store import create_store

LABELS = LabelSet(name="two", names=("a", "b"))
SECRETS = ("Zyxwald", "Quibberly", "HOSP-99871", "1951", "02-MAY", "Dr_Umbrage", "2003", "ward_17B", "1052")
"""Names, hospital id, birth date, physician, and the date of recording (2003, seconds 1052... since 1970)."""
SIGNAL = np.random.default_rng(0).normal(0, 20, (2, 600))


def edf(folder: Path) -> Path:
    signals = [
        edfio.EdfSignal(row, 100.0, label=name, physical_dimension="uV")
        for row, name in zip(SIGNAL, ["Cz", "Oz"], strict=True)
    ]
    edfio.Edf(signals).write(folder / "s1.edf")
    content = bytearray((folder / "s1.edf").read_bytes())
    content[8:88] = b"HOSP-99871 F 02-MAY-1951 Zyxwald_Quibberly".ljust(80)
    content[88:168] = b"Startdate 07-MAY-2003 ward_17B Dr_Umbrage Dev1".ljust(80)
    content[168:184] = b"07.05.0312.00.00"
    (folder / "s1.edf").write_bytes(content)
    return folder / "s1.edf"


def fif(folder: Path) -> Path:
    raw = mne.io.RawArray(SIGNAL * 1e-6, mne.create_info(["Cz", "Oz"], 100.0, "eeg"), verbose="error")
    raw.set_meas_date(1_052_308_800)
    raw.info["subject_info"] = {"last_name": "Zyxwald", "first_name": "Quibberly", "his_id": "HOSP-99871"}
    raw.info["experimenter"] = "Dr_Umbrage"
    raw.info["description"] = "ward_17B"
    raw.save(folder / "s1.fif", verbose="error", overwrite=True, fmt="double")
    return folder / "s1.fif"


def brainvision(folder: Path) -> Path:
    events = [
        {
            "type": "Comment",
            "description": "Zyxwald Quibberly HOSP-99871",
            "onset": 10,
            "duration": 1,
            "channels": "all",
        }
    ]
    pybv.write_brainvision(
        data=SIGNAL * 1e-6, sfreq=100, ch_names=["Cz", "Oz"], fname_base="s1", folder_out=str(folder), events=events
    )
    markers = folder / "s1.vmrk"
    markers.write_text(markers.read_text() + "Mk9=New Segment,,1,1,0,20030507120000000000\n")
    header = folder / "s1.vhdr"
    text = header.read_text()
    mark = "" if "[Comment]" in text else "\n[Comment]"
    header.write_text(f"{text}{mark}\nPatient Zyxwald Quibberly, born 02-MAY-1951, Dr_Umbrage\n")
    return header


def ingest(path: Path, folder: Path) -> None:
    source = FilesSource(root=path.parent, pattern=rf"(?P<subject>s1)\{path.suffix}", labels=LABELS)
    store = create_store(folder, dataset="d", label_set=LABELS)
    for ref in source.list_recordings():
        ingest_recording(store, source, ref, SignalConfig(sfreq_hz=100))


def found_in(text: str | bytes) -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    return [secret for secret in SECRETS if secret.encode() in content]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("mne").propagate = True

    def collect() -> str:
        output = capfd.readouterr()
        return output.out + output.err + caplog.text

    yield collect
    logging.getLogger("mne").propagate = False


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("make", [edf, fif, brainvision])
def test_nothing_of_a_person_is_kept_or_said(make, said, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = make(tmp_path / "raw")
    assert found_in(b"".join(file.read_bytes() for file in (tmp_path / "raw").iterdir()))
    ingest(path, tmp_path / "store")
    written = [file for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert len(written) > 3
    kept = {"1951", "2003", "1052"}  # four digits may well come about in compressed samples
    for file in written:
        hits = found_in(
            re.sub(rb"[0-9a-f]{64}|\"crc32c\": \d+", b"", file.read_bytes())
        )  # digits of a digest may be a year
        assert not (set(hits) if file.suffix == ".json" else set(hits) - kept), file
    assert not found_in(said())


HARMLESS = ("date",)
"""MNE goes on without it, and nothing is taken from it."""
HEADER_FIELDS = {"records": 236, "duration": 244, "signals": 252, "date": 168, "bytes": 184}


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("field", [*HEADER_FIELDS, "shifted", "limits"])
def test_an_error_does_not_quote_a_header(field: str, said, tmp_path: Path) -> None:
    path = edf(tmp_path)
    content = bytearray(path.read_bytes())
    if field == "shifted":
        content[0:8] = b"0   "
    elif field == "limits":
        start = content.index(b"-", 300)
        content[start : start + 8] = b"Zyxwald "
    else:
        content[HEADER_FIELDS[field] : HEADER_FIELDS[field] + 4] = b"Zyxw"
    path.write_bytes(content)
    refusal = None
    try:
        ingest(path, tmp_path / "store")
    except InputError as error:
        refusal = error
    assert (refusal is not None) == (field not in HARMLESS)
    assert refusal is None or refusal.__cause__ is None
    assert "Zyxw" not in f"{refusal}{said()}"
    assert not found_in(str(refusal))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("make", [edf, fif, brainvision])
def test_a_failed_read_does_not_quote_either(make, share: float, said, tmp_path: Path) -> None:
    path = make(tmp_path)
    samples = path.with_suffix(".eeg") if make is brainvision else path
    samples.write_bytes(samples.read_bytes()[: int(share * samples.stat().st_size) + 1])
    with pytest.raises(InputError) as caught:
        ingest(path, tmp_path / "store")
    assert not found_in(str(caught.value) + said())
