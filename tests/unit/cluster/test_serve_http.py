"""The HTTP endpoint: no token, no answer; windows in, emotions out; bad requests get a reason."""

import asyncio
import io
from types import SimpleNamespace

import numpy as np
import pytest

from cluster.serve import http as serve_http
from cluster.serve.http import EmotionEndpoint, ServeArguments
from e2llm_core.inference.predictor import Generated
from e2llm_core.tower.tower import EEGSettings
from storage.errors import InputError

TOKEN = "a token of the test"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class StandIn:
    """A predictor that names the class of the largest mean."""

    labels = ("happy", "sad")

    def __init__(self, folder):
        self.model = SimpleNamespace(tower=SimpleNamespace(eeg=EEGSettings(channels=("C3", "C4", "CZ"), sfreq_hz=8.0)))

    def likelihood(self, question, segments):
        return np.tile([0.25, 0.75], (len(segments), 1))

    def generate(self, question, segments):
        assert segments.shape[1:] == (1, 3, 32)
        assert segments.dtype == np.float32
        return [Generated("sad", "sad")] * len(segments)


@pytest.fixture
def client(monkeypatch):
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    monkeypatch.setattr("e2llm_core.inference.predictor.Predictor", StandIn)
    endpoint = EmotionEndpoint("unused", TOKEN)
    everything = Route("/{path:path}", endpoint.__call__, methods=["GET", "POST", "DELETE"])
    return TestClient(Starlette(routes=[everything]))


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/model"), ("POST", "/v1/emotion"), ("GET", "/nothing")])
def test_without_the_token_there_is_no_answer(client, header, method, path):
    response = client.request(method, path, headers={} if header is None else {"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "labels" not in response.text


def test_without_the_token_the_body_is_not_read():
    class Request:
        headers, method, url = {}, "POST", SimpleNamespace(path="/v1/emotion")

        def stream(self):
            raise AssertionError("read")

    endpoint = EmotionEndpoint.__new__(EmotionEndpoint)
    endpoint._token = TOKEN
    assert asyncio.run(endpoint(Request())).status_code == 401


@pytest.mark.parametrize("token", ["", "  \n"])
def test_a_node_without_a_token_serves_nothing(monkeypatch, token):
    monkeypatch.setenv(serve_http.TOKEN_VARIABLE, token)
    with pytest.raises(InputError, match="E2LLM_SERVE_TOKEN"):
        EmotionEndpoint("unused")


def test_it_says_what_it_takes(client):
    said = client.get("/v1/model", headers=HEADERS).json()
    assert said["channels"] == ["C3", "C4", "CZ"]
    assert (said["n_times"], said["sfreq_hz"], said["unit"], said["labels"]) == (32, 8.0, "uV", ["happy", "sad"])


def test_json_and_npy_get_the_same_answers(client):
    windows = np.random.default_rng(0).normal(size=(2, 3, 32)).astype(np.float32)
    file = io.BytesIO()
    np.save(file, windows)
    as_json = client.post("/v1/emotion", headers=HEADERS, json={"windows": windows.tolist()})
    npy = {**HEADERS, "Content-Type": "application/x-npy"}
    as_npy = client.post("/v1/emotion", headers=npy, content=file.getvalue())
    one = {"emotion": "sad", "text": "sad", "probabilities": {"happy": 0.25, "sad": 0.75}}
    assert as_json.json() == as_npy.json() == {"answers": [one, one]}


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b"[1]", 400),
        ("application/json", b'{"windows": "x"}', 400),
        ("application/json", b'{"windows": [[[1], [2, 3]]]}', 400),
        ("application/x-npy", b"no file", 400),
        ("application/x-npy", pickled(), 400),
        ("application/json", b'{"windows": []}', 422),
        ("application/json", b'{"windows": [[1, 2]]}', 422),
    ],
)
def test_a_bad_request_gets_a_reason(client, kind, body, status):
    response = client.post("/v1/emotion", headers={**HEADERS, "Content-Type": kind}, content=body)
    assert response.status_code == status
    assert response.json()["error"]


def test_values_that_are_not_finite_are_refused(client):
    file = io.BytesIO()
    np.save(file, np.full((1, 3, 32), np.nan))
    npy = {**HEADERS, "Content-Type": "application/x-npy"}
    response = client.post("/v1/emotion", headers=npy, content=file.getvalue())
    assert (response.status_code, response.json()["error"]) == (422, "windows hold values that are not finite")


def test_a_body_that_is_too_large_is_refused(client, monkeypatch):
    monkeypatch.setattr(serve_http, "MAX_BYTES", 1000)
    assert client.post("/v1/emotion", headers=HEADERS, content=b"x" * 2000).status_code == 413


def test_there_is_nothing_else(client):
    assert client.delete("/v1/model", headers=HEADERS).status_code == 404


def test_no_model_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(InputError, match="is not a model directory"):
        serve_http.build(ServeArguments(model=tmp_path))
