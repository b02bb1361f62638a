"""The model behind Ray Serve: replicas that answer questions about EEG segments."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from cluster.progress import gather_responses
from cluster.ray_private import replicas_listen_on
from cluster.session import Resources
from e2llm_core.inference import Generated, Question

_ITEMS_PER_REQUEST = 50
_ATTEMPTS, _AGAIN_SECONDS = 3, 2.0


class Replica:
    """One copy of the model.

    Parameters
    ----------
    model : str
        Model directory, or its URL.
    """

    def __init__(self, model: str) -> None:
        listen_on_this_node()
        from e2llm_core.inference import Predictor

        self._predictor = Predictor(model)

    def likelihood(self, question: Question, segments: np.ndarray) -> np.ndarray:
        """Option probabilities (items, options) of segments (items, num_segments, n_chans, n_times)."""
        return self._predictor.likelihood(question, segments)

    def generate(self, question: Question, segments: np.ndarray) -> list[Generated]:
        """Generated answers, one per item."""
        return self._predictor.generate(question, segments)


class Client:
    """Asks the deployment, a few items per request, spread over its replicas.

    Parameters
    ----------
    handle : DeploymentHandle
        Of :class:`Replica`.
    replicas : int
        Each has a request in work and one that waits.
    """

    def __init__(self, handle: Any, replicas: int) -> None:
        self._handle, self._in_flight = handle, 2 * replicas

    def likelihood(self, name: str, question: Question, batches: list[np.ndarray]) -> np.ndarray:
        """Probabilities of all items of `batches`, each (items, num_segments, n_chans, n_times)."""
        return np.concatenate(gather_responses(name, self._handle.likelihood, question, batches, self._in_flight))

    def generate(self, name: str, question: Question, batches: list[np.ndarray]) -> list[Generated]:
        """Generated answers of all items."""
        parts = gather_responses(name, self._handle.generate, question, batches, self._in_flight)
        return [answer for part in parts for answer in part]


@contextmanager
def deployed(model: str, run: str | Path, resources: Resources) -> Iterator[Client]:
    """Host a model on the connected cluster while the block runs; handles only, no port is opened.

    Whatever else Ray Serve hosts there stays as it is: another run's evaluation, a service of
    :mod:`cluster.serve_http`.

    Parameters
    ----------
    model : str
        Model directory, or its URL.
    run : str or Path
        Who asks. A job that goes on after ``kill -9`` replaces the replicas which that has left.
    resources : Resources
        Replicas, and what each reserves.
    """
    from ray import serve
    from ray.serve.exceptions import RayServeException

    name = f"e2llm-{sha256(str(run).encode()).hexdigest()[:12]}"
    options = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
    deployment: Any = serve.deployment(Replica)
    copies = deployment.options(num_replicas=resources.workers, ray_actor_options=options, max_ongoing_requests=1)
    try:
        yield Client(_hosted(copies.bind(model), name), resources.workers)
    finally:
        with suppress(RayServeException):  # somebody has ended Ray Serve
            serve.delete(name)
            if not serve.status().applications:
                serve.shutdown()


def _hosted(application: Any, name: str) -> Any:
    """Host an application; another job that ends may take Ray Serve down at the same time."""
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.config import ProxyLocation
    from ray.serve.exceptions import RayServeException

    for more in reversed(range(_ATTEMPTS)):
        try:
            serve.start(proxy_location=ProxyLocation.Disabled)
            return serve.run(application, name=name, route_prefix=None)
        except (RayActorError, RayServeException):
            if not more:
                raise
            time.sleep(_AGAIN_SECONDS)


def listen_on_this_node() -> None:
    """In a replica, before it serves: bind its own server to the node's address. Ray Serve binds it to all of them."""
    import ray

    replicas_listen_on(ray.util.get_node_ip_address())


def batches_of(segments: np.ndarray) -> list[np.ndarray]:
    """Split items into requests."""
    return [segments[start : start + _ITEMS_PER_REQUEST] for start in range(0, len(segments), _ITEMS_PER_REQUEST)]
