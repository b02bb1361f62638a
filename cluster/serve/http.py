"""A trained model behind HTTP: windows of EEG in, emotions out, for clients that hold the token.

``serve run cluster.serve.http:build model=runs/seed-vii/stage3/model`` hosts it on the loopback address; the RayService
of `cluster/kubernetes` names the same builder. Ray Serve's own proxies listen, this module answers.

=======  ==============  ===============================================================================================
GET      ``/v1/model``   what the model takes and names: channels, sampling rate, window, normalisation, labels
POST     ``/v1/emotion`` windows (items, n_chans, n_times) as JSON ``{"windows": [...]}`` or as ``.npy`` bytes
                         (``Content-Type: application/x-npy``); one answer for each
=======  ==============  ===============================================================================================

Both need ``Authorization: Bearer TOKEN``; without it the answer is 401, whatever was asked.
"""

import asyncio
import io
import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import InputError
from storage.places.base import Place, is_url
from storage.places.location import locate

TOKEN_VARIABLE = "E2LLM_SERVE_TOKEN"
MAX_BYTES = 64 * 2**20
MAX_WINDOWS = 256


class ServeArguments(BaseModel):
    """Arguments of the application.

    Attributes
    ----------
    model : str
        Model folder of stage 2 or 3, on storage that all nodes see, or its URL.
    replicas : int
        Copies of the model.
    cpus_per_replica, gpus_per_replica : float
        Resources that each replica reserves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Place
    replicas: int = Field(1, ge=1)
    cpus_per_replica: float = Field(1, gt=0)
    gpus_per_replica: float = Field(0, ge=0)


class Refused(Exception):
    """A request that gets an error status.

    Parameters
    ----------
    status : int
        HTTP status.
    problem : str
        The problem, as told to the client.
    """

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status, self.problem = status, problem


class EmotionEndpoint:
    """One copy of the model that answers HTTP requests.

    Parameters
    ----------
    model : str
        Model folder, or its URL.
    token : str, optional
        What clients must send; default: the environment's ``E2LLM_SERVE_TOKEN``, which each node has from a Secret.

    Raises
    ------
    InputError
        Without a token.
    """

    def __init__(self, model: str, token: str | None = None) -> None:
        self._token = (token if token is not None else os.environ.get(TOKEN_VARIABLE, "")).strip()
        if not self._token:
            raise InputError(TOKEN_VARIABLE, "is not set on this node", "Set it to a secret of your choice.")
        from cluster.serve.deployment import listen_on_this_node
        from e2llm_core.inference.predictor import Predictor
        from e2llm_core.tasks.registry import LABELLING

        listen_on_this_node()
        self._predictor = Predictor(model)
        self._turn = asyncio.Lock()
        self._question = LABELLING.question(self._predictor.labels)

    async def __call__(self, request: Any) -> Any:
        """Answer one request."""
        from starlette.responses import JSONResponse

        try:
            self.authorise(request.headers.get("authorization", ""))
            match (request.method, request.url.path):
                case ("GET", "/v1/model"):
                    return JSONResponse(self.describe())
                case ("POST", "/v1/emotion"):
                    windows = self.read(await _body(request), request.headers.get("content-type", ""))
                    async with self._turn:
                        return JSONResponse(await asyncio.to_thread(self.answer, windows))
                case _:
                    raise Refused(404, "there are GET /v1/model and POST /v1/emotion")
        except Refused as refused:
            headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
            return JSONResponse({"error": refused.problem}, status_code=refused.status, headers=headers)

    def authorise(self, header: str) -> None:
        """Refuse a request whose ``Authorization`` header is not ``Bearer`` and the token."""
        scheme, _, given = header.partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), self._token.encode()):
            raise Refused(401, "send the header Authorization: Bearer TOKEN")

    def describe(self) -> dict[str, Any]:
        """Input and labels of the model, JSON-ready."""
        eeg = self._predictor.model.tower.eeg
        return {**eeg.to_dict(), "n_times": eeg.n_times, "labels": list(self._predictor.labels)}

    def read(self, body: bytes, content_type: str) -> np.ndarray:
        """Windows of a request's body: float32 (items, n_chans, n_times)."""
        try:
            if content_type.partition(";")[0].strip() == "application/x-npy":
                given = np.load(io.BytesIO(body), allow_pickle=False)
            else:
                given = np.asarray(json.loads(body)["windows"])
            windows = np.asarray(given, dtype=np.float32)
        except (ValueError, KeyError, TypeError, EOFError, OverflowError):
            raise Refused(400, 'send JSON {"windows": [...]}, or .npy bytes as application/x-npy') from None
        eeg = self._predictor.model.tower.eeg
        expected = (len(eeg.channels), eeg.n_times)
        if windows.ndim != 3 or windows.shape[1:] != expected or not 1 <= len(windows) <= MAX_WINDOWS:
            raise Refused(422, f"windows are (1 to {MAX_WINDOWS}, {expected[0]}, {expected[1]}), not {windows.shape}")
        if not np.isfinite(windows).all():
            raise Refused(422, "windows hold values that are not finite")
        return windows

    def answer(self, windows: np.ndarray) -> dict[str, Any]:
        """Emotion, probabilities and text of each window, JSON-ready."""
        segments = windows[:, None]
        probabilities = self._predictor.likelihood(self._question, segments)
        generated = self._predictor.generate(self._question, segments)
        labels = self._question.options
        return {
            "answers": [
                {"emotion": one.answer, "text": one.text, "probabilities": dict(zip(labels, row.tolist(), strict=True))}
                for one, row in zip(generated, probabilities, strict=True)
            ]
        }


async def _body(request: Any) -> bytes:
    """Read a request's body, no more of it than is allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Refused(413, f"a request holds at most {MAX_BYTES // 2**20} MiB")
    return bytes(body)


def build(arguments: ServeArguments) -> Any:
    """Return the Serve application of a model.

    Raises
    ------
    InputError
        When there is no model folder here.
    """
    from ray import serve

    model = arguments.model if is_url(arguments.model) else str(Path(arguments.model).resolve())
    if not locate(model).exists("config.json"):
        raise InputError(f"model: {arguments.model}", "is not a model directory", "Give a run's `model` folder.")
    deployment: Any = serve.deployment(EmotionEndpoint)
    return deployment.options(
        num_replicas=arguments.replicas,
        ray_actor_options={"num_cpus": arguments.cpus_per_replica, "num_gpus": arguments.gpus_per_replica},
        max_ongoing_requests=16,
    ).bind(model)
